//! One partition opened alone: a write-ahead log of its own, or one partition of a log that is not
//! open.
//!
//! Outside of a log, the partition has its lock, its checkpoints and its clean-shutdown marker in
//! its own directory. If the parent directory is a log, it is a partition of that log. Then the
//! lock of the log is taken too, and the checkpoints, the marker and the topic file of the log are
//! used. So the log finds all of them right when it is opened next.
//!
//! No thread runs. `flush` and `delete_records_before` write the checkpoints, and so does closing,
//! which happens when the last handle is dropped. Retention, if the config sets any, is applied
//! when the partition is opened and closed. By default all records are kept.
//!
//! | file | task |
//! | --- | --- |
//! | `mod` | opens a partition to write, and closes it |
//! | `read_only` | opens a partition to read |
//! | `note` | the facts about the partition that it stores in its own directory |
//! | `known` | the facts that a tool needs to copy a partition out of its log |

use std::mem;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::note::Note;
use super::directory::{ensure_directory, find, take_lock};
use super::handle::Log;
use super::open::LogBuilder;
use crate::catalog::checkpoints::{Checkpoints, write_clean_shutdown};
use crate::catalog::contents::Contents;
use crate::compaction::Allowance;
use crate::config::{Durability, TopicConfig, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::partition::stated::{Lines, Stated, own_line};
use crate::partition::{
    KeepOpen, Keeper, Maintenance, Partition, PartitionContext, PartitionCore, PartitionRecovery,
    Reopened, Restart, Truncation,
};
use crate::producer::is_own;
use crate::storage::{FileLock, Storage, directory_of, sync_found};
use crate::sync::Mutex;
use crate::topic::topic_file::{read_covered, store_gaps, store_log_start, unconfigured};
use crate::topic_partition::TopicPartition;

pub(crate) mod known;
mod note;
mod read_only;

impl Partition {
    /// Opens the partition in `dir`, or creates it, and locks it. No log is needed around it.
    /// Dropping its last handle closes it, and may sync.
    ///
    /// The directory may have any name; a name like `orders-0` states topic and number. No thread
    /// runs, and all records are kept unless `config` sets a retention. After an unclean stop the
    /// partition is recovered: a torn end is cut, and kept in `.torn` files.
    ///
    /// A process that is forked from the opener may drop the handle, and must not append: see
    /// [`Log`](super::Log#in-a-forked-child).
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Locked`] if the partition, or the log that it belongs to, is open
    ///   elsewhere.
    /// * Returns [`Error::NotALog`] if the directory is a whole log or holds other files.
    /// * Returns [`Error::InvalidConfig`] if a setting in `config` is invalid.
    ///
    /// The directory is unchanged in each of these cases.
    ///
    /// ```
    /// use annals::{Durability, Partition, TopicConfig};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let wal = Partition::open(dir.path().join("wal"), TopicConfig::new())?;
    /// let wal = wal.with_durability(Durability::Synced);
    /// let written = wal.append("debit 5")?; // on the device when the call returns
    /// let mut reader = wal.read(..)?;
    /// while let Some(record) = reader.next_record()? {
    ///     println!("{}: {}", record.offset(), record.text());
    /// }
    /// wal.delete_records_before(written.offset + 1)?; // after a checkpoint of the program
    /// # Ok::<(), annals::Error>(())
    ///
    /// ```
    pub fn open(dir: impl AsRef<Path>, config: TopicConfig) -> Result<Self> {
        Log::builder(dir).open_partition(config)
    }
}

impl LogBuilder {
    /// Opens one partition without a log, as [`Partition::open`] does. The directory of the builder
    /// is that of the partition.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Partition::open`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers build a config where they pass it"
    )]
    pub fn open_partition(self, config: TopicConfig) -> Result<Partition> {
        open(&self, &config)
    }

    /// Opens one partition to read, as [`Partition::open_read_only`] does. The directory of the
    /// builder is that of the partition.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Partition::open_read_only`].
    pub fn open_partition_read_only(self) -> Result<Partition> {
        read_only::open_read_only(&self)
    }
}

/// A partition that is open without a log. It is closed when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Lone {
    core: Arc<PartitionCore>,
    context: Arc<PartitionContext>,
    /// The directory of the checkpoints and the marker.
    home: PathBuf,
    is_in_log: bool,
    checkpoints: Checkpoints,
    note: Note,
    /// The memory for keys during a compaction, in bytes.
    cleaner_buffer_bytes: usize,
    was_clean: bool,
    /// In a log: the lowest offset at which the partition was cut without the knowledge of the log.
    /// `u64::MAX` if it was not cut.
    cut: AtomicU64,
    /// Locked while the topic file or the note is read and replaced, with the log start that is
    /// stored there. So no thread replaces a log start by an earlier one. Taken before the lock of
    /// the checkpoints.
    storing: Mutex<()>,
    /// Released last.
    locks: Vec<Box<dyn FileLock>>,
}

impl Drop for Lone {
    fn drop(&mut self) {
        if !self.context.opener.is_this_process() {
            // In a forked child nothing is closed: the files belong to the opener.
            mem::forget(Arc::clone(&self.core));
            return;
        }
        // Appends that asked to be durable are durable. For the others, an error here has the
        // effect of a crash.
        let _no_caller_left = self.close();
    }
}

pub(super) fn open(builder: &LogBuilder, config: &TopicConfig) -> Result<Partition> {
    let settings = unconfigured()
        .updated(config)
        .over(&TopicSettings::default())?;
    builder.check_dir()?;
    let log_settings = builder.config.resolve()?;
    let storage = &*builder.storage;
    let place = Place::find(storage, &builder.dir)?;
    let (locks, created) = place.lock(storage)?;
    let checkpoints = Checkpoints::read(storage, &place.home)?;
    let note = Note::read(storage, &place.dir)?;
    let has_segments = has_segments(storage, &place.dir)?;
    let was_clean =
        !has_segments || find(storage, &place.home.join(file_name::CLEAN_SHUTDOWN))?.is_some();
    let stated = place.stated(storage, &checkpoints.lines(), Some(&note))?;
    let mut spec = stated.spec(place.id.clone(), place.dir.clone(), settings, was_clean);
    let context = builder.context(&log_settings, place.marks(), false, false);
    // If the files state that there were records, a directory without segments has lost them. A new
    // partition, whose offsets start at 0 again, would hide the loss.
    let is_new = !has_segments && spec.recovery_point <= spec.log_start;
    let core = if is_new {
        context.clean_marker.clear(storage)?;
        if !created {
            sync_found(storage, &place.dir);
        }
        if !place.is_in_log {
            spec.is_dense = note.begin(storage, &spec.settings)?;
        }
        PartitionCore::create(&context, &spec)?
    } else {
        PartitionCore::open(&context, &spec)?.0
    };
    // After recovery, for which a gap in a dense partition is damage.
    if !place.is_in_log && !note.settle_density(storage, &spec.settings)? {
        core.allow_gaps();
    }
    let cut = if place.is_in_log && was_clean {
        earlier_cut(&core, &checkpoints.lines())
    } else {
        u64::MAX
    };
    let lone = Lone {
        core: Arc::clone(&core),
        context,
        home: place.home,
        is_in_log: place.is_in_log,
        checkpoints,
        note,
        cleaner_buffer_bytes: log_settings.cleaner_dedupe_buffer_bytes,
        was_clean,
        cut: AtomicU64::new(cut),
        storing: Mutex::new(()),
        locks,
    };
    let cleaned_end = lone.checkpoints.lines().cleaned.get(&lone.line()).copied();
    core.set_cleaned_end(cleaned_end);
    lone.apply_retention();
    let keep = KeepOpen::new(Arc::new(lone));
    Ok(Partition::new(core, Durability::Os, keep))
}

/// The directory of a partition, and the files around it.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    id: TopicPartition,
    /// The directory of the checkpoints and the marker: the log around the partition, or `dir`.
    home: PathBuf,
    is_in_log: bool,
}

impl Place {
    /// Returns the place of the partition in `dir`, a canonical path.
    pub(super) fn of(storage: &dyn Storage, dir: PathBuf) -> Self {
        let log = log_around(storage, &dir);
        Self {
            id: identify(&dir),
            is_in_log: log.is_some(),
            home: log.unwrap_or(&dir).to_owned(),
            dir,
        }
    }

    /// Finds the place of a partition that is to be opened or created in `dir`. Returns `NotALog`
    /// if `dir` holds other files, or cannot be a partition of the log around it.
    fn find(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let (dir, is_there) = locate(storage, dir)?;
        let place = Self::of(storage, dir);
        let dir = &place.dir;
        if is_there {
            Contents::read(storage, dir)?.check_is_partition(dir)?;
        }
        let is_named_as_partition = || {
            file_name::parse_partition_dir(&place.id.to_string())
                .is_some_and(|parsed| dir.ends_with(parsed.to_string()))
        };
        if place.is_in_log && !is_named_as_partition() {
            return Err(Error::NotALog {
                path: dir.clone(),
                reason: "a partition of the log around it cannot have this name".into(),
            });
        }
        Ok(place)
    }

    /// Takes the locks, and creates the directory if it is missing. Returns the locks, and whether
    /// the directory was created. The lock of the log comes first: nothing may be created in a log
    /// that is open elsewhere.
    fn lock(&self, storage: &dyn Storage) -> Result<(Vec<Box<dyn FileLock>>, bool)> {
        let mut locks = Vec::new();
        if self.is_in_log {
            locks.push(take_lock(storage, &self.home)?);
        }
        let created = ensure_directory(storage, &self.dir)?;
        locks.push(take_lock(storage, &self.dir)?);
        Ok((locks, created))
    }

    /// Returns the files that the first write removes.
    fn marks(&self) -> Vec<PathBuf> {
        [file_name::CLEAN_SHUTDOWN, file_name::HIGH_WATERMARKS]
            .map(|name| self.home.join(name))
            .to_vec()
    }

    /// Returns the facts that the files around the partition state about it. `lines` are those of
    /// the checkpoints in its home. `note` counts only outside of a log.
    fn stated(&self, storage: &dyn Storage, lines: &Lines, note: Option<&Note>) -> Result<Stated> {
        let broker_since = find(storage, &self.home.join(file_name::HIGH_WATERMARKS))?.is_some();
        if self.is_in_log {
            let file = read_covered(storage, &self.home, &self.dir, &self.id, broker_since)?;
            return Ok(Stated::of(&self.id, lines, file, broker_since));
        }
        // A note is not read if a broker has left its topic id next to it.
        let file = note.and_then(Note::covered);
        Ok(Stated {
            broker_since,
            ..Stated::of(&own_line(), lines, file, false)
        })
    }
}

fn has_segments(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    let entries = storage.list(dir).at("list", dir)?;
    Ok(entries
        .iter()
        .any(|entry| file_name::parse_segment_file(&entry.name).is_some()))
}

/// Returns the topic and number in the name of the directory, or else the name itself and 0.
pub(super) fn identify(dir: &Path) -> TopicPartition {
    let name = dir
        .file_name()
        .map_or_else(|| "partition".into(), |name| name.to_string_lossy());
    file_name::parse_partition_dir(&name).unwrap_or_else(|| TopicPartition::new(&*name, 0))
}

impl Keeper for Lone {
    fn store_log_start(&self) -> Result<()> {
        self.checkpoint()
    }

    /// The next opening of the log aborts the open transactions of all producers that annals made.
    fn transactional_producers(&self) -> Result<Vec<i64>> {
        let producers = self.core.last_batches().into_keys();
        let is_ended = |producer: &i64| self.is_in_log && is_own(*producer);
        Ok(producers.filter(is_ended).collect())
    }

    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        self.check_is_own(partition);
        let (storage, end) = (&*self.context.storage, cut.end());
        self.context.clean_marker.clear(storage)?;
        self.cut.fetch_min(end, Ordering::SeqCst);
        let recovery_point = cut.recovery_point();
        self.checkpoints.write_then(
            storage,
            |before| before.lowered(&self.line(), end, recovery_point),
            || cut.make(),
        )
    }

    fn restart(&self, partition: &Arc<PartitionCore>, restart: Restart<'_>) -> Result<()> {
        self.check_is_own(partition);
        self.cut.fetch_min(restart.start(), Ordering::SeqCst);
        restart.make(|| self.store_bounds())
    }

    fn finish_reopen(
        &self,
        partition: &PartitionCore,
        reopened: Reopened<'_>,
    ) -> PartitionRecovery {
        self.check_is_own(partition);
        reopened.take_writes()
    }

    fn store_flushed(&self) -> Result<()> {
        self.store_bounds()
    }

    /// Compacts the partition. The topic file notes first that the partition may have gaps.
    fn compact(&self, partition: &PartitionCore) -> Result<Maintenance> {
        self.check_is_own(partition);
        let storage = &*self.context.storage;
        if self.core.is_dense() {
            debug_assert!(
                self.is_in_log,
                "outside of a log, settings that allow compaction end the density at the opening"
            );
            // Flushed first: once gaps are legal, recovery does not notice that a power cut has
            // removed a segment from the middle.
            self.core.flush()?;
            let storing = self.storing.lock();
            store_gaps(storage, &self.home, &self.core.id().topic)?;
            drop(storing);
            self.core.allow_gaps();
        }
        let mut continues = || true;
        let mut allowance = Allowance::new(self.cleaner_buffer_bytes, &mut continues);
        let done = self
            .core
            .compact(self.context.clock.now(), &mut allowance)?;
        match self.checkpoint() {
            // The compaction is complete, and the checkpoint can wait.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(done),
            Err(error) => Err(error),
        }
    }
}

impl Lone {
    /// Checks that a call concerns the only partition that this keeps open.
    fn check_is_own(&self, partition: &PartitionCore) {
        debug_assert!(
            ptr::eq(partition, &raw const *self.core),
            "{} keeps no other partition open, and {} was asked for",
            self.core.id(),
            partition.id()
        );
    }

    fn close(&self) -> Result<()> {
        self.context.opener.check()?;
        self.apply_retention();
        self.core.close(true)?;
        if self.was_clean && !self.context.clean_marker.is_cleared() {
            return Ok(());
        }
        self.store_bounds()?;
        // The marker covers the other partitions of the log too, and they are as clean as before.
        if self.core.is_damaged() || (self.is_in_log && !self.was_clean) {
            return Ok(());
        }
        debug_assert!(
            !self.core.is_dirty(),
            "everything is durable before the partition is marked clean"
        );
        debug_assert!(
            self.core.recovery_point() <= self.core.log_end_offset(),
            "the stored recovery point is not above the log end"
        );
        write_clean_shutdown(&*self.context.storage, &self.home)
    }

    /// Returns the id of the line in the checkpoints.
    fn line(&self) -> TopicPartition {
        if self.is_in_log {
            self.core.id().clone()
        } else {
            own_line()
        }
    }

    /// Makes everything durable, then stores the log start and the recovery point.
    fn checkpoint(&self) -> Result<()> {
        self.core.flush().and(self.store_bounds())
    }

    /// Stores the log start and the recovery point.
    fn store_bounds(&self) -> Result<()> {
        if self.was_clean && !self.context.clean_marker.is_cleared() {
            return Ok(());
        }
        debug_assert!(
            !self.context.read_only,
            "a partition that is opened to read stores nothing"
        );
        debug_assert!(
            !self.locks.is_empty(),
            "the directory is locked while its files are written"
        );
        let storage = &*self.context.storage;
        let line = self.line();
        let _no_earlier_start_after_this = self.storing.lock();
        let log_start = self.core.log_start_line();
        if self.is_in_log {
            store_log_start(storage, &self.home, &line, log_start)?;
        } else {
            self.note.store_log_start(storage, log_start)?;
        }
        self.checkpoints.write(storage, |before| {
            let mut lines = before.clone();
            lines.recovery_points.remove(&line);
            lines.recovery_points.extend(
                self.recovery_point_line()
                    .map(|offset| (line.clone(), offset)),
            );
            lines.log_starts.remove(&line);
            lines.cleaned.remove(&line);
            lines.cleaned.extend(
                self.core
                    .cleaned_line()
                    .map(|offset| (line.clone(), offset)),
            );
            lines
                .log_starts
                .extend(log_start.map(|offset| (line, offset)));
            lines
        })
    }

    /// Returns the recovery point for the checkpoint.
    ///
    /// In a log the line must differ from the end if the partition was cut: the difference makes
    /// the log lower the committed offsets of its groups when it is opened. So the line stays at
    /// the cut, or is left out while the cut is the end.
    fn recovery_point_line(&self) -> Option<u64> {
        let (cut, end) = (self.cut.load(Ordering::SeqCst), self.core.log_end_offset());
        let has_line = !self.is_in_log || cut != end;
        has_line.then(|| {
            self.core
                .recovery_point()
                .min(if self.is_in_log { cut } else { u64::MAX })
        })
    }

    /// Deletes old segments. They can wait: an error here is ignored, and the next opening or close
    /// tries again.
    fn apply_retention(&self) {
        let _tried_again_next_time = self
            .core
            .apply_retention(self.context.clock.now())
            .and_then(|_| self.core.unlink_due());
    }
}

/// Returns the offset of a cut that the log does not know of yet, because it has not been opened
/// since; else `u64::MAX`. After a clean close the partition ends at its line, unless it was cut.
fn earlier_cut(core: &PartitionCore, lines: &Lines) -> u64 {
    let end = core.log_end_offset();
    let line = lines.recovery_points.get(core.id()).copied();
    if line == Some(end) {
        u64::MAX
    } else {
        line.unwrap_or(end).min(end)
    }
}

/// Returns the canonical path of the directory, and whether it exists.
fn locate(storage: &dyn Storage, dir: &Path) -> Result<(PathBuf, bool)> {
    let found = |dir: &Path| storage.canonical(dir).at("find", dir);
    if find(storage, dir)?.is_some() {
        return Ok((found(dir)?, true));
    }
    match dir.file_name() {
        Some(name) if find(storage, directory_of(dir))?.is_some() => {
            Ok((found(directory_of(dir))?.join(name), false))
        }
        // If the parent directory does not exist either, there is no log around the partition.
        _ => {
            ensure_directory(storage, dir)?;
            Ok((found(dir)?, true))
        }
    }
}

/// Returns the log that contains the directory of a partition, if there is one. A parent that is a
/// partition itself is not a log. A `.lock` alone does not count, since any program may have
/// created it.
pub(super) fn log_around<'a>(storage: &dyn Storage, dir: &'a Path) -> Option<&'a Path> {
    const MARKS: [&str; 3] = [
        file_name::META_PROPERTIES,
        file_name::RECOVERY_POINTS,
        file_name::HIGH_WATERMARKS,
    ];
    const OF_PARTITIONS: [&str; 2] = [file_name::LONE_PARTITION, file_name::LEADER_EPOCHS];
    let root = dir.parent()?;
    let has = |name: &str| storage.metadata(&root.join(name)).is_ok();
    let is_partition = OF_PARTITIONS.iter().any(|name| has(name));
    let is_being_created =
        || has(file_name::LOCK) && has(&file_name::topic_file(&identify(dir).topic));
    (!is_partition && (MARKS.iter().any(|mark| has(mark)) || is_being_created())).then_some(root)
}
