//! Transactions whose marker a truncation cuts off, while records of them are left.

use std::io;

use annals::{Result, SimulatedDisk};

use super::*;

/// Returns a log in which a transaction with the values `a` and `b` has ended, and its partition.
fn ended(log: &Log, is_committed: bool) -> Partition {
    let partition = part(&topics_of(log).1, 0);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut transaction = producer.begin().unwrap();
    for value in ["a", "b"] {
        transaction.send_to(&partition, large(value)).unwrap();
    }
    if is_committed {
        transaction.commit().unwrap();
    } else {
        transaction.abort().unwrap();
    }
    partition
}

/// Regression: the transaction was open again, which hid its records and all that followed. Opening
/// the log aborted it.
#[test]
fn a_committed_transaction_stays_committed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = ended(&log, true);
    log.maintain().unwrap();
    for end in [2, 1] {
        partition.truncate_to(end).unwrap();
        assert_eq!(partition.last_stable_offset(), partition.log_end_offset());
    }
    partition.append("later").unwrap();
    assert_eq!(committed(&partition), [large("a"), "later".to_owned()]);
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    let partition = part(&topics_of(&log).1, 0);
    assert_eq!(committed(&partition), [large("a"), "later".to_owned()]);
}

/// Regression: the next transaction of the producer continued the aborted one, and its commit made
/// the aborted records visible.
#[test]
fn an_aborted_transaction_stays_aborted_when_its_producer_commits_the_next_one() {
    let log = Log::in_memory();
    let partition = ended(&log, false);
    partition.truncate_to(2).unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&partition, "next").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&partition), ["next"]);
    assert_eq!(written(&partition).len(), 3);
}

#[test]
fn a_truncation_leaves_an_open_transaction_open() {
    let log = Log::in_memory();
    let (_, output) = topics_of(&log);
    let partition = part(&output, 0);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut transaction = producer.begin().unwrap();
    for value in ["a", "b"] {
        transaction.send_to(&partition, large(value)).unwrap();
    }
    partition.truncate_to(1).unwrap();
    assert_eq!(partition.log_end_offset(), 1);
    assert_eq!(log.open_transactions().unwrap().len(), 1);
    transaction.commit().unwrap();
    assert_eq!(committed(&partition), [large("a")]);
}

/// Regression: the marker that was cut off was waited for ever after a re-opening, so each later
/// commit of the id failed, and so did the close.
#[test]
fn a_producer_commits_after_a_cut_and_a_reopening() {
    let cuts: [fn(&Partition) -> Result<()>; 2] = [
        |partition| partition.truncate_to(0),
        |partition| partition.restart_at(0),
    ];
    for cut in cuts {
        for cuts_first in [true, false] {
            let log = Log::in_memory();
            let partition = ended(&log, false);
            if cuts_first {
                cut(&partition).unwrap();
                partition.reopen().unwrap();
            } else {
                partition.reopen().unwrap();
                cut(&partition).unwrap();
            }
            let mut producer = log.transactional_producer("id").unwrap();
            let mut transaction = producer.begin().unwrap();
            transaction.send_to(&partition, "next").unwrap();
            transaction.commit().unwrap();
            assert_eq!(committed(&partition), ["next"]);
            log.close().unwrap();
        }
    }
}

/// Regression: the first commit after the cut failed, because its sequence did not follow the last
/// one that was left.
#[test]
fn a_producer_commits_after_its_own_records_were_cut_off() {
    let log = Log::in_memory();
    let partition = part(&topics_of(&log).1, 0);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut commit = |value: &str| {
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&partition, value).unwrap();
        transaction.commit()
    };
    for value in ["a", "b", "c"] {
        commit(value).unwrap();
    }
    partition.truncate_to(2).unwrap();
    commit("d").unwrap();
    assert_eq!(committed(&partition), ["a", "d"]);
    partition.truncate_to(0).unwrap();
    commit("e").unwrap();
    partition.restart_at(10).unwrap();
    commit("f").unwrap();
    assert_eq!(committed(&partition), ["f"]);
}

/// Regression: if the disk refused to read how the transaction had ended, it was open again.
#[test]
fn a_truncation_fails_if_it_cannot_read_how_a_transaction_ended() {
    let mut failures = 0;
    for call in 0.. {
        let disk = SimulatedDisk::new(1);
        let open = || Log::builder("log").storage(disk.clone()).open().unwrap();
        let log = open();
        ended(&log, true).append("later").unwrap();
        log.close().unwrap();
        let log = open();
        let partition = part(&topics_of(&log).1, 0);
        let call = disk.calls() + call;
        disk.fail_call(call, io::Error::other("refused"));
        let done = partition.truncate_to(2);
        let is_called = disk.calls() > call;
        disk.heal();
        if done.is_ok() {
            assert_eq!(committed(&partition), ["a", "b"].map(large), "{call}");
        } else {
            failures += 1;
        }
        if !is_called {
            break;
        }
    }
    assert!(failures > 3);
}

/// Regression: the next opening of the log aborted the committed transaction.
#[test]
fn a_truncation_of_a_partition_opened_alone_leaves_transactions_as_they_ended() {
    for (is_committed, expected) in [(true, vec![large("a")]), (false, Vec::new())] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        drop(ended(&log, is_committed));
        log.close().unwrap();
        let alone = Partition::open(dir.path().join("out-0"), TopicConfig::new()).unwrap();
        alone.truncate_to(1).unwrap();
        drop(alone);
        let log = Log::open(dir.path()).unwrap();
        assert!(log.recovery().transactions.is_empty());
        assert_eq!(committed(&part(&topics_of(&log).1, 0)), expected);
    }
}
