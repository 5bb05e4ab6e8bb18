//! Whether a partition is being re-opened, and the records that were lost then.

use std::sync::atomic::{AtomicBool, Ordering};

use super::cuts::Cuts;
use crate::sync::{Mutex, MutexGuard};

/// Makes appends wait while the partition is re-opened.
#[derive(Debug, Default)]
pub(in crate::partition) struct Reopening {
    /// Held by the thread that re-opens, until appends may continue. Taken before every other lock
    /// of the partition.
    turn: Mutex<()>,
    /// Whether appends have to wait. Set under the writer lock.
    is_under_way: AtomicBool,
    /// The re-openings that did not find all records, which had not been synced. Cuts that a caller
    /// asked for are not among them.
    losses: Cuts,
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

    /// Returns how many re-openings have lost records.
    #[inline]
    pub(in crate::partition) fn losses(&self) -> u64 {
        self.losses.count()
    }

    /// Notes that the records from `end` on were lost. The caller has the turn to sync, so a thread
    /// that waits for it learns that its append may be gone.
    pub(in crate::partition) fn note_loss(&self, end: u64) {
        self.losses.add(end);
    }

    /// Returns whether records below `end` were lost since there were `losses`.
    pub(in crate::partition) fn has_lost_below(&self, end: u64, losses: u64) -> bool {
        let lowest = self.losses.lowest_since(losses);
        lowest.is_some_and(|lowest| lowest < end)
    }
}
