//! The data that benches append and read: records of one size, and logs filled with them.

#![allow(dead_code, reason = "each bench uses only a part of this module")]

use std::path::Path;

use annals::{Log, Partition, Result, TopicConfig};
use tempfile::TempDir;

/// The size of the records and their number in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) record_bytes: usize,
    pub(crate) records: usize,
}

impl Shape {
    pub(crate) const fn new(record_bytes: usize, records: usize) -> Self {
        Self {
            record_bytes,
            records,
        }
    }

    pub(crate) fn name(self) -> String {
        format!("{} B x {}", self.record_bytes, self.records)
    }

    /// Returns the bytes of the values in a batch, the unit of throughput.
    pub(crate) fn value_bytes(self) -> u64 {
        (self.record_bytes * self.records) as u64
    }

    /// Returns the values of one batch, which are all different.
    pub(crate) fn values(self) -> Vec<Vec<u8>> {
        let mut random = Random::new(self.record_bytes as u64);
        (0..self.records)
            .map(|_| {
                (0..self.record_bytes)
                    .map(|_| random.next().to_le_bytes()[7])
                    .collect()
            })
            .collect()
    }
}

/// Returns the bytes of a batch as annals writes it.
pub(crate) fn batch_of(shape: Shape) -> Vec<u8> {
    let scratch = scratch();
    let partition = open_lone(scratch.path(), 1 << 30);
    fill(&partition, shape, 1);
    let segments = partition.segments();
    let mut bytes = std::fs::read(&segments[0].path).expect("the segment can be read");
    bytes.truncate(usize::try_from(segments[0].bytes).expect("a batch fits in memory"));
    bytes
}

/// The shape of most figures.
pub(crate) const TYPICAL: Shape = Shape::new(100, 1_000);

/// Returns whether each bench only runs once with small sizes, to check that it works: for
/// `cargo bench -- --test` and `cargo test --benches`.
pub(crate) fn is_quick() -> bool {
    has_argument("--test") || !has_argument("--bench")
}

/// Returns whether the large sizes were requested with `-- --full`.
pub(crate) fn is_full() -> bool {
    has_argument("--full")
}

/// Returns whether a target was met, as a word to print; empty in a quick run.
pub(crate) fn verdict(is_met: bool) -> &'static str {
    match is_met {
        _ if is_quick() => "",
        true => "met",
        false => "missed",
    }
}

fn has_argument(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// Returns the arguments that are not options.
pub(crate) fn names() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect()
}

/// Returns the number for a quick, a usual or a full run.
pub(crate) fn sized(quick: usize, usual: usize, full: usize) -> usize {
    if is_quick() {
        quick
    } else if is_full() {
        full
    } else {
        usual
    }
}

/// Creates a directory on the disk of the build. The system's temporary directory may not be on a
/// disk.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a directory can be created next to the build")
}

/// Opens a partition without a log, which starts no thread that could disturb a measurement.
pub(crate) fn open_lone(dir: &Path, segment_bytes: u32) -> Partition {
    Partition::open(
        dir.join("bench-0"),
        TopicConfig::new().segment_bytes(segment_bytes),
    )
    .expect("a partition opens")
}

/// Appends one batch.
pub(crate) fn append(partition: &Partition, values: &[Vec<u8>]) {
    append_result(partition, values).expect("an append works");
}

fn append_result(partition: &Partition, values: &[Vec<u8>]) -> Result<()> {
    match values {
        [value] => partition.append(value.as_slice()).map(drop),
        values => partition
            .append_batch(values.iter().map(Vec::as_slice))
            .map(drop),
    }
}

/// Appends batches of one shape.
pub(crate) fn fill(partition: &Partition, shape: Shape, batches: usize) {
    let values = shape.values();
    for _ in 0..batches {
        append(partition, &values);
    }
}

/// Creates a partition with `batches` batches, at least eight, most of them in sealed segments.
pub(crate) fn filled(dir: &Path, shape: Shape, batches: usize) -> Partition {
    let quarter = shape.value_bytes() * batches as u64 / 4;
    let partition = open_lone(
        dir,
        u32::try_from(quarter).unwrap_or(u32::MAX).min(64 << 20),
    );
    fill(&partition, shape, batches);
    partition
}

/// Returns the base offset of the active segment: all records below it are in sealed segments.
pub(crate) fn sealed_end(partition: &Partition) -> u64 {
    partition
        .segments()
        .last()
        .expect("a partition has an active segment")
        .base_offset
}

/// Creates a closed log with one topic, `bench`, of one partition with `segments` segments of about
/// `segment_bytes` bytes.
pub(crate) fn write_log(dir: &Path, segments: usize, segment_bytes: u32) {
    let log = Log::open(dir).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new().segment_bytes(segment_bytes))
        .expect("a topic is created");
    let partition = topic.partition(0).expect("partition 0 exists");
    let values = Shape::new(100, 100).values();
    while partition.segments().len() < segments {
        append(&partition, &values);
    }
    log.close().expect("the log closes");
}

/// Makes a closed log look as if its process had been killed before it noted any flush.
pub(crate) fn make_unclean(dir: &Path) {
    for name in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
        std::fs::remove_file(dir.join(name)).expect("a closed log has the file");
    }
}

/// Opens a log, returns the time of that, and closes the log.
pub(crate) fn time_open(dir: &Path) -> std::time::Duration {
    let start = std::time::Instant::now();
    let log = Log::open(dir).expect("the log opens");
    let time = start.elapsed();
    log.close().expect("the log closes");
    time
}

/// Pseudo-random numbers, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
