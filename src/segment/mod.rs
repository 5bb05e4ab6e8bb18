//! One segment: the batches from one base offset on, in a `.log` file with index files next to it.
//!
//! A segment is active, which means that records are appended to it, or sealed. Its size is
//! published after the bytes were written. So readers, which take no lock of the writer, never see
//! a part of a batch. A sealed `.log` is mapped when it is first read, and keeps no descriptor. Of
//! an active one the published pages are mapped, and the rest is read by position.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::config::TopicSettings;
use crate::format::checksum::crc32c;
use crate::format::file_name;
use crate::format::index_entry::OffsetEntry;
use crate::format::metadata_file::Digest;
use crate::storage::open_files::{OpenFiles, PooledFile};
use crate::storage::{Storage, StorageFile, remove_if_exists};
use crate::sync::{Mutex, RwLock};

mod aborted;
pub(crate) mod batch_file;
mod chunk;
mod copy;
mod hold;
mod index;
pub(crate) mod index_file;
mod views;
pub(crate) mod walk;
mod zeros_ahead;

use aborted::Aborted;
pub(crate) use copy::IndexEnd;
use hold::Hold;
use index::Index;
use index_file::{IndexedBatch, MAX_RELATIVE_OFFSET, MemoryIndex};
use views::Views;
use zeros_ahead::FileEnd;

/// The largest size of a `.log`: Kafka cannot open a larger one.
pub(crate) const MAX_LOG_BYTES: u32 = i32::MAX.unsigned_abs();

/// Returns the length and the CRC-32C of a file with these bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    (bytes.len() as u64, crc32c(bytes))
}

/// The parts of a log that the files of a segment need.
#[derive(Clone, Debug)]
pub(crate) struct SegmentHome {
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) dir: Arc<Path>,
    /// The end of the file names: empty, or `.swap` for the output of a compaction that does not
    /// have its final name yet.
    pub(crate) ending: &'static str,
    /// Whether `.log` files, and the index files of sealed segments, are mapped.
    pub(crate) maps: bool,
    pub(crate) read_only: bool,
}

impl SegmentHome {
    pub(crate) fn storage(&self) -> &dyn Storage {
        self.files.storage()
    }

    /// Returns the path of a file of a segment.
    pub(crate) fn path(&self, base_offset: u64, suffix: &str) -> PathBuf {
        self.dir
            .join(file_name::segment_file(base_offset, suffix) + self.ending)
    }
}

/// A batch among those of one append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendedBatch {
    pub(crate) size_bytes: u32,
    pub(crate) last_offset: u64,
    pub(crate) max_timestamp: i64,
}

/// An append that failed.
#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) source: io::Error,
    /// Whether the bytes that were written could not be cut off again, so that the end of the file
    /// is unknown.
    pub(crate) end_is_unknown: bool,
}

/// One segment. The writer and all readers share it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: u64,
    home: SegmentHome,
    log: PooledFile,
    /// Bytes of whole batches. Readers do not read beyond them.
    size: AtomicU32,
    /// Length of the `.log` with the zeros ahead. It changes during a turn to write, so that zeros
    /// never overwrite a batch.
    file_end: FileEnd,
    /// Whether the zeros ahead were cut and the cut was not synced yet.
    is_cut_unsynced: AtomicBool,
    /// Offset after the last batch.
    next_offset: AtomicU64,
    is_sealed: AtomicBool,
    views: Views,
    hold: Mutex<Hold>,
    /// Number of readers that have a [`BatchFile`](batch_file::BatchFile) of the segment.
    readers: AtomicUsize,
    index: RwLock<Index>,
    /// The number of offset and of time entries in memory, for appends. Stored under the writer
    /// lock of the partition.
    entries: [AtomicUsize; 2],
    /// Whether index files may be written, which ends when the partition is closed. The lock is
    /// held while index files are written, and while the segment loses its names.
    index_files: Mutex<bool>,
    /// The digests of the offset, the time and the transaction index of a sealed segment, as far as
    /// they are known.
    digests: Mutex<[Option<Digest>; 3]>,
    aborted: Aborted,
    /// Whether the directory entry of the `.log` was not synced yet.
    pub(crate) is_new: AtomicBool,
    /// Largest timestamp in all batch headers, once a caller needed it.
    pub(crate) confirmed_max_timestamp: OnceLock<i64>,
}

impl Segment {
    fn with(
        home: SegmentHome,
        base_offset: u64,
        log: PooledFile,
        size: u32,
        next_offset: u64,
        index: Index,
    ) -> Self {
        debug_assert!(
            base_offset <= next_offset,
            "a segment ends at or above its base offset"
        );
        let (offsets, times) = match &index {
            Index::Memory(index) => index.counts(),
            Index::Files(_) | Index::Unloaded => (0, 0),
        };
        Self {
            base_offset,
            home,
            log,
            entries: [AtomicUsize::new(offsets), AtomicUsize::new(times)],
            size: AtomicU32::new(size),
            file_end: FileEnd::at(size),
            is_cut_unsynced: AtomicBool::new(false),
            next_offset: AtomicU64::new(next_offset),
            is_sealed: AtomicBool::new(false),
            views: Views::default(),
            hold: Mutex::new(Hold::Named),
            readers: AtomicUsize::new(0),
            index: RwLock::new(index),
            index_files: Mutex::new(true),
            digests: Mutex::default(),
            aborted: Aborted::new(size == 0, next_offset),
            is_new: AtomicBool::new(false),
            confirmed_max_timestamp: OnceLock::new(),
        }
    }

    /// Creates an empty active segment. Files with its names, which an interrupted step left, are
    /// removed.
    pub(crate) fn create(home: &SegmentHome, base_offset: u64) -> io::Result<Self> {
        debug_assert!(!home.read_only, "a read-only log creates no files");
        let path = |suffix| home.path(base_offset, suffix);
        for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
            remove_if_exists(home.storage(), &path(suffix))?;
        }
        let log = PooledFile::create(&home.files, path(file_name::LOG))?;
        let segment = Self::with(
            home.clone(),
            base_offset,
            log,
            0,
            base_offset,
            Index::Memory(MemoryIndex::default()),
        );
        segment.is_new.store(true, Ordering::Relaxed);
        Ok(segment)
    }

    /// Returns a sealed segment whose files are on the disk. No file is read.
    pub(crate) fn open_sealed(
        home: &SegmentHome,
        base_offset: u64,
        size: u32,
        next_offset: u64,
    ) -> Self {
        let log = PooledFile::new(&home.files, home.path(base_offset, file_name::LOG), true);
        let segment = Self::with(
            home.clone(),
            base_offset,
            log,
            size,
            next_offset,
            Index::Unloaded,
        );
        segment.is_sealed.store(true, Ordering::Relaxed);
        segment
    }

    /// Returns a sealed segment that is never mapped: the file may still be cut, or a device error
    /// must be returned as an error and raise no signal.
    pub(crate) fn open_unmapped(
        home: &SegmentHome,
        base_offset: u64,
        size: u32,
        next_offset: u64,
    ) -> Arc<Self> {
        let home = SegmentHome {
            maps: false,
            ..home.clone()
        };
        Arc::new(Self::open_sealed(&home, base_offset, size, next_offset))
    }

    /// Returns a sealed segment whose `.log` does not have its name yet. It is read from `file`
    /// until it is settled.
    pub(crate) fn open_unnamed(
        home: &SegmentHome,
        base_offset: u64,
        size: u32,
        next_offset: u64,
        file: Arc<dyn StorageFile>,
    ) -> Self {
        let segment = Self::open_sealed(home, base_offset, size, next_offset);
        *segment.hold.lock() = Hold::Kept(file);
        segment
    }

    /// Returns an active segment whose batches were walked. `index` was built on the way.
    pub(crate) fn open_scanned(
        home: &SegmentHome,
        base_offset: u64,
        size: u32,
        next_offset: u64,
        index: MemoryIndex,
    ) -> Self {
        let log = PooledFile::new(
            &home.files,
            home.path(base_offset, file_name::LOG),
            home.read_only,
        );
        Self::with(
            home.clone(),
            base_offset,
            log,
            size,
            next_offset,
            Index::Memory(index),
        )
    }

    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.home.path(self.base_offset, suffix)
    }

    pub(crate) fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// Returns the end of the file names.
    pub(crate) fn ending(&self) -> &'static str {
        self.home.ending
    }

    /// Sets the [`FileMetadata::id`](crate::storage::FileMetadata::id) of the `.log`. If another
    /// process replaces the file, the segment is gone.
    pub(crate) fn expect(&self, id: u64) {
        self.log.expect(id);
    }

    /// Returns the id of the `.log`, if it is known.
    pub(crate) fn file_id(&self) -> Option<u64> {
        self.log.id()
    }

    /// Returns the bytes that readers may read. All of them are in the file.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.size.load(Ordering::Acquire)
    }

    /// Returns the offset after the last batch.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Acquire)
    }

    /// Returns whether the segment is sealed. From then on its size no longer changes, so a caller
    /// that needs both loads the size after this.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    /// Lowers the end of the segment to `end`, where the log is cut. The batches end at or below
    /// it.
    pub(crate) fn lower_end(&self, end: u64) {
        debug_assert!(end >= self.base_offset, "a cut leaves the base offset");
        self.next_offset.fetch_min(end, Ordering::AcqRel);
    }

    /// Returns the offset counted from the base offset. It saturates beyond
    /// [`MAX_RELATIVE_OFFSET`].
    ///
    /// Brokers before 2.0 left segments with such offsets when they compacted. Batches there have
    /// no index entry, and are found from the entry before them.
    pub(crate) fn relative(&self, offset: u64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base_offset)).unwrap_or(u32::MAX)
    }

    /// Returns the last offset of the batch that has this index entry.
    pub(crate) fn last_offset_of(&self, entry: OffsetEntry) -> u64 {
        self.base_offset + u64::from(entry.relative_offset)
    }

    /// Writes a stamped batch after the last one and publishes it, as
    /// [`append_all`](Self::append_all) does.
    #[inline]
    pub(crate) fn append(
        &self,
        batch: &[u8],
        last_offset: u64,
        max_timestamp: i64,
        interval_bytes: u32,
    ) -> Result<(), AppendError> {
        let size_bytes = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let appended = AppendedBatch {
            size_bytes,
            last_offset,
            max_timestamp,
        };
        self.append_all(&[batch], iter::once(appended), interval_bytes)
    }

    /// Writes stamped batches after the last one and publishes them together. The `pieces` are the
    /// bytes of the `batches`, cut anywhere. The caller holds the writer lock. After an error the
    /// file is cut back to the last batch, and the zeros ahead are gone too.
    #[inline]
    pub(crate) fn append_all(
        &self,
        pieces: &[&[u8]],
        batches: impl IntoIterator<Item = AppendedBatch>,
        interval_bytes: u32,
    ) -> Result<(), AppendError> {
        debug_assert!(!self.is_sealed(), "a sealed segment does not grow");
        let position = self.size.load(Ordering::Relaxed);
        let known = |source| AppendError {
            source,
            end_is_unknown: false,
        };
        let size_bytes = u32::try_from(pieces.iter().map(|piece| piece.len()).sum::<usize>())
            .map_err(|_| known(io::ErrorKind::FileTooLarge.into()))?;
        debug_assert!(
            u64::from(position) + u64::from(size_bytes) <= u64::from(MAX_LOG_BYTES),
            "the writer rolls before a segment is too large"
        );
        let mut turn = self.log.write_turn();
        let file = turn.file().map_err(known)?;
        if let Err(source) = self.write_at_end(file, pieces, position, position + size_bytes) {
            let end_is_unknown = self.cut_back(file, position).is_err();
            return Err(AppendError {
                source,
                end_is_unknown,
            });
        }
        drop(turn);
        let mut index = self.index.write();
        let (mut at, mut next_offset) = (position, self.base_offset);
        for batch in batches {
            debug_assert!(
                batch.last_offset >= next_offset,
                "offsets of a segment rise from its base"
            );
            if let Index::Memory(index) = &mut *index {
                let noted = IndexedBatch {
                    position: at,
                    size_bytes: batch.size_bytes,
                    relative_last_offset: self.relative(batch.last_offset),
                    max_timestamp: batch.max_timestamp,
                };
                index.note(noted, interval_bytes);
            }
            at += batch.size_bytes;
            next_offset = batch.last_offset + 1;
        }
        if let Index::Memory(index) = &*index {
            let (offsets, times) = index.counts();
            self.entries[0].store(offsets, Ordering::Relaxed);
            self.entries[1].store(times, Ordering::Relaxed);
        }
        drop(index);
        debug_assert_eq!(at, position + size_bytes, "the bytes are the batches");
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(position + size_bytes, Ordering::Release);
        Ok(())
    }

    /// Writes the pieces from `position` to `end`, after the last batch: over zeros ahead, or
    /// beyond the end of the file. The caller has the turn to write.
    fn write_at_end(
        &self,
        file: &dyn StorageFile,
        pieces: &[&[u8]],
        position: u32,
        end: u32,
    ) -> io::Result<()> {
        debug_assert!(position < end, "a batch has a header");
        let file_end = self.file_end.bytes();
        debug_assert!(position <= file_end, "a file has no hole between batches");
        file.write_pieces_at(pieces, position.into())?;
        self.file_end.set(end.max(file_end));
        Ok(())
    }

    /// Cuts the file at the end of its last batch, after a write failed. If there were zeros ahead,
    /// the cut is also synced. Otherwise a power cut could restore the old length, and with it a
    /// part of the failed write after the next batch. The caller has the turn to write.
    fn cut_back(&self, file: &dyn StorageFile, position: u32) -> io::Result<()> {
        debug_assert_eq!(position, self.size(), "the cut is after the last batch");
        let had_zeros = self.file_end.bytes() > position;
        file.set_len(u64::from(position))?;
        self.file_end.set(position);
        if had_zeros { file.sync_data() } else { Ok(()) }
    }

    /// Publishes batches that another process appended, so that readers may read them.
    pub(crate) fn publish(
        &self,
        batches: &[IndexedBatch],
        size: u32,
        next_offset: u64,
        interval_bytes: u32,
    ) {
        debug_assert!(
            self.home.read_only,
            "the writer publishes each batch that it appends"
        );
        debug_assert!(
            size >= self.size(),
            "bytes that readers may read are not taken back"
        );
        if let Index::Memory(index) = &mut *self.index.write() {
            for batch in batches {
                index.note(*batch, interval_bytes);
            }
        }
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    /// Returns whether the next batch needs a new segment, because the `.log` or an index has no
    /// room for it, or because its offset is too far from the base offset.
    pub(crate) fn is_full(
        &self,
        batch_bytes: usize,
        last_offset: u64,
        settings: &TopicSettings,
        most_bytes: u64,
    ) -> bool {
        let end = u64::from(self.size()) + batch_bytes as u64;
        let [offsets, times] = &self.entries;
        let entries = (
            offsets.load(Ordering::Relaxed),
            times.load(Ordering::Relaxed),
        );
        end > most_bytes
            || index_file::is_full(entries, settings)
            || self.relative(last_offset) > MAX_RELATIVE_OFFSET
    }

    /// Seals the segment: writes its indexes with the last time entry, and notes their digests.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.write_indexes(true, false)?;
        let mut index = self.index.write();
        if let Index::Memory(memory) = &*index {
            let (offsets, times) = (
                digest(&memory.offset_bytes(0)),
                digest(&memory.time_bytes(0)),
            );
            *self.digests.lock() = [Some(offsets), Some(times), self.transactions_digest()];
        }
        *index = Index::Unloaded;
        self.is_sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// Seals the segment without writing its indexes, because the log is read-only or the disk is
    /// full. No more batches are added.
    pub(crate) fn seal_in_memory(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
