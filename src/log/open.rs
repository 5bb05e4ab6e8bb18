//! Opening a log: look, lock, look again, recover, start.
//!
//! Nothing is changed before the directory has been found to be a log, or empty, and its lock is
//! held.

use super::directory::{ensure_directory, take_lock};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::core::LogCore;
use super::handle::Log;
use super::keeper::Guard;
use super::recovery::{LoweredCommit, Recovery};
use super::{maintenance, read_only};
use crate::catalog;
use crate::catalog::checkpoints::{Checkpoints, ensure_meta_properties};
use crate::catalog::contents::Contents;
use crate::catalog::{Catalog, Known};
use crate::clock::{Clock, SystemClock};
use crate::config::{Durability, LogConfig, LogSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::GroupService;
use crate::partition::state::waiting::Signal;
use crate::partition::{BufferPool, CleanMarker, LogBound, Numbers, Opener, PartitionContext};
use crate::producer::ProducerService;
use crate::storage::open_files::OpenFiles;
use crate::storage::{Disk, FileLock, MemoryDisk, Storage, sync_found};
use crate::topic::identity::unique_id;
use crate::topic::stored::Home;
use crate::topic_partition::TopicPartition;

impl Log {
    /// Opens the log in `dir`, or creates it, and locks it. After an unclean stop it is recovered:
    /// see [`recovery`](Self::recovery).
    ///
    /// Where the system refuses a thread (`ulimit -u`, a limit of a container), opening continues
    /// in the calling thread. Without its background thread nothing would flush a second after an
    /// append. So every append, commit and batch of a producer waits for the device, as with
    /// [`Durability::Synced`], and retention and compaction wait for [`maintain`](Self::maintain),
    /// until the log is opened again. [`Recovery::thread_refused`] reports this.
    ///
    /// [`Error::Locked`] if it is open elsewhere, [`Error::NotALog`] if the directory holds
    /// something that no log has; then nothing was changed. A damaged partition does not keep the
    /// log from opening.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Opens the log in `dir` to read, also beside a writer in another process: takes no lock,
    /// writes nothing, repairs nothing, and needs no permission to write. What would write, and
    /// joining a group, gives [`Error::ReadOnly`].
    ///
    /// It sees all that the writer has published, also what a `Synced` topic has yet to put on the
    /// device. What is torn at the end of a log, and zeros written ahead there, are the end for
    /// now: they are looked at again, and are no damage.
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
    /// An idle follower asks for the length of the active file and whether one follows it; it lists
    /// no directory. Opening a reader, and asking a partition, a topic or the log, do. At the end
    /// of a log, damage cannot be told from an append under way: a follower waits there, and
    /// opening the log to write tells. So with commits that a power cut left above the end of their
    /// partition: only a writer lowers them.
    ///
    /// [`Error::NotALog`] where there is nothing of a log yet, not even its `.lock`. A log in the
    /// making is opened as far as it is made.
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open_read_only()
    }

    /// A new log in memory: the same engine, and nothing is touched.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a new disk in memory has room and no lock"
    )]
    pub fn in_memory() -> Self {
        Self::builder("log")
            .storage(MemoryDisk::new())
            .open()
            .expect("an empty log in memory opens")
    }

    /// Says more about how to open the log in `dir`.
    pub fn builder(dir: impl AsRef<Path>) -> LogBuilder {
        LogBuilder::new(dir.as_ref())
    }
}

/// How to open a log: settings, disk and clock. From [`Log::builder`].
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

    /// Settings of the log as a whole.
    #[must_use]
    pub fn config(self, config: LogConfig) -> Self {
        Self { config, ..self }
    }

    /// The disk it is on; the machine's own if not set.
    #[must_use]
    pub fn storage(self, storage: impl Storage) -> Self {
        Self {
            storage: Arc::new(storage),
            ..self
        }
    }

    /// The clock that records and retention go by; the machine's own if not set. With a clock that
    /// is set by hand the log starts no thread.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// Opens or creates the log, as [`Log::open`] does.
    pub fn open(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let created = ensure_directory(&*self.storage, &self.dir)?;
        if !created {
            Contents::read(&*self.storage, &self.dir)?.check_is_log(&self.dir)?;
        }
        let dir = self
            .storage
            .canonical(&self.dir)
            .map_err(|error| Error::io("find", &self.dir, error))?;
        let lock = take_lock(&*self.storage, &dir)?;
        // What another process did before it gave the lock back counts.
        let contents = Contents::read(&*self.storage, &dir)?;
        contents.check_is_log(&dir)?;
        let has = |name| contents.files.contains(name);
        if !created && !has(file_name::META_PROPERTIES) {
            sync_found(&*self.storage, &dir);
        }
        if !has(file_name::CLEAN_SHUTDOWN) {
            // Topics that a killed process made are in the directory, and perhaps not on the
            // device.
            self.storage
                .sync_dir(&dir)
                .map_err(|error| Error::io("sync", &dir, error))?;
        }
        self.load(&settings, dir, contents, Some(lock))
    }

    /// Opens the log to read, as [`Log::open_read_only`] does.
    pub fn open_read_only(self) -> Result<Log> {
        self.check_dir()?;
        let settings = self.config.resolve()?;
        let contents = read_only::read_contents(&*self.storage, &self.dir)?;
        contents.check_is_log_already(&self.dir)?;
        let dir = self
            .storage
            .canonical(&self.dir)
            .map_err(|error| Error::io("find", &self.dir, error))?;
        self.load(&settings, dir, contents, None)
    }

    /// An empty path is usually a setting that was left out.
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

    /// What the partitions share. The files in `marks` go before the first write. With
    /// `syncs_at_once` nothing is left to a later flush.
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
        let marks = [file_name::CLEAN_SHUTDOWN, file_name::HIGH_WATERMARKS]
            .map(|name| dir.join(name))
            .to_vec();
        let has_thread = !read_only && !self.clock.is_manual();
        let thread = if has_thread {
            maintenance::Idle::start(settings)
        } else {
            Ok(None)
        };
        let thread =
            thread.map_err(|error| Error::io("start the maintenance thread of", &dir, error));
        let context = self.context(settings, marks, read_only, thread.is_err());
        let (thread, thread_refused) =
            thread.map_or_else(|error| (None, Some(error)), |thread| (thread, None));
        let checkpoints = Checkpoints::read(&*self.storage, &dir);
        // Tests that stand the clock still want the same steps each time.
        let threads = if self.clock.is_manual() {
            1
        } else {
            settings.recovery_threads
        };
        let lines = checkpoints.lines();
        let cleaned_ends = lines.cleaned.clone();
        let known = Known::of(&contents, lines, threads);
        let clean = known.clean;
        let home = Home {
            root: dir.clone(),
            defaults: settings.topic_defaults.clone(),
            context,
            changes: Arc::default(),
        };
        let (catalog, loaded) = catalog::load(home, contents, &known)?;
        let catalog = Arc::new(catalog);
        for partition in catalog.partitions() {
            partition.set_cleaned_end(cleaned_ends.get(partition.id()).copied());
        }
        if read_only {
            catalog
                .changes()
                .set_beside(Box::new(read_only::Beside::new(&catalog, &dir)));
        }
        let groups = Arc::new(GroupService::new(Arc::clone(&catalog), settings));
        // Before anything else can be appended.
        let lowered_commits = if read_only {
            Vec::new()
        } else {
            lower_commits(&groups, &catalog, &known)
        };
        let catalog::Loaded {
            partitions,
            topics,
            foreign,
        } = loaded;
        let foreign = foreign.iter().map(|name| dir.join(name)).collect();
        let recovery = Recovery {
            clean,
            partitions,
            topics,
            foreign,
            lowered_commits,
            thread_refused,
        };
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
        let log = Log {
            guard: Arc::new(Guard { core }),
        };
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

/// Lowers the positions that lie above the end of their partition: records that take these offsets
/// later would be passed over.
///
/// This reads `__consumer_offsets`, which a log that was closed in good order need not do. A commit
/// above the end is refused, and a cut lowers the positions first. So none lies above the end when
/// a log is closed, and as long as each partition ends where the close noted, none does when it is
/// opened. Where an end differs, the partition was cut or exchanged in the meantime: then what was
/// committed above the noted end, or the one that is found, is about other records. A note of a
/// broker says nothing: its positions may lie anywhere.
fn lower_commits(groups: &GroupService, catalog: &Catalog, known: &Known) -> Vec<LoweredCommit> {
    let noted = |id: &TopicPartition| {
        known
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
    let lowered = groups
        .lower_commits(|id| noted(id).unwrap_or(u64::MAX))
        .into_iter();
    lowered
        .map(|(group, partition, from, to)| LoweredCommit {
            group,
            partition,
            from,
            to,
        })
        .collect()
}

impl fmt::Debug for LogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBuilder")
            .field("dir", &self.dir)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
