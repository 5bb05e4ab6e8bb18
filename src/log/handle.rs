//! The public handle of a log.

use crate::catalog::{Catalog, checkpoints};
use std::fmt;
use std::sync::Arc;

use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::{Consumer, ConsumerConfig, ConsumerGroup};
use crate::partition::{KeepOpen, Maintenance};
use crate::producer::{Producer, ProducerConfig};
use crate::topic::{Topic, TopicCore};
use crate::topic_partition::TopicPartition;

use super::core::LogCore;
use super::keeper::Guard;
use super::recovery::Recovery;

/// An open log: a directory of topics. Clones are the same log; all are usable from any thread.
///
/// Opening takes the directory's lock. It stays locked until [`close`](Self::close), or until the
/// last handle of any kind (topics, partitions, readers, consumers) is dropped; dropping may write
/// and sync.
///
/// # Copies of a directory
/// A copy of the directory of a closed log is the same log. A copy of the directory of an open log,
/// made file by file with `cp` or `rsync`, opens as after a power cut, but its files are of
/// different moments. Each partition holds a prefix of its records, as of when its last file was
/// copied. Partitions may not match each other; positions of groups above the copied end are
/// lowered when the copy is opened; and a segment that was deleted or compacted during the copy can
/// be missing, which [`recovery`](Self::recovery) reports. A snapshot of the file system, which
/// takes all files at one moment, has none of this.
///
/// # In an async program
/// Every call blocks its thread: for a moment in the page cache, and for the device where
/// [`Durability::Synced`](crate::Durability::Synced) is asked for. In tokio, wrap single calls in
/// `tokio::task::spawn_blocking`, and give a consumer or a following reader a thread of its own
/// that sends what it reads into a channel; a [`Waker`](crate::Waker) ends its wait. Handles can be
/// cloned and sent into tasks. Close the log, or drop its last handle, in `spawn_blocking` too,
/// since closing may sync.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let log = annals::Log::in_memory();
/// # let orders = log.open_topic("orders", 1, annals::TopicConfig::new())?;
/// # orders.append("paid")?;
/// let mut reader = orders.partition(0)?.follow(..)?;
/// let waker = reader.waker(); // for the task that stops it
/// let (sender, receiver) = std::sync::mpsc::channel(); // in tokio: `mpsc::channel`, and `blocking_send` below
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
/// # }
/// ```
///
/// # In a forked child
/// A process that is forked from the opener (`fork` without `exec`) gets a copy of every handle.
/// The log still belongs to the opener. The child may:
///
/// - drop the handles, or [`close`](Self::close) the log, which returns [`Error::Forked`]: nothing
///   is written, no place in a group is given up, and the opener's lock stays;
/// - read batches that it holds ([`Batch`](crate::Batch), [`Records`](crate::Records));
/// - open the same directory with [`open_read_only`](Self::open_read_only), and any other log as
///   usual.
///
/// It must use the handles for nothing else. An append in the child is not refused, and damages the
/// log, because the opener does not know of it. Readers and consumers may wait for ever for a lock
/// that a thread of the opener held during the fork. A program that forks to become a daemon opens
/// the log after the fork.
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
#[derive(Clone)]
pub struct Log {
    pub(super) guard: Arc<Guard>,
}

impl Log {
    /// The topic `name`: the stored one as it is, whatever `partitions` and `config` say, or else a
    /// new one.
    ///
    /// [`Error::InvalidTopic`] for names that no topic can have (Kafka's rules: 1 to 249 of
    /// `[a-zA-Z0-9._-]`, not `.` or `..`), [`Error::TopicCollides`] where another topic's name
    /// differs only in `.` and `_`, [`Error::InvalidConfig`] for a wrong setting or no partitions
    /// at all.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a config is made where it is passed"
    )]
    pub fn open_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| {
            catalog.open_topic(name, partitions, &config)
        })
    }

    /// A new topic; [`Error::TopicExists`] if it is there. Otherwise as
    /// [`open_topic`](Self::open_topic).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a config is made where it is passed"
    )]
    pub fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| {
            catalog.create_topic(name, partitions, &config)
        })
    }

    /// The topic `name`; [`Error::UnknownTopic`] if there is none.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        self.core()
            .catalog
            .topic(name)
            .map(|core| self.topic_of(core))
    }

    /// All topics by name, without Kafka's internal ones.
    pub fn topics(&self) -> Vec<Topic> {
        self.core().catalog.try_look_again();
        let topics = self.core().catalog.topics().into_iter();
        topics
            .filter(|core| !core.is_internal())
            .map(|core| self.topic_of(core))
            .collect()
    }

    /// Deletes a topic with all its records. Its handles give [`Error::UnknownTopic`] from then on;
    /// batches that were handed out stay readable. A topic of the same name may be created at once,
    /// and is another topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.check_name(name)?;
        self.core().delete_topic(name)
    }

    /// A producer: it sends in batches, and many threads may share it.
    ///
    /// [`Error::ReadOnly`] in a log that is open to read.
    pub fn producer(&self) -> Result<Producer> {
        self.producer_with(ProducerConfig::new())
    }

    /// As [`producer`](Self::producer), with settings; [`Error::InvalidConfig`] if they do not go
    /// together.
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer> {
        self.core().check_open()?;
        self.core().producers.producer(config, self.keep())
    }

    /// The consumer group `id`: whatever it committed before, or nothing yet. It is on disk from
    /// its first commit.
    ///
    /// [`Error::InvalidGroup`] for an empty name or one of more than 32767 bytes.
    pub fn consumer_group(&self, id: &str) -> Result<ConsumerGroup> {
        self.core().groups.group(id, self.keep())
    }

    /// A consumer of these partitions that has no group: nobody shares them with it, it starts
    /// where its [`auto_offset_reset`](ConsumerConfig::auto_offset_reset) says, and a commit is
    /// [`Error::NoGroup`].
    ///
    /// [`Error::UnknownTopic`] or [`Error::UnknownPartition`] if one of them is not there.
    pub fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Consumer> {
        self.assign_with(partitions, ConsumerConfig::new())
    }

    /// As [`assign`](Self::assign), with settings; those that are about groups are
    /// [`Error::InvalidConfig`].
    pub fn assign_with(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        config: ConsumerConfig,
    ) -> Result<Consumer> {
        self.core().groups.assign(partitions, config, self.keep())
    }

    /// All groups by name that have committed offsets or members; none if their offsets cannot be
    /// read, which [`consumer_group`](Self::consumer_group) tells.
    pub fn consumer_groups(&self) -> Vec<ConsumerGroup> {
        self.core().groups.groups(&self.keep()).unwrap_or_default()
    }

    /// Does now what the background thread does from time to time: retention, compaction, removing
    /// what is due, keeping within [`LogConfig::max_bytes`](crate::LogConfig::max_bytes), writing
    /// what producers held long enough, flushing. Says what went.
    ///
    /// Works on a full disk. Goes on after an error in one partition, and gives the first. Passes
    /// over topics that are deleted in the meantime.
    pub fn maintain(&self) -> Result<Maintenance> {
        self.core().check_open()?;
        self.core().producers.send_due();
        let synced = unless_deleted(self.core().producers.sync_written());
        let done = self.core().maintain();
        self.core().producers.retry();
        synced.and(done)
    }

    /// Writes what producers hold, then makes everything appended so far durable, committed offsets
    /// last: they never speak of records that are not. What of the records that producers held
    /// cannot be written is an error here too. Passes over topics that are deleted in the meantime:
    /// what a producer held for one is reported by its delivery, or by the next call of the
    /// producer.
    pub fn flush(&self) -> Result<()> {
        self.core().check_open()?;
        let sent = unless_deleted(self.core().producers.send_held());
        self.core().flush().and(sent)
    }

    /// The cluster that the directory is of, as `meta.properties` says: what a broker that is to
    /// take the directory over must be formatted with. `None` where the file is missing or
    /// malformed, and for a log in memory that has none.
    pub fn cluster_id(&self) -> Option<String> {
        checkpoints::cluster_id(self.core().storage(), &self.core().dir)
    }

    /// What opening cut or rebuilt.
    pub fn recovery(&self) -> &Recovery {
        &self.core().recovery
    }

    /// Sends what producers hold, flushes and closes the log, for all its handles: waits end with
    /// [`Error::Closed`], and so does every later call. Batches that were handed out stay readable.
    /// On return the directory is free, whatever the result.
    ///
    /// The first error of a flush is given. Then the next opening recovers the log. In a process
    /// that was [forked](Self#in-a-forked-child) from the opener this is [`Error::Forked`], and the
    /// log stays as it is.
    pub fn close(self) -> Result<()> {
        self.core().close()
    }

    pub(super) fn core(&self) -> &Arc<LogCore> {
        &self.guard.core
    }

    fn keep(&self) -> KeepOpen {
        KeepOpen::new(Arc::<Guard>::clone(&self.guard))
    }

    /// Makes a topic of this name; once more, after the deletion, where another thread deletes one
    /// in the meantime.
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

    /// Kafka's internal topics are made and deleted by the services that need them.
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

/// What a deletion took needs nothing done.
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
