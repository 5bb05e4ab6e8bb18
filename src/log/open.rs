//! Opening a log: look, lock, look again, recover, start.
//!
//! Nothing is changed before the directory has been found to be a log, or empty, and its lock is held.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::catalog::contents::Contents;
use super::catalog::{self, Catalog, Known};
use super::checkpoints::{Checkpoints, Lines, ensure_meta_properties};
use super::{Guard, Log, LogCore, LoweredCommit, Recovery, beside, lone, lone_read_only, maintenance};
use crate::clock::{Clock, Deadline, SystemClock};
use crate::config::{Durability, LogConfig, LogSettings, TopicConfig};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::GroupService;
use crate::partition::follow::Signal;
use crate::partition::{BufferPool, CleanMarker, LogBound, Numbers, Opener, Partition, PartitionContext};
use crate::producer::ProducerService;
use crate::storage::open_files::OpenFiles;
use crate::storage::{Disk, FileLock, Storage, create_dirs, sync_found};
use crate::topic::identity::unique_id;
use crate::topic::stored::Home;
use crate::topic_partition::TopicPartition;

/// How long a held lock is tried again: a child between fork and exec may still hold a descriptor that its parent closed.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How to open a log: settings, disk and clock. From [`Log::builder`].
pub struct LogBuilder {
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
}

impl LogBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), config: LogConfig::default(), storage: Arc::new(Disk), clock: Arc::new(SystemClock) }
    }

    /// Settings of the log as a whole.
    #[must_use]
    pub fn config(self, config: LogConfig) -> Self {
        Self { config, ..self }
    }

    /// The disk it is on; the machine's own if not set.
    #[must_use]
    pub fn storage(self, storage: impl Storage) -> Self {
        Self { storage: Arc::new(storage), ..self }
    }

    /// The clock that records and retention go by; the machine's own if not set. With a clock that is set by hand the log
    /// starts no thread.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Opens or creates the log, as [`Log::open`] does.
    pub fn open(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let created = ensure_directory(&*self.storage, &self.dir)?;
        if !created {
            Contents::read(&*self.storage, &self.dir)?.check_is_log(&self.dir)?;
        }
        let dir = self.storage.canonical(&self.dir).map_err(|error| Error::io("find", &self.dir, error))?;
        let lock = take_lock(&*self.storage, &dir)?;
        // What another process did before it gave the lock back counts.
        let contents = Contents::read(&*self.storage, &dir)?;
        contents.check_is_log(&dir)?;
        let has = |name| contents.files.contains(name);
        if !created && !has(file_name::META_PROPERTIES) {
            sync_found(&*self.storage, &dir);
        }
        if !has(file_name::CLEAN_SHUTDOWN) {
            // Topics that a killed process made are in the directory, and perhaps not on the device.
            self.storage.sync_dir(&dir).map_err(|error| Error::io("sync", &dir, error))?;
        }
        self.load(&settings, dir, contents, Some(lock))
    }

    /// Opens the log to read, as [`Log::open_read_only`] does.
    pub fn open_read_only(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let contents = beside::read_contents(&*self.storage, &self.dir)?;
        contents.check_is_log_already(&self.dir)?;
        let dir = self.storage.canonical(&self.dir).map_err(|error| Error::io("find", &self.dir, error))?;
        self.load(&settings, dir, contents, None)
    }

    /// Opens one partition alone, as [`Partition::open`] does; the builder's directory is the partition's.
    #[expect(clippy::needless_pass_by_value, reason = "a config is made where it is passed")]
    pub fn open_partition(self, config: TopicConfig) -> Result<Partition> {
        lone::open(&self, &config)
    }

    /// Opens one partition alone to read, as [`Partition::open_read_only`] does; the builder's directory is the partition's.
    pub fn open_partition_read_only(self) -> Result<Partition> {
        lone_read_only::open_read_only(&self)
    }

    /// An empty path is usually a setting that was left out.
    pub(super) fn check_dir(&self) -> Result<()> {
        if self.dir.as_os_str().is_empty() {
            let reason = "the path is empty; `.` is the current directory".to_owned();
            return Err(Error::InvalidConfig { key: "dir".to_owned(), reason });
        }
        Ok(())
    }

    /// What the partitions share. The files in `marks` go before the first write. With `syncs_at_once` nothing is left to a
    /// later flush.
    pub(super) fn context(
        &self,
        settings: &LogSettings,
        marks: Vec<PathBuf>,
        read_only: bool,
        syncs_at_once: bool,
    ) -> Arc<PartitionContext> {
        Arc::new(PartitionContext {
            storage: Arc::clone(&self.storage),
            clock: Arc::clone(&self.clock),
            files: OpenFiles::new(Arc::clone(&self.storage), settings.max_open_files),
            durability: if syncs_at_once { Durability::Synced } else { settings.durability },
            syncs_at_once,
            bound: settings.max_bytes.map(LogBound::new),
            read_mode: settings.read_mode,
            max_decompressed_bytes: settings.max_decompressed_bytes,
            read_only,
            clean_marker: CleanMarker::new(marks),
            buffers: BufferPool::default(),
            numbers: Numbers::default(),
            opener: Opener::this_process(),
        })
    }

    fn load(self, settings: &LogSettings, dir: PathBuf, contents: Contents, lock: Option<Box<dyn FileLock>>) -> Result<Log> {
        let read_only = lock.is_none();
        let marks = [file_name::CLEAN_SHUTDOWN, file_name::HIGH_WATERMARKS].map(|name| dir.join(name)).to_vec();
        let has_thread = !read_only && !self.clock.is_manual();
        let thread = if has_thread { maintenance::Idle::start(settings) } else { Ok(None) };
        let thread = thread.map_err(|error| Error::io("start the maintenance thread of", &dir, error));
        let context = self.context(settings, marks, read_only, thread.is_err());
        let (thread, thread_refused) = thread.map_or_else(|error| (None, Some(error)), |thread| (thread, None));
        let checkpoints = Checkpoints::read(&*self.storage, &dir);
        // Tests that stand the clock still want the same steps each time.
        let threads = if self.clock.is_manual() { 1 } else { settings.recovery_threads };
        let lines = checkpoints.lines();
        let cleaned_ends = lines.cleaned.clone();
        let known = known_of(&contents, lines, threads);
        let clean = known.clean;
        let home = Home { root: dir.clone(), defaults: settings.topic_defaults.clone(), context, changes: Arc::default() };
        let (catalog, loaded) = catalog::load(home, contents, &known)?;
        let catalog = Arc::new(catalog);
        for partition in catalog.partitions() {
            partition.set_cleaned_end(cleaned_ends.get(partition.id()).copied());
        }
        if read_only {
            catalog.changes().set_beside(Box::new(beside::Beside::new(&catalog, &dir)));
        }
        let groups = Arc::new(GroupService::new(Arc::clone(&catalog), settings));
        // Before anything else can be appended.
        let lowered_commits = if read_only { Vec::new() } else { lower_commits(&groups, &catalog, &known) };
        let catalog::Loaded { partitions, topics, foreign } = loaded;
        let foreign = foreign.iter().map(|name| dir.join(name)).collect();
        let recovery = Recovery { clean, partitions, topics, foreign, lowered_commits, thread_refused };
        let wake = Signal::new();
        let producers = Arc::new(ProducerService::new(catalog.context(), &wake));
        let core = Arc::new(LogCore {
            dir,
            catalog,
            groups,
            producers,
            checkpoints,
            recovery,
            cleaner_buffer_bytes: settings.cleaner_dedupe_buffer_bytes,
            cleaning: Mutex::new(()),
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
        // From here on a failure closes what was opened.
        let log = Log { guard: Arc::new(Guard { core }) };
        if !read_only {
            log.core().finish_deletions();
            // What cannot be removed now is tried again at each pass.
            let _tried_again_later = log.core().catalog.unlink_due(self.clock.now());
            match ensure_meta_properties(&*self.storage, &log.core().dir, unique_id) {
                // An identity can wait; reading and making room cannot.
                Ok(()) | Err(Error::DiskFull { .. }) => {}
                Err(error) => return Err(error),
            }
            if let Some(thread) = thread {
                thread.begin(log.core());
            }
        }
        Ok(log)
    }
}

/// What the root says of its partitions.
pub(super) fn known_of(contents: &Contents, lines: Lines, threads: usize) -> Known {
    let has = |name| contents.files.contains(name);
    Known {
        recovery_points: lines.recovery_points,
        log_starts: lines.log_starts,
        clean: has(file_name::CLEAN_SHUTDOWN) || contents.partitions.is_empty(),
        was_closed: has(file_name::CLEAN_SHUTDOWN),
        broker_since: has(file_name::HIGH_WATERMARKS),
        threads,
    }
}

/// Lowers the positions that lie above the end of their partition: records that take these offsets later would be passed over.
///
/// This reads `__consumer_offsets`, which a log that was closed in good order need not do. A commit above the end is refused, and
/// a cut lowers the positions first. So none lies above the end when a log is closed, and as long as each partition ends where
/// the close noted, none does when it is opened. Where an end differs, the partition was cut or exchanged in the meantime: then
/// what was committed above the noted end, or the one that is found, is about other records. A note of a broker says nothing:
/// its positions may lie anywhere.
fn lower_commits(groups: &GroupService, catalog: &Catalog, known: &Known) -> Vec<LoweredCommit> {
    let noted = |id: &TopicPartition| known.recovery_points.get(id).copied().filter(|_| known.was_closed && !known.broker_since);
    if catalog.partitions().iter().all(|partition| noted(partition.id()) == Some(partition.log_end_offset())) {
        return Vec::new();
    }
    let lowered = groups.lower_commits(|id| noted(id).unwrap_or(u64::MAX)).into_iter();
    lowered.map(|(group, partition, from, to)| LoweredCommit { group, partition, from, to }).collect()
}

/// Takes the lock of a directory.
pub(super) fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn FileLock>> {
    let path = dir.join(file_name::LOCK);
    let deadline = Deadline::after(LOCK_PATIENCE);
    loop {
        match storage.lock(&path) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Error::io("lock", &path, error)),
            Err(_) if deadline.has_passed() => {
                return Err(Error::Locked { path: dir.to_owned(), holder: storage.lock_holder(&path) });
            }
            Err(_) => thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Creates a directory, durably, if there is none, and says whether it did. `NotALog` if it is something else.
pub(super) fn ensure_directory(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    for ancestor in dir.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match storage.metadata(ancestor) {
            Ok(found) if found.is_dir && ancestor == dir => return Ok(false),
            Ok(found) if found.is_dir => break,
            Ok(_) => return Err(Error::NotALog { path: ancestor.to_owned(), reason: "it is a file, not a directory".into() }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::io("look at", ancestor, error)),
        }
    }
    create_dirs(storage, dir).map_err(|error| Error::io("create", dir, error))?;
    Ok(true)
}

impl fmt::Debug for LogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBuilder").field("dir", &self.dir).field("config", &self.config).finish_non_exhaustive()
    }
}
