//! Moving the bounds of a partition, where the checkpoints have to know at once.
//!
//! A cut lowers the stored recovery point first: a stop in between must find a log that is longer
//! than the checkpoint claims, never one that is shorter, which would look like a loss. A raised
//! log start is stored before the call returns: what was deleted does not come back.
//!
//! [`Guard`] keeps the log open, and is what the log's partitions ask.

use std::mem;
use std::sync::Arc;

use super::core::LogCore;
use crate::error::Result;
use crate::format::file_name;
use crate::partition::{
    Keeper, Maintenance, PartitionCore, PartitionRecovery, Reopened, Truncation,
};
use crate::topic_partition::TopicPartition;

/// Closes the log when the last handle goes.
pub(super) struct Guard {
    pub(super) core: Arc<LogCore>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.core.context().opener.is_this_process() {
            // Nothing of it is taken apart in a forked child.
            mem::forget(Arc::clone(&self.core));
            return;
        }
        // Who wants to know calls `close`.
        let _nobody_is_left_to_tell = self.core.close();
    }
}

impl Keeper for Guard {
    fn store_log_start(&self) -> Result<()> {
        self.core.write_checkpoints()
    }

    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        self.core.truncate(partition, cut)
    }

    fn finish_reopen(
        &self,
        partition: &PartitionCore,
        reopened: Reopened<'_>,
    ) -> PartitionRecovery {
        if file_name::is_internal_topic(&partition.id().topic) {
            // The lowered positions are appended to this topic.
            let report = reopened.take_writes();
            self.core.lower_commits_of(partition.id());
            return report;
        }
        // Before anything else is appended: a group would pass over records that take these
        // offsets. We do not ask whether any records are gone: another thread may have appended and
        // committed up to the moment at which appends had to wait.
        self.core.lower_commits_of(partition.id());
        reopened.take_writes()
    }

    fn store_flushed(&self) -> Result<()> {
        Ok(())
    }

    fn compact(&self, partition: &PartitionCore) -> Result<Maintenance> {
        self.core
            .compact(partition, self.core.context().clock.now(), &mut || true)
    }
}

impl LogCore {
    /// Lowers the commits above the end of a partition that was recovered or cut. Where it is the
    /// one that holds the commits, those that are left are read anew first: they are older ones,
    /// and may lie above a cut that a lost one knew of.
    fn lower_commits_of(&self, id: &TopicPartition) {
        if file_name::is_internal_topic(&id.topic) {
            self.groups.offsets_were_cut();
        }
        self.groups.lower_commits(|_| u64::MAX);
    }

    /// Cuts a partition, after what was committed and stored of it.
    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        let (id, end) = (partition.id(), cut.end());
        if file_name::is_internal_topic(&id.topic) {
            let done = self.store_and_cut(id, cut);
            self.lower_commits_of(id);
            return done;
        }
        self.groups
            .lower_commits_then(partition, end, || self.store_and_cut(id, cut))
    }

    fn store_and_cut(&self, id: &TopicPartition, cut: Truncation<'_>) -> Result<()> {
        self.context().clean_marker.clear(self.storage())?;
        let (end, recovery_point) = (cut.end(), cut.recovery_point());
        self.checkpoints.write_then(
            self.storage(),
            |before| before.lowered(id, end, recovery_point),
            || cut.make(),
        )
    }
}
