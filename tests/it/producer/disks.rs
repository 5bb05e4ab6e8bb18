//! Producers and the device: what is synced and when, and disks that are full, fail, or lose their power.

use std::io;
use std::time::Duration;

use annals::{
    Durability, Error, Log, LogConfig, ManualClock, Partition, ProducerConfig, SimulatedDisk, Timestamp, Topic, TopicConfig,
};

use super::{NOW, values};

fn open(disk: &SimulatedDisk) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(NOW));
    Log::builder("data").storage(disk.clone()).clock(clock).open().unwrap()
}

/// The topic, and its only partition.
fn topic(log: &Log, durability: Durability) -> (Topic, Partition) {
    let topic = log.open_topic("t", 1, TopicConfig::new().durability(durability)).unwrap();
    let partition = topic.partition(0).unwrap();
    (topic, partition)
}

#[test]
fn in_a_synced_topic_a_wait_and_a_flush_are_for_the_device() {
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
        assert_eq!(values(&log.topic("t").unwrap().partition(0).unwrap()), ["0", "1", "2", "3"]);
    }
}

#[test]
fn a_handle_may_ask_for_the_device_too() {
    for seed in 0..10 {
        let disk = SimulatedDisk::new(seed);
        let log = open(&disk);
        let (topic, _) = topic(&log, Durability::Os);
        let producer = log.producer().unwrap();
        producer.send(&topic, "with it").unwrap();
        let delivery = producer.send(&topic.with_durability(Durability::Synced), "synced").unwrap();
        assert_eq!(delivery.wait().unwrap().offset, 1);
        producer.send(&topic, "perhaps").unwrap().wait().unwrap();
        let log = open(&disk.crash());
        let left = values(&log.topic("t").unwrap().partition(0).unwrap());
        assert_eq!(left[..2], ["with it", "synced"], "seed {seed}");
    }
}

/// Nobody waits, flushes, or sends more, and yet readers, who see what is on the device, get the records.
#[test]
fn what_is_sent_to_a_synced_topic_is_synced_in_the_background() {
    let config = LogConfig::new().flush_interval(Duration::from_secs(3_600));
    let log = Log::builder("data").storage(SimulatedDisk::new(1)).config(config).open().unwrap();
    let (topic, partition) = topic(&log, Durability::Synced);
    for (number, linger) in [0, 1, 20].into_iter().enumerate() {
        let producer = log.producer_with(ProducerConfig::new().linger(Duration::from_millis(linger))).unwrap();
        producer.send(&topic, number.to_string()).unwrap();
        let mut reader = partition.follow(number as u64..).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().text(), number.to_string());
    }
}

#[test]
fn those_who_send_are_no_further_ahead_of_the_device_than_their_memory() {
    let log = open(&SimulatedDisk::new(1));
    let (topic, partition) = topic(&log, Durability::Synced);
    let config = ProducerConfig::new().batch_size(1_000).buffer_memory(10_000).max_block(Duration::ZERO);
    let producer = log.producer_with(config).unwrap();
    let mut was_behind = false;
    for _ in 0..1_000 {
        producer.send(&topic, [b'v'; 100]).unwrap();
        let ahead = partition.log_end_offset() - partition.high_watermark();
        was_behind |= ahead > 50;
        assert!(ahead <= 100, "{ahead} records");
    }
    assert!(was_behind, "nobody waits for the device while there is room");
    log.maintain().unwrap();
    assert_eq!(partition.high_watermark(), partition.log_end_offset());
    producer.close().unwrap();
    assert_eq!(values(&partition).len(), 1_000);
}

#[test]
fn a_full_disk_fails_batches_until_there_is_room_again() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let producer = log.producer().unwrap();
    let delivery = producer.send(&topic, "0").unwrap();
    assert_eq!(delivery.wait().unwrap().offset, 0);
    disk.set_capacity(0);
    let is_full = |result: Result<(), Error>| matches!(result, Err(Error::DiskFull { .. }));
    let delivery = producer.send(&topic, "waited for").unwrap();
    assert!(is_full(delivery.wait().map(drop)));
    producer.flush().unwrap();
    drop(producer.send(&topic, "lost").unwrap());
    assert!(is_full(producer.flush()));
    drop(producer.send(&topic, "lost").unwrap());
    assert!(is_full(log.flush()), "not everything is on the device");
    assert!(is_full(producer.flush()), "and its producer tells too");
    assert_eq!(partition.log_end_offset(), 1);
    disk.set_capacity(u64::MAX);
    for number in 1..4 {
        assert_eq!(producer.send(&topic, number.to_string()).unwrap().wait().unwrap().offset, number);
    }
    producer.close().unwrap();
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(values(&log.topic("t").unwrap().partition(0).unwrap()), ["0", "1", "2", "3"]);
}

/// One failed sync: the outcome of what it was for is unknown, and whoever sent it is told, by his delivery or by the next call.
#[test]
fn a_failed_sync_is_told_to_all_whose_records_it_was_for() {
    for waits in [true, false] {
        let disk = SimulatedDisk::new(1);
        let log = open(&disk);
        let (topic, partition) = topic(&log, Durability::Synced);
        let producer = log.producer().unwrap();
        producer.send(&topic, "0").unwrap().wait().unwrap();
        let deliveries = ["1", "2"].map(|value| producer.send(&topic, value).unwrap());
        // The write comes first.
        disk.fail_call(disk.calls() + 1, io::Error::other("the device failed"));
        if waits {
            for delivery in deliveries {
                let told = delivery.wait();
                assert!(matches!(told, Err(Error::SyncFailed { .. })), "{told:?}");
            }
        } else {
            drop(deliveries);
            assert!(matches!(producer.flush(), Err(Error::SyncFailed { .. })));
        }
        assert!(matches!(producer.send(&topic, "3"), Err(Error::Poisoned { .. })));
        assert_eq!(partition.high_watermark(), 1);

        partition.reopen().unwrap();
        let end = partition.log_end_offset();
        assert!(end == 1 || end == 3, "{end}");
        let delivery = producer.send(&topic, "3").unwrap();
        assert_eq!(delivery.wait().unwrap().offset, end);
        producer.close().unwrap();
    }
}

/// The partition was re-opened, and the records were gone, before anybody asked for them.
#[test]
fn what_a_reopening_took_away_is_told() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Synced);
    let config = ProducerConfig::new().linger(Duration::ZERO);
    let producer = log.producer_with(config).unwrap();
    producer.send(&topic, "0").unwrap();
    disk.fail_call(disk.calls(), io::Error::other("the device failed"));
    assert!(matches!(partition.append("1"), Err(Error::Io { .. } | Error::SyncFailed { .. })));
    partition.reopen().unwrap();
    producer.send(&topic, "2").unwrap();
    assert!(matches!(producer.flush(), Err(Error::SyncFailed { .. })));
    producer.close().unwrap();
}

#[test]
fn after_a_failed_write_nothing_is_there_twice() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk);
    let (topic, partition) = topic(&log, Durability::Os);
    let producer = log.producer().unwrap();
    producer.send(&topic, "0").unwrap().wait().unwrap();
    let delivery = producer.send(&topic, "absent").unwrap();
    disk.fail_call_short(disk.calls(), io::Error::other("the device failed"));
    assert!(matches!(delivery.wait(), Err(Error::Io { .. })));
    // As many records as before: nobody is to take the one batch for the other.
    assert_eq!(producer.send(&topic, "1").unwrap().wait().unwrap().offset, 1);
    producer.close().unwrap();
    assert_eq!(values(&partition), ["0", "1"]);
}
