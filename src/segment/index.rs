//! The index of a segment: in memory while it is active, in files once it is sealed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::format::file_name;
use crate::format::index_entry::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::format::metadata_file::{Digest, SegmentDigests};
use crate::storage::{Access, IfExists, NewFile};

use super::batch_file::{BatchFile, ReadError};
use super::index_file::{
    Checks, IndexFiles, IndexLookup, MAX_RELATIVE_OFFSET, MemoryIndex, NearEntries, Start,
    TimeFloor,
};
use super::{Segment, SegmentHome, digest};

/// The index of a segment, by the place of its entries.
#[derive(Debug)]
pub(super) enum Index {
    /// In memory: the segment is active, or its index was rebuilt.
    Memory(MemoryIndex),
    /// In files that were not loaded yet.
    Unloaded,
    /// In files that were loaded and checked.
    Files(IndexFiles),
}

/// A walk over the batches of a segment, to check its index or to build it.
pub(crate) trait Batches {
    /// Builds the index from all batches up to the first damage.
    fn build_index(&self) -> io::Result<MemoryIndex>;

    /// Returns whether `entry` belongs to the first batch.
    fn begin_with(&self, entry: TimeEntry) -> io::Result<bool>;

    /// Returns whether `last` can be the last time entry: of the batches from `position` on, one
    /// has its offset and time, and none has a later time. If `last` is `None`, no batch may have a
    /// time.
    fn end_with(&self, position: u32, last: Option<TimeEntry>) -> io::Result<bool>;
}

impl Segment {
    /// Appends the entries that the index files do not have yet. With `is_last`, as at close, it
    /// adds the last time entry first. Appends and look-ups continue in the meantime.
    ///
    /// The files of a sealed segment are replaced instead: they may have other names, in a snapshot
    /// of the log.
    pub(crate) fn write_indexes(&self, is_last: bool, sync: bool) -> io::Result<()> {
        let _one_at_a_time = self.index_files.lock();
        if !self.is_named() {
            return Ok(());
        }
        self.store_aborted(sync)?;
        let (written, counts, offsets, times) = {
            let mut index = self.index.write();
            let Index::Memory(memory) = &mut *index else {
                return Ok(());
            };
            if is_last {
                memory.offer_time_entry();
            }
            let counts = memory.counts();
            if self.is_sealed() && memory.written != counts {
                memory.written = (0, 0);
            }
            let written = memory.written;
            (
                written,
                counts,
                memory.offset_bytes(written.0),
                memory.time_bytes(written.1),
            )
        };
        debug_assert!(
            written.0 <= counts.0 && written.1 <= counts.1,
            "the files have entries of this index only"
        );
        self.extend_index(
            file_name::OFFSET_INDEX,
            written.0 * OFFSET_ENTRY_BYTES,
            &offsets,
            sync,
        )?;
        self.extend_index(
            file_name::TIME_INDEX,
            written.1 * TIME_ENTRY_BYTES,
            &times,
            sync,
        )?;
        if let Index::Memory(memory) = &mut *self.index.write() {
            memory.written = counts;
        }
        Ok(())
    }

    /// Lets the next write replace the index files instead of extending them, because they may have
    /// other names.
    pub(crate) fn part_from_index_files(&self) {
        if let Index::Memory(memory) = &mut *self.index.write() {
            memory.written = (0, 0);
        }
    }

    /// Makes the index files durable, if `write_indexes` did not sync them.
    pub(crate) fn sync_indexes(&self) -> io::Result<()> {
        for suffix in file_name::INDEXES {
            let opened = self.home.storage().open(&self.path(suffix), Access::Write);
            if let Some(file) = opened.if_exists()? {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Appends `bytes` to an index file that has `written` bytes. If it has none, the whole file is
    /// replaced. The caller holds `index_files`.
    fn extend_index(
        &self,
        suffix: &str,
        written: usize,
        bytes: &[u8],
        sync: bool,
    ) -> io::Result<()> {
        debug_assert!(self.index_files.is_locked(), "one thread writes at a time");
        let path = self.path(suffix);
        if written == 0 {
            return self.replace_index(&path, bytes, sync);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let file = self.home.storage().open(&path, Access::Write)?;
        file.write_all_at(bytes, written as u64)?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    /// Replaces an index file. With `sync`, its content is durable on return, and the caller syncs
    /// the directory. The caller holds `index_files`.
    pub(super) fn replace_index(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        debug_assert!(self.index_files.is_locked(), "one thread writes at a time");
        debug_assert!(!self.home.read_only, "a read-only log writes no files");
        let storage = self.home.storage();
        NewFile::write(storage, path, sync, |file| file.write_all_at(bytes, 0))?.put_in_place()
    }

    /// Returns the lines of this segment in `index-digests`, if it is sealed and its digests are
    /// known. The lines are valid while the `.log` has the length that they state, because every
    /// change to the batches of a sealed segment changes the length.
    pub(crate) fn digests(&self) -> Option<SegmentDigests> {
        let indexes = if self.is_sealed() {
            *self.digests.lock()
        } else {
            [None; 3]
        };
        let is_known = indexes.iter().any(Option::is_some);
        is_known.then(|| SegmentDigests {
            base_offset: self.base_offset,
            log_bytes: Some(self.size().into()),
            indexes,
        })
    }

    /// Sets the digests that `index-digests` states for this segment.
    pub(crate) fn set_digests(&self, digests: [Option<Digest>; 3]) {
        debug_assert!(self.is_sealed(), "an active segment has no digests");
        *self.digests.lock() = digests;
    }

    /// Runs `look` on the index. If necessary, the index is loaded first, or built from the
    /// `batches` if its files are missing or wrong.
    fn with_index<T>(
        &self,
        batches: &dyn Batches,
        look: impl Fn(&dyn IndexLookup) -> T,
    ) -> io::Result<T> {
        match &*self.index.read() {
            Index::Memory(index) => return Ok(look(index)),
            Index::Files(files) => return Ok(look(files)),
            Index::Unloaded => {}
        }
        let mut index = self.index.write();
        if matches!(&*index, Index::Unloaded) {
            *index = match self.load_index(batches)? {
                Some(files) => Index::Files(files),
                None => Index::Memory(self.rebuilt(batches.build_index()?)),
            };
        }
        match &*index {
            Index::Memory(index) => Ok(look(index)),
            Index::Files(files) => Ok(look(files)),
            Index::Unloaded => unreachable!("the index was loaded under this lock"),
        }
    }

    /// Writes an index that was built from the batches, and returns it. A write that fails, as on a
    /// full disk, is not an error. The caller holds the index for writing.
    fn rebuilt(&self, mut index: MemoryIndex) -> MemoryIndex {
        debug_assert!(
            self.index.is_locked_exclusive(),
            "one thread rebuilds the index"
        );
        index.offer_time_entry();
        // The holder of `index_files` may wait for the index, so this thread must not wait for it:
        // the next flush writes the files instead. A segment without names writes no files, because
        // the next segment at this offset may have the names.
        let turn = self.index_files.try_lock();
        if turn.as_ref().is_some_and(|may_write| **may_write)
            && !self.home.read_only
            && self.is_named()
        {
            let [offsets, times, _] = &mut *self.digests.lock();
            (*offsets, *times) = (
                Some(digest(&index.offset_bytes(0))),
                Some(digest(&index.time_bytes(0))),
            );
            let offsets = self.replace_index(
                &self.path(file_name::OFFSET_INDEX),
                &index.offset_bytes(0),
                false,
            );
            let times = self.replace_index(
                &self.path(file_name::TIME_INDEX),
                &index.time_bytes(0),
                false,
            );
            if offsets.is_ok() && times.is_ok() {
                index.written = index.counts();
            }
        }
        index
    }

    /// Returns the index files if they can be trusted: because of their digest, or because their
    /// entries are in order and no batch after the last time entry has a later time. The caller
    /// holds the index for writing.
    fn load_index(&self, batches: &dyn Batches) -> io::Result<Option<IndexFiles>> {
        debug_assert!(
            self.index.is_locked_exclusive(),
            "one thread loads the index"
        );
        // Batches that are too far from the base offset have no entries, so the files lack their
        // times.
        let has_far_offsets =
            self.relative(self.next_offset().saturating_sub(1)) > MAX_RELATIVE_OFFSET;
        if !self.is_named() || has_far_offsets {
            return Ok(None);
        }
        let [offsets, times, _] = *self.digests.lock();
        let digests = offsets.zip(times).map(|(offsets, times)| [offsets, times]);
        let checks = Checks {
            log_bytes: self.size(),
            digests,
            begins_with: &|entry| batches.begin_with(entry),
        };
        let (offsets, times) = (
            self.path(file_name::OFFSET_INDEX),
            self.path(file_name::TIME_INDEX),
        );
        let loaded = IndexFiles::load(
            self.home.storage(),
            self.home.maps,
            [&offsets, &times],
            &checks,
        )?;
        // If the segment lost its names in the meantime, these may be the files of another segment.
        let Some(files) = loaded.filter(|_| self.is_named()) else {
            return Ok(None);
        };
        if digests.is_some() {
            return Ok(Some(files));
        }
        let covers = batches.end_with(files.position_of_last_time(), files.last_time_entry())?;
        Ok(covers.then_some(files))
    }

    /// Returns the index files of a segment that is being opened, if both pass the checks that need
    /// no walk. They are not mapped, so a device error is returned here and not at a look-up.
    pub(crate) fn stored_index(
        home: &SegmentHome,
        base_offset: u64,
        log_bytes: u32,
    ) -> io::Result<Option<IndexFiles>> {
        let segment = Self::open_unmapped(home, base_offset, log_bytes, u64::MAX);
        let begins_with =
            |entry: TimeEntry| match BatchFile::new(Arc::clone(&segment)).header_at(0, log_bytes) {
                Ok(header) => Ok(header.is_some_and(|header| {
                    (header.max_timestamp, segment.relative(header.last_offset))
                        == (entry.timestamp, entry.relative_offset)
                })),
                Err(ReadError::Damaged(_)) => Ok(false),
                Err(ReadError::Io(error)) => Err(error),
            };
        let (offsets, times) = (
            segment.path(file_name::OFFSET_INDEX),
            segment.path(file_name::TIME_INDEX),
        );
        let checks = Checks {
            log_bytes,
            digests: None,
            begins_with: &begins_with,
        };
        IndexFiles::load(home.storage(), false, [&offsets, &times], &checks)
    }

    /// Returns the last offset entry at or below `offset`, as a hint where to start a search.
    pub(crate) fn floor_offset(
        &self,
        offset: u64,
        batches: &dyn Batches,
    ) -> io::Result<Option<OffsetEntry>> {
        let relative = self.relative(offset);
        self.with_index(batches, |index| index.floor_offset(relative))
    }

    /// Returns where a search for `offset` starts: at a place that the writer has noted, or else at
    /// the offset entries around it, which are hints.
    pub(crate) fn search_start(
        &self,
        offset: u64,
        batches: &dyn Batches,
    ) -> io::Result<Result<Start, NearEntries>> {
        let relative = self.relative(offset);
        self.with_index(batches, |index| {
            index
                .start(relative)
                .ok_or_else(|| index.entries_near(relative))
        })
    }

    /// Returns the last time entry at or below `timestamp`.
    pub(crate) fn floor_time(
        &self,
        timestamp: i64,
        batches: &dyn Batches,
    ) -> io::Result<Option<TimeFloor>> {
        self.with_index(batches, |index| index.floor_time(timestamp))
    }

    /// Returns the largest timestamp by the index, or -1 if no batch has one.
    pub(crate) fn max_timestamp(&self, batches: &dyn Batches) -> io::Result<i64> {
        self.with_index(batches, |index| index.max_timestamp())
    }

    /// Rebuilds an index that has led to a wrong batch, even if its digest matches. An index that
    /// comes from the batches themselves is kept.
    pub(crate) fn distrust_index(&self, batches: &dyn Batches) -> io::Result<()> {
        let mut index = self.index.write();
        if !matches!(&*index, Index::Memory(memory) if memory.is_proven()) {
            *index = Index::Memory(self.rebuilt(batches.build_index()?));
        }
        Ok(())
    }
}
