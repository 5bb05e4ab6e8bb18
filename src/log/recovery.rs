//! The report of what opening a log found and repaired.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::brief::Few;
use crate::error::Error;
use crate::group::LoweredCommit;
use crate::partition::PartitionRecovery;
use crate::topic_partition::TopicPartition;
use crate::transaction::RecoveredTransaction;

/// A report of what opening a log found, cut and rebuilt. From
/// [`Log::recovery`](crate::Log::recovery).
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the log had been closed cleanly, so that no partition had to be scanned.
    pub clean: bool,
    /// The partitions in which anything was scanned, cut, rebuilt or found damaged.
    pub partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// The topics whose `.topic` file is damaged, each with the error. Such a topic keeps all its
    /// records until [`Topic::update_config`](crate::Topic::update_config) writes a new file.
    pub topics: Vec<(Arc<str>, Error)>,
    /// Files and directories that do not belong to a log. They are left alone, and no record is
    /// read from them. If a partition is missing, look here for a directory that was renamed by
    /// mistake. Unknown files inside a partition's directory are ignored and not listed.
    pub foreign: Vec<PathBuf>,
    /// The positions of groups that were above the recovered end of their partition.
    pub lowered_commits: Vec<LoweredCommit>,
    /// The transactions that had no marker in a partition. Those of our own producers are ended;
    /// those of a broker's producers are left open.
    pub transactions: Vec<RecoveredTransaction>,
    /// Why the system refused to start the log's background thread. `None` if the thread runs, or
    /// if the log needs no thread. See [`Log::open`](crate::Log::open).
    pub thread_refused: Option<Error>,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clean,
            partitions,
            topics,
            foreign,
            lowered_commits,
            transactions,
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
            .field("transactions", &Few(transactions))
            .field("thread_refused", thread_refused)
            .finish()
    }
}

impl Recovery {
    /// Returns whether records were lost or may have been lost: bytes were cut, or a file is
    /// damaged.
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
