//! The operations that run until a power cut, and the checks after it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use annals::{
    CleanupPolicy, Delivery, Durability, Error, Log, LogConfig, ManualClock, Partition, Producer,
    ProducerConfig, Result,
};
use annals::{SimulatedDisk, Topic, TopicConfig, TopicPartition};

use super::keyed;

/// The expected state of a topic that has records in one partition.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lines {
    /// The number of that partition.
    partition: u32,
    /// The records that were passed to `append`, acknowledged or not.
    pub(super) tried: Vec<String>,
    /// The number of records that must survive.
    pub(super) durable: u64,
    /// The lowest and highest log start offset that are possible.
    start: u64,
    start_tried: u64,
    /// The creation of the topic and the partition was acknowledged.
    pub(super) exists: bool,
    /// The deletion of the topic was begun, or acknowledged.
    deleting: bool,
    deleted: bool,
    /// The possible values of `segment.bytes` in the config.
    pub(super) configs: Vec<u32>,
    committed: u64,
    commit_tried: u64,
    /// The highest offset that another group may have committed. It is 0 once the removal of that
    /// group's offsets is durable.
    others_tried: u64,
}

/// The expected state of a log.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Model {
    topics: BTreeMap<&'static str, Lines>,
}

impl Model {
    /// Returns a hash of the expected state.
    pub(super) fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn lines(&mut self, name: &'static str) -> &mut Lines {
        self.topics.entry(name).or_default()
    }
}

pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) run: fn(&Log, &mut Model) -> Result<()>,
}

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "appends of mixed sizes",
        run: mixed_sizes,
    },
    Workload {
        name: "rolls and flushes",
        run: rolls,
    },
    Workload {
        name: "topics created and deleted",
        run: topics,
    },
    Workload {
        name: "commits of a group",
        run: commits,
    },
];

/// Workloads in which a hole would look like the result of a compaction.
pub(super) const ADDITIONS: &[Workload] = &[Workload {
    name: "a partition added to a topic with gaps",
    run: additions,
}];

/// Workloads with small syncs, after enough was appended for the log to keep zeros ahead.
pub(super) const ZEROS: &[Workload] = &[Workload {
    name: "appends over zeros ahead",
    run: over_zeros,
}];

/// Workloads that remove records and files.
pub(super) const REMOVALS: &[Workload] = &[
    Workload {
        name: "records deleted",
        run: deletions,
    },
    Workload {
        name: "the end cut off",
        run: truncations,
    },
];

/// Workloads with producers. Each producer draws an id, so no two runs leave the same bytes.
pub(super) const PRODUCERS: &[Workload] = &[Workload {
    name: "batches of producers",
    run: sends,
}];

pub(super) fn open(disk: &SimulatedDisk, clock: &ManualClock) -> Result<Log> {
    let config = LogConfig::new().maintenance_interval(None);
    Log::builder("data")
        .storage(disk.clone())
        .clock(clock.clone())
        .config(config)
        .open()
}

fn create(log: &Log, model: &mut Model, name: &'static str, segment: u32) -> Result<Topic> {
    model.lines(name).configs.push(segment);
    let topic = log.open_topic(
        name,
        1,
        TopicConfig::new()
            .segment_bytes(segment)
            .index_interval_bytes(64)
            .retention(None),
    )?;
    model.lines(name).exists = true;
    Ok(topic)
}

fn append(
    topic: &Topic,
    model: &mut Model,
    name: &'static str,
    durability: Durability,
    sizes: &[usize],
) -> Result<()> {
    let lines = model.lines(name);
    let first = lines.tried.len();
    let texts = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| format!("{}-{}", first + number, "x".repeat(*size)));
    let batch: Vec<String> = texts.collect();
    lines.tried.extend(batch.iter().cloned());
    let partition = topic.partition(lines.partition)?;
    let appended = partition.with_durability(durability).append_batch(&batch)?;
    assert_eq!(appended, first as u64..lines.tried.len() as u64);
    if durability == Durability::Synced {
        lines.durable = appended.end;
    }
    Ok(())
}

pub(super) fn flush(log: &Log, model: &mut Model) -> Result<()> {
    log.flush()?;
    model
        .topics
        .values_mut()
        .for_each(|lines| lines.durable = lines.tried.len() as u64);
    Ok(())
}

fn mixed_sizes(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 1 << 20)?;
    for sizes in [&[3][..], &[40, 0, 7], &[600], &[5, 1500], &[9000]] {
        append(&topic, model, "lines", Durability::Os, sizes)?;
    }
    append(&topic, model, "lines", Durability::Synced, &[1])?;
    append(&topic, model, "lines", Durability::Os, &[700, 2])?;
    append(&topic, model, "lines", Durability::Synced, &[5000, 20])?;
    append(&topic, model, "lines", Durability::Os, &[30])
}

fn rolls(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    for round in 0..4 {
        append(&topic, model, "lines", Durability::Os, &[60, 30])?;
        append(&topic, model, "lines", Durability::Os, &[100])?;
        if round == 1 {
            flush(log, model)?;
        } else {
            append(&topic, model, "lines", Durability::Synced, &[80, 20])?;
        }
    }
    append(&topic, model, "lines", Durability::Os, &[100])
}

/// Appends batches of one size, so that a new batch is as long as the torn one that it replaces.
/// Then rolls and closes the log.
fn over_zeros(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 80_000)?;
    for size in [60_000, 5_000] {
        append(&topic, model, "lines", Durability::Synced, &[size])?;
    }
    for durability in [
        Durability::Synced,
        Durability::Os,
        Durability::Synced,
        Durability::Synced,
    ] {
        append(&topic, model, "lines", durability, &[900])?;
    }
    append(&topic, model, "lines", Durability::Os, &[900])?;
    append(&topic, model, "lines", Durability::Os, &[20_000])?;
    append(&topic, model, "lines", Durability::Synced, &[300])?;
    append(&topic, model, "lines", Durability::Os, &[300])?;
    log.clone().close()?;
    model.lines("lines").durable = model.lines("lines").tried.len() as u64;
    Ok(())
}

fn sends(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 400)?;
    let synced = topic.with_durability(Durability::Synced);
    for round in 0..2 {
        let producer = log.producer_with(ProducerConfig::new().batch_size(200))?;
        for size in [40, 10, 90, 20] {
            send(&producer, &topic, model, size)?;
        }
        send(&producer, &synced, model, 30)?.wait()?;
        settle(model);
        send(&producer, &topic, model, 100)?;
        if round == 0 {
            flush(log, model)?;
            send(&producer, &synced, model, 50)?;
            send(&producer, &topic, model, 10)?;
            producer.flush()?;
            settle(model);
        } else {
            send(&producer, &synced, model, 10)?;
            producer.close()?;
            settle(model);
        }
    }
    send(&log.producer()?, &topic, model, 10).map(drop)
}

fn send(producer: &Producer, topic: &Topic, model: &mut Model, size: usize) -> Result<Delivery> {
    let lines = model.lines("lines");
    let text = format!("{}-{}", lines.tried.len(), "x".repeat(size));
    lines.tried.push(text.clone());
    producer.send(topic, text)
}

/// Notes that every record that was sent is durable.
fn settle(model: &mut Model) {
    let lines = model.lines("lines");
    lines.durable = lines.tried.len() as u64;
}

fn deletions(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    for start in [2, 5, 9] {
        append(&topic, model, "lines", Durability::Os, &[60, 30])?;
        append(&topic, model, "lines", Durability::Synced, &[100, 90])?;
        model.lines("lines").start_tried = start;
        topic.partition(0)?.delete_records_before(start)?;
        flush(log, model)?;
        model.lines("lines").start = start;
    }
    topic.update_config(TopicConfig::new().retention_bytes(Some(300)))?;
    model.lines("lines").start_tried = u64::MAX;
    let _found = log.maintain()?;
    append(&topic, model, "lines", Durability::Synced, &[10])
}

fn truncations(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    for (end, size) in [(2, 60), (3, 70), (1, 80)] {
        for _ in 0..3 {
            append(
                &topic,
                model,
                "lines",
                Durability::Synced,
                &[size, size + 40],
            )?;
        }
        flush(log, model)?;
        let lines = model.lines("lines");
        lines.durable = end;
        topic.partition(0)?.truncate_to(end)?;
        lines.tried.truncate(usize::try_from(end).unwrap());
    }
    append(&topic, model, "lines", Durability::Synced, &[10])
}

fn topics(log: &Log, model: &mut Model) -> Result<()> {
    let kept = create(log, model, "kept", 300)?;
    append(&kept, model, "kept", Durability::Synced, &[50])?;
    let gone = create(log, model, "gone", 300)?;
    append(&gone, model, "gone", Durability::Synced, &[100, 50])?;
    model.lines("kept").configs.push(400);
    kept.update_config(TopicConfig::new().segment_bytes(400))?;
    model.lines("kept").configs = vec![400];
    model.lines("gone").deleting = true;
    log.delete_topic("gone")?;
    model.lines("gone").deleted = true;
    append(&kept, model, "kept", Durability::Synced, &[200])
}

fn commits(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    let group = log.consumer_group("readers")?;
    for next in 1..5 {
        append(&topic, model, "lines", Durability::Os, &[40])?;
        model.lines("lines").commit_tried = next;
        group.commit([(TopicPartition::new("lines", 0), next.into())])?;
        if next == 3 {
            flush(log, model)?;
            model.lines("lines").committed = next;
        }
    }
    Ok(())
}

/// Adds a partition to a topic that was compacted once. A gap in the new partition would look like
/// the result of a compaction, although the partition was never compacted.
fn additions(log: &Log, model: &mut Model) -> Result<()> {
    let lines = model.lines("lines");
    (lines.configs, lines.partition) = (vec![300], 1);
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(300);
    let topic = log.open_topic("lines", 1, config)?;
    topic.update_config(
        TopicConfig::new()
            .cleanup_policy(CleanupPolicy::Delete)
            .retention(None),
    )?;
    topic.increase_partitions_to(2)?;
    model.lines("lines").exists = true;
    for _ in 0..3 {
        append(&topic, model, "lines", Durability::Os, &[150])?;
    }
    append(&topic, model, "lines", Durability::Synced, &[150])
}

/// Commits offsets in two groups and deletes one group. The store is compacted in between,
/// including the tombstones of the deleted group.
pub(super) fn positions_compacted(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 1 << 20)?;
    append(&topic, model, "lines", Durability::Synced, &[40; 9])?;
    let (readers, others) = (
        log.consumer_group("readers")?,
        log.consumer_group("others")?,
    );
    for next in 1..9 {
        model.lines("lines").commit_tried = next;
        readers.commit([(TopicPartition::new("lines", 0), next.into())])?;
        if next == 4 {
            others.delete()?;
        } else if next < 4 {
            model.lines("lines").others_tried = next;
            others.commit([(TopicPartition::new("lines", 0), next.into())])?;
        }
        let store = log.topic("__consumer_offsets")?;
        if next == 1 {
            store.update_config(
                TopicConfig::new()
                    .segment_bytes(400)
                    .delete_retention(Duration::ZERO),
            )?;
        }
        if next % 2 == 0 {
            flush(log, model)?;
            let lines = model.lines("lines");
            lines.committed = next;
            if next >= 4 {
                lines.others_tried = 0;
            }
            store.partition(0)?.compact()?;
        }
    }
    Ok(())
}

/// Checks that the log has a prefix of the appended records, with at least the durable ones, and
/// that committed offsets do not exceed its end.
pub(super) fn check(label: &str, log: &Log, model: &Model) {
    check_records(label, log, model);
    for (name, lines) in &model.topics {
        if let Ok(topic) = log.topic(name) {
            let Ok(partition) = topic.partition(lines.partition) else {
                continue;
            };
            check_commit(label, log, &partition, lines);
        }
    }
}

/// Checks the records as [`check`] does, in a log without recovery. There, committed offsets were
/// not lowered to the log end.
pub(super) fn check_records(label: &str, log: &Log, model: &Model) {
    for (name, lines) in &model.topics {
        let topic = match log.topic(name) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic(_)) => {
                assert!(!lines.exists || lines.deleting, "{label}: {name} is lost");
                continue;
            }
            Err(error) => panic!("{label}: {error}"),
        };
        assert!(!lines.deleted, "{label}: {name} is back");
        let set = topic.config().entries();
        let segment = set
            .iter()
            .find(|(key, _)| *key == "segment.bytes")
            .map(|(_, value)| value.parse::<u32>().unwrap());
        assert!(
            segment.is_some_and(|segment| lines.configs.contains(&segment)),
            "{label}: {name} has {segment:?}"
        );
        let partition = match topic.partition(lines.partition) {
            // The creation was interrupted, and a read-only log does not complete it.
            Err(Error::UnknownPartition(_)) if !lines.exists => continue,
            partition => partition.unwrap_or_else(|error| panic!("{label}: {name}: {error}")),
        };
        check_partition(label, &partition, lines);
    }
}

fn check_partition(label: &str, partition: &Partition, lines: &Lines) {
    let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
    assert!(
        end >= lines.durable,
        "{label}: ends at {end}, {} were acknowledged",
        lines.durable
    );
    assert!(
        end <= lines.tried.len() as u64,
        "{label}: ends at {end}, {} were appended",
        lines.tried.len()
    );
    assert!(
        lines.start <= start && start <= lines.start_tried.min(end),
        "{label}: starts at {start}: {lines:?}"
    );
    if *partition.id().topic == *keyed::NAME {
        return keyed::check(label, partition, lines);
    }
    let mut reader = partition
        .read(start..)
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    for offset in start..end {
        let record = reader
            .next_record()
            .unwrap_or_else(|error| panic!("{label}, offset {offset}: {error}"));
        let record =
            record.unwrap_or_else(|| panic!("{label}: no record at {offset}, below {end}"));
        let place = usize::try_from(offset).unwrap();
        assert_eq!(record.offset(), offset, "{label}");
        assert_eq!(
            record.text(),
            lines.tried[place],
            "{label}, offset {offset}"
        );
    }
    assert!(
        reader.next_record().unwrap().is_none(),
        "{label}: a record after the end"
    );
}

fn check_commit(label: &str, log: &Log, partition: &Partition, lines: &Lines) {
    let group = log
        .consumer_group("readers")
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let committed = group
        .committed(partition.id())
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let next = committed.map_or(0, |committed| committed.offset);
    assert!(
        next <= partition.log_end_offset(),
        "{label}: the committed offset {next} is beyond the log end"
    );
    assert!(
        lines.committed <= next && next <= lines.commit_tried,
        "{label}: the committed offset is {next}: {lines:?}"
    );
    let others = log
        .consumer_group("others")
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let committed = others
        .committed(partition.id())
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let is_possible = committed.is_none_or(|next| (1..=lines.others_tried).contains(&next.offset));
    assert!(is_possible, "{label}: the offset of another group is back");
}

/// Appends one record to each partition, and returns the new expected state.
pub(super) fn append_more(label: &str, log: &Log, model: &Model) -> Model {
    let mut grown = model.clone();
    for (name, lines) in &mut grown.topics {
        let Ok(partition) = log
            .topic(name)
            .and_then(|topic| topic.partition(lines.partition))
        else {
            // The topic was never created, or its deletion is complete.
            (lines.exists, lines.deleted) = (false, lines.deleting);
            continue;
        };
        let partition = partition.with_durability(Durability::Synced);
        lines
            .tried
            .truncate(usize::try_from(partition.log_end_offset()).unwrap());
        lines
            .tried
            .push(format!("after the cut {}", "y".repeat(70)));
        let appended = match lines.tried.last() {
            Some(text) if *name == keyed::NAME => {
                partition.append(keyed::record(partition.log_end_offset(), text))
            }
            last => partition.append(last.unwrap().as_str()),
        };
        let appended = appended.unwrap_or_else(|error| panic!("{label}: cannot append: {error}"));
        lines.durable = appended.offset + 1;
        lines.start = partition.log_start_offset();
    }
    grown
}
