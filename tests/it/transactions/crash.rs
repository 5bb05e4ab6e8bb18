//! Power cuts, kills and errors at every disk call of commits over two partitions and the positions
//! of a group, and at every call of the recovery after them.

use std::collections::HashSet;
use std::io;

use annals::{
    ConsumerConfig, Durability, Error, LogConfig, ManualClock, Result, SimulatedDisk, Timestamp,
};

use super::*;

/// The records of `in-0`, and how many of them each transaction takes.
const INPUT: u64 = 4;
const PER_TRANSACTION: u64 = 2;
const TRANSACTIONS: u64 = INPUT / PER_TRANSACTION;

fn open(disk: &SimulatedDisk, durability: Durability) -> Result<Log> {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let config = LogConfig::new().durability(durability);
    let builder = Log::builder("log").storage(disk.clone()).clock(clock);
    builder.config(config).open()
}

/// Returns a disk with the input, and nothing consumed.
fn prepared(durability: Durability) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk, durability).unwrap();
    let (input, _) = topics_of(&log);
    fill(&input, 0, INPUT);
    log.close().unwrap();
    disk
}

/// Returns whether the transaction of this input also writes to the second partition. Every other
/// one does not, so that a partition has a marker that no later transaction syncs with its records.
fn has_right(input: u64) -> bool {
    (input / PER_TRANSACTION).is_multiple_of(2)
}

/// Copies the rest of the input to both partitions of the output, in transactions. `done` counts
/// the commits that returned.
fn work(log: &Log, done: &mut u64) -> Result<()> {
    let output = log.topic("out")?;
    let config = ConsumerConfig::new().max_poll_records(PER_TRANSACTION.try_into().unwrap());
    let mut consumer = log.consumer_group("g")?.join_with("in", config)?;
    let mut producer = log.transactional_producer("id")?;
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        let mut transaction = producer.begin()?;
        let mut is_empty = true;
        for record in &records {
            let text = record?.text().into_owned();
            transaction.send_to(&output.partition(0)?, format!("{text} left"))?;
            if has_right(text.parse().unwrap()) {
                transaction.send_to(&output.partition(1)?, format!("{text} right"))?;
            }
            is_empty = false;
        }
        if is_empty {
            return transaction.abort();
        }
        transaction.commit_offsets(&mut consumer)?;
        transaction.commit()?;
        *done += 1;
    }
}

/// Returns how many transactions are visible, after checking that each of them is visible as a
/// whole.
fn visible(label: &str, log: &Log) -> u64 {
    let output = log.topic("out").unwrap();
    let left = committed(&part(&output, 0));
    let right = committed(&part(&output, 1));
    let count = left.len() as u64;
    assert_eq!(count % PER_TRANSACTION, 0, "{label}: {left:?}");
    let expected: Vec<String> = (0..count).map(|number| format!("{number} left")).collect();
    assert_eq!(left, expected, "{label}");
    let with_right = (0..count).filter(|number| has_right(*number));
    let expected: Vec<String> = with_right.map(|number| format!("{number} right")).collect();
    assert_eq!(right, expected, "{label}");
    let group = log.consumer_group("g").unwrap();
    let position = group.committed(&id("in", 0)).unwrap();
    let position = position.map_or(0, |position| position.offset);
    assert_eq!(position, count, "{label}: the position of the group");
    count / PER_TRANSACTION
}

/// Opens what a crash left, checks it, and does the rest of the work.
fn check(label: &str, disk: &SimulatedDisk, durability: Durability, done: u64) {
    let log = open(disk, durability).unwrap_or_else(|error| panic!("{label}: {error}"));
    let seen = visible(label, &log);
    assert!(
        (done..=done + 1).contains(&seen),
        "{label}: {done} commits returned, and {seen} are visible"
    );
    for partition in log.topic("out").unwrap().partitions() {
        assert_eq!(
            partition.last_stable_offset(),
            partition.log_end_offset(),
            "{label}: no transaction is open"
        );
    }
    let mut more = 0;
    work(&log, &mut more).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(visible(label, &log), TRANSACTIONS, "{label}");
    if !disk.calls().is_multiple_of(10) {
        return;
    }
    log.close().unwrap();
    let log = open(disk, durability).unwrap();
    assert!(log.recovery().clean, "{label}");
    assert_eq!(visible(label, &log), TRANSACTIONS, "{label}, again");
}

/// Returns the disk that a kill leaves, and some that a power cut can leave.
fn states_of(disk: &SimulatedDisk, bound: usize) -> Vec<SimulatedDisk> {
    let cut = disk.crash_states().take(bound);
    let more = (0..bound).map(|_| disk.crash());
    std::iter::once(disk.fork())
        .chain(cut)
        .chain(more)
        .collect()
}

/// Cuts power at every call of the work, and at every call of the recovery of some of the disks
/// that this leaves. Returns the number of disks.
fn crash_everywhere(durability: Durability, bound: usize) -> usize {
    let prepared = prepared(durability);
    let mut seen = HashSet::new();
    for call in 0.. {
        let disk = prepared.fork();
        disk.cut_power_at(call);
        let mut done = 0;
        let worked = open(&disk, durability).and_then(|log| {
            work(&log, &mut done)?;
            log.close()
        });
        if !disk.has_lost_power() {
            worked.unwrap();
            assert!(call > 50, "{call} calls");
            break;
        }
        for (number, state) in states_of(&disk, bound).into_iter().enumerate() {
            let label = format!("{durability:?}, call {call}, state {number}");
            if !seen.insert((done, state.fingerprint())) {
                continue;
            }
            if seen.len().is_multiple_of(67) {
                crash_again(&label, &state, durability, done);
            }
            check(&label, &state, durability, done);
        }
    }
    seen.len()
}

/// Cuts power at every third call of a recovery.
fn crash_again(label: &str, disk: &SimulatedDisk, durability: Durability, done: u64) {
    for call in (0..).step_by(3) {
        let again = disk.fork();
        again.cut_power_at(call);
        let opened = open(&again, durability);
        let has_lost_power = again.has_lost_power();
        drop(opened);
        if !has_lost_power {
            return;
        }
        for (number, state) in states_of(&again, 1).into_iter().enumerate() {
            let label = format!("{label}, recovery cut at {call}, state {number}");
            check(&label, &state, durability, done);
        }
    }
}

#[test]
fn a_commit_is_atomic_at_every_power_cut() {
    assert!(crash_everywhere(Durability::Os, 1) > 100);
}

#[test]
fn a_commit_is_atomic_at_every_power_cut_if_every_append_is_synced() {
    assert!(crash_everywhere(Durability::Synced, 1) > 100);
}

#[test]
#[ignore = "takes minutes"]
fn a_commit_is_atomic_at_many_more_power_cuts() {
    crash_everywhere(Durability::Os, 200);
    crash_everywhere(Durability::Synced, 200);
}

/// Does the work like a program that continues after each error, until all is done or the disk must
/// be looked at.
fn persist(log: &Log, faults: &mut u32) -> Result<()> {
    let mut done = 0;
    for _ in 0..20 {
        match work(log, &mut done) {
            Ok(()) => return Ok(()),
            Err(_) => *faults += 1,
        }
    }
    work(log, &mut done)
}

/// Fails each call of the work with this error. In the same log the work continues; if it cannot,
/// the log is opened again.
fn fail_everywhere(error: i32, short: bool) {
    let prepared = prepared(Durability::Os);
    for call in 0.. {
        let disk = prepared.fork();
        let log = open(&disk, Durability::Os).unwrap();
        let before = disk.calls();
        let fault = io::Error::from_raw_os_error(error);
        if short {
            disk.fail_call_short(before + call, fault);
        } else {
            disk.fail_call(before + call, fault);
        }
        let label = format!("error {error} at call {call}");
        let mut faults = 0;
        let persisted = persist(&log, &mut faults);
        let used = disk.calls() - before;
        disk.heal();
        if persisted.is_ok() {
            assert_eq!(visible(&label, &log), TRANSACTIONS, "{label}");
        }
        drop(log);
        let log = open(&disk, Durability::Os).unwrap();
        let mut done = 0;
        work(&log, &mut done).unwrap();
        assert_eq!(visible(&label, &log), TRANSACTIONS, "{label}");
        if used < call {
            assert_eq!(faults, 0, "{label}");
            return;
        }
    }
}

#[test]
fn a_full_disk_at_any_call_aborts_or_completes_the_commit() {
    fail_everywhere(28, false);
    fail_everywhere(28, true);
}

#[test]
fn an_error_at_any_call_aborts_or_completes_the_commit_or_leaves_it_to_the_next_opening() {
    fail_everywhere(5, false);
    fail_everywhere(4, false);
}

/// Fails each call from one on, as a disk does that stays full, until the fault is healed. The same
/// log must then complete what it committed, and continue.
#[test]
fn a_disk_that_stays_full_refuses_before_the_commit_and_completes_after_it() {
    let prepared = prepared(Durability::Os);
    for call in 0.. {
        let disk = prepared.fork();
        let log = open(&disk, Durability::Os).unwrap();
        let before = disk.calls();
        disk.fail_calls_from(before + call, io::Error::from_raw_os_error(28));
        let label = format!("full from call {call}");
        let mut done = 0;
        let worked = work(&log, &mut done);
        disk.heal();
        if worked.is_ok() && disk.calls() - before <= call {
            return;
        }
        let mut more = 0;
        match log.maintain().and_then(|_| work(&log, &mut more)) {
            Ok(()) => {
                assert!(log.open_transactions().unwrap().is_empty(), "{label}");
                assert_eq!(visible(&label, &log), TRANSACTIONS, "{label}");
            }
            // A sync failed, so a partition must be opened again; or the topic of the states could
            // neither be created nor removed again.
            Err(error) => assert!(
                matches!(
                    error,
                    Error::Poisoned { .. } | Error::SyncFailed { .. } | Error::Io { .. }
                ),
                "{label}: {error}"
            ),
        }
        drop(log);
        check(&label, &disk, Durability::Os, done + more);
    }
}
