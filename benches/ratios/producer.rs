//! Sends one record at a time, compared with `pwrite` of the resulting batches. Also sends while a
//! group member polls, compared with the slower of the two alone.

use std::thread;
use std::time::{Duration, Instant};

use annals::{Consumer, Log, Topic, TopicConfig};

use crate::append::time_pwrite;
use crate::figure::{Aim, measure as measure_pair};
use crate::workload::{self, Shape};

const RECORD_BYTES: usize = 100;
/// Target for one sending thread, in millions of records a second.
const SENT_AIM: f64 = 11.6;

pub(crate) fn measure() {
    let records = workload::sized(5_000, 2_000_000, 10_000_000);
    // The number of records in a full batch of the default size, as the producer fills it.
    let batch_records = records_per_batch();
    let batch = workload::batch_of(Shape::new(RECORD_BYTES, batch_records));
    let value = Shape::new(RECORD_BYTES, 1).values().remove(0);
    let raw = || time_pwrite(&batch, records / batch_records);
    let mut fastest = Duration::MAX;
    let name = format!("send, {RECORD_BYTES} B, one by one, {records} records");
    measure_pair(&name, Aim::AtLeast(0.35), 9, raw, || {
        let time = time_send(&value, records);
        fastest = fastest.min(time);
        time
    });
    let millions =
        f64::from(u32::try_from(records).expect("a count fits")) / fastest.as_secs_f64() / 1e6;
    let verdict = workload::verdict(millions >= SENT_AIM);
    println!(
        "{:<44}{millions:>12.1} million records a second at best, of {batch_records} a batch  >= {SENT_AIM}  {verdict}",
        ""
    );
}

fn records_per_batch() -> usize {
    let log = Log::in_memory();
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created");
    let producer = log.producer().expect("a producer starts");
    let partition = topic.partition(0).expect("partition 0 exists");
    while partition.segments()[0].next_offset == 0 {
        producer
            .send(&topic, [0; RECORD_BYTES])
            .expect("a send works");
    }
    let first = partition
        .read(..)
        .expect("the range can be read")
        .next()
        .expect("the partition has a batch")
        .expect("the batch is sound");
    usize::try_from(first.offsets().end).expect("a count fits")
}

/// Returns the time until all records are in the partition.
fn time_send(value: &[u8], records: usize) -> Duration {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created");
    let producer = log.producer().expect("a producer starts");
    producer.send(&topic, value).expect("a send works");
    producer.flush().expect("a flush works");
    let start = Instant::now();
    for _ in 0..records {
        producer.send(&topic, value).expect("a send works");
    }
    producer.flush().expect("a flush works");
    let time = start.elapsed();
    assert_eq!(
        topic
            .partition(0)
            .expect("partition 0 exists")
            .log_end_offset(),
        records as u64 + 1
    );
    time
}

/// Returns a new log with a topic, and the directory, which must be dropped last.
fn fresh() -> (tempfile::TempDir, Log, Topic) {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created");
    (scratch, log, topic)
}

/// Measures sending and polling at the same time. The sender checks that every record was accepted.
/// The member checks that each record arrives once and in order.
pub(crate) fn measure_together() {
    let records = workload::sized(5_000, 2_000_000, 10_000_000) as u64;
    let alone = || {
        let (_scratch, log, topic) = fresh();
        let sent = time(|| send_numbers(&log, &topic, records));
        let mut member = join(&log);
        let polled = time(|| poll_numbers(&mut member, records));
        sent.max(polled)
    };
    let together = || {
        let (_scratch, log, topic) = fresh();
        let mut member = join(&log);
        time(|| {
            thread::scope(|scope| {
                scope.spawn(|| send_numbers(&log, &topic, records));
                poll_numbers(&mut member, records);
            });
        })
    };
    let name = format!("send and poll at once, {records} records");
    measure_pair(&name, Aim::AtLeast(0.8), 9, alone, together);
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn join(log: &Log) -> Consumer {
    log.consumer_group("bench")
        .expect("the name is valid")
        .join("bench")
        .expect("a member joins")
}

fn send_numbers(log: &Log, topic: &Topic, records: u64) {
    let producer = log.producer().expect("a producer starts");
    let mut value = [b'v'; RECORD_BYTES];
    for number in 0..records {
        value[..8].copy_from_slice(&number.to_be_bytes());
        producer.send(topic, &value[..]).expect("a send works");
    }
    producer.close().expect("all records are written");
    assert_eq!(
        topic
            .partition(0)
            .expect("partition 0 exists")
            .log_end_offset(),
        records
    );
}

fn poll_numbers(member: &mut Consumer, records: u64) {
    let mut next = 0_u64;
    while next < records {
        for record in &member.poll(Duration::from_secs(60)).expect("a poll works") {
            let record = record.expect("the record is sound");
            assert_eq!(
                record.value().and_then(|value| value.get(..8)),
                Some(&next.to_be_bytes()[..])
            );
            next += 1;
        }
    }
}
