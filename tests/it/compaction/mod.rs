//! Compaction through the public API: which records it keeps and removes, and how readers, appends
//! and settings affect it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use annals::{
    CleanupPolicy, Log, LogConfig, ManualClock, Partition, Record, Timestamp, TopicConfig,
};

use crate::bench::Bench;

mod alongside;
mod kept;
mod offset_store;
mod settings;
mod times;
mod written_by_brokers;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Returns the config of a topic with segments of about `bytes`, which is compacted whenever any
/// record is dirty.
fn compacted(bytes: u32) -> TopicConfig {
    TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(bytes)
        .index_interval_bytes(100)
}

/// Returns the offset, key and value of all records.
fn records(partition: &Partition) -> Vec<(u64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut reader = partition.read(..).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((
            record.offset(),
            text(record.key().unwrap_or_default()),
            record.value().map(text),
        ));
    }
    records
}

fn offsets(partition: &Partition) -> Vec<u64> {
    records(partition)
        .into_iter()
        .map(|(offset, ..)| offset)
        .collect()
}

/// Returns the latest value of each key, as a reader sees it that has read everything.
fn view(partition: &Partition) -> BTreeMap<String, String> {
    let mut view = BTreeMap::new();
    for (_, key, value) in records(partition) {
        match value {
            Some(value) => drop(view.insert(key, value)),
            None => drop(view.remove(&key)),
        }
    }
    view
}

/// Appends one record for each character. A lower-case letter is a key whose value is the offset.
/// An upper-case letter is the tombstone of that key.
fn append(partition: &Partition, keys: &str) {
    for key in keys.chars() {
        let value = partition.log_end_offset().to_string();
        let lower = key.to_lowercase().to_string();
        let record = if key.is_uppercase() {
            Record::tombstone(lower)
        } else {
            Record::new(value).key(lower)
        };
        partition.append(record).unwrap();
    }
}

/// Returns the size of a batch with one record of `append`.
fn record_bytes() -> u32 {
    let partition = Log::in_memory()
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    append(&partition, "a");
    u32::try_from(partition.segments()[0].bytes).unwrap()
}

/// Returns the base offsets of the segments.
fn bases(partition: &Partition) -> Vec<u64> {
    partition
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect()
}

/// Returns the sorted names of the files in a directory that end in `suffix`.
fn names(dir: &Path, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}
