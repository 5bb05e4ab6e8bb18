//! The opened directory: ties catalog, checkpoints and services together, and closes them in the right order.
//!
//! [`Log`] is a handle; what it stands for is a [`LogCore`], kept alive by everybody who uses it and kept *open* by a guard that
//! every public handle shares: with the last of them, or at [`Log::close`], everything is flushed, the checkpoints and the
//! clean-shutdown marker are written, and the lock is given back.
//!
//! A log that was opened clean and never written to is left byte for byte as it was.

use std::fmt;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::brief::Few;
use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::{Consumer, ConsumerConfig, ConsumerGroup, GroupService};
use crate::partition::follow::Signal;
use crate::partition::{KeepOpen, Maintenance, PartitionContext, PartitionRecovery};
use crate::producer::{Producer, ProducerConfig, ProducerService};
use crate::storage::{FileLock, MemoryDisk, Storage};
use crate::topic::{Topic, TopicCore};
use crate::topic_partition::TopicPartition;

mod beside;
mod bounds;
pub(crate) mod catalog;
pub(crate) mod checkpoints;
mod cleaning;
#[cfg(test)]
mod interleaved_commits;
mod lone;
mod lone_note;
mod lone_read_only;
mod maintenance;
mod open;
pub(crate) mod salvaged;

use catalog::Catalog;
use checkpoints::{Checkpoints, Lines};

pub use open::LogBuilder;

/// An open log: a directory of topics. Clones are the same log; all are usable from any thread.
///
/// Opening takes the directory's lock. It stays locked until [`close`](Self::close), or until the last handle of any kind
/// (topics, partitions, readers, consumers) is dropped; dropping may write and sync.
///
/// # Copies of a directory
/// A copy of the directory of a closed log is the same log. A copy of the directory of an open log, made file by file with `cp`
/// or `rsync`, opens as after a power cut, but its files are of different moments. Each partition holds a prefix of its records,
/// as of when its last file was copied. Partitions may not match each other; positions of groups above the copied end are
/// lowered when the copy is opened; and a segment that was deleted or compacted during the copy can be missing, which
/// [`recovery`](Self::recovery) reports. A snapshot of the file system, which takes all files at one moment, has none of this.
///
/// # In an async program
/// Every call blocks its thread: for a moment in the page cache, and for the device where
/// [`Durability::Synced`](crate::Durability::Synced) is asked for. In tokio, wrap single calls in `tokio::task::spawn_blocking`,
/// and give a consumer or a following reader a thread of its own that sends what it reads into a channel; a
/// [`Waker`](crate::Waker) ends its wait. Handles can be cloned and sent into tasks. Close the log, or drop its last handle, in
/// `spawn_blocking` too, since closing may sync.
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
/// A process that is forked from the opener (`fork` without `exec`) gets a copy of every handle. The log still belongs to the
/// opener. The child may:
///
/// - drop the handles, or [`close`](Self::close) the log, which returns [`Error::Forked`]: nothing is written, no place in a
///   group is given up, and the opener's lock stays;
/// - read batches that it holds ([`Batch`](crate::Batch), [`Records`](crate::Records));
/// - open the same directory with [`open_read_only`](Self::open_read_only), and any other log as usual.
///
/// It must use the handles for nothing else. An append in the child is not refused, and damages the log, because the opener does
/// not know of it. Readers and consumers may wait for ever for a lock that a thread of the opener held during the fork. A program
/// that forks to become a daemon opens the log after the fork.
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
    guard: Arc<Guard>,
}

/// Closes the log when the last handle goes.
struct Guard {
    core: Arc<LogCore>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.core.context().opener.is_this_process() {
            // Nothing of it is taken apart in a forked child.
            mem::forget(Arc::clone(&self.core));
            return;
        }
        // Who wants to know calls `close`.
        let _nobody_is_left_to_tell = self.core.close();
    }
}

/// What opening a log found, cut and rebuilt.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the log had been closed in good order, so that nothing had to be scanned.
    pub clean: bool,
    /// Partitions where anything was scanned, cut, rebuilt or found damaged.
    pub partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// Topics whose `.topic` file is damaged, and how. They keep all their records until they are configured anew.
    pub topics: Vec<(Arc<str>, Error)>,
    /// What the directory holds that no log has. It is left alone, and nothing of it is served: look here for a directory that
    /// was renamed by mistake. Inside a partition's directory other files are passed over.
    pub foreign: Vec<PathBuf>,
    /// Positions of groups that lay beyond what is left of their partition.
    pub lowered_commits: Vec<LoweredCommit>,
    /// Why the system refused the log's background thread; `None` if the thread runs, or the log needs none. See [`Log::open`].
    pub thread_refused: Option<Error>,
}

/// A committed offset that pointed beyond the recovered end of its partition and was lowered to it: otherwise the records that
/// get these offsets next would be passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoweredCommit {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: TopicPartition,
    /// What it had committed.
    pub from: u64,
    /// The end of the partition, which is its position now.
    pub to: u64,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clean, partitions, topics, foreign, lowered_commits, thread_refused } = self;
        let mut shown = f.debug_struct("Recovery");
        shown.field("clean", clean).field("partitions", &Few(partitions)).field("topics", &Few(topics));
        shown.field("foreign", &Few(foreign));
        shown.field("lowered_commits", &Few(lowered_commits)).field("thread_refused", thread_refused).finish()
    }
}

impl Recovery {
    /// Whether anything was lost, or may have been: bytes that were cut, or damage.
    pub fn has_losses(&self) -> bool {
        let is_loss = |recovery: &PartitionRecovery| recovery.bytes_cut > 0 || recovery.damage.is_some();
        !self.topics.is_empty() || self.partitions.iter().any(|(_, recovery)| is_loss(recovery))
    }
}

impl Log {
    /// Opens the log in `dir`, or creates it, and locks it. After an unclean stop it is recovered: see
    /// [`recovery`](Self::recovery).
    ///
    /// Where the system refuses a thread (`ulimit -u`, a limit of a container), opening continues in the calling thread. Without
    /// its background thread nothing would flush a second after an append. So every append, commit and batch of a producer waits
    /// for the device, as with [`Durability::Synced`], and retention and compaction wait for [`maintain`](Self::maintain), until
    /// the log is opened again. [`Recovery::thread_refused`] reports this.
    ///
    /// [`Error::Locked`] if it is open elsewhere, [`Error::NotALog`] if the directory holds something that no log has; then
    /// nothing was changed. A damaged partition does not keep the log from opening.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Opens the log in `dir` to read, also beside a writer in another process: takes no lock, writes nothing, repairs nothing,
    /// and needs no permission to write. What would write, and joining a group, gives [`Error::ReadOnly`].
    ///
    /// It sees all that the writer has published, also what a `Synced` topic has yet to put on the device. What is torn at the
    /// end of a log, and zeros written ahead there, are the end for now: they are looked at again, and are no damage.
    ///
    /// | what the writer does | what is seen |
    /// | --- | --- |
    /// | appends, rolls | readers and questions begin with what is there; a follower looks every 20 ms |
    /// | deletes segments | the log start rises, at the next question or where a reader comes upon it |
    /// | deletes records inside a segment | the log start rises once the writer has flushed, as the topic is asked for |
    /// | truncates, also in recovery | readers go on in what is there now, those behind the new end once it reaches them |
    /// | compacts | files that were replaced are read as they are now, at any step, also of a compaction that was interrupted |
    /// | creates topics, adds partitions, changes a config | is there at the next call that asks for the topic |
    /// | deletes a topic | handles and followers get [`Error::UnknownTopic`]; another of its name is another topic |
    /// | commits offsets | [`ConsumerGroup::committed`] gives what is committed now |
    /// | dies, starts again | followers wait, and go on |
    ///
    /// An idle follower asks for the length of the active file and whether one follows it; it lists no directory. Opening a
    /// reader, and asking a partition, a topic or the log, do. At the end of a log, damage cannot be told from an append under
    /// way: a follower waits there, and opening the log to write tells. So with commits that a power cut left above the end of
    /// their partition: only a writer lowers them.
    ///
    /// [`Error::NotALog`] where there is nothing of a log yet, not even its `.lock`. A log in the making is opened as far as
    /// it is made.
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open_read_only()
    }

    /// A new log in memory: the same engine, and nothing is touched.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a new disk in memory has room and no lock")]
    pub fn in_memory() -> Self {
        Self::builder("log").storage(MemoryDisk::new()).open().expect("an empty log in memory opens")
    }

    /// Says more about how to open the log in `dir`.
    pub fn builder(dir: impl AsRef<Path>) -> LogBuilder {
        LogBuilder::new(dir.as_ref())
    }

    /// The topic `name`: the stored one as it is, whatever `partitions` and `config` say, or else a new one.
    ///
    /// [`Error::InvalidTopic`] for names that no topic can have (Kafka's rules: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or
    /// `..`), [`Error::TopicCollides`] where another topic's name differs only in `.` and `_`, [`Error::InvalidConfig`] for a
    /// wrong setting or no partitions at all.
    #[expect(clippy::needless_pass_by_value, reason = "a config is made where it is passed")]
    pub fn open_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| catalog.open_topic(name, partitions, &config))
    }

    /// A new topic; [`Error::TopicExists`] if it is there. Otherwise as [`open_topic`](Self::open_topic).
    #[expect(clippy::needless_pass_by_value, reason = "a config is made where it is passed")]
    pub fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<Topic> {
        self.with_free_name(name, |catalog| catalog.create_topic(name, partitions, &config))
    }

    /// The topic `name`; [`Error::UnknownTopic`] if there is none.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        self.core().catalog.topic(name).map(|core| self.topic_of(core))
    }

    /// All topics by name, without Kafka's internal ones.
    pub fn topics(&self) -> Vec<Topic> {
        self.core().catalog.try_look_again();
        let topics = self.core().catalog.topics().into_iter();
        topics.filter(|core| !core.is_internal()).map(|core| self.topic_of(core)).collect()
    }

    /// Deletes a topic with all its records. Its handles give [`Error::UnknownTopic`] from then on; batches that were handed
    /// out stay readable. A topic of the same name may be created at once, and is another topic.
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

    /// As [`producer`](Self::producer), with settings; [`Error::InvalidConfig`] if they do not go together.
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer> {
        self.core().check_open()?;
        self.core().producers.producer(config, self.keep())
    }

    /// The consumer group `id`: whatever it committed before, or nothing yet. It is on disk from its first commit.
    ///
    /// [`Error::InvalidGroup`] for an empty name or one of more than 32767 bytes.
    pub fn consumer_group(&self, id: &str) -> Result<ConsumerGroup> {
        self.core().groups.group(id, self.keep())
    }

    /// A consumer of these partitions that has no group: nobody shares them with it, it starts where its
    /// [`auto_offset_reset`](ConsumerConfig::auto_offset_reset) says, and a commit is [`Error::NoGroup`].
    ///
    /// [`Error::UnknownTopic`] or [`Error::UnknownPartition`] if one of them is not there.
    pub fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Consumer> {
        self.assign_with(partitions, ConsumerConfig::new())
    }

    /// As [`assign`](Self::assign), with settings; those that are about groups are [`Error::InvalidConfig`].
    pub fn assign_with(&self, partitions: impl IntoIterator<Item = TopicPartition>, config: ConsumerConfig) -> Result<Consumer> {
        self.core().groups.assign(partitions, config, self.keep())
    }

    /// All groups by name that have committed offsets or members; none if their offsets cannot be read, which
    /// [`consumer_group`](Self::consumer_group) tells.
    pub fn consumer_groups(&self) -> Vec<ConsumerGroup> {
        self.core().groups.groups(&self.keep()).unwrap_or_default()
    }

    /// Does now what the background thread does from time to time: retention, compaction, removing what is due, keeping within
    /// [`LogConfig::max_bytes`](crate::LogConfig::max_bytes), writing what producers held long enough, flushing. Says what went.
    ///
    /// Works on a full disk. Goes on after an error in one partition, and gives the first. Passes over topics that are deleted in
    /// the meantime.
    pub fn maintain(&self) -> Result<Maintenance> {
        self.core().check_open()?;
        self.core().producers.send_due();
        let synced = unless_deleted(self.core().producers.sync_written());
        let done = self.core().maintain();
        self.core().producers.retry();
        synced.and(done)
    }

    /// Writes what producers hold, then makes everything appended so far durable, committed offsets last: they never speak of
    /// records that are not. What of the records that producers held cannot be written is an error here too. Passes over topics
    /// that are deleted in the meantime: what a producer held for one is reported by its delivery, or by the next call of the
    /// producer.
    pub fn flush(&self) -> Result<()> {
        self.core().check_open()?;
        let sent = unless_deleted(self.core().producers.send_held());
        self.core().flush().and(sent)
    }

    /// The cluster that the directory is of, as `meta.properties` says: what a broker that is to take the directory over must be
    /// formatted with. `None` where the file is missing or malformed, and for a log in memory that has none.
    pub fn cluster_id(&self) -> Option<String> {
        checkpoints::cluster_id(self.core().storage(), &self.core().dir)
    }

    /// What opening cut or rebuilt.
    pub fn recovery(&self) -> &Recovery {
        &self.core().recovery
    }

    /// Sends what producers hold, flushes and closes the log, for all its handles: waits end with [`Error::Closed`], and so does
    /// every later call. Batches that were handed out stay readable. On return the directory is free, whatever the result.
    ///
    /// The first error of a flush is given. Then the next opening recovers the log. In a process that was
    /// [forked](Self#in-a-forked-child) from the opener this is [`Error::Forked`], and the log stays as it is.
    pub fn close(self) -> Result<()> {
        self.core().close()
    }

    fn core(&self) -> &Arc<LogCore> {
        &self.guard.core
    }

    fn keep(&self) -> KeepOpen {
        KeepOpen::new(Arc::<Guard>::clone(&self.guard))
    }

    /// Makes a topic of this name; once more, after the deletion, where another thread deletes one in the meantime.
    fn with_free_name(&self, name: &str, make: impl Fn(&Catalog) -> Result<Arc<TopicCore>>) -> Result<Topic> {
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
        if syncs_at_once { topic.with_durability(Durability::Synced) } else { topic }
    }

    /// Kafka's internal topics are made and deleted by the services that need them.
    fn check_name(&self, name: &str) -> Result<()> {
        self.core().check_open()?;
        if file_name::is_internal_topic(name) {
            return Err(Error::InvalidTopic { name: name.to_owned(), reason: "it is one of Kafka's internal topics" });
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
        f.debug_struct("Log").field("dir", &core.dir).field("state", &state).finish_non_exhaustive()
    }
}

/// The log itself.
struct LogCore {
    dir: PathBuf,
    catalog: Arc<Catalog>,
    groups: Arc<GroupService>,
    producers: Arc<ProducerService>,
    checkpoints: Checkpoints,
    recovery: Recovery,
    /// Memory for the keys of a partition that is compacted.
    cleaner_buffer_bytes: usize,
    /// Held by the one who compacts.
    cleaning: Mutex<()>,
    /// Held by the one who finishes deletions. Taken before any lock of a topic, the catalog, the groups or the checkpoints.
    finishing: Mutex<()>,
    /// Something is to be done in the background, at once.
    wake: Arc<Signal>,
    /// Ends the background thread.
    is_stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// `None`: read-only, or closed.
    lock: Mutex<Option<Box<dyn FileLock>>>,
    /// How closing went. Held while it is under way.
    closed: Mutex<Option<Result<()>>>,
}

impl LogCore {
    fn context(&self) -> &Arc<PartitionContext> {
        self.catalog.context()
    }

    fn storage(&self) -> &dyn Storage {
        &*self.context().storage
    }

    fn check_open(&self) -> Result<()> {
        self.context().opener.check()?;
        if self.catalog.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether the directory differs from what it was when it was found clean.
    fn is_touched(&self) -> bool {
        !self.context().read_only && (!self.recovery.clean || self.context().clean_marker.is_cleared())
    }

    /// Makes everything durable, then says so in the checkpoints.
    fn flush(&self) -> Result<()> {
        let flushed = self.catalog.flush();
        flushed.and(self.write_checkpoints())
    }

    /// Brings topic files and checkpoints up to date. `Closed` if the log was closed before that, and could not do it either.
    fn write_checkpoints(&self) -> Result<()> {
        self.write_checkpoints_after(TopicCore::store_state)
    }

    fn write_checkpoints_after(&self, store: impl Fn(&TopicCore) -> Result<()>) -> Result<()> {
        if !self.is_touched() {
            return Ok(());
        }
        for topic in self.catalog.topics() {
            store(&topic)?;
        }
        self.checkpoints.write(self.storage(), |before| self.checkpoint_lines(before))
    }

    /// A line for every partition; those that could not be opened keep theirs.
    fn checkpoint_lines(&self, before: &Lines) -> Lines {
        let mut lines = Lines::default();
        for topic in self.catalog.topics() {
            for (number, slot) in topic.slots().iter() {
                let id = topic.partition_id(number);
                let cleaned = match slot {
                    Ok(partition) => partition.cleaned_line(),
                    Err(_) => before.cleaned.get(&id).copied(),
                };
                let (recovery_point, log_start) = match slot {
                    Ok(partition) => (Some(partition.recovery_point()), partition.log_start_line()),
                    // That its directory was there must not be forgotten, or the next opening would create an empty one.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        (before.recovery_points.get(&id).copied().or(Some(0)), before.log_starts.get(&id).copied())
                    }
                    Err(_) => (before.recovery_points.get(&id).copied(), before.log_starts.get(&id).copied()),
                };
                lines.cleaned.extend(cleaned.map(|offset| (id.clone(), offset)));
                lines.log_starts.extend(log_start.map(|offset| (id.clone(), offset)));
                lines.recovery_points.extend(recovery_point.map(|offset| (id, offset)));
            }
        }
        lines
    }

    fn delete_topic(&self, name: &str) -> Result<()> {
        let now = self.context().clock.now();
        self.catalog.begin_delete(name)?;
        // The topic is gone. What cannot be tidied now is tidied before its name is used again, at the next pass or opening.
        // Room first: on a full disk no checkpoint can be written.
        let _tried_again_later = self.catalog.vacate(name, now).and_then(|()| self.catalog.unlink_due(now));
        let _tried_again_later = self.finish_deletion(name);
        self.groups.topic_deleted();
        Ok(())
    }

    /// Ends all deletions that are under way. What does not work is tried again at the next pass.
    fn finish_deletions(&self) {
        for name in self.catalog.gone() {
            let _tried_again_later = self.finish_deletion(&name);
        }
    }

    /// Forgets the deleted topic `name` for good, so that the name is free.
    fn finish_deletion(&self, name: &str) -> Result<()> {
        if self.context().read_only || !self.catalog.is_gone(name) {
            return Ok(());
        }
        // For two at once the second might forget what is known of the next topic of this name.
        let _one_at_a_time = self.finishing.lock();
        if !self.catalog.is_gone(name) {
            return Ok(());
        }
        self.catalog.vacate(name, self.context().clock.now())?;
        self.checkpoints.write(self.storage(), |before| {
            let mut lines = before.clone();
            lines.recovery_points.retain(|id, _| *id.topic != *name);
            lines.log_starts.retain(|id, _| *id.topic != *name);
            lines.cleaned.retain(|id, _| *id.topic != *name);
            lines
        })?;
        // Those without a topic's id would be taken for commits to the next topic of this name.
        self.groups.forget_topic(name)?;
        self.catalog.end_delete(name)
    }

    /// Closes everything, once; later calls wait for the first and give what it gave.
    fn close(&self) -> Result<()> {
        self.context().opener.check()?;
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        maintenance::stop(self);
        let sent = self.producers.close();
        let closed_partitions = self.close_partitions();
        // Lost records come before files that the next opening repairs.
        let result = sent.and(closed_partitions);
        drop(self.lock.lock().take());
        *closed = Some(result.clone());
        result
    }

    /// Whether anything is in a state that must not be called clean: damaged now, or not open at all because of damage.
    fn has_damage(&self) -> bool {
        let partitions = self.catalog.partitions();
        let is_open = |id: &TopicPartition| partitions.iter().any(|partition| partition.id() == id);
        let mut found = self.recovery.partitions.iter();
        partitions.iter().any(|partition| partition.is_damaged())
            || found.any(|(id, recovery)| recovery.damage.is_some() && !is_open(id))
    }

    fn close_partitions(&self) -> Result<()> {
        let writable = !self.context().read_only;
        let closed = self.catalog.close(writable);
        self.groups.close();
        let stored = closed.and_then(|()| self.write_checkpoints_after(TopicCore::store_last_state));
        self.checkpoints.close();
        stored?;
        if !self.is_touched() || self.has_damage() {
            // As clean as it was, or to be looked at again next time.
            return Ok(());
        }
        checkpoints::write_clean_shutdown(self.storage(), &self.dir)
    }
}

#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod places;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod without_threads;
