//! Tests of a log on a system that refuses threads.

use std::time::Duration;

use crate::config::{Durability, LogConfig, TopicConfig};
use crate::error::Error;
use crate::group::ConsumerConfig;
use crate::log::Log;
use crate::producer::ProducerConfig;
use crate::storage::SimulatedDisk;
use crate::threads::refuse_threads;
use crate::topic_partition::TopicPartition;

fn open(disk: &SimulatedDisk) -> Log {
    let config = LogConfig::new().recovery_threads(4);
    Log::builder("data")
        .storage(disk.clone())
        .config(config)
        .open()
        .unwrap()
}

fn open_without_threads(disk: &SimulatedDisk) -> Log {
    let log = refuse_threads(|| open(disk));
    assert!(
        matches!(log.recovery().thread_refused, Some(Error::Io { .. })),
        "{:?}",
        log.recovery()
    );
    assert!(!log.recovery().has_losses());
    log
}

#[test]
fn partitions_are_opened_in_the_calling_thread() {
    let disk = SimulatedDisk::new(0);
    let log = open(&disk);
    assert!(log.recovery().thread_refused.is_none());
    let topic = log.create_topic("t", 10, TopicConfig::new()).unwrap();
    for partition in topic.partitions() {
        partition.append(partition.id().to_string()).unwrap();
    }
    let killed = disk.process_killed();
    let log = open_without_threads(&killed);
    let topic = log.topic("t").unwrap();
    for partition in topic.partitions() {
        assert_eq!(
            partition
                .read(..)
                .unwrap()
                .next_record()
                .unwrap()
                .unwrap()
                .text(),
            partition.id().to_string()
        );
    }
    assert_eq!(
        (topic.partitions().len(), log.recovery().partitions.len()),
        (10, 10),
        "all partitions were scanned"
    );
    log.close().unwrap();
    let reader = refuse_threads(|| {
        Log::builder("data")
            .storage(killed.clone())
            .open_read_only()
            .unwrap()
    });
    assert!(
        reader.recovery().thread_refused.is_none(),
        "a read-only log needs no thread"
    );
    assert_eq!(reader.topic("t").unwrap().partitions().len(), 10);
}

/// With its thread, the log would flush a second later.
#[test]
fn an_append_is_on_the_device_when_it_returns() {
    let disk = SimulatedDisk::new(0);
    let log = open_without_threads(&disk);
    let os = TopicConfig::new().durability(Durability::Os);
    let topic = log.create_topic("t", 1, os).unwrap();
    topic.append("a").unwrap();
    log.topic("t")
        .unwrap()
        .partition(0)
        .unwrap()
        .append_batch(["b", "c"])
        .unwrap();
    // The delivery is dropped without waiting for it.
    drop(log.producer().unwrap().send(&topic, "d").unwrap());
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", ConsumerConfig::new())
        .unwrap();
    while !consumer.poll(Duration::ZERO).unwrap().is_empty() {}
    consumer.commit().unwrap();
    let log = open(&disk.crash());
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log_end_offset(), 4);
    let committed = log
        .consumer_group("g")
        .unwrap()
        .committed(&TopicPartition::new("t", 0))
        .unwrap();
    assert_eq!(committed.map(|committed| committed.offset), Some(4));
}

#[test]
fn maintain_does_the_work_of_the_refused_thread() {
    let disk = SimulatedDisk::new(0);
    let log = open_without_threads(&disk);
    let config = TopicConfig::new()
        .segment_bytes(100)
        .retention_bytes(Some(200));
    let topic = log.create_topic("t", 1, config).unwrap();
    for number in 0..10 {
        topic.append(number.to_string()).unwrap();
    }
    assert!(log.maintain().unwrap().segments_deleted > 0);
}

#[test]
fn a_producer_does_not_linger_without_the_timer() {
    let disk = SimulatedDisk::new(0);
    let log = open(&disk);
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    let config = || ProducerConfig::new().linger(Duration::from_secs(3_600));
    let producer = refuse_threads(|| log.producer_with(config()).unwrap());
    drop(producer.send(&topic, "a").unwrap());
    assert_eq!(topic.partition(0).unwrap().log_end_offset(), 1);
    // The next producer gets its thread.
    drop(
        log.producer_with(config())
            .unwrap()
            .send(&topic, "b")
            .unwrap(),
    );
    log.close().unwrap();
}
