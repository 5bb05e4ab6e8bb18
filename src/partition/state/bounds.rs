//! The offsets that bound a partition.

use std::sync::atomic::{AtomicU64, Ordering};

/// The value of an offset that is not there.
pub(in crate::partition) const NEVER: u64 = u64::MAX;

/// Offsets that readers load without a lock. They change only while the writer lock is held, except
/// for the recovery point, which changes under the flush lock.
#[derive(Debug)]
pub(in crate::partition) struct Bounds {
    log_start: AtomicU64,
    /// Stored after the batch is in the file and its segment has published it.
    log_end: AtomicU64,
    recovery_point: AtomicU64,
    /// [`NEVER`] if no transaction is open.
    first_unstable: AtomicU64,
}

impl Bounds {
    pub(in crate::partition) fn new(
        log_start: u64,
        log_end: u64,
        recovery_point: u64,
        first_unstable: Option<u64>,
    ) -> Self {
        debug_assert!(
            log_start <= log_end,
            "a log starts at {log_start} and ends at {log_end}"
        );
        debug_assert!(
            recovery_point <= log_end,
            "{recovery_point} is above the end {log_end}"
        );
        Self {
            log_start: AtomicU64::new(log_start),
            log_end: AtomicU64::new(log_end),
            recovery_point: AtomicU64::new(recovery_point),
            first_unstable: AtomicU64::new(first_unstable.unwrap_or(NEVER)),
        }
    }

    /// Returns the first offset that can be read.
    #[inline]
    pub(in crate::partition) fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Returns the offset of the next record to be appended.
    #[inline]
    pub(in crate::partition) fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::SeqCst)
    }

    /// Returns the offset below which everything is on the device, with indexes and snapshots.
    pub(in crate::partition) fn recovery_point(&self) -> u64 {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// Returns the first offset of the earliest open transaction, or [`NEVER`].
    #[inline]
    pub(in crate::partition) fn first_unstable(&self) -> u64 {
        self.first_unstable.load(Ordering::Acquire)
    }

    /// Returns whether a transaction has no marker yet.
    pub(in crate::partition) fn has_open_transaction(&self) -> bool {
        self.first_unstable() != NEVER
    }

    /// Raises the log start, but not above the log end. Returns the former log start.
    pub(in crate::partition) fn raise_log_start(&self, offset: u64) -> u64 {
        self.log_start
            .fetch_max(offset.min(self.log_end()), Ordering::AcqRel)
    }

    /// Sets the log start of a partition that was read again from its files.
    pub(in crate::partition) fn set_log_start(&self, offset: u64) {
        self.log_start.store(offset, Ordering::Release);
    }

    /// Publishes the log end: a reader that loads it finds all records below it.
    pub(in crate::partition) fn set_log_end(&self, end: u64) {
        self.log_end.store(end, Ordering::SeqCst);
    }

    /// Raises the recovery point after a flush.
    pub(in crate::partition) fn raise_recovery_point(&self, end: u64) {
        debug_assert!(end <= self.log_end(), "{end} is not appended yet");
        self.recovery_point.fetch_max(end, Ordering::AcqRel);
    }

    /// Lowers the recovery point before the log is cut.
    pub(in crate::partition) fn lower_recovery_point(&self, end: u64) {
        self.recovery_point.fetch_min(end, Ordering::AcqRel);
    }

    pub(in crate::partition) fn set_first_unstable(&self, offset: Option<u64>) {
        self.first_unstable
            .store(offset.unwrap_or(NEVER), Ordering::Release);
    }

    /// Lowers the first unstable offset to `offset`, while the log is cut.
    pub(in crate::partition) fn lower_first_unstable(&self, offset: u64) {
        self.first_unstable.fetch_min(offset, Ordering::AcqRel);
    }

    /// Takes the recovery point and the log start from a partition that was recovered in place. The
    /// other offsets are published later, together with the segments.
    pub(in crate::partition) fn take_over(&self, fresh: &Self) {
        self.recovery_point
            .store(fresh.recovery_point(), Ordering::Release);
        self.set_log_start(fresh.log_start());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_start_rises_up_to_the_log_end() {
        let bounds = Bounds::new(2, 9, 4, None);
        assert_eq!(bounds.raise_log_start(5), 2);
        assert_eq!(bounds.raise_log_start(3), 5);
        assert_eq!(bounds.raise_log_start(20), 5);
        assert_eq!(bounds.log_start(), 9);
    }

    #[test]
    fn the_recovery_point_rises_with_a_flush_and_falls_with_a_cut() {
        let bounds = Bounds::new(2, 9, 4, None);
        bounds.raise_recovery_point(3);
        assert_eq!(bounds.recovery_point(), 4);
        bounds.raise_recovery_point(8);
        assert_eq!(bounds.recovery_point(), 8);
        bounds.lower_recovery_point(6);
        assert_eq!(bounds.recovery_point(), 6);
    }

    #[test]
    #[should_panic(expected = "is above the end")]
    fn a_recovery_point_above_the_log_end_is_refused() {
        Bounds::new(0, 3, 4, None);
    }
}
