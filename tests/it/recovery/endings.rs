//! Logs that end too early: whole batches, whole files are gone from the end, and only the recovery
//! point tells.

use std::fs;
use std::path::Path;

use annals::{Error, Log, ManualClock, Partition, Timestamp, TimestampType, TopicConfig};

use super::{check, kept, open, segments};
use crate::kafka::copy_dir;

/// A log of three segments at least, all of it below the recovery point; closed, or as a kill left
/// it. All records have the same time, so that no index tells of the last ones.
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

/// What is left is read, what is lost is told, and nothing is appended in its place.
fn check_told(log: &Log, partition: &Partition, left: u64, all: u64) {
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
        panic!("the loss is told")
    };
    assert_eq!(damage.offsets, left..all);
    assert!(reader.next_record().unwrap().is_none());
    assert_eq!(reader.next_offset(), all);
    assert_eq!(partition.read(all..).unwrap().count(), 0);
    assert!(matches!(
        partition.append("in its place"),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn a_batch_that_is_gone_from_the_end_is_told() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        cut_last_batch(&root);
        for _ in 0..2 {
            let (log, partition) = open(&root);
            check_told(&log, &partition, all - 1, all);
            log.close().unwrap();
        }
        let log = Log::open_read_only(&root).unwrap();
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        assert!(
            partition.read(..).unwrap().any(|batch| batch.is_err()),
            "also to who only reads"
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
fn a_segment_that_is_gone_from_the_end_is_told() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        let last = segments(&root).pop().unwrap();
        let base: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        fs::remove_file(last).unwrap();
        let (log, partition) = open(&root);
        check_told(&log, &partition, base, all);
    }
}

#[test]
fn a_partition_that_lost_every_file_does_not_begin_anew() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        let all = flushed(&root, is_closed);
        for file in segments(&root) {
            fs::remove_file(file).unwrap();
        }
        let (log, partition) = open(&root);
        check_told(&log, &partition, 0, all);
        log.close().unwrap();
        let (log, partition) = open(&root);
        check_told(&log, &partition, 0, all);
    }
}

#[test]
fn a_log_that_ends_below_its_start_goes_on_at_its_start() {
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
    // What was not flushed did not reach the disk, but the log start did.
    fs::OpenOptions::new()
        .write(true)
        .open(&segments(&root)[0])
        .unwrap()
        .set_len(bytes)
        .unwrap();
    let (log, partition) = open(&root);
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (5, 5)
    );
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(partition.read(..).unwrap().count(), 0);
    assert_eq!(partition.append("g").unwrap().offset, 5);
    log.close().unwrap();
    let (_log, partition) = open(&root);
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (5, 6)
    );
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
fn a_truncation_below_the_damage_is_a_way_out() {
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
    assert_eq!(fs::read(&last).unwrap(), bytes, "nothing is cut");
    partition.truncate_to(base + 1).unwrap();
    assert!(
        matches!(partition.append("x"), Err(Error::Corrupt(_))),
        "the damage is still there"
    );
    partition.truncate_to(base).unwrap();
    assert_eq!(
        partition.append(format!("value {base}")).unwrap().offset,
        base
    );
    check(&partition, base + 1);
    assert_eq!(kept(&root), 0);
}

/// What was broken: a last segment that was empty and had no index passed as one that nobody had
/// written to yet.
#[test]
fn a_last_segment_that_was_emptied_and_lost_its_indexes_is_told() {
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
        check_told(&log, &partition, left, all);
    }
}
