//! The file system of the machine.
//!
//! [`Disk`] uses `std::fs` for everything that is the same on all systems. The rest is in one file
//! for each system: `unix` has positional reads and writes, syncs of directories, the ids of files,
//! the page cache and the lock of a directory. `mapping` maps files into memory. To support another
//! system, add a file with the functions of `unix`.

#![expect(
    clippy::disallowed_methods,
    reason = "all access to files goes through this module"
)]

#[cfg(not(unix))]
compile_error!(
    "annals builds on Linux and macOS only: it needs positional reads and writes, renames over open files and advisory locks"
);

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Timestamp;

use mapping::Mapping;

use super::{
    Access, DirEntry, FileLock, FileMetadata, FileView, IfExists, Storage, StorageFile,
    is_unsupported, sealed,
};

pub(super) mod mapping;
#[cfg(unix)]
mod unix;

#[cfg(unix)]
use unix as system;

pub(super) use system::{descriptor_limit, is_out_of_descriptors};

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
            id: system::file_id(&metadata),
            is_dir,
            names: if is_dir { 1 } else { system::names(&metadata) },
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let entry = |found: io::Result<fs::DirEntry>| {
            let found = found?;
            let kind = found.file_type()?;
            // A link to the directory of a partition on another disk counts as a directory. A link
            // that leads nowhere does not.
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

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
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
        match system::sync_dir(dir) {
            // The file system cannot sync directories. Names are as durable as it makes them.
            Err(error) if is_unsupported(&error) => Ok(()),
            synced => synced,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        loop {
            let file = open(path, Access::OpenOrCreate)?;
            system::lock(&file)?;
            // A broker removes the file when it stops. If we opened the file before that and locked
            // it afterwards, our lock is on a file without a name, so we try again.
            if is_at(&file, path)? {
                return Ok(Box::new(DiskLock(file, process::id())));
            }
        }
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        system::lock_holder(&open(path, Access::Read).ok()?)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn view_unit(&self) -> Option<u32> {
        /// The largest page of the systems that annals supports.
        const LARGEST_PAGE: u32 = 64 << 10;
        Some(LARGEST_PAGE)
    }
}

fn open(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(access != Access::Read);
    options
        .create_new(access == Access::CreateNew)
        .create(access == Access::OpenOrCreate);
    options.open(path)
}

/// Returns whether `path` still names the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    let named = fs::metadata(path).if_exists()?;
    Ok(named.is_some_and(|named| system::is_same_file(&named, &open)))
}

/// Removes a link to a directory, and the directory. The link is removed last, so that it leads to
/// the rest if the removal is interrupted.
fn remove_linked(link: &Path) -> io::Result<()> {
    if let Some(target) = fs::canonicalize(link).if_exists()? {
        remove_target(&target)?;
    }
    fs::remove_file(link)
}

fn remove_target(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    match fs::remove_dir(dir) {
        // A mount point stays and is empty. So does a directory whose parent we may not change.
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

#[derive(Debug)]
struct DiskFile(File);

impl sealed::Sealed for DiskFile {}

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match system::read_at(&self.0, rest, position.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        system::write_all_at(&self.0, bytes, position)
    }

    #[cfg(target_os = "linux")]
    fn write_pieces_at(&self, pieces: &[&[u8]], position: u64) -> io::Result<()> {
        match pieces {
            [piece] => system::write_all_at(&self.0, piece, position),
            _ => system::write_pieces_at(&self.0, pieces, position),
        }
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
        match self.view_in_place(bytes)? {
            Some(view) => Ok(view),
            None => self.copy(bytes),
        }
    }

    fn view_in_place(&self, bytes: usize) -> io::Result<Option<FileView>> {
        if bytes == 0 {
            return Ok(Some(FileView::from_bytes([])));
        }
        let metadata = self.0.metadata()?;
        // Access to a mapped page after the end of the file ends the process with `SIGBUS`.
        if metadata.len() < bytes as u64 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // It fails if there is too little address space, if there are too many mappings, or if the
        // file system has none.
        let mapping = Mapping::new(&self.0, system::number(&metadata), bytes);
        Ok(mapping.ok().map(FileView::from_mapping))
    }

    fn is_viewed(&self) -> bool {
        let metadata = self.0.metadata();
        metadata.is_ok_and(|metadata| mapping::is_mapped(system::number(&metadata)))
    }

    fn set_modified(&self, at: Timestamp) -> io::Result<()> {
        match u64::try_from(at.as_millis()) {
            Ok(millis) => self
                .0
                .set_modified(UNIX_EPOCH + Duration::from_millis(millis)),
            // No file was written before 1970.
            Err(_) => Ok(()),
        }
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        system::drop_cache(&self.0, position)
    }

    #[cfg(target_os = "linux")]
    fn remember_errors(&self) -> io::Result<Box<dyn super::ErrorMemory>> {
        Ok(Box::new(mapping::Pin::new(&self.0)?))
    }
}

impl DiskFile {
    /// Reads the first `bytes` bytes into memory.
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

/// A locked file, and the id of the process that locked it.
#[derive(Debug)]
struct DiskLock(File, u32);

impl FileLock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // A forked child shares the lock with its parent, and must not release it.
        if self.1 != process::id() {
            return;
        }
        // Closing the file does not release the lock while a child between fork and exec has a copy
        // of the descriptor. If the release fails, the file is closed at least.
        let _closed_anyway = system::unlock(&self.0);
    }
}

#[cfg(test)]
mod tests;
