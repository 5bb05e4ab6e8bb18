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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::config::TopicSettings;
use crate::format::checksum::crc32c;
use crate::format::file_name;
use crate::format::index_entry::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::format::metadata_file::{Digest, SegmentDigests};
use crate::storage::open_files::{OpenFiles, PooledFile};
use crate::storage::{Access, FileView, Storage, StorageFile, remove_if_exists};

mod aborted;
pub(crate) mod batch_file;
pub(crate) mod index_file;
mod zeros_ahead;

use aborted::Aborted;
use batch_file::{BatchFile, ReadError};
use index_file::{
    Checks, IndexFiles, IndexLookup, IndexedBatch, MAX_RELATIVE_OFFSET, MemoryIndex, TimeFloor,
};
use zeros_ahead::FileEnd;

/// Largest size of a `.log`: Kafka cannot open a larger one.
pub(crate) const MAX_LOG_BYTES: u32 = i32::MAX.unsigned_abs();

/// Length and CRC-32C of a file.

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

/// Whether the file still stands under its name.
#[derive(Debug)]
enum Hold {
    Named,
    /// Renamed, replaced or removed, and held open for the readers that were on it.
    Kept(Arc<dyn StorageFile>),
    /// Removed while nobody held it: a reader that comes upon it looks its offset up anew.
    Gone,
}

/// Where the index entries are.
#[derive(Debug)]
enum Index {
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

    /// The files of an unnamed segment have their names.
    pub(crate) fn settle(&self) {
        *self.hold.lock() = Hold::Named;
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
        if let Err(source) = self.write_behind(&*file, batch, position, position + size_bytes) {
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

    fn replace_index(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
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

    /// The whole `.log` of a sealed segment, mapped; `None` where it is to be read by position.
    pub(crate) fn view(&self) -> io::Result<Option<FileView>> {
        if let Some(view) = self.view.get() {
            return Ok(Some(view.clone()));
        }
        if !self.home.maps || !self.is_sealed() {
            return Ok(None);
        }
        let hold = self.hold.lock();
        if let Some(view) = self.view.get() {
            return Ok(Some(view.clone()));
        }
        let file = match &*hold {
            Hold::Named => self.log.get()?,
            Hold::Kept(file) => Arc::clone(file),
            Hold::Gone => return Err(io::ErrorKind::NotFound.into()),
        };
        let view = file.view(self.size() as usize)?;
        let view = self.view.get_or_init(|| view).clone();
        drop(hold);
        self.log.close_if_clean();
        Ok(Some(view))
    }

    /// The open `.log`, to be read by position; `NotFound` once it is gone.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn StorageFile>> {
        match &*self.hold.lock() {
            Hold::Named => self.log.get(),
            Hold::Kept(file) => Ok(Arc::clone(file)),
            Hold::Gone => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes the `.log` durable; nothing to do for one that is on its way out.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match &*self.hold.lock() {
            Hold::Named => {}
            Hold::Kept(_) | Hold::Gone => return Ok(()),
        }
        match self.log.sync_data() {
            // Its names went in between: it could not be opened by them, or nobody needs to know
            // what became of its bytes.
            Err(_) if !self.is_named() => return Ok(()),
            synced => synced?,
        }
        if self.is_sealed() {
            self.log.close_if_clean();
        }
        Ok(())
    }

    /// Lets the descriptor go; it opens again when used.
    pub(crate) fn close_file(&self) {
        self.log.close();
    }

    /// Whether the files under its names are its own. With `index_files` held it stays so.
    pub(crate) fn is_named(&self) -> bool {
        matches!(&*self.hold.lock(), Hold::Named)
    }

    /// Before the files are renamed, replaced or removed: where a reader may be on the segment, it
    /// is opened for good.
    pub(crate) fn prepare_removal(self: &Arc<Self>, references: usize) -> io::Result<()> {
        let _no_index_is_written = self.index_files.lock();
        let mut hold = self.hold.lock();
        if matches!(&*hold, Hold::Named) {
            let is_held = Arc::strong_count(self) > references;
            *hold = if is_held {
                Hold::Kept(self.log.get()?)
            } else {
                Hold::Gone
            };
        }
        drop(hold);
        self.log.close();
        Ok(())
    }

    /// As [`prepare_removal`](Self::prepare_removal) where the directory goes as a whole: a file
    /// that cannot be opened for its readers is lost to them.
    pub(crate) fn give_up(self: &Arc<Self>, references: usize) {
        if self.prepare_removal(references).is_err() {
            *self.hold.lock() = Hold::Gone;
            self.log.close();
        }
    }

    /// From now on nothing is written to the files of the segment: they may be another process's.
    pub(crate) fn end_writes(&self) {
        *self.index_files.lock() = false;
        self.end_zeros_ahead();
    }
}

#[cfg(test)]
mod tests;
