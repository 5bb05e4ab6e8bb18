//! Deletes records from the front: the log start moves first, then files are removed.
//!
//! The base offset of the first remaining segment shows where the log starts, so deleting needs no
//! room on the disk. As long as files below the log start are there, because they could not be
//! removed, or may come back, the checkpoint states the log start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::config::CleanupPolicy;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::partition::PartitionCore;
use crate::partition::state::report::Maintenance;
use crate::segment::Segment;
use crate::storage::IfExists;

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

    /// Raises the log start to `offset`, and deletes the segments that are entirely below it. If
    /// that includes the active segment, an empty one replaces it first.
    ///
    /// Returns `None`, and changes nothing, if the log was cut after the caller had counted
    /// `truncations` cuts: other records may be below `offset` by now.
    pub(crate) fn delete_segments_before(
        &self,
        offset: u64,
        truncations: u64,
    ) -> Result<Option<Maintenance>> {
        self.delete_if(offset, || Ok(self.truncations() == truncations))
    }

    /// Deletes the records below `offset` if `is_due` returns true. While `is_due` runs, no other
    /// thread deletes, cuts, compacts or appends.
    fn delete_if(
        &self,
        offset: u64,
        is_due: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Maintenance>> {
        let _replaces = self.replacing.lock();
        self.check_readable()?;
        self.context.check_not_read_only()?;
        // Most of it without the writer lock, so that appends do not wait.
        self.sync_leaving(&self.segments().snapshot(), offset)?;
        let mut writer = self.writer.lock();
        self.check_readable()?;
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
        debug_assert!(kept < segments.len(), "the active segment stays");
        let (gone, left) = segments.split_at(kept);
        let (gone, left) = (gone.to_vec(), left.to_vec());
        drop(segments);
        self.sync_leaving(&gone, offset)?;
        // Raise the log start before the list changes: a reader that misses a segment in the list
        // must find the log start raised.
        let former_start = self.bounds.raise_log_start(offset);
        debug_assert!(
            former_start <= self.log_start_offset(),
            "a log start only rises"
        );
        if !gone.is_empty() {
            self.leaving.segments.lock().extend(gone);
            self.segments().replace(left);
        }
        let mut epochs = writer.epochs.clone();
        if epochs.truncate_start(self.log_start_offset())
            && epochs.store(&*self.context.storage, self.dir()).is_ok()
        {
            // If the disk is full, the old checkpoint stays. It only covers more epochs than are
            // left.
            writer.epochs = epochs;
        }
        self.assert_segments(&writer);
        drop(writer);
        if former_start < self.log_start_offset() {
            // Wakes readers that wait below the new start.
            self.waiters.notify();
        }
        self.remove_leaving().map(Some)
    }

    /// Makes the records of the segments durable that are entirely below `offset` and are about to
    /// be deleted. Later syncs pass over these segments, whose files may stay: because they cannot
    /// be removed, or because the power is cut. If they had lost records, recovery would find that
    /// the log ends there.
    fn sync_leaving(&self, segments: &[Arc<Segment>], offset: u64) -> Result<()> {
        let count = segments.partition_point(|segment| segment.next_offset() <= offset);
        let last = segments.get(..count).and_then(<[_]>::last);
        if last.is_some_and(|last| self.commit.synced_end() < last.next_offset()) {
            self.sync_published()?;
        }
        Ok(())
    }

    /// Removes the files of all segments that are leaving. The caller holds `replacing`.
    ///
    /// Files that are not removed because of an error are tried again with the next ones, at the
    /// next pass, or after the next opening. The checkpoint then states where the log starts.
    pub(in crate::partition) fn remove_leaving(&self) -> Result<Maintenance> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        let mut done = Maintenance::default();
        let leaving = self.leaving.segments.lock().clone();
        if leaving.is_empty() {
            return Ok(done);
        }
        for segment in &leaving {
            // Earlier removals are made durable first, and so is the new end. A power cut may keep
            // some removals and lose others, and a later one alone would leave a hole.
            self.sync_removals()?;
            let path = segment.log_path();
            // A reader that is on the segment keeps its `.log` open.
            segment.prepare_removal().at("open", path)?;
            done.bytes_freed += self.remove_files(segment, file_name::SEGMENT)?;
            done.segments_deleted += 1;
        }
        // From here on, possibly only the remaining names show where the log starts. So the
        // removals must be durable.
        self.sync_removals()?;
        self.leaving.segments.lock().clear();
        self.has_new_digests.store(true, Ordering::Release);
        Ok(done)
    }

    /// Syncs the directory after a removal.
    ///
    /// Acknowledged records do not depend on removed names, so a failure does not poison the
    /// partition. A later success does not prove that the names are gone, so from then on the
    /// checkpoint states the log start. If the sync was also to make the name of a new segment
    /// durable, a later success does not prove that either. Such a failure poisons, as a failed
    /// sync of records does.
    fn sync_removals(&self) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
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

    /// Returns the log start if the name of the first file does not show it: the partition then
    /// needs a line in `log-start-offset-checkpoint`.
    pub(crate) fn log_start_line(&self) -> Option<u64> {
        let leaving = &self.leaving;
        let announced = leaving.announced_start.load(Ordering::Acquire);
        let log_start = self.log_start_offset().max(announced);
        let is_above_first_base = log_start > self.first_base_offset();
        (is_above_first_base
            || leaving.may_come_back.load(Ordering::Acquire)
            || !leaving.is_empty())
        .then_some(log_start)
    }

    /// Releases the files that are not removed yet, because the partition was deleted: they are
    /// removed with the directory.
    pub(in crate::partition) fn give_up_leaving(&self) {
        debug_assert!(self.check_readable().is_err(), "the partition was deleted");
        for segment in self.leaving.segments.lock().iter() {
            segment.give_up();
        }
    }

    /// Removes files of a segment, or renames them if the topic delays their removal. Returns how
    /// many bytes are free now.
    pub(in crate::partition) fn remove_files(
        &self,
        segment: &Segment,
        suffixes: impl IntoIterator<Item = &'static str>,
    ) -> Result<u64> {
        let delay_ms = self.settings().file_delete_delay_ms;
        let now = self.context.clock.now().as_millis();
        let due = Timestamp::from_millis(now.saturating_add(delay_ms));
        let mut freed = 0;
        for suffix in suffixes {
            let path = segment.path(suffix);
            let removed = if delay_ms > 0 {
                self.rename_to_delete(&path, due).map(|()| 0)
            } else {
                self.unlink(&path)
            };
            freed += removed.at("remove", &path)?;
        }
        Ok(freed)
    }

    fn rename_to_delete(&self, path: &Path, due: Timestamp) -> io::Result<()> {
        debug_assert!(path.starts_with(self.dir()), "a file of this partition");
        let mut renamed = path.as_os_str().to_owned();
        renamed.push(file_name::DELETED);
        let renamed = PathBuf::from(renamed);
        let found = self.context.storage.rename(path, &renamed).if_exists()?;
        if found.is_some() {
            self.trash.0.lock().push((renamed, due));
        }
        Ok(())
    }

    /// Removes a file if it exists, and returns its length.
    fn unlink(&self, path: &Path) -> io::Result<u64> {
        debug_assert!(path.starts_with(self.dir()), "a file of this partition");
        let storage = &self.context.storage;
        let Some(found) = storage.metadata(path).if_exists()? else {
            return Ok(0);
        };
        storage.remove_file(path)?;
        Ok(found.bytes)
    }

    /// Unlinks the files whose delay is over, and those that could not be removed before.
    pub(crate) fn unlink_due(&self) -> Result<Maintenance> {
        let mut done = Maintenance::default();
        if self.leaving.is_empty() && self.trash.0.lock().is_empty() {
            return Ok(done);
        }
        let _replaces = self.replacing.lock();
        self.check_readable()?;
        // Continues a deletion that failed half-way.
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
