//! Reads sealed segments and the active one, compared with a bare check of the CRCs in the same
//! files: mapped ones if they are sealed, and by one `pread` a batch if not. All files are in the
//! page cache.

use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use annals::{Log, Partition, TopicConfig};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawLog;
use crate::workload::{self, Random, Shape, TYPICAL};

pub(crate) fn measure_sequential() {
    for kind in KINDS {
        let scratch = workload::scratch();
        let partition = kind.filled(scratch.path(), TYPICAL, workload::sized(8, 2_000, 10_000));
        let mut raw = kind.raw(&partition);
        let offsets = kind.offsets(&partition);
        let mut measure = |what: &str, aim, visit: fn(&Partition, Range<u64>)| {
            let name = format!("{what}, {}", kind.name());
            let scan = || time(|| raw.scan());
            measure_pair(&name, Aim::AtLeast(aim), 15, scan, || {
                time(|| visit(&partition, offsets.clone()))
            });
        };
        measure("read every record by batches", 0.6, visit_in_batches);
        measure("read record by record", 0.55, visit_records);
        measure("read whole batches", 0.9, visit_batches);
    }
}

/// Measures a group member that polls, compared with a reader of the same partition.
pub(crate) fn measure_poll() {
    for kind in KINDS {
        let scratch = workload::scratch();
        let batches = workload::sized(8, 2_000, 10_000);
        let log = Log::open(scratch.path()).expect("a new log opens");
        let config = TopicConfig::new().segment_bytes(kind.segment_bytes(TYPICAL, batches));
        let partition = log
            .open_topic("bench", 1, config)
            .expect("a topic is created")
            .partition(0)
            .expect("the topic has a partition");
        workload::fill(&partition, TYPICAL, batches);
        if kind == Kind::Sealed {
            partition.roll().expect("the segment can be sealed");
        }
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
            &format!("poll, against a reader, {}", kind.name()),
            Aim::AtLeast(0.8),
            15,
            || time(|| visit_in_batches(&partition, 0..end)),
            poll,
        );
    }
}

pub(crate) fn measure_point() {
    let many = workload::sized(40_000, 10_000_000, 10_000_000);
    for (kind, shape, records, aim) in [
        (Kind::Sealed, Shape::new(100, 100), many, 0.6),
        (Kind::Sealed, Shape::new(100, 1), many / 40, 0.6),
        (Kind::Active, Shape::new(100, 100), many / 2, 0.5),
        (Kind::Active, Shape::new(100, 1), many / 40, 0.5),
    ] {
        let scratch = workload::scratch();
        let partition = kind.filled(scratch.path(), shape, records / shape.records);
        let mut raw = kind.raw(&partition);
        let offsets = kind.offsets(&partition);
        let reads = workload::sized(10, 20_000, 100_000);
        // Both sides read the same random offsets.
        let (mut raw_random, mut random) = (Random::new(7), Random::new(7));
        let next = |random: &mut Random| random.below(offsets.end - offsets.start);
        let check = || {
            time(|| {
                for _ in 0..reads {
                    let record = next(&mut raw_random) / shape.records as u64;
                    raw.check(usize::try_from(record).expect("a number fits"));
                }
            })
        };
        let name = format!("read one record, {}, {}", shape.name(), kind.name());
        measure_pair(&name, Aim::AtLeast(aim), 15, check, || {
            time(|| {
                (0..reads).for_each(|_| visit_one(&partition, offsets.start + next(&mut random)));
            })
        });
    }
}

/// Measures a thread that appends while another follows and visits every record, compared with the
/// slower of the two alone.
pub(crate) fn measure_beside() {
    let batches = workload::sized(8, 2_000, 10_000);
    let alone = || {
        let scratch = workload::scratch();
        let partition = workload::open_lone(scratch.path(), Kind::Active.segment_bytes(TYPICAL, 0));
        let values = TYPICAL.values();
        let appending = time(|| append_all(&partition, &values, batches));
        let following = time(|| follow(&partition, batches));
        appending.max(following)
    };
    let beside = || {
        let scratch = workload::scratch();
        let partition = workload::open_lone(scratch.path(), Kind::Active.segment_bytes(TYPICAL, 0));
        let values = TYPICAL.values();
        thread::scope(|scope| {
            let reader = scope.spawn(|| follow(&partition, batches));
            time(|| {
                append_all(&partition, &values, batches);
                reader.join().expect("the reader ends");
            })
        })
    };
    let name = format!("append and follow, {}", TYPICAL.name());
    measure_pair(&name, Aim::AtLeast(0.75), 9, alone, beside);
}

/// Where the records of a measurement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sealed,
    Active,
}

const KINDS: [Kind; 2] = [Kind::Sealed, Kind::Active];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Active => "active",
        }
    }

    /// Returns the size at which segments roll, for `batches` batches in about four sealed
    /// segments, or in the active one.
    fn segment_bytes(self, shape: Shape, batches: usize) -> u32 {
        let quarter = shape.value_bytes() * batches as u64 / 4;
        match self {
            Self::Sealed => u32::try_from(quarter).unwrap_or(u32::MAX).min(64 << 20),
            Self::Active => i32::MAX.unsigned_abs(),
        }
    }

    fn filled(self, dir: &Path, shape: Shape, batches: usize) -> Partition {
        let partition = workload::open_lone(dir, self.segment_bytes(shape, batches));
        workload::fill(&partition, shape, batches);
        partition
    }

    fn raw(self, partition: &Partition) -> RawLog {
        match self {
            Self::Sealed => RawLog::of(partition),
            Self::Active => RawLog::of_active(partition),
        }
    }

    fn offsets(self, partition: &Partition) -> Range<u64> {
        let sealed = workload::sealed_end(partition);
        match self {
            Self::Sealed => 0..sealed,
            Self::Active => sealed..partition.log_end_offset(),
        }
    }
}

fn append_all(partition: &Partition, values: &[Vec<u8>], batches: usize) {
    (0..batches).for_each(|_| workload::append(partition, values));
}

/// Follows the partition and visits the records of this many batches.
fn follow(partition: &Partition, batches: usize) {
    let mut reader = partition.follow(..).expect("the partition can be read");
    let records = (batches * TYPICAL.records) as u64;
    let mut seen = 0;
    while seen < records {
        let batch = reader.next().expect("a reader that follows does not end");
        for record in &batch.expect("the batch is sound") {
            black_box(record.expect("the record is sound").value());
            seen += 1;
        }
    }
}

pub(crate) fn visit_records(partition: &Partition, offsets: Range<u64>) {
    let mut reader = partition.read(offsets).expect("the range can be read");
    while let Some(record) = reader.next_record().expect("the records are sound") {
        black_box(record.value());
    }
}

fn visit_in_batches(partition: &Partition, offsets: Range<u64>) {
    for batch in partition.read(offsets).expect("the range can be read") {
        for record in &batch.expect("the batch is sound") {
            black_box(record.expect("the record is sound").value());
        }
    }
}

pub(crate) fn visit_batches(partition: &Partition, offsets: Range<u64>) {
    for batch in partition.read(offsets).expect("the range can be read") {
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
