//! What is done until the power goes, and what must hold afterwards.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use annals::{
    CleanupPolicy, Delivery, Durability, Error, Log, LogConfig, ManualClock, Partition, Producer,
    ProducerConfig, Result,
};
use annals::{SimulatedDisk, Topic, TopicConfig, TopicPartition};

use super::keyed;

/// What is known of a topic that has records in one partition.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lines {
    /// Number of that partition.
    partition: u32,
    /// What was handed to `append`, acknowledged or not.
    pub(super) tried: Vec<String>,
    /// So many are on the device for certain.
    pub(super) durable: u64,
    /// The log start is here at least, and not behind what was asked for.
    start: u64,
    start_tried: u64,
    /// The creation of both was acknowledged.
    pub(super) exists: bool,
    /// Its deletion was begun, or acknowledged.
    deleting: bool,
    deleted: bool,
    /// Segment sizes in its config that may be found.
    pub(super) configs: Vec<u32>,
    committed: u64,
    commit_tried: u64,
    /// Another group may have committed up to here; 0 once what it had is removed for certain.
    others_tried: u64,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Model {
    topics: BTreeMap<&'static str, Lines>,
}

impl Model {
    /// The same for the same knowledge.
    pub(super) fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn of(&mut self, name: &'static str) -> &mut Lines {
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

/// In these, a hole in a partition that has none would be taken for what compaction leaves.
pub(super) const ADDITIONS: &[Workload] = &[Workload {
    name: "a partition added to a topic with gaps",
    run: additions,
}];

/// Syncs that are small, after enough was appended for zeros to be written ahead.
pub(super) const ZEROS: &[Workload] = &[Workload {
    name: "appends over zeros ahead",
    run: over_zeros,
}];

/// In these, records and files go.
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

/// Each producer draws an id of its own, so that no two runs leave the same bytes.
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
    model.of(name).configs.push(segment);
    let topic = log.open_topic(
        name,
        1,
        TopicConfig::new()
            .segment_bytes(segment)
            .index_interval_bytes(64)
            .retention(None),
    )?;
    model.of(name).exists = true;
    Ok(topic)
}

fn append(
    topic: &Topic,
    model: &mut Model,
    name: &'static str,
    durability: Durability,
    sizes: &[usize],
) -> Result<()> {
    let lines = model.of(name);
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

/// Batches of one size, so that what is left of one under another is as long as it; then a roll,
/// and a close.
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
    model.of("lines").durable = model.of("lines").tried.len() as u64;
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
    let lines = model.of("lines");
    let text = format!("{}-{}", lines.tried.len(), "x".repeat(size));
    lines.tried.push(text.clone());
    producer.send(topic, text)
}

/// All that was sent is on the device.
fn settle(model: &mut Model) {
    let lines = model.of("lines");
    lines.durable = lines.tried.len() as u64;
}

fn deletions(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    for start in [2, 5, 9] {
        append(&topic, model, "lines", Durability::Os, &[60, 30])?;
        append(&topic, model, "lines", Durability::Synced, &[100, 90])?;
        model.of("lines").start_tried = start;
        topic.partition(0)?.delete_records_before(start)?;
        flush(log, model)?;
        model.of("lines").start = start;
    }
    topic.update_config(TopicConfig::new().retention_bytes(Some(300)))?;
    model.of("lines").start_tried = u64::MAX;
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
        let lines = model.of("lines");
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
    model.of("kept").configs.push(400);
    kept.update_config(TopicConfig::new().segment_bytes(400))?;
    model.of("kept").configs = vec![400];
    model.of("gone").deleting = true;
    log.delete_topic("gone")?;
    model.of("gone").deleted = true;
    append(&kept, model, "kept", Durability::Synced, &[200])
}

fn commits(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 300)?;
    let group = log.consumer_group("readers")?;
    for next in 1..5 {
        append(&topic, model, "lines", Durability::Os, &[40])?;
        model.of("lines").commit_tried = next;
        group.commit([(TopicPartition::new("lines", 0), next.into())])?;
        if next == 3 {
            flush(log, model)?;
            model.of("lines").committed = next;
        }
    }
    Ok(())
}

/// The topic was compacted once, so that what is not there counts as compacted; the new partition
/// never was.
fn additions(log: &Log, model: &mut Model) -> Result<()> {
    let lines = model.of("lines");
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
    model.of("lines").exists = true;
    for _ in 0..3 {
        append(&topic, model, "lines", Durability::Os, &[150])?;
    }
    append(&topic, model, "lines", Durability::Synced, &[150])
}

/// Two groups commit, one is deleted, and the store is compacted in between, also the tombstones of
/// the one that is gone.
pub(super) fn positions_compacted(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model, "lines", 1 << 20)?;
    append(&topic, model, "lines", Durability::Synced, &[40; 9])?;
    let (readers, others) = (
        log.consumer_group("readers")?,
        log.consumer_group("others")?,
    );
    for next in 1..9 {
        model.of("lines").commit_tried = next;
        readers.commit([(TopicPartition::new("lines", 0), next.into())])?;
        if next == 4 {
            others.delete()?;
        } else if next < 4 {
            model.of("lines").others_tried = next;
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
            let lines = model.of("lines");
            lines.committed = next;
            if next >= 4 {
                lines.others_tried = 0;
            }
            store.partition(0)?.compact()?;
        }
    }
    Ok(())
}

/// What is there is what was appended, as far as it is, and what was committed is below its end.
pub(super) fn check(what: &str, log: &Log, model: &Model) {
    check_records(what, log, model);
    for (name, lines) in &model.topics {
        if let Ok(topic) = log.topic(name) {
            let Ok(partition) = topic.partition(lines.partition) else {
                continue;
            };
            check_commit(what, log, &partition, lines);
        }
    }
}

/// As [`check`], of a log that nobody has recovered: commits were not lowered to what is left.
pub(super) fn check_records(what: &str, log: &Log, model: &Model) {
    for (name, lines) in &model.topics {
        let topic = match log.topic(name) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic(_)) => {
                assert!(!lines.exists || lines.deleting, "{what}: {name} is lost");
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        assert!(!lines.deleted, "{what}: {name} is back");
        let set = topic.config().entries();
        let segment = set
            .iter()
            .find(|(key, _)| *key == "segment.bytes")
            .map(|(_, value)| value.parse::<u32>().unwrap());
        assert!(
            segment.is_some_and(|segment| lines.configs.contains(&segment)),
            "{what}: {name} has {segment:?}"
        );
        let partition = match topic.partition(lines.partition) {
            // Its creation was cut off, and who only reads does not go on with it.
            Err(Error::UnknownPartition(_)) if !lines.exists => continue,
            partition => partition.unwrap_or_else(|error| panic!("{what}: {name}: {error}")),
        };
        check_partition(what, &partition, lines);
    }
}

fn check_partition(what: &str, partition: &Partition, lines: &Lines) {
    let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
    assert!(
        end >= lines.durable,
        "{what}: ends at {end}, {} were acknowledged",
        lines.durable
    );
    assert!(
        end <= lines.tried.len() as u64,
        "{what}: ends at {end}, {} were appended",
        lines.tried.len()
    );
    assert!(
        lines.start <= start && start <= lines.start_tried.min(end),
        "{what}: starts at {start}: {lines:?}"
    );
    if *partition.id().topic == *keyed::NAME {
        return keyed::check(what, partition, lines);
    }
    let mut reader = partition
        .read(start..)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    for offset in start..end {
        let record = reader
            .next_record()
            .unwrap_or_else(|error| panic!("{what}, offset {offset}: {error}"));
        let record = record.unwrap_or_else(|| panic!("{what}: nothing at {offset} below {end}"));
        let place = usize::try_from(offset).unwrap();
        assert!(
            record.offset() == offset && record.text() == lines.tried[place],
            "{what}: a wrong record at {offset}"
        );
    }
    assert!(
        reader.next_record().unwrap().is_none(),
        "{what}: a record at the end"
    );
}

fn check_commit(what: &str, log: &Log, partition: &Partition, lines: &Lines) {
    let group = log
        .consumer_group("readers")
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let committed = group
        .committed(partition.id())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let next = committed.map_or(0, |committed| committed.offset);
    assert!(
        next <= partition.log_end_offset(),
        "{what}: {next} is committed, behind the end"
    );
    assert!(
        lines.committed <= next && next <= lines.commit_tried,
        "{what}: {next} is committed: {lines:?}"
    );
    let others = log
        .consumer_group("others")
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let committed = others
        .committed(partition.id())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let is_possible = committed.is_none_or(|next| (1..=lines.others_tried).contains(&next.offset));
    assert!(is_possible, "{what}: what another group committed is back");
}

/// Goes on writing, and says what is known then.
pub(super) fn append_more(what: &str, log: &Log, model: &Model) -> Model {
    let mut grown = model.clone();
    for (name, lines) in &mut grown.topics {
        let Ok(partition) = log
            .topic(name)
            .and_then(|topic| topic.partition(lines.partition))
        else {
            // It never was, or is gone, and stays so.
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
        let appended = appended.unwrap_or_else(|error| panic!("{what}: cannot append: {error}"));
        lines.durable = appended.offset + 1;
        lines.start = partition.log_start_offset();
    }
    grown
}
