//! The facts about a partition that other files than its segments state: where it starts, how far
//! it is durable, and whether gaps are legal in it.
//!
//! The checkpoints, which Kafka reads and writes too, have no checksum. annals repeats their facts
//! in a file under a checksum: the topic file in a log, or the note of a partition that is opened
//! alone.
//!
//! An opening and a reload of a read-only partition read the facts by the same rule.
//!
//! | fact | source |
//! | --- | --- |
//! | log start | the file under a checksum, else the checkpoint |
//! | log start, after a broker | the greater of the two: a broker may have moved the start, and does not know the start of a partition that it had set aside |
//! | topic id, density | the file under a checksum; after a broker, neither is known: it may have replaced the topic, and compacted it |
//! | recovery point | the checkpoint |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::PartitionSpec;
use crate::config::TopicSettings;
use crate::error::{At, Result};
use crate::format::checkpoint::decode_offsets;
use crate::format::file_name;
use crate::format::metadata_file::{
    LoneFile, TopicFile, TopicId, decode_lone_file, decode_partition_metadata, decode_topic_file,
};
use crate::storage::{Storage, directory_of, read_file, read_if_fits};
use crate::topic_partition::TopicPartition;

/// The greatest size of a file with facts. A checkpoint has a line for each partition: this is more
/// than those of a million partitions.
const MAX_BYTES: u64 = 512 << 20;

/// The offset of each partition that has a line.
pub(crate) type Offsets = BTreeMap<TopicPartition, u64>;

/// The lines of the checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) recovery_points: Offsets,
    pub(crate) log_starts: Offsets,
    /// The end of the compacted part.
    pub(crate) cleaned: Offsets,
}

impl Lines {
    /// Reads the checkpoints in `dir`. A missing or damaged file has no lines.
    ///
    /// Fails if the disk refuses to read a file: its lines may state that records were deleted, or
    /// that they are durable.
    pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let read = |name| {
            let path = dir.join(name);
            let read = read_offsets(storage, &path).at("read", &path);
            read.map(Option::unwrap_or_default)
        };
        Ok(Self {
            recovery_points: read(file_name::RECOVERY_POINTS)?,
            log_starts: read(file_name::LOG_STARTS)?,
            cleaned: read(file_name::CLEANER_OFFSETS)?,
        })
    }

    /// Returns these lines for a partition that is about to be cut at `end`: its recovery point is
    /// at most `recovery_point`, and nothing at or above `end` counts as compacted.
    pub(crate) fn lowered(&self, id: &TopicPartition, end: u64, recovery_point: u64) -> Self {
        debug_assert!(
            recovery_point <= end,
            "{id}: a cut at {end} leaves no records up to {recovery_point}"
        );
        let mut lines = self.clone();
        if let Some(point) = lines.recovery_points.get_mut(id) {
            *point = recovery_point.min(*point);
        }
        if let Some(cleaned) = lines.cleaned.get_mut(id) {
            *cleaned = end.min(*cleaned);
        }
        lines
    }
}

/// The facts that a file under a checksum states about one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    topic_id: Option<TopicId>,
    /// 0 if the partition starts at its first segment.
    pub(crate) log_start: u64,
    is_dense: bool,
}

impl Covered {
    /// Returns the facts that a topic file states about partition `id` of its topic.
    pub(crate) fn of_topic(file: &TopicFile, id: &TopicPartition) -> Self {
        let mut starts = file.log_starts.iter();
        let start = starts.find(|(number, _)| *number == id.partition);
        Self {
            topic_id: Some(file.topic_id),
            log_start: start.map_or(0, |(_, start)| *start),
            is_dense: file.is_dense,
        }
    }

    /// Returns the facts in the note of a partition that is opened alone.
    pub(crate) fn of_note(file: &LoneFile) -> Self {
        Self {
            topic_id: None,
            log_start: file.log_start.unwrap_or(0),
            is_dense: file.is_dense,
        }
    }

    /// Returns what a topic file states about the partition in `dir`, unless the file belongs to an
    /// earlier topic of the same name.
    pub(crate) fn of_topic_in(
        file: &TopicFile,
        id: &TopicPartition,
        storage: &dyn Storage,
        dir: &Path,
        broker_since: bool,
    ) -> Option<Self> {
        let on_disk = broker_since
            .then(|| stored_topic_id(storage, dir))
            .flatten();
        is_of_topic(file, on_disk).then(|| Self::of_topic(file, id))
    }
}

/// Returns whether a topic file belongs to the topic whose id is on the disk. A broker may have
/// deleted the topic of the file, and created another one of the same name.
pub(crate) fn is_of_topic(file: &TopicFile, on_disk: Option<TopicId>) -> bool {
    on_disk.is_none_or(|on_disk| on_disk == file.topic_id)
}

/// The facts that all files together state about one partition.
#[derive(Debug)]
pub(crate) struct Stated {
    pub(crate) topic_id: Option<TopicId>,
    /// `None` if no file states it.
    pub(crate) log_start: Option<u64>,
    /// `None` if the checkpoint has no line of the partition.
    pub(crate) recovery_point: Option<u64>,
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
    /// Whether a broker had the directory since annals last wrote to it.
    pub(crate) broker_since: bool,
}

impl Stated {
    /// Combines the line `line` of the checkpoints with the file under a checksum.
    pub(crate) fn of(
        line: &TopicPartition,
        lines: &Lines,
        file: Option<Covered>,
        broker_since: bool,
    ) -> Self {
        let in_file = file.map(|file| file.log_start);
        let in_checkpoint = lines.log_starts.get(line).copied();
        let trusted = file.filter(|_| !broker_since);
        Self {
            topic_id: trusted.and_then(|file| file.topic_id),
            log_start: if broker_since {
                in_file.max(in_checkpoint)
            } else {
                in_file.or(in_checkpoint)
            },
            recovery_point: lines.recovery_points.get(line).copied(),
            is_dense: trusted.is_some_and(|file| file.is_dense),
            broker_since,
        }
    }

    /// Reads what the files state at the moment about the partition `id` in `dir`: those at the
    /// root of its log, or else its own files, if it was opened alone. A file that cannot be read
    /// states nothing.
    pub(in crate::partition) fn read(
        storage: &dyn Storage,
        dir: &Path,
        id: &TopicPartition,
    ) -> Self {
        let root = directory_of(dir);
        let read = |path: PathBuf| read_file(storage, &path, MAX_BYTES).ok();
        let broker_since = storage
            .metadata(&root.join(file_name::HIGH_WATERMARKS))
            .is_ok();
        let topic_file = read(root.join(file_name::topic_file(&id.topic)))
            .and_then(|bytes| decode_topic_file(&bytes).ok())
            .and_then(|file| Covered::of_topic_in(&file, id, storage, dir, broker_since));
        let lines_of = |name| {
            let read = read_offsets(storage, &root.join(name));
            read.ok().flatten()
        };
        let log_starts = lines_of(file_name::LOG_STARTS);
        // A partition without a line in the checkpoint starts at its first segment.
        let first = log_starts.as_ref().map(|_| 0);
        let recovery_points = lines_of(file_name::RECOVERY_POINTS);
        // The writer keeps a line for each partition. One without a line was created after its
        // topic had been deleted, and nothing is known to be durable.
        let without_line = recovery_points.as_ref().map(|_| 0);
        let lines = Lines {
            recovery_points: recovery_points.unwrap_or_default(),
            log_starts: log_starts.unwrap_or_default(),
            ..Lines::default()
        };
        let in_log = Self::of(id, &lines, topic_file, broker_since);
        let note = read(dir.join(file_name::LONE_PARTITION))
            .and_then(|bytes| decode_lone_file(&bytes).ok())
            .filter(|_| topic_file.is_none() && is_note_trusted(storage, dir));
        let note = note.as_ref().map(Covered::of_note);
        let own_lines = Lines::read(storage, dir).unwrap_or_default();
        let alone = Self::of(&own_line(), &own_lines, note, false);
        Self {
            log_start: in_log.log_start.or(first).or(alone.log_start),
            recovery_point: in_log
                .recovery_point
                .or(alone.recovery_point)
                .or(without_line),
            is_dense: in_log.is_dense || alone.is_dense,
            ..in_log
        }
    }

    /// Returns how to open the partition `id` in `dir`. `clean` says whether it was closed cleanly.
    pub(crate) fn spec(
        &self,
        id: TopicPartition,
        dir: PathBuf,
        settings: TopicSettings,
        clean: bool,
    ) -> PartitionSpec {
        PartitionSpec {
            id,
            dir,
            settings,
            topic_id: self.topic_id,
            log_start: self.log_start.unwrap_or(0),
            recovery_point: self.recovery_point.unwrap_or(0),
            clean,
            is_dense: self.is_dense,
            broker_since: self.broker_since,
        }
    }
}

/// Returns the topic and partition under which a lone partition has its line in its checkpoints.
/// Its directory may be renamed, and may have a name that a checkpoint cannot hold.
pub(crate) fn own_line() -> TopicPartition {
    TopicPartition::new("partition", 0)
}

/// Returns whether the note in `dir` may be trusted. A broker leaves its topic id in the directory,
/// and may have compacted the partition and moved its start.
pub(crate) fn is_note_trusted(storage: &dyn Storage, dir: &Path) -> bool {
    storage
        .metadata(&dir.join(file_name::PARTITION_METADATA))
        .is_err()
}

/// Returns the topic id in `partition.metadata`, if the file can be read.
pub(crate) fn stored_topic_id(storage: &dyn Storage, dir: &Path) -> Option<TopicId> {
    let bytes = read_file(storage, &dir.join(file_name::PARTITION_METADATA), MAX_BYTES).ok()?;
    decode_partition_metadata(&bytes).ok()
}

/// Returns the lines of a checkpoint, or `None` if the file is missing or damaged.
fn read_offsets(storage: &dyn Storage, path: &Path) -> io::Result<Option<Offsets>> {
    let bytes = read_if_fits(storage, path, MAX_BYTES)?;
    let lines = bytes.and_then(|bytes| decode_offsets(&bytes).ok());
    Ok(lines.map(|lines| {
        lines
            .into_iter()
            .map(|(topic, partition, offset)| (TopicPartition::new(topic, partition), offset))
            .collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(in_file: Option<u64>, in_checkpoint: Option<u64>, broker_since: bool) -> Stated {
        let id = TopicPartition::new("t", 0);
        let mut lines = Lines::default();
        lines
            .log_starts
            .extend(in_checkpoint.map(|start| (id.clone(), start)));
        let file = in_file.map(|log_start| Covered {
            topic_id: Some(TopicId([7; 16])),
            log_start,
            is_dense: true,
        });
        Stated::of(&id, &lines, file, broker_since)
    }

    #[test]
    fn the_topic_file_wins_unless_a_broker_had_the_log() {
        let start = |file, checkpoint, broker| stated(file, checkpoint, broker).log_start;
        assert_eq!(start(Some(5), Some(9), false), Some(5));
        assert_eq!(start(Some(5), Some(9), true), Some(9));
        assert_eq!(start(Some(9), Some(5), true), Some(9));
        assert_eq!(start(None, Some(5), false), Some(5));
        assert_eq!(start(None, None, true), None);
    }

    #[test]
    fn a_partition_is_not_known_to_be_dense_after_a_broker() {
        assert!(stated(Some(0), None, false).is_dense);
        assert!(!stated(Some(0), None, true).is_dense);
        assert!(!stated(None, Some(0), false).is_dense);
        assert_eq!(stated(Some(0), None, true).topic_id, None);
    }
}
