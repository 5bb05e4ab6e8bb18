//! The time of the system's last tick.

#![cfg_attr(
    any(target_os = "linux", target_os = "android"),
    expect(
        unsafe_code,
        reason = "the standard library reads the precise clock only"
    )
)]

use super::Timestamp;

/// Returns the time of the last tick: no later than the present time, and up to 10 ms earlier.
/// Takes a quarter of the time that reading the precise clock takes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn now() -> Timestamp {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The call writes to `time` only, which is borrowed for as long as the call takes.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    if failed != 0 {
        return Timestamp::now();
    }
    #[allow(clippy::useless_conversion, reason = "the types depend on the system")]
    let (seconds, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
    Timestamp(
        seconds
            .saturating_mul(1_000)
            .saturating_add(nanos / 1_000_000),
    )
}

/// Returns the present time: this system has no faster clock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
