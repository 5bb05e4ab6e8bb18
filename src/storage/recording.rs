//! A disk for tests that records its calls and can run an action before one of them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Access, DirEntry, FileLock, FileMetadata, FileView, Storage, StorageFile, sealed};
use crate::sync::Mutex;

type Action = Box<dyn FnOnce() + Send>;

/// The calls so far, and an action to run before a later one.
#[derive(Default)]
struct Calls {
    made: Mutex<Vec<(&'static str, PathBuf)>>,
    largest_read: AtomicUsize,
    pending: Mutex<Option<(usize, Action)>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("made", &self.made.lock().len())
            .finish_non_exhaustive()
    }
}

impl Calls {
    fn note(&self, call: &'static str, path: &Path) {
        let number = {
            let mut made = self.made.lock();
            made.push((call, path.to_owned()));
            made.len() - 1
        };
        let due = self.pending.lock().take_if(|(at, _)| *at <= number);
        if let Some((_, action)) = due {
            action();
        }
    }
}

/// Another disk, and the calls that were made through this handle, with their paths.
#[derive(Clone, Debug)]
pub(crate) struct RecordingDisk {
    inner: Arc<dyn Storage>,
    calls: Arc<Calls>,
}

#[derive(Debug)]
struct RecordingFile {
    inner: Arc<dyn StorageFile>,
    path: PathBuf,
    calls: Arc<Calls>,
}

impl RecordingDisk {
    pub(crate) fn over(inner: impl Storage) -> Self {
        Self {
            inner: Arc::new(inner),
            calls: Arc::default(),
        }
    }

    /// Returns another handle of the same disk, which records its own calls.
    pub(crate) fn beside(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            calls: Arc::default(),
        }
    }

    /// Returns the calls since they were last taken.
    pub(crate) fn take(&self) -> Vec<(&'static str, PathBuf)> {
        std::mem::take(&mut self.calls.made.lock())
    }

    /// Returns the largest number of bytes that one read requested.
    pub(crate) fn largest_read(&self) -> usize {
        self.calls.largest_read.load(Ordering::SeqCst)
    }

    /// Runs `action` before the call with this number, counted from the last call of
    /// [`take`](Self::take).
    pub(crate) fn before_call(&self, number: usize, action: impl FnOnce() + Send + 'static) {
        *self.calls.pending.lock() = Some((number, Box::new(action)));
    }

    /// Returns whether the action has not run yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.calls.pending.lock().is_some()
    }

    fn note(&self, call: &'static str, path: &Path) {
        self.calls.note(call, path);
    }
}

impl sealed::Sealed for RecordingDisk {}
impl sealed::Sealed for RecordingFile {}

impl Storage for RecordingDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.note(
            if access == Access::Read {
                "open to read"
            } else {
                "open to write"
            },
            path,
        );
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(RecordingFile {
            inner,
            path: path.to_owned(),
            calls: Arc::clone(&self.calls),
        }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.note("metadata", path);
        self.inner.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.note("list", dir);
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note("create directory", dir);
        self.inner.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", from);
        self.inner.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("link", to);
        self.inner.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path);
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note("remove", dir);
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync", dir);
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.note("lock", path);
        self.inner.lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.inner.lock_holder(path)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }
    fn view_unit(&self) -> Option<u32> {
        self.inner.view_unit()
    }
}

impl RecordingFile {
    fn note(&self, call: &'static str) {
        self.calls.note(call, &self.path);
    }
}

impl StorageFile for RecordingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.note("read");
        self.calls
            .largest_read
            .fetch_max(buffer.len(), Ordering::SeqCst);
        self.inner.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.note("write");
        self.inner.write_all_at(bytes, position)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.note("metadata");
        self.inner.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.note("set length");
        self.inner.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.note("sync");
        self.inner.sync_data()
    }
    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.note("view");
        self.inner.view(bytes)
    }
    fn view_in_place(&self, bytes: usize) -> io::Result<Option<FileView>> {
        self.note("view");
        self.inner.view_in_place(bytes)
    }
    fn is_viewed(&self) -> bool {
        self.inner.is_viewed()
    }
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.note("drop cache");
        self.inner.drop_cache(position)
    }
}
