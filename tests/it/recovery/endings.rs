//! Logs that end too early: batches or whole files are missing at the end, and only the recovery
//! point shows it.

use std::fs;
use std::path::Path;

use annals::{Error, Log, ManualClock, Partition, Timestamp, TimestampType, TopicConfig};

use super::{check, kept, open, segments};
use crate::kafka::copy_dir;

/// Creates a log of at least three segments below the recovery point, closed or killed. Returns the
/// number of records. All records have the same time, so no index shows the last ones.
fn flushed(root: &Path, is_closed: bool) -> u64 {
    let live = root.with_extension("live");
    let log = Log::builder(&live)
        .clock(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
        .open()
        .unwrap();
    let config = TopicConfig::new()
        .segment_bytes(500)
        .timestamp_type(TimestampType::LogAppendTime)
        .retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for number in 0..20 {
        partition.append(format!("value {number}")).unwrap();
    }
    assert!(partition.segments().len() >= 3);
    log.flush().unwrap();
    if is_closed {
        log.close().unwrap();
    }
    copy_dir(&live, root);
    20
}

/// Cuts the last batch off the last segment.
fn cut_last_batch(root: &Path) {
    let last = segments(root).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let (mut at, mut next) = (0, 0);
    while next < bytes.len() {
        at = next;
        next += 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    }
    fs::write(&last, &bytes[..at]).unwrap();
}

/// Asserts that the remaining records are read, that the lost ones are reported, and that an append
/// is refused.
fn check_lost(log: &Log, partition: &Partition, left: u64, all: u64) {
    assert!(log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(partition.log_end_offset(), all);
    let mut reader = partition.read(..).unwrap();
    for offset in 0..left {
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}")
        );
    }
    let Err(Error::Corrupt(damage)) = reader.next_record() else {
        panic!("the read must report the loss")
    };
    assert_eq!(damage.offsets, left..all);
    assert!(reader.next_record().unwrap().is_none());
    assert_eq!(reader.next_offset(), all);
    assert_eq!(partition.read(all..).unwrap().count(), 0);
    assert!(matches!(
        partition.append("a replacement"),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn a_missing_batch_at_the_end_is_reported() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        cut_last_batch(&root);
        for _ in 0..2 {
            let (log, partition) = open(&root);
            check_lost(&log, &partition, all - 1, all);
            log.close().unwrap();
        }
        let log = Log::open_read_only(&root).unwrap();
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        assert!(
            partition.read(..).unwrap().any(|batch| batch.is_err()),
            "a read-only log must report the loss too"
        );
        drop((partition, log));

        let (log, partition) = open(&root);
        partition.truncate_to(all - 1).unwrap();
        assert_eq!(
            partition
                .append(format!("value {}", all - 1))
                .unwrap()
                .offset,
            all - 1
        );
        log.close().unwrap();
        let (log, partition) = open(&root);
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        check(&partition, all);
    }
}

#[test]
fn a_missing_segment_at_the_end_is_reported() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        let last = segments(&root).pop().unwrap();
        let base: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        fs::remove_file(last).unwrap();
        let (log, partition) = open(&root);
        check_lost(&log, &partition, base, all);
    }
}

#[test]
fn a_partition_that_lost_every_file_does_not_start_again_at_0() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        for file in segments(&root) {
            fs::remove_file(file).unwrap();
        }
        let (log, partition) = open(&root);
        check_lost(&log, &partition, 0, all);
        log.close().unwrap();
        let (log, partition) = open(&root);
        check_lost(&log, &partition, 0, all);
    }
}

#[test]
fn a_log_that_ends_below_its_log_start_continues_at_its_log_start() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    let log = Log::open(dir.path().join("live")).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new().retention(None))
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append_batch(["a", "b", "c"]).unwrap();
    log.flush().unwrap();
    let bytes = partition.segments()[0].bytes;
    partition.append_batch(["d", "e", "f"]).unwrap();
    assert_eq!(partition.delete_records_before(5).unwrap(), 5);
    copy_dir(&dir.path().join("live"), &root);
    // The unflushed records did not reach the disk, but the log start did.
    fs::OpenOptions::new()
        .write(true)
        .open(&segments(&root)[0])
        .unwrap()
        .set_len(bytes)
        .unwrap();
    let (log, partition) = open(&root);
    assert_eq!(partition.log_start_offset(), 5);
    assert_eq!(partition.log_end_offset(), 5);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(partition.read(..).unwrap().count(), 0);
    assert_eq!(partition.append("g").unwrap().offset, 5);
    log.close().unwrap();
    let (_log, partition) = open(&root);
    assert_eq!(partition.log_start_offset(), 5);
    assert_eq!(partition.log_end_offset(), 6);
    assert_eq!(
        partition
            .read(..)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .text(),
        "g"
    );
}

#[test]
fn a_truncation_below_the_damage_allows_appends_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    flushed(&root, false);
    let last = segments(&root).pop().unwrap();
    let base: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[75] ^= 4;
    fs::write(&last, &bytes).unwrap();
    let (_log, partition) = open(&root);
    assert!(matches!(partition.append("x"), Err(Error::Corrupt(_))));
    assert_eq!(fs::read(&last).unwrap(), bytes, "the file must not be cut");
    partition.truncate_to(base + 1).unwrap();
    assert!(
        matches!(partition.append("x"), Err(Error::Corrupt(_))),
        "the damage is still in the log"
    );
    partition.truncate_to(base).unwrap();
    assert_eq!(
        partition.append(format!("value {base}")).unwrap().offset,
        base
    );
    check(&partition, base + 1);
    assert_eq!(kept(&root), 0);
}

/// A regression: an emptied last segment without indexes was taken for a new segment.
#[test]
fn a_last_segment_that_was_emptied_and_lost_its_indexes_is_reported() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        let last = segments(&root).pop().unwrap();
        fs::write(&last, []).unwrap();
        for suffix in ["index", "timeindex"] {
            drop(fs::remove_file(last.with_extension(suffix)));
        }
        let left = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let (log, partition) = open(&root);
        check_lost(&log, &partition, left, all);
    }
}
