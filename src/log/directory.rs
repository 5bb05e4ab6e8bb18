//! The directory of a log: creating it, and taking its lock.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::storage::{FileLock, FileMetadata, IfExists, Storage, create_dirs};

/// How long to retry a lock that is held. A child between fork and exec may still hold a descriptor
/// that its parent has closed.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Takes the lock of a directory. Returns `Locked` if it is held elsewhere.
pub(super) fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn FileLock>> {
    let path = dir.join(file_name::LOCK);
    let deadline = Deadline::after(LOCK_PATIENCE);
    loop {
        match storage.lock(&path) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(Error::io("lock", &path, error));
            }
            Err(_) if deadline.has_passed() => {
                return Err(Error::Locked {
                    path: dir.to_owned(),
                    holder: storage.lock_holder(&path),
                });
            }
            Err(_) => thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Creates a directory durably if it does not exist, and returns whether it did. Returns `NotALog`
/// if the path is a file.
pub(super) fn ensure_directory(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    debug_assert!(
        !dir.as_os_str().is_empty(),
        "the caller has refused an empty path"
    );
    for ancestor in dir
        .ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
    {
        match find(storage, ancestor)? {
            Some(found) if found.is_dir && ancestor == dir => return Ok(false),
            Some(found) if found.is_dir => break,
            Some(_) => {
                return Err(Error::NotALog {
                    path: ancestor.to_owned(),
                    reason: "it is a file, not a directory".into(),
                });
            }
            None => {}
        }
    }
    create_dirs(storage, dir).at("create", dir)?;
    Ok(true)
}

/// Returns the metadata of a file or directory. Returns `None` if it does not exist, or if a part
/// of its path is a file.
pub(super) fn find(storage: &dyn Storage, path: &Path) -> Result<Option<FileMetadata>> {
    match storage.metadata(path).if_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        found => found.at("look at", path),
    }
}
