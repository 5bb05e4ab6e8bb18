//! Readers, followers, lookups, appends and retention continue while a partition is compacted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::{Isolation, ReadOptions};

use super::*;

#[test]
fn a_reader_finishes_its_segment_and_continues_in_the_new_ones() {
    for read_before in 0..28 {
        let bench = Bench::new(START);
        let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
        append(&partition, &"abcd".repeat(7));
        bench
            .log()
            .topic("t")
            .unwrap()
            .update_config(TopicConfig::new().segment_bytes(100 * record_bytes()))
            .unwrap();
        let mut reader = partition.read(..).unwrap();
        let mut seen = Vec::new();
        for _ in 0..read_before {
            seen.push(reader.next_record().unwrap().unwrap().offset());
        }
        partition.compact().unwrap();
        assert_eq!(bases(&partition), [0, 24]);
        while let Some(record) = reader.next_record().unwrap() {
            seen.push(record.offset());
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert!(seen.ends_with(&[24, 25, 26, 27]), "{seen:?}");
        assert!((20..24).all(|offset| seen.contains(&offset)), "{seen:?}");
    }
}

#[test]
fn batches_stay_readable_after_compactions() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
    append(&partition, "aaaaaaaaa");
    let batches: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    partition.compact().unwrap();
    partition.compact().unwrap();
    let texts: Vec<_> = batches
        .iter()
        .flat_map(|batch| {
            batch
                .iter()
                .map(|record| record.unwrap().text().into_owned())
        })
        .collect();
    assert_eq!(
        texts,
        (0..9)
            .map(|offset: u32| offset.to_string())
            .collect::<Vec<_>>()
    );
}

/// Reads to the end and checks that offsets rise and values fit. Returns the last offset, and the
/// latest offset of each key.
fn check(mut reader: annals::Reader) -> (Option<u64>, BTreeMap<Vec<u8>, u64>) {
    let (mut last, mut latest) = (None, BTreeMap::new());
    while let Some(record) = reader.next_record().unwrap() {
        let offset = record.offset();
        assert!(
            last.is_none_or(|last| last < offset),
            "{offset} follows {last:?}"
        );
        assert_eq!(record.text(), offset.to_string());
        last = Some(offset);
        latest.insert(record.key().unwrap().to_vec(), offset);
    }
    (last, latest)
}

/// Runs a writer, several kinds of readers and compactions at the same time.
#[test]
fn appends_and_readers_continue_during_compactions() {
    const KEYS: u64 = 40;
    const RECORDS: u64 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = log
        .open_topic("t", 1, compacted(3_000))
        .unwrap()
        .partition(0)
        .unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 0..RECORDS {
                let written = partition
                    .append(
                        Record::new(offset.to_string()).key(format!("key {}", offset * 7 % KEYS)),
                    )
                    .unwrap();
                assert_eq!(written.offset, offset);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                partition.compact().unwrap();
            }
        });
        scope.spawn(|| {
            let (last, latest) = check(partition.follow(..RECORDS).unwrap());
            assert_eq!((last, latest.len() as u64), (Some(RECORDS - 1), KEYS));
            assert!(
                latest.values().all(|offset| *offset >= RECORDS - KEYS),
                "{latest:?}"
            );
        });
        scope.spawn(|| {
            let mut turn = 0;
            while !is_done.load(Ordering::SeqCst) {
                let end = partition.log_end_offset();
                let from = turn * 131 % (end + 1);
                let options = if turn % 2 == 0 {
                    ReadOptions::new()
                } else {
                    ReadOptions::new().isolation(Isolation::ReadCommitted)
                };
                let (_, latest) = check(partition.read_with(from..end, options).unwrap());
                // The records that were the latest of their keys when the reader began are there,
                // or later ones.
                let expected = end.saturating_sub(KEYS).max(from)..end;
                assert_eq!(
                    latest
                        .values()
                        .filter(|offset| expected.contains(offset))
                        .count() as u64,
                    expected.end - expected.start
                );
                let now = Timestamp::from_millis(0);
                if end > 0 {
                    assert!(partition.offset_for(now).unwrap().is_some());
                }
                turn += 1;
            }
        });
    });
    partition.compact().unwrap();
    let before = view(&partition);
    assert_eq!(before.len() as u64, KEYS);
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(view(&log.topic("t").unwrap().partition(0).unwrap()), before);
}

#[test]
fn records_deleted_during_a_compaction_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let config = compacted(2_000)
        .cleanup_policy(CleanupPolicy::CompactAndDelete)
        .retention(None);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (compactor, is_done) = (partition.clone(), &is_done);
        scope.spawn(move || {
            while !is_done.load(Ordering::SeqCst) {
                compactor.compact().unwrap();
            }
        });
        for offset in 0..6_000_u64 {
            partition
                .append(Record::new(offset.to_string()).key((offset % 100).to_string()))
                .unwrap();
            if offset % 50 == 49 {
                let start = partition
                    .delete_records_before(offset.saturating_sub(300))
                    .unwrap();
                assert!(offsets(&partition).iter().all(|offset| *offset >= start));
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
    let (start, left) = (partition.log_start_offset(), offsets(&partition));
    log.close().unwrap();
    let partition = Log::open(dir.path())
        .unwrap()
        .topic("t")
        .unwrap()
        .partition(0)
        .unwrap();
    assert_eq!(
        (partition.log_start_offset(), offsets(&partition)),
        (start, left)
    );
}
