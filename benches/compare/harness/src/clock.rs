//! The end of a run: after so many records, or after so much time.

use std::time::{Duration, Instant};

/// The time between two looks at the clock, which cost about as much as a short append.
const INTERVAL: Duration = Duration::from_micros(200);

/// Ends a loop of calls by their number of records or by time.
#[derive(Debug)]
pub(crate) struct Budget {
    start: Instant,
    time: Duration,
    /// Calls until the next look at the clock, and calls between the last two looks.
    left: u32,
    step: u32,
    last: Duration,
}

impl Budget {
    pub(crate) fn start(time: Duration) -> Self {
        Self {
            start: Instant::now(),
            time,
            left: 1,
            step: 1,
            last: Duration::ZERO,
        }
    }

    /// Returns whether the time has passed. Looks at the clock rarely if the calls are short.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        self.left -= 1;
        self.left == 0 && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        let now = self.start.elapsed();
        self.step = match now - self.last {
            passed if passed < INTERVAL / 2 => (self.step * 2).min(4_096),
            passed if passed > INTERVAL => (self.step / 2).max(1),
            _ => self.step,
        };
        self.last = now;
        self.left = self.step;
        now >= self.time
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
