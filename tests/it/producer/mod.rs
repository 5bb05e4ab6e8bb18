//! Sending in batches: order, lingering, room, failures, and the many ways in which a producer
//! ends.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    Compression, Delivery, Error, Log, ManualClock, MemoryDisk, Partition, Producer,
    ProducerConfig, Record, Result, Timestamp, TimestampType, Topic, TopicConfig,
};

mod disks;
mod sequences;

const NOW: i64 = 1_700_000_000_000;

/// A log whose time stands still, so that nothing is written but by a call.
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

/// How many records each batch has.
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
fn records_get_offsets_in_the_order_of_their_sends() {
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
fn many_threads_keep_their_order_in_every_partition() {
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
                "{value} behind {:?}",
                last[thread]
            );
            last[thread] = Some(number);
            seen += 1;
        }
    }
    assert_eq!(seen, THREADS * RECORDS);
}

#[test]
fn a_batch_lingers_by_the_clock_of_the_log() {
    let (log, clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().linger(Duration::from_millis(5)))
        .unwrap();
    producer.send_to(&partition, "0").unwrap();
    clock.advance(Duration::from_millis(4));
    log.maintain().unwrap();
    producer.send_to(&partition, "1").unwrap();
    assert_eq!(partition.log_end_offset(), 0, "it lingers");
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        partition.log_end_offset(),
        0,
        "and nobody looks at the clock by himself"
    );
    log.maintain().unwrap();
    assert_eq!(batches(&partition), [2]);

    producer.send_to(&partition, "2").unwrap();
    clock.advance(Duration::from_millis(5));
    producer.send_to(&partition, "3").unwrap();
    assert_eq!(batches(&partition), [2, 2], "the next record looks too");
    clock.advance(Duration::from_secs(1));
    log.maintain().unwrap();
    assert_eq!(values(&partition), numbers(4));
}

#[test]
fn a_batch_that_lingers_is_written_by_itself() {
    let log = Log::in_memory();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().linger(Duration::from_millis(20)))
        .unwrap();
    for number in 0..5 {
        let sent = Instant::now();
        producer.send_to(&partition, number.to_string()).unwrap();
        let end = partition.log_end_offset();
        let mut reader = partition.follow(number..).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            number.to_string()
        );
        assert!(
            sent.elapsed() >= Duration::from_millis(20) || end > number,
            "not before its time"
        );
    }
}

#[test]
fn waiting_writes_what_lingers() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().linger(Duration::MAX))
        .unwrap();
    let first = producer.send_to(&partition, "0").unwrap();
    let second = producer.send_to(&partition, "1").unwrap();
    assert_eq!(second.wait().unwrap().offset, 1);
    assert_eq!(first.wait().unwrap().offset, 0);
    producer.send_to(&partition, "2").unwrap();
    producer.flush().unwrap();
    producer.send_to(&partition, "3").unwrap();
    log.flush().unwrap();
    assert_eq!(batches(&partition), [2, 1, 1]);
}

#[test]
fn without_lingering_every_send_is_written() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    for (config, sent) in [
        (ProducerConfig::new().linger(Duration::ZERO), 3),
        (ProducerConfig::new().batch_size(0), 6),
    ] {
        let producer = log.producer_with(config).unwrap();
        for _ in 0..3 {
            producer.send_to(&partition, "v").unwrap();
        }
        assert_eq!(batches(&partition), vec![1; sent]);
    }
}

#[test]
fn a_full_batch_is_written_and_a_large_record_has_its_own() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().batch_size(1_000))
        .unwrap();
    for _ in 0..9 {
        producer.send_to(&partition, [b'v'; 200]).unwrap();
    }
    assert_eq!(batches(&partition), [4, 4], "the ninth finds no room");
    producer.send_to(&partition, [b'v'; 5_000]).unwrap();
    assert_eq!(
        batches(&partition),
        [4, 4, 1, 1],
        "what came before it goes first"
    );
}

#[test]
fn no_batch_is_larger_than_the_topic_takes() {
    let (log, _clock) = still();
    let config = TopicConfig::new().set("max.message.bytes", "400").unwrap();
    let partition = log
        .create_topic("small", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let producer = log.producer().unwrap();
    for _ in 0..20 {
        producer.send_to(&partition, [b'v'; 100]).unwrap();
    }
    producer.flush().unwrap();
    assert!(
        batches(&partition)
            .into_iter()
            .all(|records| records == 2 || records == 3)
    );

    // The limit is taken, one more is refused, and what is refused is gone.
    let fits = |bytes| producer.send_to(&partition, vec![b'v'; bytes]);
    let most = (300..400).rev().find(|bytes| fits(*bytes).is_ok()).unwrap();
    assert!(matches!(
        fits(most + 1),
        Err(Error::RecordTooLarge {
            bytes: 401,
            limit: 400,
            key: "max.message.bytes",
            ..
        })
    ));
    assert_eq!(fits(most).unwrap().wait().unwrap().offset, 21);
}

#[test]
fn records_without_a_key_move_on_batch_by_batch() {
    let (log, _clock) = still();
    let topic = topic(&log, 3);
    let producer = log
        .producer_with(ProducerConfig::new().batch_size(500))
        .unwrap();
    for _ in 0..300 {
        producer.send(&topic, [b'v'; 100]).unwrap();
    }
    producer.flush().unwrap();
    let all: Vec<Vec<u64>> = topic.partitions().iter().map(batches).collect();
    assert!(all.iter().flatten().all(|records| *records == 3), "{all:?}");
    assert!(all.iter().all(|batches| batches.len() > 10), "{all:?}");
    topic.increase_partitions_to(4).unwrap();
    for _ in 0..300 {
        producer.send(&topic, [b'v'; 100]).unwrap();
    }
    producer.flush().unwrap();
    assert!(
        topic.partition(3).unwrap().log_end_offset() > 0,
        "new partitions have their turn"
    );
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
fn timestamps_are_the_records_own_the_clocks_or_the_topics() {
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
fn what_cannot_be_a_record_of_the_topic_is_refused_at_once() {
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
fn batches_are_compressed_as_the_topic_says_or_else_the_producer() {
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
    assert!(bytes(&of_topic) < bytes(&of_producer) && bytes(&of_producer) < bytes(&plain) / 2);
    assert_eq!(
        bytes(&over_producer),
        bytes(&of_topic),
        "the topic has the last word"
    );
    assert_eq!(bytes(&plain_over_producer), bytes(&plain));
}

#[test]
fn memory_that_is_full_is_made_free_by_writing() {
    let (log, _clock) = still();
    let topic = topic(&log, 10);
    let config = ProducerConfig::new()
        .batch_size(1_000)
        .buffer_memory(3_500)
        .max_block(Duration::ZERO);
    let producer = log.producer_with(config).unwrap();
    let written = || {
        topic
            .partitions()
            .iter()
            .filter(|partition| partition.log_end_offset() > 0)
            .count()
    };
    for number in 0..10 {
        producer
            .send_to(&topic.partition(number).unwrap(), "v")
            .unwrap();
        assert_eq!(
            written(),
            if number < 3 {
                0
            } else {
                number as usize / 3 * 3
            }
        );
    }
    let refused = producer.send_to(&topic.partition(0).unwrap(), [b'v'; 4_000]);
    assert!(
        matches!(
            refused,
            Err(Error::RecordTooLarge {
                limit: 3_500,
                key: "buffer.memory",
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(matches!(
        log.producer_with(ProducerConfig::new().buffer_memory(10)),
        Err(Error::InvalidConfig { .. })
    ));
}

#[test]
fn a_failure_comes_out_once_if_nobody_waits() {
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
        // The topic is gone, and with it what a flush of the log is about; the producer reports its
        // records.
        log.flush().unwrap();
        assert!(gone(next(&producer, &sound)));
        next(&producer, &sound).unwrap();
    }

    // Of two that share a batch one is waited for: the other one is still to be told.
    let doomed = topic(&log, 1);
    let waited = producer.send(&doomed, "0").unwrap();
    drop(producer.send(&doomed, "1").unwrap());
    log.delete_topic("t").unwrap();
    assert!(gone(waited.wait().map(drop)));
    assert!(gone(producer.close()));
    assert_eq!(values(&sound.partition(0).unwrap()), ["v"]);
}

#[test]
fn a_topic_that_is_gone_or_of_another_log_takes_nothing() {
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
fn dropping_the_last_clone_writes_what_is_held() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log.producer().unwrap();
    let clone = producer.clone();
    let delivery = producer.send_to(&partition, "0").unwrap();
    drop(producer);
    assert_eq!(partition.log_end_offset(), 0);
    drop(clone);
    assert_eq!(values(&partition), ["0"]);
    assert_eq!(delivery.wait().unwrap().offset, 0);
}

#[test]
fn closing_one_clone_closes_all() {
    let (log, _clock) = still();
    let topic = topic(&log, 1);
    let producer = log.producer().unwrap();
    let clone = producer.clone();
    producer.send(&topic, "0").unwrap();
    producer.close().unwrap();
    assert_eq!(values(&topic.partition(0).unwrap()), ["0"]);
    assert!(matches!(clone.send(&topic, "1"), Err(Error::Closed)));
    assert!(matches!(clone.flush(), Err(Error::Closed)));
    clone.close().unwrap();
}

#[test]
fn closing_the_log_sends_what_is_held_and_closes_producers() {
    let disk = MemoryDisk::new();
    let open = || Log::builder("data").storage(disk.clone()).open().unwrap();
    let log = open();
    let topic = topic(&log, 1);
    let producer = log
        .producer_with(ProducerConfig::new().linger(Duration::from_secs(3_600)))
        .unwrap();
    let delivery = producer.send(&topic, "0").unwrap();
    drop(producer.send(&topic, "1").unwrap());
    log.close().unwrap();
    assert_eq!(delivery.wait().unwrap().offset, 0);
    assert!(matches!(producer.send(&topic, "2"), Err(Error::Closed)));
    producer.close().unwrap();
    let log = open();
    assert!(log.recovery().clean);
    assert_eq!(
        values(&log.topic("t").unwrap().partition(0).unwrap()),
        ["0", "1"]
    );
    assert!(matches!(
        Log::builder("data")
            .storage(disk.clone())
            .open_read_only()
            .unwrap()
            .producer(),
        Err(Error::ReadOnly)
    ));
}

#[test]
fn the_last_handle_may_be_a_producer() {
    let disk = MemoryDisk::new();
    let producer = {
        let log = Log::builder("data").storage(disk.clone()).open().unwrap();
        let producer = log.producer().unwrap();
        producer.send(&topic(&log, 1), "0").unwrap();
        producer
    };
    assert!(matches!(
        Log::builder("data").storage(disk.clone()).open(),
        Err(Error::Locked { .. })
    ));
    drop(producer);
    let log = Log::builder("data").storage(disk).open().unwrap();
    assert_eq!(values(&topic(&log, 1).partition(0).unwrap()), ["0"]);
}

#[test]
fn threads_that_send_while_it_closes_lose_nothing_they_were_promised() {
    for _ in 0..20 {
        let log = Log::in_memory();
        let topic = topic(&log, 4);
        let producer = log
            .producer_with(ProducerConfig::new().batch_size(300))
            .unwrap();
        let taken: usize = thread::scope(|scope| {
            let send = |producer: Producer| {
                let topic = &topic;
                move || {
                    (0..usize::MAX)
                        .take_while(|number| producer.send(topic, number.to_string()).is_ok())
                        .count()
                }
            };
            let senders: Vec<_> = (0..3)
                .map(|_| scope.spawn(send(producer.clone())))
                .collect();
            thread::sleep(Duration::from_millis(2));
            producer.close().unwrap();
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .sum()
        });
        let written: u64 = topic
            .partitions()
            .iter()
            .map(Partition::log_end_offset)
            .sum();
        assert_eq!(written, taken as u64);
    }
}

#[test]
fn two_producers_may_write_to_one_partition() {
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
fn a_producer_goes_on_behind_a_truncation() {
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
fn a_producer_and_its_deliveries_travel() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_shared::<Producer>();
    is_shared::<ProducerConfig>();
    is_sent::<Delivery>();
}
