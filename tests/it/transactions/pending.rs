//! Positions of transactions beside plain commits, and positions that are not in force yet.

use std::io;

use annals::{ConsumerConfig, Seek, SimulatedDisk};

use super::*;

/// Returns the committed position of group `g` in `in-0`.
fn position(log: &Log) -> Option<u64> {
    let group = log.consumer_group("g").unwrap();
    let next = group.committed(&id("in", 0)).unwrap();
    next.map(|next| next.offset)
}

/// Joins group `g` with polls of five records.
fn join(log: &Log) -> Consumer {
    let config = ConsumerConfig::new().max_poll_records(5.try_into().unwrap());
    let group = log.consumer_group("g").unwrap();
    group.join_with("in", config).unwrap()
}

#[test]
fn the_last_commit_of_a_position_counts_whether_plain_or_in_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let (input, _) = topics_of(&log);
    fill(&input, 0, 40);
    let mut consumer = join(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut expected = None;
    for round in 0..6 {
        poll(&mut consumer, 5);
        let end = 5 * (round + 1);
        let mut transaction = producer.begin().unwrap();
        if round % 2 == 0 {
            transaction.commit_offsets(&mut consumer).unwrap();
            assert_eq!(position(&log), expected, "it is not in force yet");
            if round == 2 {
                transaction.abort().unwrap();
                continue;
            }
            transaction.commit().unwrap();
        } else {
            consumer.commit().unwrap();
            transaction.abort().unwrap();
        }
        expected = Some(end);
        assert_eq!(position(&log), expected);
    }
    drop((consumer, producer));
    log.close().unwrap();
    assert_eq!(
        position(&Log::open_read_only(dir.path()).unwrap()),
        expected
    );
    assert_eq!(position(&Log::open(dir.path()).unwrap()), expected);
}

#[test]
fn a_plain_commit_after_the_positions_were_given_is_not_taken_back() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 10);
    let mut consumer = join(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    poll(&mut consumer, 5);
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    poll(&mut consumer, 5);
    consumer.commit().unwrap();
    assert_eq!(position(&log), Some(10));
    transaction.commit().unwrap();
    assert_eq!(position(&log), Some(10));
}

/// Regression: the commit after the cut got a lower offset in the store than the last record that
/// the transaction knew, so it was taken for an earlier one.
#[test]
fn a_plain_commit_is_not_taken_back_although_the_offset_store_was_cut() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 25);
    let mut consumer = join(&log);
    for _ in 0..3 {
        poll(&mut consumer, 5);
        consumer.commit().unwrap();
    }
    poll(&mut consumer, 5);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    let store = log.topic("__consumer_offsets").unwrap();
    store.partition(0).unwrap().truncate_to(1).unwrap();
    assert_eq!(position(&log), Some(5));
    poll(&mut consumer, 5);
    consumer.commit().unwrap();
    assert_eq!(position(&log), Some(25));
    transaction.commit().unwrap();
    assert_eq!(position(&log), Some(25));
}

#[test]
fn the_positions_that_were_given_last_count_in_transactions_that_overlap() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 20);
    let mut consumer = join(&log);
    let mut producers = ["1", "2"].map(|id| log.transactional_producer(id).unwrap());
    let [first, second] = &mut producers;
    let mut first = first.begin().unwrap();
    let mut second = second.begin().unwrap();
    poll(&mut consumer, 5);
    first.commit_offsets(&mut consumer).unwrap();
    poll(&mut consumer, 5);
    second.commit_offsets(&mut consumer).unwrap();
    second.commit().unwrap();
    first.commit().unwrap();
    assert_eq!(position(&log), Some(10));

    consumer.seek(&id("in", 0), 5).unwrap();
    let [third, _] = &mut producers;
    let mut third = third.begin().unwrap();
    third.commit_offsets(&mut consumer).unwrap();
    third.commit().unwrap();
    assert_eq!(position(&log), Some(5), "a position may go back");
}

#[test]
fn positions_without_their_marker_hold_back_look_ups_resets_and_deletions() {
    let mut held_back = 0;
    for call in 0..100 {
        let disk = SimulatedDisk::new(1);
        let log = Log::builder("log").storage(disk.clone()).open().unwrap();
        let (input, output) = topics_of(&log);
        fill(&input, 0, 5);
        let mut consumer = join(&log);
        poll(&mut consumer, 5);
        let mut producer = log.transactional_producer("id").unwrap();
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&part(&output, 0), "x").unwrap();
        transaction.commit_offsets(&mut consumer).unwrap();
        let full = io::Error::from_raw_os_error(28);
        disk.fail_calls_from(disk.calls() + call, full);
        let done = transaction.commit();
        drop(consumer);
        let group = log.consumer_group("g").unwrap();
        if done.is_ok() && group.committed(&id("in", 0)).is_err() {
            held_back += 1;
            let refused = [
                group.committed(&id("in", 0)).map(drop),
                group.delete_offsets([id("in", 0)]).map(drop),
                group.reset([id("in", 0)], Seek::Earliest).map(drop),
                group.delete(),
            ];
            for refused in refused {
                assert!(refused.is_err(), "call {call}: {refused:?}");
            }
            let mut next = group.join("in").unwrap();
            let polled = next.poll(Duration::ZERO);
            assert!(
                polled.is_err() || polled.is_ok_and(|records| records.is_empty()),
                "call {call}: work that is committed is not repeated"
            );
        }
        disk.heal();
        if done.is_err() {
            continue;
        }
        // A partition whose append could not be taken back must be opened again.
        let log = if log.maintain().is_ok() {
            log
        } else {
            drop((group, log, input, output, producer));
            Log::builder("log").storage(disk).open().unwrap()
        };
        assert_eq!(position(&log), Some(5), "call {call}");
        let output = log.topic("out").unwrap();
        assert_eq!(committed(&part(&output, 0)), ["x"], "call {call}");
    }
    assert!(held_back > 0, "no call wrote the marker");
}
