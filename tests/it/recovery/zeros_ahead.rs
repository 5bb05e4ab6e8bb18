//! Zeros ahead of the end, in partitions that sync often. They are taken neither for records nor
//! for damage. After a power cut they must not bring back a record above the end that recovery
//! chose.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use annals::{Durability, Log, Partition, TopicConfig};

use super::{kept, open, segments};
use crate::kafka::copy_dir;

/// The size of each value. All batches have one size.
const VALUE_BYTES: usize = 1_000;
/// The number of appends, which is enough for the partition to write zeros ahead.
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

/// Creates an open log. Its last segment has zeros ahead unless `config` turns them off.
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

/// Returns the bytes of the batches in the last segment and the size of its file.
fn sizes(root: &Path, partition: &Partition) -> (u64, u64) {
    let file = segments(root).pop().unwrap();
    (
        partition.segments().last().unwrap().bytes,
        fs::metadata(file).unwrap().len(),
    )
}

/// Creates a log with zeros ahead as a kill leaves it. Returns its directory, its last segment, and
/// the size of a batch.
fn killed(dir: &Path) -> (PathBuf, PathBuf, u64) {
    let (_log, partition) = filled(&dir.join("log"), TopicConfig::new());
    let root = dir.join("killed");
    copy_dir(&dir.join("log"), &root);
    let (used, bytes) = sizes(&root, &partition);
    assert!(
        bytes > used,
        "{used} of {bytes} bytes: the file must be longer than its batches"
    );
    let file = segments(&root).pop().unwrap();
    (root, file, used / RECORDS)
}

/// Overwrites batch `number` with zeros, like a power cut that lost one write of several.
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
fn zeros_ahead_are_written_for_small_syncs_and_removed_by_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = filled(dir.path(), TopicConfig::new());
    let (used, bytes) = sizes(dir.path(), &partition);
    assert!(bytes > used, "{used} of {bytes}");
    assert!(bytes <= used + (1 << 20), "{used} of {bytes}");
    check(&partition, RECORDS);
    log.close().unwrap();
    assert_eq!(sizes(dir.path(), &open(dir.path()).1), (used, used));
}

#[test]
fn zeros_ahead_are_not_written_if_they_are_turned_off_or_appends_do_not_sync() {
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
fn zeros_ahead_stay_within_the_segment_and_are_removed_by_a_roll() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 100_000;
    let (log, partition) = filled(dir.path(), TopicConfig::new().segment_bytes(limit));
    let (used, bytes) = sizes(dir.path(), &partition);
    assert!(used < bytes, "{used} of {bytes}");
    assert!(bytes <= u64::from(limit), "{used} of {bytes}");
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
fn records_survive_a_kill_that_leaves_zeros_ahead() {
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
fn a_batch_after_a_lost_batch_of_the_same_size_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file, batch_bytes) = killed(dir.path());
    let lost = RECORDS - 2;
    // The power cut lost the first of two unacknowledged writes and kept the second.
    lose_batch(&file, lost, batch_bytes);

    let (log, partition) = open(&root);
    assert!(
        log.recovery().has_losses(),
        "a batch after zeros must be reported"
    );
    assert_eq!(kept(&root), 1, "the batch must be kept");
    check(&partition, lost);
    append(&partition, lost);
    drop((log, partition));

    // The log is killed before it is closed. The batch after the replaced one must not come back.
    let after = dir.path().join("after");
    copy_dir(&root, &after);
    fs::remove_file(after.join(".kafka_cleanshutdown")).ok();
    let (_log, partition) = open(&after);
    check(&partition, lost + 1);
}

#[test]
fn a_rolled_segment_is_intact_after_a_power_cut_undid_its_trim() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("killed");
    let (log, partition) = filled(
        &dir.path().join("log"),
        TopicConfig::new().segment_bytes(50_000),
    );
    assert!(partition.segments().len() > 1);
    copy_dir(&dir.path().join("log"), &root);
    // Without a checkpoint, only the batches show the end of the log.
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
    assert_eq!(
        fs::metadata(&sealed).unwrap().len(),
        length,
        "recovery must trim the segment"
    );
    check(&copied, RECORDS);
    drop((log, partition));
}
