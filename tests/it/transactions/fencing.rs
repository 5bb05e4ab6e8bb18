//! A transactional id has one holder.

use annals::{Error, ManualClock, ProducerConfig, SimulatedDisk, Timestamp};

use super::*;

#[test]
fn a_later_producer_fences_the_earlier_one() {
    let (log, _, output) = log_with_topics();
    let mut first = log.transactional_producer("id").unwrap();
    let mut transaction = first.begin().unwrap();
    transaction.send(&output, "of the first").unwrap();
    let mut second = log.transactional_producer("id").unwrap();
    let fenced = transaction.commit();
    assert!(
        matches!(&fenced, Err(Error::TransactionalIdFenced { id, .. }) if &**id == "id"),
        "{fenced:?}"
    );
    let fenced = first.begin().map(drop);
    assert!(matches!(fenced, Err(Error::TransactionalIdFenced { .. })));

    let mut transaction = second.begin().unwrap();
    transaction.send(&output, "of the second").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed_of(&output), ["of the second"]);
    let states = log.transactions().unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].producer_epoch, 1);
}

/// Regression: the commit of a transaction without records succeeded.
#[test]
fn a_fenced_producer_does_not_commit_an_empty_transaction() {
    let log = Log::in_memory();
    let mut first = log.transactional_producer("id").unwrap();
    let transaction = first.begin().unwrap();
    drop(log.transactional_producer("id").unwrap());
    let fenced = transaction.commit();
    assert!(
        matches!(fenced, Err(Error::TransactionalIdFenced { .. })),
        "{fenced:?}"
    );
}

#[test]
fn other_ids_are_not_fenced() {
    let (log, _, output) = log_with_topics();
    let mut one = log.transactional_producer("one").unwrap();
    let mut two = log.transactional_producer("two").unwrap();
    let mut first = one.begin().unwrap();
    let mut second = two.begin().unwrap();
    first.send_to(&part(&output, 0), "1").unwrap();
    second.send_to(&part(&output, 0), "2").unwrap();
    second.commit().unwrap();
    first.commit().unwrap();
    assert_eq!(committed(&part(&output, 0)), ["2", "1"]);
}

#[test]
fn the_epoch_rises_across_a_crash_and_the_fence_is_durable() {
    let disk = SimulatedDisk::new(7);
    let open = |disk: &SimulatedDisk| {
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let builder = Log::builder("log").storage(disk.clone()).clock(clock);
        builder.open().unwrap()
    };
    let log = open(&disk);
    topics_of(&log);
    let mut last = None;
    let mut disk = disk.clone();
    let mut log = log;
    for _ in 0..4 {
        drop(log.transactional_producer("id").unwrap());
        let state = log.transactions().unwrap().remove(0);
        if let Some((producer_id, epoch)) = last {
            assert_eq!(state.producer_id, producer_id);
            assert_eq!(state.producer_epoch, epoch + 1);
        }
        last = Some((state.producer_id, state.producer_epoch));
        disk = disk.crash();
        drop(log);
        log = open(&disk);
    }
}

#[test]
fn a_producer_with_a_spilled_transaction_is_fenced_and_its_records_are_aborted() {
    let (log, _, output) = log_with_topics();
    let config = ProducerConfig::new().batch_size(100).buffer_memory(200);
    let mut first = log.transactional_producer_with("id", config).unwrap();
    let mut transaction = first.begin().unwrap();
    for _ in 0..20 {
        transaction
            .send_to(&part(&output, 0), "of the first, and long enough to spill")
            .unwrap();
    }
    assert!(!written(&part(&output, 0)).is_empty());
    let mut second = log.transactional_producer("id").unwrap();
    assert!(log.open_transactions().unwrap().is_empty());
    let fenced = transaction.send_to(&part(&output, 0), "x".repeat(300));
    assert!(matches!(fenced, Err(Error::TransactionalIdFenced { .. })));
    let fenced = transaction.commit();
    assert!(matches!(fenced, Err(Error::TransactionalIdFenced { .. })));
    let mut transaction = second.begin().unwrap();
    transaction.send_to(&part(&output, 0), "second").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&output, 0)), ["second"]);
}
