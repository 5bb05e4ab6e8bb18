//! One partition opened alone to read, beside whoever writes it: no lock, no repair, nothing to
//! close.

use std::path::Path;

use super::note::Note;
use super::{exists, identify, list, log_around, spec};
use crate::catalog::checkpoints::Checkpoints;
use crate::catalog::contents::Contents;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::log::Log;
use crate::log::open::LogBuilder;
use crate::partition::{KeepOpen, Partition, PartitionCore};
use crate::topic::stored::unconfigured;

impl Partition {
    /// Opens the partition in `dir` to read, also beside a writer in another process: one that
    /// stands alone, or a partition of any log. Takes no lock, writes nothing, repairs nothing, and
    /// needs no permission to write. Whatever would write is [`Error::ReadOnly`].
    ///
    /// It sees what [`Log::open_read_only`](Log::open_read_only) sees of a partition, with two
    /// differences: the log start is that of the moment of opening, and rises only with whole
    /// segments that the writer deletes; and a deleted topic is noticed when its directory is gone.
    /// [`recovery`](Self::recovery) reports damage, as far as a reader beside a writer can tell.
    ///
    /// # Errors
    /// [`Error::NotALog`] if the directory holds nothing of a partition; [`Error::Io`] if it is not
    /// there or cannot be read.
    ///
    /// ```
    /// # use annals::{Partition, TopicConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let writer = Partition::open(&dir, TopicConfig::new())?;
    /// let reading = Partition::open_read_only(&dir)?;
    /// writer.append("seen")?;
    /// assert_eq!(reading.log_end_offset(), 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Log::builder(dir).open_partition_read_only()
    }
}

pub(in crate::log) fn open_read_only(builder: &LogBuilder) -> Result<Partition> {
    builder.check_dir()?;
    let log_settings = builder.config.resolve()?;
    let storage = &*builder.storage;
    let dir = storage
        .canonical(&builder.dir)
        .map_err(|error| Error::io("find", &builder.dir, error))?;
    Contents::read(storage, &dir)?.check_is_partition(&dir)?;
    if !list(storage, &dir)?
        .iter()
        .any(|entry| file_name::parse_segment_file(&entry.name).is_some())
    {
        return Err(Error::NotALog {
            path: dir,
            reason: "it holds nothing of a partition".into(),
        });
    }
    let id = identify(&dir);
    let log = log_around(storage, &dir);
    let home = log.unwrap_or(&dir);
    let settings = unconfigured().over(&TopicSettings::default())?;
    let lines = Checkpoints::read(storage, home).lines();
    let is_clean = exists(storage, &home.join(file_name::CLEAN_SHUTDOWN))?;
    let mut spec = spec(
        storage,
        home,
        &dir,
        id,
        settings,
        &lines,
        is_clean,
        log.is_some(),
    )?;
    if log.is_none() {
        let note = Note::read(storage, &dir)?;
        spec.log_start = note.log_start().unwrap_or(spec.log_start);
        spec.is_dense = note.is_dense();
    }
    let context = builder.context(&log_settings, Vec::new(), true, false);
    let core = PartitionCore::open_beside(&context, &spec)?.0;
    Ok(Partition::new(core, Durability::Os, KeepOpen::nothing()))
}
