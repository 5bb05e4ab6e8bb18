//! Cuts the torn end that an unclean stop left, and keeps the bytes in a file of their own.

use std::io;
use std::path::{Path, PathBuf};

use super::Opening;
use crate::error::{At, Error, Result};
use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::file_name;
use crate::storage::{Access, FilePart, IfExists, Storage, remove_if_exists, replace_file_by};

impl Opening<'_> {
    /// Cuts the file at `end`. If the rest is more than padding, it is copied to a file of its own
    /// first.
    pub(super) fn cut(&mut self, base: u64, end: u32, bytes: u32) -> Result<()> {
        if self.context.read_only {
            return Ok(());
        }
        debug_assert!(end <= bytes, "a cut only shortens the file");
        let path = self.log_path(base);
        let storage = &*self.context.storage;
        let failed = |error| Error::io("cut the torn end of", &path, error);
        let file = storage.open(&path, Access::Read).map_err(failed)?;
        let tail = FilePart {
            file: &*file,
            start: end,
            end: bytes,
        };
        if !is_zero(&tail).map_err(failed)? {
            let kept = self.free_path(&file_name::torn_file(base, end))?;
            match put_copy(&tail, storage, &kept).at("keep the torn end in", &kept) {
                Ok(()) => self.report.kept.insert(0, kept),
                // The rest holds no batch that could be read.
                Err(Error::DiskFull { .. }) if !holds_batch(&tail).map_err(failed)? => {}
                Err(error) => return self.without_room(error),
            }
            self.report.bytes_cut += u64::from(bytes - end);
        }
        // The copy has one name, and no view.
        let is_shared = self.shared.remove(&base) || self.may_be_viewed(&*file);
        if is_shared {
            // Views show the old file, and so do its other names.
            let start = FilePart {
                file: &*file,
                start: 0,
                end,
            };
            return match put_copy(&start, storage, &path).map_err(failed) {
                Err(error) => self.without_room(error),
                Ok(()) => Ok(()),
            };
        }
        let file = storage.open(&path, Access::Write).map_err(failed)?;
        file.set_len(u64::from(end))
            .and_then(|()| file.sync_data())
            .map_err(failed)
    }

    /// Handles a write that failed. If the disk has no room, the log can be read up to the bytes
    /// that are in doubt or were to be cut, and refuses writes until it is opened with enough room.
    pub(super) fn without_room(&mut self, error: Error) -> Result<()> {
        if matches!(error, Error::DiskFull { .. }) {
            self.report.damage.get_or_insert(error);
            return Ok(());
        }
        Err(error)
    }

    /// Renames the segments after the end to `<base>.log.torn` instead of removing them. Starts
    /// with the last one, and makes each rename durable before the next. After a power cut, the
    /// segments that are left then follow the end without a hole.
    pub(super) fn set_aside(&mut self, bases: &[u64]) -> Result<()> {
        for base in bases.iter().rev() {
            let (bytes, path) = (self.log_bytes(*base)?, self.log_path(*base));
            if self.context.read_only {
                continue;
            }
            if bytes == 0 {
                remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
            } else {
                let name = file_name::segment_file(*base, file_name::LOG);
                let torn = self.free_path(&format!("{name}.{}", file_name::TORN))?;
                self.context
                    .storage
                    .rename(&path, &torn)
                    .at("set aside", &path)?;
                self.report.bytes_cut += u64::from(bytes);
                self.report.kept.insert(0, torn);
            }
            self.remove_indexes(*base)?;
            self.context.sync_dir(&self.spec.dir)?;
        }
        Ok(())
    }

    /// Returns a path that is free: a file that an earlier crash left under the name stays.
    fn free_path(&self, name: &str) -> Result<PathBuf> {
        let names = std::iter::once(name.to_owned())
            .chain((2..).map(|number| file_name::another_torn_file(name, number)));
        for name in names {
            let path = self.spec.dir.join(name);
            let found = self.context.storage.metadata(&path).if_exists();
            if found.at("look at", &path)?.is_none() {
                return Ok(path);
            }
        }
        Err(Error::io(
            "keep the torn end in",
            &self.spec.dir,
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    fn remove_indexes(&self, base: u64) -> Result<()> {
        debug_assert!(!self.context.read_only, "a read-only log changes no file");
        for suffix in file_name::INDEXES.into_iter().chain([file_name::SNAPSHOT]) {
            let path = self.spec.dir.join(file_name::segment_file(base, suffix));
            remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
        }
        Ok(())
    }
}

fn is_zero(part: &FilePart<'_>) -> io::Result<bool> {
    part.any_chunk(0, |_, chunk| Ok(chunk.iter().any(|byte| *byte != 0)))
        .map(|is_other| !is_other)
}

/// Replaces a file by a copy of the part.
fn put_copy(part: &FilePart<'_>, storage: &dyn Storage, path: &Path) -> io::Result<()> {
    replace_file_by(storage, path, |copy| part.copy_to(copy))
}

/// Returns whether the part contains a whole batch with a valid checksum anywhere.
fn holds_batch(part: &FilePart<'_>) -> io::Result<bool> {
    let mut longer = Vec::new();
    part.any_chunk(
        u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX),
        |position, chunk| {
            for (at, rest) in (position..).zip((0..chunk.len()).filter_map(|at| chunk.get(at..))) {
                let Ok(header) = BatchHeader::decode(rest) else {
                    continue;
                };
                if header.size_bytes > part.end - at {
                    continue;
                }
                let batch = if let Some(batch) = rest.get(..header.size_bytes as usize) {
                    batch
                } else {
                    part.read(at, header.size_bytes, &mut longer)?;
                    &longer
                };
                if header.crc_is_valid(batch) {
                    return Ok(true);
                }
            }
            Ok(false)
        },
    )
}
