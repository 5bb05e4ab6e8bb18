//! The index of a segment as of an earlier moment, for a copy of the segment.

use std::io;

use super::index::Index;
use super::index_file::EntryCounts;
use super::{Segment, index_file};
use crate::format::file_name;
use crate::format::index_entry::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, TimeEntry};
use crate::storage::{Access, FilePart, IfExists};

/// The index of a segment at one moment. Later entries follow those that it had then, unless the
/// index is rebuilt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexEnd {
    entries: EntryCounts,
    /// The largest timestamp, which need not have an entry yet.
    largest: Option<TimeEntry>,
}

impl Segment {
    /// Returns the end of an index that is in memory, or `None` if the index is in files.
    pub(crate) fn index_end(&self) -> Option<IndexEnd> {
        match &*self.index.read() {
            Index::Memory(memory) => Some(IndexEnd {
                entries: memory.counts(),
                largest: memory.largest_time(),
            }),
            Index::Unloaded | Index::Files(_) => None,
        }
    }

    /// Returns the content of the offset index and of the time index, as closing the log at that
    /// moment would have left them. Returns `None` if the entries are gone, so that the index of
    /// the copy must be rebuilt.
    pub(crate) fn index_until(&self, end: &IndexEnd) -> io::Result<Option<[Vec<u8>; 2]>> {
        let (offset_count, time_count) = end.entries;
        let in_memory = match &*self.index.read() {
            Index::Memory(memory) => Some([memory.offset_bytes(0), memory.time_bytes(0)]),
            Index::Unloaded | Index::Files(_) => None,
        };
        let found = match in_memory {
            Some(found) => Some(found),
            None => self.index_files_content()?,
        };
        let cut = found.map(|[mut offsets, mut times]| {
            offsets.truncate(offset_count * OFFSET_ENTRY_BYTES);
            times.truncate(time_count * TIME_ENTRY_BYTES);
            [offsets, times]
        });
        let whole = cut.filter(|[offsets, times]| {
            offsets.len() == offset_count * OFFSET_ENTRY_BYTES
                && times.len() == time_count * TIME_ENTRY_BYTES
        });
        Ok(whole.map(|[offsets, mut times]| {
            let last = time_count
                .checked_sub(1)
                .map(|last| TimeEntry::at(&times, last).timestamp);
            if let Some(largest) = end.largest
                && last.is_none_or(|last| last < largest.timestamp)
            {
                times.extend(largest.encode());
            }
            [offsets, times]
        }))
    }

    /// Reads the index files of a segment that was sealed in the meantime. Returns `None` if it has
    /// lost them.
    fn index_files_content(&self) -> io::Result<Option<[Vec<u8>; 2]>> {
        // While this lock is held, the files keep their names.
        let _names_stay = self.index_files.lock();
        if !self.is_named() {
            return Ok(None);
        }
        let read = |suffix| -> io::Result<Vec<u8>> {
            let file = self.home.storage().open(&self.path(suffix), Access::Read)?;
            let bytes = file.bytes()?.min(index_file::MAX_INDEX_BYTES);
            let mut content = Vec::new();
            let (start, end) = (0, u32::try_from(bytes).unwrap_or(u32::MAX));
            FilePart {
                file: &*file,
                start,
                end,
            }
            .read(start, end, &mut content)?;
            Ok(content)
        };
        let offsets = read(file_name::OFFSET_INDEX).if_exists()?;
        let times = read(file_name::TIME_INDEX).if_exists()?;
        Ok(offsets.zip(times).map(|(offsets, times)| [offsets, times]))
    }

    /// Returns the content of the transaction index for the markers below `end`, or `None` if only
    /// the file has it.
    pub(crate) fn transaction_index_until(&self, end: u64) -> Option<Vec<u8>> {
        let mut transactions = self.known_aborted()?;
        transactions.retain(|transaction| transaction.last_offset < end);
        Some(super::aborted::encode(&transactions))
    }
}
