//! The records that readers of each isolation see while transactions overlap.

use std::sync::mpsc;
use std::thread;

use annals::{ConsumerConfig, OffsetSpec, Seek, Transaction};

use super::*;

/// All orders of three things.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Begins a transaction that has one record in the log.
fn spilled<'a>(
    producer: &'a mut annals::TransactionalProducer,
    partition: &Partition,
    text: &str,
) -> Transaction<'a> {
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(partition, large(text)).unwrap();
    assert_eq!(written(partition).last(), Some(&large(text)));
    transaction
}

#[test]
fn the_last_stable_offset_is_the_start_of_the_oldest_open_transaction() {
    for order in ORDERS {
        for commits in 0..8 {
            let (log, _, output) = log_with_topics();
            let partition = part(&output, 0);
            let mut producers =
                ["a", "b", "c"].map(|id| log.transactional_producer_with(id, small()).unwrap());
            partition.append("plain").unwrap();
            let mut open: Vec<_> = producers
                .iter_mut()
                .zip(["a", "b", "c"])
                .map(|(producer, text)| Some(spilled(producer, &partition, text)))
                .collect();
            for ended in order {
                let first = open.iter().position(Option::is_some).unwrap() as u64;
                assert_eq!(partition.last_stable_offset(), 1 + first, "{order:?}");
                assert_eq!(committed(&partition)[0], "plain");
                let transaction = open[ended].take().unwrap();
                if commits >> ended & 1 == 1 {
                    transaction.commit().unwrap();
                } else {
                    transaction.abort().unwrap();
                }
            }
            assert_eq!(partition.last_stable_offset(), 1 + 3 + 3, "{order:?}");
            let is_committed = |number: &usize| commits >> number & 1 == 1;
            let expected: Vec<String> = (0..3)
                .filter(is_committed)
                .map(|number| large(["a", "b", "c"][number]))
                .collect();
            assert_eq!(committed(&partition)[1..], expected, "{order:?}");
            assert_eq!(written(&partition).len(), 4);
        }
    }
}

#[test]
fn a_reader_sees_nothing_after_the_start_of_an_open_transaction() {
    let (log, _, output) = log_with_topics();
    let partition = part(&output, 0);
    let mut first = log.transactional_producer_with("1", small()).unwrap();
    let mut second = log.transactional_producer_with("2", small()).unwrap();
    partition.append("before").unwrap();
    let first = spilled(&mut first, &partition, "first");
    let second = spilled(&mut second, &partition, "second");
    partition.append("after").unwrap();
    second.commit().unwrap();
    assert_eq!(committed(&partition), ["before"]);
    assert_eq!(written(&partition).len(), 4);
    assert_eq!(partition.last_stable_offset(), 1);

    let config = ConsumerConfig::new().isolation(Isolation::ReadUncommitted);
    let mut all = log.assign_with([id("out", 0)], config).unwrap();
    let mut stable = log.assign([id("out", 0)]).unwrap();
    for (consumer, end) in [(&mut stable, 1), (&mut all, 5)] {
        consumer.seek_all(Seek::Latest).unwrap();
        assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
        assert_eq!(consumer.position(&id("out", 0)).unwrap(), end);
    }
    first.commit().unwrap();
    let values = [large("first"), large("second"), "after".to_owned()];
    assert_eq!(committed(&partition)[1..], values);
    assert_eq!(poll(&mut stable, 3), values, "it waited at the open record");
    assert!(all.poll(Duration::ZERO).unwrap().is_empty());
    let latest = partition.offset_for(OffsetSpec::Latest).unwrap().unwrap();
    assert_eq!(latest.offset, 6);
}

#[test]
fn one_transaction_commits_and_another_is_aborted() {
    let (log, _, output) = log_with_topics();
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    for (text, is_committed) in [("no", false), ("yes", true)] {
        let mut transaction = producer.begin().unwrap();
        for partition in output.partitions() {
            transaction.send_to(&partition, large(text)).unwrap();
        }
        if is_committed {
            transaction.commit().unwrap();
        } else {
            transaction.abort().unwrap();
        }
    }
    for partition in output.partitions() {
        assert_eq!(committed(&partition), [large("yes")]);
        assert_eq!(written(&partition), [large("no"), large("yes")]);
    }
}

#[test]
fn a_waiting_reader_wakes_at_the_marker_and_passes_the_aborted_records() {
    let (log, _, output) = log_with_topics();
    let partition = part(&output, 0);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let (sender, received) = mpsc::channel();
    let mut follower = partition.follow(..).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..3 {
                let record = follower.next_record().unwrap().unwrap();
                sender.send(record.text().into_owned()).unwrap();
            }
        });
        let aborted = spilled(&mut producer, &partition, "aborted");
        partition.append("plain").unwrap();
        let early = received.recv_timeout(Duration::from_millis(20));
        assert!(early.is_err(), "{early:?}");
        aborted.abort().unwrap();
        assert_eq!(received.recv_timeout(SOON).unwrap(), "plain");
        let committed = spilled(&mut producer, &partition, "committed");
        partition.append("last").unwrap();
        let early = received.recv_timeout(Duration::from_millis(20));
        assert!(early.is_err(), "{early:?}");
        committed.commit().unwrap();
        assert_eq!(received.recv_timeout(SOON).unwrap(), large("committed"));
        assert_eq!(received.recv_timeout(SOON).unwrap(), "last");
    });
}

#[test]
fn deleting_records_of_an_open_transaction_moves_the_last_stable_offset() {
    for is_committed in [false, true] {
        let (log, _, output) = log_with_topics();
        let partition = part(&output, 0);
        partition.append("before").unwrap();
        let mut producer = log.transactional_producer_with("id", small()).unwrap();
        let mut transaction = spilled(&mut producer, &partition, "first");
        for number in 0..8 {
            let text = number.to_string();
            transaction.send_to(&partition, large(&text)).unwrap();
        }
        assert_eq!(partition.last_stable_offset(), 1);
        partition.delete_records_before(5).unwrap();
        assert_eq!(partition.log_start_offset(), 5);
        assert_eq!(partition.last_stable_offset(), 5);
        assert!(committed(&partition).is_empty());
        if is_committed {
            transaction.commit().unwrap();
            let expected: Vec<_> = (3..8)
                .map(|number: u32| large(&number.to_string()))
                .collect();
            assert_eq!(committed(&partition), expected);
        } else {
            transaction.abort().unwrap();
            assert!(committed(&partition).is_empty());
        }
        assert_eq!(partition.last_stable_offset(), partition.log_end_offset());
    }
}
