//! Compacts a log in which one record in ten is the latest of its key, compared with copying its
//! files. Also appends during a compaction, compared with appending alone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use annals::{CleanupPolicy, Partition, Record, TopicConfig};

use crate::figure::{Aim, measure as measure_pair};
use crate::workload::{self, TYPICAL};

const SEGMENT_BYTES: u32 = 64 << 20;

pub(crate) fn measure() {
    let megabytes = workload::sized(2, 128, 1_024);
    let batches = (megabytes << 20) / (TYPICAL.record_bytes * TYPICAL.records);
    let mut buffer = vec![0; 1 << 20];
    let name = format!("compact, {megabytes} MiB with 10 % live keys");
    let copy = || time_copy(batches, &mut buffer);
    measure_pair(&name, Aim::AtLeast(0.25), 5, copy, || time_compact(batches));
    let name = format!("append while {megabytes} MiB are compacted");
    measure_pair(
        &name,
        Aim::AtLeast(0.7),
        5,
        || time_appends(batches, false),
        || time_appends(batches, true),
    );
}

/// Fills a partition with ten rounds over the same keys.
fn fill(dir: &Path, batches: usize) -> Partition {
    let bytes = u32::try_from(batches * 100_000 / 4)
        .unwrap_or(u32::MAX)
        .min(SEGMENT_BYTES);
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(bytes.max(200_000));
    let partition = Partition::open(dir.join("bench-0"), config).expect("a partition opens");
    let (values, keys) = (TYPICAL.values(), (batches * TYPICAL.records / 10).max(1));
    for batch in 0..batches {
        append(&partition, &values, batch * values.len(), keys);
    }
    partition.flush().expect("a flush works");
    partition
}

/// Appends one batch. Its keys repeat after `keys` records.
fn append(partition: &Partition, values: &[Vec<u8>], first: usize, keys: usize) {
    let records = values.iter().zip(first..);
    let records = records.map(|(value, number)| {
        Record::new(value.as_slice()).key(format!("key-{:010}", number % keys))
    });
    partition.append_batch(records).expect("an append works");
}

/// Returns the mean time of an append: during a compaction, or over as many appends alone.
fn time_appends(batches: usize, is_compacted: bool) -> Duration {
    let scratch = workload::scratch();
    let partition = fill(scratch.path(), batches);
    let (values, keys) = (TYPICAL.values(), (batches * TYPICAL.records / 10).max(1));
    let compacting = is_compacted.then(|| {
        let partition = partition.clone();
        thread::spawn(move || partition.compact().expect("compaction works"))
    });
    let is_over = |count: usize| match &compacting {
        Some(thread) => thread.is_finished(),
        None => count >= (batches / 2).max(1),
    };
    let start = Instant::now();
    let mut count = 0;
    while count == 0 || !is_over(count) {
        append(&partition, &values, count * values.len(), keys);
        count += 1;
    }
    let elapsed = start.elapsed();
    if let Some(thread) = compacting {
        assert!(
            thread.join().expect("no thread panics").records_removed > 0,
            "compaction removes records"
        );
    }
    elapsed / u32::try_from(count).expect("the count is small")
}

fn time_compact(batches: usize) -> Duration {
    let scratch = workload::scratch();
    let partition = fill(scratch.path(), batches);
    let start = Instant::now();
    let done = partition.compact().expect("compaction works");
    let elapsed = start.elapsed();
    assert!(done.records_removed > 0, "compaction removes records");
    elapsed
}

/// Copies every segment and makes the copy durable, as compaction does with its output.
fn time_copy(batches: usize, buffer: &mut [u8]) -> Duration {
    let scratch = workload::scratch();
    let partition = fill(scratch.path(), batches);
    let start = Instant::now();
    for segment in partition.segments() {
        let mut source = File::open(&segment.path).expect("a segment opens");
        let target = scratch.path().join("copy");
        let mut copy = File::create(&target).expect("a file can be created");
        loop {
            let count = source.read(buffer).expect("a segment can be read");
            if count == 0 {
                break;
            }
            copy.write_all(&buffer[..count])
                .expect("a file can be written");
        }
        copy.sync_data().expect("a file can be synced");
        fs::remove_file(target).expect("a file can be removed");
    }
    start.elapsed()
}
