//! The real disk: `std::fs`, read-only mappings and advisory locks. The only file with `unsafe` in
//! it.
//!
//! Promises what [`Storage`] says, on Linux and (with `F_FULLFSYNC`, which std's syncs are there)
//! on macOS. The lock is one of the open file description (`F_OFD_SETLK`): it shuts out a second
//! open in the same process as well as a broker, which takes a POSIX lock on the same file, and no
//! other close of the file drops it. Elsewhere it is `flock`.

#![expect(
    unsafe_code,
    reason = "mappings and locks are calls of the system; each block says why it is sound"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this is the door that the others go through"
)]

#[cfg(not(unix))]
compile_error!(
    "annals builds on Linux and macOS only: it needs positional reads and writes, renames over open files and advisory locks"
);

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Timestamp;

use mapping::Mapping;

use super::{
    Access, DirEntry, FileLock, FileMetadata, FileView, Storage, StorageFile, is_unsupported,
    sealed,
};

pub(super) mod mapping;

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl sealed::Sealed for Disk {}

impl Storage for Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(DiskFile(open(path, access)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        let metadata = fs::metadata(path)?;
        let is_dir = metadata.is_dir();
        let bytes = if is_dir { 0 } else { metadata.len() };
        Ok(FileMetadata {
            bytes,
            modified: metadata.modified()?.into(),
            id: id_of(&metadata),
            is_dir,
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let entry = |found: io::Result<fs::DirEntry>| {
            let found = found?;
            let kind = found.file_type()?;
            // A link may lead to a partition's directory on another disk; one that leads nowhere is
            // no directory.
            let is_dir = kind.is_dir()
                || (kind.is_symlink()
                    && fs::metadata(found.path()).is_ok_and(|target| target.is_dir()));
            Ok(DirEntry {
                name: found.file_name().to_string_lossy().into_owned(),
                is_dir,
            })
        };
        fs::read_dir(dir)?.map(entry).collect()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        if fs::symlink_metadata(dir)?.is_symlink() {
            remove_linked(dir)
        } else {
            fs::remove_dir_all(dir)
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // The file system has no sync for directories, and keeps names as well as it can.
            Err(error) if is_unsupported(&error) => Ok(()),
            synced => synced,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        loop {
            let file = open(path, Access::OpenOrCreate)?;
            advisory::lock(&file)?;
            // A broker that stops removes the file: who opened it before and locked it after would
            // hold a lock on nothing.
            if is_at(&file, path)? {
                return Ok(Box::new(DiskLock(file, process::id())));
            }
        }
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        advisory::holder(&open(path, Access::Read).ok()?)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }
}

/// The number of the inode, which is given out again once a file is gone, and when it was made,
/// where that is known.
fn id_of(metadata: &fs::Metadata) -> u64 {
    let born: Option<Timestamp> = metadata.created().ok().map(Into::into);
    let mut hasher = DefaultHasher::new();
    (
        metadata.dev(),
        metadata.ino(),
        born.map(Timestamp::as_millis),
    )
        .hash(&mut hasher);
    hasher.finish()
}

fn open(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(access != Access::Read);
    options
        .create_new(access == Access::CreateNew)
        .create(access == Access::OpenOrCreate);
    options.open(path)
}

/// Whether `path` still names the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a link to a directory with the directory that it leads to. The link goes last: while
/// anything is left, it leads there.
fn remove_linked(link: &Path) -> io::Result<()> {
    match fs::canonicalize(link) {
        Ok(target) => remove_target(&target)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::remove_file(link)
}

fn remove_target(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(path)?
        } else {
            fs::remove_file(path)?
        }
    }
    match fs::remove_dir(dir) {
        // A mount point stays, empty, and so does a directory in a place that is not ours to
        // change.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ResourceBusy | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

/// Whether a file could not be opened because the process or the machine has too many open.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[derive(Debug)]
struct DiskFile(File);

impl sealed::Sealed for DiskFile {}

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, position.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        // Goes on after short writes and interrupts.
        self.0.write_all_at(bytes, position)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn view(&self, bytes: usize) -> io::Result<FileView> {
        if bytes == 0 {
            return Ok(FileView::from_bytes([]));
        }
        // Beyond the end of the file a mapping has pages whose first touch kills the process.
        if self.bytes()? < bytes as u64 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match Mapping::new(&self.0, bytes) {
            Ok(mapping) => Ok(FileView::from_mapping(mapping)),
            // No address space, too many mappings, or a file system that cannot.
            Err(_) => self.copy(bytes),
        }
    }

    fn set_modified(&self, at: Timestamp) -> io::Result<()> {
        match u64::try_from(at.as_millis()) {
            Ok(millis) => self
                .0
                .set_modified(UNIX_EPOCH + Duration::from_millis(millis)),
            // Before there were clocks.
            Err(_) => Ok(()),
        }
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        drop_cache(&self.0, position)
    }
}

impl DiskFile {
    /// The first `bytes` bytes, read.
    fn copy(&self, bytes: usize) -> io::Result<FileView> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes)?;
        copy.resize(bytes, 0);
        if self.read_at(&mut copy, 0)? < bytes {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(FileView::from_shared(Arc::new(copy), bytes))
    }
}

#[cfg(target_os = "linux")]
fn drop_cache(file: &File, position: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    /// Only pages that lie wholly in the range are dropped, and the cache may hold them in larger
    /// units: up to 2 MiB.
    const UNIT: u64 = 2 << 20;
    let start =
        libc::off_t::try_from(position / UNIT * UNIT).map_err(|_| ErrorKind::InvalidInput)?;
    // SAFETY: takes no pointer, and the descriptor is open while `file` is borrowed. It changes no
    // content: mapped pages and those not yet written stay.
    let code =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), start, 0, libc::POSIX_FADV_DONTNEED) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

#[cfg(not(target_os = "linux"))]
fn drop_cache(_file: &File, _position: u64) -> io::Result<()> {
    Ok(())
}

/// A locked file, and the process that locked it.
#[derive(Debug)]
struct DiskLock(File, u32);

impl FileLock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // A forked child shares the lock, which is its parent's to give back.
        if self.1 != process::id() {
            return;
        }
        // Closing alone is not enough while a child between fork and exec has a copy of the
        // descriptor. If this fails, the close that follows is what is left.
        let _closed_anyway = advisory::unlock(&self.0);
    }
}

/// Locks of the open file description, over the whole file.
#[cfg(target_os = "linux")]
mod advisory {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind};
    use std::mem;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::process;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the constants are 0, 1 and 2, the field is a short"
    )]
    fn request(kind: libc::c_int) -> libc::flock {
        // SAFETY: a plain C structure of integers, for which zeros are valid.
        let mut request: libc::flock = unsafe { mem::zeroed() };
        // Start and length 0, from the beginning of the file, mean all of it.
        request.l_type = kind as libc::c_short;
        request.l_whence = libc::SEEK_SET as libc::c_short;
        request
    }

    fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
        let request = request(kind);
        // SAFETY: the descriptor is open while `file` is borrowed, and `request` is what this
        // command reads.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(super) fn lock(file: &File) -> io::Result<()> {
        set(file, libc::F_WRLCK).map_err(|error| match error.raw_os_error() {
            // POSIX allows either.
            Some(libc::EAGAIN | libc::EACCES) => ErrorKind::WouldBlock.into(),
            _ => error,
        })
    }

    pub(super) fn unlock(file: &File) -> io::Result<()> {
        set(file, libc::F_UNLCK)
    }

    /// The process that holds the file: one that has a POSIX lock on it, as a broker has, or this
    /// one. A lock of an open file description in another process does not say whose it is.
    pub(super) fn holder(file: &File) -> Option<u32> {
        posix_holder(file).or_else(|| is_held_here(file).unwrap_or(false).then(process::id))
    }

    /// Whether a descriptor of this process has the lock, as the system lists it.
    fn is_held_here(file: &File) -> io::Result<bool> {
        let asked = file.metadata()?;
        for descriptor in fs::read_dir("/proc/self/fd")? {
            let descriptor = descriptor?;
            // It may be closed by now.
            let Ok(found) = fs::metadata(descriptor.path()) else {
                continue;
            };
            if (found.dev(), found.ino()) == (asked.dev(), asked.ino())
                && let Ok(facts) =
                    fs::read_to_string(Path::new("/proc/self/fdinfo").join(descriptor.file_name()))
                && facts.lines().any(|fact| fact.starts_with("lock:"))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn posix_holder(file: &File) -> Option<u32> {
        let mut request = request(libc::F_WRLCK);
        // SAFETY: the descriptor is open while `file` is borrowed, and `request` is what this
        // command reads and writes.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
        let is_held = code == 0 && libc::c_int::from(request.l_type) != libc::F_UNLCK;
        // -1 for a lock without a process, 0 for a process outside our namespace.
        u32::try_from(request.l_pid)
            .ok()
            .filter(|pid| is_held && *pid != 0)
    }
}

/// `flock`, which belongs to the open file too.
#[cfg(not(target_os = "linux"))]
mod advisory {
    use std::fs::File;
    use std::io;

    pub(super) fn lock(file: &File) -> io::Result<()> {
        Ok(file.try_lock()?)
    }

    pub(super) fn unlock(file: &File) -> io::Result<()> {
        file.unlock()
    }

    pub(super) fn holder(_file: &File) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests;
