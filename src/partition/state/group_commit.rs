//! Group commit: threads that wait until their appends are on the device share one sync.
//!
//! 1. An append publishes its end before it waits.
//! 2. The first thread to arrive while no thread leads takes the turn and leads. It syncs
//!    everything published by then, raises the synced end, and hands the turn back.
//! 3. Threads that arrive during the sync wait. When the turn is given back, those that are covered
//!    return, and one of the others leads the next sync. A covered thread never waits for that one.
//!
//! This file does not touch files: the caller that leads does the sync.

use std::mem;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// Syncs count as small while they cover less than this on average. Then changing the length of the
/// file costs more than writing the bytes.
const SMALL_SYNC_BYTES: u64 = 64 << 10;

/// The synced end of a partition, and the turn to move it.
#[derive(Debug)]
pub(in crate::partition) struct GroupCommit {
    /// Everything below this offset is on the device. Serves acks and the high watermark; never
    /// stored on the disk.
    synced_end: AtomicU64,
    /// `None` while a thread has the turn.
    free: Mutex<Option<Sizes>>,
    given_back: Condvar,
}

/// The size of recent syncs, passed from each leader to the next.
#[derive(Debug, Default)]
pub(in crate::partition) struct Sizes {
    synced_bytes: u64,
    average_bytes: u64,
}

/// The turn to sync; given back on drop.
#[derive(Debug)]
pub(in crate::partition) struct Turn<'a> {
    commit: &'a GroupCommit,
    sizes: Sizes,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.commit.free.lock() = Some(mem::take(&mut self.sizes));
        self.commit.given_back.notify_all();
    }
}

impl GroupCommit {
    pub(in crate::partition) fn at(synced_end: u64) -> Self {
        Self {
            synced_end: AtomicU64::new(synced_end),
            free: Mutex::new(Some(Sizes::default())),
            given_back: Condvar::new(),
        }
    }

    #[inline]
    pub(in crate::partition) fn synced_end(&self) -> u64 {
        self.synced_end.load(Ordering::SeqCst)
    }

    /// Waits until everything below `end` is on the device, and returns `None`; or returns the
    /// turn, and then the caller has to sync.
    pub(in crate::partition) fn wait_for(&self, end: u64) -> Option<Turn<'_>> {
        self.take_turn_unless(|| self.synced_end() >= end)
    }

    /// Waits for the turn, even if everything is synced by then.
    pub(in crate::partition) fn take_turn(&self) -> Turn<'_> {
        match self.take_turn_unless(|| false) {
            Some(turn) => turn,
            None => unreachable!("only the turn ends this wait"),
        }
    }

    fn take_turn_unless(&self, is_covered: impl Fn() -> bool) -> Option<Turn<'_>> {
        if is_covered() {
            return None;
        }
        let mut free = self.free.lock();
        loop {
            // The leader raises the end before it hands the turn back.
            if is_covered() {
                return None;
            }
            match free.take() {
                Some(sizes) => {
                    return Some(Turn {
                        commit: self,
                        sizes,
                    });
                }
                None => free = self.given_back.wait(free),
            }
        }
    }

    /// Raises the synced end: everything below `end` is on the device. The caller has the turn.
    pub(in crate::partition) fn raise(&self, end: u64) {
        self.synced_end.fetch_max(end, Ordering::SeqCst);
    }

    /// Lowers the synced end after the log was cut at `end`. The caller has the turn.
    pub(in crate::partition) fn lower(&self, end: u64) {
        self.synced_end.fetch_min(end, Ordering::SeqCst);
    }
}

impl Turn<'_> {
    /// Notes a sync; `appended_bytes` were appended since the partition was opened. Returns whether
    /// to write zeros ahead: syncs are small, and enough bytes were appended to judge that.
    pub(in crate::partition) fn note(&mut self, appended_bytes: u64) -> bool {
        let sizes = &mut self.sizes;
        let bytes = appended_bytes.saturating_sub(sizes.synced_bytes);
        sizes.average_bytes = if sizes.synced_bytes == 0 {
            bytes
        } else {
            (3 * sizes.average_bytes + bytes) / 4
        };
        sizes.synced_bytes = appended_bytes;
        appended_bytes >= SMALL_SYNC_BYTES && sizes.average_bytes < SMALL_SYNC_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    #[test]
    fn a_covered_thread_does_not_lead() {
        let commit = GroupCommit::at(5);
        for (end, is_leader) in [(5, false), (6, true), (7, false), (8, false), (9, true)] {
            let turn = commit.wait_for(end);
            assert_eq!(turn.is_some(), is_leader, "{end}");
            if turn.is_some() {
                commit.raise(end + 2);
            }
        }
        commit.lower(3);
        assert_eq!(commit.synced_end(), 3);
        drop(commit.take_turn());
    }

    #[test]
    fn the_next_thread_leads_after_a_leader_that_failed() {
        let commit = GroupCommit::at(0);
        drop(commit.wait_for(1).unwrap());
        assert!(commit.wait_for(1).is_some());
    }

    #[test]
    fn every_thread_is_covered_when_its_wait_ends_and_none_sleeps_on() {
        const THREADS: u64 = 8;
        const APPENDS: u64 = 500;
        let (commit, published) = (Arc::new(GroupCommit::at(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..THREADS).map(|_| {
            let (commit, published) = (Arc::clone(&commit), Arc::clone(&published));
            thread::spawn(move || {
                for _ in 0..APPENDS {
                    let end = published.fetch_add(1, Ordering::SeqCst) + 1;
                    if let Some(turn) = commit.wait_for(end) {
                        let covered = published.load(Ordering::SeqCst);
                        thread::yield_now();
                        commit.raise(covered);
                        drop(turn);
                    }
                    assert!(commit.synced_end() >= end);
                }
            })
        });
        threads
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(commit.synced_end(), THREADS * APPENDS);
    }

    #[test]
    fn zeros_are_written_ahead_once_enough_syncs_were_small() {
        let commit = GroupCommit::at(0);
        let mut appended = 0;
        let mut note = |bytes| {
            appended += bytes;
            commit.take_turn().note(appended)
        };
        assert!(!note(60 << 10), "too little was appended to judge");
        assert!(note(4 << 10));
        assert!(note(200));
        assert!(!note(1 << 20), "one large sync outweighs the small ones");
        assert!(
            (0..5).all(|_| !note(200)),
            "a few small syncs do not outweigh the large one"
        );
        let again = (0..20).fold(false, |_, _| note(200));
        assert!(again, "many small syncs outweigh the large one");
    }

    #[test]
    fn a_sync_of_the_limit_is_not_small_and_one_byte_less_is() {
        for (bytes, is_small) in [(SMALL_SYNC_BYTES, false), (SMALL_SYNC_BYTES - 1, true)] {
            let commit = GroupCommit::at(0);
            let noted: Vec<_> = (1..4)
                .map(|number| commit.take_turn().note(number * bytes))
                .collect();
            assert_eq!(noted, [false, is_small, is_small], "{bytes}");
        }
    }
}
