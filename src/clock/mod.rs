//! The clock of a log. No other file reads the time.
//!
//! Record timestamps, retention and file ages use a [`Clock`]. Time-outs of blocking calls use
//! real time (`Deadline`), so that a test with a [`ManualClock`] cannot hang.

#![expect(
    clippy::disallowed_methods,
    reason = "this file may call the disallowed methods"
)]

mod coarse;

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in whole milliseconds since 1970-01-01 UTC, as Kafka stores it. Earlier moments are
/// negative, and a record cannot have one.
///
/// `{}` and `{:?}` print it in the format of RFC 3339, in UTC and with milliseconds. Years before 0
/// and after 9999, which RFC 3339 cannot express, have a sign. A timestamp converts from and to
/// [`SystemTime`].
///
/// ```
/// use std::time::SystemTime;
/// use annals::Timestamp;
///
/// let at = Timestamp::from_millis(1_700_000_000_042);
/// assert_eq!(at.to_string(), "2023-11-14T22:13:20.042Z");
/// assert_eq!(Timestamp::from(SystemTime::from(at)), at);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates the timestamp `millis` milliseconds after 1970-01-01 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since 1970-01-01 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the present time of the machine, as [`SystemClock`] does.
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

/// Returns the whole milliseconds of a duration, or the largest `i64` if there are more.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Drops fractions of a millisecond.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

/// Panics if the system's type cannot represent the moment. On Unix it can represent all of them.
impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        let distance = Duration::from_millis(at.0.unsigned_abs());
        if at.0 < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
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
        const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
        let (year, month, day) = date_of(self.0.div_euclid(DAY_MS));
        let ms = self.0.rem_euclid(DAY_MS);
        if (0..=9_999).contains(&year) {
            write!(f, "{year:04}")?;
        } else {
            write!(f, "{year:+05}")?;
        }
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(
            f,
            "-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z",
            ms % 1_000
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns year, month and day of the Gregorian calendar, for a day counted from 1970-01-01.
///
/// The calculation lets years begin in March, so that a leap day is the last day of its year, of
/// its four years and of its four centuries.
fn date_of(day: i64) -> (i64, i64, i64) {
    const CYCLE_DAYS: i64 = 400 * 365 + 97;
    const CENTURY_DAYS: i64 = 100 * 365 + 24;
    const FOUR_YEARS_DAYS: i64 = 4 * 365 + 1;
    const MONTH_DAYS: [i64; 12] = [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29];
    /// From 0000-03-01 to 1970-01-01.
    const TO_1970_DAYS: i64 = 719_468;

    let day = day + TO_1970_DAYS;
    let (cycles, day) = (day.div_euclid(CYCLE_DAYS), day.rem_euclid(CYCLE_DAYS));
    let centuries = (day / CENTURY_DAYS).min(3);
    let day = day - centuries * CENTURY_DAYS;
    let (fours, day) = (day / FOUR_YEARS_DAYS, day % FOUR_YEARS_DAYS);
    let years = (day / 365).min(3);
    let mut day = day - years * 365;
    let mut month = 3;
    for days in MONTH_DAYS {
        if day < days {
            break;
        }
        (day, month) = (day - days, month + 1);
    }
    let year = cycles * 400 + centuries * 100 + fours * 4 + years;
    if month > 12 {
        (year + 1, month - 12, day + 1)
    } else {
        (year, month, day + 1)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A source of the present time. Sealed: use [`SystemClock`], the default, or [`ManualClock`] in
/// tests.
pub trait Clock: sealed::Sealed + fmt::Debug + Send + Sync + 'static {
    /// Returns the present time.
    fn now(&self) -> Timestamp;

    /// Returns whether the time changes only when the program changes it. A log with such a clock
    /// does not start a background thread.
    fn is_manual(&self) -> bool;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl sealed::Sealed for SystemClock {}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn is_manual(&self) -> bool {
        false
    }
}

/// A clock whose time changes only when the program changes it. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Creates a clock whose time is `time`.
    pub fn at(time: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(time.0)))
    }

    /// Moves the time of the clock and all its clones forward by `by`.
    pub fn advance(&self, by: Duration) {
        let advanced = |now: i64| Some(now.saturating_add(millis(by)));
        let _before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, advanced);
    }

    /// Sets the time of the clock and all its clones to `time`, which may be earlier than before.
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

/// Returns the present time, or a time that is up to 10 ms earlier, but not before `earliest`. A
/// clock that is set by hand returns its time.
///
/// Reading the precise clock for every record would take a quarter of the time of a send.
#[inline]
pub(crate) fn recent(clock: &dyn Clock, earliest: Timestamp) -> Timestamp {
    if clock.is_manual() {
        clock.now()
    } else {
        coarse::now().max(earliest)
    }
}

/// The end of a blocking call, in real time. `None` for never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the deadline `timeout` from now, or never if the system cannot represent it.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    pub(crate) const fn never() -> Self {
        Self(None)
    }

    pub(crate) const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Returns the earlier of both deadlines.
    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(at), Some(other)) => Self(Some(at.min(other))),
            (at, other) => Self(at.or(other)),
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns the time until the deadline, or `None` if it is never.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// Measures the deadlines of a log's own work in microseconds. They increase in real time, or
/// follow the clock of the log if it is set by hand.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    manual: Option<Arc<dyn Clock>>,
    start: Instant,
}

impl Stopwatch {
    pub(crate) fn of(clock: &Arc<dyn Clock>) -> Self {
        Self {
            manual: clock.is_manual().then(|| Arc::clone(clock)),
            start: Instant::now(),
        }
    }

    #[inline]
    pub(crate) fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    pub(crate) fn now_us(&self) -> u64 {
        match &self.manual {
            Some(clock) => u64::try_from(clock.now().as_millis())
                .unwrap_or(0)
                .saturating_mul(1_000),
            None => u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Returns the real time at which [`now_us`](Self::now_us) will return `at_us`. It is never for
    /// a clock that is set by hand.
    pub(crate) fn deadline(&self, at_us: u64) -> Deadline {
        let counts = self.manual.is_none() && at_us < u64::MAX;
        Deadline(if counts {
            self.start.checked_add(Duration::from_micros(at_us))
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stops_at_the_latest_time() {
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::from_millis(i64::MAX));
    }

    #[test]
    fn timestamps_saturate() {
        assert_eq!(
            Timestamp::from_millis(5) - Duration::from_millis(7),
            Timestamp::from_millis(-2)
        );
        assert_eq!(
            Timestamp::from_millis(1) + Duration::MAX,
            Timestamp::from_millis(i64::MAX)
        );
        assert_eq!(
            Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_999)),
            Timestamp::from_millis(1)
        );
    }

    #[test]
    fn a_timestamp_displays_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_078_012_800_000, "2004-02-29T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-0001-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "+10000-01-01T00:00:00.000Z"),
            (i64::MAX, "+292278994-08-17T07:12:55.807Z"),
            (i64::MIN, "-292275055-05-16T16:47:04.192Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
        }
    }

    #[test]
    fn dates_are_consecutive_over_two_cycles_of_the_calendar() {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1_600, 1, 1);
        for day in -135_140..160_000 {
            assert_eq!(date_of(day), expected);
            let (year, month, day) = expected;
            let days = match month {
                2 if is_leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (day == days, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }

    #[test]
    fn every_timestamp_converts_to_system_time_and_back() {
        for millis in [
            0,
            1,
            -1,
            1_700_000_000_042,
            -1_700_000_000_042,
            i64::MAX,
            i64::MIN + 1,
        ] {
            assert_eq!(
                Timestamp::from(SystemTime::from(Timestamp(millis))),
                Timestamp(millis)
            );
        }
        assert!(SystemTime::from(Timestamp(i64::MIN)) < UNIX_EPOCH);
        assert!(Timestamp::now() > Timestamp(1_700_000_000_000));
    }

    #[test]
    fn a_recent_time_is_at_most_a_little_early() {
        let epoch = Timestamp(0);
        for _ in 0..1_000 {
            let before = Timestamp::now();
            let recent = recent(&SystemClock, epoch);
            // A tick can be late on a busy machine.
            assert!(recent > before - Duration::from_secs(10), "{recent}");
            assert!(recent <= Timestamp::now(), "{recent}");
        }
        let later = Timestamp::now() + Duration::from_secs(60);
        assert_eq!(recent(&SystemClock, later), later);
        let manual = ManualClock::at(Timestamp(5));
        assert_eq!(recent(&manual, Timestamp(7)), Timestamp(5));
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
    fn a_stopwatch_follows_a_manual_clock() {
        let clock = ManualClock::at(Timestamp::from_millis(2));
        let stopwatch = Stopwatch::of(&(Arc::new(clock.clone()) as Arc<dyn Clock>));
        clock.advance(Duration::from_millis(3));
        assert_eq!(stopwatch.now_us(), 5_000);
        assert!(stopwatch.deadline(0).instant().is_none());
        let real = Stopwatch::of(&(Arc::new(SystemClock) as Arc<dyn Clock>));
        assert!(real.deadline(0).has_passed());
        assert!(real.deadline(u64::MAX).instant().is_none());
        assert!(!real.deadline(real.now_us() + 60_000_000).has_passed());
    }

    #[test]
    fn a_deadline_without_end_never_passes() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
        for (one, other) in [
            (Duration::ZERO, Duration::MAX),
            (Duration::MAX, Duration::ZERO),
            (Duration::ZERO, Duration::from_secs(9)),
        ] {
            assert!(
                Deadline::after(one)
                    .earlier(Deadline::after(other))
                    .has_passed()
            );
        }
    }
}
