//! Opening a log that another process closed, or left open when it was killed.

use std::mem;
use std::time::Instant;

use super::read_back;
use crate::clock::Budget;
use crate::process::{disk_bytes, peak_memory};
use crate::program::Run;
use crate::values::Values;
use crate::{Outcome, Peer, Result, Setup};

const BATCH: usize = 1_000;

fn setup() -> Setup {
    Setup {
        is_reopened: true,
        threads: 1,
        ..Setup::default()
    }
}

fn appended<P: Peer>(run: &Run) -> Result<(P, u64)> {
    let mut peer = P::open(&run.dir, &setup())?;
    let mut values = Values::new(run.workload.record_bytes(), 0);
    let mut budget = Budget::start(run.time());
    while values.count() < run.most_records() {
        if budget.is_over() {
            return Err(format!("appended only {} records in time", values.count()).into());
        }
        peer.append(values.batch(BATCH))?;
    }
    Ok((peer, values.count()))
}

/// Writes a log and closes it. Reports memory and space.
pub(crate) fn fill<P: Peer>(run: &Run) -> Result<Outcome> {
    let (mut peer, records) = appended::<P>(run)?;
    peer.settle()?;
    peer.close()?;
    let outcome = Outcome::default()
        .with("records", records)
        .with("disk", disk_bytes(&run.dir)?);
    Ok(match peak_memory("self") {
        Some(memory) => outcome.with("memory", memory),
        None => outcome,
    })
}

/// Writes a log and leaves it open. All appends were acknowledged.
pub(crate) fn hold<P: Peer>(run: &Run) -> Result<Outcome> {
    let (peer, records) = appended::<P>(run)?;
    // The process is killed while the log is open.
    mem::forget(peer);
    Ok(Outcome::default().with("records", records))
}

/// Measures opening the log, and checks that it has all records.
pub(crate) fn open<P: Peer>(run: &Run, records: u64) -> Result<Outcome> {
    let start = Instant::now();
    let mut peer = P::open(&run.dir, &setup())?;
    let time = start.elapsed();
    let outcome = Outcome::default().with("time", time.as_nanos());
    let outcome = read_back(&mut peer, run.workload.record_bytes(), &[records], outcome)?;
    peer.close()?;
    Ok(outcome)
}
