//! Makes records durable, up to two offsets: the synced end, for which acknowledgements wait, and
//! the recovery point, from which the next opening checks the log.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::Appended;
use crate::error::{At, Error, Result};
use crate::format::metadata_file::encode_index_digests;
use crate::format::{file_name, producer_snapshot};
use crate::partition::PartitionCore;
use crate::partition::state::group_commit::Turn;
use crate::partition::state::segment_list;
use crate::storage::replace_file;

impl PartitionCore {
    /// Waits until all records below `end` are on the device. Threads that wait at the same time
    /// share one sync, which one of them does. After an error it is unknown whether the records are
    /// durable.
    pub(in crate::partition) fn sync_to(&self, end: u64) -> Result<()> {
        let Some(mut turn) = self.commit.wait_for(end) else {
            if self.is_synced_topic.load(Ordering::Relaxed) {
                // The thread that led the sync may not have done so yet. A poll after this call
                // must see the records.
                self.waiters.notify();
            }
            return Ok(());
        };
        let wants_zeros = self.sync_all(&mut turn).map_err(|error| match error {
            // Another thread led the sync for this append too, and failed.
            Error::Poisoned { cause, .. } => Error::SyncFailed {
                path: self.dir().to_owned(),
                source: cause,
            },
            other => other,
        })?;
        // The waiting threads return first.
        drop(turn);
        if wants_zeros {
            self.write_zeros_ahead();
        }
        Ok(())
    }

    /// Returns whether [`sync_appended`](Self::sync_appended) would return immediately, with or
    /// without an error.
    pub(crate) fn is_sync_settled(&self, appended: &Appended) -> bool {
        self.commit.synced_end() >= appended.offsets.end
            || self.health.check_not_poisoned().is_err()
    }

    /// Syncs all records that are published now.
    pub(in crate::partition) fn sync_published(&self) -> Result<()> {
        self.sync_all(&mut self.commit.take_turn()).map(drop)
    }

    /// Syncs all published records, and returns whether to write zeros ahead. The caller has the
    /// turn.
    ///
    /// A failed sync poisons the partition: the records that it covered may be lost even if a later
    /// sync succeeds.
    fn sync_all(&self, turn: &mut Turn<'_>) -> Result<bool> {
        self.health.check_exists()?;
        self.health.check_not_poisoned()?;
        let from = self.commit.synced_end();
        let appended_bytes = self.appended_bytes.load(Ordering::Relaxed);
        let end = self.log_end_offset();
        let segments = self.segments().snapshot();
        // Earlier segments are synced. Skipping them keeps the cost of an append independent of the
        // number of segments.
        let unsynced = segments
            .get(segment_list::floor(&segments, from)..)
            .unwrap_or_default();
        let failed = |path, error| self.sync_failed(path, error);
        let mut has_new = false;
        for segment in unsynced
            .iter()
            .filter(|segment| segment.next_offset() > from)
        {
            segment
                .sync()
                .map_err(|error| failed(segment.log_path(), error))?;
            has_new |= segment.is_new.load(Ordering::Acquire);
        }
        if has_new {
            self.context
                .storage
                .sync_dir(self.dir())
                .map_err(|error| failed(self.dir(), error))?;
            for segment in unsynced {
                segment.is_new.store(false, Ordering::Release);
            }
        }
        debug_assert!(
            end <= self.log_end_offset(),
            "a cut needs the turn, so the log end has not fallen"
        );
        self.commit.raise(end);
        if self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        Ok(turn.note(appended_bytes))
    }

    /// Writes zeros after the last batch, so that the next syncs need not wait for a new length of
    /// the file.
    fn write_zeros_ahead(&self) {
        let settings = self.settings();
        if let Some(active) = self
            .segments()
            .snapshot()
            .last()
            .filter(|_| settings.preallocate)
        {
            active.write_zeros_ahead(settings.segment_bytes);
        }
    }

    /// Poisons the partition after a failed sync, and returns the error.
    pub(in crate::partition) fn sync_failed(&self, path: &Path, error: io::Error) -> Error {
        Error::SyncFailed {
            path: path.to_owned(),
            source: self.health.poison(error),
        }
    }

    /// Returns whether a flush has anything to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_touched.load(Ordering::Acquire)
            && (self.recovery_point() < self.log_end_offset()
                || self.has_new_digests.load(Ordering::Acquire))
    }

    /// Makes all records that were appended so far durable, with indexes and snapshots, and raises
    /// the recovery point.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_readable()?;
        self.flush_up_to_now(false)
    }

    pub(in crate::partition) fn flush_at_close(&self) -> Result<()> {
        self.flush_up_to_now(true)
    }

    fn flush_up_to_now(&self, is_last: bool) -> Result<()> {
        if self.context.read_only || !is_last && !self.is_dirty() {
            return Ok(());
        }
        let _one_at_a_time = self.flush.lock();
        if !is_last {
            self.check_readable()?;
        }
        self.health.check_not_poisoned()?;
        let (end, active, snapshot) = {
            let writer = self.writer.lock();
            let end = self.log_end_offset();
            if is_last {
                writer
                    .active
                    .cut_zeros_ahead()
                    .at("cut the zeros after a segment of", self.dir())?;
                self.take_snapshot(&writer, end)
                    .at("write a producer snapshot in", self.dir())?;
                // The snapshots at the log end and at the base of each segment stay.
                let segments = self.segments().snapshot();
                self.remove_snapshots(|at| {
                    at != end && !segments.iter().any(|segment| segment.base_offset == at)
                })?;
            }
            let has_producers = !is_last && !writer.producers.is_empty();
            let snapshot =
                has_producers.then(|| producer_snapshot::encode(&writer.producers.entries()));
            (end, Arc::clone(&writer.active), snapshot)
        };
        self.sync_published()?;
        if let Some(snapshot) = snapshot {
            self.store_snapshot(end, &snapshot)
                .at("write a producer snapshot in", self.dir())?;
            // Earlier snapshots are only needed at the base of a segment.
            let segments = self.segments().snapshot();
            self.remove_snapshots(|at| {
                at < end && !segments.iter().any(|segment| segment.base_offset == at)
            })?;
        }
        self.sync_indexes_from(self.recovery_point())?;
        let path = active.log_path();
        active
            .write_indexes(is_last, true)
            .at("write the index of", path)?;
        self.write_digests()?;
        self.context
            .storage
            .sync_dir(self.dir())
            .map_err(|error| self.sync_failed(self.dir(), error))?;
        debug_assert!(
            end <= self.log_end_offset(),
            "a cut needs the flush lock, so the log end has not fallen"
        );
        self.bounds.raise_recovery_point(end);
        Ok(())
    }

    /// Syncs the indexes of the sealed segments that end at or above `from`, and the end of those
    /// that lost their padding.
    pub(in crate::partition) fn sync_indexes_from(&self, from: u64) -> Result<()> {
        for segment in self
            .segments()
            .snapshot()
            .iter()
            .filter(|segment| segment.next_offset() >= from)
        {
            let path = segment.log_path();
            segment
                .sync_cut_zeros()
                .map_err(|error| self.sync_failed(path, error))?;
            if segment.is_sealed() {
                let written = segment.write_indexes(true, false);
                written.at("write the index of", path)?;
                segment.sync_indexes().at("sync the index of", path)?;
            }
        }
        Ok(())
    }

    /// Writes `index-digests` again if a segment was sealed or removed since the last time.
    fn write_digests(&self) -> Result<()> {
        if !self.has_new_digests.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let digests: Vec<_> = self
            .segments()
            .snapshot()
            .iter()
            .filter_map(|segment| segment.digests())
            .collect();
        let path = self.dir().join(file_name::INDEX_DIGESTS);
        replace_file(
            &*self.context.storage,
            &path,
            encode_index_digests(&digests).as_bytes(),
        )
        .map_err(|error| {
            self.has_new_digests.store(true, Ordering::Release);
            Error::io("write", &path, error)
        })
    }
}
