//! Time, as a producer needs it: the timestamps of records, and the end of lingering.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Stopwatch};

/// Reading the clock for every record would cost as much as all the rest of a send. In a batch that
/// lingers no longer than this, several records share one reading of the clock.
const SHORT_LINGER: Duration = Duration::from_millis(10);
/// How many records share one reading.
const RECORDS_PER_LOOK: u32 = 16;

#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    stopwatch: Arc<Stopwatch>,
    linger_us: u64,
    /// How many records share one reading of the clock. At least 1.
    pub(super) records_per_look: u32,
}

impl Pace {
    pub(super) fn new(
        clock: &Arc<dyn Clock>,
        stopwatch: &Arc<Stopwatch>,
        linger: Duration,
    ) -> Self {
        let is_coarse = !clock.is_manual() && linger <= SHORT_LINGER;
        Self {
            clock: Arc::clone(clock),
            stopwatch: Arc::clone(stopwatch),
            linger_us: u64::try_from(linger.as_micros()).unwrap_or(u64::MAX),
            records_per_look: if is_coarse { RECORDS_PER_LOOK } else { 1 },
        }
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger_us > 0
    }

    /// Returns the timestamp of a record that has none of its own, in milliseconds.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// Returns the time of the stopwatch, in microseconds. Deadlines are counted by it.
    pub(super) fn now_us(&self) -> u64 {
        self.stopwatch.now_us()
    }

    /// Returns when a batch that begins now is due; `u64::MAX` if batches do not linger.
    pub(super) fn due_us(&self) -> u64 {
        if self.lingers() {
            self.now_us().saturating_add(self.linger_us)
        } else {
            u64::MAX
        }
    }

    /// Returns whether the thread that sends must write the batch: batches do not linger, or the
    /// clock is set by hand, so that no other thread keeps the deadline, and the deadline has
    /// passed.
    #[inline]
    pub(super) fn is_due(&self, due_us: u64, now: i64) -> bool {
        self.linger_us == 0
            || self.clock_is_manual()
                && u64::try_from(now).unwrap_or(0).saturating_mul(1_000) >= due_us
    }

    #[inline]
    fn clock_is_manual(&self) -> bool {
        self.stopwatch.is_manual()
    }
}
