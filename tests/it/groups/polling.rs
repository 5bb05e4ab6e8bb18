//! Polls: the order of records, turns among partitions, limits, waking, and records that retention
//! removed.

use std::path::Path;
use std::thread;
use std::time::Duration;

use annals::{
    Batch, Consumer, ConsumerConfig, ConsumerGroup, Durability, Error, Isolation, Log, OffsetReset,
    ReadOptions, Record, RecordView, Records, Result, Subscription, TopicConfig,
};

use super::{SOON, copy_dir, drain, fill, fill_batch, log_with, of, offsets, poll, poll_while, t};

#[test]
fn handles_are_send_and_sync() {
    fn is_shared<T: Send + Sync + 'static>() {}
    fn is_cloned<T: Clone>() {}
    is_shared::<Consumer>();
    is_shared::<ConsumerGroup>();
    is_shared::<Records>();
    is_shared::<Batch>();
    is_shared::<Subscription>();
    is_cloned::<ConsumerGroup>();
    is_cloned::<Records>();
}

#[test]
fn a_poll_returns_records_in_order_partition_by_partition() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 3);
    fill_batch(&topic, 1, 2);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(consumer.assignment(), [t(0), t(1)]);
    let records = consumer.poll(SOON).unwrap();
    assert_eq!(offsets(&records), [of(0, 0..3), of(1, 0..2)].concat());
    assert_eq!(records.partitions(), [t(0), t(1)]);
    for number in [0, 1] {
        let own = records
            .of(&t(number))
            .collect::<Result<Vec<RecordView<'_>>>>()
            .unwrap();
        for record in &own {
            assert_eq!(record.partition(), number);
            assert_eq!(record.text(), record.offset().to_string());
        }
        assert_eq!(own.len(), [3, 2][number as usize]);
    }
    assert_eq!(records.of(&t(2)).count(), 0);
    assert_eq!(records.rebalance(), []);
    assert_eq!(records.skipped(), []);
    assert!(!records.is_empty());
    assert!(poll(&mut consumer).is_empty());
    assert_eq!(
        [t(0), t(1)].map(|partition| consumer.position(&partition).unwrap()),
        [3, 2]
    );
}

#[test]
fn records_and_their_views_outlive_the_consumer_and_the_log() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 3);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    let records = consumer.poll(SOON).unwrap();
    let views = records
        .iter()
        .collect::<Result<Vec<RecordView<'_>>>>()
        .unwrap();
    consumer.commit_record(&views[1]).unwrap();
    consumer.close().unwrap();
    log.close().unwrap();
    assert_eq!(views[2].text(), "2");
    let clone = records.clone();
    assert_eq!(
        thread::spawn(move || offsets(&clone)).join().unwrap(),
        of(0, 0..3)
    );
}

#[test]
fn a_poll_returns_at_most_max_poll_records() {
    let (log, topic) = log_with(1);
    fill_batch(&topic, 0, 10);
    fill_batch(&topic, 0, 3);
    let config = ConsumerConfig::new().max_poll_records(4);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join_with("t", config.clone()).unwrap();
    for expected in [0..4, 4..8, 8..12, 12..13] {
        assert_eq!(poll(&mut consumer), of(0, expected.clone()));
        assert_eq!(consumer.position(&t(0)).unwrap(), expected.end);
    }
    // Start in the middle of a batch, as after a restart.
    consumer.seek(&t(0), 3).unwrap();
    assert_eq!(poll(&mut consumer), of(0, 3..7));
    consumer.commit().unwrap();
    drop(consumer);
    let mut consumer = group.join_with("t", config).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 7..13));

    let refused = group.join_with("t", ConsumerConfig::new().max_poll_records(0));
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
}

#[test]
fn a_batch_above_the_limits_is_returned_whole_if_it_is_the_first() {
    let (log, topic) = log_with(1);
    let partition = topic.partition(0).unwrap();
    let large = "x".repeat(20_000);
    for value in [&*large, "small", "small", &*large] {
        partition.append(Record::new(value)).unwrap();
    }
    for config in [
        ConsumerConfig::new().max_partition_fetch_bytes(10_000),
        ConsumerConfig::new().fetch_max_bytes(10_000),
    ] {
        let mut consumer = log
            .consumer_group("g")
            .unwrap()
            .join_with("t", config)
            .unwrap();
        assert_eq!(
            poll(&mut consumer),
            of(0, [0]),
            "a batch that is too large is returned alone"
        );
        assert_eq!(
            poll(&mut consumer),
            of(0, [1, 2]),
            "a batch that is too large waits until it is the first"
        );
        assert_eq!(poll(&mut consumer), of(0, [3]));
    }
}

#[test]
fn other_partitions_do_not_hold_back_a_large_batch_forever() {
    let (log, topic) = log_with(3);
    fill(&topic, 0, 40);
    topic
        .partition(1)
        .unwrap()
        .append(Record::new("x".repeat(20_000)))
        .unwrap();
    fill(&topic, 2, 40);
    let config = ConsumerConfig::new().max_partition_fetch_bytes(500);
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", config)
        .unwrap();
    let first = poll(&mut consumer);
    assert!(first.iter().any(|(partition, _)| *partition == 2));
    assert!(!first.contains(&(1, 0)));
    assert!(
        poll(&mut consumer).contains(&(1, 0)),
        "the large batch is the first of its poll"
    );
}

#[test]
fn a_poll_starts_with_the_partition_after_the_last_one() {
    let (log, topic) = log_with(3);
    fill(&topic, 0, 100);
    fill(&topic, 1, 5);
    fill(&topic, 2, 5);
    let config = ConsumerConfig::new().max_poll_records(5);
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", config)
        .unwrap();
    assert_eq!(poll(&mut consumer), of(0, 0..5));
    assert_eq!(poll(&mut consumer), of(1, 0..5));
    assert_eq!(poll(&mut consumer), of(2, 0..5));
    assert_eq!(poll(&mut consumer), of(0, 5..10));
    fill(&topic, 2, 1);
    assert_eq!(poll(&mut consumer), [of(2, [5]), of(0, 10..14)].concat());
}

#[test]
fn a_waiting_poll_returns_when_a_record_is_appended() {
    let (log, topic) = log_with(4);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    for number in 0..4 {
        let (records, ()) = poll_while(&mut consumer, || fill(&topic, number, 1));
        assert_eq!(offsets(&records), of(number, [0]));
    }
}

#[test]
fn a_waiting_poll_returns_when_a_record_of_a_synced_topic_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log
        .open_topic("t", 1, TopicConfig::new().durability(Durability::Synced))
        .unwrap();
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    for offset in 0..5 {
        let (records, ()) = poll_while(&mut consumer, || fill(&topic, 0, 1));
        assert_eq!(offsets(&records), of(0, [offset]));
        consumer.commit().unwrap();
    }
}

#[test]
fn a_poll_ends_after_its_timeout() {
    let (log, _topic) = log_with(1);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    assert!(consumer.poll(Duration::from_millis(20)).unwrap().is_empty());
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
}

#[test]
fn a_wake_ends_one_poll_even_if_there_are_records() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 2);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    let waker = consumer.waker();
    waker.wake();
    waker.wake();
    assert!(
        consumer.poll(Duration::MAX).unwrap().is_empty(),
        "the wake comes before the records"
    );
    assert_eq!(consumer.position(&t(0)).unwrap(), 0);
    assert_eq!(poll(&mut consumer), of(0, 0..2));
    assert!(poll_while(&mut consumer, || waker.wake()).0.is_empty());
    drop(consumer);
    waker.wake(); // The waker outlives its consumer.
}

#[test]
fn closing_the_log_ends_a_waiting_poll() {
    let (log, _topic) = log_with(1);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.poll(Duration::MAX));
        thread::sleep(Duration::from_millis(5));
        log.clone().close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
    assert!(matches!(consumer.poll(Duration::ZERO), Err(Error::Closed)));
    assert!(matches!(
        consumer.commit_offsets([(t(0), 0.into())]),
        Err(Error::Closed)
    ));
    assert!(matches!(group.join("t"), Err(Error::Closed)));
    consumer.close().unwrap();
}

#[test]
fn records_removed_before_they_were_read_are_reported_as_skipped_once() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 10);
    fill(&topic, 1, 2);
    let partition = topic.partition(0).unwrap();
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new().max_poll_records(2);
    let mut consumer = group.join_with("t", config).unwrap();
    assert_eq!(poll(&mut consumer), of(0, 0..2));
    consumer.commit().unwrap();
    partition.delete_records_before(6).unwrap();
    assert_eq!(poll(&mut consumer), of(1, 0..2));
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.skipped(), [(t(0), 2..6)]);
    assert_eq!(offsets(&records), of(0, 6..8));
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert!(records.skipped().is_empty());
    assert_eq!(offsets(&records), of(0, 8..10));

    // All records are removed. The poll reports it without a record of the partition, also to a
    // member that joins later.
    drop(consumer);
    partition.delete_records_before(10).unwrap();
    let mut consumer = group.join("t").unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.skipped(), [(t(0), 2..10)]);
    assert_eq!(
        offsets(&records),
        of(1, 0..2),
        "the records of partition 1 were never committed"
    );
    assert!(consumer.poll(Duration::ZERO).unwrap().skipped().is_empty());
}

#[test]
fn a_removed_position_is_an_error_without_a_reset_policy() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 1.into())]).unwrap();
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(3)
        .unwrap();
    let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::None);
    let mut consumer = group.join_with("t", config).unwrap();
    for _ in 0..2 {
        let refused = consumer.poll(Duration::ZERO);
        assert!(matches!(
            refused,
            Err(Error::OffsetOutOfRange {
                requested: 1,
                log_start: 3,
                log_end: 5,
                ..
            })
        ));
    }
    consumer.seek(&t(0), 4).unwrap();
    assert_eq!(poll(&mut consumer), of(0, [4]));
}

#[test]
fn an_error_in_one_partition_does_not_hold_back_the_others() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 1);
    fill(&topic, 1, 1);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(1), 0.into())]).unwrap();
    let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::None);
    let mut consumer = group.join_with("t", config).unwrap();
    assert!(
        matches!(consumer.poll(Duration::ZERO), Err(Error::NoOffset(partition)) if partition == t(0))
    );
    assert_eq!(poll(&mut consumer), of(1, [0]));
    fill(&topic, 1, 1);
    assert!(matches!(
        consumer.poll(Duration::ZERO),
        Err(Error::NoOffset(_))
    ));
    assert_eq!(poll(&mut consumer), of(1, [1]));
    assert!(matches!(consumer.position(&t(0)), Err(Error::NoOffset(_))));
}

#[test]
fn a_paused_partition_returns_no_records_until_it_is_resumed() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 2);
    fill(&topic, 1, 2);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    consumer.pause(&[t(0)]).unwrap();
    assert_eq!(drain(&mut consumer), of(1, 0..2));
    assert_eq!(consumer.position(&t(0)).unwrap(), 0);
    assert_eq!(consumer.lag(), Some(2));
    consumer.resume(&[t(0), t(1)]).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 0..2));
    assert!(
        matches!(consumer.pause(&[t(0), t(9)]), Err(Error::NotAssigned(partition)) if partition == t(9))
    );
    fill(&topic, 0, 1);
    assert_eq!(
        drain(&mut consumer),
        of(0, [2]),
        "a refused call must not pause any partition"
    );
}

#[test]
fn lag_counts_the_records_that_are_left_to_read() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 7);
    fill(&topic, 1, 3);
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", ConsumerConfig::new().max_poll_records(5))
        .unwrap();
    assert_eq!(consumer.lag(), Some(10));
    poll(&mut consumer);
    assert_eq!(consumer.lag(), Some(5));
    topic
        .partition(1)
        .unwrap()
        .delete_records_before(2)
        .unwrap();
    assert_eq!(consumer.lag(), Some(3));
    drain(&mut consumer);
    assert_eq!(consumer.lag(), Some(0));
}

#[test]
fn several_topics_are_read_together() {
    let (log, topic) = log_with(1);
    let other = log.open_topic("other", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 1);
    fill(&other, 0, 2);
    let group = log.consumer_group("g").unwrap();
    for topics in [
        Subscription::from(["t", "other"]),
        vec![String::from("other"), String::from("t")].into(),
    ] {
        let mut consumer = group.join(topics).unwrap();
        let records = consumer.poll(SOON).unwrap();
        assert_eq!(records.partitions(), [("other", 0).into(), t(0)]);
        assert_eq!(records.iter().count(), 3);
    }
}

#[test]
fn a_poll_returns_the_same_records_of_a_broker_as_a_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for set in ["clean", "killed", "legacy"] {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&fixtures.join(set).join("root"), dir.path());
        let log = Log::open(dir.path()).unwrap();
        for (topic, isolation) in log.topics().iter().flat_map(|topic| {
            [Isolation::ReadUncommitted, Isolation::ReadCommitted]
                .map(|isolation| (topic, isolation))
        }) {
            let options = ReadOptions::new().isolation(isolation);
            let mut expected = Vec::new();
            for partition in topic.partitions() {
                for batch in partition.read_with(.., options.clone()).unwrap() {
                    expected.extend(
                        batch
                            .unwrap()
                            .iter()
                            .map(|record| (partition.id().partition, record.unwrap().offset())),
                    );
                }
            }
            let config = ConsumerConfig::new()
                .isolation(isolation)
                .max_poll_records(7);
            let mut consumer = log
                .consumer_group("polls")
                .unwrap()
                .join_with(topic.name(), config)
                .unwrap();
            let mut polled = Vec::new();
            loop {
                let records = offsets(&consumer.poll(Duration::ZERO).unwrap());
                assert!(
                    records.len() <= 7,
                    "{set} {}: {}",
                    topic.name(),
                    records.len()
                );
                if records.is_empty() {
                    break;
                }
                polled.extend(records);
            }
            polled.sort_unstable();
            assert_eq!(polled, expected, "{set} {} {isolation:?}", topic.name());
            assert_eq!(
                consumer.lag(),
                Some(0),
                "{set} {} {isolation:?}",
                topic.name()
            );
        }
    }
}
