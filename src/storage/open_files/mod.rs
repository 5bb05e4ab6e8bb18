//! A bounded number of open files. If more are needed, the least recently used file is closed, and
//! is opened again when it is used next.
//!
//! Thousands of partitions thus work with a small limit of descriptors. Guarantees:
//!
//! - The error of a failed write is not lost with the descriptor. On Linux the pool keeps such
//!   errors in memory without a descriptor ([`StorageFile::remember_errors`]), and the next sync of
//!   the file reports them. Where that is not possible, a file that was written is synced before it
//!   is closed to make room. If the sync fails, the owner gets the error
//!   ([`PooledFile::take_sync_error`]).
//! - A file in use, which means that a caller holds the result of [`PooledFile::get`], is never
//!   closed to make room, since that would not free its descriptor. The number of open files can
//!   therefore exceed the bound by the number of files in use.
//! - Getting a file that is open takes the lock of its state, and no other lock. A thread that
//!   writes again and again takes only the turn to write ([`PooledFile::write_turn`]), which keeps
//!   the file from one write to the next.
//!
//! Locks are taken in this order: the turn to sync a file, the turn to write it, its state, the
//! list of open files. A thread that holds such a lock waits for no lock of another file, except
//! that the holder of a turn to write may take the state of another file. A clock hand decides
//! which file was used recently: a file that was used since the hand last passed it stays open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Access, ErrorMemory, Storage, StorageFile, disk};
use crate::sync::{Mutex, MutexGuard};

#[cfg(test)]
mod tests;

/// The number of open files if the system does not state a limit.
const MAX_OPEN: usize = 512;

/// Returns how many files may stay open by default: half of the descriptors that the process may
/// have. The other half is for the rest of the program.
pub(crate) fn default_max_open() -> usize {
    disk::descriptor_limit().map_or(MAX_OPEN, |limit| (limit / 2).max(1))
}

/// The files of a log that stay open between calls.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    storage: Arc<dyn Storage>,
    max_open: usize,
    list: Mutex<OpenList>,
}

#[derive(Debug, Default)]
struct OpenList {
    open: Vec<Arc<Slot>>,
    /// The number of files that are being opened, for which room was made.
    opening: usize,
    /// The place of the clock hand in `open`.
    hand: usize,
}

/// The part of a [`PooledFile`] that is shared with the list of open files.
#[derive(Debug)]
struct Slot {
    path: Box<Path>,
    is_read_only: bool,
    /// The `FileMetadata::id` of the file. If unset, any file with the name is opened.
    id: OnceLock<u64>,
    was_used: AtomicBool,
    /// The place of the slot in `OpenList::open`, as long as it is there. Changed under the lock of
    /// the list.
    place: AtomicU32,
    /// Whether the file was written since the last sync began.
    is_dirty: AtomicBool,
    /// Held while the file is synced. The system reports an error once, and the thread that has the
    /// turn records it before another thread can sync.
    sync_turn: Mutex<()>,
    /// Held during each write. The file is kept between writes, until the pool needs its room.
    write_turn: Mutex<Option<Arc<dyn StorageFile>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn StorageFile>>,
    /// Keeps the errors of writes that were not synced yet, since the file was closed to make room.
    errors: Option<Box<dyn ErrorMemory>>,
    sync_failed: bool,
    sync_error: Option<io::Error>,
}

impl OpenFiles {
    /// Creates a pool with at most `max_open` open files, not counting files in use.
    pub(crate) fn new(storage: Arc<dyn Storage>, max_open: usize) -> Arc<Self> {
        Arc::new(Self {
            storage,
            max_open: max_open.max(1),
            list: Mutex::default(),
        })
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Opens a file for which room was made. Closes other files if the system has no free
    /// descriptor.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        loop {
            match self.storage.open(path, access) {
                Err(error) if disk::is_out_of_descriptors(&error) && self.close_one() => {}
                opened => return opened,
            }
        }
    }

    /// Reserves a place for one open file. Closes other files until there is room or all are in
    /// use.
    fn make_room(&self) -> Reservation<'_> {
        loop {
            let mut list = self.list.lock();
            let has_room = list.open.len() + list.opening < self.max_open;
            if has_room {
                list.opening += 1;
                return Reservation(self);
            }
            drop(list);
            if !self.close_one() {
                self.list.lock().opening += 1;
                return Reservation(self);
            }
        }
    }

    /// Closes one file that is not in use, if possible one that was not used recently. Returns
    /// `false` if all files are in use.
    fn close_one(&self) -> bool {
        // The first round clears the marks of use, the second finds a file without a mark.
        let attempts = 2 * self.list.lock().open.len();
        (0..attempts).any(|_| {
            let slot = self.list.lock().pass();
            slot.is_some_and(|slot| slot.close_if_unused(self))
        })
    }
}

impl OpenList {
    /// Moves the hand over one file, and returns the file if it was not used since the hand last
    /// passed it.
    fn pass(&mut self) -> Option<Arc<Slot>> {
        if self.hand >= self.open.len() {
            self.hand = 0;
        }
        let slot = self.open.get(self.hand)?;
        self.hand += 1;
        (!slot.was_used.swap(false, Ordering::Relaxed)).then(|| Arc::clone(slot))
    }

    fn add(&mut self, slot: Arc<Slot>) {
        slot.set_place(self.open.len());
        self.open.push(slot);
    }

    fn remove(&mut self, slot: &Slot) {
        let place = slot.place.load(Ordering::Relaxed) as usize;
        let found = self.open.get(place);
        if !found.is_some_and(|open| std::ptr::eq(&raw const **open, slot)) {
            debug_assert!(false, "an open file is in the list, at its place");
            return;
        }
        self.open.swap_remove(place);
        if let Some(moved) = self.open.get(place) {
            moved.set_place(place);
        }
    }
}

/// The place of a file that is being opened. Dropping it releases the place, whether or not the
/// file was opened.
struct Reservation<'a>(&'a OpenFiles);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.list.lock().opening -= 1;
    }
}

impl Slot {
    /// Notes the place in the list, whose lock is held.
    fn set_place(&self, place: usize) {
        let Ok(place) = u32::try_from(place) else {
            unreachable!("a process has fewer descriptors")
        };
        self.place.store(place, Ordering::Relaxed);
    }

    /// Syncs the file and records a failure.
    fn sync(&self, file: &dyn StorageFile) -> io::Result<()> {
        // We clear the mark before the sync, so that a write during the sync leaves a mark for the
        // next one. The swap synchronizes with each write whose mark it clears.
        self.is_dirty.swap(false, Ordering::AcqRel);
        let synced = file.sync_data();
        let mut state = self.state.lock();
        state.sync_failed |= synced.is_err();
        // The file is open, so the errors of writes since then are kept with its descriptor.
        state.errors = None;
        synced
    }

    /// Closes the file to make room, if necessary after a sync. Returns whether it is closed.
    fn close_if_unused(&self, files: &OpenFiles) -> bool {
        if self.close_if_safe(files) {
            return true;
        }
        // Another thread that syncs the file also uses it.
        let Some(_turn) = self.sync_turn.try_lock() else {
            return false;
        };
        if !self.give_up_write() {
            return false;
        }
        let Some(file) = self.state.lock().unused().cloned() else {
            return false;
        };
        // The state is not locked here, so that readers of the file do not wait for the device.
        if let Err(error) = self.sync(&*file) {
            self.state.lock().sync_error = Some(error);
        }
        drop(file);
        self.close_if_safe(files)
    }

    /// Closes the file unless it is in use, or it is dirty and its errors could be lost. Returns
    /// whether it is closed.
    fn close_if_safe(&self, files: &OpenFiles) -> bool {
        if !self.give_up_write() {
            return false;
        }
        let mut state = self.state.lock();
        if state.file.is_none() {
            return true;
        }
        // The file has no other holder, so every mark of a write is visible here. After a failed
        // sync the file is closed even if it is dirty, since another sync would prove nothing.
        let is_closable = state.unused().is_some()
            && (state.sync_failed
                || !self.is_dirty.load(Ordering::Acquire)
                || state.remembers_errors());
        if is_closable {
            state.close(self, files);
        }
        is_closable
    }
}

impl Slot {
    /// Drops the file that is kept for the next write. Returns `false` if a thread is writing.
    fn give_up_write(&self) -> bool {
        let turn = self.write_turn.try_lock();
        turn.map(|mut kept| drop(kept.take())).is_some()
    }
}

impl State {
    /// Returns the open file if only its slot holds it. No thread can get the file while the state
    /// is locked.
    fn unused(&mut self) -> Option<&Arc<dyn StorageFile>> {
        let file = self.file.as_mut()?;
        // Unlike `Arc::strong_count`, this synchronizes with everything that former holders did.
        Arc::get_mut(file)?;
        Some(file)
    }

    /// Returns whether the errors of the open file are kept when it is closed.
    fn remembers_errors(&mut self) -> bool {
        if self.errors.is_none() {
            self.errors = self
                .file
                .as_ref()
                .and_then(|file| file.remember_errors().ok());
        }
        self.errors.is_some()
    }

    /// Closes the file, and then removes it from the list.
    fn close(&mut self, slot: &Slot, files: &OpenFiles) {
        if self.file.take().is_some() {
            files.list.lock().remove(slot);
        }
    }
}

/// A file that the pool opens on use and closes to make room. It has no descriptor before its first
/// use.
///
/// Dropping it closes the file without a sync.
#[derive(Debug)]
pub(crate) struct PooledFile {
    files: Arc<OpenFiles>,
    slot: Arc<Slot>,
}

impl PooledFile {
    /// Creates a handle of an existing file. It opens with `Access::Write`, or with `Access::Read`
    /// if `read_only` is set.
    pub(crate) fn new(files: &Arc<OpenFiles>, path: PathBuf, read_only: bool) -> Self {
        let slot = Slot {
            path: path.into_boxed_path(),
            is_read_only: read_only,
            id: OnceLock::new(),
            was_used: AtomicBool::new(false),
            place: AtomicU32::new(0),
            is_dirty: AtomicBool::new(false),
            sync_turn: Mutex::default(),
            write_turn: Mutex::default(),
            state: Mutex::default(),
        };
        Self {
            files: Arc::clone(files),
            slot: Arc::new(slot),
        }
    }

    /// Creates the file with `Access::CreateNew` and opens it.
    pub(crate) fn create(files: &Arc<OpenFiles>, path: PathBuf) -> io::Result<Self> {
        let created = Self::new(files, path, false);
        created.open(Access::CreateNew)?;
        Ok(created)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.slot.path
    }

    /// Restricts the handle to the file with this [`id`](super::FileMetadata::id). If another file
    /// has the name, opening fails with `NotFound`. Later calls have no effect.
    pub(crate) fn expect(&self, id: u64) {
        let _first_wins = self.slot.id.set(id);
    }

    /// Returns the id of the expected file, if it was set.
    pub(crate) fn id(&self) -> Option<u64> {
        self.slot.id.get().copied()
    }

    /// Returns the file, opens it if necessary, and marks it as used. The file stays open as long
    /// as the result is held.
    pub(crate) fn get(&self) -> io::Result<Arc<dyn StorageFile>> {
        if let Some(file) = &self.slot.state.lock().file {
            self.slot.was_used.store(true, Ordering::Relaxed);
            return Ok(Arc::clone(file));
        }
        self.open(if self.slot.is_read_only {
            Access::Read
        } else {
            Access::Write
        })
    }

    /// Waits for the thread that has the turn to write, and takes its place.
    #[inline]
    pub(crate) fn write_turn(&self) -> WriteTurn<'_> {
        WriteTurn {
            file: self,
            kept: self.slot.write_turn.lock(),
        }
    }

    /// Opens the file. The caller holds no lock of a file except its turn to write, since making
    /// room locks other files.
    #[cold]
    fn open(&self, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let _place = self.files.make_room();
        let opened = self.files.open(&self.slot.path, access)?;
        // We compare ids after opening: a file that has lost its name does not get it back.
        if let Some(id) = self.id()
            && self.files.storage.metadata(&self.slot.path)?.id != id
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.slot.state.lock();
        self.slot.was_used.store(true, Ordering::Relaxed);
        if let Some(file) = &state.file {
            // Another thread was faster.
            return Ok(Arc::clone(file));
        }
        state.file = Some(Arc::clone(&opened));
        self.files.list.lock().add(Arc::clone(&self.slot));
        Ok(opened)
    }

    /// Marks the file as written, so that it is synced before it is closed to make room. The caller
    /// must still hold the result of [`get`](Self::get) through which it wrote.
    pub(crate) fn mark_dirty(&self) {
        self.slot.is_dirty.store(true, Ordering::Release);
    }

    /// Makes all writes before the call durable. The file is clean afterwards, unless it was
    /// written in the meantime.
    ///
    /// Once a sync of the file has failed, this one or one that made room, all later calls fail.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        let file = self.get()?;
        let _turn = self.slot.sync_turn.lock();
        if self.slot.state.lock().sync_failed {
            return Err(self
                .take_sync_error()
                .unwrap_or_else(|| io::Error::other("an earlier sync of this file failed")));
        }
        self.slot.sync(&*file)
    }

    /// Closes the file without a sync, if it is open. It is opened again on its next use.
    pub(crate) fn close(&self) {
        *self.slot.write_turn.lock() = None;
        let mut state = self.slot.state.lock();
        state.close(&self.slot, &self.files);
        state.errors = None;
    }

    /// Closes the file unless it has writes that are not synced: the system may forget a write-back
    /// error with the descriptor.
    pub(crate) fn close_if_clean(&self) {
        if !self.slot.is_dirty.load(Ordering::Acquire) {
            self.close();
        }
    }

    /// Returns the error of a sync that failed while making room. Returns it once.
    pub(crate) fn take_sync_error(&self) -> Option<io::Error> {
        self.slot.state.lock().sync_error.take()
    }
}

/// The turn to write a file. Other threads wait until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteTurn<'a> {
    file: &'a PooledFile,
    kept: MutexGuard<'a, Option<Arc<dyn StorageFile>>>,
}

impl WriteTurn<'_> {
    /// Returns the file as [`PooledFile::get`] does, marks it as written, and keeps it for the next
    /// write.
    #[inline]
    pub(crate) fn file(&mut self) -> io::Result<&dyn StorageFile> {
        if self.kept.is_none() {
            *self.kept = Some(self.file.get()?);
        }
        let Some(file) = &*self.kept else {
            unreachable!("the file is kept from now on")
        };
        self.file.slot.was_used.store(true, Ordering::Relaxed);
        self.file.mark_dirty();
        Ok(&**file)
    }
}

/// Marks the file again: a sync may have taken the mark away before the write.
impl Drop for WriteTurn<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.kept.is_some() {
            self.file.mark_dirty();
        }
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        self.close();
    }
}
