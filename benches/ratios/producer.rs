//! Sending one record at a time beside `pwrite` of the bytes that come of it, batch by batch; and
//! sending while a member of a group polls, beside the slower of the two alone.

use std::thread;
use std::time::{Duration, Instant};

use annals::{Consumer, Log, Topic, TopicConfig};

use crate::append::time_pwrite;
use crate::figure::{Aim, measure as measure_pair};
use crate::workload::{self, Shape};

const RECORD_BYTES: usize = 100;
/// Millions of records a second that one thread should send.
const SENT_AIM: f64 = 11.6;

pub(crate) fn measure() {
    let records = workload::sized(5_000, 2_000_000, 10_000_000);
    // As many as find room in a batch of the default size, but for the first and the last.
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
        .expect("a topic is made");
    let producer = log.producer().expect("there may be a producer");
    let partition = topic.partition(0).expect("there is a partition 0");
    while partition.segments()[0].next_offset == 0 {
        producer
            .send(&topic, [0; RECORD_BYTES])
            .expect("a send works");
    }
    let first = partition
        .read(..)
        .expect("the range is there")
        .next()
        .expect("there is a batch")
        .expect("it is sound");
    usize::try_from(first.offsets().end).expect("a count fits")
}

/// Everything is in the partition when the time ends.
fn time_send(value: &[u8], records: usize) -> Duration {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is made");
    let producer = log.producer().expect("there may be a producer");
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
            .expect("there is a partition 0")
            .log_end_offset(),
        records as u64 + 1
    );
    time
}

/// A log with the topic, and what is to be dropped last.
fn fresh() -> (tempfile::TempDir, Log, Topic) {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is made");
    (scratch, log, topic)
}

/// Both sides check: the one that every record was taken, the other that each comes, once and in
/// order.
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
        .expect("a name for a group")
        .join("bench")
        .expect("a member joins")
}

fn send_numbers(log: &Log, topic: &Topic, records: u64) {
    let producer = log.producer().expect("there may be a producer");
    let mut value = [b'v'; RECORD_BYTES];
    for number in 0..records {
        value[..8].copy_from_slice(&number.to_be_bytes());
        producer.send(topic, &value[..]).expect("a send works");
    }
    producer.close().expect("everything is written");
    assert_eq!(
        topic
            .partition(0)
            .expect("there is a partition 0")
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
