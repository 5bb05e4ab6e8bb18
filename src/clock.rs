//! Where time comes from: the only file that reads it.
//!
//! Record timestamps, retention and file ages take it from a [`Clock`]; time-outs of blocking calls are always real
//! time (`Deadline`), so that a test with a [`ManualClock`] cannot hang.

#![expect(clippy::disallowed_methods, reason = "this is the file they are kept for")]

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in whole milliseconds since 1970-01-01 UTC, as Kafka stores it. Earlier moments are negative; no record can carry
/// one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `millis` milliseconds after 1970-01-01 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

/// Whole milliseconds of a duration, as many as an `i64` holds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(millis(earlier)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Tells the time of day. Sealed: use [`SystemClock`] (the default) or, in tests, [`ManualClock`].
pub trait Clock: sealed::Sealed + fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Whether time passes only when somebody says so. A log with such a clock starts no thread.
    fn is_manual(&self) -> bool;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl sealed::Sealed for SystemClock {}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn is_manual(&self) -> bool {
        false
    }
}

/// A clock that stands still until it is told to move. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `time`.
    pub fn at(time: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(time.0)))
    }

    /// Moves the clock, and all its clones, forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the clock, and all its clones, to `time`, which may lie in its past.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::SeqCst);
    }
}

impl sealed::Sealed for ManualClock {}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn is_manual(&self) -> bool {
        true
    }
}

/// The end of a blocking call, in real time. `None` inside means never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now; never if that is beyond what the machine can count.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    pub(crate) const fn never() -> Self {
        Self(None)
    }

    pub(crate) const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The one that comes first.
    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(at), Some(other)) => Self(Some(at.min(other))),
            (at, other) => Self(at.or(other)),
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }
}

/// What deadlines that a log keeps by itself are counted in: microseconds that only go forward, or, where the clock is set by
/// hand, what it shows.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    manual: Option<Arc<dyn Clock>>,
    start: Instant,
}

impl Stopwatch {
    pub(crate) fn of(clock: &Arc<dyn Clock>) -> Self {
        Self { manual: clock.is_manual().then(|| Arc::clone(clock)), start: Instant::now() }
    }

    #[inline]
    pub(crate) fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    pub(crate) fn now_us(&self) -> u64 {
        match &self.manual {
            Some(clock) => u64::try_from(clock.now().as_millis()).unwrap_or(0).saturating_mul(1_000),
            None => u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// When it shows `at_us`, in real time; never for a clock that is set by hand.
    pub(crate) fn deadline(&self, at_us: u64) -> Deadline {
        let counts = self.manual.is_none() && at_us < u64::MAX;
        Deadline(if counts { self.start.checked_add(Duration::from_micros(at_us)) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_saturate() {
        assert_eq!(Timestamp::from_millis(5) - Duration::from_millis(7), Timestamp::from_millis(-2));
        assert_eq!(Timestamp::from_millis(1) + Duration::MAX, Timestamp::from_millis(i64::MAX));
        assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_999)), Timestamp::from_millis(1));
    }

    #[test]
    fn clones_of_a_manual_clock_share_the_time() {
        let clock = ManualClock::at(Timestamp::from_millis(10));
        let clone = clock.clone();
        clock.advance(Duration::from_secs(1));
        assert_eq!(clone.now(), Timestamp::from_millis(1_010));
        clone.set(Timestamp::from_millis(3));
        assert_eq!(clock.now(), Timestamp::from_millis(3));
    }

    #[test]
    fn a_stopwatch_goes_by_the_clock_that_is_set_by_hand() {
        let clock = ManualClock::at(Timestamp::from_millis(2));
        let stopwatch = Stopwatch::of(&(Arc::new(clock.clone()) as Arc<dyn Clock>));
        clock.advance(Duration::from_millis(3));
        assert_eq!(stopwatch.now_us(), 5_000);
        assert!(stopwatch.deadline(0).instant().is_none());
        let real = Stopwatch::of(&(Arc::new(SystemClock) as Arc<dyn Clock>));
        assert!(real.deadline(0).has_passed() && real.deadline(u64::MAX).instant().is_none());
        assert!(!real.deadline(real.now_us() + 60_000_000).has_passed());
    }

    #[test]
    fn a_deadline_without_end_never_passes() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
        for (one, other) in
            [(Duration::ZERO, Duration::MAX), (Duration::MAX, Duration::ZERO), (Duration::ZERO, Duration::from_secs(9))]
        {
            assert!(Deadline::after(one).earlier(Deadline::after(other)).has_passed());
        }
    }
}
