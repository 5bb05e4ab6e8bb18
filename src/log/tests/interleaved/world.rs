//! A log with records, groups and several segments, as often as a test needs it, and its final
//! state.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::operations::Operation;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{CleanupPolicy, Compression, LogConfig, TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::BatchBuilder;
use crate::format::file_name;
use crate::format::metadata_file::decode_index_digests;
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::{Partition, Reader, Waker};
use crate::storage::recording::RecordingDisk;
use crate::storage::{SimulatedDisk, Storage, read_file};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

pub(super) const DIR: &str = "log";
/// The records of the topic `t`: in three segments, the last of which is full.
const RECORDS: u64 = 12;
/// The records that were written and closed in an earlier run.
const CLOSED: u64 = 9;
/// The offset that both groups have committed.
const COMMITTED: u64 = 3;
const NOW: i64 = 1_700_000_000_000;

/// The storage calls that change a file or directory.
pub(super) const CHANGES: &[&str] = &[
    "open to write",
    "create directory",
    "rename",
    "remove",
    "write",
    "set length",
];

pub(super) type Found = Vec<(u64, String)>;

/// One step of an operation.
pub(super) type Step = Box<dyn FnOnce() -> Answer + Send>;
pub(super) type Steps = Vec<Step>;

/// The result of a step. The records that a reader found are not compared: they depend on the
/// progress of the other thread, and are checked separately.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) found: Option<Found>,
}

impl Answer {
    /// Returns the debug text of the result, or the kind or text of the error.
    pub(super) fn of<T: fmt::Debug>(result: Result<T>) -> Self {
        let text = result.map_or_else(|error| kind(&error), |answer| format!("{answer:?}"));
        Self { text, found: None }
    }

    pub(super) fn of_reading(found: Found, result: Result<()>) -> Self {
        Self {
            found: Some(found),
            ..Self::of(result)
        }
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.found
            .as_ref()
            .map_or(Ok(()), |found| write!(f, " after {} records", found.len()))
    }
}

/// Returns the kind of an expected error, or the text of any other.
pub(super) fn kind(error: &Error) -> String {
    match error {
        Error::OffsetOutOfRange { .. } => "OffsetOutOfRange".to_owned(),
        Error::UnknownTopic(_) => "UnknownTopic".to_owned(),
        Error::UnknownPartition(_) => "UnknownPartition".to_owned(),
        Error::Closed => "Closed".to_owned(),
        error => error.to_string(),
    }
}

/// A disk with a log that was closed cleanly.
pub(super) struct Template {
    disk: SimulatedDisk,
    topic_id: String,
    is_compacted: bool,
    /// The records with which every world begins.
    records: Found,
}

pub(super) fn config(is_compacted: bool) -> TopicConfig {
    let config = TopicConfig::new()
        .segment_bytes(400)
        .index_interval_bytes(100)
        .retention(Duration::from_secs(3_600));
    if !is_compacted {
        return config;
    }
    config
        .cleanup_policy(CleanupPolicy::CompactAndDelete)
        .min_cleanable_dirty_ratio(0.01)
}

pub(super) fn partition_0() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn open(disk: impl Storage) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(NOW));
    let config = LogConfig::new()
        .max_bytes(9_600)
        .topic_defaults(TopicConfig::new().max_message_bytes(1_000));
    Log::builder(DIR)
        .storage(disk)
        .clock(clock)
        .config(config)
        .open()
        .unwrap()
}

/// Appends a record that differs from all others. The first records are old.
fn append(partition: &Partition, offset: u64) {
    let age = if offset < 4 { 7_200_000 } else { 0 };
    let record =
        Record::new(format!("value {offset} of the template")).key(format!("key {}", offset % 4));
    partition
        .append(record.timestamp(Timestamp::from_millis(NOW - age)))
        .unwrap();
}

/// Returns two batches of one record each, as they are in a `.log`.
pub(super) fn batches(key: &str) -> Vec<u8> {
    let batch = |value: &str| {
        let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
        builder.push(&Record::from((key, value)), NOW).unwrap();
        builder.finish(&TopicSettings::unconfigured()).unwrap()
    };
    [batch("appended as it is"), batch("together")].concat()
}

impl Template {
    pub(super) fn new(is_compacted: bool) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(NOW));
        let disk = SimulatedDisk::with_clock(1, clock);
        let log = open(disk.clone());
        let topic = log.create_topic("t", 1, config(is_compacted)).unwrap();
        let partition = topic.partition(0).unwrap();
        (0..CLOSED).for_each(|offset| append(&partition, offset));
        log.create_topic("u", 1, TopicConfig::new())
            .unwrap()
            .append("first")
            .unwrap();
        for group in ["a", "b"] {
            log.consumer_group(group)
                .unwrap()
                .commit([(partition_0(), COMMITTED.into())])
                .unwrap();
        }
        log.close().unwrap();
        let mut template = Self {
            disk,
            topic_id: topic.id().unwrap(),
            is_compacted,
            records: Found::new(),
        };
        let world = template.world();
        let partition = world.log.topic("t").unwrap().partition(0).unwrap();
        let lengths: Vec<_> = partition
            .segments()
            .iter()
            .map(|segment| segment.next_offset - segment.base_offset)
            .collect();
        assert_eq!(lengths, [4, 4, 4]);
        template.records = read(Ok(partition)).found.unwrap();
        template
    }

    pub(super) fn records(&self) -> &Found {
        &self.records
    }

    /// Opens the log, and appends records that are not flushed.
    pub(super) fn world(&self) -> World {
        let inner = self.disk.fork();
        let disk = RecordingDisk::over(inner.clone());
        let log = open(disk.clone());
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        (CLOSED..RECORDS).for_each(|offset| append(&partition, offset));
        log.topic("u").unwrap().append("second").unwrap();
        let reader_disk = disk.beside();
        World {
            inner,
            disk,
            reader_disk,
            log,
            is_compacted: self.is_compacted,
            wakers: Arc::default(),
        }
    }
}

/// An open log on a disk that can stop its callers.
pub(super) struct World {
    inner: SimulatedDisk,
    pub(super) disk: RecordingDisk,
    /// The same disk for read-only logs.
    pub(super) reader_disk: RecordingDisk,
    pub(super) log: Log,
    pub(super) is_compacted: bool,
    /// The wakers of readers that may wait forever.
    pub(super) wakers: Arc<Mutex<Vec<Waker>>>,
}

impl World {
    pub(super) fn disk_of(&self, operation: &Operation) -> RecordingDisk {
        if operation.is_read_only {
            self.reader_disk.clone()
        } else {
            self.disk.clone()
        }
    }

    pub(super) fn has_wakers(&self) -> bool {
        !self.wakers.lock().is_empty()
    }

    pub(super) fn wake(&self) {
        self.wakers.lock().iter().for_each(Waker::wake);
    }

    /// Returns the final state of the log, which must be the same after closing and opening it.
    pub(super) fn left(self, template: &Template) -> Left {
        let live = look(&self.log, template);
        let closed = self.log.close();
        let again = open(self.inner.clone());
        let mut left = look(&again, template);
        if live.topics.is_some() && live != left {
            left.problems
                .push(format!("before it was closed the state was {live:?}"));
        }
        if closed.is_err() || !again.recovery().clean || again.recovery().has_losses() {
            left.problems.push(format!(
                "closing returned {closed:?}, and opening again {:?}",
                again.recovery()
            ));
        }
        check_consumer(&again, &mut left);
        check_files(&self.inner, &again, &mut left);
        again.close().unwrap();
        left
    }
}

/// The final state of a log, and the problems that were found in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Left {
    /// `None` if the log was closed and could not be read.
    topics: Option<(Option<TopicLeft>, Found)>,
    committed: Vec<Option<u64>>,
    problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct TopicLeft {
    is_new: bool,
    /// The start, end and records of each partition.
    partitions: Vec<(u64, u64, Found)>,
}

impl Left {
    /// Returns whether this state has all records that are in every other state, and no record that
    /// is in none. For compaction, which may end early.
    pub(super) fn is_between(&self, others: &[&Self]) -> bool {
        let records = |left: &Self| {
            let (topic, _) = left.topics.as_ref()?;
            topic.as_ref().map(|topic| topic.partitions.clone())
        };
        let without = |left: &Self| {
            let mut left = left.clone();
            if let Some((Some(topic), _)) = &mut left.topics {
                topic
                    .partitions
                    .iter_mut()
                    .for_each(|(_, _, found)| found.clear());
            }
            left
        };
        let alike: Vec<_> = others
            .iter()
            .filter(|other| without(other) == without(self))
            .filter_map(|other| records(other))
            .collect();
        let Some(mine) = records(self).filter(|_| !alike.is_empty()) else {
            return false;
        };
        mine.iter().enumerate().all(|(number, (_, _, found))| {
            found
                .iter()
                .all(|record| alike.iter().any(|other| other[number].2.contains(record)))
                && alike[0][number].2.iter().all(|record| {
                    found.contains(record)
                        || !alike.iter().all(|other| other[number].2.contains(record))
                })
        })
    }

    /// Asserts that the state has no problems.
    pub(super) fn check(&self, case: &str) {
        assert!(self.problems.is_empty(), "{case}: {:?}", self.problems);
    }

    /// Returns all records.
    pub(super) fn records(&self) -> Found {
        let topic = self.topics.iter().filter_map(|(topic, _)| topic.as_ref());
        topic
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .flat_map(|(_, _, found)| found.clone())
            })
            .collect()
    }
}

/// Reads all records of a reader, up to an error.
pub(super) fn drain(reader: &mut Reader, found: &mut Found) -> Result<()> {
    while let Some(record) = reader.next_record()? {
        let text = format!(
            "{}={}",
            String::from_utf8_lossy(record.key().unwrap_or_default()),
            record.text()
        );
        found.push((record.offset(), text));
    }
    Ok(())
}

pub(super) fn read(partition: Result<Partition>) -> Answer {
    let mut found = Found::new();
    let result = partition.and_then(|partition| drain(&mut partition.read(..)?, &mut found));
    Answer::of_reading(found, result)
}

fn look(log: &Log, template: &Template) -> Left {
    let mut left = Left::default();
    let topic = match log.topic("t") {
        Ok(topic) => Some(topic),
        Err(Error::UnknownTopic(_)) => None,
        Err(_) => return left,
    };
    let mut all_of = |partition: &Partition| {
        let Answer { text, found } = read(Ok(partition.clone()));
        if text != "()" {
            left.problems
                .push(format!("{} cannot be read: {text}", partition.id()));
        }
        (
            partition.log_start_offset(),
            partition.log_end_offset(),
            found.unwrap_or_default(),
        )
    };
    let others = all_of(&log.topic("u").unwrap().partition(0).unwrap()).2;
    let topic = topic.map(|topic| TopicLeft {
        is_new: topic.id().unwrap() != template.topic_id,
        partitions: topic.partitions().iter().map(&mut all_of).collect(),
    });
    left.topics = Some((topic, others));
    for group in ["a", "b"] {
        let committed = log.consumer_group(group).unwrap().committed(&partition_0());
        match committed {
            Ok(next) => left.committed.push(next.map(|next| next.offset)),
            Err(error) => left
                .problems
                .push(format!("the commits of {group} cannot be read: {error}")),
        }
    }
    left
}

/// Checks that a new member gets all records from the committed offset.
fn check_consumer(log: &Log, left: &mut Left) {
    let Some((Some(topic), _)) = &left.topics else {
        return;
    };
    let Some((start, end, found)) = topic.partitions.first() else {
        return;
    };
    let from = left.committed.first().copied().flatten().unwrap_or(0);
    if from > *end {
        left.problems
            .push(format!("{from} is committed of a log that ends at {end}"));
    }
    let mut consumer = log.consumer_group("a").unwrap().join("t").unwrap();
    let mut polled = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() && records.rebalance().is_empty() {
            break;
        }
        polled.extend(
            records
                .of(&partition_0())
                .map(|record| record.unwrap().offset()),
        );
    }
    let expected: Vec<u64> = found
        .iter()
        .map(|(offset, _)| *offset)
        .filter(|offset| *offset >= from.max(*start))
        .collect();
    if polled != expected {
        left.problems.push(format!("a new member gets {polled:?}"));
    }
}

/// Checks that every file belongs to a partition, and that the digests of its indexes are right.
fn check_files(disk: &SimulatedDisk, log: &Log, left: &mut Left) {
    let Ok(topic) = log.topic("t") else { return };
    for partition in topic.partitions() {
        let dir = Path::new("/").join(DIR).join(partition.id().to_string());
        let bases: Vec<u64> = partition
            .segments()
            .iter()
            .map(|segment| segment.base_offset)
            .collect();
        for entry in disk.list(&dir).unwrap() {
            let of_segment = file_name::parse_segment_file(&entry.name);
            let is_known = of_segment.is_some_and(|(base, _)| bases.contains(&base));
            let is_plain = [
                file_name::PARTITION_METADATA,
                file_name::LEADER_EPOCHS,
                file_name::INDEX_DIGESTS,
            ]
            .contains(&&*entry.name);
            if !is_known && !is_plain {
                left.problems
                    .push(format!("{} has a file {}", partition.id(), entry.name));
            }
        }
        let Ok(digests) = read_file(disk, &dir.join(file_name::INDEX_DIGESTS), 1 << 20) else {
            continue;
        };
        for segment in decode_index_digests(&digests).unwrap() {
            let indexes = segment.indexes.map(|digest| digest.map(|(bytes, _)| bytes));
            let lines = file_name::INDEXES
                .into_iter()
                .zip(indexes)
                .chain([(file_name::LOG, segment.log_bytes)]);
            for (name, stated) in lines.map(|(suffix, stated)| {
                (file_name::segment_file(segment.base_offset, suffix), stated)
            }) {
                let bytes = disk
                    .metadata(&dir.join(&name))
                    .map(|metadata| metadata.bytes)
                    .ok();
                // A transaction index without entries has no file.
                if stated.is_some_and(|stated| bytes.unwrap_or(0) != stated) {
                    left.problems.push(format!(
                        "{name} has {bytes:?} bytes, by its digest {stated:?}"
                    ));
                }
            }
        }
    }
}
