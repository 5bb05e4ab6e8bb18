//! Appends that wait for the device, compared with `pwrite` and `fdatasync` of the same bytes. One
//! thread works alone, or sixteen threads share syncs through a leader.

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annals::{Durability, Partition};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawFile;
use crate::workload::{self, Shape};

const SHAPE: Shape = Shape::new(100, 1);
const THREADS: usize = 16;
/// Number of appends before the measurement: enough that the file is extended ahead of its batches.
const WARM_UP: usize = 600;

pub(crate) fn measure() {
    let batch = workload::batch_of(SHAPE);
    let value = SHAPE.values().remove(0);
    let appends = workload::sized(2, 1_500, 6_000);
    let annals = || time_annals(1, appends, &value);
    measure_pair(
        "synced, 1 thread, file of zeros",
        Aim::AtLeast(0.9),
        9,
        || time_raw(&batch, appends, true),
        annals,
    );
    measure_pair(
        "synced, 1 thread, growing file",
        Aim::AtLeast(0.9),
        9,
        || time_raw(&batch, appends, false),
        annals,
    );
    let each = workload::sized(2, 300, 1_000);
    let group = || time_group(&batch, each);
    measure_pair("synced, 16 threads", Aim::AtLeast(0.9), 9, group, || {
        time_annals(THREADS, each, &value)
    });
}

fn time_annals(threads: usize, each: usize, value: &[u8]) -> Duration {
    let scratch = workload::scratch();
    let partition =
        workload::open_lone(scratch.path(), 1 << 30).with_durability(Durability::Synced);
    append(&partition, WARM_UP, value);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| append(&partition, each, value));
        }
    });
    start.elapsed()
}

fn append(partition: &Partition, count: usize, value: &[u8]) {
    for _ in 0..count {
        partition.append(value).expect("an append works");
    }
}

fn time_raw(batch: &[u8], appends: usize, has_zeros: bool) -> Duration {
    let scratch = workload::scratch();
    let mut file = raw_file(
        scratch.path(),
        has_zeros.then_some((WARM_UP + appends) * batch.len()),
    );
    for _ in 0..WARM_UP {
        file.append(batch);
        file.sync();
    }
    let start = Instant::now();
    for _ in 0..appends {
        file.append(batch);
        file.sync();
    }
    start.elapsed()
}

fn raw_file(dir: &std::path::Path, zeros: Option<usize>) -> RawFile {
    let path = dir.join("raw");
    if let Some(bytes) = zeros {
        std::fs::write(&path, vec![0; bytes]).expect("zeros can be written");
    }
    let file = RawFile::open_or_create(&path);
    file.sync();
    file
}

/// A minimal group commit, which is the upper limit for annals: threads hand their bytes to a
/// leader.
#[derive(Debug)]
struct Group {
    state: Mutex<GroupState>,
    done: Condvar,
}

#[derive(Debug)]
struct GroupState {
    /// Bytes that were handed over and are not yet written.
    pending: Vec<u8>,
    handed: u64,
    synced: u64,
    /// The file, or `None` while a leader uses it.
    file: Option<RawFile>,
}

impl Group {
    fn append(&self, batch: &[u8]) {
        let mut state = self.state.lock().expect("no thread panics");
        state.pending.extend_from_slice(batch);
        state.handed += 1;
        let number = state.handed;
        while state.synced < number {
            let Some(mut file) = state.file.take() else {
                state = self.done.wait(state).expect("no thread panics");
                continue;
            };
            let (bytes, covered) = (std::mem::take(&mut state.pending), state.handed);
            drop(state);
            file.append(&bytes);
            file.sync();
            state = self.state.lock().expect("no thread panics");
            state.file = Some(file);
            state.synced = covered;
            self.done.notify_all();
        }
    }
}

fn time_group(batch: &[u8], each: usize) -> Duration {
    let scratch = workload::scratch();
    let file = raw_file(scratch.path(), Some(THREADS * each * batch.len()));
    let state = GroupState {
        pending: Vec::new(),
        handed: 0,
        synced: 0,
        file: Some(file),
    };
    let group = Group {
        state: Mutex::new(state),
        done: Condvar::new(),
    };
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..each).for_each(|_| group.append(batch)));
        }
    });
    start.elapsed()
}
