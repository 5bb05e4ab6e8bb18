//! Consumer groups through the public API: how members share records, what they commit, and which
//! positions survive a restart.

mod auto_commit;
mod committing;
mod cut;
mod damaged;
mod deleted;
mod identity;
mod managing;
mod membership;
mod polling;
mod ready;
mod seeking;
mod stress;
mod unopened;

use std::thread;
use std::time::{Duration, Instant};

use annals::{Consumer, ConsumerGroup, Log, Record, Records, Topic, TopicConfig, TopicPartition};

use crate::kafka::copy_dir;

/// A timeout that no step exceeds, even on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// Creates a log in memory with one topic, `t`.
fn log_with(partitions: u32) -> (Log, Topic) {
    let log = Log::in_memory();
    let topic = log.open_topic("t", partitions, TopicConfig::new()).unwrap();
    (log, topic)
}

/// Returns the name of partition `number` of `t`.
fn t(number: u32) -> TopicPartition {
    ("t", number).into()
}

/// Appends `count` records to a partition, each in its own batch. The value of a record is its
/// offset.
fn fill(topic: &Topic, partition: u32, count: u64) {
    let partition = topic.partition(partition).unwrap();
    for _ in 0..count {
        partition
            .append(Record::new(partition.log_end_offset().to_string()))
            .unwrap();
    }
}

/// Appends one batch of `count` records. The value of a record is its offset.
fn fill_batch(topic: &Topic, partition: u32, count: u64) {
    let partition = topic.partition(partition).unwrap();
    let start = partition.log_end_offset();
    partition
        .append_batch((start..start + count).map(|offset| offset.to_string()))
        .unwrap();
}

/// Returns the partition and the offset of each record.
fn offsets(records: &Records) -> Vec<(u32, u64)> {
    records
        .iter()
        .map(|record| {
            record
                .map(|record| (record.partition(), record.offset()))
                .unwrap()
        })
        .collect()
}

/// Returns the offset that the group committed for a partition.
fn committed(group: &ConsumerGroup, partition: &TopicPartition) -> Option<u64> {
    group.committed(partition).unwrap().map(|next| next.offset)
}

/// Polls without waiting.
fn poll(consumer: &mut Consumer) -> Vec<(u32, u64)> {
    offsets(&consumer.poll(Duration::ZERO).unwrap())
}

/// Polls without waiting until a poll returns neither records nor a rebalance.
fn drain(consumer: &mut Consumer) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() && records.rebalance().is_empty() {
            return all;
        }
        all.extend(offsets(&records));
    }
}

/// Pairs each of `offsets` with the partition.
fn of(partition: u32, offsets: impl IntoIterator<Item = u64>) -> Vec<(u32, u64)> {
    offsets
        .into_iter()
        .map(|offset| (partition, offset))
        .collect()
}

/// Runs `act` while the consumer waits in a poll. Returns the records of the poll and the result of
/// `act`, which must end the poll.
fn poll_while<T>(consumer: &mut Consumer, act: impl FnOnce() -> T) -> (Records, T) {
    thread::scope(|scope| {
        let started = Instant::now();
        let waiting = scope.spawn(move || {
            let records = consumer.poll(SOON).unwrap();
            assert!(started.elapsed() < SOON, "the poll timed out");
            records
        });
        // The poll is probably waiting by now. If it is not, the outcome must be the same.
        thread::sleep(Duration::from_millis(5));
        let done = act();
        (waiting.join().unwrap(), done)
    })
}
