//! The topics of a log: which there are, creating and deleting them, and what is done to all of
//! them.
//!
//! A topic appears and goes as a whole: [`TopicCore`](crate::topic::TopicCore) says in which steps,
//! and whatever a crash left half done is finished when the log is opened next. What several topics
//! share, the checkpoints at the root, is for the floor above: a deletion tells it when to forget a
//! topic there.
//!
//! A deletion has three steps, and threads that work in the topic may wait for the locks of each
//! other in between:
//!
//! | step | `structure` is | afterwards |
//! | --- | --- | --- |
//! | [`begin_delete`](Catalog::begin_delete) | held | no call finds the topic; earlier ones may still write to its directories |
//! | [`vacate`](Catalog::vacate) | held only at its end | nothing writes there, and the directories have other names |
//! | [`end_delete`](Catalog::end_delete) | held | the name is free |
//!
//! Any thread may take the last two. So each compares again, under `structure`, that the topic
//! which it vacated is the one that stands among those that are gone, and that the log is open:
//! otherwise the directories are those of another topic, or of another process.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::Timestamp;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::partition::state::waiting::WaitList;
use crate::partition::{Maintenance, PartitionContext, PartitionCore};
use crate::storage::remove_if_exists;
use crate::topic::identity::unique;
use crate::topic::stored::{self, Home, check_partition_count};
use crate::topic::{Changes, TopicCore};
use crate::topic_partition::TopicPartition;

mod catch_up;
pub(crate) mod checkpoints;
pub(crate) mod contents;
mod load;

use catch_up::Seen;
use contents::{Inside, look_inside};
pub(crate) use load::{Known, Loaded, load};

/// Where committed offsets are kept: flushed and closed after everything that they speak of.
const COMMITTED_OFFSETS: &str = "__consumer_offsets";

/// The topics of a log.
#[derive(Debug)]
pub(crate) struct Catalog {
    home: Home,
    topics: RwLock<BTreeMap<Arc<str>, Arc<TopicCore>>>,
    /// Held while a topic is created or deleted.
    structure: Mutex<Structure>,
    /// In a read-only log: what was there when it was looked at last.
    seen: Mutex<Seen>,
}

/// What is under way.
#[derive(Debug, Default)]
struct Structure {
    /// Topics that are deleted and whose `.gone` file still exists; each until it is vacated with
    /// what is open of it.
    gone: BTreeMap<String, Option<Arc<TopicCore>>>,
    /// Directories that wait to be removed.
    leaving: Vec<Leaving>,
}

#[derive(Debug)]
struct Leaving {
    dir: PathBuf,
    bytes: u64,
    due: Timestamp,
}

impl Catalog {
    /// `UnknownTopic` where there is none of this name. In a read-only log, looks what there is by
    /// now.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicCore>> {
        self.check_open()?;
        self.home.changes.look_again()?;
        self.known_topic(name)
    }

    fn known_topic(&self, name: &str) -> Result<Arc<TopicCore>> {
        self.check_open()?;
        self.topics
            .read()
            .get(name)
            .map(Arc::clone)
            .ok_or_else(|| Error::UnknownTopic(name.into()))
    }

    /// In a read-only log: looks what topics there are by now, as far as can be found out.
    pub(crate) fn try_look_again(&self) {
        let _as_known_so_far = self.home.changes.look_again();
    }

    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.home.changes
    }

    /// All topics, internal ones too, by name.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicCore>> {
        self.topics.read().values().map(Arc::clone).collect()
    }

    /// The topic as it is, else a new one. Internal names are allowed. Where none of its partitions
    /// could be opened, says why.
    pub(crate) fn open_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Arc<TopicCore>> {
        self.check_request(name, partitions, config)?;
        match self.topic(name) {
            Err(Error::UnknownTopic(_)) => {}
            Ok(topic) => return topic.check_has_partitions().map(|()| topic),
            Err(error) => return Err(error),
        }
        match self.create_topic(name, partitions, config) {
            Err(Error::TopicExists(_)) if self.topics.read().contains_key(name) => self.topic(name),
            created => created,
        }
    }

    /// A new topic; `TopicExists` if there is one of this name, `TopicCollides` if there is one
    /// that cannot be told from it.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Arc<TopicCore>> {
        self.check_request(name, partitions, config)?;
        let structure = self.structure.lock();
        self.check_open()?;
        if let Some(existing) = self
            .topics
            .read()
            .keys()
            .find(|existing| file_name::collides(existing, name))
        {
            return Err(match existing.to_string() {
                existing if existing == name => Error::TopicExists(existing),
                existing => Error::TopicCollides {
                    name: name.to_owned(),
                    existing,
                },
            });
        }
        if structure.gone.contains_key(name) {
            // The directory still says that it is deleted, and the next open would delete the new
            // one.
            return Err(Error::TopicExists(name.to_owned()));
        }
        let topic = TopicCore::create(&self.home, name, partitions, config)?;
        self.topics
            .write()
            .insert(Arc::clone(topic.name()), Arc::clone(&topic));
        drop(structure);
        self.home.changes.announce();
        Ok(topic)
    }

    /// Takes a topic away: from now on it is unknown, also after a crash. [`vacate`](Self::vacate)
    /// must follow, then [`end_delete`](Self::end_delete) once nothing at the root names it;
    /// [`unlink_due`](Self::unlink_due) gives the room back.
    pub(crate) fn begin_delete(&self, name: &str) -> Result<()> {
        let mut structure = self.structure.lock();
        let topic = self.known_topic(name)?;
        topic.begin_delete()?;
        self.topics.write().remove(name);
        structure.gone.insert(name.to_owned(), Some(topic));
        drop(structure);
        self.home.changes.announce();
        Ok(())
    }

    /// Waits until nothing writes to the directories of a deleted topic any more, and puts them out
    /// of the way. The caller holds no lock that a call on one of its partitions may wait for.
    /// `Closed` if the log was closed in the meantime: the next open does it.
    pub(crate) fn vacate(&self, name: &str, now: Timestamp) -> Result<()> {
        let Some(topic) = self.structure.lock().gone.get(name).and_then(Option::clone) else {
            return Ok(());
        };
        topic.vacate();
        let mut structure = self.structure.lock();
        self.check_open()?;
        let Structure { gone, leaving } = &mut *structure;
        match gone.get_mut(name) {
            Some(gone) if gone.as_ref().is_some_and(|gone| Arc::ptr_eq(gone, &topic)) => {
                *gone = None
            }
            // Another thread did it. By now the directories may be those of another topic.
            _ => return Ok(()),
        }
        let delay = topic
            .partitions()
            .first()
            .map_or(0, |partition| partition.settings().file_delete_delay_ms);
        let due = Timestamp::from_millis(now.as_millis().saturating_add(delay));
        for (number, slot) in topic.slots().iter() {
            let bytes = slot.as_ref().map_or(0, |partition| partition.log_bytes());
            // What cannot be renamed now is found by its `.gone` file, by `end_delete` or at the
            // next open.
            if let Ok(Some(dir)) = rename_deleted(&self.home, &topic.partition_id(number)) {
                leaving.push(Leaving { dir, bytes, due });
            }
        }
        Ok(())
    }

    /// Topics that were taken away and still have a file that says so.
    pub(crate) fn gone(&self) -> Vec<String> {
        self.structure.lock().gone.keys().cloned().collect()
    }

    /// Whether a topic of this name was taken away, and its name cannot be used yet.
    pub(crate) fn is_gone(&self, name: &str) -> bool {
        self.structure.lock().gone.contains_key(name)
    }

    /// Forgets a deleted topic that is vacated for good, so that its name can be used again. On an
    /// error it stays as it was.
    pub(crate) fn end_delete(&self, name: &str) -> Result<()> {
        let mut structure = self.structure.lock();
        self.check_open()?;
        let is_vacated = structure.gone.get(name).is_some_and(Option::is_none);
        if !is_vacated {
            return Ok(());
        }
        let (storage, root) = (&*self.home.context.storage, &self.home.root);
        let entries = storage
            .list(root)
            .map_err(|error| Error::io("list", root, error))?;
        let left = entries
            .iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| file_name::parse_partition_dir(&entry.name));
        for id in of_deleted(&self.home, name, left.filter(|id| *id.topic == *name))? {
            if let Some(dir) = rename_deleted(&self.home, &id)? {
                structure.leaving.push(Leaving {
                    dir,
                    bytes: 0,
                    due: self.home.context.clock.now(),
                });
            }
        }
        let remove = |file: String| {
            let path = root.join(file);
            remove_if_exists(storage, &path).map_err(|error| Error::io("remove", &path, error))
        };
        // A power cut may have kept the old name beside the new one.
        remove(file_name::topic_file(name))?;
        storage
            .sync_dir(root)
            .map_err(|error| Error::io("sync", root, error))?;
        remove(file_name::gone_file(name))?;
        structure.gone.remove(name);
        Ok(())
    }

    /// Removes the directories of deleted partitions whose time has come. Those that cannot be
    /// removed are tried again.
    pub(crate) fn unlink_due(&self, now: Timestamp) -> Result<Maintenance> {
        let mut structure = self.structure.lock();
        let mut done = Maintenance::default();
        if self.is_closed() {
            return Ok(done);
        }
        let mut failed = Ok(());
        structure.leaving.retain(|leaving| {
            if leaving.due > now {
                return true;
            }
            match self.home.context.storage.remove_dir_all(&leaving.dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    failed = Err(Error::io("remove", &leaving.dir, error));
                    return true;
                }
            }
            done.bytes_freed += leaving.bytes;
            false
        });
        failed.map(|()| done)
    }

    /// Rises whenever a topic or partition appears or goes.
    pub(crate) fn version(&self) -> u64 {
        self.home.changes.version()
    }

    /// Signals registered here are notified at every such change, and at close.
    pub(crate) fn waiters(&self) -> &WaitList {
        self.home.changes.waiters()
    }

    pub(crate) fn context(&self) -> &Arc<PartitionContext> {
        &self.home.context
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.home.changes.is_closed()
    }

    /// All partitions, those of `__consumer_offsets` last: what they say of others must not be
    /// durable before it is true.
    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionCore>> {
        let mut topics = self.topics();
        topics.sort_by_key(|topic| (&**topic.name() == COMMITTED_OFFSETS, topic.is_internal()));
        topics.iter().flat_map(|topic| topic.partitions()).collect()
    }

    /// Makes everything so far durable. Goes on after an error, except to `__consumer_offsets`, and
    /// gives the first.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut result = Ok(());
        for partition in self.partitions() {
            if *partition.id().topic == *COMMITTED_OFFSETS && result.is_err() {
                break;
            }
            if partition.is_dirty() {
                result = result.and(flush_unless_deleted(&partition));
            }
        }
        result
    }

    /// The smallest `flush.ms` of all topics, if any has one.
    pub(crate) fn shortest_flush_time(&self) -> Option<Duration> {
        self.topics()
            .iter()
            .filter_map(|topic| topic.flush_time())
            .min()
    }

    /// Flushes the partitions of those topics that are to be flushed more often than `interval`.
    /// Gives the first error.
    pub(crate) fn flush_within(&self, interval: Duration) -> Result<()> {
        let often = |topic: &TopicCore| topic.flush_time().is_some_and(|time| time < interval);
        let partitions = self
            .topics()
            .into_iter()
            .filter(|topic| often(topic))
            .flat_map(|topic| topic.partitions());
        let mut result = Ok(());
        for partition in partitions.filter(|partition| partition.is_dirty()) {
            result = result.and(flush_unless_deleted(&partition));
        }
        result
    }

    /// Ends all waits with `Closed`, and flushes and closes every partition. On return no thread
    /// writes to any of them. Gives the first error.
    pub(crate) fn close(&self, flush: bool) -> Result<()> {
        // Nobody creates or deletes a topic meanwhile or afterwards.
        let structure = self.structure.lock();
        self.home.changes.close();
        let gone: Vec<_> = structure.gone.values().flatten().map(Arc::clone).collect();
        drop(structure);
        for topic in gone {
            topic.vacate();
        }
        for topic in self.topics() {
            topic.settle();
        }
        let mut result = Ok(());
        for partition in self.partitions() {
            result = result.and(partition.close(flush));
        }
        result
    }

    /// Name, number and config, before anything is looked up or written: a wrong call is wrong
    /// whether the topic exists or not.
    fn check_request(&self, name: &str, partitions: u32, config: &TopicConfig) -> Result<()> {
        file_name::check_topic(name).map_err(|reason| Error::InvalidTopic {
            name: name.to_owned(),
            reason,
        })?;
        check_partition_count(partitions)?;
        config.over(&self.home.defaults).map(drop)
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}

/// A partition that was deleted meanwhile needs no flush.
fn flush_unless_deleted(partition: &PartitionCore) -> Result<()> {
    match partition.flush() {
        Err(Error::UnknownTopic(_)) => Ok(()),
        flushed => flushed,
    }
}

/// Those of the directories that are named as partitions of a deleted topic which are partitions of
/// it: others may have had such a name before.
fn of_deleted(
    home: &Home,
    topic: &str,
    named: impl Iterator<Item = TopicPartition>,
) -> Result<Vec<TopicPartition>> {
    let storage = &*home.context.storage;
    let known = stored::partitions_of_deleted(storage, &home.root, topic);
    let is_ours = |id: &TopicPartition| match known {
        Some(known) => Ok(id.partition < known),
        None => Ok(look_inside(storage, &home.root.join(id.to_string()))? != Inside::Other),
    };
    named
        .filter_map(|id| {
            is_ours(&id)
                .map(|is_ours| is_ours.then_some(id))
                .transpose()
        })
        .collect()
}

/// Renames a partition's directory so that nobody takes it for one; `None` if it is not there.
fn rename_deleted(home: &Home, id: &TopicPartition) -> Result<Option<PathBuf>> {
    let dir = home.root.join(id.to_string());
    let deleted = home
        .root
        .join(file_name::deleted_partition_dir(id, unique()));
    match home.context.storage.rename(&dir, &deleted) {
        Ok(()) => Ok(Some(deleted)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("rename", &dir, error)),
    }
}
