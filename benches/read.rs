//! Reads sealed segments, compared with a bare check of the CRCs in the same mapped files.
//!
//! All files are in the page cache.

use std::hint::black_box;
use std::time::Duration;

use annals::{OffsetSpec, Partition, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

mod raw;
mod workload;

use raw::RawLog;
use workload::{Random, Shape, TYPICAL};

/// Visits every record, then whole batches, and compares both with the check alone.
fn sequential(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sequential read");
    for shape in [
        Shape::new(16, 1_000),
        Shape::new(100, 100),
        TYPICAL,
        Shape::new(1_024, 1_000),
    ] {
        let scratch = workload::scratch();
        let some = 64_000_000 / (shape.record_bytes * shape.records);
        let batches = workload::sized(8, some, some);
        let partition = workload::filled(scratch.path(), shape, batches);
        let mut raw = RawLog::of(&partition);
        let end = workload::sealed_end(&partition);
        group.throughput(Throughput::Elements(end));
        group.bench_function(BenchmarkId::new("records", shape.name()), |bencher| {
            bencher.iter(|| {
                let mut reader = partition.read(..end).expect("the range can be read");
                while let Some(record) = reader.next_record().expect("the records are sound") {
                    black_box(record.value());
                }
            });
        });
        group.bench_function(BenchmarkId::new("batches", shape.name()), |bencher| {
            bencher.iter(|| {
                for batch in partition.read(..end).expect("the range can be read") {
                    black_box(batch.expect("the batch is sound"));
                }
            });
        });
        group.bench_function(BenchmarkId::new("CRC alone", shape.name()), |bencher| {
            bencher.iter(|| raw.scan());
        });
    }
    group.finish();
}

/// Reads one record by its offset and one by its time, compared with a check of a batch at a known
/// position.
fn point(criterion: &mut Criterion) {
    let shape = Shape::new(100, 100);
    let batches = workload::sized(400, 20_000, 100_000);
    let scratch = workload::scratch();
    let partition = workload::filled(scratch.path(), shape, batches);
    let mut raw = RawLog::of(&partition);
    let end = workload::sealed_end(&partition);
    let first = time_of(&partition, OffsetSpec::Timestamp(Timestamp::from_millis(0)));
    let last = time_of(&partition, OffsetSpec::MaxTimestamp);

    let mut group = criterion.benchmark_group("point read");
    group.bench_function("by offset", |bencher| {
        let mut random = Random::new(1);
        bencher.iter(|| {
            let mut reader = partition
                .read(random.below(end)..)
                .expect("the offset can be read");
            black_box(
                reader
                    .next_record()
                    .expect("the record is sound")
                    .expect("the offset has a record")
                    .value(),
            );
        });
    });
    group.bench_function("by time", |bencher| {
        let mut random = Random::new(1);
        bencher.iter(|| {
            let at = first + random.below(last - first + 1);
            let at = Timestamp::from_millis(i64::try_from(at).expect("a time fits"));
            black_box(partition.offset_for(at).expect("the records are sound"));
        });
    });
    group.bench_function("CRC alone", |bencher| {
        let mut random = Random::new(1);
        bencher.iter(|| {
            raw.check(
                usize::try_from(random.below(raw.batches_count() as u64)).expect("a number fits"),
            );
        });
    });
    group.finish();
}

/// Returns the timestamp of a record, in milliseconds.
fn time_of(partition: &Partition, spec: OffsetSpec) -> u64 {
    let found = partition
        .offset_for(spec)
        .expect("the records are sound")
        .expect("the partition has records");
    let millis = found
        .timestamp
        .expect("records have timestamps")
        .as_millis();
    u64::try_from(millis).expect("the time is after 1970")
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = read; config = short(); targets = sequential, point }
criterion_main!(read);
