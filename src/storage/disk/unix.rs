//! Linux and macOS: positional I/O, syncs of directories, ids of files, the page cache and locks.
//!
//! On Linux the lock belongs to the open file description (`F_OFD_SETLK`). It excludes a second
//! open in the same process as well as a broker, which takes a POSIX lock on the same file. Closing
//! another descriptor of the file does not release it. Other systems use `flock`.
//!
//! `File::sync_all` and `File::sync_data` use `F_FULLFSYNC` on macOS.

#![expect(
    unsafe_code,
    reason = "locks, the page cache and limits need system calls; each block explains why it is sound"
)]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::clock::Timestamp;

use super::mapping::FileNumber;

pub(super) use advisory::{lock, lock_holder, unlock};

/// The most pieces that one system call writes: Linux takes up to 1024.
#[cfg(target_os = "linux")]
const MAX_PIECES: libc::c_int = 1024;

/// Returns an id of a file that differs from the ids of earlier files with the same name.
///
/// The system reuses the number of an inode after the file is removed, so the id includes the time
/// of creation if the file system stores it.
pub(super) fn file_id(metadata: &fs::Metadata) -> u64 {
    let created: Option<Timestamp> = metadata.created().ok().map(Into::into);
    let mut hasher = DefaultHasher::new();
    (
        metadata.dev(),
        metadata.ino(),
        created.map(Timestamp::as_millis),
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// Returns the number of names of a file.
pub(super) fn names(metadata: &fs::Metadata) -> u64 {
    metadata.nlink()
}

/// Returns the numbers of the device and of the file on it. No other file has them as long as this
/// one exists.
pub(super) fn number(metadata: &fs::Metadata) -> FileNumber {
    (metadata.dev(), metadata.ino())
}

/// Returns whether both are metadata of the same file.
pub(super) fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    number(one) == number(other)
}

/// Reads at `position` with one system call, which may read fewer bytes than the buffer takes.
pub(super) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    file.read_at(buffer, position)
}

/// Writes all bytes at `position`, and continues after short writes and interrupts.
pub(super) fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    file.write_all_at(bytes, position)
}

/// Writes the pieces one after the other, from `position` on, with as few system calls as possible.
/// Continues after short writes and interrupts.
#[cfg(target_os = "linux")]
pub(super) fn write_pieces_at(file: &File, pieces: &[&[u8]], mut position: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mut slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
    let mut rest = slices.as_mut_slice();
    // Pieces without bytes at the front are dropped.
    io::IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let count = rest.len().try_into().unwrap_or(MAX_PIECES).min(MAX_PIECES);
        let at = libc::off_t::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: An `IoSlice` has the layout of an `iovec`, and `rest` has at least `count` of
        // them. They borrow bytes that the call only reads. The descriptor is open while `file` is
        // borrowed.
        let written = unsafe { libc::pwritev(file.as_raw_fd(), rest.as_ptr().cast(), count, at) };
        match usize::try_from(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                io::IoSlice::advance_slices(&mut rest, bytes);
                position += bytes as u64;
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Returns whether a file could not be opened because the process or the machine has too many open.
pub(in crate::storage) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns how many descriptors the process may have; `None` if the system does not say.
pub(in crate::storage) fn descriptor_limit() -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` has the type that the call writes, and outlives the call.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    // A process without a limit has the largest number here.
    (code == 0).then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Drops the pages of a file from `position` on from the page cache.
#[cfg(target_os = "linux")]
pub(super) fn drop_cache(file: &File, position: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    /// The system drops only pages that are entirely inside the range. A page may have up to 2 MiB.
    const UNIT: u64 = 2 << 20;
    let start =
        libc::off_t::try_from(position / UNIT * UNIT).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: The call takes no pointer, and the descriptor is open while `file` is borrowed. The
    // call does not change the content of the file: mapped pages and dirty pages stay.
    let code =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), start, 0, libc::POSIX_FADV_DONTNEED) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

/// Does nothing: the system has no such call.
#[cfg(not(target_os = "linux"))]
pub(super) fn drop_cache(_file: &File, _position: u64) -> io::Result<()> {
    Ok(())
}

/// Locks of an open file description, for the whole file.
#[cfg(target_os = "linux")]
pub(super) mod advisory {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind};
    use std::mem;
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::process;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the constants are 0, 1 and 2, the field is a short"
    )]
    fn request(kind: libc::c_int) -> libc::flock {
        // SAFETY: `flock` is a C structure of integers, for which zeros are valid.
        let mut request: libc::flock = unsafe { mem::zeroed() };
        // Start 0 and length 0 mean the whole file.
        request.l_type = kind as libc::c_short;
        request.l_whence = libc::SEEK_SET as libc::c_short;
        request
    }

    fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
        let request = request(kind);
        // SAFETY: The descriptor is open while `file` is borrowed, and `request` has the type that
        // this command reads.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Locks the file, or fails with `WouldBlock` if another opener holds the lock.
    pub(in crate::storage::disk) fn lock(file: &File) -> io::Result<()> {
        set(file, libc::F_WRLCK).map_err(|error| match error.raw_os_error() {
            // POSIX allows both codes.
            Some(libc::EAGAIN | libc::EACCES) => ErrorKind::WouldBlock.into(),
            _ => error,
        })
    }

    pub(in crate::storage::disk) fn unlock(file: &File) -> io::Result<()> {
        set(file, libc::F_UNLCK)
    }

    /// Returns the id of the process that holds the lock, if it is known: a process with a POSIX
    /// lock, such as a broker, or this process. The system does not report which other process
    /// holds a lock of an open file description.
    pub(in crate::storage::disk) fn lock_holder(file: &File) -> Option<u32> {
        posix_holder(file).or_else(|| is_held_here(file).unwrap_or(false).then(process::id))
    }

    /// Returns whether a descriptor of this process holds the lock, according to `/proc`.
    fn is_held_here(file: &File) -> io::Result<bool> {
        let searched = file.metadata()?;
        for descriptor in fs::read_dir("/proc/self/fd")? {
            let descriptor = descriptor?;
            // The descriptor may have been closed in the meantime.
            let Ok(found) = fs::metadata(descriptor.path()) else {
                continue;
            };
            if super::is_same_file(&found, &searched)
                && let Ok(facts) =
                    fs::read_to_string(Path::new("/proc/self/fdinfo").join(descriptor.file_name()))
                && facts.lines().any(|fact| fact.starts_with("lock:"))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(in crate::storage::disk) fn posix_holder(file: &File) -> Option<u32> {
        let mut request = request(libc::F_WRLCK);
        // SAFETY: The descriptor is open while `file` is borrowed, and `request` has the type that
        // this command reads and writes.
        let _zero_stays_after_a_failure =
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
        // -1 is a lock of an open file description. 0 is a process outside of our namespace, or no
        // lock at all: then the system writes no process.
        u32::try_from(request.l_pid).ok().filter(|pid| *pid != 0)
    }
}

/// `flock`, whose locks belong to an open file description as well.
#[cfg(not(target_os = "linux"))]
mod advisory {
    use std::fs::File;
    use std::io;

    pub(in crate::storage::disk) fn lock(file: &File) -> io::Result<()> {
        Ok(file.try_lock()?)
    }

    pub(in crate::storage::disk) fn unlock(file: &File) -> io::Result<()> {
        file.unlock()
    }

    /// The system does not report the holder.
    pub(in crate::storage::disk) fn lock_holder(_file: &File) -> Option<u32> {
        None
    }
}
