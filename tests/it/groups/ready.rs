//! A poll visits only partitions that may have something new. Each kind of change must make a
//! partition that was read to its end visible to the next poll, and no partition may starve.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use annals::{
    Consumer, ConsumerConfig, Durability, Error, Log, OffsetReset, ProducerConfig, Rebalance, Seek,
    TopicConfig,
};

use super::{SOON, committed, drain, fill, fill_batch, log_with, of, offsets, poll, t};

/// Enough for several words of bits.
const MANY: u32 = 150;

/// Returns a consumer without a group that has read all of `t` to its end.
fn at_end(log: &Log, partitions: u32) -> Consumer {
    let mut consumer = log.assign((0..partitions).map(t)).unwrap();
    drain(&mut consumer);
    consumer
}

#[test]
fn a_poll_returns_every_append_to_a_partition_that_was_read_to_its_end() {
    let (log, topic) = log_with(MANY);
    let mut consumer = at_end(&log, MANY);
    let mut ends = BTreeMap::new();
    let mut number = 1_u32;
    for round in 0..400 {
        let mut expected = Vec::new();
        for _ in 0..round % 4 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let partition = (number >> 8) % MANY;
            fill(&topic, partition, 1);
            let end = ends.entry(partition).or_insert(0);
            expected.push((partition, *end));
            *end += 1;
        }
        let mut found = poll(&mut consumer);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "round {round}");
    }
}

#[test]
fn no_partition_starves_beside_one_that_always_has_records() {
    let (log, topic) = log_with(MANY);
    for partition in 0..MANY {
        fill(&topic, partition, 3);
    }
    let config = ConsumerConfig::new().max_poll_records(2);
    let mut consumer = log.assign_with((0..MANY).map(t), config).unwrap();
    let mut returned = vec![0; MANY as usize];
    for round in 0.. {
        fill(&topic, 7, 2);
        for (partition, _) in poll(&mut consumer) {
            returned[partition as usize] += 1;
        }
        if returned.iter().all(|count| *count >= 3) {
            break;
        }
        assert!(round < 3 * MANY, "a partition starves: {returned:?}");
    }
}

#[test]
fn a_batch_that_did_not_fit_is_returned_without_another_append() {
    let (log, topic) = log_with(3);
    for partition in 0..3 {
        fill_batch(&topic, partition, 10);
    }
    let config = ConsumerConfig::new().fetch_max_bytes(1);
    let mut consumer = log.assign_with((0..3).map(t), config).unwrap();
    for partition in [0, 1, 2] {
        assert_eq!(poll(&mut consumer), of(partition, 0..10));
    }
    let config = ConsumerConfig::new().max_partition_fetch_bytes(1);
    let mut consumer = log.assign_with((0..3).map(t), config).unwrap();
    assert_eq!(drain(&mut consumer).len(), 30);
}

#[test]
fn records_appended_during_a_pause_are_returned_after_it() {
    let (log, topic) = log_with(3);
    let mut consumer = at_end(&log, 3);
    consumer.pause(&[t(1)]).unwrap();
    fill(&topic, 1, 1);
    fill(&topic, 2, 1);
    assert_eq!(poll(&mut consumer), of(2, [0]));
    assert_eq!(poll(&mut consumer), []);
    consumer.resume(&[t(1)]).unwrap();
    assert_eq!(poll(&mut consumer), of(1, [0]));
}

#[test]
fn a_seek_makes_a_partition_visible_that_was_read_to_its_end() {
    let (log, topic) = log_with(3);
    fill(&topic, 0, 3);
    fill(&topic, 2, 3);
    let mut consumer = at_end(&log, 3);
    consumer.seek(&t(2), 1).unwrap();
    assert_eq!(poll(&mut consumer), of(2, 1..3));
    consumer.seek_all(Seek::Earliest).unwrap();
    assert_eq!(
        poll(&mut consumer),
        [of(0, 0..3), of(2, 0..3)].concat(),
        "both partitions are read again"
    );
}

#[test]
fn a_cut_makes_the_records_after_it_visible() {
    let (log, topic) = log_with(2);
    fill(&topic, 1, 5);
    let mut consumer = at_end(&log, 2);
    let partition = topic.partition(1).unwrap();
    partition.truncate_to(2).unwrap();
    fill(&topic, 1, 1);
    assert_eq!(poll(&mut consumer), of(1, [2]));
    partition.restart_at(40).unwrap();
    assert_eq!(poll(&mut consumer), []);
    fill(&topic, 1, 1);
    assert_eq!(poll(&mut consumer), of(1, [40]));
}

#[test]
fn a_deletion_beyond_the_position_is_reported() {
    let (log, topic) = log_with(2);
    fill(&topic, 1, 5);
    let mut consumer = at_end(&log, 2);
    fill(&topic, 1, 3);
    topic
        .partition(1)
        .unwrap()
        .delete_records_before(7)
        .unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(offsets(&records), of(1, [7]));
    assert_eq!(records.skipped(), [(t(1), 5..7)]);
}

#[test]
fn the_deletion_of_a_topic_is_reported_after_its_end_was_read() {
    let (log, topic) = log_with(2);
    let other = log.open_topic("u", 1, TopicConfig::new()).unwrap();
    let mut consumer = log.assign([t(0), t(1), ("u", 0).into()]).unwrap();
    assert_eq!(poll(&mut consumer), []);
    log.delete_topic("t").unwrap();
    drop(topic);
    other.append("a record").unwrap();
    let is_unknown = |polled| matches!(polled, Err(Error::UnknownTopic(_)));
    let mut polls = (0..4).map(|_| consumer.poll(Duration::ZERO));
    assert!(polls.any(is_unknown), "the deletion is an error of a poll");
}

#[test]
fn records_of_a_transaction_become_visible_with_its_marker() {
    let (log, topic) = log_with(2);
    let mut consumer = at_end(&log, 2);
    let config = ProducerConfig::new().batch_size(100).buffer_memory(300);
    let mut producer = log.transactional_producer_with("id", config).unwrap();
    let mut transaction = producer.begin().unwrap();
    let partition = topic.partition(1).unwrap();
    for _ in 0..3 {
        transaction.send_to(&partition, "x".repeat(400)).unwrap();
    }
    assert!(partition.log_end_offset() > 0, "the records are in the log");
    fill(&topic, 0, 1);
    assert_eq!(poll(&mut consumer), of(0, [0]));
    transaction.commit().unwrap();
    assert_eq!(poll(&mut consumer), of(1, 0..3));
}

#[test]
fn records_of_a_synced_topic_become_visible_with_the_sync_of_any_thread() {
    let log = Log::in_memory();
    let config = TopicConfig::new().durability(Durability::Synced);
    let topic = log.open_topic("t", 2, config).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // One poll has room for the records of all threads.
                let config = ConsumerConfig::new().max_poll_records(4 * 200);
                let mut consumer = log.assign_with([t(0), t(1)], config).unwrap();
                for _ in 0..200 {
                    let partition = topic.partition(1).unwrap();
                    let end = partition.append("a record").unwrap().offset + 1;
                    // Other threads append as well, so there may be more records.
                    poll(&mut consumer);
                    assert!(
                        consumer.position(&t(1)).unwrap() >= end,
                        "a poll missed {end}"
                    );
                }
            });
        }
    });
}

#[test]
fn partitions_keep_their_records_when_their_places_change() {
    let (log, topic) = log_with(MANY);
    let group = log.consumer_group("g").unwrap();
    let mut first = group.join("t").unwrap();
    assert_eq!(poll(&mut first), []);
    let mut second = group.join("t").unwrap();
    let give_up = first.poll(SOON).unwrap();
    assert!(matches!(give_up.rebalance(), [Rebalance::Revoking(_)]));
    for partition in 0..MANY {
        fill(&topic, partition, 1);
    }
    let mut found = Vec::new();
    while found.len() < MANY as usize {
        found.extend(poll(&mut first));
        found.extend(poll(&mut second));
    }
    found.sort_unstable();
    let expected: Vec<_> = (0..MANY).map(|partition| (partition, 0)).collect();
    assert_eq!(found, expected, "each record is returned once");
    let shares = [first.assignment().len(), second.assignment().len()];
    assert_eq!(shares, [MANY as usize / 2; 2]);
}

#[test]
fn a_partition_without_a_position_is_an_error_of_each_poll() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 1);
    let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::None);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join_with("t", config).unwrap();
    for _ in 0..3 {
        let polled = consumer.poll(Duration::ZERO);
        assert!(matches!(polled, Err(Error::NoOffset(_))));
    }
    consumer.seek_all(0).unwrap();
    assert_eq!(poll(&mut consumer), of(0, [0]));
}

#[test]
fn a_waiting_consumer_receives_every_record_of_many_threads() {
    const WRITERS: u32 = 3;
    const RECORDS: u32 = 2_000;
    let (log, topic) = log_with(MANY);
    let mut consumer = at_end(&log, MANY);
    let appended = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (topic, appended) = (&topic, &appended);
            scope.spawn(move || {
                for number in 0..RECORDS {
                    fill_batch(topic, number * (2 * writer + 1) % MANY, 1);
                    appended.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let (mut count, all) = (0, (WRITERS * RECORDS) as usize);
        while count < all {
            let records = consumer.poll(SOON).unwrap();
            assert!(
                !records.is_empty(),
                "a poll was not woken: {count} of {} records",
                appended.load(Ordering::SeqCst)
            );
            count += records.iter().count();
        }
        assert_eq!(count, all);
    });
}

#[test]
fn a_commit_stores_the_position_again_after_a_lower_one_was_committed() {
    let (log, topic) = log_with(2);
    fill(&topic, 1, 4);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let records = consumer.poll(SOON).unwrap();
    consumer.commit().unwrap();
    assert_eq!(committed(&group, &t(1)), Some(4));
    let second = records.iter().nth(1).unwrap().unwrap();
    consumer.commit_record(&second).unwrap();
    assert_eq!(committed(&group, &t(1)), Some(2));
    consumer.commit().unwrap();
    assert_eq!(committed(&group, &t(1)), Some(4));
    consumer.commit_offsets([(t(1), 1.into())]).unwrap();
    consumer.commit().unwrap();
    assert_eq!(committed(&group, &t(1)), Some(4));
    consumer.seek(&t(1), 3).unwrap();
    consumer.commit().unwrap();
    assert_eq!(
        committed(&group, &t(1)),
        Some(3),
        "a seek moves the position"
    );
}
