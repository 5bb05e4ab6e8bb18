//! Group commit: of those who wait until what they appended is on the device, one syncs for all of them.
//!
//! Whoever gets the turn finds either that the one before has covered him, or that he leads for everybody behind him; and he
//! leads once. What an append must have done before it waits: published its end. This file knows no files: the leader is told
//! what to do by his caller.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// Syncs are small while they cover less than this on average: then a new length of the file costs more than the bytes.
const SMALL_SYNC_BYTES: u64 = 64 << 10;

/// The synced end of a partition, and the turn to move it.
#[derive(Debug)]
pub(super) struct GroupCommit {
    /// All below is on the device. Serves acks and the high watermark; never stored on the disk.
    synced_end: AtomicU64,
    turn: Mutex<Turn>,
}

/// What the one who leads keeps for the next: how much is synced at a time.
#[derive(Debug, Default)]
pub(super) struct Turn {
    synced_bytes: u64,
    average_bytes: u64,
}

impl GroupCommit {
    pub(super) fn at(synced_end: u64) -> Self {
        Self { synced_end: AtomicU64::new(synced_end), turn: Mutex::default() }
    }

    #[inline]
    pub(super) fn synced_end(&self) -> u64 {
        self.synced_end.load(Ordering::SeqCst)
    }

    /// Waits until all below `end` is on the device. The one who has to lead for that calls `lead`, and gets its answer.
    pub(super) fn wait_for<T, E>(&self, end: u64, lead: impl FnOnce(&mut Turn) -> Result<T, E>) -> Result<Option<T>, E> {
        if self.synced_end() >= end {
            return Ok(None);
        }
        let mut turn = self.turn.lock();
        if self.synced_end() >= end {
            return Ok(None);
        }
        lead(&mut turn).map(Some)
    }

    /// Waits for the turn, whatever is synced by then.
    pub(super) fn take_turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock()
    }

    /// All below `end` is on the device. Whoever says so has the turn.
    pub(super) fn raise(&self, end: u64) {
        self.synced_end.fetch_max(end, Ordering::SeqCst);
    }

    /// The log was cut at `end`. Whoever says so has the turn.
    pub(super) fn lower(&self, end: u64) {
        self.synced_end.fetch_min(end, Ordering::SeqCst);
    }
}

impl Turn {
    /// A sync is done; `appended_bytes` were appended since the partition was opened. Whether to write zeros ahead: syncs are
    /// small, and there were enough of them to tell.
    pub(super) fn note(&mut self, appended_bytes: u64) -> bool {
        let bytes = appended_bytes.saturating_sub(self.synced_bytes);
        self.average_bytes = if self.synced_bytes == 0 { bytes } else { (3 * self.average_bytes + bytes) / 4 };
        self.synced_bytes = appended_bytes;
        appended_bytes >= SMALL_SYNC_BYTES && self.average_bytes < SMALL_SYNC_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn who_is_covered_does_not_lead() {
        let commit = GroupCommit::at(5);
        let leads = Cell::new(0);
        let lead = |_: &mut Turn| -> Result<(), Infallible> {
            leads.set(leads.get() + 1);
            commit.raise(8);
            Ok(())
        };
        for (end, is_leader) in [(5, false), (6, true), (7, false), (8, false), (9, true)] {
            assert_eq!(commit.wait_for(end, lead).unwrap().is_some(), is_leader, "{end}");
        }
        assert_eq!(leads.get(), 2);
        commit.lower(3);
        assert_eq!(commit.synced_end(), 3);
    }

    #[test]
    fn an_error_goes_to_the_leader_and_the_next_one_leads_anew() {
        let commit = GroupCommit::at(0);
        assert_eq!(commit.wait_for(1, |_| Err::<(), _>("no")), Err("no"));
        assert_eq!(commit.wait_for(1, |_| Ok::<_, ()>("led")), Ok(Some("led")));
    }

    #[test]
    fn each_is_covered_when_its_wait_ends() {
        const THREADS: u64 = 8;
        const APPENDS: u64 = 200;
        let commit = Arc::new(GroupCommit::at(0));
        let (published, syncs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..THREADS).map(|_| {
            let (commit, published, syncs) = (Arc::clone(&commit), Arc::clone(&published), Arc::clone(&syncs));
            thread::spawn(move || {
                for _ in 0..APPENDS {
                    let end = published.fetch_add(1, Ordering::SeqCst) + 1;
                    let led = commit.wait_for(end, |_| {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        let covered = published.load(Ordering::SeqCst);
                        thread::yield_now();
                        commit.raise(covered);
                        Ok::<_, Infallible>(())
                    });
                    let Ok(_) = led;
                    assert!(commit.synced_end() >= end);
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(commit.synced_end(), THREADS * APPENDS);
        assert!(syncs.load(Ordering::SeqCst) as u64 <= THREADS * APPENDS);
    }

    #[test]
    fn zeros_pay_for_small_syncs_once_there_were_enough() {
        let mut turn = Turn::default();
        let mut appended = 0;
        let mut note = |bytes| {
            appended += bytes;
            turn.note(appended)
        };
        assert!(!note(60 << 10), "it is too early to tell");
        assert!(note(4 << 10));
        assert!(note(200));
        assert!(!note(1 << 20), "one large sync more than makes up for the small ones");
        let again = (0..20).fold(false, |_, _| note(200));
        assert!(again, "small again");
    }
}
