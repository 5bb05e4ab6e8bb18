//! The handle of a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::KeepOpen;
use crate::topic_partition::TopicPartition;

use super::config::ConsumerConfig;
use super::consuming::consumer::Consumer;
use super::members::member::{Group, Owned};
use super::members::subscription::Subscription;
use super::offsets::claim::Claim;
use super::offsets::positions::OffsetAndMetadata;
use super::offsets::store::Gone;
use super::service::GroupService;

/// Greatest length of a group's name: Kafka writes the length as an `i16`.
const ID_MAX_BYTES: usize = 32_767;

/// A consumer group: its members share the partitions of the topics that they subscribe to.
///
/// The group commits offsets, and resumes there after a restart. Groups do not affect each other.
/// Clones are the same group.
///
/// Each partition is read by one member at a time, so a topic keeps as many members busy as it has
/// partitions; further members are idle. Create the topic with as many partitions as there will
/// ever be workers.
///
/// The first commit stores the group on disk.
#[derive(Clone)]
pub struct ConsumerGroup {
    pub(super) service: Arc<GroupService>,
    pub(super) group: Arc<Group>,
    pub(super) keep: KeepOpen,
}

impl fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerGroup")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl ConsumerGroup {
    /// Returns the name of the group.
    pub fn id(&self) -> &str {
        self.group.id()
    }

    /// Joins the group as a member that reads these topics, with the default settings. `topics` is
    /// one name or a list: `"orders"`, `["orders", "refunds"]`.
    ///
    /// The group's [`Assignor`](crate::Assignor) distributes the partitions. The new member owns
    /// the free partitions of its share immediately ([`Consumer::assignment`]). Partitions that
    /// another member must first give up arrive with a later poll, which reports them in
    /// [`Records::rebalance`](crate::Records::rebalance).
    ///
    /// # Errors
    ///
    /// * [`Error::ReadOnly`] in a read-only log, where a member could neither share partitions with
    ///   those of the writing process nor commit.
    /// * [`Error::GroupFull`] if the group has as many members as it may have.
    /// * [`Error::Corrupt`] or [`Error::Io`] if `__consumer_offsets` cannot be read.
    /// * [`Error::Closed`] once the log is closed.
    pub fn join(&self, topics: impl Into<Subscription>) -> Result<Consumer> {
        self.join_with(topics, ConsumerConfig::new())
    }

    /// Joins the group as [`join`](Self::join) does, with settings.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`join`](Self::join), [`Error::InvalidConfig`] for a setting that no
    /// consumer can work with, and [`Error::InstanceInUse`] if a member with the static name
    /// exists.
    pub fn join_with(
        &self,
        topics: impl Into<Subscription>,
        config: ConsumerConfig,
    ) -> Result<Consumer> {
        Consumer::join(
            Arc::clone(&self.service),
            &self.group,
            topics.into(),
            config,
            self.keep.clone(),
        )
    }

    /// Returns the group's committed position in a partition: the offset of the next record to
    /// read. `None` if none is committed, or if the topic does not exist.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Corrupt`] or [`Error::Io`] if `__consumer_offsets` cannot be read, and
    /// [`Error::Closed`] once the log is closed.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.service.store.committed(self.id(), partition)
    }

    /// Commits positions for the group, each the offset of the next record to read. The group must
    /// have no members.
    ///
    /// The positions refer to the topics as they are when the call begins. If another thread cuts a
    /// partition in the meantime ([`Partition::truncate_to`](crate::Partition::truncate_to)), no
    /// position above the cut is stored.
    ///
    /// # Errors
    ///
    /// * [`Error::NonEmptyGroup`] if the group has members.
    /// * [`Error::OffsetOutOfRange`] if an offset is above the log end.
    /// * [`Error::UnknownTopic`] and [`Error::UnknownPartition`] if a partition does not exist.
    /// * [`Error::InvalidRecord`] if the metadata has more than 4096 bytes.
    /// * [`Error::ReadOnly`] in a read-only log.
    ///
    /// No position is committed after an error.
    pub fn commit(
        &self,
        next: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        // Looked up before any wait for a lock, because the caller means the topics of this moment.
        let claims = next
            .into_iter()
            .map(|(partition, next)| Claim::by_name(&self.service.catalog, &partition, next));
        let claims: Result<Vec<Claim>> = claims.collect();
        self.group.while_empty(|| {
            self.service
                .store
                .commit(self.id(), &claims?, Gone::Refused, Durability::Os)
                .map(drop)
        })
    }
}

impl GroupService {
    /// Creates a consumer of these partitions without a group.
    pub(crate) fn assign(
        self: &Arc<Self>,
        partitions: impl IntoIterator<Item = TopicPartition>,
        config: ConsumerConfig,
        keep: KeepOpen,
    ) -> Result<Consumer> {
        if self.catalog.is_closed() {
            return Err(Error::Closed);
        }
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let owned = partitions.into_iter().map(|partition| {
            let topic = self.catalog.topic(&partition.topic)?;
            let core = topic.partition(partition.partition)?;
            Ok(Owned { topic, core })
        });
        Consumer::alone(
            Arc::clone(self),
            owned.collect::<Result<_>>()?,
            config,
            keep,
        )
    }

    /// Returns the group of this name, which need not exist yet.
    pub(crate) fn group(self: &Arc<Self>, id: &str, keep: KeepOpen) -> Result<ConsumerGroup> {
        if self.catalog.is_closed() {
            return Err(Error::Closed);
        }
        if id.is_empty() || id.len() > ID_MAX_BYTES {
            return Err(Error::InvalidGroup);
        }
        Ok(ConsumerGroup {
            service: Arc::clone(self),
            group: self.shared(id),
            keep,
        })
    }

    /// Returns every group that has commits or members, in the order of their names.
    pub(crate) fn groups(self: &Arc<Self>, keep: &KeepOpen) -> Result<Vec<ConsumerGroup>> {
        let with_commits = self.store.groups()?;
        let with_members = self.live().into_iter().filter(|group| group.has_members());
        let mut groups: BTreeMap<Arc<str>, Arc<Group>> = with_members
            .map(|group| (Arc::clone(group.id()), group))
            .collect();
        for id in with_commits {
            groups.entry(id).or_insert_with_key(|id| self.shared(id));
        }
        let handle = |group| ConsumerGroup {
            service: Arc::clone(self),
            group,
            keep: keep.clone(),
        };
        Ok(groups.into_values().map(handle).collect())
    }
}
