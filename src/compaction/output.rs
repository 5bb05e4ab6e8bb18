//! A cleaned segment while it is written: the batches that stay, one behind the other, with the indexes that belong to them.

use std::io;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::format::batch::BatchHeader;
use crate::format::file_name;
use crate::format::index_entry::AbortedTransaction;
use crate::partition::cleaned::{CleanedSegment, cleaned_path, discard_cleaned};
use crate::segment::index_file::{IndexedBatch, MemoryIndex};
use crate::segment::{MAX_LOG_BYTES, SegmentHome, digest};
use crate::storage::{Access, StorageFile, remove_if_exists};

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// The files `<base>.*.cleaned`. Removed again unless it is finished.
#[derive(Debug)]
pub(super) struct Output {
    home: SegmentHome,
    base_offset: u64,
    interval_bytes: u32,
    log: Arc<dyn StorageFile>,
    /// Bytes in the file.
    written: u32,
    /// Those behind them.
    buffer: Vec<u8>,
    index: MemoryIndex,
    aborted: Vec<AbortedTransaction>,
    is_finished: bool,
}

impl Output {
    pub(super) fn create(home: &SegmentHome, base_offset: u64, interval_bytes: u32) -> io::Result<Self> {
        discard_cleaned(home, base_offset);
        let log = home.storage.open(&cleaned_path(home, base_offset, file_name::LOG), Access::CreateNew)?;
        Ok(Self {
            home: home.clone(),
            base_offset,
            interval_bytes,
            log,
            written: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            index: MemoryIndex::default(),
            aborted: Vec::new(),
            is_finished: false,
        })
    }

    /// Size of the `.log` so far.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.written) + self.buffer.len() as u64
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        let end = self.bytes() + bytes.len() as u64;
        let position = u32::try_from(self.bytes()).ok().filter(|_| end <= u64::from(MAX_LOG_BYTES));
        let position = position.ok_or(io::ErrorKind::FileTooLarge)?;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write()?;
        }
        self.buffer.extend_from_slice(bytes);
        let relative_last_offset = u32::try_from(header.last_offset.saturating_sub(self.base_offset)).unwrap_or(u32::MAX);
        let (size_bytes, max_timestamp) = (header.size_bytes, header.max_timestamp);
        self.index.note(IndexedBatch { position, size_bytes, relative_last_offset, max_timestamp }, self.interval_bytes);
        Ok(())
    }

    /// Notes an aborted transaction whose marker stands in the segment.
    pub(super) fn push_aborted(&mut self, transaction: AbortedTransaction) {
        self.aborted.push(transaction);
    }

    fn write(&mut self) -> io::Result<()> {
        self.log.write_all_at(&self.buffer, u64::from(self.written))?;
        self.written += u32::try_from(self.buffer.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and makes it all durable. `next_offset` is where the next segment begins, `modified` when the last
    /// of the originals was written.
    pub(super) fn finish(mut self, next_offset: u64, modified: Timestamp) -> io::Result<CleanedSegment> {
        self.write()?;
        self.index.offer_time_entry();
        let indexes = [
            (file_name::OFFSET_INDEX, self.index.offset_bytes(0)),
            (file_name::TIME_INDEX, self.index.time_bytes(0)),
            (file_name::TRANSACTION_INDEX, self.aborted.iter().flat_map(|transaction| transaction.encode()).collect()),
        ];
        for (suffix, bytes) in &indexes {
            let path = cleaned_path(&self.home, self.base_offset, suffix);
            remove_if_exists(&*self.home.storage, &path)?;
            if *suffix == file_name::TRANSACTION_INDEX && bytes.is_empty() {
                continue;
            }
            let file = self.home.storage.open(&path, Access::CreateNew)?;
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

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_finished {
            discard_cleaned(&self.home, self.base_offset);
        }
    }
}
