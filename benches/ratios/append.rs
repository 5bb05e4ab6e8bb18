//! Appends batches, compared with `pwrite` in as many calls: of the same bytes, of the values
//! alone, and of the values after they were copied into one buffer and their checksum computed.
//! Every log that writes a batch in one call and can notice damage does that last work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawFile;
use crate::workload::{self, Shape, TYPICAL};

const SEGMENT_BYTES: u32 = 1 << 30;
/// The bytes that frame a record of 100 bytes in a batch of Kafka's format.
const FRAME_BYTES: usize = 8;

/// The work without annals.
#[derive(Clone, Copy)]
enum Limit {
    Stored,
    Values,
    Checked,
}

impl Limit {
    fn name(self, shape: Shape) -> String {
        match self {
            Self::Stored => format!("append, {}", shape.name()),
            Self::Values => "  compared with the values alone".to_owned(),
            Self::Checked => "  with a copy and a CRC of the values".to_owned(),
        }
    }
}

pub(crate) fn measure() {
    use Limit::{Checked, Stored, Values};
    for (shape, batches, aims) in [
        (
            TYPICAL,
            500,
            &[(Stored, 0.7), (Values, 0.6), (Checked, 0.8)][..],
        ),
        (
            Shape::new(100, 100),
            5_000,
            &[(Stored, 0.8), (Checked, 0.8)],
        ),
        (Shape::new(1_024, 1_000), 60, &[(Stored, 0.7)]),
        (
            Shape::new(100, 1),
            100_000,
            &[(Stored, 0.8), (Values, 0.65)],
        ),
    ] {
        let batch = workload::batch_of(shape);
        let values = shape.values();
        let joined = values.concat();
        let batches = workload::sized(10, batches, batches * 2);
        for &(limit, aim) in aims {
            let raw = || match limit {
                Stored => time_pwrite(&batch, batches),
                Values => time_pwrite(&joined, batches),
                Checked => time_checked(&values, batches),
            };
            measure_pair(&limit.name(shape), Aim::AtLeast(aim), 15, raw, || {
                time_append(&values, batches)
            });
        }
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

fn time_checked(values: &[Vec<u8>], batches: usize) -> Duration {
    let scratch = workload::scratch();
    let mut file = RawFile::create(&scratch.path().join("raw"));
    let mut buffer = values.concat();
    file.append(&buffer);
    let start = Instant::now();
    for _ in 0..batches {
        buffer.clear();
        for value in values {
            buffer.extend_from_slice(&[0; FRAME_BYTES]);
            buffer.extend_from_slice(value);
        }
        black_box(crc_fast::crc32_iscsi(&buffer));
        file.append(&buffer);
    }
    start.elapsed()
}
