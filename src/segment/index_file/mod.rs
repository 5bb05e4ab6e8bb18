//! The offset index and the time index of one segment. They are hints that save a scan; the batches
//! are the truth.
//!
//! While a segment is active, its entries are in memory ([`MemoryIndex`]). They are appended to the
//! files when the recovery point moves, and at close. A file that may be mapped is never rewritten.
//!
//! The index files of a sealed segment are mapped when they are first used, or read if `.log` files
//! are not mapped either. They are checked at that moment: by the digest that annals wrote when it
//! sealed them, or else by their own order. An index that fails the check is built from the
//! batches, into a new file that is renamed into place.

use std::io;
use std::path::Path;

use super::{Digest, digest};
use crate::config::TopicSettings;
use crate::format::index_entry::{
    OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, last_at_most,
};
use crate::storage::{Access, FileView, IfExists, Storage};

mod places;

use places::Places;
pub(crate) use places::Start;

/// The highest offset, counted from the base offset of the segment, that an entry can have.
pub(crate) const MAX_RELATIVE_OFFSET: u32 = i32::MAX.unsigned_abs();

/// The largest index file that is read: far above Kafka's default of 10 MiB, and small enough for
/// memory.
pub(super) const MAX_INDEX_BYTES: u64 = 1 << 30;

/// The facts about a batch that the indexes need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedBatch {
    pub(crate) position: u32,
    pub(crate) size_bytes: u32,
    /// The last offset that the header states, counted from the base offset of the segment. A batch
    /// above [`MAX_RELATIVE_OFFSET`] cannot have an entry.
    pub(crate) relative_last_offset: u32,
    /// -1 if the batch has no timestamp.
    pub(crate) max_timestamp: i64,
}

impl IndexedBatch {
    /// Returns whether `entry` belongs to this batch.
    pub(crate) fn has_entry(&self, entry: TimeEntry) -> bool {
        self.relative_last_offset == entry.relative_offset && self.max_timestamp == entry.timestamp
    }
}

/// The number of offset and of time entries.
pub(crate) type EntryCounts = (usize, usize);

/// The index entries of a segment, in memory.
#[derive(Clone, Debug)]
pub(crate) struct MemoryIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// Largest timestamp so far of the batches that can have an entry, and the last offset of the
    /// first batch with this timestamp.
    max: TimeEntry,
    /// Largest timestamp so far of all batches.
    max_timestamp: i64,
    bytes_since_entry: u64,
    /// More places than the entries have, for look-ups in the newest part of the segment.
    places: Places,
    /// The number of offset and of time entries that the files already contain.
    pub(crate) written: (usize, usize),
    /// Whether all entries come from batches that were walked, or from files with a matching
    /// digest.
    is_proven: bool,
}

/// Returns whether a roll is due because an index with so many offset and time entries has no room
/// for another one. One slot of the time index stays free for the last entry.
pub(crate) fn is_full((offsets, times): EntryCounts, settings: &TopicSettings) -> bool {
    let bytes = usize::try_from(settings.segment_index_bytes).unwrap_or(usize::MAX);
    offsets >= bytes / OFFSET_ENTRY_BYTES || times >= (bytes / TIME_ENTRY_BYTES).saturating_sub(1)
}

impl Default for MemoryIndex {
    fn default() -> Self {
        Self {
            offsets: Vec::new(),
            times: Vec::new(),
            max: TimeEntry {
                timestamp: -1,
                relative_offset: 0,
            },
            max_timestamp: -1,
            bytes_since_entry: 0,
            places: Places::default(),
            written: (0, 0),
            is_proven: true,
        }
    }
}

impl MemoryIndex {
    /// Notes a batch that is now in the file, and adds an entry for it if one is due.
    ///
    /// An entry is due by Kafka's rule: more than `interval_bytes` bytes of batches lie between the
    /// last entry and this batch. So the first batch of a segment never gets one. A batch that is
    /// too far from the base offset gets none either.
    pub(crate) fn note(&mut self, batch: IndexedBatch, interval_bytes: u32) {
        debug_assert!(batch.size_bytes > 0, "a batch has a header");
        self.note_time(batch);
        let is_near = batch.relative_last_offset <= MAX_RELATIVE_OFFSET;
        if is_near {
            self.places.note(&batch);
        }
        // Entries from a damaged file may be higher than this batch. Then the batch gets no entry:
        // an index that is out of order leads to wrong batches, one with few entries does not.
        let rises = is_near
            && self
                .offsets
                .last()
                .is_none_or(|last| last.relative_offset < batch.relative_last_offset);
        if self.bytes_since_entry > u64::from(interval_bytes) && rises {
            self.offsets.push(OffsetEntry {
                relative_offset: batch.relative_last_offset,
                position: batch.position,
            });
            self.offer_time_entry();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += u64::from(batch.size_bytes);
    }

    fn note_time(&mut self, batch: IndexedBatch) {
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
        if batch.max_timestamp > self.max.timestamp
            && batch.relative_last_offset <= MAX_RELATIVE_OFFSET
        {
            self.max = TimeEntry {
                timestamp: batch.max_timestamp,
                relative_offset: batch.relative_last_offset,
            };
        }
    }

    /// Adds a time entry for the largest timestamp so far, unless the index has one. This happens
    /// at every offset entry, at a roll and at close.
    pub(crate) fn offer_time_entry(&mut self) {
        if self.max.timestamp >= 0
            && self
                .times
                .last()
                .is_none_or(|last| last.timestamp < self.max.timestamp)
        {
            self.times.push(self.max);
        }
    }

    /// Returns the offset entries from number `from` on, encoded.
    pub(crate) fn offset_bytes(&self, from: usize) -> Vec<u8> {
        debug_assert!(from <= self.offsets.len(), "the file has no other entries");
        self.offsets
            .iter()
            .skip(from)
            .flat_map(|entry| entry.encode())
            .collect()
    }

    /// Returns the time entries from number `from` on, encoded.
    pub(crate) fn time_bytes(&self, from: usize) -> Vec<u8> {
        debug_assert!(from <= self.times.len(), "the file has no other entries");
        self.times
            .iter()
            .skip(from)
            .flat_map(|entry| entry.encode())
            .collect()
    }

    /// Returns the largest timestamp so far, with the last offset of the first batch that has it.
    pub(crate) fn largest_time(&self) -> Option<TimeEntry> {
        Some(self.max).filter(|max| max.timestamp >= 0)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Returns the number of offset and of time entries.
    pub(crate) fn counts(&self) -> EntryCounts {
        (self.offsets.len(), self.times.len())
    }

    /// Returns the entries of a pair of files for the batches before `position`, from which a scan
    /// can continue. `position` is that of an offset entry, or after all of them.
    pub(crate) fn from_files(files: &IndexFiles, position: u32) -> Self {
        let mut index = Self::default();
        let mut end = None;
        for number in 0..files.offset_count {
            let entry = OffsetEntry::at(&files.offsets, number);
            if entry.position >= position {
                end = Some(entry.relative_offset);
                break;
            }
            index.offsets.push(entry);
        }
        for number in 0..files.time_count {
            let entry = TimeEntry::at(&files.times, number);
            // The batch at `position` ends at `end`. Time entries of earlier batches count.
            if end.is_some_and(|end| entry.relative_offset >= end) {
                break;
            }
            index.times.push(entry);
            index.max = entry;
            index.max_timestamp = entry.timestamp;
        }
        index.is_proven = files.is_proven || index.counts() == (0, 0);
        index
    }

    /// Returns all entries of a pair of files, for appends to a segment that was closed cleanly.
    /// `scanned` contains the batches from the last offset entry on, and maybe some before it.
    pub(crate) fn resume(files: &IndexFiles, scanned: &[IndexedBatch]) -> Self {
        let mut index = Self::from_files(files, u32::MAX);
        // Files with padding after the entries, such as the preallocated ones of a broker, are
        // written from scratch.
        let is_exact = files.offsets.len() == files.offset_count * OFFSET_ENTRY_BYTES
            && files.times.len() == files.time_count * TIME_ENTRY_BYTES;
        index.written = if is_exact { index.counts() } else { (0, 0) };
        for batch in scanned {
            index.note_time(*batch);
            if index
                .offsets
                .last()
                .is_none_or(|last| last.position <= batch.position)
            {
                index.bytes_since_entry += u64::from(batch.size_bytes);
            }
        }
        index
    }
}

/// A pair of index files that passed the checks, mapped or read.
#[derive(Clone, Debug)]
pub(crate) struct IndexFiles {
    offsets: FileView,
    times: FileView,
    offset_count: usize,
    time_count: usize,
    /// Whether both files have the digest of the moment when they were sealed.
    is_proven: bool,
}

/// The facts with which index files are compared, apart from their own order.
pub(crate) struct Checks<'a> {
    /// Size of the `.log`, which bounds positions.
    pub(crate) log_bytes: u32,
    /// Length and checksum of the offset index and of the time index, if they are known.
    pub(crate) digests: Option<[Digest; 2]>,
    /// Returns whether a time entry belongs to the first batch.
    pub(crate) begins_with: &'a dyn Fn(TimeEntry) -> io::Result<bool>,
}

impl IndexFiles {
    /// Loads and checks a pair of files; the first path is that of the offset index. Returns `None`
    /// if a file is missing or wrong, so that the index must be rebuilt. Unless `maps` is set, a
    /// device error is returned here and not at a look-up.
    pub(crate) fn load(
        storage: &dyn Storage,
        maps: bool,
        paths: [&Path; 2],
        checks: &Checks<'_>,
    ) -> io::Result<Option<Self>> {
        let [offsets, times] = paths;
        let (offsets, times) = (
            load_view(storage, maps, offsets)?,
            load_view(storage, maps, times)?,
        );
        let (Some(offsets), Some(times)) = (offsets, times) else {
            return Ok(None);
        };
        if let Some(digests) = checks.digests
            && digests != [&offsets, &times].map(|bytes| digest(bytes))
        {
            return Ok(None);
        }
        let (offset_count, mut time_count) =
            (OffsetEntry::count(&offsets), TimeEntry::count(&times));
        let is_proven = checks.digests.is_some();
        if time_count == 0 && times.len() >= TIME_ENTRY_BYTES {
            let zeros = TimeEntry {
                timestamp: 0,
                relative_offset: 0,
            };
            // A file that was sealed has no padding.
            time_count = usize::from(is_proven || (checks.begins_with)(zeros)?);
        }
        let files = Self {
            offsets,
            times,
            offset_count,
            time_count,
            is_proven,
        };
        Ok(files.is_in_order(checks.log_bytes).then_some(files))
    }

    /// Returns whether the files consist of whole entries, whose offsets, positions and timestamps
    /// rise, and whose positions are inside the log. This includes Kafka's own check.
    fn is_in_order(&self, log_bytes: u32) -> bool {
        if !self.offsets.len().is_multiple_of(OFFSET_ENTRY_BYTES)
            || !self.times.len().is_multiple_of(TIME_ENTRY_BYTES)
        {
            return false;
        }
        let mut last: Option<OffsetEntry> = None;
        for number in 0..self.offset_count {
            let entry = OffsetEntry::at(&self.offsets, number);
            let rises = last.is_none_or(|last| {
                last.relative_offset < entry.relative_offset && last.position < entry.position
            });
            if !rises || entry.position >= log_bytes || entry.relative_offset > MAX_RELATIVE_OFFSET
            {
                return false;
            }
            last = Some(entry);
        }
        let mut last: Option<TimeEntry> = None;
        for number in 0..self.time_count {
            let entry = TimeEntry::at(&self.times, number);
            let rises = last.is_none_or(|last| {
                last.timestamp < entry.timestamp && last.relative_offset <= entry.relative_offset
            });
            if !rises || entry.timestamp < 0 || entry.relative_offset > MAX_RELATIVE_OFFSET {
                return false;
            }
            last = Some(entry);
        }
        true
    }

    pub(crate) fn last_offset_entry(&self) -> Option<OffsetEntry> {
        Some(OffsetEntry::at(
            &self.offsets,
            self.offset_count.checked_sub(1)?,
        ))
    }

    /// Returns the position of the batch of the last time entry, or an earlier one.
    pub(crate) fn position_of_last_time(&self) -> u32 {
        let entry = self
            .last_time_entry()
            .and_then(|last| self.floor_offset(last.relative_offset));
        entry.map_or(0, |entry| entry.position)
    }

    pub(crate) fn last_time_entry(&self) -> Option<TimeEntry> {
        Some(TimeEntry::at(&self.times, self.time_count.checked_sub(1)?))
    }
}

/// The last time entry at or below a time, and whether it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeFloor {
    pub(crate) entry: TimeEntry,
    /// The entry before `entry`.
    pub(crate) before: Option<TimeEntry>,
    /// Whether the entry is known to be right. If not, the batches after `before` must confirm it.
    pub(crate) is_proven: bool,
}

/// The offset entries around an offset. They may be wrong; the batches decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NearEntries {
    /// The last entry at or below the offset.
    pub(crate) floor: Option<OffsetEntry>,
    /// The first entry above the offset.
    pub(crate) next: Option<OffsetEntry>,
    /// The entry after `next`.
    pub(crate) after_next: Option<OffsetEntry>,
}

/// The look-ups in an index, in memory or in files.
pub(crate) trait IndexLookup {
    /// Returns the number of the last offset entry at or below `relative_offset`.
    fn floor_number(&self, relative_offset: u32) -> Option<usize>;

    /// Returns the offset entry with this number, or `None` if there are fewer.
    fn offset_entry(&self, number: usize) -> Option<OffsetEntry>;

    /// Returns the last offset entry at or below `relative_offset`.
    fn floor_offset(&self, relative_offset: u32) -> Option<OffsetEntry> {
        self.offset_entry(self.floor_number(relative_offset)?)
    }

    /// Returns where a look-up of `relative_offset` begins, if the writer has noted a place before
    /// it. A place comes from the batches themselves and need not be checked.
    fn start(&self, _relative_offset: u32) -> Option<Start> {
        None
    }

    /// Returns the offset entries around `relative_offset`.
    fn entries_near(&self, relative_offset: u32) -> NearEntries {
        let floor = self.floor_number(relative_offset);
        let next = floor.map_or(0, |number| number + 1);
        NearEntries {
            floor: floor.and_then(|number| self.offset_entry(number)),
            next: self.offset_entry(next),
            after_next: self.offset_entry(next + 1),
        }
    }

    /// Returns the last time entry at or below `timestamp`.
    fn floor_time(&self, timestamp: i64) -> Option<TimeFloor>;

    /// Returns the largest timestamp, or -1 if there is none.
    fn max_timestamp(&self) -> i64;
}

impl IndexLookup for MemoryIndex {
    fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    fn floor_number(&self, relative_offset: u32) -> Option<usize> {
        let offset_at = |number| {
            let entry: Option<&OffsetEntry> = self.offsets.get(number);
            entry.map_or(u32::MAX, |entry| entry.relative_offset)
        };
        last_at_most(self.offsets.len(), offset_at, relative_offset)
    }

    fn start(&self, relative_offset: u32) -> Option<Start> {
        self.places.floor(relative_offset)
    }

    fn offset_entry(&self, number: usize) -> Option<OffsetEntry> {
        self.offsets.get(number).copied()
    }

    fn floor_time(&self, timestamp: i64) -> Option<TimeFloor> {
        let number = self
            .times
            .partition_point(|entry| entry.timestamp <= timestamp)
            .checked_sub(1)?;
        let before = number
            .checked_sub(1)
            .and_then(|number| self.times.get(number))
            .copied();
        Some(TimeFloor {
            entry: *self.times.get(number)?,
            before,
            is_proven: self.is_proven,
        })
    }
}

impl IndexLookup for IndexFiles {
    fn floor_number(&self, relative_offset: u32) -> Option<usize> {
        OffsetEntry::floor_number(&self.offsets, self.offset_count, relative_offset)
    }

    fn offset_entry(&self, number: usize) -> Option<OffsetEntry> {
        (number < self.offset_count).then(|| OffsetEntry::at(&self.offsets, number))
    }

    fn floor_time(&self, timestamp: i64) -> Option<TimeFloor> {
        let number = TimeEntry::floor_number(&self.times, self.time_count, timestamp)?;
        let before = number
            .checked_sub(1)
            .map(|number| TimeEntry::at(&self.times, number));
        Some(TimeFloor {
            entry: TimeEntry::at(&self.times, number),
            before,
            is_proven: self.is_proven,
        })
    }

    fn max_timestamp(&self) -> i64 {
        self.last_time_entry().map_or(-1, |last| last.timestamp)
    }
}

/// Maps or reads an index file. Returns `None` if it is missing or too large.
fn load_view(storage: &dyn Storage, maps: bool, path: &Path) -> io::Result<Option<FileView>> {
    let Some(file) = storage.open(path, Access::Read).if_exists()? else {
        return Ok(None);
    };
    let bytes = file.bytes()?;
    if bytes > MAX_INDEX_BYTES {
        return Ok(None);
    }
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if maps {
        return file.view(bytes).map(Some);
    }
    let mut content = Vec::new();
    content.try_reserve_exact(bytes)?;
    content.resize(bytes, 0);
    if file.read_at(&mut content, 0)? < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(FileView::from_bytes(content)))
}

#[cfg(test)]
mod tests;
