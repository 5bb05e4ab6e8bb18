//! The consumer groups of a log.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::LogSettings;
use crate::error::{Error, Result};
use crate::partition::PartitionCore;
use crate::topic_partition::TopicPartition;

use super::members::member::Group;
use super::offsets::store::{LoweredCommit, OffsetStore};

/// The consumer groups of a log.
#[derive(Debug)]
pub(crate) struct GroupService {
    pub(super) catalog: Arc<Catalog>,
    pub(super) store: OffsetStore,
    /// Most members of one group.
    pub(super) max_size: Option<u32>,
    /// How long positions are kept that nobody uses.
    pub(super) retention: Option<Duration>,
    /// Those that somebody has a handle of.
    pub(super) groups: Mutex<HashMap<Arc<str>, Weak<Group>>>,
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

    /// Writes what could not be written before, and removes positions that are older than they may
    /// get, save where a member reads their topic.
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

    /// Lowers, durably, each committed offset that lies above the end of its partition, or above
    /// what `at_most` returns for it, to the lower of the two. Returns group, partition, from and
    /// to.
    pub(crate) fn lower_commits(
        &self,
        at_most: impl Fn(&TopicPartition) -> u64,
    ) -> Vec<LoweredCommit> {
        self.store.lower_commits(at_most)
    }

    /// The log closes: waits end.
    pub(crate) fn close(&self) {
        for group in self.live() {
            group.notify_all();
        }
    }

    pub(super) fn shared(&self, id: &str) -> Arc<Group> {
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

    pub(super) fn live(&self) -> Vec<Arc<Group>> {
        self.groups
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }
}
