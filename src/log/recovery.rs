//! What opening a log found and repaired.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::brief::Few;
use crate::error::Error;
use crate::partition::PartitionRecovery;
use crate::topic_partition::TopicPartition;

/// What opening a log found, cut and rebuilt.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the log had been closed in good order, so that nothing had to be scanned.
    pub clean: bool,
    /// Partitions where anything was scanned, cut, rebuilt or found damaged.
    pub partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// Topics whose `.topic` file is damaged, and how. They keep all their records until they are
    /// configured anew.
    pub topics: Vec<(Arc<str>, Error)>,
    /// What the directory holds that no log has. It is left alone, and nothing of it is served:
    /// look here for a directory that was renamed by mistake. Inside a partition's directory other
    /// files are passed over.
    pub foreign: Vec<PathBuf>,
    /// Positions of groups that lay beyond what is left of their partition.
    pub lowered_commits: Vec<LoweredCommit>,
    /// Why the system refused the log's background thread; `None` if the thread runs, or the log
    /// needs none. See [`Log::open`].
    pub thread_refused: Option<Error>,
}

/// A committed offset that pointed beyond the recovered end of its partition and was lowered to it:
/// otherwise the records that get these offsets next would be passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoweredCommit {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: TopicPartition,
    /// What it had committed.
    pub from: u64,
    /// The end of the partition, which is its position now.
    pub to: u64,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clean,
            partitions,
            topics,
            foreign,
            lowered_commits,
            thread_refused,
        } = self;
        let mut shown = f.debug_struct("Recovery");
        shown
            .field("clean", clean)
            .field("partitions", &Few(partitions))
            .field("topics", &Few(topics));
        shown.field("foreign", &Few(foreign));
        shown
            .field("lowered_commits", &Few(lowered_commits))
            .field("thread_refused", thread_refused)
            .finish()
    }
}

impl Recovery {
    /// Whether anything was lost, or may have been: bytes that were cut, or damage.
    pub fn has_losses(&self) -> bool {
        let is_loss =
            |recovery: &PartitionRecovery| recovery.bytes_cut > 0 || recovery.damage.is_some();
        !self.topics.is_empty()
            || self
                .partitions
                .iter()
                .any(|(_, recovery)| is_loss(recovery))
    }
}
