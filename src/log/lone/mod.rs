//! One partition opened alone, without a log around it: a write-ahead log, or a partition of a log
//! that nobody has open.
//!
//! It has a lock, the checkpoints and the clean-shutdown marker in its own directory. Where its
//! parent is a log, it is a partition of that log: the parent's lock is taken too, and the parent's
//! checkpoints, marker and topic file are the ones that count, so that the log finds everything
//! right when it is opened next.
//!
//! No thread runs. Checkpoints are written by `flush` and `delete_records_before`, and at closing,
//! which comes with the last handle. Retention, where the config asks for any, is applied at
//! opening and at closing. Unless the config says otherwise, all records are kept.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::note::Note;
use super::directory::{ensure_directory, take_lock};
use super::handle::Log;
use super::open::LogBuilder;
use crate::catalog::checkpoints::{Checkpoints, Lines, write_clean_shutdown};
use crate::catalog::contents::Contents;
use crate::compaction::Allowance;
use crate::config::{Durability, TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::partition::{
    KeepOpen, Keeper, Maintenance, Partition, PartitionContext, PartitionCore, PartitionRecovery,
    PartitionSpec, Reopened, Truncation, own_line,
};
use crate::storage::{DirEntry, FileLock, Storage, directory_of, sync_found};
use crate::topic::stored::{Found, read_topic_file, store_gaps, store_log_start, unconfigured};
use crate::topic_partition::TopicPartition;

pub(crate) mod known;
mod note;
mod read_only;

impl Partition {
    /// Opens the partition in `dir` alone, or creates it, and locks it. Dropping its last handle
    /// closes it, and may sync.
    ///
    /// The directory may have any name; one like `orders-0` says which topic and partition it is.
    /// No thread runs, and all records are kept unless `config` says otherwise. After an unclean
    /// stop it is recovered: a torn end is cut and kept beside in `.torn` files.
    ///
    /// A process that is forked from the opener may drop the handle, and must not append: see
    /// [`Log`](super::Log#in-a-forked-child).
    ///
    /// [`Error::Locked`] if it, or the log that it belongs to, is open elsewhere;
    /// [`Error::NotALog`] if the directory is a whole log or holds something else. Then nothing was
    /// changed.
    pub fn open(dir: impl AsRef<Path>, config: TopicConfig) -> Result<Self> {
        Log::builder(dir).open_partition(config)
    }
}

impl LogBuilder {
    /// Opens one partition alone, as [`Partition::open`] does; the builder's directory is the
    /// partition's.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a config is made where it is passed"
    )]
    pub fn open_partition(self, config: TopicConfig) -> Result<Partition> {
        open(&self, &config)
    }

    /// Opens one partition alone to read, as [`Partition::open_read_only`] does; the builder's
    /// directory is the partition's.
    pub fn open_partition_read_only(self) -> Result<Partition> {
        read_only::open_read_only(&self)
    }
}

/// An open lone partition; closes with the last handle.
#[derive(Debug)]
pub(super) struct Lone {
    core: Arc<PartitionCore>,
    context: Arc<PartitionContext>,
    /// Where checkpoints and marker are.
    home: PathBuf,
    is_in_log: bool,
    checkpoints: Checkpoints,
    note: Note,
    /// Memory for the keys while it is compacted.
    cleaner_buffer_bytes: usize,
    was_clean: bool,
    /// The lowest offset at which the partition of a log was cut and that log has yet to hear of;
    /// `u64::MAX` if there is none.
    cut: AtomicU64,
    /// Given back last.
    _locks: Vec<Box<dyn FileLock>>,
}

impl Drop for Lone {
    fn drop(&mut self) {
        if !self.context.opener.is_this_process() {
            // Nothing of it is taken apart in a forked child.
            mem::forget(Arc::clone(&self.core));
            return;
        }
        // Appends that asked to be durable are; for the others a failure here is what a crash would
        // be.
        let _nobody_is_left_to_tell = self.close();
    }
}

pub(super) fn open(builder: &LogBuilder, config: &TopicConfig) -> Result<Partition> {
    let settings = unconfigured()
        .updated(config)
        .over(&TopicSettings::default())?;
    builder.check_dir()?;
    let log_settings = builder.config.resolve()?;
    let storage = &*builder.storage;
    let (dir, is_there) = locate(storage, &builder.dir)?;
    let id = identify(&dir);
    let log = log_around(storage, &dir);
    if is_there {
        Contents::read(storage, &dir)?.check_is_partition(&dir)?;
    }
    if log.is_some()
        && file_name::parse_partition_dir(&id.to_string())
            .is_none_or(|parsed| !dir.ends_with(parsed.to_string()))
    {
        return Err(Error::NotALog {
            path: dir,
            reason: "no partition of the log around it can have this name".into(),
        });
    }
    let home = log.unwrap_or(&dir).to_owned();
    // Before anything is created in a log that somebody else has open.
    let mut locks = if log.is_some() {
        vec![take_lock(storage, &home)?]
    } else {
        Vec::new()
    };
    let created = ensure_directory(storage, &dir)?;
    locks.push(take_lock(storage, &dir)?);
    let checkpoints = Checkpoints::read(storage, &home);
    let has_segments = list(storage, &dir)?
        .iter()
        .any(|entry| file_name::parse_segment_file(&entry.name).is_some());
    let was_clean = !has_segments || exists(storage, &home.join(file_name::CLEAN_SHUTDOWN))?;
    let note = Note::read(storage, &dir)?;
    let mut spec = spec(
        storage,
        &home,
        &dir,
        id,
        settings,
        &checkpoints.lines(),
        was_clean,
        log.is_some(),
    )?;
    if log.is_none() {
        spec.log_start = note.log_start().unwrap_or(spec.log_start);
        spec.is_dense = note.is_dense();
    }
    let marks = [file_name::CLEAN_SHUTDOWN, file_name::HIGH_WATERMARKS]
        .map(|name| home.join(name))
        .to_vec();
    let context = builder.context(&log_settings, marks, false, false);
    // Where there were records, a directory without any has lost them: offsets that start again
    // would hide it.
    let core = if !has_segments && spec.recovery_point <= spec.log_start {
        context.clean_marker.clear(storage)?;
        if !created {
            sync_found(storage, &dir);
        }
        if log.is_none() {
            spec.is_dense = note.begin(storage, &spec.settings)?;
        }
        PartitionCore::create(&context, &spec)?
    } else {
        PartitionCore::open(&context, &spec)?.0
    };
    // Not before it was recovered: until now a gap was damage.
    if log.is_none() && !note.settle_density(storage, &spec.settings)? {
        core.allow_gaps();
    }
    let is_in_log = home != dir;
    let cleaner_buffer_bytes = log_settings.cleaner_dedupe_buffer_bytes;
    let cut = AtomicU64::new(if is_in_log && was_clean {
        earlier_cut(&core, &checkpoints.lines())
    } else {
        u64::MAX
    });
    let lone = Lone {
        core,
        context,
        home,
        is_in_log,
        checkpoints,
        note,
        cleaner_buffer_bytes,
        was_clean,
        cut,
        _locks: locks,
    };
    lone.core
        .set_cleaned_end(lone.checkpoints.lines().cleaned.get(&lone.line()).copied());
    lone.apply_retention();
    let core = Arc::clone(&lone.core);
    Ok(Partition::new(
        core,
        Durability::Os,
        KeepOpen::new(Arc::new(lone)),
    ))
}

/// What the directory's name says, or the name itself.
pub(super) fn identify(dir: &Path) -> TopicPartition {
    let name = dir
        .file_name()
        .map_or_else(|| "partition".into(), |name| name.to_string_lossy());
    file_name::parse_partition_dir(&name).unwrap_or_else(|| TopicPartition::new(&*name, 0))
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing, used once"
)]
pub(super) fn spec(
    storage: &dyn Storage,
    home: &Path,
    dir: &Path,
    id: TopicPartition,
    settings: TopicSettings,
    lines: &Lines,
    clean: bool,
    is_in_log: bool,
) -> Result<PartitionSpec> {
    let line = if is_in_log { id.clone() } else { own_line() };
    let mut log_start = lines.log_starts.get(&line).copied().unwrap_or(0);
    let recovery_point = lines.recovery_points.get(&line).copied().unwrap_or(0);
    let (mut topic_id, mut is_dense) = (None, false);
    let broker_since = exists(storage, &home.join(file_name::HIGH_WATERMARKS))?;
    if is_in_log
        && !broker_since
        && let Found::Sound(file, _) = read_topic_file(storage, home, &id.topic)?
    {
        log_start = file
            .log_starts
            .iter()
            .find(|(number, _)| *number == id.partition)
            .map_or(0, |(_, start)| *start);
        topic_id = Some(file.topic_id);
        is_dense = file.is_dense;
    }
    let dir = dir.to_owned();
    Ok(PartitionSpec {
        id,
        dir,
        settings,
        topic_id,
        log_start,
        recovery_point,
        clean,
        is_dense,
        broker_since,
    })
}

impl Keeper for Lone {
    fn store_log_start(&self) -> Result<()> {
        self.checkpoint()
    }

    fn truncate(&self, _partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
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

    fn finish_reopen(
        &self,
        _partition: &PartitionCore,
        reopened: Reopened<'_>,
    ) -> PartitionRecovery {
        reopened.take_writes()
    }

    fn store_flushed(&self) -> Result<()> {
        self.store_bounds()
    }

    /// Compacts now. The log around it learns first that the partition has gaps.
    fn compact(&self, _partition: &PartitionCore) -> Result<Maintenance> {
        let storage = &*self.context.storage;
        if self.core.is_dense() {
            // From then on what a power cut takes from between two segments is not missed.
            self.core.flush()?;
            store_gaps(storage, &self.home, &self.core.id().topic)?;
            self.core.allow_gaps();
        }
        let mut goes_on = || true;
        let mut allowance = Allowance::new(self.cleaner_buffer_bytes, &mut goes_on);
        let done = self
            .core
            .compact(self.context.clock.now(), &mut allowance)?;
        match self.checkpoint() {
            // It was compacted, and the checkpoint can wait.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(done),
            Err(error) => Err(error),
        }
    }
}

impl Lone {
    fn close(&self) -> Result<()> {
        self.context.opener.check()?;
        self.apply_retention();
        self.core.close(true)?;
        if self.was_clean && !self.context.clean_marker.is_cleared() {
            return Ok(());
        }
        self.store_bounds()?;
        // The partitions beside it are as clean as they were.
        if self.core.is_damaged() || (self.is_in_log && !self.was_clean) {
            return Ok(());
        }
        write_clean_shutdown(&*self.context.storage, &self.home)
    }

    /// Its line in the checkpoints.
    fn line(&self) -> TopicPartition {
        if self.is_in_log {
            self.core.id().clone()
        } else {
            own_line()
        }
    }

    /// Makes everything durable and stores where the partition begins and what of it is safe.
    fn checkpoint(&self) -> Result<()> {
        self.core.flush().and(self.store_bounds())
    }

    /// Stores where the partition begins and what of it is durable.
    fn store_bounds(&self) -> Result<()> {
        if self.was_clean && !self.context.clean_marker.is_cleared() {
            return Ok(());
        }
        let storage = &*self.context.storage;
        let line = self.line();
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

    /// The line for the recovery point. In a log it must differ from the end where the partition
    /// was cut: that makes the log lower the positions of its groups when it is opened. So it stays
    /// at the cut, or is left out while nothing follows the cut.
    fn recovery_point_line(&self) -> Option<u64> {
        let (cut, end) = (self.cut.load(Ordering::SeqCst), self.core.log_end_offset());
        let is_told = !self.is_in_log || cut != end;
        is_told.then(|| {
            self.core
                .recovery_point()
                .min(if self.is_in_log { cut } else { u64::MAX })
        })
    }

    /// Old segments can wait: what fails here is tried again next time.
    fn apply_retention(&self) {
        let _tried_again_next_time = self
            .core
            .apply_retention(self.context.clock.now())
            .and_then(|_| self.core.unlink_due());
    }
}

/// Where a partition of a log that was closed in good order does not end where its line says, it
/// was cut there before.
fn earlier_cut(core: &PartitionCore, lines: &Lines) -> u64 {
    let end = core.log_end_offset();
    let line = lines.recovery_points.get(core.id()).copied();
    if line == Some(end) {
        u64::MAX
    } else {
        line.unwrap_or(end).min(end)
    }
}

/// The directory under its one name, and whether it is there.
fn locate(storage: &dyn Storage, dir: &Path) -> Result<(PathBuf, bool)> {
    let found = |dir: &Path| {
        storage
            .canonical(dir)
            .map_err(|error| Error::io("find", dir, error))
    };
    if exists(storage, dir)? {
        return Ok((found(dir)?, true));
    }
    match dir.file_name() {
        Some(name) if exists(storage, directory_of(dir))? => {
            Ok((found(directory_of(dir))?.join(name), false))
        }
        // Below a directory that is not there either, there is no log around it.
        _ => {
            ensure_directory(storage, dir)?;
            Ok((found(dir)?, true))
        }
    }
}

/// The log that holds the directory of a partition, if one does. Another partition is not a log,
/// and a `.lock` alone may be that of any program.
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
    let is_in_the_making =
        || has(file_name::LOCK) && has(&file_name::topic_file(&identify(dir).topic));
    (!is_partition && (MARKS.iter().any(|mark| has(mark)) || is_in_the_making())).then_some(root)
}

pub(super) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<DirEntry>> {
    storage
        .list(dir)
        .map_err(|error| Error::io("list", dir, error))
}

pub(super) fn exists(storage: &dyn Storage, path: &Path) -> Result<bool> {
    match storage.metadata(path) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::io("look at", path, error)),
    }
}
