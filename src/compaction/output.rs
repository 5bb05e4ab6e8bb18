//! The output for a group of segments: the kept batches, one after the other, with their indexes.
//!
//! It is one segment, unless the batches do not fit into one: Kafka's files are smaller than 2 GiB,
//! and the offsets in one file are less than 2^31 apart. A rebuilt batch may be larger than the
//! original, so the sizes of the originals do not guarantee that the output fits.

use std::io;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::format::batch::BatchHeader;
use crate::format::file_name;
use crate::format::index_entry::AbortedTransaction;
use crate::partition::remove::exchange::{CleanedSegment, cleaned_path, discard_cleaned};
use crate::segment::index_file::{IndexedBatch, MemoryIndex};
use crate::segment::{MAX_LOG_BYTES, SegmentHome, digest};
use crate::storage::{Access, StorageFile, remove_if_exists};

/// Number of bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// The segments that are written to replace a group. If they are not finished, their files are
/// removed on drop.
#[derive(Debug)]
pub(super) struct Output {
    home: SegmentHome,
    interval_bytes: u32,
    /// Largest size of a `.log`.
    max_log_bytes: u32,
    /// The full segments, in order.
    full: Vec<SegmentOutput>,
    open: SegmentOutput,
    /// Lowest offset that the next batch may have.
    next_offset: u64,
    /// Whether the offsets of every batch so far are above those of the one before it.
    is_in_order: bool,
    /// Aborted transactions whose marker is in the next batch.
    aborted: Vec<AbortedTransaction>,
}

impl Output {
    pub(super) fn create(
        home: &SegmentHome,
        base_offset: u64,
        interval_bytes: u32,
        max_log_bytes: u32,
    ) -> io::Result<Self> {
        Ok(Self {
            home: home.clone(),
            interval_bytes,
            max_log_bytes,
            full: Vec::new(),
            open: SegmentOutput::create(home, base_offset, interval_bytes)?,
            next_offset: base_offset,
            is_in_order: true,
            aborted: Vec::new(),
        })
    }

    /// Returns the lowest offset that the next batch may have.
    pub(super) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Returns whether the output has more than one segment.
    pub(super) fn is_split(&self) -> bool {
        !self.full.is_empty()
    }

    /// Returns whether all batches follow one another up to `end`, where the segment after the
    /// group begins. If a batch states too low a last offset, a broker assigned the offsets of its
    /// last records a second time. The rebuilt batch states the right one, so the next batch
    /// overlaps it.
    pub(super) fn is_in_order(&self, end: u64) -> bool {
        self.is_in_order && self.next_offset <= end
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        if !self.open.has_room(header, bytes.len(), self.max_log_bytes) {
            self.open.flush()?;
            let next =
                SegmentOutput::create(&self.home, self.first_offset(header), self.interval_bytes)?;
            self.full.push(std::mem::replace(&mut self.open, next));
        }
        self.open.aborted.append(&mut self.aborted);
        self.is_in_order &= header.base_offset >= self.next_offset;
        self.next_offset = header.next_base_offset();
        self.open.push(header, bytes)
    }

    /// Returns the lowest offset that the batch may contain. Only v2 batches state their first
    /// offset; the records of an older one are near its last offset.
    fn first_offset(&self, header: &BatchHeader) -> u64 {
        if header.magic >= 2 {
            return header.base_offset;
        }
        self.next_offset
            .max(header.last_offset.saturating_sub(MAX_LOG_BYTES.into()))
    }

    /// Notes an aborted transaction whose marker is in the next batch.
    pub(super) fn push_aborted(&mut self, transaction: AbortedTransaction) {
        self.aborted.push(transaction);
    }

    /// Writes the rest and makes everything durable. `next_offset` is the base offset of the
    /// segment after the group; `modified` is the time at which the last of the originals was
    /// written.
    pub(super) fn finish(
        self,
        next_offset: u64,
        modified: Timestamp,
    ) -> io::Result<Vec<CleanedSegment>> {
        let segments: Vec<_> = self.full.into_iter().chain([self.open]).collect();
        let ends: Vec<_> = segments
            .iter()
            .skip(1)
            .map(|segment| segment.base_offset)
            .chain([next_offset])
            .collect();
        let mut finished = Finished {
            home: self.home,
            segments: Vec::new(),
        };
        for (segment, end) in segments.into_iter().zip(ends) {
            finished.segments.push(segment.finish(end, modified)?);
        }
        Ok(std::mem::take(&mut finished.segments))
    }
}

/// Segments that were finished. Those that are still here on drop are removed, because a later one
/// failed.
struct Finished {
    home: SegmentHome,
    segments: Vec<CleanedSegment>,
}

impl Drop for Finished {
    fn drop(&mut self) {
        for segment in &self.segments {
            discard_cleaned(&self.home, segment.base_offset);
        }
    }
}

/// One segment, in the files `<base>.*.cleaned`.
#[derive(Debug)]
struct SegmentOutput {
    home: SegmentHome,
    base_offset: u64,
    interval_bytes: u32,
    log: Arc<dyn StorageFile>,
    /// Number of bytes in the file.
    written: u32,
    /// The bytes that follow those in the file and are not yet written.
    buffer: Vec<u8>,
    index: MemoryIndex,
    aborted: Vec<AbortedTransaction>,
    is_finished: bool,
}

impl SegmentOutput {
    fn create(home: &SegmentHome, base_offset: u64, interval_bytes: u32) -> io::Result<Self> {
        discard_cleaned(home, base_offset);
        let log = home.storage().open(
            &cleaned_path(home, base_offset, file_name::LOG),
            Access::CreateNew,
        )?;
        Ok(Self {
            home: home.clone(),
            base_offset,
            interval_bytes,
            log,
            written: 0,
            buffer: Vec::new(),
            index: MemoryIndex::default(),
            aborted: Vec::new(),
            is_finished: false,
        })
    }

    /// Returns the size of the `.log` so far.
    fn bytes(&self) -> u64 {
        u64::from(self.written) + self.buffer.len() as u64
    }

    /// Returns whether a batch of `bytes` fits. The first batch fits whatever the limit, if its
    /// offsets do.
    fn has_room(&self, header: &BatchHeader, bytes: usize, max_log_bytes: u32) -> bool {
        let is_near =
            header.last_offset.saturating_sub(self.base_offset) <= u64::from(MAX_LOG_BYTES);
        is_near && (self.bytes() == 0 || self.bytes() + bytes as u64 <= u64::from(max_log_bytes))
    }

    /// Adds a batch that fits.
    fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        let position = u32::try_from(self.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write()?;
        }
        self.buffer
            .reserve(BUFFER_BYTES.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(bytes);
        let relative_last_offset =
            u32::try_from(header.stated_last_offset.saturating_sub(self.base_offset))
                .unwrap_or(u32::MAX);
        let (size_bytes, max_timestamp) = (header.size_bytes, header.max_timestamp);
        self.index.note(
            IndexedBatch {
                position,
                size_bytes,
                relative_last_offset,
                max_timestamp,
            },
            self.interval_bytes,
        );
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.log
            .write_all_at(&self.buffer, u64::from(self.written))?;
        self.written +=
            u32::try_from(self.buffer.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest of a segment that gets no more batches, and frees its buffer.
    fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.buffer = Vec::new();
        Ok(())
    }

    /// Writes the rest and makes everything durable. `next_offset` is the base offset of the next
    /// segment.
    fn finish(mut self, next_offset: u64, modified: Timestamp) -> io::Result<CleanedSegment> {
        self.write()?;
        self.index.offer_time_entry();
        let indexes = [
            (file_name::OFFSET_INDEX, self.index.offset_bytes(0)),
            (file_name::TIME_INDEX, self.index.time_bytes(0)),
            (
                file_name::TRANSACTION_INDEX,
                self.aborted
                    .iter()
                    .flat_map(|transaction| transaction.encode())
                    .collect(),
            ),
        ];
        for (suffix, bytes) in &indexes {
            let path = cleaned_path(&self.home, self.base_offset, suffix);
            remove_if_exists(self.home.storage(), &path)?;
            if *suffix == file_name::TRANSACTION_INDEX && bytes.is_empty() {
                continue;
            }
            let file = self.home.storage().open(&path, Access::CreateNew)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()?;
        }
        self.log.set_modified(modified)?;
        self.log.sync_data()?;
        self.is_finished = true;
        Ok(CleanedSegment {
            base_offset: self.base_offset,
            next_offset,
            log_bytes: self.written,
            log: Arc::clone(&self.log),
            digests: indexes.each_ref().map(|(_, bytes)| digest(bytes)),
        })
    }
}

impl Drop for SegmentOutput {
    fn drop(&mut self) {
        if !self.is_finished {
            discard_cleaned(&self.home, self.base_offset);
        }
    }
}
