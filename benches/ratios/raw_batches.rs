//! Appends whole batches as they are, compared with `pwrite` and a CRC check of the same bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::{self, RawFile};
use crate::workload::{self, Shape, TYPICAL};

const SEGMENT_BYTES: u32 = 1 << 30;

pub(crate) fn measure() {
    for (shape, batches) in [
        (Shape::new(1_024, 1_000), 120),
        (TYPICAL, 1_000),
        (Shape::new(1_024, 16), 5_000),
    ] {
        let batch = workload::batch_of(shape);
        let name = format!("append_raw, {}", shape.name());
        let batches = workload::sized(10, batches, batches * 2);
        measure_pair(
            &name,
            Aim::AtLeast(0.9),
            15,
            || time_pwrite(&batch, batches),
            || time_append_raw(&batch, batches),
        );
    }
}

fn time_append_raw(batch: &[u8], batches: usize) -> Duration {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), SEGMENT_BYTES);
    partition.append_raw(batch).expect("an append works");
    let start = Instant::now();
    for _ in 0..batches {
        partition.append_raw(batch).expect("an append works");
    }
    start.elapsed()
}

fn time_pwrite(batch: &[u8], batches: usize) -> Duration {
    let scratch = workload::scratch();
    let mut file = RawFile::create(&scratch.path().join("raw"));
    file.append(batch);
    let start = Instant::now();
    for _ in 0..batches {
        black_box(raw::check(batch));
        file.append(batch);
    }
    start.elapsed()
}
