//! Topics: a set of partitions under one name, with one config, and the partitioner.
//!
//! [`TopicCore`] is the topic itself, shared by all its handles; [`Topic`] is what a program holds.
//! A topic's partitions are opened all at once and stay; their number only grows. A partition that
//! could not be opened keeps its place: asking for it gives the reason, and the others serve.
//!
//! What a topic is on disk, and how that changes without ever being half done, stands in `stored`.
//! Which topics there are, and the files that all of them share, is for the floors above.
//!
//! Another topic may have the name of one that was deleted. So a step that waits for a lock keeps
//! the [`TopicCore`] and asks it again, under the lock, whether it [is
//! deleted](TopicCore::is_deleted); it never looks the name up a second time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::TopicId;
use crate::format::record::Record;
use crate::partition::state::waiting::WaitList;
use crate::partition::{KeepOpen, Partition, PartitionContext, PartitionCore, RecordMetadata};
use crate::topic_partition::TopicPartition;

mod batch;
pub(crate) mod identity;
mod partitioner;
pub(crate) mod stored;

pub(crate) use partitioner::Sticky;
use partitioner::partition_of;
use stored::{Home, Stored};

/// In a read-only log: who looks what the writer, in another process, has done to topics.
pub(crate) trait LooksAgain: fmt::Debug + Send + Sync {
    /// Brings the topics up to what the directory holds.
    fn look_again(&self) -> Result<()>;
}

/// What tells of topics and partitions that appear and go, and of the end of it all. One for a log.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    version: AtomicU64,
    is_closed: AtomicBool,
    waiters: WaitList,
    /// Empty in a log that is written to.
    beside: OnceLock<Box<dyn LooksAgain>>,
}

impl Changes {
    /// From now on `look_again` asks it.
    pub(crate) fn set_beside(&self, beside: Box<dyn LooksAgain>) {
        let _only_once = self.beside.set(beside);
    }

    /// In a read-only log: looks what there is now. Whoever calls it holds no lock of a topic or of
    /// the catalog.
    pub(crate) fn look_again(&self) -> Result<()> {
        match self.beside.get() {
            Some(beside) if !self.is_closed() => beside.look_again(),
            _ => Ok(()),
        }
    }

    /// Rises whenever a topic or partition appears or goes.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Signals registered here are notified at every such change, and at close.
    pub(crate) fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Tells of a change that is in place.
    pub(crate) fn announce(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.waiters.notify();
    }

    /// Nothing changes any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.announce();
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}

/// A partition, or why it could not be opened.
pub(crate) type Slot = Result<Arc<PartitionCore>>;

/// The places of a topic's partitions.
#[derive(Debug)]
pub(crate) struct Slots {
    /// One more than the greatest number.
    count: u32,
    /// A broker with several log directories leaves numbers out.
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

    /// One more than the greatest number.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Number and partition, or why there is none.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.by_number.iter().map(|(number, slot)| (*number, slot))
    }
}

/// A topic; its handles share it.
#[derive(Debug)]
pub(crate) struct TopicCore {
    name: Arc<str>,
    /// Among the topics and partitions of the log, while it is open.
    number: u32,
    home: Home,
    /// Replaced as a whole when partitions are added.
    slots: RwLock<Arc<Slots>>,
    /// Held while the topic's file is rewritten.
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

    /// Of the log that the topic is in.
    pub(crate) fn context(&self) -> &Arc<PartitionContext> {
        &self.home.context
    }

    /// `None`: a broker's directory without `partition.metadata`.
    pub(crate) fn id(&self) -> Option<TopicId> {
        self.stored.lock().id()
    }

    pub(crate) fn is_internal(&self) -> bool {
        file_name::is_internal_topic(&self.name)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// Whether anybody said how to treat its records. A broker's topic without a config here keeps
    /// all it has.
    pub(crate) fn is_configured(&self) -> bool {
        self.stored.lock().is_configured()
    }

    /// Its `flush.ms`, if it has one.
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

    /// `UnknownPartition`, `UnknownTopic` once deleted, or why the partition could not be opened.
    pub(crate) fn partition(&self, index: u32) -> Result<Arc<PartitionCore>> {
        self.check_usable()?;
        match self.slots.read().by_number.get(&index) {
            Some(slot) => slot.clone(),
            None => Err(Error::UnknownPartition(self.partition_id(index))),
        }
    }

    /// Why none of its partitions could be opened, if none could. That a writer has yet to create
    /// them is not an error.
    pub(crate) fn check_has_partitions(&self) -> Result<()> {
        let slots = self.slots();
        let is_there = |slot: &Slot| matches!(slot, Ok(_) | Err(Error::UnknownPartition(_)));
        match slots.by_number.values().next() {
            Some(Err(error)) if !slots.by_number.values().any(is_there) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Those that could be opened, by number.
    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionCore>> {
        self.slots
            .read()
            .by_number
            .values()
            .flatten()
            .map(Arc::clone)
            .collect()
    }

    /// In a read-only log: what the writer has added or changed counts from now on.
    fn look_again(&self) -> Result<()> {
        self.home.changes.look_again()
    }

    /// All places, by number.
    pub(crate) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots.read())
    }

    /// The topic goes: every call on it, its partitions and their readers returns `UnknownTopic`
    /// from now on. Earlier calls may still write to its directories until [`vacate`](Self::vacate)
    /// returns.
    pub(crate) fn mark_deleted(&self) {
        self.is_deleted.store(true, Ordering::Release);
        for partition in self.partitions() {
            partition.mark_deleted();
        }
    }

    /// After [`mark_deleted`](Self::mark_deleted): waits until nothing writes to the directories
    /// any more. The caller holds no lock of a topic or of the catalog: a thread that writes may
    /// wait for one.
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

    /// Where records with this key go; why it could not be opened, if it could not.
    pub(crate) fn partition_of_key(&self, key: &[u8]) -> Result<Arc<PartitionCore>> {
        let slots = self.slots.read();
        let index = partition_of(key, slots.count);
        slots
            .by_number
            .get(&index)
            .cloned()
            .unwrap_or_else(|| Err(Error::UnknownPartition(self.partition_id(index))))
    }

    /// Where the next batch of records without a key goes, by a rule of the caller's, who put
    /// `bytes` where it said last.
    pub(crate) fn partition_of_batch(
        &self,
        sticky: &Sticky,
        bytes: u64,
        limit: u64,
    ) -> Result<Arc<PartitionCore>> {
        let slots = self.slots.read();
        let is_available = |index| matches!(slots.by_number.get(&index), Some(Ok(_)));
        let index = sticky.choose_after(bytes, limit, slots.count, is_available);
        slots
            .by_number
            .get(&index)
            .cloned()
            .unwrap_or_else(|| Err(Error::UnknownPartition(self.partition_id(index))))
    }

    /// Where a record goes.
    fn choose(&self, record: &Record<'_>) -> Result<Arc<PartitionCore>> {
        let index = if let Some(key) = &record.key {
            partition_of(key, self.partition_count())
        } else {
            return self.choose_keyless(stored_bytes(record));
        };
        self.partition(index)
    }

    /// Where so many bytes of records without a key go.
    fn choose_keyless(&self, bytes: u64) -> Result<Arc<PartitionCore>> {
        let slots = self.slots.read();
        let is_available = |index| matches!(slots.by_number.get(&index), Some(Ok(_)));
        let index = self.sticky.choose(slots.count, bytes, is_available);
        drop(slots);
        self.partition(index)
    }

    /// Keys of the settings that `update_config(wanted)` would change.
    fn config_differences(&self, wanted: &TopicConfig) -> Result<Vec<&'static str>> {
        wanted.changes_to(&self.config(), &self.home.defaults)
    }
}

/// Directory of a partition below a root.
pub(crate) fn partition_dir(root: &Path, partition: &TopicPartition) -> PathBuf {
    root.join(partition.to_string())
}

/// About as many bytes as the record takes up as a batch of its own.
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

/// A topic of an open log. Clones are the same topic; all are usable from any thread.
///
/// It keeps the log open, as every handle does, until [`Log::close`](crate::Log::close).
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

    /// What appends through this handle survive at least.
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

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its id, as Kafka writes it: 22 characters. A topic that is deleted and created again gets
    /// another one. `None` where an old broker (before Kafka 3) gave it none.
    pub fn id(&self) -> Option<String> {
        self.core.id().map(TopicId::to_text)
    }

    /// Appends a record to the partition of its key, or, without a key, to the one that such
    /// records go to for now: after 16 KiB they move on to another.
    ///
    /// | durability | process killed | machine loses power |
    /// | --- | --- | --- |
    /// | [`Durability::Os`] | the record stays | the record may be lost until the next flush (every second by default) |
    /// | [`Durability::Synced`] | the record stays | the record stays |
    ///
    /// The greatest of what the log, the topic and this handle ask for holds. See
    /// [`Partition::append`](crate::Partition::append) for what can go wrong.
    pub fn append<'a>(&self, record: impl Into<Record<'a>>) -> Result<RecordMetadata> {
        let record = record.into();
        self.handle(self.core.choose(&record)?).append(record)
    }

    /// Appends many records at once: one batch for each partition that they go to. Returns where
    /// each record is, in the order of the records.
    ///
    /// Each record goes where [`append`](Self::append) would put it, and records of one key stay in
    /// order; those without a key stay together. The batch of each partition is written whole or
    /// not at all, and must not be larger than
    /// [`max_message_bytes`](TopicConfig::max_message_bytes). Batches of different partitions are
    /// not one step: a reader, or a power cut, can meet some of them without the others.
    ///
    /// # Errors
    /// As of [`Partition::append_batch`](crate::Partition::append_batch), with the place of a
    /// record among all of them. Nothing is written if any record, or the batch of any partition,
    /// is refused. If the disk fails between two partitions, the batches before it stay.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let written = orders.append_batch([("order-1", "paid"), ("order-1", "sent")])?;
    /// assert_eq!((written[0].offset, written[1].offset), (0, 1)); // of one key, so in one partition
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append_batch<'a, R: Into<Record<'a>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Vec<RecordMetadata>> {
        let records: Vec<Record<'a>> = records.into_iter().map(Into::into).collect();
        self.core.append_batch(self.durability, &records)
    }

    /// The same topic; appends through this handle are at least this durable.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability: self.durability.max(durability),
            ..self.clone()
        }
    }

    /// Partition `index`, from 0. [`Error::UnknownPartition`] where there is none; if it is there
    /// and could not be opened, why.
    pub fn partition(&self, index: u32) -> Result<Partition> {
        self.core.look_again()?;
        Ok(self.handle(self.core.partition(index)?))
    }

    /// The partition where [`append`](Self::append) puts records with this key, as Kafka's own
    /// clients do. Adding partitions moves keys. If that partition could not be opened, reads and
    /// appends say why.
    pub fn partition_for(&self, key: &[u8]) -> Partition {
        let _as_known_so_far = self.core.look_again();
        self.handle(self.core.partition_for(key))
    }

    /// Returns the partitions of the topic, by number. None is left out: reads and appends of one
    /// that could not be opened (see [`Recovery`](crate::Recovery)) return the reason.
    pub fn partitions(&self) -> Vec<Partition> {
        let _as_known_so_far = self.core.look_again();
        self.core
            .all_partitions()
            .into_iter()
            .map(|core| self.handle(core))
            .collect()
    }

    /// Returns how many bytes the records of all partitions take on the disk: the sizes of their
    /// `.log` files, without the indexes. Partitions that could not be opened do not count.
    pub fn size(&self) -> u64 {
        let partitions = self.partitions().into_iter();
        partitions
            .map(|partition| partition.core().refreshed_bytes())
            .sum()
    }

    /// Adds partitions up to `total`. Keys may hash to other partitions from then on; groups see
    /// the new ones at once.
    ///
    /// [`Error::InvalidConfig`] unless `total` is more than there are.
    pub fn increase_partitions_to(&self, total: u32) -> Result<()> {
        self.core.increase_partitions_to(total)
    }

    /// What was set for the topic; everything else is the default. A topic that a broker made, and
    /// that got no config here, keeps its records for ever.
    pub fn config(&self) -> TopicConfig {
        let _as_known_so_far = self.core.look_again();
        self.core.config()
    }

    /// Changes the settings that `changes` sets, and no other, now and for later openings. All or
    /// nothing.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a config is made where it is passed"
    )]
    pub fn update_config(&self, changes: TopicConfig) -> Result<()> {
        self.core.update_config(&changes)
    }

    /// Returns the keys of the settings that [`update_config`](Self::update_config)`(config)` would
    /// change. Compares values that are in force: a setting that is spelled out here, and was left
    /// to the same default when the topic was created, is not one.
    ///
    /// [`Log::open_topic`](crate::Log::open_topic) does not change a stored topic; this is how a
    /// program sees that its config and the stored one differ.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if `config` has a wrong setting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// log.create_topic("orders", 4, TopicConfig::new())?;
    /// let config = TopicConfig::new().retention(Duration::from_secs(3_600)).segment_bytes(1 << 30);
    /// let orders = log.open_topic("orders", 4, config.clone())?;
    /// assert_eq!(orders.config_differences(&config)?, ["retention.ms"]);
    /// orders.update_config(config.clone())?;
    /// assert!(orders.config_differences(&config)?.is_empty());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn config_differences(&self, config: &TopicConfig) -> Result<Vec<&'static str>> {
        let _as_known_so_far = self.core.look_again();
        self.core.config_differences(config)
    }

    fn handle(&self, core: Arc<PartitionCore>) -> Partition {
        Partition::new(core, self.durability, self.keep.clone())
    }
}

/// Shows the topic as it is known so far.
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
