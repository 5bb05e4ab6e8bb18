//! Changes to the bounds of a partition that the checkpoints must know immediately.
//!
//! A cut lowers the stored recovery point first. So a crash in between leaves a log that is longer
//! than the checkpoint states, and never a shorter one, which would look like a loss. A raised log
//! start is stored before the call returns, so that deleted records do not come back.
//!
//! [`Guard`] keeps the log open. The partitions of the log call it through [`Keeper`].

use std::mem;
use std::sync::Arc;

use super::core::LogCore;
use crate::error::Result;
use crate::format::file_name;
use crate::partition::{
    Keeper, Maintenance, PartitionCore, PartitionRecovery, Reopened, Restart, Truncation,
};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

/// Closes the log when the last handle is dropped.
pub(super) struct Guard {
    pub(super) core: Arc<LogCore>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.core.context().opener.is_this_process() {
            // In a forked child nothing is closed: the files belong to the opener.
            mem::forget(Arc::clone(&self.core));
            return;
        }
        // A program that wants to know the result calls `close`.
        let _no_caller_left = self.core.close();
    }
}

impl Keeper for Guard {
    fn store_log_start(&self) -> Result<()> {
        debug_assert!(
            !self.core.context().read_only,
            "a read-only log deletes no records"
        );
        self.core.write_checkpoints()
    }

    fn transactional_producers(&self) -> Result<Vec<i64>> {
        self.core.transactions.producer_ids()
    }

    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        self.core.truncate(partition, cut)
    }

    fn restart(&self, partition: &Arc<PartitionCore>, restart: Restart<'_>) -> Result<()> {
        self.core.restart(partition, restart)
    }

    fn finish_reopen(
        &self,
        partition: &PartitionCore,
        reopened: Reopened<'_>,
    ) -> PartitionRecovery {
        debug_assert!(
            !self.core.context().read_only,
            "a read-only log repairs no partition"
        );
        if file_name::is_internal_topic(&partition.id().topic) {
            // The lowered offsets are appended to this topic, so it must accept writes first.
            let report = reopened.take_writes();
            self.core.transactions.recover_partition(partition.id());
            self.core.lower_commits_of(partition.id());
            return report;
        }
        // Before any record is appended: otherwise a group would skip the records that get these
        // offsets. We do not check whether records were lost: another thread may have appended and
        // committed up to the moment at which appends had to wait.
        self.core.lower_commits_of(partition.id());
        let report = reopened.take_writes();
        self.core.transactions.recover_partition(partition.id());
        report
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
    /// Lowers the committed offsets above the end of a partition that was recovered or cut. If it
    /// is the partition that stores the commits, the commits that are left are read again first:
    /// they are older, and may be above a cut that a lost commit knew of.
    fn lower_commits_of(&self, id: &TopicPartition) {
        if file_name::is_internal_topic(&id.topic) {
            self.groups.offsets_were_cut();
        }
        self.groups.lower_commits(|_| u64::MAX);
    }

    /// Cuts a partition, after lowering its committed offsets and its lines in the checkpoints.
    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        let (id, end) = (partition.id(), cut.end());
        if file_name::is_internal_topic(&id.topic) {
            let done = self.store_and_cut(id, cut);
            self.lower_commits_of(id);
            return done;
        }
        let done = self
            .groups
            .lower_commits_then(partition, end, || self.store_and_cut(id, cut));
        self.transactions.partition_was_cut(partition);
        done
    }

    /// Lowers the committed offsets above the new offset of a partition, then empties the partition
    /// and moves it there. A close of the log that begins in the meantime waits.
    fn restart(&self, partition: &Arc<PartitionCore>, restart: Restart<'_>) -> Result<()> {
        let (id, start) = (partition.id(), restart.start());
        let store = || self.write_checkpoints_after(TopicCore::store_unless_deleted);
        if file_name::is_internal_topic(&id.topic) {
            let done = restart.make(store);
            self.lower_commits_of(id);
            return done;
        }
        self.groups
            .lower_commits_then(partition, start, || restart.make(store))
    }

    fn store_and_cut(&self, id: &TopicPartition, cut: Truncation<'_>) -> Result<()> {
        debug_assert!(
            !self.context().read_only,
            "a read-only log cuts no partition"
        );
        self.context().clean_marker.clear(self.storage())?;
        let (end, recovery_point) = (cut.end(), cut.recovery_point());
        self.checkpoints.write_then(
            self.storage(),
            |before| before.lowered(id, end, recovery_point),
            || cut.make(),
        )
    }
}
