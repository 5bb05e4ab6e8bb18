//! The one door to the disk: whatever touches a file goes through [`Storage`] and [`StorageFile`].
//!
//! Two disks stand behind it: [`Disk`], the machine's, and [`MemoryDisk`], which touches nothing.
//! Both keep to the rules of POSIX: a file that was removed or replaced lives on for whoever has it
//! open, renames are atomic, writes are positional. Two small protocols stand here because they
//! must not be done by hand anywhere else: [`read_file`] and [`replace_file`]. What the bytes mean,
//! and when they must be durable, is left to the floors above.

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

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; `AlreadyExists` if it is there.
    CreateNew,
    /// An existing or a new file, to read and write.
    OpenOrCreate,
}

/// What a directory holds under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name. Names that are not UTF-8 come with replacement characters.
    pub name: String,
    /// Whether it is a directory, or a link to one.
    pub is_dir: bool,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// Its length in bytes; 0 for a directory.
    pub bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
    /// Tells files apart that stand under one name one after the other.
    pub id: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A disk. Sealed: the crate's [`Disk`] and [`MemoryDisk`] are what there is, and `SimulatedDisk`
/// behind the feature `simulation`.
///
/// Every call may run at the same time as every other, from any thread. Calls on one name are
/// atomic: who opens a file that is being replaced gets the old one or the new one. An open file
/// stays what it is when its name is renamed, replaced or removed. Nothing is durable before it is
/// synced: the content of a file by `StorageFile::sync_data`, the names in a directory by
/// `sync_dir`.
pub trait Storage: sealed::Sealed + fmt::Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>>;
    /// Length, time and kind; `NotFound` where there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata>;
    /// Everything in a directory, in no order. What is created or removed meanwhile may or may not
    /// be in it.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and those above it that are missing.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory; replaces an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it. Of a link to a directory, removes the directory
    /// that it leads to as well.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable, those that returned before
    /// this call. Where the file system cannot sync directories, names are as durable as it makes
    /// them.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a file, which is created when absent; `WouldBlock` when another
    /// opener has it, be it in this process or in another. Given back on drop; the file stays. The
    /// lock dies with the process.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;
    /// Process id of the holder of a lock, where it can be known.
    fn lock_holder(&self, path: &Path) -> Option<u32>;
    /// The same directory under one name: absolute, without links.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
}

/// An open file. Positional, so that threads can share it; closed when the last holder drops it.
///
/// Calls may run at the same time. A read beside a write of the same bytes may see any mix of old
/// and new: readers keep below an end that the writer published after its write returned.
pub trait StorageFile: sealed::Sealed + fmt::Debug + Send + Sync {
    /// Reads at `position`; fewer bytes than asked for only at the end of the file. Retries
    /// `EINTR`.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`. On an error some of it may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes the content durable, and the length as far as it is needed to read it: all writes that
    /// returned before this call. After an error nothing is known of them, and a second call that
    /// succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// The first `bytes` bytes, mapped where the disk can; stays valid after the file is closed or
    /// removed. `UnexpectedEof` where the file is shorter. The caller promises that nobody shrinks
    /// or rewrites that part of the file.
    fn view(&self, bytes: usize) -> io::Result<FileView>;
    /// Drops cached pages from `position` on (and some before), so that a later read comes from the
    /// device. A hint; pages that are mapped, or written and not yet synced, stay.
    fn drop_cache(&self, position: u64) -> io::Result<()>;
    /// Sets when the file was last written, as `Storage::metadata` tells it. A hint; a disk may
    /// keep its own time.
    fn set_modified(&self, _at: Timestamp) -> io::Result<()> {
        Ok(())
    }
}

/// A held lock; dropping it gives it back.
pub trait FileLock: fmt::Debug + Send + Sync {}

/// A whole small file; `NotFound` where there is none, `InvalidData` where it is larger than
/// `limit` bytes.
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

/// Replaces (or creates) a file as a whole: writes a temporary file beside it, syncs it, renames it
/// over `path`, syncs the directory. On an error the temporary file is removed and the old file
/// stands as it was; only when the last step, the sync of the directory, fails, the new file is in
/// place already, and a power cut may still bring the old one back.
pub(crate) fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_by(storage, path, |file| file.write_all_at(bytes, 0))
}

/// The same for a content that is not in memory as a whole: `write` fills the new file.
pub(crate) fn replace_file_by(
    storage: &dyn Storage,
    path: &Path,
    write: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
) -> io::Result<()> {
    let (temporary, file) = create_temporary(storage, path)?;
    let written = write(&*file).and_then(|()| file.sync_data());
    if let Err(error) = written.and_then(|()| storage.rename(&temporary, path)) {
        // The first error is the one to tell; a file that stays is recognised by its name.
        let _told_already = storage.remove_file(&temporary);
        return Err(error);
    }
    storage.sync_dir(directory_of(path))
}

/// Creates a directory and those above it that are missing, durably: the name of each is synced
/// before the next is created.
///
/// A run that is killed in between leaves at most one name that is not synced, that of the lowest
/// directory. So the next run syncs the name of the lowest directory that it finds as well.
pub(crate) fn create_dirs(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for level in dir.ancestors().filter(|level| *level != Path::new("")) {
        match storage.metadata(level) {
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(level),
            Err(error) => return Err(error),
            Ok(_) => {
                sync_found(storage, level);
                break;
            }
        }
    }
    for level in missing.into_iter().rev() {
        storage.create_dir_all(level)?;
        match storage.sync_dir(directory_of(level)) {
            // A directory that may be changed and not read cannot be opened to be synced.
            Err(error) if error.kind() == ErrorKind::PermissionDenied || is_unsupported(&error) => {
            }
            synced => synced?,
        }
    }
    Ok(())
}

/// Syncs the name of a directory that was there before. Whoever created it may have been killed
/// before they synced it. If that was not annals, the directory above is none of our business: what
/// it answers does not matter.
pub(crate) fn sync_found(storage: &dyn Storage, dir: &Path) {
    if dir.parent().is_some() {
        let _may_not_be_ours = storage.sync_dir(directory_of(dir));
    }
}

/// Whether the file system does not have what it was asked for.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

/// A new file beside `path`, under the first free name behind one that depends on `path` alone.
fn create_temporary(
    storage: &dyn Storage,
    path: &Path,
) -> io::Result<(PathBuf, Arc<dyn StorageFile>)> {
    /// More leftovers than this are no accident.
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

#[cfg(test)]
/// Whether a file of this name was left behind by a [`replace_file`] that was killed.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|stem| {
        stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Removes a file if it is there, and says whether it was. Durable once the directory is synced.
pub(crate) fn remove_if_exists(storage: &dyn Storage, path: &Path) -> io::Result<bool> {
    match storage.remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str() != OsStr::new("") => dir,
        Some(_) => Path::new("."),
        None => path,
    }
}
