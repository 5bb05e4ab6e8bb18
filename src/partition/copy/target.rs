//! The new directory into which files are copied. Each file is durable when the call that makes it
//! returns.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::segment::Segment;
use crate::storage::{Access, FilePart, IfExists, Storage, StorageFile, is_unsupported, read_file};

/// The bytes of files that have a second name in the copy, and the bytes that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) linked: u64,
    pub(crate) written: u64,
}

/// A new directory of a copy.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    copied: Copied,
}

impl<'a> Target<'a> {
    /// Returns a directory that exists.
    pub(crate) fn new(storage: &'a dyn Storage, dir: &'a Path) -> Self {
        Self {
            storage,
            dir,
            copied: Copied::default(),
        }
    }

    pub(crate) fn dir(&self) -> &'a Path {
        self.dir
    }

    pub(crate) fn copied(&self) -> Copied {
        self.copied
    }

    /// Counts what was copied into an inner directory.
    pub(crate) fn add(&mut self, inner: Copied) {
        self.copied.linked += inner.linked;
        self.copied.written += inner.written;
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.storage.sync_dir(self.dir).at("sync", self.dir)
    }

    /// Puts a file with this content. It is a second name of the file in the directory `original`
    /// if that has the same content, which saves a sync. Such a file is only replaced as a whole.
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8], original: &Path) -> Result<()> {
        let (from, to, count) = (original.join(name), self.dir.join(name), bytes.len() as u64);
        let is_same = |path: &Path| {
            read_file(self.storage, path, count).is_ok_and(|content| content == bytes)
        };
        if is_same(&from) && self.link(&from, count)? {
            if read_file(self.storage, &to, count).is_ok_and(|content| content == bytes) {
                return Ok(());
            }
            // It was replaced between the two looks.
            self.storage.remove_file(&to).at("remove", &to)?;
            self.copied.linked -= count;
        }
        self.write(name, bytes)
    }

    fn path_of(&self, original: &Path) -> PathBuf {
        original
            .file_name()
            .map_or_else(|| self.dir.to_owned(), |name| self.dir.join(name))
    }

    /// Gives the file `from` its second name. Returns `false` if the file systems do not allow it.
    pub(super) fn link(&mut self, from: &Path, bytes: u64) -> Result<bool> {
        match self.storage.hard_link(from, &self.path_of(from)) {
            Ok(()) => {
                self.copied.linked += bytes;
                Ok(true)
            }
            Err(error) if is_unlinkable(&error) => Ok(false),
            // It was replaced or removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("link", from, error)),
        }
    }

    /// Gives a whole file a second name if it `may_link`, or else copies it. Does nothing if there
    /// is no such file. The caller makes sure that the file keeps its name.
    pub(crate) fn share(&mut self, from: &Path, may_link: bool) -> Result<()> {
        let found = self.storage.metadata(from).if_exists();
        let Some(found) = found.at("look at", from)? else {
            return Ok(());
        };
        if may_link && self.link(from, found.bytes)? {
            return Ok(());
        }
        let file = self.storage.open(from, Access::Read).at("open", from)?;
        let bytes = u32::try_from(found.bytes).map_err(|_| io::ErrorKind::FileTooLarge.into());
        self.copy(&*file, bytes.at("copy", from)?, &self.path_of(from), None)
    }

    /// Copies the first bytes of the `.log` of a segment.
    pub(super) fn copy_log(&mut self, segment: &Segment, bytes: u32) -> Result<()> {
        let path = segment.log_path();
        let file = segment.file().at("open", path)?;
        let modified = self.storage.metadata(path).ok().map(|found| found.modified);
        let name = file_name::segment_file(segment.base_offset, file_name::LOG);
        self.copy(&*file, bytes, &self.dir.join(name), modified)
    }

    fn copy(
        &mut self,
        file: &dyn StorageFile,
        end: u32,
        to: &Path,
        modified: Option<Timestamp>,
    ) -> Result<()> {
        let part = FilePart {
            file,
            start: 0,
            end,
        };
        self.create(to, u64::from(end), |copy| {
            part.copy_to(copy)?;
            // Retention asks for the time of a file whose records have none.
            let _may_be_ignored = modified.map(|at| copy.set_modified(at));
            Ok(())
        })
    }

    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.create(&self.dir.join(name), bytes.len() as u64, |file| {
            file.write_all_at(bytes, 0)
        })
    }

    /// Writes the offset index and the time index of a segment.
    pub(super) fn write_index(&mut self, segment: &Segment, content: [Vec<u8>; 2]) -> Result<()> {
        let [offsets, times] = content;
        let name = |suffix| file_name::segment_file(segment.base_offset, suffix);
        self.write(&name(file_name::OFFSET_INDEX), &offsets)?;
        self.write(&name(file_name::TIME_INDEX), &times)
    }

    /// Creates a file that is durable when the call returns.
    fn create(
        &mut self,
        path: &Path,
        bytes: u64,
        fill: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
    ) -> Result<()> {
        let created = self.storage.open(path, Access::CreateNew);
        let created = created.at("create", path)?;
        let filled = fill(&*created).and_then(|()| {
            // Only the name of an empty file has to become durable.
            if bytes > 0 {
                created.sync_data()
            } else {
                Ok(())
            }
        });
        filled.at("write", path)?;
        self.copied.written += bytes;
        Ok(())
    }
}

/// Returns whether the file cannot have a second name there: the directories are on different file
/// systems, the file system has no hard links, or the file has too many or belongs to another user.
fn is_unlinkable(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks};
    matches!(
        error.kind(),
        CrossesDevices | PermissionDenied | TooManyLinks
    ) || is_unsupported(error)
}
