//! Whether a partition is being re-opened, and how often it was.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync::{Mutex, MutexGuard};

/// Makes appends wait while the partition is re-opened.
#[derive(Debug, Default)]
pub(in crate::partition) struct Reopening {
    /// Held by the thread that re-opens, until appends may continue. Taken before every other lock
    /// of the partition.
    turn: Mutex<()>,
    /// Whether appends have to wait. Set under the writer lock.
    is_under_way: AtomicBool,
    /// Records that were appended before the latest one and not synced may be gone.
    count: AtomicU64,
}

impl Reopening {
    /// Waits until no other thread re-opens the partition, and takes its place.
    pub(in crate::partition) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Makes appends wait. The caller holds the turn and the writer lock.
    pub(in crate::partition) fn begin(&self) {
        debug_assert!(self.turn.is_locked(), "the caller has the turn");
        self.is_under_way.store(true, Ordering::Release);
    }

    /// Lets appends continue, once the turn is given back.
    pub(in crate::partition) fn end(&self) {
        self.is_under_way.store(false, Ordering::Release);
    }

    /// Returns whether appends have to wait.
    #[inline]
    pub(in crate::partition) fn is_under_way(&self) -> bool {
        self.is_under_way.load(Ordering::Acquire)
    }

    /// Waits for the thread that re-opens. The caller holds no lock of the partition.
    pub(in crate::partition) fn wait(&self) {
        drop(self.turn.lock());
    }

    /// Returns how often the partition was re-opened.
    #[inline]
    pub(in crate::partition) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub(in crate::partition) fn count_one(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}
