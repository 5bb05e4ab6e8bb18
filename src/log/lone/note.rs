//! The note of a partition that is opened alone: whether it is dense, and where it starts. It has a
//! checksum.
//!
//! The note is written before the first segment. When a fact changes, the note is written durably
//! before the checkpoints are. A partition created by a version without notes is read by its
//! checkpoints, and gaps are legal in it.

use std::path::{Path, PathBuf};

use crate::config::TopicSettings;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{LoneFile, NEWER_VERSION, decode_lone_file, encode_lone_file};
use crate::partition::stated::{Covered, is_note_trusted};
use crate::storage::{Storage, read_if_fits, replace_file};
use crate::sync::Mutex;
use crate::topic::topic_file::is_never_compacted;

/// The greatest size of a note, which has a few lines.
const MAX_BYTES: u64 = 1 << 16;

/// The note as it is on disk.
#[derive(Debug)]
pub(in crate::log) struct Note {
    path: PathBuf,
    on_disk: Mutex<Option<LoneFile>>,
}

impl Note {
    /// Reads the note. Returns `Unsupported` if a later version wrote it. A damaged note counts as
    /// missing.
    pub(in crate::log) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let path = dir.join(file_name::LONE_PARTITION);
        let bytes = read_if_fits(storage, &path, MAX_BYTES).at("read", &path)?;
        let file = match decode_lone_file(&bytes.unwrap_or_default()) {
            Err(NEWER_VERSION) => {
                return Err(Error::Unsupported {
                    path,
                    what: "a later version of `lone-partition`",
                });
            }
            decoded => decoded.ok().filter(|_| is_note_trusted(storage, dir)),
        };
        Ok(Self {
            path,
            on_disk: Mutex::new(file),
        })
    }

    /// Returns the facts in the note. `None` if there is no note.
    pub(in crate::log) fn covered(&self) -> Option<Covered> {
        self.on_disk.lock().as_ref().map(Covered::of_note)
    }

    /// Writes the first note of a new partition, before its first segment. Returns whether the
    /// partition is dense.
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

    /// Returns whether the partition is dense. As soon as the settings allow compaction, it is
    /// noted as not dense, permanently.
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

    /// Notes the log start; `None` if it is the base offset of the first segment. Durable on
    /// return.
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
            let text = encode_lone_file(&file);
            debug_assert_eq!(
                decode_lone_file(text.as_bytes()).as_ref(),
                Ok(&file),
                "the next opening reads the note as it was written"
            );
            let written = replace_file(storage, &self.path, text.as_bytes());
            written.at("write", &self.path)?;
            *on_disk = Some(file);
        }
        Ok(())
    }
}
