//! Tests of the places in which a log works: below directories that refuse to be synced, on systems
//! that lack a call, and in directories that a killed process has begun to create.

use std::io::{Error as IoError, ErrorKind};
use std::path::Path;

use crate::config::{Durability, TopicConfig};
use crate::log::Log;
use crate::partition::Partition;
use crate::storage::faulty::FaultyDisk;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, SimulatedDisk, Storage};

fn open(storage: impl Storage, dir: &str) -> Log {
    Log::builder(dir).storage(storage).open().unwrap()
}

fn append(log: &Log, durability: Durability) -> u64 {
    let topic = log
        .open_topic("t", 1, TopicConfig::new().durability(durability))
        .unwrap();
    topic.append("a").unwrap().offset
}

#[test]
fn directories_above_the_log_need_no_sync() {
    for kind in [
        ErrorKind::InvalidInput,
        ErrorKind::Unsupported,
        ErrorKind::PermissionDenied,
        ErrorKind::Other,
    ] {
        let refuses = |dir: &Path| !dir.starts_with("/mnt/disk");
        let disk = FaultyDisk::failing_at(usize::MAX).without_sync_of(refuses, kind);
        disk.create_dir_all(Path::new("/mnt/disk")).unwrap();
        let log = open(disk.clone(), "/mnt/disk/app/data");
        append(&log, Durability::Synced);
        log.close().unwrap();
        assert_eq!(
            append(
                &open(disk.clone(), "/mnt/disk/app/data"),
                Durability::Synced
            ),
            1
        );
        let open_alone = || {
            Log::builder("/mnt/disk")
                .storage(disk.clone())
                .open_partition(TopicConfig::new())
        };
        drop(disk.remove_dir_all(Path::new("/mnt/disk/app")));
        open_alone().unwrap().append("a").unwrap();
        assert_eq!(
            open_alone().unwrap().append("b").unwrap().offset,
            1,
            "{kind:?}"
        );
    }
}

#[test]
fn a_file_system_without_a_sync_for_directories_holds_a_log() {
    for kind in [ErrorKind::InvalidInput, ErrorKind::Unsupported] {
        let refuses = |dir: &Path| !dir.starts_with("/auto/app/data");
        let disk = FaultyDisk::failing_at(usize::MAX).without_sync_of(refuses, kind);
        append(&open(disk.clone(), "/auto/app/data"), Durability::Os);
        assert_eq!(
            append(&open(disk, "/auto/app/data"), Durability::Os),
            1,
            "{kind:?}"
        );
    }
}

#[test]
fn a_refused_sync_of_a_directory_that_was_created_is_an_error() {
    let disk = FaultyDisk::failing_at(usize::MAX)
        .without_sync_of(|dir| dir == Path::new("/app"), ErrorKind::Other);
    assert!(Log::builder("/app/data").storage(disk).open().is_err());
}

#[test]
fn only_created_directories_are_synced_and_only_once() {
    let disk = RecordingDisk::over(FaultyDisk::failing_at(usize::MAX));
    let log = open(disk.clone(), "/a/b/c");
    let syncs = || {
        disk.take()
            .into_iter()
            .filter(|(call, path)| *call == "sync" && !path.starts_with("/a/b/c"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        syncs(),
        [
            ("sync", "/".into()),
            ("sync", "/a".into()),
            ("sync", "/a/b".into())
        ]
    );
    append(&log, Durability::Synced);
    log.flush().unwrap();
    log.close().unwrap();
    drop(open(disk.clone(), "/a/b/c"));
    assert_eq!(syncs(), []);
}

/// The process is killed at each of its storage calls. The next process makes all directories
/// durable.
#[test]
fn directories_that_a_killed_process_created_are_made_durable() {
    for call in 0.. {
        let disk = SimulatedDisk::new(call);
        disk.fail_calls_from(call, IoError::other("killed"));
        let opened = Log::builder("a/b/c").storage(disk.clone()).open();
        let was_whole = opened.is_ok_and(|log| log.close().is_ok());
        let next = disk.process_killed();
        append(&open(next.clone(), "a/b/c"), Durability::Synced);
        for crashed in next.crash_states().take(50) {
            assert_eq!(
                append(&open(crashed, "a/b/c"), Durability::Os),
                1,
                "killed at call {call}"
            );
        }
        if was_whole {
            assert!(call > 10);
            break;
        }
    }
}

#[test]
fn an_unclean_log_opens_if_the_cache_cannot_be_dropped() {
    let disk = FaultyDisk::failing_at(usize::MAX).without_drop_cache();
    let log = open(disk.clone(), "data");
    append(&log, Durability::Os);
    log.flush().unwrap();
    drop(log);
    disk.remove_file(Path::new("data/.kafka_cleanshutdown"))
        .unwrap();
    let log = open(disk, "data");
    assert!(!log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(append(&log, Durability::Os), 1);
    let partition: Partition = log.topic("t").unwrap().partition(0).unwrap();
    assert!(partition.reopen().unwrap().damage.is_none());
}

#[test]
fn a_closed_log_opens_without_reading_the_commits_of_groups() {
    let disk = MemoryDisk::new();
    let log = open(disk.clone(), "data");
    let partition = log
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append_batch(vec!["x"; 1_500]).unwrap();
    let group = log.consumer_group("g").unwrap();
    for offset in 0..1_500 {
        group
            .commit([(partition.id().clone(), offset.into())])
            .unwrap();
    }
    log.close().unwrap();
    let recording = RecordingDisk::over(disk);
    let log = open(recording.clone(), "data");
    assert!(
        recording.largest_read() < 30_000,
        "{}",
        recording.largest_read()
    );
    let committed = log
        .consumer_group("g")
        .unwrap()
        .committed(partition.id())
        .unwrap();
    assert_eq!(committed.map(|committed| committed.offset), Some(1_499));
    assert!(
        recording.largest_read() > 60_000,
        "commits are read on first use"
    );
}
