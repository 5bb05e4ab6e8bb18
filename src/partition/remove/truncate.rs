//! Cutting the end.
//!
//! A file that readers may have mapped is never shrunk: the part that stays is copied to a new
//! file, which is renamed into place. The recovery point is lowered first, so that it never claims
//! what is gone. Then files go from the last one on: whatever a crash leaves is a longer log, never
//! one with a hole. Where there may be gaps, what is left may end in front of `end`, and only the
//! name of an empty segment behind it says how far the log goes.

use crate::partition::keeper::Truncation;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::error::{Error, Result};
use crate::format::batch::{self, BatchHeader, Packing};
use crate::format::{Malformed, file_name};
use crate::partition::{PartitionCore, Writer};
use crate::segment::batch_file::{BatchFile, ReadError};
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::indexed;
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::{Access, FilePart, remove_if_exists};

/// What stays of the segment that is cut.
struct Kept {
    bytes: u32,
    next_offset: u64,
    index: MemoryIndex,
    /// The batch that `end` lies in, made anew with the records below it.
    rest: Option<Vec<u8>>,
}

impl Truncation<'_> {
    /// Returns the offset at which the log will end.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The highest recovery point that the log bears at every step of the cut. What is stored is
    /// lowered to it first.
    pub(crate) fn recovery_point(&self) -> u64 {
        let (core, end) = (self.core, self.end);
        if core.is_dense() {
            return end;
        }
        // The segment that is cut may end anywhere from here on: what was in the gap went with a
        // compaction.
        let segments = core.segments().snapshot();
        segments
            .get(last_below(&segments, end))
            .map_or(end, |cut| end.min(cut.base_offset))
    }

    /// Whether there is anything to cut. `OffsetOutOfRange` below the log start; otherwise why no
    /// cut can be made.
    pub(crate) fn is_due(&self) -> Result<bool> {
        self.core.check_truncatable()?;
        if self.end < self.core.log_start_offset() {
            return Err(self.core.out_of_range(self.end));
        }
        Ok(self.end < self.core.log_end_offset())
    }

    pub(crate) fn make(self) -> Result<()> {
        self.core.truncate(self.end, self.recovery_point())
    }
}

/// The place of the segment that `end` cuts.
fn last_below(segments: &[Arc<Segment>], end: u64) -> usize {
    segments
        .partition_point(|segment| segment.base_offset < end)
        .saturating_sub(1)
}

impl PartitionCore {
    pub(crate) fn truncation(&self, end: u64) -> Truncation<'_> {
        Truncation {
            core: self,
            end,
            _no_flush: self.flush.lock(),
            _replaces: self.replacing.lock(),
        }
    }

    fn truncate(&self, end: u64, recovery_point: u64) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_truncatable()?;
        if end >= self.log_end_offset() {
            return Ok(());
        }
        if end < self.log_start_offset() {
            return Err(self.out_of_range(end));
        }
        self.begin_change()?;
        let _no_sync = self.commit.take_turn();
        let segments = self.segments().snapshot();
        let (left, gone) = segments.split_at(last_below(&segments, end) + 1);
        let (left, gone) = (left.to_vec(), gone.to_vec());
        drop(segments);
        let Some(cut) = left.last().map(Arc::clone) else {
            return Ok(());
        };
        let kept = self.kept_below(&cut, end)?;
        // Up to here nothing has changed.
        let is_whole = kept.bytes == cut.size() && cut.base_offset < end;
        let replacement = if is_whole {
            None
        } else {
            Some(self.write_kept(&cut, kept)?)
        };
        self.bounds.lower_recovery_point(recovery_point);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.cut(&mut writer, left, &gone, replacement, end)
            .inspect_err(|error| {
                // Half of it is done: only opening the partition again can tell where its end is.
                self.health.poison(io::Error::other(error.to_string()));
            })?;
        self.health.forget_damage_from(end);
        self.assert_segments(&writer);
        drop(writer);
        self.waiters.notify();
        Ok(())
    }

    fn check_truncatable(&self) -> Result<()> {
        // A damaged partition may be truncated: that is one of the ways out of it.
        self.check_readable()?;
        if self.context.read_only {
            return Err(Error::ReadOnly);
        }
        self.health.check_not_poisoned()
    }

    /// Takes the segments in `gone` away, and puts `replacement`, if there is one, in the place of
    /// the last of `left`.
    fn cut(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        mut left: Vec<Arc<Segment>>,
        gone: &[Arc<Segment>],
        replacement: Option<(PathBuf, Kept)>,
        end: u64,
    ) -> Result<()> {
        if let (Some(first), Some(last)) = (gone.first(), left.last()) {
            let end = last.next_offset().min(first.base_offset);
            self.publish_cut(left.clone(), end);
            for segment in gone.iter().rev() {
                self.remove_truncated(segment)?;
                // Each durably: of removals that a power cut may keep or lose one by one, an
                // earlier one alone leaves a hole.
                self.context
                    .storage
                    .sync_dir(self.dir())
                    .map_err(self.io("sync"))?;
            }
        }
        let is_replaced = replacement.is_some();
        if let (Some((temporary, kept)), Some(cut)) = (replacement, left.last_mut()) {
            let replaced = self.put_in_place(cut, &temporary, kept);
            *cut =
                Arc::new(replaced.map_err(|error| Error::io("truncate", cut.log_path(), error))?);
        }
        self.publish_cut(left.clone(), end);
        let Some(last) = left.pop() else {
            return Ok(());
        };
        self.start_active(writer, Arc::clone(&last));
        let mut epochs = writer.epochs.clone();
        if epochs.truncate_end(end) {
            epochs
                .store(&*self.context.storage, self.dir())
                .map_err(self.io("write the leader epochs of"))?;
            writer.epochs = epochs;
        }
        self.remove_snapshots(|at| at > end)?;
        self.context
            .storage
            .sync_dir(self.dir())
            .map_err(self.io("sync"))?;
        self.has_new_digests.store(true, Ordering::Release);
        self.rebuild_producers(writer)?;
        if is_replaced && (writer.has_snapshots || !writer.producers.is_empty()) {
            // The cut took the transaction index with it, and a broker believes that one which is
            // not there has no entries.
            let segments = self.segments().snapshot();
            self.learn_aborted(&segments, segments.len().saturating_sub(1), &mut None)?;
        }
        if last.is_sealed() || last.next_offset() < end {
            // Its name tells where the log ends, where no batch does.
            self.roll(writer, end)?;
            self.context
                .storage
                .sync_dir(self.dir())
                .map_err(self.io("sync"))?;
        }
        Ok(())
    }

    /// In this order: a reader that finds the log end below its place finds as well that it must
    /// look for its place again, and then finds the new segments.
    pub(in crate::partition) fn publish_cut(&self, segments: Vec<Arc<Segment>>, end: u64) {
        self.segments().replace(segments);
        self.cuts.add(end);
        self.bounds.set_log_end(end);
    }

    /// Walks the segment up to `end`.
    fn kept_below(&self, cut: &Arc<Segment>, end: u64) -> Result<Kept> {
        let mut kept = Kept {
            bytes: 0,
            next_offset: cut.base_offset,
            index: MemoryIndex::default(),
            rest: None,
        };
        let mut file = BatchFile::new(Arc::clone(cut));
        let walked = self.walk_below(&mut file, &mut kept, end);
        let lost = kept.next_offset..end.max(kept.next_offset + 1);
        let unreadable = |lost, malformed| {
            self.origin()
                .corrupt(cut.base_offset, kept.bytes, lost, malformed)
        };
        let rest = match walked {
            Err(ReadError::Io(error)) => return Err(Error::io("read", cut.log_path(), error)),
            Err(ReadError::Damaged(malformed)) => return Err(unreadable(lost, malformed)),
            Ok(None) => None,
            Ok(Some((header, bytes))) => {
                let start = if header.magic < 2 {
                    kept.next_offset
                } else {
                    header.base_offset
                };
                let offsets = start..header.last_offset + 1;
                self.below(&header, bytes, end)
                    .map_err(|malformed| unreadable(offsets, malformed))?
            }
        };
        if self.is_dense() && rest.is_none() && kept.next_offset < end {
            return Err(unreadable(lost, Malformed("records are missing")));
        }
        Ok(Kept { rest, ..kept })
    }

    /// Walks up to `end`. Returns the batch that it lies in, if it lies in one.
    fn walk_below<'f>(
        &self,
        file: &'f mut BatchFile,
        kept: &mut Kept,
        end: u64,
    ) -> std::result::Result<Option<(BatchHeader, &'f [u8])>, ReadError> {
        let interval_bytes = self.settings().index_interval_bytes;
        let (limit, mut expected) = (file.segment().size(), kept.next_offset);
        // What goes need not be sound: damage is cut away from where it begins.
        while expected < end
            && let Some(header) = file.header_at(kept.bytes, limit)?
        {
            if header.last_offset >= end {
                // The base of a legacy wrapper is not in its header.
                if header.base_offset < end || header.magic < 2 {
                    return Ok(Some((header, file.checked(kept.bytes, &header, limit)?)));
                }
                break;
            }
            kept.index
                .note(indexed(file.segment(), kept.bytes, &header), interval_bytes);
            kept.bytes += header.size_bytes;
            kept.next_offset = kept.next_offset.max(header.last_offset + 1);
            expected = header.next_base_offset();
        }
        Ok(None)
    }

    /// The records of a batch below `end`, as a batch.
    fn below(
        &self,
        header: &BatchHeader,
        bytes: &[u8],
        end: u64,
    ) -> std::result::Result<Option<Vec<u8>>, Malformed> {
        let decompressed = batch::decompressed(header, bytes, self.context.max_decompressed_bytes)?;
        let max_decompressed_bytes = self.context.max_decompressed_bytes;
        let packing = Packing {
            settings: &self.settings(),
            max_decompressed_bytes,
            must_shrink: false,
        };
        batch::below(header, bytes, decompressed.as_deref(), end, packing)
    }

    /// Writes what stays into a new file beside the old one, durably.
    fn write_kept(&self, cut: &Arc<Segment>, mut kept: Kept) -> Result<(PathBuf, Kept)> {
        let temporary = self.dir().join(file_name::temporary(cut.base_offset));
        if let Err(error) = self.copy_kept(cut, &mut kept, &temporary) {
            // The first error is the one to tell; a file that stays is recognised by its name.
            let _told_already = self.context.storage.remove_file(&temporary);
            return Err(Error::io("truncate", cut.log_path(), error));
        }
        Ok((temporary, kept))
    }

    fn copy_kept(&self, cut: &Arc<Segment>, kept: &mut Kept, temporary: &Path) -> io::Result<()> {
        let file = self.context.storage.open(temporary, Access::OpenOrCreate)?;
        file.set_len(0)?;
        FilePart {
            file: &*cut.file()?,
            start: 0,
            end: kept.bytes,
        }
        .copy_to(&*file)?;
        if let Some(bytes) = kept.rest.take() {
            let header =
                BatchHeader::decode(&bytes).map_err(|malformed| io::Error::other(malformed.0))?;
            if header.size_bytes > MAX_LOG_BYTES.saturating_sub(kept.bytes) {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            file.write_all_at(&bytes, u64::from(kept.bytes))?;
            kept.index.note(
                indexed(cut, kept.bytes, &header),
                self.settings().index_interval_bytes,
            );
            kept.next_offset = header.last_offset + 1;
            kept.bytes += header.size_bytes;
        }
        file.sync_data()
    }

    fn put_in_place(
        &self,
        cut: &Arc<Segment>,
        temporary: &Path,
        kept: Kept,
    ) -> io::Result<Segment> {
        let storage = &*self.context.storage;
        // Readers must be able to continue if a later step fails.
        cut.keep_open()?;
        for suffix in file_name::INDEXES {
            remove_if_exists(storage, &cut.path(suffix))?;
        }
        storage.rename(temporary, cut.log_path())?;
        storage.sync_dir(self.dir())?;
        Ok(Segment::open_scanned(
            &self.home,
            cut.base_offset,
            kept.bytes,
            kept.next_offset,
            kept.index,
        ))
    }

    fn remove_truncated(&self, segment: &Arc<Segment>) -> Result<()> {
        let path = segment.log_path();
        segment
            .prepare_removal()
            .map_err(|error| Error::io("open", path, error))?;
        for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
            let path = segment.path(suffix);
            remove_if_exists(&*self.context.storage, &path)
                .map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }
}
