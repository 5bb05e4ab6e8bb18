//! The consumer groups of a log.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::LogSettings;
use crate::error::{Error, Result};
use crate::partition::PartitionCore;
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

use super::members::member::Group;
use super::offsets::lower::LoweredCommit;
use super::offsets::store::OffsetStore;

/// The consumer groups of a log.
#[derive(Debug)]
pub(crate) struct GroupService {
    pub(super) catalog: Arc<Catalog>,
    pub(super) store: OffsetStore,
    /// Most members of one group.
    pub(super) max_size: Option<u32>,
    /// How long a position is kept after its commit if no member subscribes to its topic; `None` is
    /// for ever.
    pub(super) retention: Option<Duration>,
    /// The groups that have a handle or a member.
    pub(super) groups: Mutex<HashMap<Arc<str>, Weak<Group>>>,
}

impl GroupService {
    /// Creates the service. It reads the committed positions on first use.
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

    /// Makes every group give up topics that are no longer in the catalog.
    pub(crate) fn topic_deleted(&self) {
        for group in self.live() {
            group.refresh(&self.catalog);
        }
    }

    /// Removes the positions in a deleted topic, also from the disk.
    pub(crate) fn forget_topic(&self, name: &str) -> Result<()> {
        match self.store.forget_topic(name) {
            // A position that cannot be read cannot affect the next topic of this name either.
            Err(Error::Corrupt(_) | Error::BatchTooLarge(_)) => Ok(()),
            forgotten => forgotten,
        }
    }

    /// Writes the lowered positions that a full disk kept from being written. Removes positions
    /// that have expired, unless a member subscribes to their topic.
    pub(crate) fn maintain(&self, now: Timestamp) -> Result<()> {
        self.store.retry_lowered();
        let Some(retention) = self.retention else {
            return Ok(());
        };
        for id in self.store.groups()? {
            self.shared(&id).look(|view| {
                self.store
                    .expire(&id, now - retention, |topic| view.reads(topic))
            })?;
        }
        Ok(())
    }

    /// Lowers the positions above `end` in a partition, and then calls `cut`, which cuts it there.
    pub(crate) fn lower_commits_then(
        &self,
        partition: &Arc<PartitionCore>,
        end: u64,
        cut: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.store.lower_then(partition, end, cut)
    }

    /// Notes that records of `__consumer_offsets` may have been cut off.
    pub(crate) fn offsets_were_cut(&self) {
        self.store.forget_loaded();
    }

    /// Lowers each committed offset that is above the end of its partition, or above the result of
    /// `at_most` for it, to the lower of the two. The change is durable. Returns group, partition,
    /// old and new offset.
    pub(crate) fn lower_commits(
        &self,
        at_most: impl Fn(&TopicPartition) -> u64,
    ) -> Vec<LoweredCommit> {
        self.store.lower_commits(at_most)
    }

    /// Ends all waits, because the log closes.
    pub(crate) fn close(&self) {
        for group in self.live() {
            group.notify_all();
        }
    }

    /// Returns the group of this name, which all its handles and members share.
    pub(super) fn shared(&self, id: &str) -> Arc<Group> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(id).and_then(Weak::upgrade) {
            return group;
        }
        if groups.len() == groups.capacity() {
            // The map is about to grow, so drop the groups that are no longer in use first.
            groups.retain(|_, group| group.strong_count() > 0);
        }
        let group = Arc::new(Group::new(id.into(), self.max_size));
        groups.insert(Arc::clone(group.id()), Arc::downgrade(&group));
        group
    }

    /// Returns the groups that have a handle or a member.
    pub(super) fn live(&self) -> Vec<Arc<Group>> {
        self.groups
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }
}
