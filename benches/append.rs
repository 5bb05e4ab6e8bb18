//! Appends batches, compared with `pwrite` of as many bytes in as many calls.
//!
//! Every sample starts with an empty partition, so that no sample waits for the write-back of
//! another.

use std::time::{Duration, Instant};

use annals::Durability;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

mod raw;
mod workload;

use raw::RawFile;
use workload::Shape;

const SEGMENT_BYTES: u32 = 1 << 30;
const RECORD_BYTES: [usize; 3] = [16, 100, 1_024];
const RECORDS: [usize; 4] = [1, 10, 100, 1_000];

/// Number of appends before the measurement. After them, the files are open and the buffers have
/// their final size.
const WARM_UP: usize = 3;

fn to_the_system(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for record_bytes in RECORD_BYTES {
        for records in RECORDS {
            let shape = Shape::new(record_bytes, records);
            let batch = workload::batch_of(shape);
            group.throughput(Throughput::Bytes(shape.value_bytes()));
            group.bench_function(BenchmarkId::new("annals", shape.name()), |bencher| {
                bencher.iter_custom(|count| time_annals(shape, Durability::Os, count));
            });
            group.bench_function(BenchmarkId::new("pwrite", shape.name()), |bencher| {
                bencher.iter_custom(|count| time_pwrite(&batch, count, |_| ()));
            });
        }
    }
    group.finish();
}

fn to_the_device(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append synced");
    for records in [1, 1_000] {
        let shape = Shape::new(100, records);
        let batch = workload::batch_of(shape);
        group.throughput(Throughput::Bytes(shape.value_bytes()));
        group.bench_function(BenchmarkId::new("annals", shape.name()), |bencher| {
            bencher.iter_custom(|count| time_annals(shape, Durability::Synced, count));
        });
        group.bench_function(
            BenchmarkId::new("pwrite and fdatasync", shape.name()),
            |bencher| {
                bencher.iter_custom(|count| time_pwrite(&batch, count, RawFile::sync));
            },
        );
    }
    group.finish();
}

fn time_annals(shape: Shape, durability: Durability, count: u64) -> Duration {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), SEGMENT_BYTES).with_durability(durability);
    let values = shape.values();
    workload::fill(&partition, shape, WARM_UP);
    let start = Instant::now();
    for _ in 0..count {
        workload::append(&partition, &values);
    }
    start.elapsed()
}

fn time_pwrite(batch: &[u8], count: u64, after: impl Fn(&RawFile)) -> Duration {
    let scratch = workload::scratch();
    let mut file = RawFile::create(&scratch.path().join("raw"));
    for _ in 0..WARM_UP {
        file.append(batch);
        after(&file);
    }
    let start = Instant::now();
    for _ in 0..count {
        file.append(batch);
        after(&file);
    }
    start.elapsed()
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = append; config = short(); targets = to_the_system, to_the_device }
criterion_main!(append);
