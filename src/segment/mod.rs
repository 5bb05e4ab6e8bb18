//! One segment: the batches from one base offset on, in a `.log` with its indexes beside it.
//!
//! A segment is active (the one that is appended to) or sealed. Its size is published after the
//! bytes are written, so that readers, which take no lock of the writer's, never see half a batch.
//! A sealed `.log` is mapped when it is first read and keeps no descriptor; an active one is read
//! by position.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::config::TopicSettings;
use crate::format::checksum::crc32c;
use crate::format::file_name;
use crate::format::metadata_file::Digest;
use crate::storage::open_files::{OpenFiles, PooledFile};
use crate::storage::{FileView, Storage, StorageFile, remove_if_exists};

mod aborted;
pub(crate) mod batch_file;
mod hold;
mod index;
pub(crate) mod index_file;
pub(crate) mod walk;
mod zeros_ahead;

use aborted::Aborted;
use hold::Hold;
use index::Index;
use index_file::{IndexedBatch, MAX_RELATIVE_OFFSET, MemoryIndex};
use zeros_ahead::FileEnd;

/// Largest size of a `.log`: Kafka cannot open a larger one.
pub(crate) const MAX_LOG_BYTES: u32 = i32::MAX.unsigned_abs();

/// Returns the length and the CRC-32C of a file with these bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    (bytes.len() as u64, crc32c(bytes))
}

/// What a segment's files need of the log they are in.
#[derive(Clone, Debug)]
pub(crate) struct SegmentHome {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) dir: Arc<Path>,
    /// What follows the names of the files: nothing, or `.swap` as long as output of a compaction
    /// has yet to take its place.
    pub(crate) ending: &'static str,
    /// Whether sealed files are mapped: `.log` files and indexes.
    pub(crate) maps: bool,
    pub(crate) read_only: bool,
}

impl SegmentHome {
    /// Where a file of a segment is.
    pub(crate) fn path(&self, base_offset: u64, suffix: &str) -> PathBuf {
        self.dir
            .join(file_name::segment_file(base_offset, suffix) + self.ending)
    }
}

/// An append that failed.
#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) source: io::Error,
    /// Whether what was written of it could not be cut off again: the end of the file is unknown.
    pub(crate) end_is_unknown: bool,
}

/// One segment. Shared by the writer and all readers.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: u64,
    home: SegmentHome,
    log: PooledFile,
    /// Bytes of whole batches; readers go no further.
    size: AtomicU32,
    /// Length of the `.log` with the zeros ahead. Held while anything is written from there on, so
    /// that zeros never come down on a batch.
    file_end: Mutex<FileEnd>,
    /// Whether the zeros ahead were cut and that is yet to be synced.
    is_cut_unsynced: AtomicBool,
    /// Offset behind the last batch.
    next_offset: AtomicU64,
    is_sealed: AtomicBool,
    view: OnceLock<FileView>,
    hold: Mutex<Hold>,
    /// How many readers have a [`BatchFile`](batch_file::BatchFile) of the segment.
    readers: AtomicUsize,
    index: RwLock<Index>,
    /// Held while index files are written, and while the segment loses its names. Whether they may
    /// be written: not once the partition was closed.
    index_files: Mutex<bool>,
    /// What the offset, the time and the transaction index of a sealed segment are, as far as that
    /// is known.
    digests: Mutex<[Option<Digest>; 3]>,
    aborted: Aborted,
    /// Whether the directory entry of the `.log` is yet to be synced.
    pub(crate) is_new: AtomicBool,
    /// Largest timestamp over all batch headers, once somebody had to know.
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
        Self {
            base_offset,
            home,
            log,
            size: AtomicU32::new(size),
            file_end: Mutex::new(FileEnd::at(size)),
            is_cut_unsynced: AtomicBool::new(false),
            next_offset: AtomicU64::new(next_offset),
            is_sealed: AtomicBool::new(false),
            view: OnceLock::new(),
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

    /// Creates an empty active segment. What an interrupted step left under its names is removed.
    pub(crate) fn create(home: &SegmentHome, base_offset: u64) -> io::Result<Self> {
        let path = |suffix| home.path(base_offset, suffix);
        for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
            remove_if_exists(&*home.storage, &path(suffix))?;
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

    /// A sealed segment whose files stand on the disk. Nothing is read.
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

    /// A sealed segment whose `.log` is open already, and has yet to get its name: it is read from
    /// `file` until it is settled.
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

    /// A segment whose batches were walked: `index` is what that gave.
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

    /// What follows the names of its files.
    pub(crate) fn ending(&self) -> &'static str {
        self.home.ending
    }

    /// The `.log` has this [`FileMetadata::id`](crate::storage::FileMetadata::id). Another process
    /// may put another file in its place: the segment is gone then.
    pub(crate) fn expect(&self, id: u64) {
        self.log.expect(id);
    }

    /// Which file the `.log` is, where that is known.
    pub(crate) fn file_id(&self) -> Option<u64> {
        self.log.id()
    }

    /// Bytes that readers may read. What was appended before is in the file.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.size.load(Ordering::Acquire)
    }

    /// Offset behind the last batch.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Acquire)
    }

    /// Once true, `size` no longer moves: load it after this.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    /// Lowers the end to where the log is cut. The batches end there or below it.
    pub(crate) fn lower_end(&self, end: u64) {
        self.next_offset.fetch_min(end, Ordering::AcqRel);
    }

    /// The offset counted from the base; saturates beyond [`MAX_RELATIVE_OFFSET`]. Brokers before
    /// 2.0 left segments with such offsets when they compacted: batches there have no index entry,
    /// and are found from the entry before them.
    pub(crate) fn relative(&self, offset: u64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base_offset)).unwrap_or(u32::MAX)
    }

    /// Writes a stamped batch behind the last one and publishes it. The writer lock is held. On an
    /// error the file is cut back to the last batch, zeros ahead included.
    pub(crate) fn append(
        &self,
        batch: &[u8],
        last_offset: u64,
        max_timestamp: i64,
        interval_bytes: u32,
    ) -> Result<(), AppendError> {
        let position = self.size.load(Ordering::Relaxed);
        let known = |source| AppendError {
            source,
            end_is_unknown: false,
        };
        let size_bytes =
            u32::try_from(batch.len()).map_err(|_| known(io::ErrorKind::FileTooLarge.into()))?;
        let file = self.log.get().map_err(known)?;
        self.log.mark_dirty();
        if let Err(source) = self.write_at_end(&*file, batch, position, position + size_bytes) {
            let end_is_unknown = self.cut_back(&*file, position).is_err();
            return Err(AppendError {
                source,
                end_is_unknown,
            });
        }
        let noted = IndexedBatch {
            position,
            size_bytes,
            relative_last_offset: self.relative(last_offset),
            max_timestamp,
        };
        if let Index::Memory(index) = &mut *self.index.write() {
            index.note(noted, interval_bytes);
        }
        self.next_offset.store(last_offset + 1, Ordering::Release);
        self.size.store(position + size_bytes, Ordering::Release);
        Ok(())
    }

    /// Writes `batch` from `position` to `end`, behind the last batch: over zeros, or beyond the
    /// end of the file.
    fn write_at_end(
        &self,
        file: &dyn StorageFile,
        batch: &[u8],
        position: u32,
        end: u32,
    ) -> io::Result<()> {
        let mut file_end = self.file_end.lock();
        if end <= file_end.bytes {
            drop(file_end);
            return file.write_all_at(batch, u64::from(position));
        }
        file.write_all_at(batch, u64::from(position))?;
        file_end.bytes = end;
        Ok(())
    }

    /// After a failed write: the file ends behind its last batch. Where there were zeros ahead that
    /// is made durable as well, or a power cut could bring back the length, and with it a part of
    /// what failed behind a batch that is written next.
    fn cut_back(&self, file: &dyn StorageFile, position: u32) -> io::Result<()> {
        let mut file_end = self.file_end.lock();
        let had_zeros = file_end.bytes > position;
        file.set_len(u64::from(position))?;
        file_end.bytes = position;
        if had_zeros { file.sync_data() } else { Ok(()) }
    }

    /// Another process appended these batches: readers may read them from now on.
    pub(crate) fn publish(
        &self,
        batches: &[IndexedBatch],
        size: u32,
        next_offset: u64,
        interval_bytes: u32,
    ) {
        if let Index::Memory(index) = &mut *self.index.write() {
            for batch in batches {
                index.note(*batch, interval_bytes);
            }
        }
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    /// Whether the next append must go to a new segment: no room, no index slot, or an offset too
    /// far from the base.
    pub(crate) fn is_full(
        &self,
        batch_bytes: usize,
        last_offset: u64,
        settings: &TopicSettings,
        most_bytes: u64,
    ) -> bool {
        let end = u64::from(self.size()) + batch_bytes as u64;
        let index_is_full =
            matches!(&*self.index.read(), Index::Memory(index) if index.is_full(settings));
        end > most_bytes || index_is_full || self.relative(last_offset) > MAX_RELATIVE_OFFSET
    }

    /// Closes the segment for writes: its indexes go to their files, with the last time entry and a
    /// digest.
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

    /// Seals without writing: a read-only opener knows the segment's end, and no more comes.
    pub(crate) fn seal_in_memory(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
