//! Threads that commit at the same time and share the steps of their commits.

use std::io;
use std::sync::Mutex;
use std::thread;

use annals::{LogConfig, Result, SimulatedDisk};

use super::*;

const THREADS: usize = 4;
const TRANSACTIONS: usize = 3;

fn open(disk: &SimulatedDisk) -> Result<Log> {
    let config = LogConfig::new().maintenance_interval(None);
    Log::builder("log")
        .storage(disk.clone())
        .config(config)
        .open()
}

/// Commits in several threads, each in partition 0 and in a partition of its own. Returns the
/// records of the commits that returned.
fn commit_together(disk: &SimulatedDisk) -> Vec<String> {
    let done = Mutex::new(Vec::new());
    let commit = |log: &Log, thread: usize| -> Result<()> {
        let topic = log.topic("out")?;
        let own = u32::try_from(1 + thread % 2).unwrap();
        let mut producer = log.transactional_producer(&format!("id-{thread}"))?;
        for number in 0..TRANSACTIONS {
            let text = format!("{thread}-{number}");
            let mut transaction = producer.begin()?;
            transaction.send_to(&topic.partition(0)?, &text)?;
            transaction.send_to(&topic.partition(own)?, &text)?;
            transaction.commit()?;
            done.lock().unwrap().push(text);
        }
        Ok(())
    };
    if let Ok(log) = open(disk) {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (commit, log) = (&commit, &log);
                scope.spawn(move || {
                    let _the_disk_has_failed = commit(log, thread);
                });
            }
        });
    }
    done.into_inner().unwrap()
}

fn prepared() -> SimulatedDisk {
    let disk = SimulatedDisk::new(7);
    let log = open(&disk).unwrap();
    log.open_topic("out", 3, TopicConfig::new()).unwrap();
    log.close().unwrap();
    disk
}

/// Checks that each commit which returned is visible, and that none is visible in part.
fn check(label: &str, disk: &SimulatedDisk, done: &[String]) {
    let log = open(disk).unwrap();
    let topic = log.topic("out").unwrap();
    let sorted = |numbers: &[u32]| {
        let mut seen: Vec<String> = Vec::new();
        for number in numbers {
            seen.extend(committed(&part(&topic, *number)));
        }
        seen.sort();
        seen
    };
    let (shared, own) = (sorted(&[0]), sorted(&[1, 2]));
    assert_eq!(shared, own, "{label}: a transaction is visible in part");
    for text in done {
        assert!(shared.contains(text), "{label}: {text} is lost: {shared:?}");
    }
}

#[test]
fn commits_of_several_threads_are_atomic_and_durable_at_every_power_cut() {
    let prepared = prepared();
    let whole = prepared.fork();
    let before = whole.calls();
    let done = commit_together(&whole);
    assert_eq!(done.len(), THREADS * TRANSACTIONS);
    let calls = whole.calls() - before;
    check("no power cut", &whole.crash(), &done);
    for call in 0..calls {
        let disk = prepared.fork();
        disk.cut_power_at(disk.calls() + call);
        let done = commit_together(&disk);
        for _ in 0..4 {
            check(&format!("a power cut at call {call}"), &disk.crash(), &done);
        }
    }
}

#[test]
fn an_error_of_a_shared_step_reaches_each_of_its_threads() {
    let prepared = prepared();
    for call in (0..150).step_by(3) {
        let disk = prepared.fork();
        disk.fail_calls_from(disk.calls() + call, io::ErrorKind::Other.into());
        let done = commit_together(&disk);
        disk.heal();
        check(&format!("errors from call {call}"), &disk.crash(), &done);
    }
}
