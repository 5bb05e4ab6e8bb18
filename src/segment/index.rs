//! The index of a segment: in memory while it is active, in files once it is sealed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::format::checksum::crc32c;
use crate::format::file_name;
use crate::format::index_entry::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::format::metadata_file::{Digest, SegmentDigests};
use crate::storage::Access;

use super::batch_file::{BatchFile, ReadError};
use super::index_file::{
    self, Checks, IndexFiles, IndexLookup, MAX_RELATIVE_OFFSET, MemoryIndex, TimeFloor,
};
use super::{Segment, SegmentHome, digest};

/// Where the index entries are.
#[derive(Debug)]
pub(super) enum Index {
    Memory(MemoryIndex),
    /// On disk, not looked at yet.
    Unloaded,
    Files(IndexFiles),
}

/// Who can walk the batches of a segment where its index does not help.
pub(crate) trait Batches {
    /// The index by all batches, up to damage.
    fn build_index(&self) -> io::Result<MemoryIndex>;

    /// Whether the first batch is the one that the time entry speaks of.
    fn begin_with(&self, entry: TimeEntry) -> io::Result<bool>;

    /// Whether `last`, the last time entry, fits: the batches from `position` on have one with its
    /// offset and time, and none with a later time. `None`: none has a time at all.
    fn end_with(&self, position: u32, last: Option<TimeEntry>) -> io::Result<bool>;
}

impl Segment {
    /// Appends the index entries that the files do not have yet; `is_last` offers the last time
    /// entry first, as at close. Appends and look-ups go on meanwhile.
    pub(crate) fn write_indexes(&self, is_last: bool, sync: bool) -> io::Result<()> {
        let _one_at_a_time = self.index_files.lock();
        if !self.is_named() {
            return Ok(());
        }
        let (written, counts, offsets, times) = {
            let mut index = self.index.write();
            let Index::Memory(memory) = &mut *index else {
                return Ok(());
            };
            if is_last {
                memory.offer_time_entry();
            }
            let written = memory.written;
            (
                written,
                memory.counts(),
                memory.offset_bytes(written.0),
                memory.time_bytes(written.1),
            )
        };
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

    /// Makes the index files durable, where `write_indexes` did not.
    pub(crate) fn sync_indexes(&self) -> io::Result<()> {
        for suffix in [file_name::OFFSET_INDEX, file_name::TIME_INDEX] {
            match self.home.storage.open(&self.path(suffix), Access::Write) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds bytes to an index file whose first `written` bytes stand; a file that has none yet is
    /// made anew.
    fn extend_index(
        &self,
        suffix: &str,
        written: usize,
        bytes: &[u8],
        sync: bool,
    ) -> io::Result<()> {
        let path = self.path(suffix);
        if written == 0 {
            return self.replace_index(&path, bytes, sync);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let file = self.home.storage.open(&path, Access::Write)?;
        file.write_all_at(bytes, written as u64)?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    pub(super) fn replace_index(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let unique = self.base_offset ^ u64::from(crc32c(path.as_os_str().as_encoded_bytes()));
        let temporary = self.home.dir.join(file_name::temporary(unique));
        index_file::write_new(&*self.home.storage, path, &temporary, bytes, sync)
    }

    /// Returns the lines of this segment in `index-digests`, once it is sealed and its digests are
    /// known. They hold as long as the `.log` has the length that they state: every change to the
    /// batches of a sealed segment changes it.
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

    /// What `index-digests` says of this segment's indexes.
    pub(crate) fn set_digests(&self, digests: [Option<Digest>; 3]) {
        *self.digests.lock() = digests;
    }

    /// Runs `look` on the index, which is loaded first, or built anew from the `batches` where it
    /// is missing or wrong.
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
            Index::Unloaded => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Writes an index that was built anew; that it cannot be written (a full disk, a read-only
    /// one) does no harm.
    fn rebuilt(&self, mut index: MemoryIndex) -> MemoryIndex {
        index.offer_time_entry();
        // Whoever holds the lock may wait for the index; what is not written now is written by the
        // next flush. A segment that went has lost its names to the next one at this offset.
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

    /// The index files, if they can be believed: by their digest, otherwise by their order and by
    /// the batches after the last time entry, none of which may have a later time.
    fn load_index(&self, batches: &dyn Batches) -> io::Result<Option<IndexFiles>> {
        // The files cannot tell the times of batches that are too far from the base offset for an
        // entry.
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
            &*self.home.storage,
            self.home.maps,
            [&offsets, &times],
            &checks,
        )?;
        // Those of another may have taken their names while they were loaded.
        let Some(files) = loaded.filter(|_| self.is_named()) else {
            return Ok(None);
        };
        if digests.is_some() {
            return Ok(Some(files));
        }
        let covers = batches.end_with(files.position_of_last_time(), files.last_time_entry())?;
        Ok(covers.then_some(files))
    }

    /// The index files of a segment that is being opened, if both pass the checks that need no
    /// walk; `None` otherwise. They are not mapped, so that a device error is an error now.
    pub(crate) fn stored_index(
        home: &SegmentHome,
        base_offset: u64,
        log_bytes: u32,
    ) -> io::Result<Option<IndexFiles>> {
        let segment = Self::open_sealed(
            &SegmentHome {
                maps: false,
                ..home.clone()
            },
            base_offset,
            log_bytes,
            u64::MAX,
        );
        let segment = Arc::new(segment);
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
        IndexFiles::load(&*home.storage, false, [&offsets, &times], &checks)
    }

    /// The last index entry at or below `offset`: a hint where to start looking.
    pub(crate) fn floor_offset(
        &self,
        offset: u64,
        batches: &dyn Batches,
    ) -> io::Result<Option<OffsetEntry>> {
        let relative = self.relative(offset);
        self.with_index(batches, |index| index.floor_offset(relative))
    }

    /// The last time entry at or below `timestamp`.
    pub(crate) fn floor_time(
        &self,
        timestamp: i64,
        batches: &dyn Batches,
    ) -> io::Result<Option<TimeFloor>> {
        self.with_index(batches, |index| index.floor_time(timestamp))
    }

    /// Largest timestamp by the index; -1: none.
    pub(crate) fn max_timestamp(&self, batches: &dyn Batches) -> io::Result<i64> {
        self.with_index(batches, |index| index.max_timestamp())
    }

    /// The index led astray: it is built again from the batches, whatever its digest says.
    pub(crate) fn distrust_index(&self, batches: &dyn Batches) -> io::Result<()> {
        let mut index = self.index.write();
        if !matches!(&*index, Index::Memory(memory) if memory.is_proven()) {
            *index = Index::Memory(self.rebuilt(batches.build_index()?));
        }
        Ok(())
    }
}
