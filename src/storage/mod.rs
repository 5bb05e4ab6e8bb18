//! All access to files: the traits [`Storage`] and [`StorageFile`].
//!
//! [`Disk`] implements them for the machine, [`MemoryDisk`] in memory, and `SimulatedDisk` for
//! tests with faults. All of them follow the rules of POSIX: a file that was removed or replaced
//! stays as it is while it is open, renames are atomic, and writes are positional. [`read_file`]
//! and [`replace_file`] are here so that no other code reads or replaces a whole file by hand. The
//! layers above decide what the bytes mean and when they must be durable.

use std::ffi::OsStr;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Timestamp;

pub(crate) mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod file_part;
mod file_view;
pub(crate) mod memory;
pub(crate) mod open_files;
#[cfg(test)]
pub(crate) mod recording;
#[cfg(any(test, feature = "simulation"))]
mod simulated;
#[cfg(test)]
mod tests;

pub use disk::Disk;
pub(crate) use file_part::FilePart;
pub(crate) use file_view::FileView;
pub use memory::MemoryDisk;
#[cfg(any(test, feature = "simulation"))]
pub use simulated::SimulatedDisk;

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The way in which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing. Fails with `AlreadyExists` if the file exists.
    CreateNew,
    /// An existing or a new file, for reading and writing.
    OpenOrCreate,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name of the entry. A name that is not UTF-8 has replacement characters.
    pub name: String,
    /// Whether the entry is a directory, or a link to one.
    pub is_dir: bool,
}

/// The metadata of a file, which is read without opening the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// The length in bytes, or 0 for a directory.
    pub bytes: u64,
    /// The time of the last write.
    pub modified: Timestamp,
    /// An id of the file. Files that have the same name one after the other have different ids.
    pub id: u64,
    /// Whether the file is a directory.
    pub is_dir: bool,
    /// The number of names of the file, or 1 for a directory. A file with several names must not be
    /// written in place, because the owner of another name may rely on its content.
    pub names: u64,
}

/// A disk. Sealed: it is implemented by [`Disk`], [`MemoryDisk`] and, with the feature
/// `simulation`, `SimulatedDisk`.
///
/// Calls may run at the same time, from any threads. Calls on one name are atomic: a thread that
/// opens a file while it is replaced gets the old file or the new one. An open file stays the same
/// file when its name is renamed, replaced or removed. Changes are durable only after a sync:
/// `StorageFile::sync_data` syncs the content of a file, and `sync_dir` the names in a directory.
pub trait Storage: sealed::Sealed + fmt::Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>>;
    /// Returns length, time, id and kind of a file. Fails with `NotFound` if it does not exist.
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata>;
    /// Returns the entries of a directory, in any order. Entries that are created or removed during
    /// the call may be missing or included.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory. Replaces an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` the second name `to`. Both names have the same file from then on.
    /// Fails with `AlreadyExists` if `to` exists, and with `CrossesDevices` if it is on another
    /// file system.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name of a file. The file is removed with its last name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and its content. If `dir` is a link to a directory, removes both the
    /// link and the directory.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the creations, renames and removals in a directory durable that returned before this
    /// call. Succeeds without effect if the file system cannot sync directories.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a file, which is created if it does not exist. Fails with
    /// `WouldBlock` if another opener holds the lock, in this process or another.
    ///
    /// Dropping the result releases the lock and keeps the file. The end of the process releases
    /// the lock as well.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;
    /// Returns the process id of the holder of a lock, if it is known.
    fn lock_holder(&self, path: &Path) -> Option<u32>;
    /// Returns the absolute path of a directory, without links.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// Returns the unit of bytes in which the start of a growing file may be viewed: such a view
    /// shares no page with the bytes that are still written. Returns `None` if a view would copy
    /// the bytes, or have them copied at the next write.
    fn view_unit(&self) -> Option<u32> {
        None
    }
}

/// An open file. Reads and writes name their position, so threads can share it. It is closed when
/// the last holder drops it.
///
/// Calls may run at the same time. A read during a write of the same bytes may return any mix of
/// old and new bytes. Readers therefore stay below an end that the writer published after its write
/// returned.
pub trait StorageFile: sealed::Sealed + fmt::Debug + Send + Sync {
    /// Reads at `position` and returns the number of bytes. It fills the buffer unless the file
    /// ends. Retries after `EINTR`.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all `bytes` at `position`. After an error, some of them may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Writes the pieces one after the other, from `position` on. After an error, some of their
    /// bytes may have been written.
    fn write_pieces_at(&self, pieces: &[&[u8]], mut position: u64) -> io::Result<()> {
        for piece in pieces {
            self.write_all_at(piece, position)?;
            position += piece.len() as u64;
        }
        Ok(())
    }
    /// Returns the length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Shortens the file, or extends it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes all writes durable that returned before this call, and the length as far as it is
    /// needed to read them. After an error it is unknown which writes are durable, and a later call
    /// that succeeds does not prove that they are.
    fn sync_data(&self) -> io::Result<()>;
    /// Returns the first `bytes` bytes, mapped if the disk supports it. The view stays valid after
    /// the file is closed or removed. Fails with `UnexpectedEof` if the file is shorter.
    ///
    /// The caller promises that this part of the file is never shortened or changed.
    fn view(&self, bytes: usize) -> io::Result<FileView>;
    /// Returns the first `bytes` bytes as [`view`](Self::view) does, or `None` if they would have
    /// to be copied.
    fn view_in_place(&self, bytes: usize) -> io::Result<Option<FileView>> {
        self.view(bytes).map(Some)
    }
    /// Returns whether this process has a view of the file that follows changes of its content.
    fn is_viewed(&self) -> bool {
        false
    }
    /// Drops cached pages from `position` on (and some before), so that a later read comes from the
    /// device. This is a hint: pages that are mapped or not yet synced stay in the cache.
    fn drop_cache(&self, position: u64) -> io::Result<()>;
    /// Returns a value that outlives the descriptor. As long as it exists, the system does not
    /// forget that an earlier write failed, and a sync through a later descriptor reports it. Fails
    /// with `Unsupported` if the disk cannot do that.
    fn remember_errors(&self) -> io::Result<Box<dyn ErrorMemory>> {
        Err(ErrorKind::Unsupported.into())
    }
    /// Sets the time of the last write that `Storage::metadata` returns. This is a hint: a disk may
    /// ignore it.
    fn set_modified(&self, _at: Timestamp) -> io::Result<()> {
        Ok(())
    }
}

/// The result of [`StorageFile::remember_errors`].
pub trait ErrorMemory: fmt::Debug + Send + Sync {}

/// A lock that is held until it is dropped.
pub trait FileLock: fmt::Debug + Send + Sync {}

/// Tells a file that does not exist from one that cannot be used.
pub(crate) trait IfExists<T> {
    /// Returns `None` if the call failed because the file does not exist.
    fn if_exists(self) -> io::Result<Option<T>>;
}

impl<T> IfExists<T> for io::Result<T> {
    fn if_exists(self) -> io::Result<Option<T>> {
        match self {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }
}

/// Returns the content of a small file. Fails with `NotFound` if it does not exist, and with
/// `InvalidData` if it is larger than `limit` bytes.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Access::Read)?;
    let bytes = file.bytes()?;
    let too_large = || {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("the file has {bytes} bytes, more than {limit}"),
        )
    };
    if bytes > limit {
        return Err(too_large());
    }
    let mut content = vec![0; usize::try_from(bytes).map_err(|_| too_large())?];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(content)
}

/// Returns the content of a small file. Returns `None` if it does not exist or is larger than
/// `limit` bytes.
pub(crate) fn read_if_fits(
    storage: &dyn Storage,
    path: &Path,
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    match read_file(storage, path, limit).if_exists() {
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        read => read,
    }
}

/// Replaces or creates a whole file: writes a temporary file in the same directory, syncs it,
/// renames it to `path` and syncs the directory.
///
/// After an error the temporary file is removed and the old file is unchanged. The sync of the
/// directory is an exception: if it fails, the new file has replaced the old one, and a power cut
/// may undo this.
pub(crate) fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_by(storage, path, |file| file.write_all_at(bytes, 0))
}

/// Replaces a file as [`replace_file`] does. `write` fills the new file, so that the content need
/// not be in memory.
pub(crate) fn replace_file_by(
    storage: &dyn Storage,
    path: &Path,
    write: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
) -> io::Result<()> {
    NewFile::write(storage, path, true, write)?.put_in_place()?;
    storage.sync_dir(directory_of(path))
}

/// A file that is to replace another one, under a temporary name in the same directory. Dropping it
/// removes it, unless it was put in its place.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    storage: &'a dyn Storage,
    temporary: PathBuf,
    path: &'a Path,
    is_in_place: bool,
}

impl<'a> NewFile<'a> {
    /// Creates a file that is to replace the one at `path`. `write` fills it. With `sync`, its
    /// content is durable on return.
    pub(crate) fn write(
        storage: &'a dyn Storage,
        path: &'a Path,
        sync: bool,
        write: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (temporary, file) = create_temporary(storage, path)?;
        let new = Self {
            storage,
            temporary,
            path,
            is_in_place: false,
        };
        write(&*file)?;
        if sync {
            file.sync_data()?;
        }
        Ok(new)
    }

    /// Renames the file to the path that it replaces. The caller syncs the directory.
    pub(crate) fn put_in_place(mut self) -> io::Result<()> {
        self.storage.rename(&self.temporary, self.path)?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.is_in_place {
            // If the file cannot be removed, its name marks it as temporary.
            let _caller_has_the_first_error = self.storage.remove_file(&self.temporary);
        }
    }
}

/// Creates a directory and its missing parents durably: the name of each is synced before the next
/// is created.
///
/// If the process is killed, at most the name of the lowest directory is not synced. Therefore the
/// next run also syncs the name of the lowest directory that exists.
pub(crate) fn create_dirs(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for level in dir.ancestors().filter(|level| *level != Path::new("")) {
        if storage.metadata(level).if_exists()?.is_some() {
            sync_found(storage, level);
            break;
        }
        missing.push(level);
    }
    for level in missing.into_iter().rev() {
        storage.create_dir_all(level)?;
        match storage.sync_dir(directory_of(level)) {
            // A directory that we may change but not read cannot be opened, so it cannot be synced.
            Err(error) if error.kind() == ErrorKind::PermissionDenied || is_unsupported(&error) => {
            }
            synced => synced?,
        }
    }
    Ok(())
}

/// Syncs the name of a directory that existed before. The process that created it may have been
/// killed before it synced the name. Errors are ignored, since another program may have created the
/// directory, and its parent may not be ours to sync.
pub(crate) fn sync_found(storage: &dyn Storage, dir: &Path) {
    if dir.parent().is_some() {
        let _may_not_be_ours = storage.sync_dir(directory_of(dir));
    }
}

/// Returns whether the file system does not support the call.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

/// Creates a temporary file in the directory of `path`. Its name is the first free one, counted
/// from a number that depends only on `path`.
fn create_temporary(
    storage: &dyn Storage,
    path: &Path,
) -> io::Result<(PathBuf, Arc<dyn StorageFile>)> {
    /// Killed processes do not leave more files than this.
    const ATTEMPTS: u64 = 1_000;
    let mut hasher = DefaultHasher::new();
    path.file_name().hash(&mut hasher);
    let first = hasher.finish();
    let mut taken = io::Error::from(ErrorKind::AlreadyExists);
    for attempt in 0..ATTEMPTS {
        let temporary = path.with_file_name(format!("{:016x}.tmp", first.wrapping_add(attempt)));
        match storage.open(&temporary, Access::CreateNew) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// Returns whether the name is that of a temporary file of [`replace_file`].
#[cfg(test)]
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|stem| {
        stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Removes a file if it exists, and returns whether it did. The removal is durable once the
/// directory is synced.
pub(crate) fn remove_if_exists(storage: &dyn Storage, path: &Path) -> io::Result<bool> {
    Ok(storage.remove_file(path).if_exists()?.is_some())
}

/// Returns the directory that contains `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str() != OsStr::new("") => dir,
        Some(_) => Path::new("."),
        None => path,
    }
}
