//! The workloads. Each opens a log in an empty directory, and checks all records that it reads.

pub(crate) mod append;
pub(crate) mod beside;
pub(crate) mod durable;
pub(crate) mod open;
pub(crate) mod read;

use std::time::{Duration, Instant};

use crate::checker::Checker;
use crate::{Outcome, Peer, Result, Unsupported};

/// The longest time for reading everything back after a measured part.
const PATIENCE: Duration = Duration::from_secs(4);

/// Reads everything back and returns what is wrong. A slow peer is stopped after some seconds; the
/// records until then are checked.
fn read_back<P: Peer>(
    peer: &mut P,
    record_bytes: usize,
    appended: &[u64],
    outcome: Outcome,
) -> Result<Outcome> {
    if P::ONLY_WRITES {
        return Ok(outcome);
    }
    let mut checker = Checker::new(record_bytes, appended.len());
    let is_whole = visit_all(peer, PATIENCE, &mut |value| _ = checker.visit(value))?;
    let outcome = outcome.with_verdict(checker.verdict(appended, is_whole));
    Ok(outcome.with("checked_records", checker.seen()))
}

/// Visits all records in order. Returns `false` if the time is over before the last one.
fn visit_all<P: Peer>(peer: &mut P, time: Duration, visit: &mut impl FnMut(&[u8])) -> Result<bool> {
    match visit_until(peer, time, visit) {
        // The peer reads only as a whole.
        Err(error) if error.is::<Unsupported>() => peer.scan(visit).map(|()| true),
        result => result,
    }
}

fn visit_until<P: Peer>(peer: &P, time: Duration, visit: &mut impl FnMut(&[u8])) -> Result<bool> {
    let start = Instant::now();
    let mut cursor = peer.cursor()?;
    while peer.read(&mut cursor, visit)? > 0 {
        if start.elapsed() > time {
            return Ok(false);
        }
    }
    Ok(true)
}

fn per_second(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
    let count = count as f64;
    count / time.as_secs_f64()
}
