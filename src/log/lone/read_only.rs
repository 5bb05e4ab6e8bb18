//! One partition opened alone to read, also while another process writes to it: no lock, no repair,
//! no close.

use std::path::Path;

use super::note::Note;
use super::{Place, has_segments};
use crate::catalog::contents::Contents;
use crate::config::{Durability, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::log::Log;
use crate::log::directory::find;
use crate::log::open::LogBuilder;
use crate::partition::stated::Lines;
use crate::partition::{KeepOpen, Partition, PartitionCore};
use crate::topic::topic_file::unconfigured;

impl Partition {
    /// Opens the partition in `dir` to read, also while another process writes to it. The partition
    /// may be one that was opened with [`Partition::open`], or a partition of any log. Takes no
    /// lock, writes and repairs no file, and needs no permission to write. Calls that would write
    /// return [`Error::ReadOnly`].
    ///
    /// It sees the same changes of the writer as a log that is opened with [`Log::open_read_only`],
    /// with two differences:
    ///
    /// * The log start is read when the partition is opened. Later it rises only when the writer
    ///   deletes whole segments.
    /// * A deleted topic is noticed when its directory is gone.
    ///
    /// [`recovery`](Self::recovery) reports damage, as far as it can be found while another process
    /// writes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotALog`] if the directory has no segment of a partition, and [`Error::Io`]
    /// if it does not exist or cannot be read.
    ///
    /// ```
    /// # use annals::{Partition, TopicConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let writer = Partition::open(&dir, TopicConfig::new())?;
    /// let reading = Partition::open_read_only(&dir)?;
    /// writer.append("seen")?;
    /// assert_eq!(reading.log_end_offset(), 1);
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Log::builder(dir).open_partition_read_only()
    }
}

pub(in crate::log) fn open_read_only(builder: &LogBuilder) -> Result<Partition> {
    builder.check_dir()?;
    let log_settings = builder.config.resolve()?;
    let storage = &*builder.storage;
    let dir = storage.canonical(&builder.dir).at("find", &builder.dir)?;
    Contents::read(storage, &dir)?.check_is_partition(&dir)?;
    if !has_segments(storage, &dir)? {
        return Err(Error::NotALog {
            path: dir,
            reason: "it contains no segment of a partition".into(),
        });
    }
    let place = Place::of(storage, dir);
    let settings = unconfigured().over(&TopicSettings::default())?;
    let lines = Lines::read(storage, &place.home)?;
    let is_clean = find(storage, &place.home.join(file_name::CLEAN_SHUTDOWN))?.is_some();
    let note = if place.is_in_log {
        None
    } else {
        Some(Note::read(storage, &place.dir)?)
    };
    let stated = place.stated(storage, &lines, note.as_ref())?;
    let spec = stated.spec(place.id, place.dir, settings, is_clean);
    let context = builder.context(&log_settings, Vec::new(), true, false);
    let core = PartitionCore::open_read_only(&context, &spec)?.0;
    Ok(Partition::new(core, Durability::Os, KeepOpen::nothing()))
}
