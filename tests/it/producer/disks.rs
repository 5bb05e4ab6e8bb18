//! Producers and the device: which records are synced and when, and disks that are full, fail, or
//! lose power.

use std::io;
use std::time::{Duration, Instant};

use annals::{
    Durability, Error, Log, LogConfig, ManualClock, Partition, ProducerConfig, SimulatedDisk,
    Timestamp, Topic, TopicConfig,
};

use super::{NOW, numbers, values};

fn open(disk: &SimulatedDisk) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(NOW));
    Log::builder("data")
        .storage(disk.clone())
        .clock(clock)
        .open()
        .unwrap()
}

/// Returns the cause of an error that reports unacknowledged records.
fn cause_of(result: &annals::Result<()>) -> Option<&Error> {
    match result {
        Err(Error::NotAcknowledged { cause, .. }) => Some(cause),
        _ => None,
    }
}

/// Opens the topic. Returns it and its only partition.
fn topic(log: &Log, durability: Durability) -> (Topic, Partition) {
    let topic = log
        .open_topic("t", 1, TopicConfig::new().durability(durability))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    (topic, partition)
}

#[test]
fn waits_and_flushes_in_a_synced_topic_wait_for_the_device() {
    for seed in 0..10 {
        let disk = SimulatedDisk::new(seed);
        let log = open(&disk);
        let (topic, partition) = topic(&log, Durability::Synced);
        let producer = log.producer().unwrap();
        let first = producer.send(&topic, "0").unwrap();
        drop(producer.send(&topic, "1").unwrap());
        assert_eq!(first.wait().unwrap().offset, 0);
        assert_eq!(partition.high_watermark(), 2, "the batch is on the device");
        producer.send(&topic, "2").unwrap();
        producer.flush().unwrap();
        assert_eq!(partition.high_watermark(), 3);
        producer.send(&topic, "3").unwrap();
        producer.close().unwrap();
        assert_eq!(partition.high_watermark(), 4);
        let log = open(&disk.crash());
        assert_eq!(
            values(&log.topic("t").unwrap().partition(0).unwrap()),
            ["0", "1", "2", "3"]
        );
    }
}

#[test]
fn a_send_through_a_synced_handle_waits_for_the_device() {
    for seed in 0..10 {
        let disk = SimulatedDisk::new(seed);
        let log = open(&disk);
        let (topic, _) = topic(&log, Durability::Os);
        let producer = log.producer().unwrap();
        producer.send(&topic, "earlier").unwrap();
        let delivery = producer
            .send(&topic.with_durability(Durability::Synced), "synced")
            .unwrap();
        assert_eq!(delivery.wait().unwrap().offset, 1);
        producer.send(&topic, "unsynced").unwrap().wait().unwrap();
        let log = open(&disk.crash());
        let left = values(&log.topic("t").unwrap().partition(0).unwrap());
        assert_eq!(left[..2], ["earlier", "synced"], "seed {seed}");
    }
}

/// No call waits, flushes or sends more. Readers see only synced records, and still get them.
#[test]
fn sends_to_a_synced_topic_are_synced_in_the_background() {
    let config = LogConfig::new().flush_interval(Duration::from_secs(3_600));
    let log = Log::builder("data")
        .storage(SimulatedDisk::new(1))
        .config(config)
        .open()
        .unwrap();
    let (topic, partition) = topic(&log, Durability::Synced);
    for (number, linger) in [0, 1, 20].into_iter().enumerate() {
        let producer = log
            .producer_with(ProducerConfig::new().linger(Duration::from_millis(linger)))
            .unwrap();
        producer.send(&topic, number.to_string()).unwrap();
        let mut reader = partition.follow(number as u64..).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            number.to_string()
        );
    }
}

#[test]
fn unsynced_sends_never_exceed_the_buffer_memory() {
    let log = open(&SimulatedDisk::new(1));
    let (topic, partition) = topic(&log, Durability::Synced);
    let config = ProducerConfig::new()
        .batch_size(1_000)
        .buffer_memory(10_000)
        .max_block(Duration::ZERO);
    let producer = log.producer_with(config).unwrap();
    let mut was_behind = false;
    for _ in 0..1_000 {
        producer.send(&topic, [b'v'; 100]).unwrap();
        let ahead = partition.log_end_offset() - partition.high_watermark();
        was_behind |= ahead > 50;
        assert!(ahead <= 100, "{ahead} records are not synced");
    }
    assert!(was_behind, "sends waited although there was space");
    log.maintain().unwrap();
    assert_eq!(partition.high_watermark(), partition.log_end_offset());
    producer.close().unwrap();
    assert_eq!(values(&partition).len(), 1_000);
}

/// Regression: the producer dropped each batch that met the full disk, although the error was
/// retriable.
#[test]
fn a_full_disk_delays_records_and_loses_none() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let producer = log
        .producer_with(ProducerConfig::new().batch_size(500))
        .unwrap();
    producer.send(&topic, "0").unwrap().wait().unwrap();
    disk.set_capacity(4_000);
    for number in 1..1_000 {
        producer.send(&topic, number.to_string()).unwrap();
    }
    assert!(is_full(&log.flush()), "a flush must report the full disk");
    let end = partition.log_end_offset();
    assert!(end < 1_000, "the disk is full at {end}");
    disk.set_capacity(u64::MAX);
    producer.send(&topic, "1000").unwrap();
    producer.flush().unwrap();
    assert_eq!(values(&partition), numbers(1_001));
    producer.close().unwrap();
}

fn is_full<T>(result: &annals::Result<T>) -> bool {
    matches!(result, Err(Error::DiskFull { .. }))
}

#[test]
fn abandoned_records_are_counted() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    let [first, second] = [0, 1].map(|number| topic.partition(number).unwrap());
    let producer = log
        .producer_with(ProducerConfig::new().delivery_timeout(Duration::ZERO))
        .unwrap();
    for partition in [&first, &second] {
        producer.send_to(partition, "0").unwrap().wait().unwrap();
    }
    disk.set_capacity(0);
    let delivery = producer.send_to(&first, "waited for").unwrap();
    assert!(is_full(&delivery.wait()));
    producer.flush().unwrap();
    for (partition, records) in [(&first, 3), (&second, 5)] {
        for _ in 0..records {
            producer.send_to(partition, "lost").unwrap();
        }
    }
    for (partition, expected) in [("t-0", 3), ("t-1", 5)] {
        let error = producer.flush().unwrap_err();
        let Error::NotAcknowledged {
            partition: found,
            records,
            cause,
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (found.to_string().as_str(), *records),
            (partition, expected)
        );
        assert!(matches!(**cause, Error::DiskFull { .. }), "{cause}");
        assert!(
            !error.is_retriable(),
            "flush does not send the records again"
        );
    }
    disk.set_capacity(u64::MAX);
    assert_eq!(
        producer
            .send_to(&first, "1")
            .unwrap()
            .wait()
            .unwrap()
            .offset,
        1
    );
    producer.close().unwrap();
    assert_eq!(values(&first), ["0", "1"]);
}

#[test]
fn the_delivery_timeout_ends_a_wait() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let timeout = Duration::from_millis(250);
    let producer = log
        .producer_with(ProducerConfig::new().delivery_timeout(timeout))
        .unwrap();
    disk.set_capacity(0);
    let mut deliveries = ["0", "1"].map(|value| producer.send(&topic, value).unwrap());
    assert!(deliveries[0].try_wait().unwrap().is_none());
    let started = Instant::now();
    let [first, second] = deliveries;
    assert!(is_full(&second.wait()));
    assert!(started.elapsed() >= timeout);
    drop(first);
    disk.set_capacity(u64::MAX);
    assert!(matches!(
        producer.close(),
        Err(Error::NotAcknowledged { records: 1, .. })
    ));
    assert_eq!(partition.log_end_offset(), 0);
}

#[test]
fn held_records_are_written_in_the_background_once_there_is_space() {
    for linger in [0, 5] {
        let disk = SimulatedDisk::new(1);
        let log = Log::builder("data").storage(disk.clone()).open().unwrap();
        let (topic, partition) = topic(&log, Durability::Os);
        let producer = log
            .producer_with(ProducerConfig::new().linger(Duration::from_millis(linger)))
            .unwrap();
        producer.send(&topic, "0").unwrap().wait().unwrap();
        disk.set_capacity(0);
        for value in ["1", "2"] {
            producer.send(&topic, value).unwrap();
        }
        let mut reader = partition.follow(1..).unwrap();
        disk.set_capacity(u64::MAX);
        for value in ["1", "2"] {
            assert_eq!(reader.next_record().unwrap().unwrap().text(), value);
        }
    }
}

#[test]
fn maintain_frees_space_for_held_records() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let topic = log
        .open_topic(
            "t",
            1,
            TopicConfig::new()
                .retention_bytes(1_000)
                .segment_bytes(1_000),
        )
        .unwrap();
    let partition = topic.partition(0).unwrap();
    disk.set_capacity(10_000);
    while partition.append([b'v'; 40]).is_ok() {}
    let end = partition.log_end_offset();
    let producer = log.producer().unwrap();
    producer.send(&topic, [b'v'; 40]).unwrap();
    assert!(is_full(&log.flush()));
    log.maintain().unwrap();
    assert_eq!(partition.log_end_offset(), end + 1);
}

#[test]
fn a_full_buffer_reports_the_full_disk() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let max_block = Duration::from_millis(50);
    let config = ProducerConfig::new()
        .batch_size(200)
        .buffer_memory(600)
        .max_block(max_block);
    let producer = log.producer_with(config).unwrap();
    producer.send(&topic, "0").unwrap().wait().unwrap();
    disk.set_capacity(0);
    let mut sent = 1;
    let refused = loop {
        match producer.send(&topic, sent.to_string()) {
            Ok(_) => sent += 1,
            Err(error) => break Err::<(), _>(error),
        }
    };
    assert!(is_full(&refused), "{refused:?}");
    assert!(sent > 20, "the buffer accepts records first");
    disk.set_capacity(u64::MAX);
    producer.close().unwrap();
    assert_eq!(values(&partition), numbers(sent));
}

/// The producer repeats a write that may have reached the file with the same sequence.
#[test]
fn a_retried_batch_is_not_written_twice() {
    for fails_short in [false, true] {
        let disk = SimulatedDisk::new(1);
        let log = open(&disk);
        let (topic, partition) = topic(&log, Durability::Os);
        let producer = log.producer().unwrap();
        producer.send(&topic, "0").unwrap().wait().unwrap();
        let fail = if fails_short {
            SimulatedDisk::fail_call_short
        } else {
            SimulatedDisk::fail_call
        };
        fail(&disk, disk.calls(), io::ErrorKind::TimedOut.into());
        assert_eq!(
            producer.send(&topic, "1").unwrap().wait().unwrap().offset,
            1
        );
        assert_eq!(
            producer.send(&topic, "2").unwrap().wait().unwrap().offset,
            2
        );
        assert_eq!(values(&partition), numbers(3));
    }
}

#[test]
fn closing_the_log_on_a_full_disk_reports_abandoned_records() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, _partition) = topic(&log, Durability::Os);
    let producer = log.producer().unwrap();
    producer.send(&topic, "0").unwrap().wait().unwrap();
    disk.set_capacity(0);
    let deliveries = ["1", "2", "3"].map(|value| producer.send(&topic, value).unwrap());
    let closed = log.close();
    assert!(
        matches!(closed, Err(Error::NotAcknowledged { records: 3, .. })),
        "{closed:?}"
    );
    for delivery in deliveries {
        assert!(is_full(&delivery.wait()));
    }
}

/// After a failed sync it is unknown whether its records are on the device. Each sender learns that
/// from its delivery or from its next call.
#[test]
fn a_failed_sync_is_reported_for_every_record_it_covered() {
    for waits in [true, false] {
        let disk = SimulatedDisk::new(1);
        let log = open(&disk);
        let (topic, partition) = topic(&log, Durability::Synced);
        let producer = log.producer().unwrap();
        producer.send(&topic, "0").unwrap().wait().unwrap();
        let deliveries = ["1", "2"].map(|value| producer.send(&topic, value).unwrap());
        // The first call is the write, and the second one is the sync.
        disk.fail_call(disk.calls() + 1, io::Error::other("the device failed"));
        if waits {
            for delivery in deliveries {
                let result = delivery.wait();
                assert!(
                    matches!(result, Err(Error::SyncFailed { .. })),
                    "{result:?}"
                );
            }
        } else {
            drop(deliveries);
            let result = producer.flush();
            assert!(
                matches!(cause_of(&result), Some(Error::SyncFailed { .. })),
                "{result:?}"
            );
        }
        assert!(matches!(
            producer.send(&topic, "3"),
            Err(Error::Poisoned { .. })
        ));
        assert_eq!(partition.high_watermark(), 1);

        partition.reopen().unwrap();
        let end = partition.log_end_offset();
        assert!(end == 1 || end == 3, "{end}");
        let delivery = producer.send(&topic, "3").unwrap();
        assert_eq!(delivery.wait().unwrap().offset, end);
        producer.close().unwrap();
    }
}

/// A sync fails, and the partition is reopened before the producer asks for its record. The record
/// is reported as failed exactly if reopening did not find it.
#[test]
fn a_record_that_reopen_did_not_find_is_reported() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let log = open(&disk);
        let (topic, partition) = topic(&log, Durability::Synced);
        let config = ProducerConfig::new().linger(Duration::ZERO);
        let producer = log.producer_with(config).unwrap();
        producer.send(&topic, "0").unwrap();
        disk.fail_call(disk.calls(), io::Error::other("the device failed"));
        assert!(matches!(
            partition.append("1"),
            Err(Error::Io { .. } | Error::SyncFailed { .. })
        ));
        partition.reopen().unwrap();
        let is_there = values(&partition).first().is_some_and(|value| value == "0");
        producer.send(&topic, "2").unwrap();
        let result = producer.flush();
        let is_reported = matches!(cause_of(&result), Some(Error::SyncFailed { .. }));
        assert_eq!(is_reported, !is_there, "seed {seed}: {result:?}");
        assert_eq!(result.is_ok(), is_there, "seed {seed}: {result:?}");
        producer.close().unwrap();
    }
}

#[test]
fn a_failed_write_leaves_no_record_and_no_duplicate() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let producer = log.producer().unwrap();
    producer.send(&topic, "0").unwrap().wait().unwrap();
    let delivery = producer.send(&topic, "absent").unwrap();
    disk.fail_call_short(disk.calls(), io::Error::other("the device failed"));
    assert!(matches!(delivery.wait(), Err(Error::Io { .. })));
    // The next batch has as many records as the failed one. The producer must not confuse the two.
    assert_eq!(
        producer.send(&topic, "1").unwrap().wait().unwrap().offset,
        1
    );
    producer.close().unwrap();
    assert_eq!(values(&partition), ["0", "1"]);
}
