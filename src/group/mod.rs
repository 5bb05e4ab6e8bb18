//! Consumer groups: members share the partitions of topics, and the group's positions are kept in the log.
//!
//! From the bottom: [`subscription`] (what a member wants), [`assignor`] (who should own what), [`membership`] (who owns what, a
//! pure state machine) and [`member`] (the same, shared between threads); [`positions`] (what was committed, in memory) and
//! [`offset_store`] (the same, in `__consumer_offsets`); [`cursor`] (one partition being read), [`records`] (what a poll gives)
//! and [`consumer`], which ties them together. This file holds the service of a log and the handle of a group.
//!
//! Groups live in one process. A member lives as long as its handle, so there are no heartbeats; only a member that stays away
//! from `poll` longer than it said ([`ConsumerConfig::max_poll_interval`]) is taken out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::config::{Durability, LogSettings};
use crate::error::{Error, Result};
use crate::log::catalog::Catalog;
use crate::partition::{KeepOpen, PartitionCore};
use crate::topic_partition::TopicPartition;

mod admin;
mod assignor;
mod claim;
mod config;
mod consumer;
mod cursor;
mod member;
mod membership;
mod offset_store;
mod positions;
mod records;
mod subscription;

pub use admin::{GroupDescription, GroupPosition, MemberDescription};
pub use assignor::{Assign, Assignor, GroupSpec, MemberSpec};
pub use config::{ConsumerConfig, OffsetReset, Seek};
pub use consumer::Consumer;
pub use membership::GroupState;
pub(crate) use offset_store::LoweredCommit;
pub use positions::OffsetAndMetadata;
pub use records::{Rebalance, Records};
pub use subscription::Subscription;

use claim::Claim;
use member::{Group, Owned};
use offset_store::{Gone, OffsetStore};

/// Longest name of a group: Kafka writes its length as an `i16`.
const ID_MAX_BYTES: usize = 32_767;

/// The consumer groups of a log.
#[derive(Debug)]
pub(crate) struct GroupService {
    catalog: Arc<Catalog>,
    store: OffsetStore,
    /// Most members of one group.
    max_size: Option<u32>,
    /// How long positions are kept that nobody uses.
    retention: Option<Duration>,
    /// Those that somebody has a handle of.
    groups: Mutex<HashMap<Arc<str>, Weak<Group>>>,
}

impl GroupService {
    /// Reads nothing yet.
    pub(crate) fn new(catalog: Arc<Catalog>, settings: &LogSettings) -> Self {
        let store = OffsetStore::new(Arc::clone(&catalog), settings);
        Self {
            catalog,
            store,
            max_size: settings.group_max_size,
            retention: settings.offsets_retention,
            groups: Mutex::default(),
        }
    }

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
        Consumer::alone(Arc::clone(self), owned.collect::<Result<_>>()?, config, keep)
    }

    /// The group of this name, which need not have been heard of before.
    pub(crate) fn group(self: &Arc<Self>, id: &str, keep: KeepOpen) -> Result<ConsumerGroup> {
        if self.catalog.is_closed() {
            return Err(Error::Closed);
        }
        if id.is_empty() || id.len() > ID_MAX_BYTES {
            return Err(Error::InvalidGroup);
        }
        Ok(ConsumerGroup { service: Arc::clone(self), group: self.shared(id), keep })
    }

    /// Every group that has committed or has members, in the order of their names.
    pub(crate) fn groups(self: &Arc<Self>, keep: &KeepOpen) -> Result<Vec<ConsumerGroup>> {
        let with_commits = self.store.groups()?;
        let with_members = self.live().into_iter().filter(|group| group.has_members());
        let mut groups: BTreeMap<Arc<str>, Arc<Group>> = with_members.map(|group| (Arc::clone(group.id()), group)).collect();
        for id in with_commits {
            groups.entry(id).or_insert_with_key(|id| self.shared(id));
        }
        let handle = |group| ConsumerGroup { service: Arc::clone(self), group, keep: keep.clone() };
        Ok(groups.into_values().map(handle).collect())
    }

    /// A topic is no longer in the catalog: members let go of it.
    pub(crate) fn topic_deleted(&self) {
        for group in self.live() {
            group.refresh(&self.catalog);
        }
    }

    /// The positions in a topic that was deleted go, also from the disk.
    pub(crate) fn forget_topic(&self, name: &str) -> Result<()> {
        match self.store.forget_topic(name) {
            // What cannot be read is of no use to the next topic of this name either.
            Err(Error::Corrupt(_) | Error::BatchTooLarge(_)) => Ok(()),
            forgotten => forgotten,
        }
    }

    /// Writes what could not be written before, and removes positions that are older than they may get, save where a member reads
    /// their topic.
    pub(crate) fn maintain(&self, now: Timestamp) -> Result<()> {
        self.store.retry_lowered();
        let Some(retention) = self.retention else { return Ok(()) };
        for id in self.store.groups()? {
            self.shared(&id).look(|view| self.store.expire(&id, now - retention, |topic| view.reads(topic)))?;
        }
        Ok(())
    }

    /// Lowers what was committed for a partition above `end`, and then does what cuts it there.
    pub(crate) fn lower_commits_then(
        &self,
        partition: &Arc<PartitionCore>,
        end: u64,
        cut: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.store.lower_then(partition, end, cut)
    }

    /// Records of `__consumer_offsets` may be gone.
    pub(crate) fn offsets_were_cut(&self) {
        self.store.forget_loaded();
    }

    /// Lowers, durably, each committed offset that lies above the end of its partition, or above what `at_most` returns for it,
    /// to the lower of the two. Returns group, partition, from and to.
    pub(crate) fn lower_commits(&self, at_most: impl Fn(&TopicPartition) -> u64) -> Vec<LoweredCommit> {
        self.store.lower_commits(at_most)
    }

    /// The log closes: waits end.
    pub(crate) fn close(&self) {
        for group in self.live() {
            group.notify_all();
        }
    }

    fn shared(&self, id: &str) -> Arc<Group> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(id).and_then(Weak::upgrade) {
            return group;
        }
        if groups.len() == groups.capacity() {
            // About to grow: first forget those that nobody has any more.
            groups.retain(|_, group| group.strong_count() > 0);
        }
        let group = Arc::new(Group::new(id.into(), self.max_size));
        groups.insert(Arc::clone(group.id()), Arc::downgrade(&group));
        group
    }

    fn live(&self) -> Vec<Arc<Group>> {
        self.groups.lock().values().filter_map(Weak::upgrade).collect()
    }
}

/// A consumer group: its members share the partitions of what they subscribe to, and its committed offsets say where it goes on
/// after a restart. Groups know nothing of each other. Clones are the same group.
///
/// Each partition is read by one member at a time, so a topic keeps as many members busy as it has partitions: members beyond
/// that number are idle. Create the topic with as many partitions as there will ever be workers.
///
/// A group is on disk from its first commit.
#[derive(Clone)]
pub struct ConsumerGroup {
    service: Arc<GroupService>,
    group: Arc<Group>,
    keep: KeepOpen,
}

impl fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerGroup").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl ConsumerGroup {
    /// Its name.
    pub fn id(&self) -> &str {
        self.group.id()
    }

    /// Joins as a member that reads these topics, with the default settings: `"orders"`, `["orders", "refunds"]`.
    ///
    /// The partitions are shared out by the group's [`Assignor`]. Those of the new member's share that nobody owns are its own
    /// at once ([`Consumer::assignment`]); those that others have to give up first come with a later poll, which tells
    /// ([`Records::rebalance`]). [`Error::ReadOnly`] in a log that was opened to read: there is nobody to share with, and nothing
    /// could be committed.
    pub fn join(&self, topics: impl Into<Subscription>) -> Result<Consumer> {
        self.join_with(topics, ConsumerConfig::new())
    }

    /// As [`join`](Self::join), with settings.
    pub fn join_with(&self, topics: impl Into<Subscription>, config: ConsumerConfig) -> Result<Consumer> {
        Consumer::join(Arc::clone(&self.service), &self.group, topics.into(), config, self.keep.clone())
    }

    /// What the group committed for a partition: the offset of the next record to read.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.service.store.committed(self.id(), partition)
    }

    /// Sets the group's positions while it has no members.
    ///
    /// They refer to the topics as they are when the call begins. If another thread cuts a partition in the meantime
    /// ([`Partition::truncate_to`](crate::Partition::truncate_to)), nothing above the cut is stored.
    ///
    /// # Errors
    /// [`Error::NonEmptyGroup`] if it has members; [`Error::ReadOnly`]; otherwise as [`Consumer::commit_offsets`].
    pub fn commit(&self, next: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>) -> Result<()> {
        // Before anything waits for a lock: these are the topics that the caller speaks of.
        let claims = next.into_iter().map(|(partition, next)| Claim::by_name(&self.service.catalog, &partition, next));
        let claims: Result<Vec<Claim>> = claims.collect();
        self.group.while_empty(|| self.service.store.commit(self.id(), &claims?, Gone::Refused, Durability::Os).map(drop))
    }
}
