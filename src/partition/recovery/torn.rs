//! What an unclean stop left behind the end of a log: kept beside it, then cut.

use std::io;
use std::path::{Path, PathBuf};

use super::Opening;
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::file_name;
use crate::storage::{Access, Storage, StorageFile, remove_if_exists, replace_file_by};

/// Most that is read at once.
const CHUNK_BYTES: u32 = 1 << 20;

impl Opening<'_> {
    /// Cuts the file at `end`. What is not padding is kept beside it first.
    pub(super) fn cut(&mut self, base: u64, end: u32, bytes: u32) -> Result<()> {
        if self.context.read_only {
            return Ok(());
        }
        let path = self.log_path(base);
        let storage = &*self.context.storage;
        let failed = |error| Error::io("cut the torn end of", &path, error);
        let file = storage.open(&path, Access::Read).map_err(failed)?;
        let tail = Part { file: &*file, start: end, end: bytes };
        if !tail.is_zero().map_err(failed)? {
            let kept = self.free_path(&file_name::torn_file(base, end))?;
            match tail.copy_to(storage, &kept).map_err(|error| Error::io("keep the torn end in", &kept, error)) {
                Ok(()) => self.report.kept.insert(0, kept),
                // Nothing in it could be read anyway.
                Err(Error::DiskFull { .. }) if !tail.holds_batch().map_err(failed)? => {}
                Err(error) => return self.without_room(error),
            }
            self.report.bytes_cut += u64::from(bytes - end);
        }
        if self.is_shared {
            // Whoever has the file mapped keeps the old one.
            let start = Part { file: &*file, start: 0, end };
            return match start.copy_to(storage, &path).map_err(failed) {
                Err(error) => self.without_room(error),
                Ok(()) => Ok(()),
            };
        }
        let file = storage.open(&path, Access::Write).map_err(failed)?;
        file.set_len(u64::from(end)).and_then(|()| file.sync_data()).map_err(failed)
    }

    /// There is no room to keep what is to be cut: the log is read up to there, and takes no writes until it is opened with
    /// room.
    fn without_room(&mut self, error: Error) -> Result<()> {
        if matches!(error, Error::DiskFull { .. }) {
            self.report.damage.get_or_insert(error);
            return Ok(());
        }
        Err(error)
    }

    /// Segments behind the end are renamed, not removed: `<base>.log.torn`. The last one goes first, and each durably before the
    /// next: whatever a power cut leaves of them follows the end without a hole.
    pub(super) fn set_aside(&mut self, bases: &[u64]) -> Result<()> {
        for base in bases.iter().rev() {
            let (bytes, path) = (self.log_bytes(*base)?, self.log_path(*base));
            if self.context.read_only {
                continue;
            }
            if bytes == 0 {
                remove_if_exists(&*self.context.storage, &path).map_err(|error| Error::io("remove", &path, error))?;
            } else {
                let name = file_name::segment_file(*base, file_name::LOG);
                let torn = self.free_path(&format!("{name}.{}", file_name::TORN))?;
                self.context.storage.rename(&path, &torn).map_err(|error| Error::io("set aside", &path, error))?;
                self.report.bytes_cut += u64::from(bytes);
                self.report.kept.insert(0, torn);
            }
            self.remove_indexes(*base)?;
            self.context.storage.sync_dir(&self.spec.dir).map_err(self.io("sync"))?;
        }
        Ok(())
    }

    /// Where to keep something: what an earlier crash left under the name stays.
    fn free_path(&self, name: &str) -> Result<PathBuf> {
        let names = std::iter::once(name.to_owned()).chain((2..).map(|number| file_name::another_torn_file(name, number)));
        for name in names {
            let path = self.spec.dir.join(name);
            match self.context.storage.metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
                Err(error) => return Err(Error::io("look at", &path, error)),
            }
        }
        Err(Error::io("keep the torn end in", &self.spec.dir, io::ErrorKind::AlreadyExists.into()))
    }

    fn remove_indexes(&self, base: u64) -> Result<()> {
        for suffix in file_name::INDEXES.into_iter().chain([file_name::SNAPSHOT]) {
            let path = self.spec.dir.join(file_name::segment_file(base, suffix));
            remove_if_exists(&*self.context.storage, &path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }
}

/// A part of a file, looked at and copied in chunks: the rest of one that was preallocated may be longer than memory is.
struct Part<'a> {
    file: &'a dyn StorageFile,
    start: u32,
    end: u32,
}

impl Part<'_> {
    /// Hands out the part chunk by chunk, with the position of each and up to `more` bytes of the next one behind it, until
    /// `visit` says that it is enough. Gives whether it did.
    fn any_chunk(&self, more: u32, mut visit: impl FnMut(u32, &[u8]) -> io::Result<bool>) -> io::Result<bool> {
        let mut chunk = Vec::new();
        for position in (self.start..self.end).step_by(CHUNK_BYTES as usize) {
            let count = (self.end - position).min(CHUNK_BYTES + more);
            self.read(position, count, &mut chunk)?;
            if visit(position, &chunk)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&self, position: u32, count: u32, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(count as usize, 0);
        let read = self.file.read_at(into, u64::from(position))?;
        if read < into.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn is_zero(&self) -> io::Result<bool> {
        self.any_chunk(0, |_, chunk| Ok(chunk.iter().any(|byte| *byte != 0))).map(|is_other| !is_other)
    }

    /// Puts a copy in the place of a file.
    fn copy_to(&self, storage: &dyn Storage, path: &Path) -> io::Result<()> {
        replace_file_by(storage, path, |copy| {
            let written = |position, chunk: &[u8]| copy.write_all_at(chunk, u64::from(position - self.start)).map(|()| false);
            self.any_chunk(0, written).map(drop)
        })
    }

    /// Whether there is a whole batch with a right checksum anywhere in it.
    fn holds_batch(&self) -> io::Result<bool> {
        let mut longer = Vec::new();
        self.any_chunk(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX), |position, chunk| {
            for (at, rest) in (position..).zip((0..chunk.len()).filter_map(|at| chunk.get(at..))) {
                let Ok(header) = BatchHeader::decode(rest) else { continue };
                if header.size_bytes > self.end - at {
                    continue;
                }
                let batch = if let Some(batch) = rest.get(..header.size_bytes as usize) {
                    batch
                } else {
                    self.read(at, header.size_bytes, &mut longer)?;
                    &longer
                };
                if header.crc_is_valid(batch) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}
