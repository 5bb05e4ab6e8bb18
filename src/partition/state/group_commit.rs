//! Group commit: of those who wait until what they appended is on the device, one syncs for all of
//! them.
//!
//! Whoever comes while nobody leads leads, for all that is published by then, and leads once. Who
//! comes meanwhile waits; when the leader is done, those he covered go, and one of the others leads
//! next. Nobody who is covered waits for the next sync. What an append must have done before it
//! waits: published its end. This file knows no files: the leader is told what to do by his caller.

use std::mem;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// Syncs are small while they cover less than this on average: then a new length of the file costs
/// more than the bytes.
const SMALL_SYNC_BYTES: u64 = 64 << 10;

/// The synced end of a partition, and the turn to move it.
#[derive(Debug)]
pub(in crate::partition) struct GroupCommit {
    /// All below is on the device. Serves acks and the high watermark; never stored on the disk.
    synced_end: AtomicU64,
    /// `None` while somebody has the turn.
    free: Mutex<Option<Sizes>>,
    given_back: Condvar,
}

/// How much is synced at a time, as the one who leads keeps it for the next.
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

    /// Waits until all below `end` is on the device, or until it is on the caller to see to that:
    /// then he gets the turn.
    pub(in crate::partition) fn wait_for(&self, end: u64) -> Option<Turn<'_>> {
        self.take_turn_unless(|| self.synced_end() >= end)
    }

    /// Waits for the turn, whatever is synced by then.
    pub(in crate::partition) fn take_turn(&self) -> Turn<'_> {
        match self.take_turn_unless(|| false) {
            Some(turn) => turn,
            None => unreachable!("nothing but the turn ends the wait"),
        }
    }

    fn take_turn_unless(&self, is_covered: impl Fn() -> bool) -> Option<Turn<'_>> {
        if is_covered() {
            return None;
        }
        let mut free = self.free.lock();
        loop {
            // The end is raised before the turn is given back.
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
                None => self.given_back.wait(&mut free),
            }
        }
    }

    /// All below `end` is on the device. Whoever says so has the turn.
    pub(in crate::partition) fn raise(&self, end: u64) {
        self.synced_end.fetch_max(end, Ordering::SeqCst);
    }

    /// The log was cut at `end`. Whoever says so has the turn.
    pub(in crate::partition) fn lower(&self, end: u64) {
        self.synced_end.fetch_min(end, Ordering::SeqCst);
    }
}

impl Turn<'_> {
    /// A sync is done; `appended_bytes` were appended since the partition was opened. Whether to
    /// write zeros ahead: syncs are small, and there were enough of them to tell.
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
    fn who_is_covered_does_not_lead() {
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
    fn after_one_who_failed_the_next_one_leads() {
        let commit = GroupCommit::at(0);
        drop(commit.wait_for(1).unwrap());
        assert!(commit.wait_for(1).is_some());
    }

    #[test]
    fn each_is_covered_when_its_wait_ends_and_none_sleeps_on() {
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
    fn zeros_pay_for_small_syncs_once_there_were_enough() {
        let commit = GroupCommit::at(0);
        let mut appended = 0;
        let mut note = |bytes| {
            appended += bytes;
            commit.take_turn().note(appended)
        };
        assert!(!note(60 << 10), "it is too early to tell");
        assert!(note(4 << 10));
        assert!(note(200));
        assert!(
            !note(1 << 20),
            "one large sync more than makes up for the small ones"
        );
        assert!(
            (0..5).all(|_| !note(200)),
            "more than a few small ones do for it"
        );
        let again = (0..20).fold(false, |_, _| note(200));
        assert!(again, "small again");
    }

    #[test]
    fn syncs_are_small_below_a_size_and_not_at_it() {
        for (bytes, is_small) in [(SMALL_SYNC_BYTES, false), (SMALL_SYNC_BYTES - 1, true)] {
            let commit = GroupCommit::at(0);
            let noted: Vec<_> = (1..4)
                .map(|number| commit.take_turn().note(number * bytes))
                .collect();
            assert_eq!(noted, [false, is_small, is_small], "{bytes}");
        }
    }
}
