//! Zeros ahead of the end, in partitions that sync often: they are never taken for records, never
//! for damage, and what a power cut makes of them never lets a record rise again that the log ended
//! before.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use annals::{Durability, Log, Partition, TopicConfig};

use super::{kept, open, segments};
use crate::kafka::copy_dir;

/// Batches of one size, more than zeros ahead wait for.
const VALUE_BYTES: usize = 1_000;
const RECORDS: u64 = 90;

fn value(offset: u64) -> String {
    format!("{offset:0>VALUE_BYTES$}")
}

fn append(partition: &Partition, offset: u64) {
    assert_eq!(partition.append(value(offset)).unwrap().offset, offset);
}

fn check(partition: &Partition, end: u64) {
    assert_eq!(partition.log_end_offset(), end);
    let mut reader = partition.read(..).unwrap();
    for offset in 0..end {
        assert_eq!(reader.next_record().unwrap().unwrap().text(), value(offset));
    }
    assert!(reader.next_record().unwrap().is_none());
}

/// A log that is open, and has zeros ahead unless `config` says no.
fn filled(root: &Path, config: TopicConfig) -> (Log, Partition) {
    let log = Log::open(root).unwrap();
    let config = config.durability(Durability::Synced).retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    (0..RECORDS).for_each(|offset| append(&partition, offset));
    (log, partition)
}

/// Bytes of batches and of the file, of the last segment.
fn sizes(root: &Path, partition: &Partition) -> (u64, u64) {
    let file = segments(root).pop().unwrap();
    (
        partition.segments().last().unwrap().bytes,
        fs::metadata(file).unwrap().len(),
    )
}

/// What a kill leaves of a log with zeros ahead; its file, and the size of one batch.
fn killed(dir: &Path) -> (PathBuf, PathBuf, u64) {
    let (_log, partition) = filled(&dir.join("log"), TopicConfig::new());
    let root = dir.join("killed");
    copy_dir(&dir.join("log"), &root);
    let (used, bytes) = sizes(&root, &partition);
    assert!(
        bytes > used,
        "{used} of {bytes}: the file is longer than its batches"
    );
    let file = segments(&root).pop().unwrap();
    (root, file, used / RECORDS)
}

/// Writes zeros over batch `number`, as a power cut may that lost one write of several.
fn lose_batch(file: &Path, number: u64, batch_bytes: u64) {
    let zeros = vec![0; usize::try_from(batch_bytes).unwrap()];
    OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(&zeros, number * batch_bytes)
        .unwrap();
}

#[test]
fn they_are_written_where_syncs_are_small_and_go_at_close() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = filled(dir.path(), TopicConfig::new());
    let (used, bytes) = sizes(dir.path(), &partition);
    assert!(
        bytes > used && bytes <= used + (1 << 20),
        "{used} of {bytes}"
    );
    check(&partition, RECORDS);
    log.close().unwrap();
    assert_eq!(sizes(dir.path(), &open(dir.path()).1), (used, used));
}

#[test]
fn there_are_none_where_they_are_turned_off_or_nobody_waits_for_syncs() {
    for config in [
        TopicConfig::new().preallocate(false),
        TopicConfig::new().segment_bytes(1_100),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_log, partition) = filled(dir.path(), config);
        let (used, bytes) = sizes(dir.path(), &partition);
        assert_eq!(used, bytes);
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    (0..RECORDS).for_each(|offset| append(&partition, offset));
    let (used, bytes) = sizes(dir.path(), &partition);
    assert_eq!(used, bytes);
}

#[test]
fn they_stay_within_the_segment_and_go_when_it_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 100_000;
    let (log, partition) = filled(dir.path(), TopicConfig::new().segment_bytes(limit));
    let (used, bytes) = sizes(dir.path(), &partition);
    assert!(
        used < bytes && bytes <= u64::from(limit),
        "{used} of {bytes}"
    );
    (RECORDS..3 * RECORDS).for_each(|offset| append(&partition, offset));
    let infos = partition.segments();
    assert!(infos.len() >= 3);
    for info in infos.iter().filter(|info| !info.is_active) {
        assert_eq!(fs::metadata(&info.path).unwrap().len(), info.bytes);
    }
    check(&partition, 3 * RECORDS);
    log.close().unwrap();
    check(&open(dir.path()).1, 3 * RECORDS);
}

#[test]
fn a_kill_leaves_them_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file, batch_bytes) = killed(dir.path());
    let log = Log::open_read_only(&root).unwrap();
    check(&log.topic("t").unwrap().partition(0).unwrap(), RECORDS);
    drop(log);

    let (log, partition) = open(&root);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(kept(&root), 0);
    check(&partition, RECORDS);
    append(&partition, RECORDS);
    log.close().unwrap();
    assert_eq!(
        fs::metadata(file).unwrap().len(),
        batch_bytes * (RECORDS + 1)
    );
}

#[test]
fn a_batch_behind_a_lost_one_of_its_size_never_rises_again() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file, batch_bytes) = killed(dir.path());
    let lost = RECORDS - 2;
    // Of two writes that nobody was told of the power cut lost the first and kept the second.
    lose_batch(&file, lost, batch_bytes);

    let (log, partition) = open(&root);
    assert!(log.recovery().has_losses(), "a batch behind zeros is told");
    assert_eq!(kept(&root), 1, "and kept");
    check(&partition, lost);
    append(&partition, lost);
    drop((log, partition));

    // Killed before it is closed: whatever stood behind the batch that took the place of the lost
    // one is gone.
    let after = dir.path().join("after");
    copy_dir(&root, &after);
    fs::remove_file(after.join(".kafka_cleanshutdown")).ok();
    let (_log, partition) = open(&after);
    check(&partition, lost + 1);
}

#[test]
fn a_roll_whose_trim_a_power_cut_took_back_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("killed");
    let (log, partition) = filled(
        &dir.path().join("log"),
        TopicConfig::new().segment_bytes(50_000),
    );
    assert!(partition.segments().len() > 1);
    copy_dir(&dir.path().join("log"), &root);
    // As before the first checkpoint: nothing but the batches tells what was there.
    let checkpoint = root.join("recovery-point-offset-checkpoint");
    fs::remove_file(checkpoint).ok();
    let sealed = segments(&root).remove(0);
    let length = fs::metadata(&sealed).unwrap().len();
    OpenOptions::new()
        .append(true)
        .open(&sealed)
        .unwrap()
        .write_all(&[0; 10_000])
        .unwrap();
    let (reopened, copied) = open(&root);
    assert!(
        !reopened.recovery().has_losses(),
        "{:?}",
        reopened.recovery()
    );
    assert_eq!(fs::metadata(&sealed).unwrap().len(), length, "trimmed");
    check(&copied, RECORDS);
    drop((log, partition));
}
