//! A process that is forked from the opener of a log cannot harm the log, whatever it drops or
//! closes.
//!
//! The test runs in a process of its own, which forks while the log has a
//! background thread, a producer that holds a record, a consumer that commits automatically, and a
//! reader that follows.

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use annals::{ConsumerConfig, Error, Log, LogConfig, Partition, ProducerConfig, TopicConfig};

use crate::log::tree;

const ROOT: &str = "ANNALS_TEST_FORKED";
const LONG: Duration = Duration::from_secs(3_600);

/// Runs `child` in a forked process. Returns whether it returned without a panic.
#[expect(unsafe_code, reason = "fork is a system call")]
fn fork(child: impl FnOnce()) -> bool {
    // SAFETY: the child calls only `child` and `_exit`. Of the locks that other threads may hold
    // during the fork it needs two: the allocator's, which the C library keeps usable, and that of
    // standard error, which no other thread of this process uses.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "the fork failed");
    if process == 0 {
        let ended = panic::catch_unwind(AssertUnwindSafe(child));
        // SAFETY: `_exit` ends this process, which shares no memory with its parent.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    let mut status = 0;
    // SAFETY: the process is a child that has not been waited for, and `status` is writable.
    let waited = unsafe { libc::waitpid(process, &raw mut status, 0) };
    waited == process && status == 0
}

fn assert_forked<T: Debug>(result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::Forked { .. })), "{result:?}");
}

#[test]
#[ignore = "run by `a_forked_child_leaves_the_log_to_its_opener`, in a process that the_process_that_forks"]
fn the_process_that_forks() {
    let root = std::env::var_os(ROOT).expect("the parent names the directory");
    let (root, alone) = (Path::new(&root).join("log"), Path::new(&root).join("alone"));
    let config = LogConfig::new().flush_interval(LONG);
    let log = Log::builder(&root).config(config.clone()).open().unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    topic.append("first").unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().linger(LONG))
        .unwrap();
    drop(producer.send(&topic, "held").unwrap());
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group
        .join_with("t", ConsumerConfig::new().auto_commit(LONG))
        .unwrap();
    assert!(!consumer.poll(Duration::from_secs(10)).unwrap().is_empty());
    let follower = topic.partition(0).unwrap().follow(..).unwrap();
    let lone = Partition::open(&alone, TopicConfig::new()).unwrap();
    lone.append("first").unwrap();
    let before = (tree(&root), tree(&alone));

    let returned = fork({
        let (log, producer, lone) = (log.clone(), producer.clone(), lone.clone());
        move || {
            assert_forked(&log.flush());
            assert_forked(&log.maintain());
            assert_forked(&log.open_topic("u", 1, TopicConfig::new()));
            assert_forked(&producer.close());
            assert_forked(&log.close());
            drop(lone);
        }
    });
    assert!(returned, "the child that closed its copies failed");
    assert!(
        before == (tree(&root), tree(&alone)),
        "the child that closed its copies changed files"
    );

    let handles = (log, topic, producer, group, consumer, follower, lone);
    let mut handles = Some(handles);
    assert!(
        fork(|| drop(handles.take())),
        "the child that dropped everything failed"
    );
    assert!(
        before == (tree(&root), tree(&alone)),
        "the child that dropped everything changed files"
    );
    let (log, topic, producer, group, consumer, follower, lone) =
        handles.expect("only the child dropped the handles");
    // The parent's copy of the consumer is moved into the closure and dropped here, which commits.
    assert!(
        fork(move || assert_forked(&consumer.close())),
        "the child that closed its consumer failed"
    );

    assert!(
        matches!(Log::open(&root), Err(Error::Locked { .. })),
        "the opener still holds the lock"
    );
    assert!(matches!(
        Partition::open(&alone, TopicConfig::new()),
        Err(Error::Locked { .. })
    ));
    assert_eq!(group.committed(&("t", 0).into()).unwrap(), Some(1.into()));
    topic.append("last").unwrap();
    lone.append("last").unwrap();
    drop(follower);
    producer.close().unwrap();
    log.close().unwrap();
    drop(lone);
    check_reopened(&root, &alone);
}

/// Checks that only the opener has written to the log and to the lone partition.
fn check_reopened(root: &Path, alone: &Path) {
    let log = Log::open(root).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()),
        ["first", "last", "held"]
    );
    assert_eq!(
        texts(&Partition::open(alone, TopicConfig::new()).unwrap()),
        ["first", "last"]
    );
}

fn texts(partition: &Partition) -> Vec<String> {
    let batches: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    batches
        .iter()
        .flatten()
        .map(|record| record.unwrap().text().into_owned())
        .collect()
}

#[test]
fn a_forked_child_leaves_the_log_to_its_opener() {
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let arguments = [
        "--exact",
        "forking::the_process_that_forks",
        "--ignored",
        "--quiet",
    ];
    let status = Command::new(test)
        .args(arguments)
        .env(ROOT, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}
