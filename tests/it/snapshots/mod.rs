//! Snapshots of a log on a real disk: the files that are shared, and what both logs may do with
//! them.

mod in_broker;
mod under_load;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use annals::{Durability, Error, Log, Partition, TopicConfig};

use crate::kafka::{Gaps, KafkaTools, assert_clean};

/// Creates a log of one partition with several sealed segments.
fn filled(dir: &Path) -> (Log, Partition) {
    let log = Log::open(dir).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(2_000)
        .index_interval_bytes(200)
        .retention(None);
    let lines = log.create_topic("lines", 1, config).unwrap();
    let partition = lines.partition(0).unwrap();
    for number in 0..100 {
        partition.append(format!("line {number}")).unwrap();
    }
    log.flush().unwrap();
    (log, partition)
}

fn texts(log: &Log) -> Vec<String> {
    let partition = log.topic("lines").unwrap().partition(0).unwrap();
    let mut reader = partition.read(..).unwrap();
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        texts.push(record.text().into_owned());
    }
    texts
}

/// Returns the names and the number of names of the files of `lines-0` with this suffix, in order.
fn files(dir: &Path, suffix: &str) -> Vec<(String, u64)> {
    let mut files: Vec<_> = fs::read_dir(dir.join("lines-0"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().nlink())
        })
        .filter(|(name, _)| name.ends_with(suffix))
        .collect();
    files.sort();
    files
}

#[test]
fn a_snapshot_takes_the_room_of_the_active_segment() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    let (log, partition) = filled(&data);
    let report = log.snapshot(&copy).unwrap();
    for suffix in [".log", ".index", ".timeindex"] {
        let (in_log, in_copy) = (files(&data, suffix), files(&copy, suffix));
        let names = |files: &[(String, u64)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert!(in_copy.len() > 3);
        assert_eq!(names(&in_copy), names(&in_log));
        let (last, sealed) = in_copy.split_last().unwrap();
        assert!(sealed.iter().all(|(_, names)| *names == 2), "{in_copy:?}");
        assert_eq!(last.1, 1, "the active segment is copied");
    }
    let segments = partition.segments();
    let (active, sealed) = segments.split_last().unwrap();
    let sealed: u64 = sealed.iter().map(|segment| segment.bytes).sum();
    assert!(report.bytes_linked >= sealed, "{report:?}");
    // The indexes of the active segment, and the files that describe the log.
    assert!(report.bytes_copied < active.bytes + 4_000, "{report:?}");
    assert_eq!(texts(&Log::open(&copy).unwrap()), texts(&log));
}

#[test]
fn logs_that_share_files_do_not_change_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy, again] = ["data", "copy", "again"].map(|name| dir.path().join(name));
    let (log, partition) = filled(&data);
    let before = texts(&log);
    log.snapshot(&copy).unwrap();
    log.snapshot(&again).unwrap();
    // Both cut a segment that they share, and write other records.
    let second = Log::open(&copy).unwrap();
    let cut = second.topic("lines").unwrap().partition(0).unwrap();
    cut.truncate_to(33).unwrap();
    partition.truncate_to(41).unwrap();
    for number in 0..50 {
        cut.append(format!("copy {number}")).unwrap();
        partition.append(format!("log {number}")).unwrap();
    }
    let expected = |end: usize, name: &str| {
        let new = (0..50).map(|number| format!("{name} {number}"));
        before[..end].iter().cloned().chain(new).collect::<Vec<_>>()
    };
    second.close().unwrap();
    partition.delete_records_before(20).unwrap();
    log.maintain().unwrap();
    log.close().unwrap();
    assert_eq!(texts(&Log::open(&copy).unwrap()), expected(33, "copy"));
    assert_eq!(texts(&Log::open(&data).unwrap()), expected(41, "log")[20..]);
    let third = Log::open(&again).unwrap();
    assert!(third.recovery().clean);
    assert_eq!(texts(&third), before);
}

#[test]
fn a_snapshot_of_a_snapshot_shares_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy, again] = ["data", "copy", "again"].map(|name| dir.path().join(name));
    let (log, _) = filled(&data);
    log.snapshot(&copy).unwrap();
    let copied = Log::open(&copy).unwrap();
    copied.snapshot(&again).unwrap();
    assert!(files(&again, ".log").iter().any(|(_, names)| *names == 3));
    fs::remove_dir_all(&copy).unwrap_or_default();
    drop(copied);
    log.close().unwrap();
    fs::remove_dir_all(&data).unwrap();
    let left = Log::open(&again).unwrap();
    assert_eq!(texts(&left).len(), 100);
}

#[test]
fn a_snapshot_on_another_file_system_is_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let device = |dir: &tempfile::TempDir| fs::metadata(dir.path()).unwrap().dev();
    if device(&dir) == device(&other) {
        return;
    }
    let (log, partition) = filled(&dir.path().join("data"));
    // Retention uses the time of a file whose records have no timestamps.
    let first = partition.segments()[0].path.clone();
    let report = log.snapshot(other.path().join("copy")).unwrap();
    assert_eq!(report.bytes_linked, 0);
    let copied = other.path().join("copy/lines-0");
    let (from, to) = (
        fs::metadata(&first).unwrap(),
        fs::metadata(copied.join(first.file_name().unwrap())).unwrap(),
    );
    assert_eq!(from.mtime(), to.mtime());
    let copy = Log::open(other.path().join("copy")).unwrap();
    assert!(copy.recovery().clean);
    assert_eq!(texts(&copy), texts(&log));
}

#[test]
fn links_and_parents_in_the_path_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (log, _) = filled(&path("data"));
    fs::create_dir(path("disk")).unwrap();
    std::os::unix::fs::symlink(path("disk"), path("link")).unwrap();
    log.snapshot(path("link")).unwrap();
    assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
    assert_eq!(texts(&Log::open(path("disk")).unwrap()).len(), 100);
    log.snapshot(path("disk/../a/b")).unwrap();
    assert_eq!(texts(&Log::open(path("a/b")).unwrap()).len(), 100);
    std::os::unix::fs::symlink(path("data"), path("into")).unwrap();
    for (refused, reason) in [
        ("into/copy", "inside the log"),
        (
            "absent/../copy",
            "`..` after a directory that does not exist",
        ),
        ("data/lines-0/00000000000000000000.log", "it is a file"),
        ("disk", "not empty"),
    ] {
        let error = log.snapshot(path(refused)).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{refused}: {error}");
    }
    assert!(!path("absent").exists() && !path("copy").exists());
}

#[test]
fn zeros_ahead_are_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    let log = Log::open(&data).unwrap();
    let config = TopicConfig::new().durability(Durability::Synced);
    let partition = log
        .create_topic("lines", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for _ in 0..100 {
        partition.append("x".repeat(1_000)).unwrap();
    }
    let bytes = partition.segments()[0].bytes;
    let name = "lines-0/00000000000000000000.log";
    assert!(fs::metadata(data.join(name)).unwrap().len() > bytes);
    log.snapshot(&copy).unwrap();
    assert_eq!(fs::metadata(copy.join(name)).unwrap().len(), bytes);
    assert_eq!(texts(&Log::open(&copy).unwrap()), texts(&log));
}

#[test]
fn two_threads_that_choose_one_directory_do_not_mix_their_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = filled(&dir.path().join("data"));
    for round in 0..10 {
        let copy = dir.path().join(format!("copy {round}"));
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| log.snapshot(&copy)))
                .collect();
            threads
                .into_iter()
                .map(|made| made.join().unwrap())
                .collect()
        });
        assert!(made.iter().any(Result::is_ok), "{made:?}");
        assert_eq!(texts(&Log::open(&copy).unwrap()).len(), 100);
    }
    let names = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 11, "no directory is left");
}

#[test]
fn the_dump_tool_of_a_broker_finds_no_fault_in_a_snapshot() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    let (log, _) = filled(&data);
    log.snapshot(&copy).unwrap();
    assert_clean(&tools, &[&copy], Gaps::Refused);
}
