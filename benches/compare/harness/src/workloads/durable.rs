//! Appends of one record that return after it is on the device, from several threads.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{per_second, read_back};
use crate::clock::Budget;
use crate::program::Run;
use crate::values::Values;
use crate::{Outcome, Peer, Result, Setup};

pub(crate) fn run<P: Peer>(run: &Run, threads: usize) -> Result<Outcome> {
    let setup = Setup {
        is_synced: true,
        threads,
        ..Setup::default()
    };
    let mut peer = P::open(&run.dir, &setup)?;
    let most_records = run.most_records() / threads as u64;
    let barrier = Barrier::new(threads);
    let append = |thread: usize| -> Result<(u64, Duration)> {
        let mut values = Values::new(run.workload.record_bytes(), thread);
        barrier.wait();
        let mut budget = Budget::start(run.time());
        while values.count() < most_records && !budget.is_over() {
            peer.append_shared(thread, values.batch(1))?;
        }
        Ok((values.count(), budget.elapsed()))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let append = &append;
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || append(thread)))
            .collect();
        handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err("a thread panicked".into()))
            })
            .collect()
    });
    let results: Vec<_> = results.into_iter().collect::<Result<_>>()?;

    let appended: Vec<u64> = results.iter().map(|(count, _)| *count).collect();
    let time = results
        .iter()
        .map(|(_, time)| *time)
        .max()
        .unwrap_or_default();
    let outcome = Outcome::default().with("rate", per_second(appended.iter().sum(), time));
    let outcome = read_back(&mut peer, run.workload.record_bytes(), &appended, outcome)?;
    peer.close()?;
    Ok(outcome)
}
