//! Making things durable: the synced end, which acks wait for, and the recovery point, which a later open starts from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionCore, Refusal, segment_list};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::encode_index_digests;
use crate::storage::replace_file;

impl PartitionCore {
    /// Waits until all below `end` is on the device. One of those who wait syncs for all of them: whoever gets the lock finds
    /// either that the one before has covered him, or that he leads for everybody behind him.
    pub(super) fn sync_to(&self, end: u64) -> Result<()> {
        if self.synced_end.load(Ordering::SeqCst) >= end {
            return Ok(());
        }
        let _leads = self.sync.lock();
        if self.synced_end.load(Ordering::SeqCst) >= end {
            return Ok(());
        }
        self.sync_all()
    }

    /// Syncs all that is published now.
    pub(super) fn sync_published(&self) -> Result<()> {
        let _leads = self.sync.lock();
        self.sync_all()
    }

    /// The sync lock is held. A failed sync poisons the partition: what it should have made durable may be lost although
    /// later syncs succeed.
    fn sync_all(&self) -> Result<()> {
        self.check_not_poisoned()?;
        let from = self.synced_end.load(Ordering::SeqCst);
        let end = self.log_end_offset();
        let segments = self.segments().snapshot();
        // What lies below is synced: an append does not pay for the number of segments.
        let unsynced = segments.get(segment_list::floor(&segments, from)..).unwrap_or_default();
        let failed = |path: &Path, error| {
            let source = self.poison(error);
            Error::SyncFailed { path: path.to_owned(), source }
        };
        let mut has_new = false;
        for segment in unsynced.iter().filter(|segment| segment.next_offset() > from) {
            segment.sync().map_err(|error| failed(segment.log_path(), error))?;
            has_new |= segment.is_new.load(Ordering::Acquire);
        }
        if has_new {
            self.context.storage.sync_dir(self.dir()).map_err(|error| failed(self.dir(), error))?;
            for segment in unsynced {
                segment.is_new.store(false, Ordering::Release);
            }
        }
        self.synced_end.fetch_max(end, Ordering::SeqCst);
        if self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        Ok(())
    }

    pub(super) fn check_not_poisoned(&self) -> Result<()> {
        match &*self.refusal.lock() {
            Some(Refusal::Poisoned(cause)) => Err(Error::Poisoned { partition: self.id().clone(), cause: Arc::clone(cause) }),
            _ => Ok(()),
        }
    }

    /// Whether there is anything above the recovery point.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_touched.load(Ordering::Acquire)
            && (self.recovery_point() < self.log_end_offset() || self.has_new_digests.load(Ordering::Acquire))
    }

    /// Makes all appended so far durable, with indexes and snapshots, and raises the recovery point.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_readable()?;
        self.flush_up_to_now(false)
    }

    pub(super) fn flush_at_close(&self) -> Result<()> {
        self.flush_up_to_now(true)
    }

    fn flush_up_to_now(&self, is_last: bool) -> Result<()> {
        if self.context.read_only || !is_last && !self.is_dirty() {
            return Ok(());
        }
        let _one_at_a_time = self.flush.lock();
        self.check_not_poisoned()?;
        let (end, active) = {
            let writer = self.writer.lock();
            let end = self.log_end_offset();
            if is_last {
                self.take_snapshot(&writer, end).map_err(self.io("write a producer snapshot in"))?;
                // Those stay that a segment begins at, and the one of the log end.
                let segments = self.segments().snapshot();
                self.remove_snapshots(|at| at != end && !segments.iter().any(|segment| segment.base_offset == at))?;
            }
            (end, Arc::clone(&writer.active))
        };
        self.sync_published()?;
        let from = self.recovery_point();
        for segment in self.segments().snapshot().iter().filter(|segment| segment.next_offset() >= from) {
            let path = segment.log_path();
            if segment.is_sealed() {
                let written = segment.write_indexes(true, false);
                written.map_err(|error| Error::io("write the index of", path, error))?;
                segment.sync_indexes().map_err(|error| Error::io("sync the index of", path, error))?;
            }
        }
        let path = active.log_path();
        active.write_indexes(is_last, true).map_err(|error| Error::io("write the index of", path, error))?;
        self.write_digests()?;
        self.context.storage.sync_dir(self.dir()).map_err(self.io("sync"))?;
        self.recovery_point.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Writes `index-digests` anew where a segment was sealed or went.
    fn write_digests(&self) -> Result<()> {
        if !self.has_new_digests.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let digests: Vec<_> = self.segments().snapshot().iter().flat_map(|segment| segment.index_digests()).collect();
        let path = self.dir().join(file_name::INDEX_DIGESTS);
        replace_file(&*self.context.storage, &path, encode_index_digests(&digests).as_bytes()).map_err(|error| {
            self.has_new_digests.store(true, Ordering::Release);
            Error::io("write", &path, error)
        })
    }
}
