//! The public handle of a log.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::core::LogCore;
use super::keeper::Guard;
use super::recovery::Recovery;
use super::snapshot::Snapshot;
use crate::catalog::{Catalog, checkpoints};
use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::{Consumer, ConsumerConfig, ConsumerGroup};
use crate::partition::{KeepOpen, Maintenance};
use crate::producer::{Producer, ProducerConfig};
use crate::topic::{Topic, TopicCore};
use crate::topic_partition::TopicPartition;

/// An open log: a directory of topics. Clones share the log, and every clone may be used from any
/// thread.
///
/// Opening takes the directory's lock. The directory stays locked until [`close`](Self::close), or
/// until the last handle of any kind (topics, partitions, readers, consumers) is dropped. Dropping
/// the last handle may write and sync.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// use annals::{Log, Record, TopicConfig};
///
/// let log = Log::in_memory();
/// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
/// let written = orders.append(Record::new("paid").key("order-42"))?;
/// assert_eq!(written.offset, 0);
/// log.close()
/// # }
/// ```
///
/// # Copies of a directory
///
/// [`snapshot`](Self::snapshot) copies an open log as it is at one moment. A copy of the directory
/// of a closed log is the same log.
///
/// A copy of the directory of an open log, made file by file with `cp` or `rsync`, opens as after a
/// power cut, but each file was copied at a different moment:
///
/// * Each partition holds a prefix of its records, as of the moment when its last file was copied.
///   The partitions may not match each other.
/// * Positions of groups above the copied end are lowered when the copy is opened.
/// * A segment that was deleted or compacted during the copy can be missing.
///   [`recovery`](Self::recovery) reports it.
///
/// A snapshot of the file system takes all files at the same moment, and has none of these effects.
///
/// # In an async program
///
/// Every call blocks its thread: briefly while it uses the page cache, and longer when it waits for
/// the device because of [`Durability::Synced`](crate::Durability::Synced). In tokio, wrap single
/// calls in `tokio::task::spawn_blocking`. Give a consumer or a following reader a thread of its
/// own that sends the records it reads into a channel; a [`Waker`](crate::Waker) ends its wait.
/// Handles can be cloned and sent into tasks. Close the log, or drop its last handle, in
/// `spawn_blocking` too, since closing may sync.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let log = annals::Log::in_memory();
/// # let orders = log.open_topic("orders", 1, annals::TopicConfig::new())?;
/// # orders.append("paid")?;
/// let mut reader = orders.partition(0)?.follow(..)?;
/// let waker = reader.waker(); // for the task that stops the reader
/// // In tokio: `tokio::sync::mpsc::channel`, and `blocking_send` below.
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let reading = std::thread::spawn(move || {
///     while let Ok(Some(record)) = reader.next_record() {
///         if sender.send(record.text().into_owned()).is_err() {
///             break;
///         }
///     }
/// });
/// assert_eq!(receiver.recv().unwrap(), "paid");
/// waker.wake();
/// reading.join().unwrap();
/// # Ok(())
///
/// # }
/// ```
///
/// # In a forked child
///
/// A process that is forked from the opener (`fork` without `exec`) gets a copy of every handle.
/// The log still belongs to the opener. The child may:
///
/// - drop the handles, or [`close`](Self::close) the log, which returns [`Error::Forked`]: the
///   child writes no file, leaves no group, and does not release the opener's lock;
/// - read batches that it already holds ([`Batch`](crate::Batch), [`Records`](crate::Records));
/// - open the same directory with [`open_read_only`](Self::open_read_only), and any other log as
///   usual.
///
/// It must not use the handles in any other way. An append in the child is not refused, and it
/// damages the log, because the opener does not know about it. Readers and consumers may wait
/// forever for a lock that a thread of the opener held during the fork. A program that forks to
/// become a daemon must open the log after the fork.
#[derive(Clone)]
pub struct Log {
    pub(super) guard: Arc<Guard>,
}

impl Log {
    /// Opens the topic `name` if it exists, and then ignores `partitions` and `config`; creates it
    /// otherwise.
    ///
    /// To change a topic that exists, call [`Topic::update_config`] or
    /// [`Topic::increase_partitions_to`]. A topic that was created is durable when the call
    /// returns.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::InvalidTopic`] if no topic can have this name. Kafka's rules apply: 1 to
    ///   249 characters of `[a-zA-Z0-9._-]`, not `.` or `..`. The names of Kafka's internal topics
    ///   are refused too.
    /// * Returns [`Error::TopicCollides`] if the name of another topic differs only in `.` and `_`.
    /// * Returns [`Error::InvalidConfig`] if a setting is invalid or `partitions` is 0.
    /// * Returns [`Error::ReadOnly`] if the topic does not exist and the log is read-only.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// orders.append(("order-42", "paid"))?;
    /// // The topic exists now, and keeps its four partitions.
    /// assert_eq!(log.open_topic("orders", 1, TopicConfig::new())?.partitions().len(), 4);
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers build a config where they pass it"
    )]
    pub fn open_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| {
            catalog.open_topic(name, partitions, &config)
        })
    }

    /// Creates the topic `name`. It is durable when the call returns.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TopicExists`] if there is a topic of this name, and otherwise the errors of
    /// [`open_topic`](Self::open_topic).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers build a config where they pass it"
    )]
    pub fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| {
            catalog.create_topic(name, partitions, &config)
        })
    }

    /// Returns the topic `name`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownTopic`] if there is no topic of this name, and [`Error::Closed`] if
    /// the log is closed.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        self.core()
            .catalog
            .topic(name)
            .map(|core| self.topic_of(core))
    }

    /// Returns all topics, sorted by name, without Kafka's internal topics.
    pub fn topics(&self) -> Vec<Topic> {
        self.core().catalog.try_look_again();
        let topics = self.core().catalog.topics().into_iter();
        topics
            .filter(|core| !core.is_internal())
            .map(|core| self.topic_of(core))
            .collect()
    }

    /// Deletes the topic `name` with all its records. The deletion is durable when the call
    /// returns.
    ///
    /// Every later call on a handle of the topic returns [`Error::UnknownTopic`]. Batches that were
    /// returned before stay readable. A topic of the same name may be created immediately; it is a
    /// different topic. The files are removed after
    /// [`file.delete.delay.ms`](crate::TopicConfig::file_delete_delay).
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownTopic`] if there is no topic of this name, [`Error::InvalidTopic`]
    /// for one of Kafka's internal topics, and [`Error::ReadOnly`] if the log is read-only.
    ///
    /// ```
    /// # use annals::{Error, Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// log.delete_topic("orders")?;
    /// assert!(matches!(orders.append("late"), Err(Error::UnknownTopic(_))));
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.check_name(name)?;
        self.core().delete_topic(name)
    }

    /// Creates a producer with default settings. A producer sends records in batches, and many
    /// threads may share it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ReadOnly`] if the log is read-only, and [`Error::Closed`] if it is closed.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let producer = log.producer()?;
    /// for number in 0..1_000 {
    ///     producer.send(&orders, format!("order {number}"))?;
    /// }
    /// producer.flush()?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn producer(&self) -> Result<Producer> {
        self.producer_with(ProducerConfig::new())
    }

    /// Creates a producer with the settings in `config`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if the settings contradict each other, and otherwise the
    /// errors of [`producer`](Self::producer).
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer> {
        self.core().check_open()?;
        self.core().producers.producer(config, self.keep())
    }

    /// Returns the consumer group `id`, with the positions that it has committed so far. A new
    /// group is stored on disk with its first commit.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidGroup`] if `id` is empty or longer than 32767 bytes.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # use std::time::Duration;
    /// # let log = Log::in_memory();
    /// # log.open_topic("orders", 4, TopicConfig::new())?.append("paid")?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// for record in &consumer.poll(Duration::from_secs(1))? {
    ///     println!("{}", record?.text());
    /// }
    /// consumer.commit()?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn consumer_group(&self, id: &str) -> Result<ConsumerGroup> {
        self.core().groups.group(id, self.keep())
    }

    /// Creates a consumer that reads all of `partitions` without a group. It starts at the position
    /// that [`auto_offset_reset`](ConsumerConfig::auto_offset_reset) selects, and it cannot commit:
    /// a commit returns [`Error::NoGroup`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownTopic`] or [`Error::UnknownPartition`] if one of the partitions does
    /// not exist.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # use std::time::Duration;
    /// # let log = Log::in_memory();
    /// # log.open_topic("orders", 1, TopicConfig::new())?.append("paid")?;
    /// let mut consumer = log.assign([("orders", 0).into()])?;
    /// let records = consumer.poll(Duration::from_secs(1))?;
    /// assert_eq!(records.iter().count(), 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Consumer> {
        self.assign_with(partitions, ConsumerConfig::new())
    }

    /// Creates a consumer without a group, as [`assign`](Self::assign) does, with the settings in
    /// `config`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if `config` has a setting that only a member of a group can
    /// use, and otherwise the errors of [`assign`](Self::assign).
    pub fn assign_with(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        config: ConsumerConfig,
    ) -> Result<Consumer> {
        self.core().groups.assign(partitions, config, self.keep())
    }

    /// Returns all groups that have members or committed offsets, sorted by name.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Corrupt`] or [`Error::Io`] if `__consumer_offsets` cannot be read.
    pub fn consumer_groups(&self) -> Result<Vec<ConsumerGroup>> {
        self.core().groups.groups(&self.keep())
    }

    /// Does immediately the work that the background thread does at intervals, and reports what was
    /// removed. It:
    ///
    /// * applies retention, compacts, and removes files whose delay has passed;
    /// * keeps the log within [`LogConfig::max_bytes`](crate::LogConfig::max_bytes);
    /// * sends the batches that producers have held long enough, and flushes.
    ///
    /// Works on a full disk. Topics that are deleted in the meantime are skipped.
    ///
    /// # Errors
    ///
    /// Continues after an error in one partition, and returns the first error at the end. Returns
    /// [`Error::ReadOnly`] if the log is read-only, and [`Error::Closed`] if it is closed.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let config = TopicConfig::new().segment_bytes(1_000).retention_bytes(Some(5_000));
    /// let orders = log.open_topic("orders", 1, config)?;
    /// for _ in 0..100 {
    ///     orders.append("paid on the first day of the month")?;
    /// }
    /// let done = log.maintain()?;
    /// assert!(done.segments_deleted > 0);
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn maintain(&self) -> Result<Maintenance> {
        self.core().check_open()?;
        self.core().producers.send_due();
        let synced = unless_deleted(self.core().producers.sync_written());
        let done = self.core().maintain();
        self.core().producers.retry();
        synced.and(done)
    }

    /// Writes the records that producers hold, then makes everything appended so far durable.
    /// Blocks until the device has confirmed it.
    ///
    /// Committed offsets are made durable last, so they never refer to records that are not
    /// durable. Topics that are deleted in the meantime are skipped. If a producer held a record
    /// for such a topic, the delivery of the record reports the error; if the delivery was dropped,
    /// the producer's next call returns it.
    ///
    /// # Errors
    ///
    /// Returns the first error of a write or a sync, including records that producers held and
    /// could not write. Returns [`Error::Closed`] if the log is closed.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// orders.append("paid")?; // survives a crash of the process
    /// log.flush()?; // and now a power cut too
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn flush(&self) -> Result<()> {
        self.core().check_open()?;
        let sent = unless_deleted(self.core().producers.send_held());
        self.core().flush().and(sent)
    }

    /// Copies the log, as it is at one moment, into `dir`, and makes the copy durable. `dir` must
    /// not exist, or be empty. Appends, retention, compaction and deletions continue in the
    /// meantime.
    ///
    /// The copy is a log that was closed cleanly at that moment: it contains each record whose
    /// append was published before it, and no later one. [`open`](Self::open) and a Kafka broker
    /// open it without a scan. All partitions and the positions of groups belong together, so no
    /// position is above the end of its partition. Records that a [`Producer`] still holds are not
    /// in the copy; [`flush`](Self::flush) writes them.
    ///
    /// Sealed segments get a second name in `dir` (a hard link) and take no room of their own. The
    /// last segment of each partition is copied, and so is everything if `dir` is on another file
    /// system. Both logs may be written to, and the copy keeps its records when the log deletes or
    /// compacts them. While they share files, neither annals nor retention and compaction in a
    /// broker change them. A broker that *truncates* a partition does. So give a copy of the
    /// snapshot to a broker of a cluster with replicas.
    ///
    /// The snapshot is built in a directory next to `dir`, `<dir>.<16 hex digits>.tmp`, which gets
    /// its name when it is complete. An error removes it. After a crash it stays until the next
    /// snapshot to the same `dir`. `dir` cannot be a mount point.
    ///
    /// A damaged partition is copied as it is, and then the copy is recovered when it is opened.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Io`] if `dir` is not empty, is a file, or is inside the log. Then nothing
    ///   was changed.
    /// * Returns [`Error::ReadOnly`] if the log is read-only, and [`Error::Closed`] if it is
    ///   closed, also if that happens during the call.
    /// * Returns [`Error::DiskFull`] if there is no room for the copy.
    /// * Returns [`Error::Poisoned`] if an earlier write of a partition failed, and the error of
    ///   opening a partition if it could not be opened.
    ///
    /// If the last sync fails, `dir` is complete, and a power cut may remove it.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let log = Log::open(dir.path().join("data"))?;
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// orders.append("paid")?;
    /// log.snapshot(dir.path().join("monday"))?;
    /// orders.append("sent")?; // only in the log
    ///
    /// let monday = Log::open(dir.path().join("monday"))?;
    /// assert_eq!(monday.topic("orders")?.partition(0)?.log_end_offset(), 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn snapshot(&self, dir: impl AsRef<Path>) -> Result<Snapshot> {
        self.core().snapshot(dir.as_ref())
    }

    /// Returns the id of the Kafka cluster that the directory belongs to, from `meta.properties`. A
    /// broker that is to take over the directory must be formatted with this id. Returns `None` if
    /// the file is missing or malformed.
    pub fn cluster_id(&self) -> Option<String> {
        checkpoints::cluster_id(self.core().storage(), &self.core().dir)
    }

    /// Returns a report of what was scanned, cut or rebuilt when the log was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.core().recovery
    }

    /// Sends the records that producers hold, flushes, and closes the log for all its handles.
    /// Threads that wait get [`Error::Closed`], and so does every later call. Batches that were
    /// returned before stay readable. The directory is unlocked when the call returns, even if it
    /// returns an error.
    ///
    /// # Errors
    ///
    /// Returns the first error of a flush; the next opening then recovers the log. Returns
    /// [`Error::Forked`] in a process that was [forked](Self#in-a-forked-child) from the opener,
    /// and leaves the log as it is.
    pub fn close(self) -> Result<()> {
        self.core().close()
    }

    pub(super) fn core(&self) -> &Arc<LogCore> {
        &self.guard.core
    }

    pub(super) fn keep(&self) -> KeepOpen {
        KeepOpen::new(Arc::<Guard>::clone(&self.guard))
    }

    /// Calls `make` for a topic of this name. Calls it again if another thread is deleting a topic
    /// of this name, after that deletion is complete.
    fn with_free_name(
        &self,
        name: &str,
        make: impl Fn(&Catalog) -> Result<Arc<TopicCore>>,
    ) -> Result<Topic> {
        self.check_name(name)?;
        loop {
            self.core().finish_deletion(name)?;
            match make(&self.core().catalog) {
                Err(Error::TopicExists(_)) if self.core().catalog.is_gone(name) => {}
                done => return done.map(|core| self.topic_of(core)),
            }
        }
    }

    fn topic_of(&self, core: Arc<TopicCore>) -> Topic {
        let syncs_at_once = core.context().syncs_at_once;
        let topic = Topic::new(core, self.keep());
        if syncs_at_once {
            topic.with_durability(Durability::Synced)
        } else {
            topic
        }
    }

    /// Refuses Kafka's internal topics: only the services that need them create and delete them.
    fn check_name(&self, name: &str) -> Result<()> {
        self.core().check_open()?;
        if file_name::is_internal_topic(name) {
            return Err(Error::InvalidTopic {
                name: name.to_owned(),
                reason: "it is one of Kafka's internal topics",
            });
        }
        Ok(())
    }
}

/// Treats a topic that was deleted in the meantime as success.
fn unless_deleted(done: Result<()>) -> Result<()> {
    match done {
        Err(Error::UnknownTopic(_)) => Ok(()),
        done => done,
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core();
        let state = match core.check_open() {
            Err(_) => format_args!("closed"),
            Ok(()) if core.context().read_only => format_args!("read-only"),
            Ok(()) => format_args!("open"),
        };
        f.debug_struct("Log")
            .field("dir", &core.dir)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
