//! A topic on disk: `<topic>.topic` at the root, and a directory for each partition beside it.
//!
//! The topic file says how many partitions there are. It is always written as a whole and before
//! what it speaks of:
//!
//! | change | steps, each durable before the next | after a crash in between |
//! | --- | --- | --- |
//! | create | topic file, then the directories | the next open creates the missing directories, empty |
//! | add partitions | topic file, then the directories | likewise |
//! | change the config | topic file | the old or the new config |
//! | delete | topic file renamed to `<topic>.gone`, directories renamed and removed, `.gone` removed | the next open goes on |
//!
//! So directories without a topic file are a broker's, whose topics have no config here: they keep
//! all they have ([`unconfigured`]), until the first change writes a topic file that says so.
//!
//! `stored` is locked while the topic file changes. Under it each change asks again whether the
//! topic was deleted or the log closed: after `begin_delete`, and after the `settle` of a log that
//! closes, nobody writes the file of this topic any more.
//!
//! The topic file repeats topic id and log starts because no checksum covers Kafka's own files.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use super::identity::{unique, unique_id};
use super::partitioner::{Sticky, partition_of};
use super::{Changes, Slot, Slots, TopicCore, partition_dir};
use crate::config::{CleanupPolicy, TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{
    NEWER_VERSION, TopicFile, TopicId, decode_topic_file, encode_topic_file,
};
use crate::partition::open::assembly::stored_topic_id;
use crate::partition::{PartitionContext, PartitionCore, PartitionSpec};
use crate::storage::{Access, Storage, read_file, remove_if_exists, replace_file};
use crate::topic_partition::TopicPartition;

/// A topic file is small: its longest part is a line per partition.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What is on disk of a topic, beside its partitions.
#[derive(Debug)]
pub(super) struct Stored {
    id: Option<TopicId>,
    /// As it stands on disk; `None`: there is none, or it is damaged.
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

/// The config of a topic that nobody configured, with all that keeps its records spelled out: it
/// holds too when other things are set later, whatever the defaults are then.
pub(crate) fn unconfigured() -> TopicConfig {
    TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Delete)
        .retention(None)
        .retention_bytes(None)
        .timestamp_after_max(None)
}

/// What stands where a topic file belongs.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(crate) enum Found {
    Nothing,
    /// The file and the config in it.
    Sound(TopicFile, TopicConfig),
    /// Its bytes are damaged, or its settings mean nothing to this build.
    Damaged(Error),
}

/// Reads a topic file. `Unsupported` for one of a later version.
pub(crate) fn read_topic_file(storage: &dyn Storage, root: &Path, topic: &str) -> Result<Found> {
    let path = root.join(file_name::topic_file(topic));
    let bytes = match read_file(storage, &path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Ok(Found::Damaged(Error::io("read", &path, error))),
    };
    let file = match decode_topic_file(&bytes) {
        Ok(file) => file,
        Err(NEWER_VERSION) => {
            return Err(Error::Unsupported {
                path,
                what: "a later version of topic files",
            });
        }
        Err(malformed) => {
            let source = io::Error::new(io::ErrorKind::InvalidData, malformed);
            return Ok(Found::Damaged(Error::io("read", &path, source)));
        }
    };
    let config = config_of(&file.config)
        .and_then(|config| config.over(&TopicSettings::default()).map(|_| config));
    Ok(config.map_or_else(Found::Damaged, |config| Found::Sound(file, config)))
}

/// How many partitions a topic had that is being deleted, if its file says so: a broker's topic has
/// none.
pub(crate) fn partitions_of_deleted(
    storage: &dyn Storage,
    root: &Path,
    topic: &str,
) -> Option<u32> {
    let bytes = read_file(
        storage,
        &root.join(file_name::gone_file(topic)),
        MAX_FILE_BYTES,
    )
    .ok()?;
    decode_topic_file(&bytes).ok().map(|file| file.partitions)
}

fn config_of(entries: &[(String, String)]) -> Result<TopicConfig> {
    entries
        .iter()
        .try_fold(TopicConfig::new(), |config, (key, value)| {
            config.set(key, value)
        })
}

fn entries_of(config: &TopicConfig) -> Vec<(String, String)> {
    config
        .entries()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// A topic that was read from disk.
#[derive(Debug)]
pub(crate) struct TopicParts {
    pub(crate) name: Arc<str>,
    pub(crate) id: Option<TopicId>,
    pub(crate) file: Option<TopicFile>,
    pub(crate) config: TopicConfig,
    pub(crate) slots: BTreeMap<u32, Slot>,
}

/// Where topics live: what all of a log share.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) root: PathBuf,
    /// What topics are set to where they do not say so.
    pub(crate) defaults: TopicSettings,
    pub(crate) context: Arc<PartitionContext>,
    pub(crate) changes: Arc<Changes>,
}

impl Home {
    fn storage(&self) -> &dyn Storage {
        &*self.context.storage
    }

    /// The topic id in the directory of a partition.
    pub(crate) fn stored_id(&self, id: &TopicPartition) -> Option<TopicId> {
        stored_topic_id(&self.context, &partition_dir(&self.root, id))
    }

    fn topic_path(&self, topic: &str) -> PathBuf {
        self.root.join(file_name::topic_file(topic))
    }

    fn write(&self, topic: &str, file: &TopicFile) -> Result<()> {
        let path = self.topic_path(topic);
        replace_file(self.storage(), &path, encode_topic_file(file).as_bytes())
            .map_err(|error| Error::io("write", &path, error))
    }

    fn check_writable(&self) -> Result<()> {
        if self.context.read_only {
            Err(Error::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// What has to happen before anything is written.
    fn prepare_write(&self) -> Result<()> {
        self.check_writable()?;
        self.context.clean_marker.clear(self.storage())
    }
}

impl TopicCore {
    /// The topic as it was read.
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

    /// A new topic. On an error nothing of it stays. The caller has checked name and number, and
    /// holds off others.
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
                let _told_already = remove_if_exists(home.storage(), &home.topic_path(&name));
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
        // In a read-only log: the writer has yet to create it.
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

    /// Returns a partition; every call on it returns the reason if it could not be opened, or is
    /// not in this directory.
    pub(crate) fn opened_or_not(&self, slots: &Slots, number: u32) -> Arc<PartitionCore> {
        let error = match slots.by_number.get(&number) {
            Some(Ok(partition)) => return Arc::clone(partition),
            Some(Err(error)) => error.clone(),
            None => Error::UnknownPartition(self.partition_id(number)),
        };
        self.unavailable(number, error)
    }

    /// Returns a partition in place of one that could not be opened: every call of it returns
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

    /// `InvalidConfig` unless `total` is greater than the number of partitions. On an error all is
    /// as it was.
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

    /// Applies what `changes` sets. On an error all is as it was.
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
            // What a power cut takes from now on is told from what compaction leaves by where it
            // may be: at the end.
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

    /// Brings the topic file up to what the partitions say: topic id, number, and log starts inside
    /// a segment; and that they may be compacted, before they are. Writes only where something
    /// differs; a topic without a file gets none.
    pub(crate) fn store_state(&self) -> Result<()> {
        let mut stored = self.stored.lock();
        if self.is_deleted() || self.home.changes.is_closed() {
            return Ok(());
        }
        self.store(&mut stored)
    }

    /// As [`store_state`](Self::store_state), once more when the log is closed, by the thread that
    /// closes it.
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

    /// The point of no return of a deletion. On an error the topic is as it was.
    pub(crate) fn begin_delete(&self) -> Result<()> {
        let stored = self.stored.lock();
        self.check_usable()?;
        self.home.prepare_write()?;
        let storage = self.home.storage();
        let (file, gone) = (
            self.home.topic_path(&self.name),
            self.home.root.join(file_name::gone_file(&self.name)),
        );
        match storage.rename(&file, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                drop(
                    storage
                        .open(&gone, Access::OpenOrCreate)
                        .map_err(|error| Error::io("create", &gone, error))?,
                );
            }
            renamed => renamed.map_err(|error| Error::io("rename", &file, error))?,
        }
        if let Err(error) = storage.sync_dir(&self.home.root) {
            let _told_already = if stored.file.is_some() {
                storage.rename(&gone, &file)
            } else {
                storage.remove_file(&gone)
            };
            return Err(Error::io("sync", &self.home.root, error));
        }
        self.mark_deleted();
        Ok(())
    }

    /// In a read-only log: takes over what the writer's topic file says by now, and partitions that
    /// were not known or could not be opened before.
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

    /// Waits until a change of the topic that is under way is done; none begins once the log is
    /// closed.
    pub(crate) fn settle(&self) {
        drop(self.stored.lock());
    }

    /// The topic file as it is, or the first one of a topic that had none.
    fn file_of(&self, stored: &Stored) -> TopicFile {
        stored.file.clone().unwrap_or_else(|| TopicFile {
            topic_id: stored.id.unwrap_or_else(unique_id),
            partitions: self.partition_count(),
            is_dense: false,
            log_starts: self.log_starts(&[]),
            config: entries_of(&stored.config),
        })
    }

    /// Log starts above the first segment's base; of partitions that could not be opened, what was
    /// known before.
    fn log_starts(&self, before: &[(u32, u64)]) -> Vec<(u32, u64)> {
        let line = |(index, slot): (&u32, &Slot)| match slot {
            Ok(partition) => partition.log_start_line().map(|offset| (*index, offset)),
            Err(_) => before.iter().find(|(other, _)| other == index).copied(),
        };
        self.slots().by_number.iter().filter_map(line).collect()
    }

    /// After a failed write: the directory may hold the new file, if only its sync failed.
    fn write_back(&self, stored: &Stored) {
        if let Some(file) = &stored.file {
            let _told_already = self.home.write(&self.name, file);
        } else {
            let _told_already =
                remove_if_exists(self.home.storage(), &self.home.topic_path(&self.name));
        }
    }
}

/// Whether a gap between two offsets can only be damage.
pub(crate) fn is_never_compacted(settings: &TopicSettings) -> bool {
    settings.cleanup_policy == CleanupPolicy::Delete
}

/// What the number of partitions is called in errors.
const PARTITIONS_KEY: &str = "partitions";

/// `InvalidConfig` for a number of partitions that no topic can have.
pub(crate) fn check_partition_count(partitions: u32) -> Result<()> {
    let reason = match i32::try_from(partitions) {
        Ok(0) => "a topic has at least one",
        Ok(_) => return Ok(()),
        Err(_) => "Kafka counts them in 31 bits",
    };
    Err(Error::InvalidConfig {
        key: PARTITIONS_KEY.to_owned(),
        reason: reason.to_owned(),
    })
}

/// That the directories of partitions to come are free. What they held would be mixed with the
/// partition, and deleted with it.
fn check_free(home: &Home, topic: &Arc<str>, numbers: Range<u32>) -> Result<()> {
    home.check_writable()?;
    for partition in numbers {
        let dir = partition_dir(
            &home.root,
            &TopicPartition {
                topic: Arc::clone(topic),
                partition,
            },
        );
        match home.storage().list(&dir) {
            Ok(entries) if entries.is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                return Err(Error::io("list", &dir, error));
            }
            _ => {
                let reason = "something else has this name: move it away, or choose another name for the topic";
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

/// Creates directories and first segments of partitions that `file` speaks of. On an error those
/// that were created are removed again.
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
    let done = done.and_then(|()| {
        storage
            .sync_dir(&home.root)
            .map_err(|error| Error::io("sync", &home.root, error))
    });
    let Err(error) = done else { return Ok(created) };
    for core in created.values().flatten() {
        core.mark_deleted();
        core.vacate();
    }
    // A link that leads nowhere is not ours.
    for dir in tried.iter().filter(|dir| storage.metadata(dir).is_ok()) {
        let _told_already = storage.remove_dir_all(dir);
    }
    Err(error)
}

/// How a partition is created that was never there. Whether it may have gaps is for `file`, the
/// topic's, to say, as it will be when the partition is opened again: the settings may forbid them
/// by now where they did not always.
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

/// Brings the topic file of `id` up to the log start of one partition; does nothing where there is
/// no sound one.
pub(crate) fn store_log_start(
    storage: &dyn Storage,
    root: &Path,
    id: &TopicPartition,
    log_start: Option<u64>,
) -> Result<()> {
    let Found::Sound(mut file, _) = read_topic_file(storage, root, &id.topic)? else {
        return Ok(());
    };
    let before = file.log_starts.clone();
    file.log_starts
        .retain(|(number, _)| *number != id.partition);
    file.log_starts
        .extend(log_start.map(|offset| (id.partition, offset)));
    file.log_starts.sort_unstable();
    if file.log_starts == before {
        return Ok(());
    }
    let path = root.join(file_name::topic_file(&id.topic));
    replace_file(storage, &path, encode_topic_file(&file).as_bytes())
        .map_err(|error| Error::io("write", &path, error))
}

/// Makes the topic file say that partitions have gaps, which are no damage then; does nothing where
/// there is no sound one.
pub(crate) fn store_gaps(storage: &dyn Storage, root: &Path, topic: &str) -> Result<()> {
    let Found::Sound(file, _) = read_topic_file(storage, root, topic)? else {
        return Ok(());
    };
    if !file.is_dense {
        return Ok(());
    }
    let path = root.join(file_name::topic_file(topic));
    let text = encode_topic_file(&TopicFile {
        is_dense: false,
        ..file
    });
    replace_file(storage, &path, text.as_bytes()).map_err(|error| Error::io("write", &path, error))
}
