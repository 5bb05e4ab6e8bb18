//! Consumers of a partition whose oldest records are deleted while they poll: every offset is
//! returned or reported as skipped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use annals::{Consumer, ConsumerConfig, Error, Log, OffsetReset, Partition, TopicConfig};

const ROUNDS: u64 = 400;

/// Appends four records and deletes older ones, [`ROUNDS`] times.
fn change(partition: &Partition) {
    for round in 0..ROUNDS {
        for _ in 0..4 {
            partition.append("a value").unwrap();
        }
        let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
        let before = if round % 3 == 0 {
            end - 1
        } else {
            (start + 3).min(end)
        };
        assert_eq!(partition.delete_records_before(before).unwrap(), before);
    }
}

/// Runs `poll` until the other thread has finished its changes and the consumer has caught up.
/// Returns the last position of the consumer.
fn poll_during_deletions(
    config: ConsumerConfig,
    mut poll: impl FnMut(&mut Consumer, u64) -> u64,
) -> u64 {
    let log = Log::in_memory();
    let partition = log
        .open_topic("t", 1, TopicConfig::new().segment_bytes(300))
        .unwrap()
        .partition(0)
        .unwrap();
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", config)
        .unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            change(&partition);
            is_over.store(true, Ordering::Release);
        });
        let mut next = 0;
        loop {
            let was_over = is_over.load(Ordering::Acquire);
            next = poll(&mut consumer, next);
            if was_over && consumer.lag() == Some(0) {
                return next;
            }
        }
    })
}

#[test]
fn a_consumer_returns_each_record_or_reports_it_as_skipped_during_deletions() {
    let config = ConsumerConfig::new().max_poll_records(7);
    let mut skipped = 0;
    let end = poll_during_deletions(config, |consumer, mut next| {
        let records = consumer.poll(Duration::ZERO).unwrap();
        let mut ranges: Vec<_> = records
            .skipped()
            .iter()
            .map(|(_, offsets)| offsets.clone())
            .collect();
        skipped += ranges.len();
        ranges.extend(
            records
                .iter()
                .map(|record| record.unwrap().offset())
                .map(|offset| offset..offset + 1),
        );
        ranges.sort_by_key(|offsets| offsets.start);
        for offsets in ranges {
            assert_eq!(offsets.start, next, "every offset is covered exactly once");
            next = offsets.end;
        }
        next
    });
    assert_eq!(end, ROUNDS * 4);
    assert!(skipped > 0, "no deletion overtook the consumer");
}

#[test]
fn a_consumer_without_a_reset_policy_returns_an_error_when_a_deletion_overtakes_it() {
    let config = ConsumerConfig::new()
        .auto_offset_reset(OffsetReset::None)
        .max_poll_records(7);
    let mut errors = 0;
    let end = poll_during_deletions(config, |consumer, next| {
        match consumer.poll(Duration::ZERO) {
            Ok(records) => {
                assert!(records.skipped().is_empty());
                records
                    .iter()
                    .map(|record| record.unwrap().offset())
                    .fold(next, |next, offset| {
                        assert_eq!(offset, next);
                        offset + 1
                    })
            }
            Err(Error::NoOffset(partition)) => {
                consumer.seek(&partition, next).unwrap();
                next
            }
            Err(Error::OffsetOutOfRange {
                requested,
                log_start,
                ..
            }) => {
                assert_eq!(requested, next);
                errors += 1;
                consumer.seek(&("t", 0).into(), log_start).unwrap();
                log_start
            }
            Err(error) => panic!("{error}"),
        }
    });
    assert_eq!(end, ROUNDS * 4);
    assert!(errors > 0, "no deletion overtook the consumer");
}
