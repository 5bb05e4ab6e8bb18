//! Decided transactions with a partition that is damaged or missing when the log is opened.

use std::fs;
use std::path::Path;

use annals::{DamagedOffsets, Error, LogConfig, RecoveredOutcome, TransactionStatus};

use super::*;
use crate::kafka::copy_dir;

/// Copies the directory of a broker that had committed `txA` in `t2-0`, `t2-1` and `t2-2`, and had
/// written no marker.
fn prepared(dir: &Path) {
    copy_dir("tests/fixtures/prepare-commit/root".as_ref(), dir);
}

fn log_file(dir: &Path, partition: u32) -> std::path::PathBuf {
    dir.join(format!("t2-{partition}/00000000000000000000.log"))
}

/// Returns the partitions in which opening the log ended the transaction of `txA`.
fn committed_in(log: &Log) -> Vec<u32> {
    let recovered = log.recovery().transactions.iter();
    recovered
        .filter(|transaction| transaction.producer_id == 1_000)
        .filter(|transaction| transaction.outcome == RecoveredOutcome::Committed)
        .map(|transaction| transaction.partition.partition)
        .collect()
}

fn status(log: &Log) -> TransactionStatus {
    let states = log.transactions().unwrap();
    let state = states.iter().find(|state| state.transactional_id == "txA");
    state.unwrap().status
}

#[test]
fn a_damaged_partition_holds_back_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    // A batch in the middle is gone, so the partition refuses writes until it is repaired.
    let path = log_file(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40_000].fill(0xff);
    fs::write(&path, bytes).unwrap();
    fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();

    let log = Log::open(dir.path()).unwrap();
    assert_eq!(committed_in(&log), [0, 2], "{:#?}", log.recovery());
    assert_eq!(status(&log), TransactionStatus::PrepareCommit);
    let refused = log.transactional_producer("txA");
    assert!(refused.is_err(), "its last transaction is not complete");
    log.transactional_producer("another").unwrap();
    assert!(log.maintain().is_err(), "the marker is still missing");
    drop(log);

    // Once the partition takes writes again, its marker follows.
    let log = Log::open(dir.path()).unwrap();
    let partition = part(&log.topic("t2").unwrap(), 1);
    let damage = match partition.recovery().damage.clone() {
        Some(Error::Corrupt(damage)) => damage,
        other => panic!("{other:?}"),
    };
    partition.truncate_to(damage.offsets.start).unwrap();
    log.maintain().unwrap();
    assert_eq!(status(&log), TransactionStatus::CompleteCommit);
    log.transactional_producer("txA").unwrap();
}

#[test]
fn positions_are_kept_back_while_a_committed_transaction_may_have_some_of_them() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let path = dir
        .path()
        .join("__consumer_offsets-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200..260].fill(0xff);
    fs::write(&path, bytes).unwrap();
    fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();
    let config = LogConfig::new().damaged_offsets(DamagedOffsets::PassOver);
    let log = Log::builder(dir.path()).config(config).open().unwrap();
    let group = log.consumer_group("cgt").unwrap();
    assert!(group.committed(&id("t2", 2)).is_err(), "its marker is late");

    // The commits of others do not release them.
    let (_, output) = topics_of(&log);
    let mut producer = log.transactional_producer("another").unwrap();
    for _ in 0..2 {
        let mut transaction = producer.begin().unwrap();
        transaction.send(&output, "committed").unwrap();
        transaction.commit().unwrap();
    }
    assert!(group.committed(&id("t2", 2)).is_err(), "it is still late");
    assert_eq!(committed_of(&output).len(), 2);
    drop(producer);
    let _the_marker_is_missing = log.close();
}

#[test]
fn a_missing_partition_holds_back_its_id_until_its_topic_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    fs::remove_dir_all(dir.path().join("t2-1")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(committed_in(&log), [0, 2]);
    let taken = log.transactional_producer("txA").map(drop);
    // A broker may keep the partition in another directory.
    assert!(
        matches!(taken, Err(Error::UnknownPartition(_))),
        "{taken:?}"
    );
    assert_eq!(status(&log), TransactionStatus::PrepareCommit);
    log.delete_topic("t2").unwrap();
    log.transactional_producer("txA").unwrap();
}

/// Whether a transaction was committed is then unknown, so it must not be aborted.
#[test]
fn transactions_stay_open_and_are_reported_if_the_states_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let states = "__transaction_state-0/00000000000000000000.log";
    let path = dir.path().join(states);
    let sound = fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    damaged[70] ^= 1;
    fs::write(&path, &damaged).unwrap();

    let log = Log::open(dir.path()).unwrap();
    let recovered = &log.recovery().transactions;
    let outcomes = recovered.iter().map(|transaction| transaction.outcome);
    assert!(outcomes.clone().count() >= 3, "{recovered:?}");
    assert!(outcomes.eq(recovered.iter().map(|_| RecoveredOutcome::Open)));
    assert!(matches!(log.transactions(), Err(Error::Corrupt(_))));
    let refused = log.abort_transaction(&id("t2", 0), 1_000);
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
    log.close().unwrap();

    fs::write(&path, &sound).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(committed_in(&log), [0, 1, 2]);
}
