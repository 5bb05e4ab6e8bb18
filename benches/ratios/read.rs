//! Reads sealed segments, compared with a bare check of the CRCs in the same mapped files. All
//! files are in the page cache.

use std::hint::black_box;
use std::time::{Duration, Instant};

use annals::{Log, Partition, TopicConfig};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawLog;
use crate::workload::{self, Random, Shape, TYPICAL};

pub(crate) fn measure_sequential() {
    let scratch = workload::scratch();
    let partition = workload::filled(scratch.path(), TYPICAL, workload::sized(8, 2_000, 10_000));
    let raw = RawLog::of(&partition);
    let end = workload::sealed_end(&partition);
    let scan = || time(|| raw.scan());
    measure_pair(
        "read batch by batch, every record",
        Aim::AtLeast(0.4),
        15,
        scan,
        || time(|| visit_in_batches(&partition, end)),
    );
    measure_pair("read record by record", Aim::AtLeast(0.4), 15, scan, || {
        time(|| visit_records(&partition, end))
    });
    measure_pair("read whole batches", Aim::AtLeast(0.9), 15, scan, || {
        time(|| visit_batches(&partition, end))
    });
}

/// Measures a group member that polls, compared with a reader of the same partition.
pub(crate) fn measure_poll() {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let partition = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created")
        .partition(0)
        .expect("the topic has a partition");
    workload::fill(&partition, TYPICAL, workload::sized(8, 2_000, 10_000));
    let end = partition.log_end_offset();
    let group = log.consumer_group("bench").expect("the name is valid");
    let poll = || {
        let mut member = group.join("bench").expect("a member joins");
        time(|| {
            let mut seen = 0;
            while seen < end {
                for record in &member.poll(Duration::ZERO).expect("a poll works") {
                    black_box(record.expect("the record is sound").value());
                    seen += 1;
                }
            }
        })
    };
    measure_pair(
        "poll, every record, against a reader",
        Aim::AtLeast(0.8),
        15,
        || time(|| visit_in_batches(&partition, end)),
        poll,
    );
}

pub(crate) fn measure_point() {
    let scratch = workload::scratch();
    let records = workload::sized(40_000, 10_000_000, 10_000_000);
    let partition = workload::filled(scratch.path(), Shape::new(100, 100), records / 100);
    let raw = RawLog::of(&partition);
    let end = workload::sealed_end(&partition);
    let reads = workload::sized(10, 20_000, 100_000);
    // Both sides read the same random offsets.
    let (mut raw_offsets, mut offsets) = (Random::new(7), Random::new(7));
    let check = || {
        time(|| {
            for _ in 0..reads {
                raw.check(usize::try_from(raw_offsets.below(end) / 100).expect("a number fits"));
            }
        })
    };
    let name = format!("read one of {records} records, 100 B x 100");
    measure_pair(&name, Aim::AtLeast(0.3), 15, check, || {
        time(|| (0..reads).for_each(|_| visit_one(&partition, offsets.below(end))))
    });
}

pub(crate) fn visit_records(partition: &Partition, end: u64) {
    let mut reader = partition.read(..end).expect("the range can be read");
    while let Some(record) = reader.next_record().expect("the records are sound") {
        black_box(record.value());
    }
}

fn visit_in_batches(partition: &Partition, end: u64) {
    for batch in partition.read(..end).expect("the range can be read") {
        for record in &batch.expect("the batch is sound") {
            black_box(record.expect("the record is sound").value());
        }
    }
}

pub(crate) fn visit_batches(partition: &Partition, end: u64) {
    for batch in partition.read(..end).expect("the range can be read") {
        black_box(batch.expect("the batch is sound"));
    }
}

fn visit_one(partition: &Partition, offset: u64) {
    let mut reader = partition.read(offset..).expect("the offset can be read");
    let record = reader
        .next_record()
        .expect("the record is sound")
        .expect("the offset has a record");
    assert_eq!(
        record.offset(),
        offset,
        "reading starts at the requested offset"
    );
    black_box(record.value());
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
