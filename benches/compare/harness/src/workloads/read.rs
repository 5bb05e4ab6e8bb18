//! A scan of all records, and reads of single records at random.

use std::time::{Duration, Instant};

use super::{per_second, visit_all};
use crate::checker::Checker;
use crate::clock::Budget;
use crate::program::Run;
use crate::values::{Random, Values};
use crate::{Outcome, Peer, Result, Setup};

/// The size of a segment where a log shall have many.
pub(crate) const SMALL_SEGMENT: u64 = 4 << 20;
/// The longest time for writing the records that are read.
const FILLING: Duration = Duration::from_millis(600);
/// A scan longer than this is stopped; the records until then count.
const LONGEST_SCAN: Duration = Duration::from_secs(2);

/// Opens a log and appends records in batches of `records`.
fn filled<P: Peer>(run: &Run, setup: &Setup, records: usize) -> Result<(P, u64)> {
    let mut peer = P::open(&run.dir, setup)?;
    let mut values = Values::new(run.workload.record_bytes(), 0);
    let mut budget = Budget::start(FILLING);
    while values.count() < run.most_records() && !budget.is_over() {
        peer.append(values.batch(records))?;
    }
    peer.settle()?;
    Ok((peer, values.count()))
}

pub(crate) fn scan<P: Peer>(run: &Run) -> Result<Outcome> {
    let setup = Setup {
        threads: 1,
        ..Setup::default()
    };
    let (mut peer, appended) = filled::<P>(run, &setup, 1_000)?;
    let mut checker = Checker::new(run.workload.record_bytes(), 1);
    let start = Instant::now();
    let is_whole = visit_all(&mut peer, LONGEST_SCAN, &mut |value| {
        _ = checker.visit(value)
    })?;
    let time = start.elapsed();
    let outcome = Outcome::default()
        .with("rate", per_second(checker.seen(), time))
        .with_verdict(checker.verdict(&[appended], is_whole));
    peer.close()?;
    Ok(outcome)
}

pub(crate) fn point<P: Peer>(run: &Run, segment_bytes: Option<u64>) -> Result<Outcome> {
    let setup = Setup {
        segment_bytes,
        needs_addresses: true,
        threads: 1,
        ..Setup::default()
    };
    let (peer, appended) = filled::<P>(run, &setup, 100)?;
    let mut checker = Checker::new(run.workload.record_bytes(), 1);
    let mut random = Random::new(7);
    let mut cursor = peer.cursor()?;
    let mut visited = 0;
    // The first read opens files and fills caches.
    peer.get(&mut cursor, appended / 2, &mut |value| {
        checker.visit_one(value, appended / 2)
    })?;

    let (mut reads, most_reads) = (0, run.most_records());
    let mut budget = Budget::start(run.time());
    while reads < most_reads && !budget.is_over() {
        let index = random.below(appended);
        peer.get(&mut cursor, index, &mut |value| {
            visited += 1;
            checker.visit_one(value, index);
        })?;
        reads += 1;
    }
    let time = budget.elapsed();
    drop(cursor);

    let verdict = match reads - visited {
        0 => checker.verdict(&[reads], false),
        missing => Some(format!("lost {missing} of {reads}")),
    };
    let outcome = Outcome::default()
        .with("rate", per_second(reads, time))
        .with_verdict(verdict);
    peer.close()?;
    Ok(outcome)
}
