//! Lowers committed positions that are above the end of their log.
//!
//! Otherwise the group would pass over records that are appended there later. The ends are lowered
//! by a truncation, and by recovery after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::PartitionCore;
use crate::topic_partition::TopicPartition;

use super::positions::Commit;
use super::store::{OffsetStore, Placed, is_about};

/// A committed offset that was above the recovered end of its partition, and was lowered to it.
/// Otherwise the group would skip the records that get these offsets next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoweredCommit {
    /// The id of the group.
    pub group: String,
    /// The partition that the offset refers to.
    pub partition: TopicPartition,
    /// The offset that the group had committed.
    pub from: u64,
    /// The end of the partition, which is the group's committed offset now.
    pub to: u64,
}

impl OffsetStore {
    /// Lowers every position that is above the end of its log, or above the result of `at_most` for
    /// it, to the lower of the two.
    pub(in crate::group) fn lower_commits(
        &self,
        at_most: impl Fn(&TopicPartition) -> u64,
    ) -> Vec<LoweredCommit> {
        let _no_commit_in_between = self.removal.write();
        self.lower(|partition, commit| {
            self.log_end(partition, commit)
                .map(|end| end.min(at_most(partition)))
        })
    }

    /// Lowers the positions above `end` in a partition, and then calls `cut`, which cuts it there.
    /// No commit happens in between.
    ///
    /// Fails with `UnknownTopic` if the partition no longer exists. A partition that has its name
    /// now keeps its positions.
    pub(in crate::group) fn lower_then(
        &self,
        partition: &Arc<PartitionCore>,
        end: u64,
        cut: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _no_commit_in_between = self.removal.write();
        let id = partition.id();
        if !Arc::ptr_eq(
            &self.catalog.topic(&id.topic)?.partition(id.partition)?,
            partition,
        ) {
            return Err(Error::UnknownTopic(Arc::clone(&id.topic)));
        }
        self.lower(|other, _| (other == id).then_some(end));
        cut()
    }

    /// Lowers each position that is above the result of `end_of` for it.
    ///
    /// The lowered positions apply at once. They are also durable, unless the disk is full or
    /// fails: then they are written later. If the store cannot be read, no position is lowered, and
    /// none can be used until the store is repaired.
    fn lower(
        &self,
        end_of: impl Fn(&TopicPartition, &Commit) -> Option<u64>,
    ) -> Vec<LoweredCommit> {
        let lowered = self.with_loaded(|loaded| {
            let lowered = loaded.positions.lower(end_of);
            loaded.unwritten.extend(
                lowered
                    .iter()
                    .map(|(group, partition, ..)| (Arc::clone(group), partition.clone())),
            );
            Ok(lowered)
        });
        let mut lowered = lowered.unwrap_or_default();
        self.write_lowered();
        lowered.sort();
        lowered
            .into_iter()
            .map(|(group, partition, from, to)| {
                debug_assert!(
                    to < from,
                    "{group}: {partition} was lowered from {from} to {to}"
                );
                LoweredCommit {
                    group: group.to_string(),
                    partition,
                    from,
                    to,
                }
            })
            .collect()
    }

    /// Writes the positions that were lowered while the disk was full, if there are any.
    pub(in crate::group) fn retry_lowered(&self) {
        if self
            .loaded
            .lock()
            .as_ref()
            .is_some_and(|loaded| !loaded.unwritten.is_empty())
        {
            let _no_commit_in_between = self.removal.write();
            self.write_lowered();
        }
    }

    /// Writes the lowered positions, as far as the disk has room. `removal` is held alone.
    fn write_lowered(&self) {
        let unwritten = self.with_loaded(|loaded| {
            let mut of_groups = BTreeMap::<Arc<str>, Vec<Placed>>::new();
            for (group, partition) in &loaded.unwritten {
                let Some(commit) = loaded.positions.get(group, partition) else {
                    continue;
                };
                let Some(next) = commit.position() else {
                    continue;
                };
                let placed = Placed {
                    partition: partition.clone(),
                    next: next.clone(),
                    topic_id: commit.topic_id,
                };
                of_groups.entry(Arc::clone(group)).or_default().push(placed);
            }
            Ok(of_groups)
        });
        for (group, placed) in unwritten.into_iter().flatten() {
            let _tried_again_later = self.write(&group, placed, Durability::Synced);
        }
    }

    /// Returns the end of the log that a commit refers to; `None` if that log no longer exists.
    fn log_end(&self, partition: &TopicPartition, commit: &Commit) -> Option<u64> {
        let topic = self
            .catalog
            .topic(&partition.topic)
            .ok()
            .filter(|topic| is_about(commit, topic.id()))?;
        topic
            .partition(partition.partition)
            .ok()
            .map(|partition| partition.log_end_offset())
    }
}
