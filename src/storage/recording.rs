//! A disk for tests that writes down which calls it got.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, DirEntry, FileLock, FileMetadata, FileView, MemoryDisk, Storage, StorageFile, sealed};

type Calls = Arc<Mutex<Vec<(&'static str, PathBuf)>>>;

/// A disk in memory, and what was asked of it through this handle: the call, and the path.
#[derive(Clone, Debug)]
pub(crate) struct RecordingDisk {
    inner: MemoryDisk,
    calls: Calls,
}

#[derive(Debug)]
struct RecordingFile {
    inner: Arc<dyn StorageFile>,
    path: PathBuf,
    calls: Calls,
}

impl RecordingDisk {
    pub(crate) fn over(inner: MemoryDisk) -> Self {
        Self { inner, calls: Calls::default() }
    }

    /// The calls since the last time.
    pub(crate) fn take(&self) -> Vec<(&'static str, PathBuf)> {
        std::mem::take(&mut self.calls.lock())
    }

    fn note(&self, call: &'static str, path: &Path) {
        self.calls.lock().push((call, path.to_owned()));
    }
}

impl sealed::Sealed for RecordingDisk {}
impl sealed::Sealed for RecordingFile {}

impl Storage for RecordingDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.note(if access == Access::Read { "open to read" } else { "open to write" }, path);
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(RecordingFile { inner, path: path.to_owned(), calls: Arc::clone(&self.calls) }))
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
}

impl RecordingFile {
    fn note(&self, call: &'static str) {
        self.calls.lock().push((call, self.path.clone()));
    }
}

impl StorageFile for RecordingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.note("read");
        self.inner.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.note("write");
        self.inner.write_all_at(bytes, position)
    }
    fn bytes(&self) -> io::Result<u64> {
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
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.note("drop cache");
        self.inner.drop_cache(position)
    }
}
