//! The directory of a snapshot: it must not exist or be empty, and gets its name when it is
//! complete.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::storage::{FileLock, Storage, create_dirs, directory_of};
use crate::topic::identity::unique;

/// Returns the path of the target without links, and creates its missing parents. Changes nothing
/// if the target is refused.
pub(super) fn target_of(storage: &dyn Storage, log: &Path, dir: &Path) -> Result<PathBuf> {
    if dir.as_os_str().is_empty() {
        return refuse(dir, ErrorKind::InvalidInput, "the path is empty".to_owned());
    }
    match storage.list(dir) {
        Ok(entries) if entries.is_empty() => {
            let target = storage.canonical(dir).at("find", dir)?;
            check_outside(log, dir, &target).map(|()| target)
        }
        Ok(_) => refuse_full(dir),
        Err(error) if error.kind() == ErrorKind::NotADirectory => refuse(
            dir,
            ErrorKind::NotADirectory,
            "it is a file: choose a new or an empty directory".to_owned(),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => new_target(storage, log, dir),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}

/// Returns the path of a target that does not exist, and creates its missing parents.
fn new_target(storage: &dyn Storage, log: &Path, dir: &Path) -> Result<PathBuf> {
    let existing = dir.ancestors().skip(1).find_map(|ancestor| {
        let ancestor = if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        };
        let found = storage.canonical(ancestor).ok()?;
        Some((found, dir.strip_prefix(ancestor).unwrap_or(dir)))
    });
    let Some((found, rest)) = existing else {
        let reason = "none of its parents exists".to_owned();
        return refuse(dir, ErrorKind::NotFound, reason);
    };
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !rest.components().all(is_plain) {
        let reason = "it has `..` after a directory that does not exist".to_owned();
        return refuse(dir, ErrorKind::InvalidInput, reason);
    }
    let target = found.join(rest);
    check_outside(log, dir, &target)?;
    create_dirs(storage, directory_of(&target)).at("create", directory_of(&target))?;
    Ok(target)
}

/// Refuses a target inside the log. A broker takes every directory in a log for a partition, and
/// stops at one that is not.
fn check_outside(log: &Path, dir: &Path, target: &Path) -> Result<()> {
    if target.starts_with(log) {
        let reason = format!(
            "it is inside the log: choose a directory outside of {}",
            log.display()
        );
        return refuse(dir, ErrorKind::InvalidInput, reason);
    }
    Ok(())
}

fn refuse_full<T>(dir: &Path) -> Result<T> {
    refuse(
        dir,
        ErrorKind::DirectoryNotEmpty,
        "it is not empty: choose a new or an empty directory".to_owned(),
    )
}

fn refuse<T>(dir: &Path, kind: ErrorKind, reason: String) -> Result<T> {
    Err(Error::io(
        "make a snapshot in",
        dir,
        io::Error::new(kind, reason),
    ))
}

/// The directory of a snapshot that is not complete. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Building<'a> {
    storage: &'a dyn Storage,
    target: &'a Path,
    dir: PathBuf,
    /// Locked as long as the snapshot is being made, so that no other snapshot removes the
    /// directory, and no log opens it.
    _lock: Box<dyn FileLock>,
    is_finished: bool,
}

impl<'a> Building<'a> {
    /// Creates the directory next to the target. Removes those that killed processes left.
    pub(super) fn begin(storage: &'a dyn Storage, target: &'a Path) -> Result<Self> {
        remove_left(storage, target)?;
        let number = u64::try_from(unique() >> 64).unwrap_or_default();
        let dir = with_ending(target, &format!("{number:016x}.tmp"));
        storage.create_dir_all(&dir).at("create", &dir)?;
        let lock = dir.join(file_name::LOCK);
        match storage.lock(&lock) {
            Ok(lock) => Ok(Self {
                storage,
                target,
                dir,
                _lock: lock,
                is_finished: false,
            }),
            Err(error) => {
                let _first_error_is_returned = storage.remove_dir_all(&dir);
                Err(Error::io("lock", &lock, error))
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the directory the name of the target. Its content is durable.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.storage.rename(&self.dir, self.target) {
            // Another snapshot was faster.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                return refuse_full(self.target);
            }
            renamed => renamed.at("rename", &self.dir)?,
        }
        self.is_finished = true;
        let parent = directory_of(self.target);
        self.storage.sync_dir(parent).at("sync", parent)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // The next snapshot to the same target tries again.
            let _first_error_is_returned = self.storage.remove_dir_all(&self.dir);
        }
    }
}

/// Returns the path `<target>.<ending>`.
fn with_ending(target: &Path, ending: &str) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// Removes the directories that killed processes left while they made a snapshot to this target. A
/// directory that is still being filled is locked.
fn remove_left(storage: &dyn Storage, target: &Path) -> Result<()> {
    let parent = directory_of(target);
    let Some(name) = target.file_name().and_then(OsStr::to_str) else {
        return Ok(());
    };
    for entry in storage.list(parent).at("list", parent)? {
        let ending = entry.name.strip_prefix(name);
        let ending = ending.and_then(|ending| ending.strip_prefix('.'));
        if !entry.is_dir || !ending.is_some_and(file_name::is_temporary) {
            continue;
        }
        let dir = parent.join(&entry.name);
        if let Ok(_is_left) = storage.lock(&dir.join(file_name::LOCK)) {
            storage.remove_dir_all(&dir).at("remove", &dir)?;
        }
    }
    Ok(())
}
