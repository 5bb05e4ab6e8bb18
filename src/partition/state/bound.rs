//! Counts appends against the bound of their log,
//! [`LogConfig::max_bytes`](crate::LogConfig::max_bytes).
//!
//! Only the log knows how large all partitions are together, and to count them it has to visit
//! every segment. So appends count down the room that was left at the last count, and the append
//! that uses it up asks the log to count again. The room is at least an eighth of the bound. Active
//! segments are rolled at the same size, because only sealed segments can be deleted.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{OnceLock, Weak};

/// The log, which deletes old segments to stay within its bound.
pub(crate) trait RoomKeeper: Send + Sync {
    /// Deletes old segments until all partitions together are far enough below the bound, and sets
    /// the room that is left.
    fn keep_within_bound(&self);
}

/// The bound of a log.
pub(crate) struct LogBound {
    limit: u64,
    /// Bytes that may be appended before the log counts again.
    room: AtomicI64,
    keeper: OnceLock<Weak<dyn RoomKeeper>>,
}

impl LogBound {
    /// Creates a bound without room: the log may already be larger than `limit`, so the first
    /// append asks it to count.
    pub(crate) fn new(limit: u64) -> Self {
        debug_assert!(limit > 0, "the configuration refuses a bound of 0");
        Self {
            limit,
            room: AtomicI64::new(0),
            keeper: OnceLock::new(),
        }
    }

    pub(crate) fn set_keeper(&self, keeper: Weak<dyn RoomKeeper>) {
        let is_first = self.keeper.set(keeper).is_ok();
        debug_assert!(is_first, "a log is opened once");
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns an eighth of the bound: the size at which an active segment is rolled, and the room
    /// that a count makes.
    pub(crate) fn step(&self) -> u64 {
        (self.limit / 8).max(1)
    }

    /// Sets the room after a count that found `total` bytes. The room is at least one step, even if
    /// no more may be deleted.
    pub(crate) fn set_room(&self, total: u64) {
        let room = self.limit.saturating_sub(total).max(self.step());
        self.room
            .store(i64::try_from(room).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the room to any number of bytes.
    #[cfg(test)]
    pub(crate) fn set_room_for_tests(&self, bytes: i64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Counts an append, and asks the log to make room if the append used the room up. The caller
    /// holds no lock of a partition.
    #[inline]
    pub(in crate::partition) fn note_append(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.room.fetch_sub(bytes, Ordering::Relaxed) <= bytes
            && let Some(keeper) = self.keeper.get().and_then(Weak::upgrade)
        {
            keeper.keep_within_bound();
        }
    }
}

impl fmt::Debug for LogBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBound")
            .field("limit", &self.limit)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
