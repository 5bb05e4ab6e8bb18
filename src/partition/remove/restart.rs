//! Empties a partition, and lets it continue at any offset.
//!
//! A broker must be able to read the directory at every step. So each state in between is one that
//! deletions leave too, and two atomic changes connect them:
//!
//! | change | state after a crash that follows it |
//! | --- | --- |
//! | the log end is stored as the log start, in the topic file and the checkpoint | empty, continues at the former end |
//! | all files but those of an empty segment at the log end are removed | the same |
//! | no log start is stored | the same: the name of the segment shows it |
//! | the empty segment gets the name of the new offset | empty, continues there |
//!
//! Before the first change the recovery point is lowered to the new offset, so it is right in all
//! of these states. Appends wait from the first change to the last, so no new record ever follows
//! old ones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::partition::keeper::Restart;
use crate::partition::state::leader_epoch::LeaderEpochs;
use crate::partition::state::producers::ProducerStates;
use crate::partition::{PartitionCore, Writer};
use crate::segment::Segment;
use crate::segment::index_file::MemoryIndex;
use crate::storage::remove_if_exists;
use crate::sync::MutexGuard;

impl Restart<'_> {
    /// Returns the offset at which the partition will continue.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Empties the partition and moves it to its new offset. `store` stores the log start of the
    /// partition durably.
    ///
    /// If `store` fails at first, no record is removed. After any other error the partition is
    /// empty, and it continues at its former end unless the error is that of the last sync.
    pub(crate) fn make(self, store: impl Fn() -> Result<()>) -> Result<()> {
        self.core.check_restartable()?;
        self.empty(store)?;
        self.core.move_to(self.start)
    }

    fn empty(&self, store: impl Fn() -> Result<()>) -> Result<()> {
        let core = self.core;
        let announced = &core.leaving.announced_start;
        announced.store(self.end, Ordering::Release);
        if let Err(error) = store() {
            announced.store(0, Ordering::Release);
            // A part of it may have been stored. Later records would then hide the earlier ones
            // after a crash, so we store the log start of now.
            let _first_error_is_returned = store();
            return Err(error);
        }
        let emptied = core.remove_all(self.end);
        // From here on the log start states the same.
        announced.store(0, Ordering::Release);
        emptied?;
        debug_assert!(
            core.log_start_line().is_none(),
            "the name of the only segment shows the log start"
        );
        store()
    }
}

impl Drop for Restart<'_> {
    fn drop(&mut self) {
        self.core.reopening.end();
    }
}

impl PartitionCore {
    /// Prepares a restart at `start`. Until it is done or dropped, appends wait.
    pub(crate) fn restart(&self, start: u64) -> Result<Restart<'_>> {
        let appends_wait = self.reopening.take_turn();
        let no_flush = self.flush.lock();
        let replaces = self.replacing.lock();
        let writer = self.writer.lock();
        self.check_truncatable()?;
        if start > i64::MAX.unsigned_abs() {
            return Err(self.out_of_range(start));
        }
        if self.leaving.may_come_back.load(Ordering::Acquire) {
            // Files of old records above `start` could come back.
            let reason =
                "an earlier removal of files may not be durable: close it, and open it again";
            return Err(Error::io("restart", self.dir(), io::Error::other(reason)));
        }
        self.begin_change()?;
        let end = self.log_end_offset();
        // The batches of a damaged segment may all be unreadable. It has no room for another one of
        // its name.
        let end = if is_empty_at(&writer.active, end) {
            end
        } else {
            end.max(writer.active.base_offset + 1)
        };
        self.reopening.begin();
        self.bounds.lower_recovery_point(start);
        self.lower_cleaned_end(start);
        drop(writer);
        Ok(Restart {
            core: self,
            end,
            start,
            _appends_wait: appends_wait,
            _no_flush: no_flush,
            _replaces: replaces,
        })
    }

    /// Returns an error if the partition was poisoned or deleted since [`restart`](Self::restart).
    /// A close waits for the locks that the restart holds, so it does not stop the restart
    /// half-way.
    fn check_restartable(&self) -> Result<()> {
        match self.check_readable() {
            Err(Error::Closed) | Ok(()) => self.health.check_not_poisoned(),
            deleted => deleted,
        }
    }

    /// Removes all records, producers and leader epochs. Leaves an empty segment at the log end.
    fn remove_all(&self, end: u64) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_restartable()?;
        debug_assert!(self.reopening.is_under_way(), "appends wait");
        let turn = self.commit.take_turn();
        let is_empty = is_empty_at(&writer.active, end);
        let active = if is_empty {
            Arc::clone(&writer.active)
        } else {
            let created = Segment::create(&self.home, end);
            Arc::new(created.at("create a segment in", self.dir())?)
        };
        self.bounds.set_log_end(end);
        // As in a deletion: a reader that misses a segment in the list finds the log start raised.
        let _former_start = self.bounds.raise_log_start(end);
        self.commit.raise(end);
        let segments = self.segments().snapshot();
        let gone = segments.iter().filter(|old| !Arc::ptr_eq(old, &active));
        self.leaving.segments.lock().extend(gone.map(Arc::clone));
        if !is_empty {
            writer.active.end_zeros_ahead();
            writer.active.seal_in_memory();
            self.segments().replace(vec![Arc::clone(&active)]);
            self.start_active(&mut writer, active);
        } else if segments.len() > 1 {
            self.segments().replace(vec![active]);
        }
        self.bounds.set_first_unstable(None);
        writer.producers = ProducerStates::default();
        self.assert_segments(&writer);
        drop(turn);
        drop(writer);
        self.waiters.notify();
        let _freed = self.remove_leaving()?;
        self.remove_snapshots(|_| true)?;
        let mut writer = self.writer.lock();
        self.check_restartable()?;
        writer.had_producers = false;
        let none = LeaderEpochs::default();
        none.store(&*self.context.storage, self.dir())
            .at("write the leader epochs of", self.dir())?;
        writer.epochs = none;
        self.has_new_digests.store(true, Ordering::Release);
        Ok(())
    }

    /// Moves an empty partition to `start`, and makes that durable.
    fn move_to(&self, start: u64) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_restartable()?;
        let _no_sync = self.commit.take_turn();
        let end = self.log_end_offset();
        debug_assert_eq!(self.log_start_offset(), end, "the partition is empty");
        if start != end {
            self.rename_active(&mut writer, start)?;
        }
        self.commit.lower(start);
        // Readers must not find the log start above the log end for longer than this.
        self.bounds.set_log_end(start);
        self.bounds.set_log_start(start);
        self.segments().replace(vec![Arc::clone(&writer.active)]);
        self.cuts.add(start);
        self.commit.raise(start);
        self.assert_segments(&writer);
        self.waiters.notify();
        // Records may follow only once the name is durable.
        if let Err(error) = self.context.storage.sync_dir(self.dir()) {
            return Err(self.sync_failed(self.dir(), error));
        }
        self.bounds.raise_recovery_point(start);
        self.health.set_damage(None);
        Ok(())
    }

    /// Gives the empty active segment the name of the base offset `start`. After an error it has
    /// its old name.
    fn rename_active(&self, writer: &mut MutexGuard<'_, Writer>, start: u64) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        debug_assert_eq!(writer.active.size(), 0, "only an empty segment is renamed");
        let storage = &*self.context.storage;
        let old = Arc::clone(&writer.active);
        let path = old.log_path();
        old.cut_zeros_ahead().at("cut the zeros after", path)?;
        // A reader that looks at the segment until the list changes must find it empty, not gone.
        old.keep_open().at("open", path)?;
        let reopened = |base| {
            Arc::new(Segment::open_scanned(
                &self.home,
                base,
                0,
                base,
                MemoryIndex::default(),
            ))
        };
        let new = reopened(start);
        let indexes = file_name::INDEXES.map(|suffix| old.path(suffix));
        let renamed = indexes
            .iter()
            .try_for_each(|index| remove_if_exists(storage, index).map(drop))
            .and_then(|()| storage.rename(path, new.log_path()));
        if let Err(error) = renamed {
            let same = reopened(old.base_offset);
            self.segments().replace(vec![Arc::clone(&same)]);
            self.cuts.add(old.base_offset);
            self.start_active(writer, same);
            return Err(Error::io("rename", path, error));
        }
        self.start_active(writer, new);
        Ok(())
    }
}

/// Returns whether the segment is empty, takes batches, and begins at `offset`.
fn is_empty_at(active: &Segment, offset: u64) -> bool {
    active.base_offset == offset && active.size() == 0 && !active.is_sealed()
}
