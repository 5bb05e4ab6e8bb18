//! What a partition that is opened alone notes of itself, under a checksum: whether it is dense,
//! and where it starts.
//!
//! The note is written before the first segment, and again, durably, before the checkpoints say
//! what has changed in it. A partition without one, of before there was such a file, is read by its
//! checkpoints, and gaps are legal in it.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{LoneFile, NEWER_VERSION, decode_lone_file, encode_lone_file};
use crate::storage::{Storage, read_file, replace_file};
use crate::topic::stored::is_never_compacted;

/// The file has a few lines.
const MAX_BYTES: u64 = 1 << 16;

/// The note as it stands in the directory.
#[derive(Debug)]
pub(in crate::log) struct Note {
    path: PathBuf,
    on_disk: Mutex<Option<LoneFile>>,
}

impl Note {
    /// Reads it. `Unsupported` for one of a later version; one that is damaged says nothing.
    pub(in crate::log) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let path = dir.join(file_name::LONE_PARTITION);
        let bytes = match read_file(storage, &path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                Vec::new()
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let file = match decode_lone_file(&bytes) {
            Err(NEWER_VERSION) => {
                return Err(Error::Unsupported {
                    path,
                    what: "a later version of `lone-partition`",
                });
            }
            // A broker, which leaves its topic id, may have compacted the partition, and moved its
            // start.
            decoded => decoded.ok().filter(|_| {
                storage
                    .metadata(&dir.join(file_name::PARTITION_METADATA))
                    .is_err()
            }),
        };
        Ok(Self {
            path,
            on_disk: Mutex::new(file),
        })
    }

    /// Where the log starts; `None` where there is no note.
    pub(in crate::log) fn log_start(&self) -> Option<u64> {
        self.on_disk
            .lock()
            .as_ref()
            .map(|file| file.log_start.unwrap_or(0))
    }

    /// Whether it said so when it was last written; see `settle_density`.
    pub(in crate::log) fn is_dense(&self) -> bool {
        self.on_disk
            .lock()
            .as_ref()
            .is_some_and(|file| file.is_dense)
    }

    /// Notes, before it has a segment, whether a new partition will have gaps.
    pub(in crate::log) fn begin(
        &self,
        storage: &dyn Storage,
        settings: &TopicSettings,
    ) -> Result<bool> {
        let is_dense = is_never_compacted(settings);
        self.write(
            storage,
            LoneFile {
                is_dense,
                log_start: None,
            },
        )?;
        Ok(is_dense)
    }

    /// Whether the partition is dense. Once it may be compacted it is so no more, for good.
    pub(in crate::log) fn settle_density(
        &self,
        storage: &dyn Storage,
        settings: &TopicSettings,
    ) -> Result<bool> {
        let Some(file) = self.on_disk.lock().clone().filter(|file| file.is_dense) else {
            return Ok(false);
        };
        if is_never_compacted(settings) {
            return Ok(true);
        }
        self.write(
            storage,
            LoneFile {
                is_dense: false,
                ..file
            },
        )?;
        Ok(false)
    }

    /// Notes where the log starts, where that is not its first segment. Durable on return.
    pub(in crate::log) fn store_log_start(
        &self,
        storage: &dyn Storage,
        log_start: Option<u64>,
    ) -> Result<()> {
        let file = self.on_disk.lock().clone().unwrap_or_default();
        self.write(storage, LoneFile { log_start, ..file })
    }

    fn write(&self, storage: &dyn Storage, file: LoneFile) -> Result<()> {
        let mut on_disk = self.on_disk.lock();
        if on_disk.as_ref() != Some(&file) {
            let written = replace_file(storage, &self.path, encode_lone_file(&file).as_bytes());
            written.map_err(|error| Error::io("write", &self.path, error))?;
            *on_disk = Some(file);
        }
        Ok(())
    }
}
