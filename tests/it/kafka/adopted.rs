//! Directories that real brokers wrote, taken over by annals: opening does not change them, and
//! appends continue where the broker stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::{
    Isolation, Log, LogConfig, ManualClock, OffsetAndMetadata, Partition, ReadOptions, Record,
    Timestamp, TopicConfig, TopicPartition,
};

use super::dump::findings;
use super::fixtures::{SETS, check_all, check_groups, copy_of, open_in_its_time, partition, rows};
use super::{Gaps, KafkaTools, assert_clean, fixture};

/// Returns the content of every file below a directory, by relative path.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// Returns the names of all partitions of a set.
fn partitions(set: &str) -> Vec<String> {
    rows(set, "offsets.tsv")
        .into_iter()
        .map(|row| row[0].clone())
        .collect()
}

/// Returns the names of the partitions that a user may append to.
pub(super) fn user_partitions(set: &str) -> Vec<String> {
    partitions(set)
        .into_iter()
        .filter(|name| !name.starts_with("__"))
        .collect()
}

/// Returns the leader epoch of the last batch in the directory of a partition.
pub(super) fn last_epoch(dir: &Path) -> i32 {
    let log = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = log
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
        .collect();
    logs.sort();
    let bytes = logs
        .iter()
        .rev()
        .map(|path| fs::read(path).unwrap())
        .find(|bytes| !bytes.is_empty())
        .unwrap();
    let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut last) = (0, 0);
    while at + 12 < bytes.len() {
        last = at;
        at += 12 + usize::try_from(int(at + 8)).unwrap();
    }
    assert_eq!(bytes[last + 16], 2, "the last batch must have format v2");
    int(last + 12)
}

pub(super) fn texts(partition: &Partition, from: u64) -> Vec<String> {
    let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    let mut reader = partition.read_with(from.., options).unwrap();
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        texts.push(record.text().into_owned());
    }
    texts
}

#[test]
fn opening_and_reading_do_not_change_the_directory() {
    for set in SETS {
        let root = fixture(set).join("root");
        let before = tree(&root);
        let log = Log::open_read_only(&root).unwrap();
        check_all(&log, set);
        assert!(log.maintain().is_err());
        log.close().unwrap();
        assert!(tree(&root) == before, "{set}: changed by a read-only open");
    }
    for set in ["clean", "legacy"] {
        let (_dir, root) = copy_of(set);
        let mut before = tree(&root);
        let log = Log::open(&root).unwrap();
        check_all(&log, set);
        log.maintain().unwrap();
        log.flush().unwrap();
        log.close().unwrap();
        let mut after = tree(&root);
        // A broker would remove `.deleted` files as well. The content of the lock file does not
        // matter.
        before.retain(|path, _| path.extension().is_none_or(|suffix| suffix != "deleted"));
        before.remove(Path::new(".lock"));
        after.remove(Path::new(".lock"));
        let changed: Vec<_> = before
            .iter()
            .filter(|(path, bytes)| after.get(*path) != Some(bytes))
            .map(|(path, _)| path)
            .collect();
        assert!(changed.is_empty(), "{set}: changed or removed: {changed:?}");
        let new: Vec<_> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        assert!(new.is_empty(), "{set}: new: {new:?}");
    }
}

#[test]
fn appends_continue_where_the_broker_stopped() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        let before = tree(&root);
        for round in 0_u64..2 {
            let log = Log::open(&root).unwrap();
            for name in user_partitions(set) {
                let partition = partition(&log, &name);
                let end: u64 = rows(set, "offsets.tsv")
                    .iter()
                    .find(|row| row[0] == name)
                    .unwrap()[2]
                    .parse()
                    .unwrap();
                assert_eq!(partition.log_end_offset(), end + round, "{set} {name}");
                let written = partition
                    .append(Record::new(format!("round {round}")).key("k"))
                    .unwrap();
                assert_eq!(written.offset, end + round, "{set} {name}");
                let expected: Vec<_> = (0..=round).map(|round| format!("round {round}")).collect();
                assert_eq!(texts(&partition, end), expected, "{set} {name}");
            }
            log.close().unwrap();
        }
        assert!(root.join(".kafka_cleanshutdown").exists(), "{set}");
        for name in user_partitions(set) {
            assert_eq!(last_epoch(&root.join(&name)), 0, "{set} {name}");
        }
        // Files that annals does not know are unchanged.
        for (path, bytes) in before {
            let foreign =
                path.starts_with("__cluster_metadata-0") || path == Path::new("meta.properties");
            let foreign = foreign
                || path.ends_with("partition.metadata")
                || path == Path::new("log-start-offset-checkpoint");
            assert!(
                !foreign || fs::read(root.join(&path)).unwrap() == bytes,
                "{set} {}",
                path.display()
            );
        }
        let points = fs::read_to_string(root.join("recovery-point-offset-checkpoint")).unwrap();
        assert!(!points.contains("__cluster_metadata"), "{set}: {points}");
        assert_eq!(
            points.lines().nth(1).unwrap().parse(),
            Ok(points.lines().count() - 2),
            "{set}"
        );
        for row in rows(set, "offsets.tsv")
            .iter()
            .filter(|row| !row[0].starts_with("__"))
        {
            let (topic, number) = row[0].rsplit_once('-').unwrap();
            let line = format!("{topic} {number} {}", row[2].parse::<u64>().unwrap() + 2);
            assert!(
                points.lines().any(|found| found == line),
                "{set}: no {line:?} in {points}"
            );
        }
    }
}

#[test]
fn appending_to_the_directory_of_a_broker_leaves_no_fault() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    for set in ["clean", "killed"] {
        let (_dir, root) = copy_of(set);
        let log = Log::open(&root).unwrap();
        for name in user_partitions(set) {
            for _ in 0..3 {
                partition(&log, &name)
                    .append(Record::new("one more").key("k"))
                    .unwrap();
            }
        }
        log.close().unwrap();
        assert_clean(&tools, &[&root], Gaps::Allowed);
    }
}

#[test]
fn records_of_a_topic_without_a_stored_configuration_are_not_deleted() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        let clock = ManualClock::at(Timestamp::from_millis(1_900_000_000_000));
        let strict = TopicConfig::new()
            .retention(Duration::from_millis(1))
            .retention_bytes(1)
            .segment_bytes(100)
            .max_message_bytes(1);
        let config = LogConfig::new().topic_defaults(strict).max_bytes(1);
        let log = Log::builder(&root)
            .config(config)
            .clock(clock.clone())
            .open()
            .unwrap();
        clock.advance(Duration::from_secs(1_000_000_000));
        let done = log.maintain().unwrap();
        assert_eq!(done.segments_deleted, 0, "{set}");
        assert_eq!(done.bytes_freed, 0, "{set}");
        check_all(&log, set);
        log.close().unwrap();
        check_all(&Log::open(&root).unwrap(), set);
    }
}

#[test]
fn appends_use_a_leader_epoch_that_has_no_batch_yet() {
    let (_dir, root) = copy_of("clean");
    // The broker became the leader for the sixth time and was stopped before it received records.
    let epochs = root.join("plain-0/leader-epoch-checkpoint");
    fs::write(&epochs, "0\n2\n0 0\n5 158\n").unwrap();
    let log = Log::open(&root).unwrap();
    partition(&log, "plain-0").append("late").unwrap();
    log.close().unwrap();
    assert_eq!(last_epoch(&root.join("plain-0")), 5);
    assert_eq!(fs::read_to_string(&epochs).unwrap(), "0\n2\n0 0\n5 158\n");
}

#[test]
fn each_partition_of_a_broker_opens_without_its_log() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        for row in rows(set, "offsets.tsv") {
            if row[0].starts_with("__") {
                continue;
            }
            let partition = Partition::open(root.join(&row[0]), TopicConfig::new()).unwrap();
            let bounds = [
                partition.log_start_offset().to_string(),
                partition.log_end_offset().to_string(),
            ];
            assert_eq!(bounds, row[1..3], "{set} {}", row[0]);
            let end = partition.log_end_offset();
            assert_eq!(
                partition
                    .append(Record::new("alone").key("k"))
                    .unwrap()
                    .offset,
                end
            );
            assert_eq!(texts(&partition, end), ["alone"], "{set} {}", row[0]);
        }
        let log = Log::open(&root).unwrap();
        for name in user_partitions(set) {
            let end = partition(&log, &name).log_end_offset();
            assert_eq!(
                texts(&partition(&log, &name), end - 1),
                ["alone"],
                "{set} {name}"
            );
        }
    }
}

/// Returns the faults that Kafka's dump tool finds in a directory, without the name of the
/// directory.
fn complaints(tools: &KafkaTools, root: &Path) -> BTreeSet<String> {
    let root_name = root.to_str().unwrap();
    findings(tools, &[root], Gaps::Allowed)
        .into_iter()
        .map(|line| line.replace(root_name, ""))
        .collect()
}

#[test]
fn appending_to_old_formats_adds_no_fault() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let (_dir, root) = copy_of("legacy");
    let before = complaints(&tools, &root);
    for _ in 0..2 {
        let log = Log::open(&root).unwrap();
        for name in user_partitions("legacy") {
            let partition = partition(&log, &name);
            for number in 0..20 {
                partition
                    .append(Record::new("x".repeat(500)).key(format!("key {number}")))
                    .unwrap();
            }
        }
        log.close().unwrap();
    }
    let new: Vec<_> = complaints(&tools, &root)
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    assert!(new.is_empty(), "{}", new.join("\n"));
}

/// Turns a batch outside of a transaction into one that a transactional producer would have
/// written.
fn in_transaction(mut batch: Vec<u8>) -> Vec<u8> {
    batch[22] |= 1 << 4;
    batch[43..51].copy_from_slice(&7_000_i64.to_be_bytes());
    batch[51..53].copy_from_slice(&0_i16.to_be_bytes());
    batch[53..57].copy_from_slice(&0_i32.to_be_bytes());
    let mut crc = u32::MAX;
    for byte in &batch[21..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    batch[17..21].copy_from_slice(&(!crc).to_be_bytes());
    batch
}

#[test]
fn commits_after_an_open_transaction_count() {
    let position = TopicPartition::new("plain", 0);
    let commit = |log: &Log, group: &str, offset: u64| {
        let next = OffsetAndMetadata::from(offset);
        log.consumer_group(group)
            .unwrap()
            .commit([(position.clone(), next)])
            .unwrap();
    };
    let committed = |log: &Log, group: &str| {
        log.consumer_group(group)
            .unwrap()
            .committed(&position)
            .unwrap()
            .map(|committed| committed.offset)
    };
    let offsets = "__consumer_offsets-0/00000000000000000000.log";
    let (_dir, scratch) = copy_of("clean");
    let before = fs::read(scratch.join(offsets)).unwrap();
    let log = open_in_its_time(&scratch);
    commit(&log, "pending", 99);
    log.close().unwrap();
    let batch = fs::read(scratch.join(offsets))
        .unwrap()
        .split_off(before.len());

    // A client committed in a transaction and disappeared before the end of the transaction.
    let (_dir, root) = copy_of("clean");
    fs::write(root.join(offsets), [before, in_transaction(batch)].concat()).unwrap();
    let log = Log::open(&root).unwrap();
    check_groups(&log, "clean");
    commit(&log, "billing", 70);
    commit(&log, "late", 71);
    log.close().unwrap();
    let read_only = Log::open_read_only(&root).unwrap();
    for log in [read_only, Log::open(&root).unwrap()] {
        assert_eq!(committed(&log, "billing"), Some(70));
        assert_eq!(committed(&log, "late"), Some(71));
        assert_eq!(committed(&log, "pending"), None);
    }
}
