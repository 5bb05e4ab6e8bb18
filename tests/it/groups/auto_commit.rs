//! Automatic commits: when a consumer makes one, and when it must not.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    ConsumerConfig, ConsumerGroup, Error, GroupState, Log, ManualClock, Rebalance, SimulatedDisk,
    Timestamp, Topic, TopicConfig,
};

use super::{SOON, committed, drain, fill, log_with, of, offsets, poll, poll_while, t};

/// An interval that is longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

fn every(interval: Duration) -> ConsumerConfig {
    ConsumerConfig::new()
        .auto_commit(interval)
        .max_poll_records(2)
}

#[test]
fn a_poll_commits_the_records_of_earlier_polls() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    let mut member = group.join_with("t", every(Duration::ZERO)).unwrap();
    assert_eq!(poll(&mut member), of(0, 0..2));
    assert_eq!(
        committed(&group, &t(0)),
        Some(0),
        "the position at which the member started"
    );
    assert_eq!(poll(&mut member), of(0, 2..4));
    assert_eq!(committed(&group, &t(0)), Some(2));
    member.close().unwrap();
    assert_eq!(committed(&group, &t(0)), Some(4));
}

#[test]
fn a_poll_does_not_commit_before_the_interval_has_passed() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    let mut member = group.join_with("t", every(NEVER)).unwrap();
    assert_eq!(drain(&mut member), of(0, 0..6));
    assert_eq!(committed(&group, &t(0)), None);
    drop(member);
    assert_eq!(
        committed(&group, &t(0)),
        Some(6),
        "a member that leaves commits the records it polled"
    );
}

#[test]
fn a_member_that_waits_commits_once_the_interval_has_passed() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 2);
    let group = log.consumer_group("g").unwrap();
    let mut member = group
        .join_with("t", every(Duration::from_millis(10)))
        .unwrap();
    assert_eq!(poll(&mut member), of(0, 0..2));
    let (records, ()) = poll_while(&mut member, || {
        let started = Instant::now();
        while committed(&group, &t(0)) != Some(2) {
            assert!(
                started.elapsed() < SOON,
                "the waiting member did not commit"
            );
            thread::yield_now();
        }
        fill(&topic, 0, 1);
    });
    assert_eq!(offsets(&records), of(0, [2]));
}

#[test]
fn a_partition_is_committed_before_it_is_revoked() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 2);
    fill(&topic, 1, 2);
    let group = log.consumer_group("g").unwrap();
    let mut one = group.join_with("t", every(NEVER)).unwrap();
    assert_eq!(drain(&mut one).len(), 4);
    let mut other = group.join("t").unwrap();
    assert_eq!(
        one.poll(Duration::ZERO).unwrap().rebalance(),
        [Rebalance::Revoking(vec![t(1)])]
    );
    assert_eq!(
        committed(&group, &t(1)),
        None,
        "the member may still be processing its records"
    );
    assert!(poll(&mut one).is_empty());
    assert_eq!(committed(&group, &t(0)), Some(2));
    assert_eq!(committed(&group, &t(1)), Some(2));
    fill(&topic, 1, 1);
    assert_eq!(
        drain(&mut other),
        of(1, [2]),
        "no record is delivered twice"
    );
}

/// Creates a disk and a log on it with six records in `t`. Group `g` has committed offset 0.
fn on_a_disk() -> (SimulatedDisk, Log, Topic, ConsumerGroup) {
    let disk = SimulatedDisk::new(1);
    let clock = ManualClock::at(Timestamp::from_millis(1_000));
    let log = Log::builder("data")
        .storage(disk.clone())
        .clock(clock)
        .open()
        .unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 0.into())]).unwrap();
    (disk, log, topic, group)
}

#[test]
fn a_commit_that_fails_does_not_fail_the_poll() {
    let (disk, _log, _topic, group) = on_a_disk();
    let mut member = group.join_with("t", every(Duration::ZERO)).unwrap();
    assert_eq!(poll(&mut member), of(0, 0..2));
    disk.set_capacity(0);
    assert_eq!(
        poll(&mut member),
        of(0, 2..4),
        "the poll returns its records despite the failed commit"
    );
    assert_eq!(committed(&group, &t(0)), Some(0));
    disk.heal();
    member.close().unwrap();
    assert_eq!(committed(&group, &t(0)), Some(4), "the close commits them");
}

#[test]
fn close_returns_the_error_of_its_commit() {
    let (disk, _log, _topic, group) = on_a_disk();
    let mut member = group.join_with("t", every(NEVER)).unwrap();
    assert_eq!(drain(&mut member), of(0, 0..6));
    disk.set_capacity(0);
    assert!(matches!(member.close(), Err(Error::DiskFull { .. })));
    assert_eq!(
        group.describe().unwrap().state,
        GroupState::Empty,
        "the member has left despite the error"
    );
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..6));
}

#[test]
fn a_member_that_panics_does_not_commit_the_records_it_was_processing() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    for (name, interval, expected) in [("often", Duration::ZERO, Some(2)), ("never", NEVER, None)] {
        let group = log.consumer_group(name).unwrap();
        let mut member = group.join_with("t", every(interval)).unwrap();
        let worker = thread::spawn(move || {
            assert_eq!(
                [poll(&mut member), poll(&mut member)],
                [of(0, 0..2), of(0, 2..4)]
            );
            let _held = member;
            resume_unwind(Box::new("a worker's bug"));
        });
        assert!(worker.join().is_err());
        assert_eq!(
            committed(&group, &t(0)),
            expected,
            "at most the records of the poll before the last one"
        );
        assert_eq!(
            drain(&mut group.join("t").unwrap()),
            of(0, expected.unwrap_or(0)..6)
        );
    }
}
