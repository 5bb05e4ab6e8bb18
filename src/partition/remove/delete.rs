//! Deleting from the front: the log start moves first, files go after.
//!
//! The base offset of the first segment that is left says where the log starts, so that deleting
//! needs no room on the disk. As long as files stand below it (some could not be removed) or may
//! come back, the checkpoint says it instead.

use crate::partition::state::report::Maintenance;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::config::CleanupPolicy;
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::partition::PartitionCore;

impl PartitionCore {
    pub(crate) fn delete_records_before(&self, offset: u64) -> Result<u64> {
        self.check_writable()?;
        if self.settings().cleanup_policy == CleanupPolicy::Compact {
            return Err(Error::PolicyViolation {
                partition: self.id().clone(),
            });
        }
        self.delete_if(offset, || {
            self.check_writable()?;
            if offset > self.high_watermark() {
                return Err(self.out_of_range(offset));
            }
            Ok(offset > self.log_start_offset() || !self.leaving.is_empty())
        })?;
        Ok(self.log_start_offset())
    }

    /// Raises the log start to `offset`, to which the caller came when the log had been cut
    /// `truncations` times. Deletes the segments that lie below it as a whole. Where even the
    /// active one does, an empty one takes its place first. Returns `None`, and changes nothing, if
    /// the log was cut in the meantime: other records may lie below `offset` by now.
    pub(crate) fn delete_segments_before(
        &self,
        offset: u64,
        truncations: u64,
    ) -> Result<Option<Maintenance>> {
        self.delete_if(offset, || Ok(self.truncations() == truncations))
    }

    /// Deletes what lies below `offset`, if `is_due` says so while nobody else deletes, cuts,
    /// compacts or appends.
    fn delete_if(
        &self,
        offset: u64,
        is_due: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Maintenance>> {
        let _replaces = self.replacing.lock();
        let mut writer = self.writer.lock();
        self.check_readable()?;
        if self.context.read_only {
            return Err(Error::ReadOnly);
        }
        if !is_due()? {
            return Ok(None);
        }
        self.begin_change()?;
        let end = self.log_end_offset();
        if offset >= end && writer.active.size() > 0 {
            self.roll_to_delete(&mut writer, end)?;
        }
        let segments = self.segments().snapshot();
        let kept = segments
            .partition_point(|segment| segment.next_offset() <= offset && segment.is_sealed());
        let (gone, left) = segments.split_at(kept);
        let (gone, left) = (gone.to_vec(), left.to_vec());
        drop(segments);
        // Before the list: a reader that misses a segment there finds the log start raised.
        let former_start = self.bounds.raise_log_start(offset);
        if !gone.is_empty() {
            self.leaving.segments.lock().extend(gone);
            self.segments().replace(left);
        }
        let mut epochs = writer.epochs.clone();
        if epochs.truncate_start(self.log_start_offset())
            && epochs.store(&*self.context.storage, self.dir()).is_ok()
        {
            // Without room for it the old checkpoint stays, which only tells more than is left.
            writer.epochs = epochs;
        }
        self.assert_segments(&writer);
        drop(writer);
        if former_start < self.log_start_offset() {
            // A reader that waits below the new start learns of it now.
            self.waiters.notify();
        }
        self.remove_leaving().map(Some)
    }

    /// Removes the files of all segments that are leaving. What is not removed when it fails is
    /// tried again with the next ones, at the next pass, or after the next open, for which the
    /// checkpoint says where the log starts. `replacing` is held.
    pub(in crate::partition) fn remove_leaving(&self) -> Result<Maintenance> {
        let mut done = Maintenance::default();
        let leaving = self.leaving.segments.lock().clone();
        if leaving.is_empty() {
            return Ok(done);
        }
        let delay_ms = self.settings().file_delete_delay_ms;
        let due = Timestamp::from_millis(
            self.context
                .clock
                .now()
                .as_millis()
                .saturating_add(delay_ms),
        );
        for segment in &leaving {
            // What came before is durable first, the new end as well: of removals that a power cut
            // may keep or lose one by one, a later one alone would leave a hole.
            self.sync_removals()?;
            let path = segment.log_path();
            // Two references are those of the list and of this copy of it; whoever has another may
            // be reading.
            segment
                .prepare_removal()
                .map_err(|error| Error::io("open", path, error))?;
            for suffix in file_name::SEGMENT {
                let path = segment.path(suffix);
                let removed = if delay_ms > 0 {
                    self.rename_to_delete(&path, due).map(|()| 0)
                } else {
                    self.unlink(&path)
                };
                done.bytes_freed += removed.map_err(|error| Error::io("remove", &path, error))?;
            }
            done.segments_deleted += 1;
        }
        // The log start may stand nowhere but in the names that are left: what is deleted must not
        // come back.
        self.sync_removals()?;
        self.leaving.segments.lock().clear();
        self.has_new_digests.store(true, Ordering::Release);
        Ok(done)
    }

    /// Nothing that was acknowledged rests on names that go, so that a failure does not poison. But
    /// nor does a later success say that they are gone: from then on the checkpoint says where the
    /// log starts. Where a new segment's name was to become durable with it, a later success would
    /// say nothing of that either, and it poisons as a failed sync of records does.
    fn sync_removals(&self) -> Result<()> {
        self.context.storage.sync_dir(self.dir()).map_err(|error| {
            self.leaving.may_come_back.store(true, Ordering::Release);
            if self
                .segments()
                .snapshot()
                .iter()
                .any(|segment| segment.is_new.load(Ordering::Acquire))
            {
                return self.sync_failed(self.dir(), error);
            }
            Error::io("sync", self.dir(), error)
        })
    }

    /// The log start, where the name of the first file does not tell it: what
    /// `log-start-offset-checkpoint` has a line for.
    pub(crate) fn log_start_line(&self) -> Option<u64> {
        let (log_start, leaving) = (self.log_start_offset(), &self.leaving);
        let is_untold = log_start > self.first_base_offset();
        (is_untold || leaving.may_come_back.load(Ordering::Acquire) || !leaving.is_empty())
            .then_some(log_start)
    }

    /// The partition was deleted: what it did not get to remove goes with the directory.
    pub(in crate::partition) fn give_up_leaving(&self) {
        for segment in self.leaving.segments.lock().iter() {
            segment.give_up();
        }
    }

    pub(in crate::partition) fn rename_to_delete(
        &self,
        path: &Path,
        due: Timestamp,
    ) -> io::Result<()> {
        let mut renamed = path.as_os_str().to_owned();
        renamed.push(".deleted");
        let renamed = PathBuf::from(renamed);
        match self.context.storage.rename(path, &renamed) {
            Ok(()) => self.trash.0.lock().push((renamed, due)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes a file if it is there, and says how long it was.
    pub(in crate::partition) fn unlink(&self, path: &Path) -> io::Result<u64> {
        let storage = &self.context.storage;
        let bytes = match storage.metadata(path) {
            Ok(metadata) => metadata.bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        storage.remove_file(path)?;
        Ok(bytes)
    }

    /// Unlinks the files whose delay is over, and those that could not be removed before.
    pub(crate) fn unlink_due(&self) -> Result<Maintenance> {
        let mut done = Maintenance::default();
        if self.leaving.is_empty() && self.trash.0.lock().is_empty() {
            return Ok(done);
        }
        let _replaces = self.replacing.lock();
        self.check_readable()?;
        // Goes on with a deletion that failed half-way.
        let retried = self.remove_leaving();
        let now = self.context.clock.now();
        let mut trash = self.trash.0.lock();
        let mut failed = None;
        trash.retain(|(path, due)| {
            if *due > now || failed.is_some() {
                return true;
            }
            match self.unlink(path) {
                Ok(bytes) => done.bytes_freed += bytes,
                Err(error) => failed = Some(Error::io("remove", path, error)),
            }
            failed.is_some()
        });
        done += retried?;
        failed.map_or(Ok(done), Err)
    }
}
