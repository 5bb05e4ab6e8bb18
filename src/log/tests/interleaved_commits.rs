//! Commits while another thread cuts the partition, or deletes the topic and creates it again. In
//! every order, a group's position never skips a record that was not delivered to one of its
//! members.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::{ManualClock, Timestamp};
use crate::config::TopicConfig;
use crate::group::{Consumer, ConsumerConfig, ConsumerGroup, Records, Seek};
use crate::log::Log;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, SimulatedDisk, Storage};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

/// The number of records that exist and were delivered before the change.
const DELIVERED: u64 = 6;
/// The number of these records that a cut keeps.
const CUT: u64 = 3;
/// Long enough for a thread to reach its end, or the lock that it waits for.
const MOMENT: Duration = Duration::from_millis(10);

fn t() -> TopicPartition {
    ("t", 0).into()
}

fn append(log: &Log, text: &str, count: u64) {
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    partition.append_batch((0..count).map(|_| text)).unwrap();
}

struct Change {
    name: &'static str,
    run: fn(&Log),
}

const CHANGES: [Change; 2] = [
    Change {
        name: "cut",
        run: |log| {
            log.topic("t")
                .unwrap()
                .partition(0)
                .unwrap()
                .truncate_to(CUT)
                .unwrap();
            append(log, "new", 2 * DELIVERED);
        },
    },
    Change {
        name: "delete and create",
        run: |log| {
            log.delete_topic("t").unwrap();
            log.create_topic("t", 1, TopicConfig::new()).unwrap();
            append(log, "new", 2 * DELIVERED);
        },
    },
];

/// The handles that a commit needs.
struct Rig {
    group: ConsumerGroup,
    /// A member that has received all records. `None` if the group is managed from outside.
    member: Option<Consumer>,
    records: Records,
}

struct Commit {
    name: &'static str,
    has_member: bool,
    run: fn(Rig),
}

/// A commit may be refused or stored. `check` decides whether that was right.
const COMMITS: [Commit; 6] = [
    Commit {
        name: "commit",
        has_member: true,
        run: |rig| drop(rig.member.unwrap().commit()),
    },
    Commit {
        name: "commit_record",
        has_member: true,
        run: |rig| {
            let last = rig.records.iter().last().unwrap().unwrap();
            let _refused_if_the_topic_was_deleted = rig.member.unwrap().commit_record(&last);
        },
    },
    Commit {
        name: "commit_offsets",
        has_member: true,
        run: |rig| {
            drop(
                rig.member
                    .unwrap()
                    .commit_offsets([(t(), DELIVERED.into())]),
            );
        },
    },
    Commit {
        name: "close",
        has_member: true,
        run: |rig| drop(rig.member.unwrap().close()),
    },
    Commit {
        name: "group.commit",
        has_member: false,
        run: |rig| drop(rig.group.commit([(t(), DELIVERED.into())])),
    },
    Commit {
        name: "group.reset",
        has_member: false,
        run: |rig| drop(rig.group.reset([t()], Seek::Latest)),
    },
];

fn open(disk: impl Storage) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let log = Log::builder("log")
        .storage(disk)
        .clock(clock)
        .open()
        .unwrap();
    log.create_topic("t", 1, TopicConfig::new()).unwrap();
    append(&log, "old", DELIVERED);
    log
}

fn rig(log: &Log, has_member: bool) -> Rig {
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new().auto_commit(Duration::from_secs(3600));
    let mut member = group.join_with("t", config).unwrap();
    let records = member.poll(Duration::ZERO).unwrap();
    assert_eq!(records.iter().count() as u64, DELIVERED);
    let member = has_member.then_some(member);
    if !has_member {
        group.delete().unwrap();
    }
    Rig {
        group,
        member,
        records,
    }
}

/// Checks that every record below the group's position was delivered.
fn check(case: &str, log: &Log) {
    let committed = log
        .consumer_group("g")
        .unwrap()
        .committed(&t())
        .unwrap()
        .map_or(0, |next| next.offset);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let mut reader = partition.read(..committed).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(
            record.text(),
            "old",
            "{case}: the position {committed} skips offset {}",
            record.offset()
        );
    }
}

/// Starts `run` in a thread, and waits until the thread has ended or, most likely, waits for a
/// lock. Stores the thread in `running`.
fn start(run: impl FnOnce() + Send + 'static, running: &Mutex<Option<thread::JoinHandle<()>>>) {
    let (ended, has_ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        run();
        let _may_have_no_receiver = ended.send(());
    });
    let _still_running = has_ended.recv_timeout(MOMENT);
    *running.lock() = Some(thread);
}

/// Runs the commit and the change. The second one starts in another thread, at storage call 0, 1, 2
/// and so on of the first.
fn at_each_call(commit: &'static Commit, change: &'static Change, is_commit_first: bool) {
    for call in 0.. {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let log = open(disk.clone());
        let rig = rig(&log, commit.has_member);
        let running = Arc::new(Mutex::new(None));
        disk.take();
        let (second, other) = (Arc::clone(&running), log.clone());
        if is_commit_first {
            disk.before_call(call, move || start(move || (change.run)(&other), &second));
            (commit.run)(rig);
        } else {
            disk.before_call(call, move || start(move || (commit.run)(rig), &second));
            (change.run)(&log);
        }
        if disk.is_pending() {
            assert!(call > 0, "{} and {} make calls", commit.name, change.name);
            return;
        }
        running.lock().take().unwrap().join().unwrap();
        let order = if is_commit_first { "in" } else { "and" };
        check(
            &format!("{} {order} {} at call {call}", change.name, commit.name),
            &log,
        );
    }
}

#[test]
fn a_change_during_a_commit_leaves_no_position_above_the_delivered_records() {
    for commit in &COMMITS {
        for change in &CHANGES {
            at_each_call(commit, change, true);
        }
    }
}

#[test]
fn a_commit_during_a_change_leaves_no_position_above_the_delivered_records() {
    // A commit from outside refers to the log as the call finds it, which may be the new one.
    for commit in COMMITS.iter().filter(|commit| commit.has_member) {
        for change in &CHANGES {
            at_each_call(commit, change, false);
        }
    }
}

/// The commit waits while a position is written that could not be written before. The change
/// happens before the commit.
#[test]
fn a_commit_that_waits_for_the_store_respects_a_change_in_the_meantime() {
    for commit in &COMMITS {
        for change in &CHANGES {
            let simulated = SimulatedDisk::new(1);
            let disk = RecordingDisk::over(simulated.clone());
            let log = open(disk.clone());
            log.create_topic("u", 1, TopicConfig::new()).unwrap();
            let other = log.topic("u").unwrap().partition(0).unwrap();
            other.append("value").unwrap();
            log.consumer_group("h")
                .unwrap()
                .commit([(("u", 0).into(), 1.into())])
                .unwrap();
            simulated.set_capacity(0);
            let _without_room = other.truncate_to(0);
            simulated.set_capacity(u64::MAX);
            let rig = rig(&log, commit.has_member);
            let running = Arc::new(Mutex::new(None));
            disk.take();
            let (second, changed) = (Arc::clone(&running), log.clone());
            disk.before_call(0, move || start(move || (change.run)(&changed), &second));
            (commit.run)(rig);
            running.lock().take().unwrap().join().unwrap();
            check(&format!("{} before {}", change.name, commit.name), &log);
        }
    }
}

/// A poll delivers records, finds the partition cut below them, and continues at the cut. The
/// offsets that the program takes from these records are not offsets of the log after the poll.
#[test]
fn a_commit_of_offsets_from_a_poll_respects_a_cut_during_the_poll() {
    let mut has_delivered_more_than_is_left = false;
    for call in 0.. {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let log = open(disk.clone());
        let topic = log.topic("t").unwrap();
        topic.partition(0).unwrap().truncate_to(0).unwrap();
        topic
            .update_config(TopicConfig::new().segment_bytes(150))
            .unwrap();
        (0..DELIVERED).for_each(|_| append(&log, "old", 1));
        let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
        let cut = topic.partition(0).unwrap();
        disk.take();
        let running = Arc::new(Mutex::new(None));
        let second = Arc::clone(&running);
        disk.before_call(call, move || {
            start(move || cut.truncate_to(1).unwrap(), &second);
        });
        let records = member.poll(Duration::ZERO).unwrap();
        if disk.is_pending() {
            break;
        }
        running.lock().take().unwrap().join().unwrap();
        (0..2 * DELIVERED).for_each(|_| append(&log, "new", 1));
        let next = records
            .iter()
            .last()
            .map_or(0, |record| record.unwrap().offset() + 1);
        has_delivered_more_than_is_left |= next > 1;
        member.commit_offsets([(t(), next.into())]).unwrap();
        check(&format!("a cut at call {call} of a poll"), &log);
    }
    assert!(has_delivered_more_than_is_left);
}
