//! Appends from one thread, until everything is in the page cache.

use super::{per_second, read_back};
use crate::clock::Budget;
use crate::process::peak_memory;
use crate::program::Run;
use crate::values::Values;
use crate::{Outcome, Peer, Result, Setup};

pub(crate) fn run<P: Peer>(run: &Run, records: usize) -> Result<Outcome> {
    let record_bytes = run.workload.record_bytes();
    let setup = Setup {
        threads: 1,
        ..Setup::default()
    };
    let mut peer = P::open(&run.dir, &setup)?;
    let mut values = Values::new(record_bytes, 0);
    // The first appends create files and fill caches.
    for _ in 0..2 {
        peer.append(values.batch(records))?;
    }
    let before = values.count();

    let mut budget = Budget::start(run.time());
    while values.count() < run.most_records() && !budget.is_over() {
        peer.append(values.batch(records))?;
    }
    peer.settle()?;
    let time = budget.elapsed();

    let rate = per_second(values.count() - before, time);
    let mut outcome = Outcome::default().with("rate", rate);
    if let Some(memory) = peak_memory("self") {
        outcome = outcome.with("memory", memory);
    }
    let outcome = read_back(&mut peer, record_bytes, &[values.count()], outcome)?;
    peer.close()?;
    Ok(outcome)
}
