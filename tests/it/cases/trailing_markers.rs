//! Partitions that end with transaction markers or aborted records, which no consumer gets. A
//! consumer that has read the records before them has read everything.

use std::fs;
use std::time::Duration;

use annals::{
    Consumer, ConsumerConfig, ConsumerGroup, Error, Isolation, Log, Partition, ReadOptions, Seek,
    TopicPartition,
};

use super::copy_of;
use crate::kafka::{copy_dir, fixture};

const BOTH: [Isolation; 2] = [Isolation::ReadCommitted, Isolation::ReadUncommitted];

/// The topics without an open transaction: name, log end, and the records of a consumer with each
/// isolation.
const ENDED: [(&str, u64, [&[u64]; 2]); 4] = [
    ("committed", 6, [&[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]]),
    ("aborted", 5, [&[0, 1], &[0, 1, 2, 3]]),
    ("all-aborted", 3, [&[], &[0, 1]]),
    ("marker", 1, [&[], &[]]),
];

fn opened() -> (tempfile::TempDir, Log) {
    let (dir, root) = copy_of("trailing-markers");
    let log = Log::open(root).unwrap();
    (dir, log)
}

fn of(topic: &str) -> TopicPartition {
    (topic, 0).into()
}

fn partition(log: &Log, topic: &str) -> Partition {
    log.topic(topic).unwrap().partition(0).unwrap()
}

fn join(group: &ConsumerGroup, topic: &str, isolation: Isolation, records: usize) -> Consumer {
    let config = ConsumerConfig::new()
        .isolation(isolation)
        .max_poll_records(u32::try_from(records.max(1)).unwrap());
    group.join_with(topic, config).unwrap()
}

fn poll(consumer: &mut Consumer) -> Vec<u64> {
    let records = consumer.poll(Duration::ZERO).unwrap();
    let offsets = records.iter().map(|record| record.unwrap().offset());
    offsets.collect()
}

fn committed(group: &ConsumerGroup, topic: &str) -> Option<u64> {
    group.committed(&of(topic)).unwrap().map(|next| next.offset)
}

/// Calls `test` with a fresh group for each topic and isolation.
fn for_each(test: impl Fn(&Log, &ConsumerGroup, (&str, u64, &[u64]), Isolation)) {
    for (topic, end, records) in ENDED {
        for (place, isolation) in BOTH.into_iter().enumerate() {
            let (_dir, log) = opened();
            let group = log.consumer_group("g").unwrap();
            test(&log, &group, (topic, end, records[place]), isolation);
        }
    }
}

#[test]
fn a_reader_at_its_end_is_after_the_markers() {
    for_each(|log, _, (topic, end, records), isolation| {
        let options = ReadOptions::new().isolation(isolation);
        let partition = partition(log, topic);
        let mut by_batch = partition.read_with(.., options.clone()).unwrap();
        for batch in by_batch.by_ref() {
            batch.unwrap();
        }
        assert_eq!(by_batch.next_offset(), end, "{topic}, {isolation:?}");
        let mut by_record = partition.read_with(.., options).unwrap();
        let mut found = Vec::new();
        while let Some(record) = by_record.next_record().unwrap() {
            found.push(record.offset());
        }
        assert_eq!(found, records, "{topic}, {isolation:?}");
        assert_eq!(by_record.next_offset(), end, "{topic}, {isolation:?}");
    });
}

#[test]
fn a_consumer_of_all_records_is_after_the_markers_and_has_no_lag() {
    for_each(|_, group, (topic, end, records), isolation| {
        // The last poll takes exactly the last record.
        for max in 1..=records.len() + 1 {
            let mut consumer = join(group, topic, isolation, max);
            let mut found = Vec::new();
            for _ in 0..records.len().div_ceil(max).max(1) {
                found.extend(poll(&mut consumer));
            }
            let label = format!("{topic}, {isolation:?}, {max} records a poll");
            assert_eq!(found, records, "{label}");
            assert_eq!(consumer.lag(), Some(0), "{label}");
            assert_eq!(consumer.position(&of(topic)).unwrap(), end, "{label}");
            consumer.commit().unwrap();
            assert_eq!(committed(group, topic), Some(end), "{label}");
            assert_eq!(group.lag().unwrap(), Some(0), "{label}");
            drop(consumer);
            group.delete().unwrap();
        }
    });
}

#[test]
fn the_last_record_committed_by_offset_leaves_no_lag() {
    for_each(|_, group, (topic, end, records), isolation| {
        let Some(last) = records.last() else { return };
        group.commit([(of(topic), (last + 1).into())]).unwrap();
        let positions = group.describe().unwrap().positions;
        let label = format!("{topic}, {isolation:?}");
        assert_eq!(positions[0].lag, Some(0), "{label}");
        assert_eq!(positions[0].log_end, Some(end), "{label}");
        assert_eq!(group.lag().unwrap(), Some(0), "{label}");
        let mut consumer = join(group, topic, isolation, 10);
        assert_eq!(consumer.lag(), Some(0), "{label}");
        assert_eq!(poll(&mut consumer), [0; 0], "{label}");
        assert_eq!(consumer.position(&of(topic)).unwrap(), end, "{label}");
    });
}

#[test]
fn records_after_the_markers_are_not_skipped() {
    for_each(|log, group, (topic, end, records), isolation| {
        let mut consumer = join(group, topic, isolation, records.len());
        assert_eq!(poll(&mut consumer), records);
        consumer.commit().unwrap();
        partition(log, topic).append("next").unwrap();
        let label = format!("{topic}, {isolation:?}");
        assert_eq!(consumer.lag(), Some(1), "{label}");
        assert_eq!(group.lag().unwrap(), Some(1), "{label}");
        drop(consumer);
        let mut consumer = join(group, topic, isolation, 10);
        assert_eq!(poll(&mut consumer), [end], "{label}");
        consumer.commit().unwrap();
        assert_eq!(committed(group, topic), Some(end + 1), "{label}");
        assert_eq!(group.lag().unwrap(), Some(0), "{label}");
    });
}

#[test]
fn the_lag_ends_at_the_last_record() {
    for_each(|_, group, (topic, _, records), isolation| {
        let consumer = join(group, topic, isolation, 10);
        let end = records.last().map_or(0, |last| last + 1);
        assert_eq!(consumer.lag(), Some(end), "{topic}, {isolation:?}");
    });
}

#[test]
fn latest_is_after_the_markers() {
    for_each(|_, group, (topic, end, _), isolation| {
        let mut consumer = join(group, topic, isolation, 10);
        consumer.seek(&of(topic), Seek::Latest).unwrap();
        let label = format!("{topic}, {isolation:?}");
        assert_eq!(consumer.position(&of(topic)).unwrap(), end, "{label}");
        assert_eq!(consumer.lag(), Some(0), "{label}");
        assert_eq!(poll(&mut consumer), [0; 0], "{label}");
        drop(consumer);
        group.reset([of(topic)], Seek::Latest).unwrap();
        assert_eq!(committed(group, topic), Some(end), "{label}");
    });
}

#[test]
fn a_group_has_no_lag_in_a_partition_without_records() {
    for (topic, lag) in [
        ("marker", Some(0)),
        ("all-aborted", Some(0)),
        ("aborted", None),
    ] {
        let (_dir, log) = opened();
        let group = log.consumer_group("g").unwrap();
        let _member = group.join(topic).unwrap();
        assert_eq!(group.describe().unwrap().positions[0].lag, None, "{topic}");
        assert_eq!(group.lag().unwrap(), lag, "{topic}");
    }
}

/// The records of an open transaction may still be committed.
#[test]
fn records_of_an_open_transaction_count_for_the_group_only() {
    for (topic, stable_end, record_end, lag) in [("open", 2, 4, 2), ("mixed", 0, 2, 2)] {
        let (_dir, log) = opened();
        let group = log.consumer_group("g").unwrap();
        let mut consumer = join(&group, topic, Isolation::ReadCommitted, 10);
        poll(&mut consumer);
        assert_eq!(consumer.position(&of(topic)).unwrap(), stable_end);
        assert_eq!(consumer.lag(), Some(0), "{topic}");
        consumer.commit().unwrap();
        assert_eq!(group.lag().unwrap(), Some(lag), "{topic}");
        drop(consumer);
        group.commit([(of(topic), record_end.into())]).unwrap();
        assert_eq!(group.lag().unwrap(), Some(0), "{topic}");
    }
}

#[test]
fn a_read_only_log_counts_the_markers_in_the_same_way() {
    let (dir, log) = opened();
    let group = log.consumer_group("g").unwrap();
    group.commit([(of("committed"), 5.into())]).unwrap();
    let read_only = Log::open_read_only(dir.path().join("root")).unwrap();
    let group = read_only.consumer_group("g").unwrap();
    assert_eq!(group.lag().unwrap(), Some(0));
}

/// Every offset counts if the end of the log cannot be read.
#[test]
fn damage_at_the_end_leaves_the_lag_and_the_records_before_it() {
    // A byte of the batch of the records 3 and 4, and one of the marker.
    for (position, lag) in [(150, 3), (230, 3)] {
        let (dir, log) = opened();
        let path = dir.path().join("root/committed-0/00000000000000000000.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[position] ^= 1;
        fs::write(&path, bytes).unwrap();
        let group = log.consumer_group("g").unwrap();
        let mut consumer = join(&group, "committed", Isolation::ReadUncommitted, 3);
        assert_eq!(consumer.lag(), Some(6), "byte {position}");
        assert_eq!(poll(&mut consumer), [0, 1, 2], "byte {position}");
        assert_eq!(consumer.lag(), Some(lag), "byte {position}");
        consumer.commit().unwrap();
        assert_eq!(committed(&group, "committed"), Some(3), "byte {position}");
        assert_eq!(group.lag().unwrap(), Some(lag), "byte {position}");
        let next = consumer.poll(Duration::ZERO);
        if position == 150 {
            assert!(matches!(next, Err(Error::Corrupt(_))), "{next:?}");
        } else {
            assert_eq!(next.unwrap().iter().count(), 2);
            assert!(consumer.poll(Duration::ZERO).is_err());
        }
    }
}

#[test]
fn the_lag_in_directories_of_brokers_ends_at_the_last_record() {
    let mut partitions = 0;
    for set in ["clean", "killed", "legacy", "prepare-commit"] {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&fixture(&format!("{set}/root")), &dir.path().join("root"));
        let log = Log::open(dir.path().join("root")).unwrap();
        for topic in log.topics() {
            for partition in topic.partitions() {
                for isolation in BOTH {
                    let options = ReadOptions::new().isolation(isolation);
                    let records = partition.read_with(.., options).unwrap();
                    let last = records.filter_map(|batch| {
                        let offsets = batch.unwrap();
                        let offsets = offsets.iter().map(|record| record.unwrap().offset());
                        offsets.last()
                    });
                    let start = partition.log_start_offset();
                    let end = last.last().map_or(start, |last| last + 1);
                    let config = ConsumerConfig::new().isolation(isolation);
                    let id = partition.id().clone();
                    let consumer = log.assign_with([id], config).unwrap();
                    let lag = Some(end - start);
                    assert_eq!(consumer.lag(), lag, "{set}, {partition:?}, {isolation:?}");
                    partitions += 1;
                }
            }
        }
        log.close().unwrap();
    }
    assert!(partitions > 60, "only {partitions}");
}
