//! The topics of a log: finding, creating and deleting them, and operations on all of them.
//!
//! | file | task |
//! | --- | --- |
//! | `mod` | [`Catalog`], the topics of an open log |
//! | `contents` | the names in the directory of a log, sorted by their meaning |
//! | `checkpoints` | the small files at the root that all partitions share |
//! | `stated` | the facts that these files state about one partition |
//! | `load` | plans how to open all topics |
//! | `jobs` | opens the partitions in parallel |
//! | `catch_up` | updates a read-only log to the changes of the writer |
//!
//! A topic is created or deleted as a whole; [`TopicCore`](crate::topic::TopicCore) documents the
//! steps. The next opening finishes the steps that a crash interrupted. The checkpoints at the root
//! are written by the `log`, which also removes the lines of a deleted topic from them.
//!
//! A deletion has three steps. Between them, threads that work in the topic may wait for each
//! other's locks:
//!
//! | step | lock `structure` | state afterwards |
//! | --- | --- | --- |
//! | [`begin_delete`](Catalog::begin_delete) | held | calls do not find the topic; earlier calls may still write to its directories |
//! | [`vacate`](Catalog::vacate) | held only at the end | no thread writes to the directories, and they are renamed |
//! | [`end_delete`](Catalog::end_delete) | held | the name is free |
//!
//! Any thread may do the last two steps. So each of them checks again, under `structure`, that the
//! vacated topic is still the deleted one and that the log is open. Otherwise the directories
//! belong to another topic, or to another process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::TopicConfig;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::partition::state::waiting::WaitList;
use crate::partition::{Maintenance, PartitionContext, PartitionCore};
use crate::storage::{IfExists, remove_if_exists};
use crate::sync::{Mutex, RwLock};
use crate::topic::identity::unique;
use crate::topic::stored::{Home, check_partition_count};
use crate::topic::topic_file::partitions_of_deleted;
use crate::topic::{Changes, TopicCore};
use crate::topic_partition::TopicPartition;

mod catch_up;
pub(crate) mod checkpoints;
pub(crate) mod contents;
mod jobs;
mod load;

use catch_up::Seen;
use contents::{Inside, look_inside};
pub(crate) use load::{Known, Loaded, load};

/// The topics of a log.
#[derive(Debug)]
pub(crate) struct Catalog {
    home: Home,
    topics: RwLock<BTreeMap<Arc<str>, Arc<TopicCore>>>,
    /// Locked while a topic is created or deleted.
    structure: Mutex<Structure>,
    /// In a read-only log: the state of the directory at the last look.
    seen: Mutex<Seen>,
}

/// The deletions in progress.
#[derive(Debug, Default)]
struct Structure {
    /// Deleted topics whose `.gone` file still exists. Each has its topic until that is vacated.
    gone: BTreeMap<String, Option<Arc<TopicCore>>>,
    /// Directories that will be removed when their delay has passed.
    leaving: Vec<Leaving>,
}

#[derive(Debug)]
struct Leaving {
    dir: PathBuf,
    bytes: u64,
    due: Timestamp,
}

impl Catalog {
    /// Returns the topic `name`, or `UnknownTopic`. In a read-only log, looks for changes of the
    /// writer first.
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

    /// Updates the topics of a read-only log, and ignores errors.
    pub(crate) fn try_look_again(&self) {
        let _as_known_so_far = self.home.changes.look_again();
    }

    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.home.changes
    }

    /// Returns all topics by name, internal topics included.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicCore>> {
        self.topics.read().values().map(Arc::clone).collect()
    }

    /// Returns the topic if it exists, and creates it otherwise. Allows internal names. If no
    /// partition of the topic could be opened, returns the reason.
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

    /// Creates a topic. Returns `TopicExists` if there is a topic of this name, and `TopicCollides`
    /// if there is one whose name differs only in `.` and `_`.
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
            // The `.gone` file still exists, and the next opening would delete the new topic.
            return Err(Error::TopicExists(name.to_owned()));
        }
        let topic = TopicCore::create(&self.home, name, partitions, config)?;
        debug_assert!(
            !self.home.context.read_only,
            "a read-only log creates no topic"
        );
        let former = self
            .topics
            .write()
            .insert(Arc::clone(topic.name()), Arc::clone(&topic));
        debug_assert!(former.is_none(), "{name}: the name was free");
        drop(structure);
        self.home.changes.announce();
        Ok(topic)
    }

    /// Removes a topic: it is unknown from now on, also after a crash. [`vacate`](Self::vacate)
    /// must follow, and then [`end_delete`](Self::end_delete), after the topic was removed from the
    /// checkpoints. [`unlink_due`](Self::unlink_due) frees the space.
    pub(crate) fn begin_delete(&self, name: &str) -> Result<()> {
        let mut structure = self.structure.lock();
        let topic = self.known_topic(name)?;
        topic.begin_delete()?;
        let removed = self.topics.write().remove(name);
        debug_assert!(
            removed.is_some_and(|removed| Arc::ptr_eq(&removed, &topic)),
            "{name}: the topic that was marked as deleted leaves the catalog"
        );
        let former = structure.gone.insert(name.to_owned(), Some(topic));
        debug_assert!(
            former.is_none(),
            "{name}: a topic is created only after the last deletion of its name has ended"
        );
        drop(structure);
        self.home.changes.announce();
        Ok(())
    }

    /// Waits until no thread writes to the directories of a deleted topic, and renames them. The
    /// caller must hold no lock that a call on one of its partitions may wait for. Returns `Closed`
    /// if the log was closed in the meantime: the next opening then does this step.
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
                *gone = None;
            }
            // Another thread has done it. The directories may belong to another topic now.
            _ => return Ok(()),
        }
        let delay = topic
            .partitions()
            .first()
            .map_or(0, |partition| partition.settings().file_delete_delay_ms);
        let due = Timestamp::from_millis(now.as_millis().saturating_add(delay));
        for (number, slot) in topic.slots().iter() {
            let bytes = slot.as_ref().map_or(0, |partition| partition.log_bytes());
            // A directory that cannot be renamed now is found later because of the `.gone` file: by
            // `end_delete`, or at the next opening.
            if let Ok(Some(dir)) = rename_deleted(&self.home, &topic.partition_id(number)) {
                leaving.push(Leaving { dir, bytes, due });
            }
        }
        Ok(())
    }

    /// Returns the names of the deleted topics whose `.gone` file still exists.
    pub(crate) fn gone(&self) -> Vec<String> {
        self.structure.lock().gone.keys().cloned().collect()
    }

    /// Returns whether a topic of this name was deleted, and its name is not free yet.
    pub(crate) fn is_gone(&self, name: &str) -> bool {
        self.structure.lock().gone.contains_key(name)
    }

    /// Removes the last files of a deleted and vacated topic, so that its name is free. On an error
    /// the state is unchanged.
    pub(crate) fn end_delete(&self, name: &str) -> Result<()> {
        let mut structure = self.structure.lock();
        self.check_open()?;
        let is_vacated = structure.gone.get(name).is_some_and(Option::is_none);
        if !is_vacated {
            return Ok(());
        }
        debug_assert!(
            !self.topics.read().contains_key(name),
            "{name}: the files of a topic in the catalog are kept"
        );
        let (storage, root) = (&*self.home.context.storage, &self.home.root);
        let entries = storage.list(root).at("list", root)?;
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
            remove_if_exists(storage, &path).at("remove", &path)
        };
        // After a power cut, both the old and the new name may exist.
        remove(file_name::topic_file(name))?;
        storage.sync_dir(root).at("sync", root)?;
        remove(file_name::gone_file(name))?;
        structure.gone.remove(name);
        Ok(())
    }

    /// Removes the directories of deleted partitions whose delay has passed, and those that a
    /// failed creation left. Directories that cannot be removed are tried again at the next call.
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
            debug_assert!(
                is_deleted_dir(&self.home, &leaving.dir),
                "{}: only directories of deleted partitions are removed",
                leaving.dir.display()
            );
            let removed = self.home.context.storage.remove_dir_all(&leaving.dir);
            if let Err(error) = removed.if_exists() {
                failed = Err(Error::io("remove", &leaving.dir, error));
                return true;
            }
            done.bytes_freed += leaving.bytes;
            false
        });
        failed
            .and(self.home.leftovers.remove(&*self.home.context.storage))
            .map(|()| done)
    }

    /// Returns a number that rises whenever a topic or partition is added or removed.
    pub(crate) fn version(&self) -> u64 {
        self.home.changes.version()
    }

    /// Returns the list of waiting threads. Signals in it are notified at every such change, and at
    /// close.
    pub(crate) fn waiters(&self) -> &WaitList {
        self.home.changes.waiters()
    }

    pub(crate) fn context(&self) -> &Arc<PartitionContext> {
        &self.home.context
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.home.changes.is_closed()
    }

    /// Returns all partitions, those of `__consumer_offsets` last: a committed offset must not be
    /// durable before the records that it refers to.
    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionCore>> {
        let mut topics = self.topics();
        topics.sort_by_key(|topic| {
            (
                &**topic.name() == file_name::COMMITTED_OFFSETS,
                topic.is_internal(),
            )
        });
        topics.iter().flat_map(|topic| topic.partitions()).collect()
    }

    /// Makes everything appended so far durable. Continues after an error, but then leaves out
    /// `__consumer_offsets`. Returns the first error.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut result = Ok(());
        for partition in self.partitions() {
            if *partition.id().topic == *file_name::COMMITTED_OFFSETS && result.is_err() {
                break;
            }
            if partition.is_dirty() {
                result = result.and(flush_unless_deleted(&partition));
            }
        }
        result
    }

    /// Returns the shortest `flush.ms` of all topics, if a topic has one.
    pub(crate) fn shortest_flush_time(&self) -> Option<Duration> {
        self.topics()
            .iter()
            .filter_map(|topic| topic.flush_time())
            .min()
    }

    /// Flushes the partitions of the topics whose `flush.ms` is shorter than `interval`. Returns
    /// the first error.
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

    /// Ends all waits with `Closed`, and closes every partition. Flushes them first if `flush` is
    /// set. When it returns, no thread writes to a partition. Returns the first error.
    pub(crate) fn close(&self, flush: bool) -> Result<()> {
        // Under this lock, no topic is created or deleted. Later calls find the log closed.
        debug_assert_eq!(
            flush, !self.home.context.read_only,
            "a log is flushed when it is closed, unless it is read-only"
        );
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

    /// Checks name, number and config before anything is looked up or written. An invalid call
    /// returns the same error whether the topic exists or not.
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

/// Flushes a partition. A partition that was deleted in the meantime needs no flush.
fn flush_unless_deleted(partition: &PartitionCore) -> Result<()> {
    match partition.flush() {
        Err(Error::UnknownTopic(_)) => Ok(()),
        flushed => flushed,
    }
}

/// Returns the partitions among `named` that belong to a deleted topic. Other directories may have
/// had such a name before.
fn of_deleted(
    home: &Home,
    topic: &str,
    named: impl Iterator<Item = TopicPartition>,
) -> Result<Vec<TopicPartition>> {
    let storage = &*home.context.storage;
    let known = partitions_of_deleted(storage, &home.root, topic);
    let is_ours = |id: &TopicPartition| {
        debug_assert_eq!(
            &*id.topic, topic,
            "a deletion concerns only the partitions of its topic"
        );
        match known {
            Some(known) => Ok(id.partition < known),
            None => Ok(look_inside(storage, &home.root.join(id.to_string()))? != Inside::Other),
        }
    };
    named
        .filter_map(|id| {
            is_ours(&id)
                .map(|is_ours| is_ours.then_some(id))
                .transpose()
        })
        .collect()
}

/// Returns whether a directory is named as that of a deleted partition of this log.
fn is_deleted_dir(home: &Home, dir: &Path) -> bool {
    let name = dir.file_name().and_then(OsStr::to_str);
    dir.parent() == Some(&*home.root)
        && name.and_then(file_name::parse_leaving_dir) == Some(file_name::DELETED_DIR)
}

/// Renames the directory of a partition, so that it does not count as one. Returns `None` if it
/// does not exist.
fn rename_deleted(home: &Home, id: &TopicPartition) -> Result<Option<PathBuf>> {
    debug_assert!(
        !home.context.read_only,
        "a read-only log renames no directory"
    );
    let dir = home.root.join(id.to_string());
    let deleted = home
        .root
        .join(file_name::deleted_partition_dir(id, unique()));
    debug_assert!(
        is_deleted_dir(home, &deleted),
        "{}: the next opening finds the directory by its new name",
        deleted.display()
    );
    let renamed = home.context.storage.rename(&dir, &deleted).if_exists();
    Ok(renamed.at("rename", &dir)?.map(|()| deleted))
}
