//! Opens a clean log, compared with `stat` on its files, and an unclean one, compared with reading
//! all its files from a cold disk.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

mod raw;
mod workload;

/// A log that was closed properly. Only names, sizes and a few small files are read.
fn clean(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open a clean log");
    for segments in [1, 10, 100] {
        let scratch = workload::scratch();
        let dir = scratch.path().join("log");
        workload::write_log(&dir, segments, 1 << 20);
        let files = raw::files(&dir);
        let name = |side| BenchmarkId::new(side, format!("{segments} segments"));
        group.bench_function(name("annals"), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| workload::time_open(&dir)).sum());
        });
        group.bench_function(name("stat"), |bencher| bencher.iter(|| raw::stat(&files)));
    }
    group.finish();
}

/// A log of a process that was killed before it noted any flush. Every batch is read from the
/// device and checked.
fn unclean(criterion: &mut Criterion) {
    let scratch = workload::scratch();
    let dir = scratch.path().join("log");
    workload::write_log(
        &dir,
        4,
        if workload::is_quick() {
            1 << 20
        } else {
            16 << 20
        },
    );
    let files = raw::files(&dir);
    let bytes = files
        .iter()
        .map(|file| std::fs::metadata(file).expect("the file exists").len())
        .sum();
    let mut buffer = vec![0; 1 << 20];

    let mut group = criterion.benchmark_group("open an unclean log");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("annals", |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| time_unclean(&dir)).sum());
    });
    group.bench_function("cold read", |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| time_cold_read(&dir, &mut buffer)).sum());
    });
    group.finish();
}

fn time_unclean(dir: &Path) -> Duration {
    workload::make_unclean(dir);
    raw::cool(&raw::files(dir));
    workload::time_open(dir)
}

fn time_cold_read(dir: &Path, buffer: &mut [u8]) -> Duration {
    let files = raw::files(dir);
    raw::cool(&files);
    let start = Instant::now();
    raw::read(&files, buffer);
    start.elapsed()
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = open; config = short(); targets = clean, unclean }
criterion_main!(open);
