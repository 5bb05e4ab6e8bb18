//! A writer and a reader that follows it, in two threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::per_second;
use crate::checker::Checker;
use crate::clock::Budget;
use crate::program::Run;
use crate::values::Values;
use crate::{Outcome, Peer, Result, Setup};

/// The records of a batch of the writer.
const BATCH: usize = 100;
/// The time between two records when latency is measured.
const PACE: Duration = Duration::from_micros(100);
/// The longest time without a record after the writer has stopped.
const PATIENCE: Duration = Duration::from_secs(3);

fn setup() -> Setup {
    Setup {
        has_reader: true,
        threads: 1,
        ..Setup::default()
    }
}

/// Measures the time until a reader has all that a writer appends as fast as it can.
pub(crate) fn rate<P: Peer>(run: &Run) -> Result<Outcome> {
    let peer = P::open(&run.dir, &setup())?;
    let mut checker = Checker::new(run.workload.record_bytes(), 1);
    let appended = AtomicU64::new(u64::MAX);
    let start = Instant::now();
    let write = || -> Result<u64> {
        let mut values = Values::new(run.workload.record_bytes(), 0);
        let mut budget = Budget::start(run.time());
        while values.count() < run.most_records() && !budget.is_over() {
            peer.append_shared(0, values.batch(BATCH))?;
        }
        Ok(values.count())
    };
    let (count, time) = both(
        &peer,
        &appended,
        write,
        |value| _ = checker.visit(value),
        start,
    )?;
    let outcome = Outcome::default()
        .with("rate", per_second(count, time))
        .with_verdict(checker.verdict(&[count], true));
    peer.close()?;
    Ok(outcome)
}

/// Measures the time from when a record is due until a reader has it, at a fixed rate.
pub(crate) fn latency<P: Peer>(run: &Run) -> Result<Outcome> {
    let peer = P::open(&run.dir, &setup())?;
    let mut checker = Checker::new(run.workload.record_bytes(), 1);
    let appended = AtomicU64::new(u64::MAX);
    let records = run.most_records();
    let limit = run.time().max(PACE * u32::try_from(records)?) * 2;
    let mut latencies = Vec::new();
    let start = Instant::now();
    let write = || -> Result<u64> {
        let mut values = Values::new(run.workload.record_bytes(), 0);
        while values.count() < records && start.elapsed() < limit {
            while start.elapsed() < due(values.count()) {
                thread::yield_now();
            }
            peer.append_shared(0, values.batch(1))?;
        }
        Ok(values.count())
    };
    let visit = |value: &[u8]| {
        if let Some(index) = checker.visit(value) {
            latencies.push(start.elapsed().saturating_sub(due(index)));
        }
    };
    let (count, time) = both(&peer, &appended, write, visit, start)?;

    let mut outcome = Outcome::default().with_verdict(checker.verdict(&[count], true));
    let planned = due(count);
    if time > planned * 5 / 4 {
        outcome = outcome.with("too_slow", per_second(count, time));
    }
    latencies.sort_unstable();
    for (name, share) in [("p50", 500), ("p99", 990), ("p999", 999)] {
        let at = (latencies.len() * share / 1_000).min(latencies.len().saturating_sub(1));
        let latency = latencies.get(at).copied().unwrap_or_default();
        outcome = outcome.with(name, latency.as_nanos());
    }
    peer.close()?;
    Ok(outcome)
}

/// Returns the time at which a record is due.
fn due(index: u64) -> Duration {
    PACE * u32::try_from(index).expect("few records")
}

/// Runs the writer, and a reader until it has all records or no more come. Returns the number of
/// records and the time until the last one was read.
fn both<P: Peer>(
    peer: &P,
    appended: &AtomicU64,
    write: impl FnOnce() -> Result<u64> + Send,
    mut visit: impl FnMut(&[u8]) + Send,
    start: Instant,
) -> Result<(u64, Duration)> {
    let has_failed = AtomicBool::new(false);
    let read = || -> Result<Duration> {
        let mut cursor = peer.cursor()?;
        let (mut seen, mut last) = (0, Instant::now());
        while seen < appended.load(Ordering::Acquire) && !has_failed.load(Ordering::Relaxed) {
            match peer.read(&mut cursor, &mut visit)? {
                0 if last.elapsed() > PATIENCE => break,
                0 => peer.wait(&mut cursor)?,
                count => {
                    seen += count;
                    last = Instant::now();
                }
            }
        }
        Ok(last.duration_since(start))
    };
    thread::scope(|scope| {
        let reader = scope.spawn(read);
        let written = write();
        match &written {
            Ok(count) => appended.store(*count, Ordering::Release),
            Err(_) => has_failed.store(true, Ordering::Relaxed),
        }
        let time = reader
            .join()
            .unwrap_or_else(|_| Err("the reader panicked".into()))?;
        Ok((written?, time))
    })
}
