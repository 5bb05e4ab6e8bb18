//! The offset and time index of one segment: a hint that spares a scan, never the truth.
//!
//! While a segment is active its entries live in memory ([`MemoryIndex`]) and are appended to the
//! files when the recovery point moves and at close; nothing that may be mapped is rewritten.
//! Sealed indexes are mapped when they are first used, or read where `.log` files are not mapped
//! either, and checked then: by the digest that annals wrote when it sealed them, else by their own
//! order. An index that fails the check is built anew from the batches, into a new file that is
//! renamed into place.

use std::io;
use std::path::Path;

use super::{Digest, digest};
use crate::config::TopicSettings;
use crate::format::index_entry::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::storage::{Access, FileView, Storage};

/// The highest offset, counted from the base offset of the segment, that an entry can have.
pub(crate) const MAX_RELATIVE_OFFSET: u32 = i32::MAX.unsigned_abs();

/// Largest index file that is read: far above Kafka's 10 MiB default, far below what would hurt.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// What the indexes need to know of a batch that was appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedBatch {
    pub(crate) position: u32,
    pub(crate) size_bytes: u32,
    /// As the header states it. Above [`MAX_RELATIVE_OFFSET`]: too far from the base offset for an
    /// entry.
    pub(crate) relative_last_offset: u32,
    /// -1: none.
    pub(crate) max_timestamp: i64,
}

impl IndexedBatch {
    /// Whether this is the batch that a time entry speaks of.
    pub(crate) fn is_that_of(&self, entry: TimeEntry) -> bool {
        self.relative_last_offset == entry.relative_offset && self.max_timestamp == entry.timestamp
    }
}

/// The index entries of a segment that grows.
#[derive(Clone, Debug)]
pub(crate) struct MemoryIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// Largest timestamp so far of batches that entries can speak of, with the last offset of the
    /// first one that has it.
    max: TimeEntry,
    /// Largest timestamp so far of all batches.
    max_timestamp: i64,
    bytes_since_entry: u64,
    /// How many entries of each kind the files hold already.
    pub(crate) written: (usize, usize),
    /// Whether all entries come from batches that were walked, or from files with the right digest.
    is_proven: bool,
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
            written: (0, 0),
            is_proven: true,
        }
    }
}

impl MemoryIndex {
    /// Notes a batch that stands in the file now. An entry is added by Kafka's rule: the check
    /// comes before this batch's bytes are counted, so the first batch of a segment never gets one.
    /// Neither does one that is too far from the base offset.
    pub(crate) fn note(&mut self, batch: IndexedBatch, interval_bytes: u32) {
        self.note_time(batch);
        let is_near = batch.relative_last_offset <= MAX_RELATIVE_OFFSET;
        // What was read from a damaged file may stand in the way: an index out of order leads
        // astray, a thin one does not.
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

    /// Adds the largest timestamp so far unless the index has it: at every offset entry, at the
    /// roll and at close.
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

    /// Whether a roll is due because an index may not take another entry. One slot of the time
    /// index stays free for the last entry.
    pub(crate) fn is_full(&self, settings: &TopicSettings) -> bool {
        let bytes = usize::try_from(settings.segment_index_bytes).unwrap_or(usize::MAX);
        self.offsets.len() >= bytes / OFFSET_ENTRY_BYTES
            || self.times.len() >= (bytes / TIME_ENTRY_BYTES).saturating_sub(1)
    }

    pub(crate) fn offset_bytes(&self, from: usize) -> Vec<u8> {
        self.offsets
            .iter()
            .skip(from)
            .flat_map(|entry| entry.encode())
            .collect()
    }

    pub(crate) fn time_bytes(&self, from: usize) -> Vec<u8> {
        self.times
            .iter()
            .skip(from)
            .flat_map(|entry| entry.encode())
            .collect()
    }

    /// The largest timestamp so far, with the last offset of the first batch that has it.
    pub(crate) fn largest_time(&self) -> Option<TimeEntry> {
        Some(self.max).filter(|max| max.timestamp >= 0)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.offsets.len(), self.times.len())
    }

    /// The entries of a pair of files that speak of what lies before `position`, as the start of a
    /// scan from there: the place of an offset entry, or one behind them all.
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
            // The batch at the position ends at `end`; what lies between it and the entry before
            // counts.
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

    /// All entries of a pair of files, to go on appending to a segment that was closed cleanly.
    /// `scanned` tells of the batches from the last offset entry's on, or from before it.
    pub(crate) fn resume(files: &IndexFiles, scanned: &[IndexedBatch]) -> Self {
        let mut index = Self::from_files(files, u32::MAX);
        // Padding behind the entries (a broker's preallocated file) must go: such files are written
        // anew.
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

/// A pair of index files, mapped (or read), that passed its checks.
#[derive(Clone, Debug)]
pub(crate) struct IndexFiles {
    offsets: FileView,
    times: FileView,
    offset_count: usize,
    time_count: usize,
    /// Whether both files have the digest that they were sealed with.
    is_proven: bool,
}

/// What index files are checked by, besides their own order.
pub(crate) struct Checks<'a> {
    /// Size of the `.log`, which bounds positions.
    pub(crate) log_bytes: u32,
    /// Length and checksum of the offset and the time index, where they are known.
    pub(crate) digests: Option<[Digest; 2]>,
    /// Whether the first batch is the one that a time entry speaks of.
    pub(crate) begins_with: &'a dyn Fn(TimeEntry) -> io::Result<bool>,
}

impl IndexFiles {
    /// Loads and checks a pair, the offset index first. `None`: a file is missing or wrong, and the
    /// index must be built again. Unless it `maps`, a device error is an error now, and not at a
    /// look-up.
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

    /// What Kafka's own check and a scan of the entries can tell: whole entries, offsets, positions
    /// and timestamps that rise, positions inside the log.
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

    /// Where the batch of the last time entry stands, or before it.
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

/// The last time entry at or below a time, and what it takes to believe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeFloor {
    pub(crate) entry: TimeEntry,
    /// The entry before it.
    pub(crate) before: Option<TimeEntry>,
    /// Whether the entry is true. Otherwise the batches that come after the entry before it have to
    /// show that.
    pub(crate) is_proven: bool,
}

/// What a look-up needs of either form of an index.
pub(crate) trait IndexLookup {
    /// The last offset entry at or below `relative_offset`.
    fn floor_offset(&self, relative_offset: u32) -> Option<OffsetEntry>;

    /// The last time entry at or below `timestamp`.
    fn floor_time(&self, timestamp: i64) -> Option<TimeFloor>;

    /// Largest timestamp; -1: none.
    fn max_timestamp(&self) -> i64;
}

impl IndexLookup for MemoryIndex {
    fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    fn floor_offset(&self, relative_offset: u32) -> Option<OffsetEntry> {
        let after = self
            .offsets
            .partition_point(|entry| entry.relative_offset <= relative_offset);
        self.offsets.get(after.checked_sub(1)?).copied()
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
    fn floor_offset(&self, relative_offset: u32) -> Option<OffsetEntry> {
        OffsetEntry::floor(&self.offsets, self.offset_count, relative_offset)
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

fn load_view(storage: &dyn Storage, maps: bool, path: &Path) -> io::Result<Option<FileView>> {
    let file = match storage.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
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

/// Writes a whole index into a new file and renames it into place; `sync` makes it durable (the
/// directory is the caller's).
pub(crate) fn write_new(
    storage: &dyn Storage,
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
    sync: bool,
) -> io::Result<()> {
    let file = storage.open(temporary, Access::OpenOrCreate)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    if sync {
        file.sync_data()?;
    }
    storage.rename(temporary, path)
}

#[cfg(test)]
mod tests;
