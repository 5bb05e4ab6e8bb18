//! Transactions through the public API: what becomes visible, and what stays after a failure.

mod aborted_lists;
mod basics;
mod copies;
mod crash;
mod damaged;
mod ending;
mod fencing;
mod fixture;
mod growth;
mod offsets;
mod pending;
mod readers;
mod spilling;
mod states;
mod together;
mod truncated;
mod truncated_crash;
mod victim;
mod visibility;

use std::time::Duration;

use annals::{
    Consumer, Isolation, Log, Partition, ProducerConfig, ReadOptions, Record, Topic, TopicConfig,
    TopicPartition,
};

/// A timeout that no step exceeds, even on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// Returns the settings of a producer that spills every transaction of more than a few records.
fn small() -> ProducerConfig {
    ProducerConfig::new().batch_size(100).buffer_memory(300)
}

/// Returns a value that spills a transaction of a producer with these settings at once.
fn large(text: &str) -> String {
    format!("{text} {}", "-".repeat(400))
}

/// Creates a log in memory with the topics `in` and `out`, of two partitions each.
fn log_with_topics() -> (Log, Topic, Topic) {
    let log = Log::in_memory();
    let (input, output) = topics_of(&log);
    (log, input, output)
}

/// Opens the topics `in` and `out`.
fn topics_of(log: &Log) -> (Topic, Topic) {
    let open = |name| log.open_topic(name, 2, TopicConfig::new()).unwrap();
    (open("in"), open("out"))
}

/// Returns the values that a reader of committed records gets from a partition.
fn committed(partition: &Partition) -> Vec<String> {
    values(partition, ReadOptions::new())
}

/// Returns the values of all records in a partition, committed or not.
fn written(partition: &Partition) -> Vec<String> {
    values(
        partition,
        ReadOptions::new().isolation(Isolation::ReadUncommitted),
    )
}

fn values(partition: &Partition, options: ReadOptions) -> Vec<String> {
    let mut reader = partition.read_with(.., options).unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        values.push(record.text().into_owned());
    }
    values
}

/// Returns the committed values of both partitions of a topic.
fn committed_of(topic: &Topic) -> Vec<String> {
    let partitions = topic.partitions();
    let mut values: Vec<String> = partitions.iter().flat_map(committed).collect();
    values.sort();
    values
}

/// Returns a partition of a topic.
fn part(topic: &Topic, number: u32) -> Partition {
    topic.partition(number).unwrap()
}

/// Returns the name of a partition.
fn id(topic: &str, number: u32) -> TopicPartition {
    (topic, number).into()
}

/// Appends records with the values 0, 1, … to a partition.
fn fill(topic: &Topic, partition: u32, count: u64) {
    let values = (0..count).map(|value| value.to_string());
    part(topic, partition).append_batch(values).unwrap();
}

/// Polls until the consumer has received this many records, and returns their values.
fn poll(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let records = consumer.poll(SOON).unwrap();
        values.extend(
            records
                .iter()
                .map(|record| record.unwrap().text().into_owned()),
        );
    }
    values
}

/// A record for partition 0 or 1 of a topic with two partitions: its key selects it.
fn keyed(topic: &Topic, partition: u32, value: &str) -> Record<'static> {
    let key = (0..1_000)
        .map(|number: u32| format!("key-{number}"))
        .find(|key| topic.partition_for(key.as_bytes()).id().partition == partition)
        .unwrap();
    Record::new(value.to_owned()).key(key)
}
