//! Opening a log, in this order: check the directory, lock it, check it again, recover, start the
//! services.
//!
//! The first change is made after the directory was found to be a log or empty, and its lock is
//! held.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use super::core::LogCore;
use super::directory::{ensure_directory, take_lock};
use super::handle::Log;
use super::keeper::Guard;
use super::recovery::Recovery;
use super::{maintenance, read_only};
use crate::catalog;
use crate::catalog::checkpoints::{Checkpoints, ensure_meta_properties};
use crate::catalog::contents::Contents;
use crate::catalog::{Catalog, Known, Loaded};
use crate::clock::{Clock, SystemClock};
use crate::config::{Durability, LogConfig, LogSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::group::{GroupService, LoweredCommit};
use crate::partition::state::waiting::Signal;
use crate::partition::{
    BufferPool, CleanMarker, LogBound, Numbers, Opener, PartitionContext, SharedSettings,
};
use crate::producer::ProducerService;
use crate::storage::open_files::{OpenFiles, default_max_open};
use crate::storage::{Disk, FileLock, MemoryDisk, Storage, sync_found};
use crate::sync::{Mutex, TimedMutex};
use crate::topic::identity::unique_id;
use crate::topic::stored::Home;
use crate::topic_partition::TopicPartition;
use crate::transaction::TransactionService;

impl Log {
    /// Opens the log in `dir`, or creates it, and locks it. After an unclean stop the log is
    /// recovered; [`recovery`](Self::recovery) reports how. A damaged partition does not keep the
    /// log from opening.
    ///
    /// If the system refuses to start a thread (`ulimit -u`, a limit of a container), the calling
    /// thread does the work of opening. Without the background thread, appends would not be flushed
    /// within a second. So every append, commit and batch of a producer waits for the device, as
    /// with [`Durability::Synced`]. Retention and compaction wait for [`maintain`](Self::maintain).
    /// Both hold until the log is opened again. [`Recovery::thread_refused`] reports this.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Locked`] if the log is open elsewhere.
    /// * Returns [`Error::NotALog`] if `dir` holds other files and no log.
    /// * Returns [`Error::InvalidConfig`] if the path is empty.
    /// * Returns [`Error::Unsupported`] if a later version of annals wrote the log.
    ///
    /// The directory is unchanged in each of these cases.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let log = Log::open(dir.path().join("data"))?;
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// orders.append(("order-42", "paid"))?;
    /// log.close()?;
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Opens the log in `dir` to read, also while another process writes to it. Takes no lock,
    /// writes and repairs no file, and needs no permission to write. Calls that would write, and
    /// joining a group, return [`Error::ReadOnly`].
    ///
    /// A read-only log sees every record that the writer has published, also those of a
    /// [`Durability::Synced`] topic that are not yet on the device. A torn batch at the end of a
    /// partition, and zeros that were written ahead there, are not damage: they count as the end of
    /// the partition, and are checked again at each look.
    ///
    /// | the writer | a read-only log |
    /// | --- | --- |
    /// | appends, rolls | new readers and calls see the new records; a follower looks every 20 ms |
    /// | deletes segments | the log start rises at the next call, or when a reader reaches the gap |
    /// | deletes records inside a segment | the log start rises after the writer has flushed, at the next call that looks up the topic |
    /// | truncates, also in recovery | readers continue in the new records; a reader above the new end continues when the partition has grown to its position |
    /// | compacts | readers read the replaced files, at any step of a compaction, also of an interrupted one |
    /// | creates topics, adds partitions, changes a config | the next call that looks up the topic sees the change |
    /// | deletes a topic | handles and followers get [`Error::UnknownTopic`]; a new topic of the same name is a different topic |
    /// | commits offsets | [`ConsumerGroup::committed`](crate::ConsumerGroup::committed) returns the current offsets |
    /// | stops, starts again | followers wait, and then continue |
    ///
    /// An idle follower looks up the length of the active file and whether another file follows it;
    /// it does not list the directory. Opening a reader lists the directory, and so does a call on
    /// a partition, a topic or the log.
    ///
    /// At the end of a partition, damage looks the same as an append in progress: a follower waits
    /// there. Opening the log to write finds out which it is. In the same way, committed offsets
    /// that a power cut left above the end of their partition stay until a writer lowers them.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotALog`] if the directory has no file of a log yet, not even `.lock`. A
    /// log that is being created is opened with the topics that exist so far.
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open_read_only()
    }

    /// Creates a log in memory. It runs the same code as a log on disk, and touches no files.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// assert_eq!(orders.append("paid")?.offset, 0);
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a new disk in memory has free space and is not locked"
    )]
    pub fn in_memory() -> Self {
        Self::builder("log")
            .storage(MemoryDisk::new())
            .open()
            .expect("an empty log in memory opens")
    }

    /// Returns a builder that opens the log in `dir` with other settings, another disk or another
    /// clock.
    ///
    /// ```
    /// # use annals::{Log, LogConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let config = LogConfig::new().max_bytes(10 << 30); // 10 GiB for the whole log
    /// let log = Log::builder(&dir).config(config).open()?;
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn builder(dir: impl AsRef<Path>) -> LogBuilder {
        LogBuilder::new(dir.as_ref())
    }
}

/// A builder that opens a log with settings, a disk and a clock. From [`Log::builder`].
pub struct LogBuilder {
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
}

impl LogBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            config: LogConfig::default(),
            storage: Arc::new(Disk),
            clock: Arc::new(SystemClock),
        }
    }

    /// Sets the settings of the whole log.
    #[must_use]
    pub fn config(self, config: LogConfig) -> Self {
        Self { config, ..self }
    }

    /// Sets the disk that holds the log. Default: the file system of the machine.
    #[must_use]
    pub fn storage(self, storage: impl Storage) -> Self {
        Self {
            storage: Arc::new(storage),
            ..self
        }
    }

    /// Sets the clock that timestamps records and drives retention. Default: the clock of the
    /// system. With a clock that is set by hand, the log starts no thread.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// Opens or creates the log, as [`Log::open`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Log::open`], and [`Error::InvalidConfig`] if a setting of the log is
    /// invalid.
    pub fn open(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let created = ensure_directory(&*self.storage, &self.dir)?;
        if !created {
            Contents::read(&*self.storage, &self.dir)?.check_is_log(&self.dir)?;
        }
        let dir = self.storage.canonical(&self.dir).at("find", &self.dir)?;
        let lock = take_lock(&*self.storage, &dir)?;
        // Read again: another process may have changed the directory before it released the lock.
        let contents = Contents::read(&*self.storage, &dir)?;
        contents.check_is_log(&dir)?;
        let has = |name| contents.files.contains(name);
        if !created && !has(file_name::META_PROPERTIES) {
            sync_found(&*self.storage, &dir);
        }
        if !has(file_name::CLEAN_SHUTDOWN) {
            // A killed process may have created topics whose directory entries are not on the
            // device yet.
            self.storage.sync_dir(&dir).at("sync", &dir)?;
        }
        self.load(&settings, dir, contents, Some(lock))
    }

    /// Opens the log to read, as [`Log::open_read_only`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Log::open_read_only`], and [`Error::InvalidConfig`] if a setting of
    /// the log is invalid.
    pub fn open_read_only(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let contents = read_only::read_contents(&*self.storage, &self.dir)?;
        contents.check_is_log_already(&self.dir)?;
        let dir = self.storage.canonical(&self.dir).at("find", &self.dir)?;
        self.load(&settings, dir, contents, None)
    }

    /// Refuses an empty path: usually a setting is missing.
    pub(super) fn check_dir(&self) -> Result<()> {
        if self.dir.as_os_str().is_empty() {
            let reason = "the path is empty; `.` is the current directory".to_owned();
            return Err(Error::InvalidConfig {
                key: "dir".to_owned(),
                reason,
            });
        }
        Ok(())
    }

    /// Returns the context that the partitions share. The first write removes the files in `marks`.
    /// With `syncs_at_once` every append is synced, because no thread will flush later.
    pub(super) fn context(
        &self,
        settings: &LogSettings,
        marks: Vec<PathBuf>,
        read_only: bool,
        syncs_at_once: bool,
    ) -> Arc<PartitionContext> {
        debug_assert!(
            read_only || !marks.is_empty(),
            "the first write of a run must remove the mark of a clean close"
        );
        debug_assert!(
            !(read_only && syncs_at_once),
            "a read-only log has no appends to sync"
        );
        Arc::new(PartitionContext {
            storage: Arc::clone(&self.storage),
            clock: Arc::clone(&self.clock),
            files: OpenFiles::new(
                Arc::clone(&self.storage),
                settings.max_open_files.unwrap_or_else(default_max_open),
            ),
            durability: if syncs_at_once {
                Durability::Synced
            } else {
                settings.durability
            },
            syncs_at_once,
            bound: settings.max_bytes.map(LogBound::new),
            read_mode: settings.read_mode,
            max_decompressed_bytes: settings.max_decompressed_bytes,
            read_only,
            clean_marker: CleanMarker::new(marks),
            buffers: BufferPool::default(),
            numbers: Numbers::default(),
            settings: SharedSettings::default(),
            opener: Opener::this_process(),
        })
    }

    fn load(
        self,
        settings: &LogSettings,
        dir: PathBuf,
        contents: Contents,
        lock: Option<Box<dyn FileLock>>,
    ) -> Result<Log> {
        let read_only = lock.is_none();
        // Before the partitions are opened: they share whether appends wait for the device.
        let (thread, thread_refused) = self.start_thread(settings, &dir, read_only);
        debug_assert!(
            thread.is_none() || !read_only,
            "a read-only log has no background thread"
        );
        let marks = [file_name::CLEAN_SHUTDOWN, file_name::HIGH_WATERMARKS]
            .map(|name| dir.join(name))
            .to_vec();
        let home = Home {
            root: dir.clone(),
            defaults: settings.topic_defaults.clone(),
            context: self.context(settings, marks, read_only, thread_refused.is_some()),
            changes: Arc::default(),
            leftovers: Arc::default(),
        };
        let checkpoints = Checkpoints::read(&*self.storage, &dir)?;
        let known = Known::of(&contents, checkpoints.lines(), self.threads(settings));
        let (catalog, loaded) = open_catalog(home, contents, &known)?;
        let groups = Arc::new(GroupService::new(Arc::clone(&catalog), settings));
        let transactions = Arc::new(TransactionService::new(&catalog, &groups, settings));
        // Before the positions are read, and before any record is appended.
        let ended_transactions = if read_only {
            Vec::new()
        } else {
            transactions.recover()
        };
        // Before any record can be appended: it could get an offset that a group has committed
        // already.
        let lowered_commits = if read_only {
            Vec::new()
        } else {
            lower_commits(&groups, &catalog, &known)
        };
        let recovery = Recovery {
            clean: known.clean,
            partitions: loaded.partitions,
            topics: loaded.topics,
            foreign: loaded.foreign.iter().map(|name| dir.join(name)).collect(),
            lowered_commits,
            transactions: ended_transactions,
            thread_refused,
        };
        let wake = Signal::new();
        let producers = Arc::new(ProducerService::new(catalog.context(), &wake));
        let core = Arc::new(LogCore {
            dir,
            catalog,
            groups,
            producers,
            transactions,
            checkpoints,
            recovery,
            cleaner_buffer_bytes: settings.cleaner_dedupe_buffer_bytes,
            cleaning: TimedMutex::default(),
            finishing: Mutex::new(()),
            wake,
            is_stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
            lock: Mutex::new(lock),
            closed: Mutex::new(None),
        });
        if let Some(bound) = &core.context().bound {
            let core: Weak<LogCore> = Arc::downgrade(&core);
            bound.set_keeper(core);
        }
        // From now on an error drops the guard, which closes everything that was opened.
        let log = Log {
            guard: Arc::new(Guard { core }),
        };
        if !read_only {
            self.begin(log.core(), thread)?;
        }
        Ok(log)
    }

    /// Starts the background thread, if the log needs one. If the system refuses it, returns the
    /// error.
    fn start_thread(
        &self,
        settings: &LogSettings,
        dir: &Path,
        read_only: bool,
    ) -> (Option<maintenance::Idle>, Option<Error>) {
        if read_only || self.clock.is_manual() {
            return (None, None);
        }
        match maintenance::Idle::start(settings) {
            Ok(thread) => (thread, None),
            Err(error) => {
                let refused = Error::io("start the maintenance thread of", dir, error);
                (None, Some(refused))
            }
        }
    }

    /// Returns how many threads open partitions. One if the clock is set by hand: such tests expect
    /// the same steps in every run.
    fn threads(&self, settings: &LogSettings) -> usize {
        if self.clock.is_manual() {
            1
        } else {
            settings.recovery_threads
        }
    }

    /// Finishes the deletions that a crash interrupted, writes the identity of the directory if it
    /// is missing, and sets the background thread to work.
    fn begin(&self, core: &Arc<LogCore>, thread: Option<maintenance::Idle>) -> Result<()> {
        debug_assert!(
            core.lock.lock().is_some(),
            "the directory is locked before the first change to it"
        );
        core.finish_deletions();
        // Each maintenance pass tries again to remove the directories that are left.
        let _tried_again_later = core.catalog.unlink_due(self.clock.now());
        match ensure_meta_properties(&*self.storage, &core.dir, unique_id) {
            // The identity can wait. Reading, and making room, cannot.
            Ok(()) | Err(Error::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(thread) = thread {
            thread.begin(core);
        }
        Ok(())
    }
}

/// Opens all topics in `contents`. For a read-only log, also sets up the looks for the writer's
/// changes.
fn open_catalog(home: Home, contents: Contents, known: &Known) -> Result<(Arc<Catalog>, Loaded)> {
    let (root, read_only) = (home.root.clone(), home.context.read_only);
    let (catalog, loaded) = catalog::load(home, contents, known)?;
    let catalog = Arc::new(catalog);
    for partition in catalog.partitions() {
        partition.set_cleaned_end(known.lines.cleaned.get(partition.id()).copied());
    }
    if read_only {
        let writer = read_only::WriterChanges::new(&catalog, &root);
        catalog.changes().set_looks_again(Box::new(writer));
    }
    Ok((catalog, loaded))
}

/// Lowers the committed offsets that are above the end of their partition. Otherwise the group
/// would skip the records that get these offsets later.
///
/// Finding these offsets means reading `__consumer_offsets`, which is not needed after a clean
/// close:
///
/// * A commit above the end is refused, and a cut lowers the committed offsets first. So no
///   committed offset is above the end when a log is closed.
/// * If each partition still ends where the close noted, this also holds when the log is opened.
///
/// If an end differs, the partition was cut or replaced in the meantime. Then every offset
/// committed above the noted end, or above the end found now, refers to other records. The note of
/// a broker does not help: its committed offsets may be anywhere.
fn lower_commits(groups: &GroupService, catalog: &Catalog, known: &Known) -> Vec<LoweredCommit> {
    debug_assert!(
        !catalog.context().read_only,
        "a read-only log leaves the commits as they are"
    );
    let noted = |id: &TopicPartition| {
        known
            .lines
            .recovery_points
            .get(id)
            .copied()
            .filter(|_| known.was_closed && !known.broker_since)
    };
    if catalog
        .partitions()
        .iter()
        .all(|partition| noted(partition.id()) == Some(partition.log_end_offset()))
    {
        return Vec::new();
    }
    groups.lower_commits(|id| noted(id).unwrap_or(u64::MAX))
}

impl fmt::Debug for LogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBuilder")
            .field("dir", &self.dir)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
