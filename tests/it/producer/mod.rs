//! Sending with a producer: order, partitions, timestamps, compression and failures.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use annals::{
    Compression, Delivery, Error, Log, ManualClock, MemoryDisk, Partition, Producer,
    ProducerConfig, Record, Result, Timestamp, TimestampType, Topic, TopicConfig,
};

mod batching;
mod closing;
mod disks;
mod sequences;

const NOW: i64 = 1_700_000_000_000;

/// Opens a log whose clock does not advance, so that no record is written without a call.
fn still() -> (Log, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(NOW));
    (
        Log::builder("data")
            .storage(MemoryDisk::new())
            .clock(clock.clone())
            .open()
            .unwrap(),
        clock,
    )
}

fn topic(log: &Log, partitions: u32) -> Topic {
    log.open_topic("t", partitions, TopicConfig::new()).unwrap()
}

fn values(partition: &Partition) -> Vec<String> {
    let mut reader = partition.read(..).unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(record.offset(), values.len() as u64);
        values.push(record.text().into_owned());
    }
    values
}

/// Returns the number of records in each batch.
fn batches(partition: &Partition) -> Vec<u64> {
    partition
        .read(..)
        .unwrap()
        .map(|batch| batch.unwrap().offsets())
        .map(|offsets| offsets.end - offsets.start)
        .collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn offsets_follow_the_order_of_sends() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log.producer().unwrap();
    let deliveries: Vec<Delivery> = (0..1_000)
        .map(|number| producer.send_to(&partition, number.to_string()).unwrap())
        .collect();
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let written = delivery.wait().unwrap();
        assert_eq!((written.partition, written.offset), (0, number as u64));
        assert_eq!(written.timestamp, Timestamp::from_millis(NOW));
    }
    assert_eq!(values(&partition), numbers(1_000));
}

#[test]
fn sends_of_each_thread_keep_their_order_in_every_partition() {
    const THREADS: usize = 4;
    const RECORDS: usize = 5_000;
    let log = Log::in_memory();
    let topic = topic(&log, 3);
    let producer = log
        .producer_with(ProducerConfig::new().batch_size(700))
        .unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (producer, topic, start) = (producer.clone(), &topic, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..RECORDS {
                    let record =
                        Record::new(format!("{thread} {number}")).key(format!("{}", number % 7));
                    let delivery = producer.send(topic, record).unwrap();
                    if number % 500 == 0 {
                        delivery.wait().unwrap();
                    }
                }
            });
        }
    });
    producer.close().unwrap();
    let mut seen = 0;
    for partition in topic.partitions() {
        let mut last = [None; THREADS];
        for value in values(&partition) {
            let (thread, number) = value.split_once(' ').unwrap();
            let (thread, number) = (
                thread.parse::<usize>().unwrap(),
                number.parse::<usize>().unwrap(),
            );
            assert!(
                last[thread] < Some(number),
                "{value} follows {:?}",
                last[thread]
            );
            last[thread] = Some(number);
            seen += 1;
        }
    }
    assert_eq!(seen, THREADS * RECORDS);
}

#[test]
fn a_key_decides_the_partition_unless_the_caller_does() {
    let (log, _clock) = still();
    let topic = topic(&log, 5);
    let producer = log.producer().unwrap();
    for key in ["", "a", "user-1", "order-42"] {
        let written = producer
            .send(&topic, Record::new("v").key(key))
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(
            written.partition,
            topic.partition_for(key.as_bytes()).id().partition
        );
    }
    let written = producer
        .send_to(
            &topic.partition(3).unwrap(),
            Record::new("v").key("order-42"),
        )
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(written.partition, 3);
}

#[test]
fn a_timestamp_comes_from_the_record_the_send_or_the_append() {
    let (log, clock) = still();
    let producer = log.producer().unwrap();
    let partition = topic(&log, 1).partition(0).unwrap();
    let own = producer
        .send_to(
            &partition,
            Record::new("v").timestamp(Timestamp::from_millis(5)),
        )
        .unwrap();
    clock.advance(Duration::from_millis(2));
    let of_the_clock = producer.send_to(&partition, "v").unwrap();
    assert_eq!(own.wait().unwrap().timestamp.as_millis(), 5);
    assert_eq!(of_the_clock.wait().unwrap().timestamp.as_millis(), NOW + 2);
    let config = TopicConfig::new().timestamp_type(TimestampType::LogAppendTime);
    let stamped = log.create_topic("stamped", 1, config).unwrap();
    let delivery = producer
        .send(
            &stamped,
            Record::new("v").timestamp(Timestamp::from_millis(5)),
        )
        .unwrap();
    clock.advance(Duration::from_millis(3));
    assert_eq!(delivery.wait().unwrap().timestamp.as_millis(), NOW + 5);
    for timestamp in [-1, NOW + 5 + 3_600_001] {
        let refused = producer.send_to(
            &partition,
            Record::new("v").timestamp(Timestamp::from_millis(timestamp)),
        );
        assert!(
            matches!(refused, Err(Error::InvalidRecord { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_compacted_topic_refuses_a_record_without_a_key() {
    let (log, _clock) = still();
    let compacted = TopicConfig::new().cleanup_policy(annals::CleanupPolicy::Compact);
    let compacted = log.create_topic("compacted", 1, compacted).unwrap();
    let producer = log.producer().unwrap();
    assert!(matches!(
        producer.send(&compacted, "no key"),
        Err(Error::InvalidRecord { .. })
    ));
    producer.send(&compacted, ("key", "value")).unwrap();
    assert!(matches!(
        producer.send(&compacted, "no key"),
        Err(Error::InvalidRecord { .. })
    ));
    producer.close().unwrap();
    assert_eq!(values(&compacted.partition(0).unwrap()), ["value"]);
}

#[test]
fn the_topics_codec_wins_over_the_producers() {
    let (log, _clock) = still();
    let bytes = |partition: &Partition| partition.segments()[0].bytes;
    let zstd = TopicConfig::new().compression(Compression::Zstd);
    let plain = topic(&log, 1).partition(0).unwrap();
    let of_topic = log
        .create_topic("zstd", 1, zstd.clone())
        .unwrap()
        .partition(0)
        .unwrap();
    let of_producer = log
        .create_topic("lz4", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    let over_producer = log
        .create_topic("over", 1, zstd)
        .unwrap()
        .partition(0)
        .unwrap();
    let plain_over_producer = TopicConfig::new().compression(Compression::None);
    let plain_over_producer = log
        .create_topic("not", 1, plain_over_producer)
        .unwrap()
        .partition(0)
        .unwrap();
    let send = |config: ProducerConfig, partition: &Partition| {
        let producer = log.producer_with(config).unwrap();
        for number in 0..500 {
            producer
                .send_to(
                    partition,
                    format!("{number}: the same again and again and again"),
                )
                .unwrap();
        }
        producer.close().unwrap();
        assert_eq!(values(partition).len(), 500);
    };
    send(ProducerConfig::new(), &plain);
    send(ProducerConfig::new(), &of_topic);
    send(
        ProducerConfig::new().compression(Compression::Lz4),
        &of_producer,
    );
    send(
        ProducerConfig::new().compression(Compression::Lz4),
        &over_producer,
    );
    send(
        ProducerConfig::new().compression(Compression::Lz4),
        &plain_over_producer,
    );
    assert!(bytes(&of_topic) < bytes(&of_producer));
    assert!(bytes(&of_producer) < bytes(&plain) / 2);
    assert_eq!(
        bytes(&over_producer),
        bytes(&of_topic),
        "the topic's codec wins"
    );
    assert_eq!(bytes(&plain_over_producer), bytes(&plain));
}

#[test]
fn a_failure_is_reported_once_by_a_wait_or_the_next_call() {
    let (log, _clock) = still();
    let doomed = topic(&log, 1);
    let sound = log.create_topic("sound", 1, TopicConfig::new()).unwrap();
    let producer = log.producer().unwrap();
    let gone = |result: Result<()>| match result {
        Err(Error::NotAcknowledged {
            records: 1, cause, ..
        }) => matches!(&*cause, Error::UnknownTopic(name) if &**name == "t"),
        Err(Error::UnknownTopic(name)) => &*name == "t",
        _ => false,
    };

    let waited = producer.send(&doomed, "0").unwrap();
    log.delete_topic("t").unwrap();
    assert!(gone(waited.wait().map(drop)));
    producer.flush().unwrap();

    let flush = |producer: &Producer, _: &Topic| producer.flush();
    let send = |producer: &Producer, sound: &Topic| producer.send(sound, "v").map(drop);
    for next in [flush as fn(&Producer, &Topic) -> Result<()>, send] {
        let doomed = topic(&log, 1);
        drop(producer.send(&doomed, "0").unwrap());
        log.delete_topic("t").unwrap();
        // The log has no record of a deleted topic to flush. The producer reports its records.
        log.flush().unwrap();
        assert!(gone(next(&producer, &sound)));
        next(&producer, &sound).unwrap();
    }

    // Two records share a batch, and one of them is waited for. The other is still to be reported.
    let doomed = topic(&log, 1);
    let waited = producer.send(&doomed, "0").unwrap();
    drop(producer.send(&doomed, "1").unwrap());
    log.delete_topic("t").unwrap();
    assert!(gone(waited.wait().map(drop)));
    assert!(gone(producer.close()));
    assert_eq!(values(&sound.partition(0).unwrap()), ["v"]);
}

#[test]
fn sends_to_a_deleted_or_foreign_topic_are_refused() {
    let (log, _clock) = still();
    let (other, _clock) = still();
    let producer = log.producer().unwrap();
    let foreign = topic(&other, 1);
    assert!(matches!(
        producer.send(&foreign, "v"),
        Err(Error::UnknownTopic(_))
    ));
    assert!(matches!(
        producer.send_to(&foreign.partition(0).unwrap(), "v"),
        Err(Error::UnknownPartition(_))
    ));
    let topic = topic(&log, 1);
    let partition = topic.partition(0).unwrap();
    log.delete_topic("t").unwrap();
    assert!(matches!(
        producer.send(&topic, "v"),
        Err(Error::UnknownTopic(_))
    ));
    assert!(matches!(
        producer.send_to(&partition, "v"),
        Err(Error::UnknownTopic(_))
    ));
    producer.close().unwrap();
}

#[test]
fn two_producers_can_write_to_one_partition() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producers = [log.producer().unwrap(), log.producer().unwrap()];
    for number in 0..30 {
        let producer = &producers[number % 2];
        producer.send_to(&partition, number.to_string()).unwrap();
        producer.flush().unwrap();
    }
    partition.append("30").unwrap();
    assert_eq!(values(&partition), numbers(31));
}

#[test]
fn a_producer_continues_after_a_truncation() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log.producer().unwrap();
    for number in 0..10 {
        producer
            .send_to(&partition, number.to_string())
            .unwrap()
            .wait()
            .unwrap();
    }
    partition.truncate_to(4).unwrap();
    assert_eq!(
        producer
            .send_to(&partition, "4")
            .unwrap()
            .wait()
            .unwrap()
            .offset,
        4
    );
    producer.send_to(&partition, "5").unwrap();
    producer.close().unwrap();
    assert_eq!(values(&partition), numbers(6));
}

#[test]
fn producers_and_deliveries_can_be_sent_between_threads() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_shared::<Producer>();
    is_shared::<ProducerConfig>();
    is_sent::<Delivery>();
}
