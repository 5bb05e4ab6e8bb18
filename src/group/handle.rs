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

/// Longest name of a group: Kafka writes its length as an `i16`.
const ID_MAX_BYTES: usize = 32_767;

/// A consumer group: its members share the partitions of what they subscribe to, and its committed
/// offsets say where it goes on after a restart. Groups know nothing of each other. Clones are the
/// same group.
///
/// Each partition is read by one member at a time, so a topic keeps as many members busy as it has
/// partitions: members beyond that number are idle. Create the topic with as many partitions as
/// there will ever be workers.
///
/// A group is on disk from its first commit.
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
    /// Its name.
    pub fn id(&self) -> &str {
        self.group.id()
    }

    /// Joins as a member that reads these topics, with the default settings: `"orders"`,
    /// `["orders", "refunds"]`.
    ///
    /// The partitions are shared out by the group's [`Assignor`]. Those of the new member's share
    /// that nobody owns are its own at once ([`Consumer::assignment`]); those that others have to
    /// give up first come with a later poll, which tells ([`Records::rebalance`]).
    /// [`Error::ReadOnly`] in a log that was opened to read: there is nobody to share with, and
    /// nothing could be committed.
    pub fn join(&self, topics: impl Into<Subscription>) -> Result<Consumer> {
        self.join_with(topics, ConsumerConfig::new())
    }

    /// As [`join`](Self::join), with settings.
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

    /// What the group committed for a partition: the offset of the next record to read.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.service.store.committed(self.id(), partition)
    }

    /// Sets the group's positions while it has no members.
    ///
    /// They refer to the topics as they are when the call begins. If another thread cuts a
    /// partition in the meantime ([`Partition::truncate_to`](crate::Partition::truncate_to)),
    /// nothing above the cut is stored.
    ///
    /// # Errors
    /// [`Error::NonEmptyGroup`] if it has members; [`Error::ReadOnly`]; otherwise as
    /// [`Consumer::commit_offsets`].
    pub fn commit(
        &self,
        next: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        // Before anything waits for a lock: these are the topics that the caller speaks of.
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
    /// A consumer of these partitions without a group.
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

    /// The group of this name, which need not have been heard of before.
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

    /// Every group that has committed or has members, in the order of their names.
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
