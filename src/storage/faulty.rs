//! A disk for tests that fails at one call, or from one call on.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::clock::Timestamp;
use crate::sync::Mutex;

use super::{
    Access, DirEntry, FileLock, FileMetadata, FileView, MemoryDisk, Storage, StorageFile, sealed,
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// One call that changes something fails.
    Any,
    /// One call that changes something fails, and all later ones.
    AnyForGood,
    /// One call that needs room fails. A write that fails writes half of its bytes.
    Full,
    /// One call that needs room fails, and all later ones.
    FullForGood,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Any | Self::AnyForGood => io::Error::other("the device failed"),
            Self::Full | Self::FullForGood => ErrorKind::StorageFull.into(),
        }
    }

    fn is_for_good(self) -> bool {
        matches!(self, Self::AnyForGood | Self::FullForGood)
    }
}

/// Returns whether a call on this path is refused.
type Refuses = fn(&Path) -> bool;

/// Counts the calls that may fail, and fails one of them.
#[derive(Debug)]
struct Plan {
    fault: Mutex<Option<Fault>>,
    calls: AtomicUsize,
    fails_at: usize,
    /// Directories that cannot be synced, and the kind of the error.
    unsyncable: Mutex<Option<(Refuses, ErrorKind)>>,
    has_no_drop_cache: AtomicBool,
    has_no_views: AtomicBool,
    /// The kind of the error of each hard link.
    no_links: Mutex<Option<ErrorKind>>,
}

impl Plan {
    fn check(&self, needs_room: bool) -> io::Result<()> {
        let Some(fault) = *self.fault.lock() else {
            return Ok(());
        };
        if !needs_room && matches!(fault, Fault::Full | Fault::FullForGood) {
            return Ok(());
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = call == self.fails_at || call > self.fails_at && fault.is_for_good();
        if fails { Err(fault.error()) } else { Ok(()) }
    }
}

/// A disk in memory whose call number `fails_at` fails. Calls are counted from 0, while a fault is
/// set.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk {
    inner: MemoryDisk,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn StorageFile>,
    plan: Arc<Plan>,
}

impl FaultyDisk {
    pub(crate) fn failing_at(fails_at: usize) -> Self {
        let plan = Plan {
            fault: Mutex::new(None),
            calls: AtomicUsize::new(0),
            fails_at,
            unsyncable: Mutex::new(None),
            has_no_drop_cache: AtomicBool::new(false),
            has_no_views: AtomicBool::new(false),
            no_links: Mutex::new(None),
        };
        Self {
            inner: MemoryDisk::new(),
            plan: Arc::new(plan),
        }
    }

    /// Makes syncs fail of the directories for which `refuses` returns `true`.
    pub(crate) fn without_sync_of(self, refuses: Refuses, kind: ErrorKind) -> Self {
        *self.plan.unsyncable.lock() = Some((refuses, kind));
        self
    }

    /// Makes hard links fail, as between two file systems.
    pub(crate) fn without_links(self, kind: ErrorKind) -> Self {
        *self.plan.no_links.lock() = Some(kind);
        self
    }

    /// Makes the disk behave as a system without `posix_fadvise`.
    pub(crate) fn without_drop_cache(self) -> Self {
        self.plan.has_no_drop_cache.store(true, Ordering::SeqCst);
        self
    }

    /// Makes the disk behave as one that refuses to map growing files when it is asked.
    pub(crate) fn without_views(self) -> Self {
        self.plan.has_no_views.store(true, Ordering::SeqCst);
        self
    }

    /// Sets the way in which calls fail from now on; `None` for no more failures.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *self.plan.fault.lock() = fault;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.plan.calls.load(Ordering::SeqCst) > self.plan.fails_at
    }
}

impl sealed::Sealed for FaultyDisk {}
impl sealed::Sealed for FaultyFile {}

impl Storage for FaultyDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        if matches!(access, Access::CreateNew | Access::OpenOrCreate) {
            self.plan.check(true)?;
        }
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(FaultyFile {
            inner,
            plan: Arc::clone(&self.plan),
        }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.inner.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.check(true)?;
        if let Some(kind) = *self.plan.no_links.lock() {
            return Err(kind.into());
        }
        self.inner.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(false)?;
        if let Some((refuses, kind)) = *self.plan.unsyncable.lock()
            && refuses(dir)
        {
            return Err(kind.into());
        }
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.inner.lock_holder(path)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }
    fn view_unit(&self) -> Option<u32> {
        let asks = self.plan.has_no_views.load(Ordering::SeqCst);
        asks.then_some(512)
    }
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if let Err(error) = self.plan.check(true) {
            self.inner
                .write_all_at(&bytes[..bytes.len() / 2], position)?;
            return Err(error);
        }
        self.inner.write_all_at(bytes, position)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.sync_data()
    }
    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.inner.view(bytes)
    }
    fn view_in_place(&self, _bytes: usize) -> io::Result<Option<FileView>> {
        Ok(None)
    }
    fn set_modified(&self, at: Timestamp) -> io::Result<()> {
        self.inner.set_modified(at)
    }
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        if self.plan.has_no_drop_cache.load(Ordering::SeqCst) {
            return Err(ErrorKind::Unsupported.into());
        }
        self.inner.drop_cache(position)
    }
}
