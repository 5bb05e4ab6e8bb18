//! Time, as a producer needs it: what records are stamped with, and when a batch has lingered long
//! enough.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Stopwatch};

/// A clock that is looked at for every record costs as much as all the rest of a send. Within a
/// batch that lingers for so short a time, a record goes by a look that one shortly before it took.
const SHORT_LINGER: Duration = Duration::from_millis(10);
const RECORDS_PER_LOOK: u32 = 16;

#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    stopwatch: Arc<Stopwatch>,
    linger_us: u64,
    /// At least 1.
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

    /// What records without a timestamp get.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// Microseconds on the stopwatch that deadlines are counted in.
    pub(super) fn now_us(&self) -> u64 {
        self.stopwatch.now_us()
    }

    /// When a batch that begins now is due; never by itself where none lingers.
    pub(super) fn due_us(&self) -> u64 {
        if self.lingers() {
            self.now_us().saturating_add(self.linger_us)
        } else {
            u64::MAX
        }
    }

    /// Whether who sends is to write the batch himself: it does not linger, or time is moved by
    /// hand and nobody else keeps the deadline.
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
