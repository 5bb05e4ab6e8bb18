//! Reading the directory of a partition anew, beside a writer in another process that deleted, cut
//! or replaced files.
//!
//! What is found takes the place of all that was known, as a truncation does: readers look for
//! their place again. Files come and go while they are listed and opened; what does not fit
//! together is tried again for a moment before it is believed. A directory that is gone, or is
//! another topic's by now, means that the topic was deleted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::refresh::is_replaced;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::checkpoint::decode_offsets;
use crate::format::file_name;
use crate::format::metadata_file::{decode_lone_file, decode_topic_file};
use crate::partition::open::assembly::{MAX_METADATA_BYTES, stored_topic_id};
use crate::partition::open::recovery::Contents;
use crate::partition::state::seen::Seen;
use crate::partition::{PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec, Writer};
use crate::segment::Segment;
use crate::storage::{directory_of, read_file};
use crate::topic_partition::TopicPartition;

/// A writer needs less between two steps of one change.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where a look takes longer than that, what it saw may be of two times: then another decides.
const LEAST_LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(5);

impl PartitionCore {
    /// Opens a partition that another process may be writing to: what changes meanwhile is looked
    /// at again. Nothing is repaired.
    pub(crate) fn open_beside(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
    ) -> Result<(Arc<Self>, PartitionRecovery)> {
        let deadline = Deadline::after(PATIENCE);
        let (mut spec, mut looks) = (spec.clone(), 0);
        loop {
            let opened = Self::open_to_read(context, &spec);
            looks += 1;
            let is_over = looks >= LEAST_LOOKS && deadline.has_passed();
            match opened {
                Ok((core, report, looked)) => {
                    let is_still_there = looked.is_still_there(context, &spec.dir);
                    let is_sound = report.damage.is_none() && matches!(is_still_there, Ok(true));
                    if is_sound || is_over {
                        return Ok((Arc::new(core), report));
                    }
                    // The checkpoint is lowered before a cut: one that is as it was has seen no
                    // cut.
                    let stated = Stated::read(context, &spec.dir, &spec.id);
                    let recovery_point = stated.recovery_point.unwrap_or(spec.recovery_point);
                    let is_dense = spec.is_dense && stated.is_dense;
                    let is_as_it_was =
                        recovery_point >= spec.recovery_point && is_dense == spec.is_dense;
                    if is_as_it_was && matches!(is_still_there, Ok(true)) {
                        return Ok((Arc::new(core), report));
                    }
                    (spec.recovery_point, spec.is_dense) = (recovery_point, is_dense);
                }
                Err(error) if !is_passing(&error) => return Err(error),
                // Its topic was deleted since the root was listed.
                Err(_) if is_gone(context, &spec.dir) => {
                    return Err(Error::UnknownPartition(spec.id));
                }
                Err(error) if is_over => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Reads the directory anew, whatever the files look like.
    pub(crate) fn read_anew(&self) -> Result<()> {
        self.changes_by(|writer| self.reload(writer)).map(drop)
    }

    /// Looks at the end, and at the front for what the writer has deleted.
    pub(crate) fn refresh_both_ends(&self) -> Result<()> {
        if !self.context.read_only {
            return Ok(());
        }
        let look = |writer: &mut Writer| {
            self.look_at_end(writer)?;
            self.look_at_front(writer)
        };
        self.changes_by(look).map(drop)
    }

    /// Runs `look`. In a read-only log it runs again after an error, once the directory was read
    /// again, since another process may have deleted, replaced or cut what was looked at. An error
    /// is believed as soon as it comes from the same files twice.
    pub(in crate::partition) fn looking_again<T>(
        &self,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut failed_on = None;
        loop {
            let segments = self.segments().snapshot();
            let files: Vec<_> = segments
                .iter()
                .map(|segment| (segment.base_offset, segment.file_id()))
                .collect();
            match look() {
                Err(Error::Corrupt(_) | Error::Io { .. } | Error::OffsetOutOfRange { .. })
                    if self.is_read_only() && failed_on.as_ref() != Some(&files) =>
                {
                    failed_on = Some(files);
                    self.read_anew()?;
                }
                looked => return looked,
            }
        }
    }

    /// As `refresh_both_ends`, for answers that cannot say what went wrong: they stay as they were.
    pub(crate) fn try_refresh(&self) {
        let _told_by_the_next_read = self.refresh_both_ends();
    }

    /// A compaction puts one segment in the place of several, and a deletion takes the first ones
    /// away: a listing that shows other segments than those that are known is only believed if the
    /// next one shows the same. A listing that is not atomic may pass over a file that is renamed
    /// in the meantime.
    fn look_at_front(&self, writer: &mut Writer) -> Result<()> {
        let contents = self.contents()?;
        let (mut segments, active) = (
            self.segments().snapshot().to_vec(),
            writer.active.base_offset,
        );
        let is_empty = contents.logs.is_empty() && contents.swaps.is_empty();
        if is_empty || is_known(&contents, &segments, active) {
            return Ok(());
        }
        let first = contents.logs.first().copied().unwrap_or_default();
        segments.drain(
            ..segments.partition_point(|segment| {
                segment.base_offset < first && segment.base_offset < active
            }),
        );
        if contents.swaps.is_empty()
            && is_known(&contents, &segments, active)
            && self.contents()?.logs == contents.logs
        {
            self.raise_log_start(first);
            self.segments().replace(segments);
            return Ok(());
        }
        self.reload(writer)
    }

    /// The log starts here, by the writer's word; it had written up to there by then.
    pub(crate) fn follow_log_start(&self, offset: u64) {
        if offset > self.log_end_offset() {
            let _told_by_the_next_read = self.refresh();
        }
        self.raise_log_start(offset);
    }

    fn raise_log_start(&self, offset: u64) {
        self.bounds.raise_log_start(offset);
    }

    /// Whether the directory is gone or is of a later topic of this name: then the partition is
    /// deleted from now on.
    pub(crate) fn check_not_deleted(&self) -> Result<()> {
        let is_another = || {
            let stored = stored_topic_id(&self.context, self.dir());
            stored.is_some_and(|stored| self.topic_id.is_some_and(|id| id != stored))
        };
        if is_gone(&self.context, self.dir()) || is_another() {
            self.health.mark_deleted();
            self.waiters.notify();
        }
        self.check_readable()
    }

    fn contents(&self) -> Result<Contents> {
        let listed = Contents::list(&self.context, self.dir());
        if listed.is_err() {
            self.check_not_deleted()?;
        }
        listed
    }

    pub(in crate::partition) fn reload(&self, writer: &mut Writer) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            self.check_not_deleted()?;
            let contents = self.contents()?;
            let opened = match contents.logs.last().max(contents.swaps.last()) {
                // The writer has not yet created the first one.
                None if self.is_without_files(writer) => return Ok(()),
                None => Err(Error::io(
                    "find a segment in",
                    self.dir(),
                    io::ErrorKind::NotFound.into(),
                )),
                Some(last) => Self::open_beside(&self.context, &self.spec_beside(*last)),
            };
            match opened {
                Ok((fresh, _)) => {
                    // Of the topic that was here when it began.
                    self.check_not_deleted()?;
                    self.take_place(writer, &fresh);
                    return Ok(());
                }
                Err(error) if !is_passing(&error) || deadline.has_passed() => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn is_without_files(&self, writer: &Writer) -> bool {
        writer.active.size() == 0 && self.segments().snapshot().len() == 1
    }

    /// Only the last segment is in doubt, and what is above the recovery point. The log starts
    /// where the files say: what was known before may have come from a look at files that were on
    /// their way.
    fn spec_beside(&self, last: u64) -> PartitionSpec {
        let stated = Stated::read(&self.context, self.dir(), self.id());
        let now = self.spec_of_now();
        PartitionSpec {
            recovery_point: stated.recovery_point.unwrap_or(0).max(last),
            is_dense: now.is_dense && stated.is_dense,
            log_start: stated.log_start.unwrap_or(now.log_start),
            ..now
        }
    }

    /// Takes the place of all that was known, in the order of a truncation.
    fn take_place(&self, writer: &mut Writer, fresh: &Self) {
        let mut found = fresh.writer.lock();
        writer.active = Arc::clone(&found.active);
        writer.epochs = found.epochs.clone();
        writer.producers = std::mem::take(&mut found.producers);
        writer.seen = Seen::default();
        drop(found);
        if !fresh.is_dense() {
            self.allow_gaps();
        }
        self.health.set_damage(fresh.health.damage());
        // Before the list, as in a deletion: a reader that misses a segment there finds the log
        // start raised.
        let log_start = fresh.log_start_offset();
        self.raise_log_start(log_start);
        self.segments()
            .replace(fresh.segments().snapshot().to_vec());
        self.cuts.add(fresh.log_end_offset());
        self.bounds.set_log_start(log_start);
        self.publish_end(writer);
    }
}

fn is_gone(context: &PartitionContext, dir: &Path) -> bool {
    context
        .storage
        .metadata(dir)
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether a file went, or got shorter, while it was looked at: at a roll the zeros ahead of the
/// old segment are cut.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if is_replaced(source))
}

/// The line of a partition in checkpoints that it has for itself. Its directory may be renamed, and
/// have a name that a checkpoint cannot hold.
pub(crate) fn own_line() -> TopicPartition {
    TopicPartition::new("partition", 0)
}

/// What the files at the root of a log say of a partition, or its own files if it is alone.
#[derive(Debug, Default)]
struct Stated {
    /// `None`: there is no line of it that can be read.
    recovery_point: Option<u64>,
    /// 0: at its first segment. `None`: there is neither a topic file nor a checkpoint that can be
    /// read.
    log_start: Option<u64>,
    /// The writer says that a topic may have gaps before it compacts it.
    is_dense: bool,
}

impl Stated {
    fn read(context: &PartitionContext, dir: &Path, id: &TopicPartition) -> Self {
        let root = directory_of(dir);
        let read = |path: &Path| read_file(&*context.storage, path, MAX_METADATA_BYTES).ok();
        // `None`: there is no such checkpoint. `Some(None)`: it has no line of the partition.
        let line_in = |home: &Path, id: &TopicPartition, name: &str| {
            let lines = decode_offsets(&read(&home.join(name))?).ok()?;
            let its = lines
                .iter()
                .find(|(topic, partition, _)| **topic == *id.topic && *partition == id.partition);
            Some(its.map(|(_, _, offset)| *offset))
        };
        let own_line = |name: &str| line_in(dir, &own_line(), name).flatten();
        let topic_file = read(&root.join(file_name::topic_file(&id.topic)))
            .and_then(|bytes| decode_topic_file(&bytes).ok());
        let lone_file = || {
            read(&dir.join(file_name::LONE_PARTITION))
                .and_then(|bytes| decode_lone_file(&bytes).ok())
        };
        let in_file = topic_file.as_ref().map(|file| {
            file.log_starts
                .iter()
                .find(|(partition, _)| *partition == id.partition)
                .map_or(0, |(_, start)| *start)
        });
        let in_lone_file = || lone_file().map(|file| file.log_start.unwrap_or(0));
        let in_root = || line_in(root, id, file_name::LOG_STARTS).map(Option::unwrap_or_default);
        Self {
            recovery_point: line_in(root, id, file_name::RECOVERY_POINTS)
                .flatten()
                .or_else(|| own_line(file_name::RECOVERY_POINTS)),
            log_start: in_file
                .or_else(in_root)
                .or_else(in_lone_file)
                .or_else(|| own_line(file_name::LOG_STARTS)),
            is_dense: topic_file.map_or_else(
                || lone_file().is_some_and(|file| file.is_dense),
                |file| file.is_dense,
            ),
        }
    }
}

/// Whether a directory holds these segments, and may be some after `active`, the last of them.
fn is_known(contents: &Contents, segments: &[Arc<Segment>], active: u64) -> bool {
    let outputs = || {
        segments
            .iter()
            .filter(|segment| !segment.ending().is_empty())
    };
    let is_replaced = |base: u64| {
        outputs().any(|output| (output.base_offset..output.next_offset()).contains(&base))
    };
    let found = contents.segments_without(is_replaced);
    let known = segments.iter().map(|segment| segment.base_offset);
    contents
        .swaps
        .iter()
        .copied()
        .eq(outputs().map(|output| output.base_offset))
        && known.eq(found.into_iter().take_while(|base| *base <= active))
}
