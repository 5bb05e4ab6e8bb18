//! Snapshots of logs on disks that fail, fill up or lose power, and into directories that are
//! refused.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::clock::{ManualClock, Timestamp};
use crate::config::{CleanupPolicy, Durability, LogConfig, TopicConfig};
use crate::error::Error;
use crate::format::file_name;
use crate::log::{Log, Recovery, Snapshot};
use crate::partition::ReadOptions;
use crate::storage::faulty::{Fault, FaultyDisk};
use crate::storage::{Access, MemoryDisk, SimulatedDisk, Storage};
use crate::topic_partition::TopicPartition;

const COPY: &str = "/backup/monday";

fn open_in(disk: &(impl Storage + Clone), dir: &str) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let config = LogConfig::new().recovery_threads(1);
    let builder = Log::builder(dir).storage(disk.clone()).clock(clock);
    builder.config(config).open().unwrap()
}

fn append(log: &Log, topic: &str, count: usize) {
    let topic = log.topic(topic).unwrap();
    for partition in topic.partitions() {
        for _ in 0..count {
            let number = partition.log_end_offset();
            partition
                .append((format!("key {}", number % 5), format!("value {number}")))
                .unwrap();
        }
    }
}

fn commit(log: &Log) {
    let mut consumer = log.consumer_group("g").unwrap().join("orders").unwrap();
    while !consumer.poll(Duration::ZERO).unwrap().is_empty() {}
    consumer.commit().unwrap();
}

/// Creates a log of a topic with two partitions of several segments, a compacted topic, a topic
/// that lost its first records, an empty topic, and the positions of a group.
fn filled(disk: &(impl Storage + Clone)) -> Log {
    let log = open_in(disk, "data");
    let small = TopicConfig::new().segment_bytes(400);
    log.create_topic("orders", 2, small.clone()).unwrap();
    let compacted = small.clone().cleanup_policy(CleanupPolicy::Compact);
    log.create_topic("table", 1, compacted.min_cleanable_dirty_ratio(0.0))
        .unwrap();
    log.create_topic("deleted", 1, small).unwrap();
    log.create_topic("empty", 1, TopicConfig::new()).unwrap();
    append(&log, "orders", 7);
    append(&log, "table", 12);
    append(&log, "deleted", 12);
    log.topic("deleted")
        .unwrap()
        .partition(0)
        .unwrap()
        .delete_records_before(6)
        .unwrap();
    commit(&log);
    log.maintain().unwrap();
    // The next records are on no device yet, and a roll sealed some of them.
    append(&log, "orders", 5);
    commit(&log);
    append(&log, "orders", 2);
    log
}

type Records = Vec<(u64, String)>;

/// The state that a copy must have.
#[derive(Debug, PartialEq)]
struct State {
    partitions: BTreeMap<String, (u64, u64, Records)>,
    configs: BTreeMap<String, (Option<String>, String)>,
    positions: Vec<Option<u64>>,
}

fn state(log: &Log) -> State {
    let mut state = State {
        partitions: BTreeMap::new(),
        configs: BTreeMap::new(),
        positions: Vec::new(),
    };
    for topic in log.topics() {
        let facts = (topic.id(), format!("{:?}", topic.config()));
        state.configs.insert(topic.name().to_owned(), facts);
        for partition in topic.partitions() {
            let mut records = Vec::new();
            let mut reader = partition.read_with(.., ReadOptions::new()).unwrap();
            while let Some(record) = reader.next_record().unwrap() {
                records.push((record.offset(), record.text().into_owned()));
            }
            let bounds = (
                partition.log_start_offset(),
                partition.log_end_offset(),
                records,
            );
            state.partitions.insert(partition.id().to_string(), bounds);
        }
    }
    let group = log.consumer_group("g").unwrap();
    for number in 0..2 {
        let committed = group.committed(&TopicPartition::new("orders", number));
        state
            .positions
            .push(committed.unwrap().map(|committed| committed.offset));
    }
    state
}

/// Opens the snapshot, which must be a log that was closed cleanly, and compares it.
fn check(disk: &(impl Storage + Clone), expected: &State, label: &str) {
    let copy = open_in(disk, COPY);
    let recovery = copy.recovery();
    assert!(recovery.clean, "{label}");
    assert!(recovery.partitions.is_empty(), "{label}: {recovery:?}");
    assert!(recovery.lowered_commits.is_empty(), "{label}");
    assert!(recovery.foreign.is_empty(), "{label}: {recovery:?}");
    assert_eq!(state(&copy), *expected, "{label}");
    copy.close().unwrap();
}

/// Returns the names in the directory of the snapshots.
fn beside(disk: &impl Storage) -> Vec<String> {
    let listed = disk.list(Path::new("/backup")).unwrap_or_default();
    listed.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_snapshot_is_the_log_and_both_continue() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    let before = state(&log);
    let report = log.snapshot(COPY).unwrap();
    assert!(
        report.bytes_linked > 0 && report.bytes_copied > 0,
        "{report:?}"
    );
    check(&disk, &before, "at once");
    append(&log, "orders", 9);
    let grown = state(&log);
    let copy = open_in(&disk, COPY);
    let orders = copy.topic("orders").unwrap().partition(0).unwrap();
    orders.append("only in the copy").unwrap();
    orders.truncate_to(3).unwrap();
    copy.maintain().unwrap();
    copy.delete_topic("table").unwrap();
    copy.close().unwrap();
    assert_eq!(state(&log), grown, "the copy does not change the log");
    log.delete_topic("deleted").unwrap();
    let orders = log.topic("orders").unwrap().partition(1).unwrap();
    orders.truncate_to(2).unwrap();
    log.close().unwrap();
    let copy = open_in(&disk, COPY);
    assert_eq!(
        state(&copy).partitions["orders-1"],
        before.partitions["orders-1"],
        "the log does not change the copy"
    );
    assert_eq!(copy.topic("deleted").unwrap().partitions().len(), 1);
}

#[test]
fn the_moment_is_kept_while_the_files_are_removed() {
    let changes: [fn(&Log); 6] = [
        |log| log.delete_topic("orders").unwrap(),
        |log| {
            for partition in log.topic("orders").unwrap().partitions() {
                partition.truncate_to(1).unwrap();
                partition.append("instead").unwrap();
            }
        },
        |log| {
            let orders = log.topic("orders").unwrap().partition(0).unwrap();
            orders
                .delete_records_before(orders.log_end_offset())
                .unwrap();
            log.maintain().unwrap();
        },
        |log| {
            let orders = log.topic("orders").unwrap().partition(1).unwrap();
            orders.restart_at(1_000).unwrap();
        },
        |log| {
            append(log, "table", 20);
            log.topic("table")
                .unwrap()
                .partition(0)
                .unwrap()
                .roll()
                .unwrap();
            assert!(log.maintain().unwrap().records_removed > 0);
        },
        |log| {
            let more = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
            let orders = log.topic("orders").unwrap();
            orders.update_config(more.retention(None)).unwrap();
            orders.increase_partitions_to(4).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let disk = MemoryDisk::new();
        let log = filled(&disk);
        let before = state(&log);
        let topics = log.core().moment().unwrap();
        change(&log);
        disk.create_dir_all(Path::new(COPY)).unwrap();
        log.core().fill(Path::new(COPY), &topics).unwrap();
        drop(topics);
        // The config of a topic is not part of the moment.
        if number != 5 {
            check(&disk, &before, &format!("change {number}"));
        }
        let copy = open_in(&disk, COPY);
        assert!(copy.recovery().clean && copy.recovery().partitions.is_empty());
        assert_eq!(
            state(&copy).partitions,
            before.partitions,
            "change {number}"
        );
    }
}

#[test]
fn a_log_without_topics_can_be_copied() {
    let disk = MemoryDisk::new();
    let log = open_in(&disk, "data");
    log.snapshot(COPY).unwrap();
    let copy = open_in(&disk, COPY);
    assert!(copy.recovery().clean);
    assert_eq!(
        (copy.topics().len(), copy.cluster_id()),
        (0, log.cluster_id())
    );
}

#[test]
fn sealed_segments_are_shared_unless_the_file_systems_differ() {
    let shared = {
        let disk = MemoryDisk::new();
        filled(&disk).snapshot(COPY).unwrap()
    };
    for kind in [
        ErrorKind::CrossesDevices,
        ErrorKind::PermissionDenied,
        ErrorKind::TooManyLinks,
        ErrorKind::Unsupported,
    ] {
        let disk = FaultyDisk::failing_at(0).without_links(kind);
        let log = filled(&disk);
        let before = state(&log);
        let report = log.snapshot(COPY).unwrap();
        assert_eq!(
            report,
            Snapshot {
                bytes_linked: 0,
                bytes_copied: shared.bytes_linked + shared.bytes_copied,
            },
            "{kind:?}"
        );
        check(&disk, &before, "copied");
    }
    let disk = FaultyDisk::failing_at(0).without_links(ErrorKind::Interrupted);
    let refused = filled(&disk).snapshot(COPY).unwrap_err();
    assert!(matches!(refused, Error::Io { .. }), "{refused}");
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_unchanged() {
    let disk = SimulatedDisk::new(1);
    let log = filled(&disk);
    disk.create_dir_all(Path::new("/full")).unwrap();
    disk.open(Path::new("/full/file"), Access::CreateNew)
        .unwrap();
    log.snapshot(COPY).unwrap();
    let before = disk.fingerprint();
    for (dir, reason) in [
        ("", "the path is empty"),
        (
            "/full",
            "it is not empty: choose a new or an empty directory",
        ),
        (COPY, "it is not empty: choose a new or an empty directory"),
        (
            "/full/file",
            "it is a file: choose a new or an empty directory",
        ),
        ("/", "it is not empty: choose a new or an empty directory"),
        (
            "data",
            "it is not empty: choose a new or an empty directory",
        ),
        (
            "data/copy",
            "it is inside the log: choose a directory outside of /data",
        ),
        (
            "data/a/b",
            "it is inside the log: choose a directory outside of /data",
        ),
        (
            "/full/../data/copy",
            "it is inside the log: choose a directory outside of /data",
        ),
    ] {
        let refused = log.snapshot(dir).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("cannot make a snapshot in {dir}: {reason}")
        );
    }
    assert_eq!(disk.fingerprint(), before, "nothing was changed");
}

#[test]
fn an_empty_directory_and_missing_parents_are_used() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    let before = state(&log);
    disk.create_dir_all(Path::new(COPY)).unwrap();
    log.snapshot(COPY).unwrap();
    check(&disk, &before, "an empty directory");
    log.snapshot("/new/parents/of/it").unwrap();
    log.snapshot("relative").unwrap();
    for dir in ["/new/parents/of/it", "relative"] {
        assert_eq!(state(&open_in(&disk, dir)), before, "{dir}");
    }
}

#[test]
fn a_read_only_or_closed_log_makes_no_snapshot() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    let reader = Log::builder("data").storage(disk.clone()).open_read_only();
    let refused = reader.unwrap().snapshot(COPY).unwrap_err();
    assert!(matches!(refused, Error::ReadOnly), "{refused}");
    let clone = log.clone();
    log.close().unwrap();
    let refused = clone.snapshot(COPY).unwrap_err();
    assert!(matches!(refused, Error::Closed), "{refused}");
    assert!(beside(&disk).is_empty());
}

/// Makes a snapshot with call `fails_at` failing. Returns whether that call was reached.
fn run(fault: Fault, fails_at: usize) -> bool {
    let label = format!("{fault:?} at call {fails_at}");
    let disk = FaultyDisk::failing_at(fails_at);
    let log = filled(&disk);
    let before = state(&log);
    disk.set_fault(Some(fault));
    let made = log.snapshot(COPY);
    disk.set_fault(None);
    if let Err(error) = &made {
        let is_full = matches!(fault, Fault::Full | Fault::FullForGood);
        match error {
            Error::DiskFull { .. } => assert!(is_full, "{label}: {error}"),
            Error::Io { .. } | Error::SyncFailed { .. } => assert!(!is_full, "{label}: {error}"),
            other => panic!("{label}: {other}"),
        }
    }
    // If only the last sync failed, the snapshot is there.
    let is_there = beside(&disk).contains(&"monday".to_owned());
    assert!(made.is_err() || is_there, "{label}");
    if is_there {
        check(&disk, &before, &label);
        disk.remove_dir_all(Path::new(COPY)).unwrap();
    }
    if matches!(fault, Fault::Any | Fault::Full) {
        assert!(beside(&disk).is_empty(), "{label}: {:?}", beside(&disk));
    }
    for topic in log.topics() {
        for partition in topic.partitions() {
            partition.reopen().unwrap();
        }
    }
    assert_eq!(state(&log), before, "{label}");
    log.snapshot(COPY).unwrap();
    assert_eq!(beside(&disk), ["monday"], "{label}: leftovers are removed");
    check(&disk, &before, &label);
    append(&log, "orders", 1);
    log.close().unwrap();
    disk.has_failed()
}

#[test]
fn a_failed_call_leaves_no_snapshot_and_an_unchanged_log() {
    for fault in [
        Fault::Full,
        Fault::FullForGood,
        Fault::Any,
        Fault::AnyForGood,
    ] {
        let runs = (0..10_000).take_while(|fails_at| run(fault, *fails_at));
        let runs = runs.count();
        assert!(runs > 40, "{fault:?}: {runs} runs");
    }
}

#[test]
fn a_power_cut_leaves_a_whole_snapshot_or_none() {
    let mut whole = 0;
    for call in 0.. {
        let disk = SimulatedDisk::new(call);
        let log = filled(&disk);
        let before = state(&log);
        disk.create_dir_all(Path::new("/backup")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.cut_power_at(disk.calls() + call);
        let made = log.snapshot(COPY);
        let is_over = made.is_ok();
        assert!(is_over || disk.has_lost_power(), "call {call}: {made:?}");
        // The disk without any step that was not durable, and another one.
        let states = disk.crash_states().take(1).chain([disk.crash()]);
        for (number, left) in states.enumerate() {
            let label = format!("call {call}, state {number}");
            let names = beside(&left);
            if names.contains(&"monday".to_owned()) {
                whole += 1;
                check(&left, &before, &label);
                continue;
            }
            assert!(!is_over, "{label}: the snapshot was durable");
            let log = open_in(&left, "data");
            let damaged = log.recovery().partitions.iter();
            let mut damaged = damaged.filter(|(_, recovery)| recovery.damage.is_some());
            assert!(damaged.next().is_none(), "{label}: {:?}", log.recovery());
            log.snapshot(COPY).unwrap();
            assert_eq!(beside(&left), ["monday"], "{label}: leftovers are removed");
        }
        if is_over {
            assert!(call > 100, "only {call} calls");
            break;
        }
    }
    assert!(whole > 1, "{whole} snapshots were whole");
}

/// After a power cut the log may end in a segment that a snapshot shares, because the name of the
/// next one was not durable.
#[test]
fn a_log_that_loses_power_after_a_snapshot_does_not_change_it() {
    for seed in 0..30 {
        let disk = SimulatedDisk::new(seed);
        let log = filled(&disk);
        let before = state(&log);
        log.snapshot(COPY).unwrap();
        append(&log, "orders", 3);
        let left = disk.crash();
        let log = open_in(&left, "data");
        append(&log, "orders", 9);
        log.close().unwrap();
        check(&left, &before, &format!("seed {seed}"));
    }
}

#[test]
fn a_killed_snapshot_is_removed_by_the_next_one() {
    let disk = SimulatedDisk::new(3);
    let log = filled(&disk);
    let calls = disk.calls();
    log.snapshot("/other").unwrap();
    let half = (disk.calls() - calls) / 2;
    disk.fail_calls_from(disk.calls() + half, std::io::Error::other("killed"));
    log.snapshot(COPY).unwrap_err();
    disk.heal();
    let left = beside(&disk);
    assert_eq!(left.len(), 1, "{left:?}");
    let number = left[0].strip_prefix("monday.").unwrap();
    assert!(file_name::is_temporary(number), "{left:?}");
    // Another target does not touch it.
    log.snapshot("/backup/tuesday").unwrap();
    assert_eq!(beside(&disk).len(), 2);
    // A directory that is locked belongs to a snapshot in progress.
    let lock = Path::new("/backup").join(&left[0]).join(file_name::LOCK);
    let held = disk.lock(&lock).unwrap();
    log.snapshot(COPY).unwrap();
    assert_eq!(beside(&disk).len(), 3);
    drop(held);
    disk.remove_dir_all(Path::new(COPY)).unwrap();
    log.snapshot(COPY).unwrap();
    assert_eq!(beside(&disk), ["monday", "tuesday"]);
}

#[test]
fn a_damaged_partition_is_copied_and_found_damaged_again() {
    let disk = SimulatedDisk::new(5);
    let log = filled(&disk);
    log.flush().unwrap();
    let whole = state(&log);
    let segments = log
        .topic("orders")
        .unwrap()
        .partition(0)
        .unwrap()
        .segments();
    let path = &segments.last().unwrap().path;
    let killed = disk.fork();
    let file = killed.open(path, Access::Write).unwrap();
    file.set_len(file.bytes().unwrap() - 9).unwrap();
    let log = open_in(&killed, "data");
    let orders = log.topic("orders").unwrap().partition(0).unwrap();
    let refused = orders.append("refused").unwrap_err();
    assert!(matches!(refused, Error::Corrupt(_)), "{refused}");
    log.snapshot(COPY).unwrap();
    let linked = segments
        .iter()
        .map(|segment| killed.metadata(&segment.path).unwrap().names);
    assert!(
        linked.max() == Some(1),
        "the files of a damaged partition are copied, so that a repair changes one log"
    );
    let copy = open_in(&killed, COPY);
    let (found, again) = (log.recovery(), copy.recovery());
    assert!(!again.clean && again.has_losses(), "{again:?}");
    let damage = |recovery: &Recovery| {
        let of_orders = TopicPartition::new("orders", 0);
        let mut partitions = recovery.partitions.iter();
        let found = partitions.find(|(id, _)| *id == of_orders).unwrap();
        found.1.damage.as_ref().unwrap().to_string()
    };
    assert_eq!(
        damage(again).replace(COPY, "/data"),
        damage(found),
        "the same damage"
    );
    let repaired = copy.topic("orders").unwrap().partition(0).unwrap();
    let end = repaired.log_end_offset() - 1;
    repaired.truncate_to(end).unwrap();
    let mut expected = whole.partitions;
    let (_, last, records) = expected.get_mut("orders-0").unwrap();
    *last = end;
    records.pop();
    assert_eq!(state(&copy).partitions, expected);
}

#[test]
fn a_partition_that_refuses_writes_after_a_failed_sync_makes_the_snapshot_fail() {
    let disk = FaultyDisk::failing_at(0);
    let log = filled(&disk);
    let orders = log.topic("orders").unwrap().partition(0).unwrap();
    disk.set_fault(Some(Fault::AnyForGood));
    let synced = orders.with_durability(Durability::Synced);
    synced.append("lost").unwrap_err();
    disk.set_fault(None);
    let refused = log.snapshot(COPY).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
    assert!(beside(&disk).is_empty());
    orders.reopen().unwrap();
    let before = state(&log);
    log.snapshot(COPY).unwrap();
    check(&disk, &before, "re-opened");
}
