//! Appends batches, compared with `pwrite` of the same bytes in the same sizes.

use std::time::{Duration, Instant};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawFile;
use crate::workload::{self, Shape, TYPICAL};

const SEGMENT_BYTES: u32 = 1 << 30;

pub(crate) fn measure() {
    for (shape, batches, aim) in [
        (TYPICAL, 500, 0.6),
        (Shape::new(100, 100), 5_000, 0.6),
        (Shape::new(1_024, 1_000), 60, 0.6),
        (Shape::new(100, 1), 100_000, 0.5),
    ] {
        let batch = workload::batch_of(shape);
        let values = shape.values();
        let batches = workload::sized(10, batches, batches * 2);
        let name = format!("append, {}", shape.name());
        let raw = || time_pwrite(&batch, batches);
        measure_pair(&name, Aim::AtLeast(aim), 15, raw, || {
            time_append(&values, batches)
        });
    }
}

fn time_append(values: &[Vec<u8>], batches: usize) -> Duration {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), SEGMENT_BYTES);
    workload::append(&partition, values);
    let start = Instant::now();
    for _ in 0..batches {
        workload::append(&partition, values);
    }
    start.elapsed()
}

pub(crate) fn time_pwrite(batch: &[u8], batches: usize) -> Duration {
    let scratch = workload::scratch();
    let mut file = RawFile::create(&scratch.path().join("raw"));
    file.append(batch);
    let start = Instant::now();
    for _ in 0..batches {
        file.append(batch);
    }
    start.elapsed()
}
