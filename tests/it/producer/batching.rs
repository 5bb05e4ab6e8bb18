//! Batches of a producer: when they are written, and how large they are.

use std::time::{Duration, Instant};

use annals::{Error, Log, ProducerConfig, TopicConfig};

use super::{batches, numbers, still, topic, values};

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
    assert_eq!(partition.log_end_offset(), 0, "the batch lingers");
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        partition.log_end_offset(),
        0,
        "a clock that is set by hand wakes no thread"
    );
    log.maintain().unwrap();
    assert_eq!(batches(&partition), [2]);

    producer.send_to(&partition, "2").unwrap();
    clock.advance(Duration::from_millis(5));
    producer.send_to(&partition, "3").unwrap();
    assert_eq!(
        batches(&partition),
        [2, 2],
        "the next send checks the deadline"
    );
    clock.advance(Duration::from_secs(1));
    log.maintain().unwrap();
    assert_eq!(values(&partition), numbers(4));
}

#[test]
fn a_lingering_batch_is_written_in_the_background() {
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
            "a batch was written before its time"
        );
    }
}

#[test]
fn waits_and_flushes_write_lingering_batches() {
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
fn every_send_is_written_immediately_without_linger_or_batches() {
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
fn a_full_batch_is_written_and_a_large_record_gets_its_own_batch() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log
        .producer_with(ProducerConfig::new().batch_size(1_000))
        .unwrap();
    for _ in 0..9 {
        producer.send_to(&partition, [b'v'; 200]).unwrap();
    }
    assert_eq!(batches(&partition), [4, 4], "the ninth record does not fit");
    producer.send_to(&partition, [b'v'; 5_000]).unwrap();
    assert_eq!(
        batches(&partition),
        [4, 4, 1, 1],
        "earlier records are written first"
    );
}

#[test]
fn no_batch_exceeds_the_limit_of_its_topic() {
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

    // A record at the limit is accepted, and one with one more byte is refused without a trace.
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
fn records_without_a_key_change_partition_after_each_batch() {
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
        "new partitions are used"
    );
}

/// Regression: each open batch took the room of a full one, so 513 of them wrote each other early.
#[test]
fn thousands_of_small_batches_stay_open_with_the_default_memory() {
    const PARTITIONS: u32 = 2_000;
    let (log, _clock) = still();
    let topic = topic(&log, PARTITIONS);
    let producer = log.producer().unwrap();
    for value in ["a", "b", "c"] {
        for partition in topic.partitions() {
            producer.send_to(&partition, value).unwrap();
        }
    }
    let all_end_at = |end| {
        let partitions = topic.partitions();
        partitions
            .iter()
            .all(|partition| partition.log_end_offset() == end)
    };
    assert!(all_end_at(0));
    producer.flush().unwrap();
    assert!(all_end_at(3));
}

#[test]
fn a_batch_that_has_no_room_to_grow_is_written_as_it_is() {
    let (log, _clock) = still();
    let topic = topic(&log, 2);
    let config = ProducerConfig::new()
        .batch_size(3_000)
        .buffer_memory(3_000)
        .max_block(Duration::ZERO);
    let producer = log.producer_with(config).unwrap();
    let [first, second] = [0, 1].map(|number| topic.partition(number).unwrap());
    producer.send_to(&second, "held").unwrap();
    for count in 1..=20 {
        producer.send_to(&first, [b'v'; 200]).unwrap();
        let ends = (first.log_end_offset(), second.log_end_offset());
        assert!(ends.0 < count && ends.1 == 0, "{count}: {ends:?}");
    }
    assert!(
        first.log_end_offset() >= 11,
        "a batch has room for at most 9 records"
    );
    producer.flush().unwrap();
    assert_eq!((first.log_end_offset(), second.log_end_offset()), (20, 1));
}

#[test]
fn a_full_buffer_is_freed_by_writing_batches() {
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
