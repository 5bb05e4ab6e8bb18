//! A bounded number of open files: beyond it the least recently used is synced and closed, and
//! opens again when it is used next.
//!
//! Thousands of partitions thus work under a small limit of descriptors. Promises:
//!
//! - A file that was written is closed to make room only after it was synced, since a write-back
//!   error may be forgotten with the last descriptor of the file. If that sync fails, the owner is
//!   told ([`PooledFile::take_sync_error`]).
//! - A file that is in use (somebody holds what [`PooledFile::get`] gave) is never closed to make
//!   room: that would free no descriptor. So there can be more files open than the bound, by as
//!   many as are in use at that moment.
//! - Getting a file that is open takes its own lock and no other.
//!
//! Locks are taken in one order: the turn to sync a file, then its state, then the list of open
//! files; and never those of two files at once. "Recently" is what a clock hand sees: a file used
//! since the hand last passed stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{Access, Storage, StorageFile, disk};

#[cfg(test)]
mod tests;

/// All files of a log that are open for long.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    storage: Arc<dyn Storage>,
    max_open: usize,
    list: Mutex<OpenList>,
}

#[derive(Debug, Default)]
struct OpenList {
    open: Vec<Arc<Slot>>,
    /// Files that are about to open, for which room was made.
    opening: usize,
    /// Where in `open` the hand of the clock stands.
    hand: usize,
}

/// The part of a pooled file that the list of open files shares.
#[derive(Debug)]
struct Slot {
    path: Box<Path>,
    is_read_only: bool,
    /// The file that it is to be, by `FileMetadata::id`. Unset: whichever has the name.
    id: OnceLock<u64>,
    was_used: AtomicBool,
    /// Written since the last sync began.
    is_dirty: AtomicBool,
    /// Held while the file is synced, so that an error that the system reports once reaches whoever
    /// must know.
    sync_turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn StorageFile>>,
    sync_failed: bool,
    sync_error: Option<io::Error>,
}

impl OpenFiles {
    /// At most `max_open` files open, those in use at the moment not counted.
    pub(crate) fn new(storage: Arc<dyn Storage>, max_open: usize) -> Arc<Self> {
        Arc::new(Self {
            storage,
            max_open: max_open.max(1),
            list: Mutex::default(),
        })
    }

    /// Opens a file for which room was made, and closes others if the system has no descriptor
    /// left.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        loop {
            match self.storage.open(path, access) {
                Err(error) if disk::is_out_of_descriptors(&error) && self.close_one() => {}
                opened => return opened,
            }
        }
    }

    /// Reserves the place of one open file, closing others until there is room or all are in use.
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

    /// Closes one file that is not in use, rather one that was not used for long. `false` if there
    /// is none.
    fn close_one(&self) -> bool {
        // Once around to take the marks of use away, once more to find a file without.
        let attempts = 2 * self.list.lock().open.len();
        (0..attempts).any(|_| {
            let slot = self.list.lock().pass();
            slot.is_some_and(|slot| slot.close_if_unused(self))
        })
    }
}

impl OpenList {
    /// Moves the hand over one file, and returns it if it was not used since the last time.
    fn pass(&mut self) -> Option<Arc<Slot>> {
        if self.hand >= self.open.len() {
            self.hand = 0;
        }
        let slot = self.open.get(self.hand)?;
        self.hand += 1;
        (!slot.was_used.swap(false, Ordering::Relaxed)).then(|| Arc::clone(slot))
    }

    fn remove(&mut self, slot: &Slot) {
        if let Some(place) = self
            .open
            .iter()
            .position(|open| std::ptr::eq(&raw const **open, slot))
        {
            self.open.swap_remove(place);
        }
    }
}

/// The place of a file that is about to open; given back on drop, whether or not it did.
struct Reservation<'a>(&'a OpenFiles);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.list.lock().opening -= 1;
    }
}

impl Slot {
    /// Syncs what was written and records a failure.
    fn sync(&self, file: &dyn StorageFile) -> io::Result<()> {
        // Before the sync, so that what is written while it runs counts for the next one. The swap
        // sees every write whose mark it takes away.
        self.is_dirty.swap(false, Ordering::AcqRel);
        file.sync_data()
            .inspect_err(|_| self.state.lock().sync_failed = true)
    }

    /// Makes room: closes the file, after syncing it if it was written. Whether it is closed now.
    fn close_if_unused(&self, files: &OpenFiles) -> bool {
        if self.close_if_clean(files) {
            return true;
        }
        // Whoever else syncs the file is using it.
        let Some(_turn) = self.sync_turn.try_lock() else {
            return false;
        };
        let Some(file) = self.state.lock().unused().cloned() else {
            return false;
        };
        // Without the lock of the state, so that nobody who wants to read the file waits for the
        // device.
        if let Err(error) = self.sync(&*file) {
            self.state.lock().sync_error = Some(error);
        }
        drop(file);
        self.close_if_clean(files)
    }

    /// Closes the file unless it is in use or dirty. Whether it is closed now.
    fn close_if_clean(&self, files: &OpenFiles) -> bool {
        let mut state = self.state.lock();
        if state.file.is_none() {
            return true;
        }
        // Nobody holds the file, so every mark of a write is visible here. After a failed sync
        // another would prove nothing.
        let is_closable = state.unused().is_some()
            && (state.sync_failed || !self.is_dirty.load(Ordering::Acquire));
        if is_closable {
            state.close(self, files);
        }
        is_closable
    }
}

impl State {
    /// The open file, if nobody but its slot holds it. As long as the state is locked, nobody can
    /// get it.
    fn unused(&mut self) -> Option<&Arc<dyn StorageFile>> {
        let file = self.file.as_mut()?;
        // Unlike a look at the count, this sees all that former holders did.
        Arc::get_mut(file)?;
        Some(file)
    }

    /// The descriptor is gone before the place in the list is.
    fn close(&mut self, slot: &Slot, files: &OpenFiles) {
        if self.file.take().is_some() {
            files.list.lock().remove(slot);
        }
    }
}

/// A file that is open only while it is used. Costs no descriptor before its first use.
///
/// Dropping it closes the file without a sync.
#[derive(Debug)]
pub(crate) struct PooledFile {
    files: Arc<OpenFiles>,
    slot: Arc<Slot>,
}

impl PooledFile {
    /// For a file that exists (`Access::Write`, or `Access::Read` for `read_only`).
    pub(crate) fn new(files: &Arc<OpenFiles>, path: PathBuf, read_only: bool) -> Self {
        let slot = Slot {
            path: path.into_boxed_path(),
            is_read_only: read_only,
            id: OnceLock::new(),
            was_used: AtomicBool::new(false),
            is_dirty: AtomicBool::new(false),
            sync_turn: Mutex::default(),
            state: Mutex::default(),
        };
        Self {
            files: Arc::clone(files),
            slot: Arc::new(slot),
        }
    }

    /// Creates the file now (`Access::CreateNew`) and keeps it open.
    pub(crate) fn create(files: &Arc<OpenFiles>, path: PathBuf) -> io::Result<Self> {
        let created = Self::new(files, path, false);
        created.open(Access::CreateNew)?;
        Ok(created)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.slot.path
    }

    /// From now on the file of this [`id`](super::FileMetadata::id) is opened, and no other that
    /// takes its name: `NotFound` then. The first call counts.
    pub(crate) fn expect(&self, id: u64) {
        let _first_wins = self.slot.id.set(id);
    }

    /// The id of the file that is expected, if one is.
    pub(crate) fn id(&self) -> Option<u64> {
        self.slot.id.get().copied()
    }

    /// The open file, opened now where needed; marks it as used. It stays open as long as the
    /// answer is held.
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

    /// Opens the file with no lock held: making room locks other files.
    #[cold]
    fn open(&self, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let _place = self.files.make_room();
        let opened = self.files.open(&self.slot.path, access)?;
        // After it was opened: a file that lost its name does not get it back.
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
        self.files.list.lock().open.push(Arc::clone(&self.slot));
        Ok(opened)
    }

    /// Tells that the file was written, so that it is synced before it is closed to make room. Call
    /// it before letting go of the file that was written through.
    pub(crate) fn mark_dirty(&self) {
        self.slot.is_dirty.store(true, Ordering::Release);
    }

    /// Makes durable all that was written before the call, and marks the file clean but for what is
    /// written meanwhile. Fails for ever once a sync failed, this one or one that made room.
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

    /// Closes the file now (no sync), if it is open. It opens again when used.
    pub(crate) fn close(&self) {
        self.slot.state.lock().close(&self.slot, &self.files);
    }

    /// Closes the file unless something that was written is yet to be synced: the error of a
    /// write-back can be lost with the descriptor.
    pub(crate) fn close_if_clean(&self) {
        if !self.slot.is_dirty.load(Ordering::Acquire) {
            self.close();
        }
    }

    /// A sync that had to be done while making room failed: the error, once.
    pub(crate) fn take_sync_error(&self) -> Option<io::Error> {
        self.slot.state.lock().sync_error.take()
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        self.close();
    }
}
