//! Reads of a partition with many segments.

use std::time::Instant;

use annals::{Partition, Record, Timestamp};

use crate::figure::{Figures, time_each, time_of};
use crate::workload::{self, Random};
use crate::world::sizes;

/// The number of records in a segment.
const RECORDS: u64 = 20;

pub(crate) fn measure(figures: &mut Figures) {
    let sizes = sizes(10_000);
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), 1 << 30);
    // Segments are added from size to size, and each size is measured whole.
    let mut points = Vec::new();
    for &size in &sizes {
        extend(&partition, size);
        read(&partition);
        let end = partition.log_end_offset();
        let read_one = |offset| {
            let mut reader = partition.read(offset..).expect("the offset is in the log");
            let record = reader.next_record().expect("the record is sound");
            assert_eq!(record.map(|record| record.offset()), Some(offset));
        };
        // The first read of a segment loads its index, which is not measured.
        for info in partition.segments() {
            read_one(info.base_offset);
        }
        let mut random = Random::new(1);
        let point = time_each(|| read_one(random.below(end)));
        let scan = time_of(|| {
            let start = Instant::now();
            (read(&partition), start.elapsed())
        });
        let by_time = time_each(|| {
            let at = Timestamp::from_millis(i64::try_from(random.below(end)).expect("it is small"));
            let found = partition.offset_for(at).expect("the index can be read");
            assert!(found.is_some());
        });
        let append = time_each(|| {
            let record = Record::new("a record").timestamp(Timestamp::from_millis(i64::MAX / 2));
            partition.append(record).expect("an append works");
        });
        points.push([point, scan, by_time, append]);
        // Only the offsets below are looked up.
        partition.truncate_to(end).expect("the end can be cut");
    }
    let names = [
        "read of one record",
        "scan, per record",
        "offset for a time",
        "append",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let mut at = points.iter();
        figures.time((name, "segments"), &sizes, |_| {
            at.next().expect("each size was measured")[number]
        });
    }
}

/// Appends until the partition has this many segments. The timestamp of a record is its offset.
fn extend(partition: &Partition, segments: usize) {
    let mut count = partition.segments().len();
    loop {
        for _ in 0..RECORDS {
            let at = i64::try_from(partition.log_end_offset()).expect("the log is small");
            let record = Record::new("a record").timestamp(Timestamp::from_millis(at));
            partition.append(record).expect("an append works");
        }
        if count == segments {
            return;
        }
        partition.roll().expect("a roll works");
        count += 1;
    }
}

/// Reads every record, and returns their number.
fn read(partition: &Partition) -> usize {
    let mut reader = partition.read(..).expect("the log can be read");
    let mut count = 0;
    while reader.next_record().expect("the record is sound").is_some() {
        count += 1;
    }
    count
}
