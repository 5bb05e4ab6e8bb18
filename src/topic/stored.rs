//! A topic on disk: the file `<topic>.topic` at the root, and next to it a directory for each
//! partition.
//!
//! The topic file contains the number of partitions. It is always written as a whole, and before
//! the partitions that it mentions:
//!
//! | change | steps, each durable before the next | after a crash in between |
//! | --- | --- | --- |
//! | create | topic file, then the directories | the next opening creates the missing directories, empty |
//! | add partitions | topic file, then the directories | the same |
//! | change the config | topic file | the old or the new config |
//! | delete | topic file renamed to `<topic>.gone`, directories renamed and removed, `.gone` removed | the next opening continues |
//!
//! So directories without a topic file were created by a broker. Their topics have no config here
//! and keep all their records ([`unconfigured`](super::topic_file::unconfigured)), until the first
//! change of the config writes a topic file.
//!
//! The lock `stored` is held while the topic file changes. Under it, each change asks again whether
//! the topic was deleted or the log closed. So no thread writes the topic file after
//! `begin_delete`, or after the `settle` of a log that closes.
//!
//! The topic file repeats the topic id and the log starts, because Kafka's own files have no
//! checksum.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::identity::{unique, unique_id};
use super::partitioner::{Sticky, partition_of};
use super::topic_file::{entries_of, is_never_compacted};
use super::{Changes, Leftovers, Slot, Slots, TopicCore, partition_dir};
use crate::config::{TopicConfig, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{TopicFile, TopicId, encode_topic_file};
use crate::partition::stated::stored_topic_id;
use crate::partition::{PartitionContext, PartitionCore, PartitionSpec};
use crate::storage::{Access, IfExists, Storage, remove_if_exists, replace_file};
use crate::sync::{Mutex, RwLock};
use crate::topic_partition::TopicPartition;

/// The state of a topic on disk, without its partitions.
#[derive(Debug)]
pub(super) struct Stored {
    id: Option<TopicId>,
    /// The topic file as it is on disk. `None` if it is missing or damaged.
    file: Option<TopicFile>,
    config: TopicConfig,
}

impl Stored {
    pub(super) fn id(&self) -> Option<TopicId> {
        self.id
    }

    pub(super) fn is_configured(&self) -> bool {
        self.file.is_some()
    }
}

/// The parts of a topic that was read from disk or created.
#[derive(Debug)]
pub(crate) struct TopicParts {
    pub(crate) name: Arc<str>,
    pub(crate) id: Option<TopicId>,
    pub(crate) file: Option<TopicFile>,
    pub(crate) config: TopicConfig,
    pub(crate) slots: BTreeMap<u32, Slot>,
}

/// The part of a log that all its topics share.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) root: PathBuf,
    /// The values of settings that a topic does not set.
    pub(crate) defaults: TopicSettings,
    pub(crate) context: Arc<PartitionContext>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) leftovers: Arc<Leftovers>,
}

impl Home {
    fn storage(&self) -> &dyn Storage {
        &*self.context.storage
    }

    /// Returns the topic id in the directory of a partition.
    pub(crate) fn stored_id(&self, id: &TopicPartition) -> Option<TopicId> {
        stored_topic_id(&*self.context.storage, &partition_dir(&self.root, id))
    }

    fn topic_path(&self, topic: &str) -> PathBuf {
        self.root.join(file_name::topic_file(topic))
    }

    fn write(&self, topic: &str, file: &TopicFile) -> Result<()> {
        let path = self.topic_path(topic);
        replace_file(self.storage(), &path, encode_topic_file(file).as_bytes()).at("write", &path)
    }

    /// Prepares the directory for a write: removes the clean-shutdown marker.
    fn prepare_write(&self) -> Result<()> {
        self.context.check_not_read_only()?;
        self.context.clean_marker.clear(self.storage())
    }
}

impl TopicCore {
    /// Creates the topic from its parts.
    pub(crate) fn from_parts(home: &Home, parts: TopicParts) -> Arc<Self> {
        let TopicParts {
            name,
            id,
            file,
            config,
            slots,
        } = parts;
        let mixed = unique();
        let seed = u64::try_from(mixed >> 64).unwrap_or(1);
        Arc::new(Self {
            name,
            number: home.context.numbers.next(),
            home: home.clone(),
            slots: RwLock::new(Arc::new(Slots::new(slots))),
            stored: Mutex::new(Stored { id, file, config }),
            sticky: Sticky::new(seed),
            is_deleted: AtomicBool::new(false),
        })
    }

    /// Creates a new topic on disk. On an error, removes everything that it created. The caller has
    /// checked the name and the number of partitions, and keeps other threads from creating a
    /// topic.
    pub(crate) fn create(
        home: &Home,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Arc<Self>> {
        let settings = config.over(&home.defaults)?;
        let name: Arc<str> = name.into();
        check_free(home, &name, 0..partitions)?;
        home.prepare_write()?;
        let id = unique_id();
        let is_dense = is_never_compacted(&settings);
        let file = TopicFile {
            topic_id: id,
            partitions,
            is_dense,
            log_starts: Vec::new(),
            config: entries_of(config),
        };
        let created = home
            .write(&name, &file)
            .and_then(|()| create_partitions(home, &name, &file, &settings, 0..partitions));
        match created {
            Ok(slots) => {
                let parts = TopicParts {
                    name,
                    id: Some(id),
                    file: Some(file),
                    config: config.clone(),
                    slots,
                };
                Ok(Self::from_parts(home, parts))
            }
            Err(error) => {
                let _first_error_is_returned =
                    remove_if_exists(home.storage(), &home.topic_path(&name));
                Err(error)
            }
        }
    }

    pub(crate) fn config(&self) -> TopicConfig {
        self.stored.lock().config.clone()
    }

    /// Returns the partition of a key. If it could not be opened, every call on it returns the
    /// reason.
    pub(crate) fn partition_for(&self, key: &[u8]) -> Arc<PartitionCore> {
        let slots = self.slots();
        self.opened_or_not(&slots, partition_of(key, slots.count))
    }

    /// Returns all partitions, by number; every call on one that could not be opened returns the
    /// reason.
    pub(crate) fn all_partitions(&self) -> Vec<Arc<PartitionCore>> {
        let slots = self.slots();
        // In a read-only log: a partition that the writer has yet to create.
        let is_to_come = |number: &u32| {
            matches!(
                slots.by_number.get(number),
                Some(Err(Error::UnknownPartition(_)))
            )
        };
        (0..slots.count)
            .filter(|number| !is_to_come(number))
            .map(|number| self.opened_or_not(&slots, number))
            .collect()
    }

    /// Returns a partition. If it could not be opened, or is not in this directory, every call on
    /// it returns the reason.
    pub(crate) fn opened_or_not(&self, slots: &Slots, number: u32) -> Arc<PartitionCore> {
        let error = match slots.by_number.get(&number) {
            Some(Ok(partition)) => return Arc::clone(partition),
            Some(Err(error)) => error.clone(),
            None => Error::UnknownPartition(self.partition_id(number)),
        };
        self.unavailable(number, error)
    }

    /// Returns a placeholder for a partition that could not be opened. Every call on it returns
    /// `error`.
    fn unavailable(&self, number: u32, error: Error) -> Arc<PartitionCore> {
        let spec = new_partition(
            &self.home.root,
            self.partition_id(number),
            &self.home.defaults,
            None,
        );
        PartitionCore::unavailable(&self.home.context, &spec, error)
    }

    /// Adds partitions until there are `total`. Returns `InvalidConfig` if that is not more than
    /// there are. On an error the topic is unchanged.
    pub(crate) fn increase_partitions_to(&self, total: u32) -> Result<()> {
        let mut stored = self.stored.lock();
        self.check_usable()?;
        let present = self.partition_count();
        check_partition_count(total)?;
        if total <= present {
            let reason =
                format!("the topic has {present} partitions and can only get more, not {total}");
            return Err(Error::InvalidConfig {
                key: PARTITIONS_KEY.to_owned(),
                reason,
            });
        }
        check_free(&self.home, &self.name, present..total)?;
        self.home.prepare_write()?;
        let settings = stored.config.over(&self.home.defaults)?;
        let mut file = self.file_of(&stored);
        file.partitions = total;
        let id = file.topic_id;
        let created = self.home.write(&self.name, &file).and_then(|()| {
            create_partitions(&self.home, &self.name, &file, &settings, present..total)
        });
        let added = match created {
            Ok(added) => added,
            Err(error) => {
                self.write_back(&stored);
                return Err(error);
            }
        };
        *stored = Stored {
            id: Some(id),
            file: Some(file),
            config: stored.config.clone(),
        };
        let mut slots = self.slots().by_number.clone();
        slots.extend(added);
        *self.slots.write() = Arc::new(Slots::new(slots));
        drop(stored);
        self.home.changes.announce();
        Ok(())
    }

    /// Applies the settings in `changes`. On an error the topic is unchanged.
    pub(crate) fn update_config(&self, changes: &TopicConfig) -> Result<()> {
        let mut stored = self.stored.lock();
        self.check_usable()?;
        if self.home.context.read_only {
            return Err(Error::ReadOnly);
        }
        let config = stored.config.clone().updated(changes);
        let settings = config.over(&self.home.defaults)?;
        let old = self.file_of(&stored);
        let is_dense = old.is_dense && is_never_compacted(&settings);
        if old.is_dense && !is_dense {
            // From now on compaction may leave gaps between segments, so a missing segment is
            // noticed only at the end of the log. Everything before it must be durable.
            self.partitions()
                .iter()
                .try_for_each(|partition| partition.prepare_for_gaps())?;
        }
        let file = TopicFile {
            is_dense,
            config: entries_of(&config),
            ..old
        };
        if let Err(error) = self.home.write(&self.name, &file) {
            self.write_back(&stored);
            return Err(error);
        }
        *stored = Stored {
            id: Some(file.topic_id),
            file: Some(file),
            config,
        };
        for partition in self.partitions() {
            partition.set_settings(settings.clone());
        }
        Ok(())
    }

    /// Updates the topic file to the state of the partitions: topic id, number of partitions, log
    /// starts inside a segment, and whether gaps are allowed. The last must be on disk before the
    /// partition is compacted. Writes only if a fact has changed. A topic without a file gets none.
    pub(crate) fn store_state(&self) -> Result<()> {
        let mut stored = self.stored.lock();
        if self.is_deleted() || self.home.changes.is_closed() {
            return Ok(());
        }
        self.store(&mut stored)
    }

    /// Updates the topic file as [`store_state`](Self::store_state) does, even if a close of the
    /// log has begun. The caller holds a lock of a partition that the close waits for.
    pub(crate) fn store_unless_deleted(&self) -> Result<()> {
        let mut stored = self.stored.lock();
        if self.is_deleted() {
            return Ok(());
        }
        self.store(&mut stored)
    }

    /// Updates the topic file as [`store_state`](Self::store_state) does, a last time. Called by
    /// the thread that closes the log.
    pub(crate) fn store_last_state(&self) -> Result<()> {
        self.store(&mut self.stored.lock())
    }

    fn store(&self, stored: &mut Stored) -> Result<()> {
        let Some(old) = &stored.file else {
            return Ok(());
        };
        let file = TopicFile {
            topic_id: stored.id.unwrap_or(old.topic_id),
            partitions: self.partition_count(),
            is_dense: old.is_dense && is_never_compacted(&stored.config.over(&self.home.defaults)?),
            log_starts: self.log_starts(&old.log_starts),
            config: old.config.clone(),
        };
        if file != *old {
            self.home.write(&self.name, &file)?;
            stored.file = Some(file);
        }
        Ok(())
    }

    /// Returns the content of the topic file of a copy with `partitions` partitions. Returns `None`
    /// if the topic has no topic file.
    pub(crate) fn file_of_copy(
        &self,
        partitions: u32,
        is_dense: bool,
        log_starts: Vec<(u32, u64)>,
    ) -> Option<String> {
        let stored = self.stored.lock();
        let file = stored.file.as_ref()?;
        Some(encode_topic_file(&TopicFile {
            topic_id: stored.id.unwrap_or(file.topic_id),
            partitions,
            is_dense: file.is_dense && is_dense,
            log_starts,
            config: file.config.clone(),
        }))
    }

    /// Renames the topic file, after which the deletion cannot be undone. On an error the topic is
    /// unchanged.
    pub(crate) fn begin_delete(&self) -> Result<()> {
        let stored = self.stored.lock();
        self.check_usable()?;
        self.home.prepare_write()?;
        let storage = self.home.storage();
        let (file, gone) = (
            self.home.topic_path(&self.name),
            self.home.root.join(file_name::gone_file(&self.name)),
        );
        let renamed = storage.rename(&file, &gone).if_exists();
        if renamed.at("rename", &file)?.is_none() {
            let created = storage.open(&gone, Access::OpenOrCreate);
            drop(created.at("create", &gone)?);
        }
        if let Err(error) = storage.sync_dir(&self.home.root) {
            let _first_error_is_returned = if stored.file.is_some() {
                storage.rename(&gone, &file)
            } else {
                storage.remove_file(&gone)
            };
            return Err(Error::io("sync", &self.home.root, error));
        }
        self.mark_deleted();
        Ok(())
    }

    /// Updates a topic of a read-only log to the writer's topic file, and adds the partitions in
    /// `added`, which were not known or could not be opened before.
    pub(crate) fn take_over(
        &self,
        file: Option<TopicFile>,
        config: TopicConfig,
        added: BTreeMap<u32, Slot>,
    ) -> Result<()> {
        let mut stored = self.stored.lock();
        if let Some(file) = file {
            let settings = config.over(&self.home.defaults)?;
            for (number, slot) in &self.slots().by_number {
                let Ok(partition) = slot else { continue };
                partition.set_settings(settings.clone());
                if let Some((_, offset)) = file.log_starts.iter().find(|(other, _)| other == number)
                {
                    partition.follow_log_start(*offset);
                }
            }
            *stored = Stored {
                id: stored.id.or(Some(file.topic_id)),
                file: Some(file),
                config,
            };
        }
        if !added.is_empty() {
            let mut slots = self.slots().by_number.clone();
            slots.extend(added);
            *self.slots.write() = Arc::new(Slots::new(slots));
        }
        Ok(())
    }

    /// Waits until a running change of the topic is complete. After the log is closed, no new
    /// change begins.
    pub(crate) fn settle(&self) {
        drop(self.stored.lock());
    }

    /// Returns the topic file as it is on disk, or the first one of a topic that had none.
    fn file_of(&self, stored: &Stored) -> TopicFile {
        stored.file.clone().unwrap_or_else(|| TopicFile {
            topic_id: stored.id.unwrap_or_else(unique_id),
            partitions: self.partition_count(),
            is_dense: false,
            log_starts: self.log_starts(&[]),
            config: entries_of(&stored.config),
        })
    }

    /// Returns the log starts that are above the base offset of the first segment. A partition that
    /// could not be opened keeps its line in `before`.
    fn log_starts(&self, before: &[(u32, u64)]) -> Vec<(u32, u64)> {
        let line = |(index, slot): (&u32, &Slot)| match slot {
            Ok(partition) => partition.log_start_line().map(|offset| (*index, offset)),
            Err(_) => before.iter().find(|(other, _)| other == index).copied(),
        };
        self.slots().by_number.iter().filter_map(line).collect()
    }

    /// Restores the former topic file after a failed write. If only the sync failed, the directory
    /// may contain the new file.
    fn write_back(&self, stored: &Stored) {
        if let Some(file) = &stored.file {
            let _first_error_is_returned = self.home.write(&self.name, file);
        } else {
            let _first_error_is_returned =
                remove_if_exists(self.home.storage(), &self.home.topic_path(&self.name));
        }
    }
}

/// The key for the number of partitions in errors.
const PARTITIONS_KEY: &str = "partitions";

/// Returns `InvalidConfig` for a number of partitions that no topic can have.
pub(crate) fn check_partition_count(partitions: u32) -> Result<()> {
    let reason = match i32::try_from(partitions) {
        Ok(0) => "a topic has at least one partition",
        Ok(_) => return Ok(()),
        Err(_) => "the number of partitions must fit into 31 bits",
    };
    Err(Error::InvalidConfig {
        key: PARTITIONS_KEY.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Checks that the directories of the new partitions do not exist or are empty. Otherwise their
/// files would be mixed with those of the partition, and deleted with it.
fn check_free(home: &Home, topic: &Arc<str>, numbers: Range<u32>) -> Result<()> {
    home.context.check_not_read_only()?;
    // One of these directories that cannot be removed is found below.
    let _tried_again_later = home.leftovers.remove(home.storage());
    for partition in numbers {
        let dir = partition_dir(
            &home.root,
            &TopicPartition {
                topic: Arc::clone(topic),
                partition,
            },
        );
        match home.storage().list(&dir).if_exists() {
            Ok(entries) if entries.as_ref().is_none_or(Vec::is_empty) => {}
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                return Err(Error::io("list", &dir, error));
            }
            _ => {
                let reason = "another file or directory has this name: move it away, or choose another name for the topic";
                return Err(Error::io(
                    "create",
                    &dir,
                    io::Error::new(io::ErrorKind::AlreadyExists, reason),
                ));
            }
        }
    }
    Ok(())
}

/// Creates the directories and first segments of the partitions that `file` mentions. On an error,
/// removes those that it created.
fn create_partitions(
    home: &Home,
    topic: &Arc<str>,
    file: &TopicFile,
    settings: &TopicSettings,
    numbers: Range<u32>,
) -> Result<BTreeMap<u32, Slot>> {
    let storage = home.storage();
    let mut created: BTreeMap<u32, Slot> = BTreeMap::new();
    let mut tried = Vec::new();
    let done = numbers.into_iter().try_for_each(|partition| {
        let spec = new_partition(
            &home.root,
            TopicPartition {
                topic: Arc::clone(topic),
                partition,
            },
            settings,
            Some(file),
        );
        tried.push(spec.dir.clone());
        created.insert(partition, Ok(PartitionCore::create(&home.context, &spec)?));
        Ok(())
    });
    let done = done.and_then(|()| storage.sync_dir(&home.root).at("sync", &home.root));
    let Err(error) = done else { return Ok(created) };
    for core in created.values().flatten() {
        core.mark_deleted();
        core.vacate();
    }
    // A dangling link at this path was not created here, so it is left alone.
    tried.retain(|dir| !matches!(storage.metadata(dir).if_exists(), Ok(None)));
    home.leftovers.add(storage, tried);
    Err(error)
}

/// Returns the spec of a partition that never existed. Whether it may have gaps is taken from the
/// topic file, as it will be when the partition is opened again. The settings alone are not enough:
/// they may forbid gaps now and have allowed them before.
pub(crate) fn new_partition(
    root: &Path,
    id: TopicPartition,
    settings: &TopicSettings,
    file: Option<&TopicFile>,
) -> PartitionSpec {
    let (dir, settings) = (partition_dir(root, &id), settings.clone());
    let (topic_id, is_dense) = (
        file.map(|file| file.topic_id),
        file.is_some_and(|file| file.is_dense),
    );
    let (log_start, recovery_point, clean, broker_since) = (0, 0, true, false);
    PartitionSpec {
        id,
        dir,
        settings,
        topic_id,
        log_start,
        recovery_point,
        clean,
        is_dense,
        broker_since,
    }
}
