//! The facts about a partition that other files than its segments state: where it starts, how far
//! it is durable, and whether gaps are legal in it.
//!
//! The checkpoints, which Kafka reads and writes too, have no checksum. annals repeats their facts
//! in a file under a checksum: the topic file in a log, or the note of a partition that is opened
//! alone.
//!
//! | fact | source |
//! | --- | --- |
//! | log start | the file under a checksum, else the checkpoint |
//! | log start, after a broker | the greater of the two: a broker may have moved the start, and does not know the start of a partition that it had set aside |
//! | topic id, density | the file under a checksum; after a broker, neither is known: it may have replaced the topic, and compacted it |
//! | recovery point | the checkpoint |

use std::path::{Path, PathBuf};

use super::checkpoints::Lines;
use crate::config::TopicSettings;
use crate::error::Result;
use crate::format::metadata_file::{LoneFile, TopicFile, TopicId};
use crate::partition::PartitionSpec;
use crate::partition::open::assembly::stored_topic_id;
use crate::storage::Storage;
use crate::topic::topic_file::{Found, read_topic_file};
use crate::topic_partition::TopicPartition;

/// The facts that a file under a checksum states about one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    topic_id: Option<TopicId>,
    /// 0 if the partition starts at its first segment.
    pub(super) log_start: u64,
    is_dense: bool,
}

impl Covered {
    /// Returns the facts that a topic file states about partition `id` of its topic.
    pub(super) fn of_topic(file: &TopicFile, id: &TopicPartition) -> Self {
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

    /// Reads the topic file of the partition in `dir`, from the log in `root`. Returns `None` if
    /// the file is missing or damaged, or belongs to an earlier topic of the same name.
    pub(crate) fn read(
        storage: &dyn Storage,
        root: &Path,
        dir: &Path,
        id: &TopicPartition,
        broker_since: bool,
    ) -> Result<Option<Self>> {
        let Found::Sound(file, _) = read_topic_file(storage, root, &id.topic)? else {
            return Ok(None);
        };
        let on_disk = broker_since
            .then(|| stored_topic_id(storage, dir))
            .flatten();
        Ok(is_of_topic(&file, on_disk).then(|| Self::of_topic(&file, id)))
    }
}

/// Returns whether a topic file belongs to the topic whose id is on the disk. A broker may have
/// deleted the topic of the file, and created another one of the same name.
pub(super) fn is_of_topic(file: &TopicFile, on_disk: Option<TopicId>) -> bool {
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
