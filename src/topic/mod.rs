//! Topics: a topic is a set of partitions with one name, one config and one partitioner.
//!
//! | file | task |
//! | --- | --- |
//! | `mod` | [`TopicCore`], the topic that all handles share, and [`Topic`], the public handle |
//! | `stored` | the topic on disk: creating it, changing it, deleting it, each step safe against a crash |
//! | `topic_file` | the topic file: reading it, and changing one fact in it |
//! | `changes` | announces that a topic or partition was added or removed |
//! | `partitioner` | selects the partition of a record |
//! | `batch` | appends many records as one batch for each partition |
//! | `identity` | random ids that differ from all others |
//!
//! All partitions of a topic are opened with the log, and their number only grows. A partition that
//! could not be opened keeps its number: calls for it return the reason, and the other partitions
//! work.
//!
//! The `catalog` knows which topics a log has; the `log` owns the files that all topics share.
//!
//! A new topic may have the name of a deleted one. So a step that waits for a lock keeps the
//! [`TopicCore`]. Under the lock it asks again whether that topic [is
//! deleted](TopicCore::is_deleted). It never looks up the name a second time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::TopicId;
use crate::format::record::Record;
use crate::partition::{KeepOpen, Partition, PartitionContext, PartitionCore, RecordMetadata};
use crate::sync::{Mutex, RwLock};
use crate::topic_partition::TopicPartition;

mod batch;
mod changes;
pub(crate) mod identity;
mod leftovers;
mod partitioner;
pub(crate) mod stored;
pub(crate) mod topic_file;

pub(crate) use changes::{Changes, LooksAgain};
pub(crate) use leftovers::Leftovers;
pub(crate) use partitioner::Sticky;
use partitioner::partition_of;
use stored::{Home, Stored};

/// A partition, or the error with which opening it failed.
pub(crate) type Slot = Result<Arc<PartitionCore>>;

/// The partitions of a topic by number, also those that could not be opened.
#[derive(Debug)]
pub(crate) struct Slots {
    /// One more than the greatest number.
    count: u32,
    /// Some numbers can be missing: a broker with several log directories keeps those partitions
    /// elsewhere.
    by_number: BTreeMap<u32, Slot>,
}

impl Slots {
    fn new(by_number: BTreeMap<u32, Slot>) -> Self {
        Self {
            count: by_number
                .last_key_value()
                .map_or(0, |(last, _)| last.saturating_add(1)),
            by_number,
        }
    }

    /// Returns one more than the greatest number.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Iterates over the partitions with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.by_number.iter().map(|(number, slot)| (*number, slot))
    }
}

/// A topic, shared by all its handles.
#[derive(Debug)]
pub(crate) struct TopicCore {
    name: Arc<str>,
    /// The number of this topic among the topics and partitions of the open log.
    number: u32,
    home: Home,
    /// Replaced as a whole when partitions are added.
    slots: RwLock<Arc<Slots>>,
    /// Locked while the topic file is rewritten.
    stored: Mutex<Stored>,
    sticky: Sticky,
    is_deleted: AtomicBool,
}

impl TopicCore {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the context of the log that contains the topic.
    pub(crate) fn context(&self) -> &Arc<PartitionContext> {
        &self.home.context
    }

    /// Returns the topic id. `None` for a broker's directory without `partition.metadata`.
    pub(crate) fn id(&self) -> Option<TopicId> {
        self.stored.lock().id()
    }

    pub(crate) fn is_internal(&self) -> bool {
        file_name::is_internal_topic(&self.name)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// Returns whether the topic has a config. A broker's topic without a config here keeps all its
    /// records.
    pub(crate) fn is_configured(&self) -> bool {
        self.stored.lock().is_configured()
    }

    /// Returns the `flush.ms` of the topic, if it is set.
    pub(crate) fn flush_time(&self) -> Option<Duration> {
        let flush_ms = self
            .slots
            .read()
            .by_number
            .values()
            .flatten()
            .next()?
            .settings()
            .flush_ms;
        (flush_ms < i64::MAX).then(|| Duration::from_millis(flush_ms.unsigned_abs()))
    }

    pub(crate) fn partition_count(&self) -> u32 {
        self.slots.read().count
    }

    /// Returns partition `index`. Errors: `UnknownPartition`, `UnknownTopic` after a deletion, or
    /// the error with which opening the partition failed.
    pub(crate) fn partition(&self, index: u32) -> Result<Arc<PartitionCore>> {
        self.check_usable()?;
        self.in_slot(&self.slots.read(), index)
    }

    /// Returns an error if no partition of the topic could be opened. It is not an error that the
    /// writer has yet to create the partitions.
    pub(crate) fn check_has_partitions(&self) -> Result<()> {
        let slots = self.slots();
        let is_there = |slot: &Slot| matches!(slot, Ok(_) | Err(Error::UnknownPartition(_)));
        match slots.by_number.values().next() {
            Some(Err(error)) if !slots.by_number.values().any(is_there) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Returns the partitions that could be opened, by number.
    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionCore>> {
        self.slots
            .read()
            .by_number
            .values()
            .flatten()
            .map(Arc::clone)
            .collect()
    }

    /// Updates a topic of a read-only log to what the writer has added or changed.
    fn look_again(&self) -> Result<()> {
        self.home.changes.look_again()
    }

    /// Returns all partitions by number, also those that could not be opened.
    pub(crate) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots.read())
    }

    /// Marks the topic as deleted. From now on every call on it, its partitions and their readers
    /// returns `UnknownTopic`. Earlier calls may still write to its directories until
    /// [`vacate`](Self::vacate) returns.
    pub(crate) fn mark_deleted(&self) {
        self.is_deleted.store(true, Ordering::Release);
        for partition in self.partitions() {
            partition.mark_deleted();
        }
    }

    /// Waits, after [`mark_deleted`](Self::mark_deleted), until no thread writes to the
    /// directories. The caller must hold no lock of a topic or of the catalog: a thread that writes
    /// may wait for one.
    pub(crate) fn vacate(&self) {
        for partition in self.partitions() {
            partition.vacate();
        }
    }

    pub(crate) fn partition_id(&self, index: u32) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.name),
            partition: index,
        }
    }

    #[inline]
    pub(crate) fn check_usable(&self) -> Result<()> {
        if self.is_deleted() {
            return Err(Error::UnknownTopic(Arc::clone(&self.name)));
        }
        self.home.changes.check_open()
    }

    /// Returns the partition of records with this key, or the error with which opening it failed.
    pub(crate) fn partition_of_key(&self, key: &[u8]) -> Result<Arc<PartitionCore>> {
        let slots = self.slots.read();
        let index = partition_of(key, slots.count);
        self.in_slot(&slots, index)
    }

    /// Selects the partition of the next batch of records without a key, for a caller with its own
    /// `sticky`. `bytes` went to the partition selected before; after `limit` bytes another one
    /// follows.
    pub(crate) fn partition_of_batch(
        &self,
        sticky: &Sticky,
        bytes: u64,
        limit: u64,
    ) -> Result<Arc<PartitionCore>> {
        let slots = self.slots.read();
        let is_available = |index| matches!(slots.by_number.get(&index), Some(Ok(_)));
        let index = sticky.choose_after(bytes, limit, slots.count, is_available);
        self.in_slot(&slots, index)
    }

    /// Selects the partition of a record.
    fn choose(&self, record: &Record<'_>) -> Result<Arc<PartitionCore>> {
        let Some(key) = &record.key else {
            return self.choose_keyless(stored_bytes(record));
        };
        self.check_usable()?;
        self.partition_of_key(key)
    }

    /// Selects the partition of records without a key that take `bytes` together.
    fn choose_keyless(&self, bytes: u64) -> Result<Arc<PartitionCore>> {
        self.check_usable()?;
        let slots = self.slots.read();
        let is_available = |index| matches!(slots.by_number.get(&index), Some(Ok(_)));
        let index = self.sticky.choose(slots.count, bytes, is_available);
        self.in_slot(&slots, index)
    }

    /// Returns the partition in a slot, or why it could not be opened.
    fn in_slot(&self, slots: &Slots, index: u32) -> Result<Arc<PartitionCore>> {
        match slots.by_number.get(&index) {
            Some(slot) => slot.clone(),
            None => Err(Error::UnknownPartition(self.partition_id(index))),
        }
    }

    /// Returns the keys of the settings that `update_config(wanted)` would change.
    fn config_differences(&self, wanted: &TopicConfig) -> Result<Vec<&'static str>> {
        wanted.changes_to(&self.config(), &self.home.defaults)
    }
}

/// Returns the directory of a partition below `root`.
pub(crate) fn partition_dir(root: &Path, partition: &TopicPartition) -> PathBuf {
    root.join(partition.to_string())
}

/// Returns about how many bytes the record takes as a batch of its own.
fn stored_bytes(record: &Record<'_>) -> u64 {
    const BATCH_BYTES: usize = 70;
    let length = |bytes: &Option<Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + length(value))
        .sum();
    (BATCH_BYTES + length(&record.key) + length(&record.value) + headers) as u64
}

/// A topic of an open log. Clones share the topic, and every clone may be used from any thread.
///
/// A handle keeps the log open until [`Log::close`](crate::Log::close).
#[derive(Clone)]
pub struct Topic {
    core: Arc<TopicCore>,
    durability: Durability,
    keep: KeepOpen,
}

impl Topic {
    pub(crate) fn core(&self) -> &Arc<TopicCore> {
        &self.core
    }

    /// Returns the least durability of appends through this handle.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn new(core: Arc<TopicCore>, keep: KeepOpen) -> Self {
        Self {
            core,
            durability: Durability::Os,
            keep,
        }
    }

    /// Returns the name of the topic.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Returns the topic id, as Kafka writes it: 22 characters. A topic that is deleted and created
    /// again gets another id. Returns `None` if an old broker (before Kafka 3) created the topic
    /// without an id.
    pub fn id(&self) -> Option<String> {
        self.core.id().map(TopicId::to_text)
    }

    /// Appends a record, and returns its partition, offset and timestamp. Creates one batch with
    /// one record.
    ///
    /// A record with a key is appended to the [partition of its key](Self::partition_for). Records
    /// without a key go to one partition until it has received 16 KiB of them, and then to another,
    /// selected at random.
    ///
    /// | durability | process killed | machine loses power |
    /// | --- | --- | --- |
    /// | [`Durability::Os`] | the record stays | the record may be lost until the next flush (every second by default) |
    /// | [`Durability::Synced`] | the record stays | the record stays |
    ///
    /// The strongest durability that the log, the topic or this handle asks for applies.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Partition::append`](crate::Partition::append), and
    /// [`Error::UnknownTopic`] if the topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, Record, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let written = orders.append(Record::new("paid").key("order-42"))?;
    /// assert_eq!(written.offset, 0);
    /// assert_eq!(written.partition, orders.partition_for(b"order-42").id().partition);
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn append<'a>(&self, record: impl Into<Record<'a>>) -> Result<RecordMetadata> {
        let record = record.into();
        self.handle(self.core.choose(&record)?).append(record)
    }

    /// Appends many records at once, as one batch for each partition. Returns the partition, offset
    /// and timestamp of each record, in the order of `records`.
    ///
    /// Records go to the same partitions as with [`append`](Self::append). Records of one key stay
    /// in order, and all records without a key go to one partition. The batch of each partition is
    /// written completely or not at all, and must not be larger than
    /// [`max_message_bytes`](TopicConfig::max_message_bytes). Batches of different partitions are
    /// separate steps: a reader, or a power cut, can find some of them without the others.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Partition::append_batch`](crate::Partition::append_batch); the index
    /// in [`Error::InvalidRecord`] is the index in `records`. If a record or the batch of a
    /// partition is refused, no record is written. If the disk fails between two partitions, the
    /// batches that were written before stay.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let written = orders.append_batch([("order-1", "paid"), ("order-1", "sent")])?;
    /// assert_eq!((written[0].offset, written[1].offset), (0, 1)); // one key, so one partition
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn append_batch<'a, R: Into<Record<'a>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Vec<RecordMetadata>> {
        let records: Vec<Record<'a>> = records.into_iter().map(Into::into).collect();
        self.core.append_batch(self.durability, &records)
    }

    /// Returns a handle of the same topic whose appends are at least this durable.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability: self.durability.max(durability),
            ..self.clone()
        }
    }

    /// Returns partition `index`, counted from 0.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownPartition`] if there is no such partition, [`Error::UnknownTopic`]
    /// if the topic was deleted, and the original error if the partition could not be opened.
    pub fn partition(&self, index: u32) -> Result<Partition> {
        self.core.look_again()?;
        Ok(self.handle(self.core.partition(index)?))
    }

    /// Returns the partition of records with this key, as Kafka's own clients select it. Adding
    /// partitions changes the partition of a key. If the partition could not be opened, reads and
    /// appends return the reason.
    pub fn partition_for(&self, key: &[u8]) -> Partition {
        let _as_known_so_far = self.core.look_again();
        self.handle(self.core.partition_for(key))
    }

    /// Returns all partitions of the topic, by number, also those that could not be opened (see
    /// [`Recovery`](crate::Recovery)): reads and appends of such a partition return the reason.
    pub fn partitions(&self) -> Vec<Partition> {
        let _as_known_so_far = self.core.look_again();
        self.core
            .all_partitions()
            .into_iter()
            .map(|core| self.handle(core))
            .collect()
    }

    /// Returns how many bytes the records of all partitions take on the disk. These are the sizes
    /// of the `.log` files, without the indexes. Partitions that could not be opened do not count.
    pub fn size(&self) -> u64 {
        let partitions = self.partitions().into_iter();
        partitions
            .map(|partition| partition.core().refreshed_bytes())
            .sum()
    }

    /// Adds partitions until the topic has `total`. They are durable when the call returns. Some
    /// keys then belong to other partitions. Groups see the new partitions immediately.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if `total` is not greater than the current number of
    /// partitions, and [`Error::ReadOnly`] if the log is read-only. On an error the topic is
    /// unchanged.
    pub fn increase_partitions_to(&self, total: u32) -> Result<()> {
        self.core.increase_partitions_to(total)
    }

    /// Returns the settings that were set for the topic; the log's defaults apply to all others. A
    /// topic that a broker created, and that has no config here, keeps its records forever.
    pub fn config(&self) -> TopicConfig {
        let _as_known_so_far = self.core.look_again();
        self.core.config()
    }

    /// Changes the settings that are set in `changes`, and leaves all others. The new config is
    /// durable when the call returns, and applies to the running log immediately.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if a setting is invalid, and [`Error::ReadOnly`] if the log
    /// is read-only. On an error the topic is unchanged.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// orders.update_config(TopicConfig::new().retention(day))?;
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers build a config where they pass it"
    )]
    pub fn update_config(&self, changes: TopicConfig) -> Result<()> {
        self.core.update_config(&changes)
    }

    /// Returns the keys of the settings that [`update_config`](Self::update_config)`(config)` would
    /// change. Only values that differ in effect count: a setting in `config` that equals the
    /// default which the topic uses is not returned.
    ///
    /// [`Log::open_topic`](crate::Log::open_topic) does not change a topic that exists. A program
    /// can use this method to find out whether its config and the stored config differ.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if `config` has an invalid setting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// log.create_topic("orders", 4, TopicConfig::new())?;
    /// let config = TopicConfig::new().retention(Duration::from_secs(3_600));
    /// let config = config.segment_bytes(1 << 30);
    /// let orders = log.open_topic("orders", 4, config.clone())?;
    /// assert_eq!(orders.config_differences(&config)?, ["retention.ms"]);
    /// orders.update_config(config.clone())?;
    /// assert!(orders.config_differences(&config)?.is_empty());
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn config_differences(&self, config: &TopicConfig) -> Result<Vec<&'static str>> {
        let _as_known_so_far = self.core.look_again();
        self.core.config_differences(config)
    }

    fn handle(&self, core: Arc<PartitionCore>) -> Partition {
        Partition::new(core, self.durability, self.keep.clone())
    }
}

/// Shows the last known state. In a read-only log it does not look for changes of the writer.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.core.check_usable() {
            Ok(()) => format_args!("open"),
            Err(Error::UnknownTopic(_)) => format_args!("deleted"),
            Err(_) => format_args!("closed"),
        };
        let mut shown = f.debug_struct("Topic");
        shown
            .field("name", &self.name())
            .field("partitions", &self.core.partition_count())
            .field("state", &state);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
