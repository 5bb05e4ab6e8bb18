//! Reading the directory of a partition anew, beside a writer in another process that deleted, cut or replaced files.
//!
//! What is found takes the place of all that was known, as a truncation does: readers look for their place again. Files come and
//! go while they are listed and opened; what does not fit together is tried again for a moment before it is believed. A
//! directory that is gone, or is another topic's by now, means that the topic was deleted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::assembly::{MAX_METADATA_BYTES, stored_topic_id};
use super::recovery::list;
use super::refresh::{Seen, is_replaced};
use super::{DELETED, PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec, Refusal, Writer};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::checkpoint::decode_offsets;
use crate::format::file_name;
use crate::format::metadata_file::{decode_lone_file, decode_topic_file};
use crate::storage::{directory_of, read_file};
use crate::topic_partition::TopicPartition;

/// A writer needs less between two steps of one change.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where a look takes longer than that, what it saw may be of two times: then another decides.
const LEAST_LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(5);

impl PartitionCore {
    /// Opens a partition that another process may be writing to: what changes meanwhile is looked at again. Nothing is repaired.
    pub(crate) fn open_beside(context: &Arc<PartitionContext>, spec: &PartitionSpec) -> Result<(Arc<Self>, PartitionRecovery)> {
        let deadline = Deadline::after(PATIENCE);
        let (mut spec, mut looks) = (spec.clone(), 0);
        loop {
            let before = list(context, &spec.dir);
            let opened = Self::open(context, &spec);
            looks += 1;
            let is_over = looks >= LEAST_LOOKS && deadline.has_passed();
            match &opened {
                Ok((_, report)) if report.damage.is_none() || is_over => return opened,
                Ok(_) => {
                    // The checkpoint is lowered before a cut: one that stands as it was has seen no cut.
                    let recovery_point = stored_recovery_point(context, &spec.dir, &spec.id).unwrap_or(spec.recovery_point);
                    let is_dense = spec.is_dense && is_still_dense(context, &spec.dir, &spec.id);
                    let stands = recovery_point >= spec.recovery_point
                        && is_dense == spec.is_dense
                        && before.is_ok_and(|before| list(context, &spec.dir).is_ok_and(|now| now == before));
                    if stands {
                        return opened;
                    }
                    (spec.recovery_point, spec.is_dense) = (recovery_point, is_dense);
                }
                Err(error) if !is_passing(error) => return opened,
                // Its topic was deleted since the root was listed.
                Err(_) if is_gone(context, &spec.dir) => return Err(Error::UnknownPartition(spec.id)),
                Err(_) if is_over => return opened,
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

    /// As `refresh_both_ends`, for answers that cannot say what went wrong: they stay as they were.
    pub(crate) fn try_refresh(&self) {
        let _told_by_the_next_read = self.refresh_both_ends();
    }

    fn look_at_front(&self, writer: &mut Writer) -> Result<()> {
        let logs = self.list_logs()?;
        let active = writer.active.base_offset;
        let mut segments = self.segments().snapshot().to_vec();
        let Some(first) = logs.first() else { return Ok(()) };
        let gone = segments.partition_point(|segment| segment.base_offset < *first && segment.base_offset < active);
        segments.drain(..gone);
        let ours = segments.iter().map(|segment| segment.base_offset);
        if !ours.eq(logs.iter().copied().filter(|base| *base <= active)) {
            return self.reload(writer);
        }
        if gone > 0 {
            self.raise_log_start(*first);
            self.segments().replace(segments);
        }
        Ok(())
    }

    /// The log starts here, by the writer's word; it had written up to there by then.
    pub(crate) fn follow_log_start(&self, offset: u64) {
        if offset > self.log_end_offset() {
            let _told_by_the_next_read = self.refresh();
        }
        self.raise_log_start(offset);
    }

    fn raise_log_start(&self, offset: u64) {
        self.log_start.fetch_max(offset.min(self.log_end_offset()), Ordering::AcqRel);
    }

    /// Whether the directory is gone or is of a later topic of this name: then the partition is deleted from now on.
    pub(crate) fn check_not_deleted(&self) -> Result<()> {
        let is_another = || {
            let stored = stored_topic_id(&self.context, self.dir());
            stored.is_some_and(|stored| self.topic_id.is_some_and(|id| id != stored))
        };
        if is_gone(&self.context, self.dir()) || is_another() {
            self.state.store(DELETED, Ordering::SeqCst);
            self.waiters.notify();
        }
        self.check_readable()
    }

    fn list_logs(&self) -> Result<Vec<u64>> {
        match list(&self.context, self.dir()) {
            Ok(contents) => Ok(contents.logs),
            Err(error) => {
                self.check_not_deleted()?;
                Err(error)
            }
        }
    }

    pub(super) fn reload(&self, writer: &mut Writer) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            self.check_not_deleted()?;
            let logs = self.list_logs()?;
            let opened = match logs.last() {
                // The writer has not yet created the first one.
                None if self.is_without_files(writer) => return Ok(()),
                None => Err(Error::io("find a segment in", self.dir(), io::ErrorKind::NotFound.into())),
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

    /// Only the last segment is in doubt, and what is above the recovery point.
    fn spec_beside(&self, last: u64) -> PartitionSpec {
        let stored = stored_recovery_point(&self.context, self.dir(), self.id()).unwrap_or(0);
        let is_dense = self.is_dense() && is_still_dense(&self.context, self.dir(), self.id());
        PartitionSpec { recovery_point: stored.max(last), is_dense, ..self.spec_of_now() }
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
        let damage = fresh.refusal.lock().take().filter(|refusal| matches!(refusal, Refusal::Damaged(_)));
        self.has_refusal.store(damage.is_some(), Ordering::Release);
        *self.refusal.lock() = damage;
        self.segments().replace(fresh.segments().snapshot().to_vec());
        self.cuts.add(fresh.log_end_offset());
        self.publish_end(writer);
        self.log_start.store(fresh.log_start_offset(), Ordering::Release);
    }
}

fn is_gone(context: &PartitionContext, dir: &Path) -> bool {
    context.storage.metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether a file went, or got shorter, while it was looked at: at a roll the zeros ahead of the old segment are cut.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if is_replaced(source))
}

/// Whether the topic of a partition that was dense, or the partition if it is alone, is so still: the writer says that it is not
/// before it compacts it.
fn is_still_dense(context: &Arc<PartitionContext>, dir: &Path, id: &TopicPartition) -> bool {
    let read = |path: &Path| read_file(&*context.storage, path, MAX_METADATA_BYTES);
    match read(&directory_of(dir).join(file_name::topic_file(&id.topic))) {
        Ok(bytes) => decode_topic_file(&bytes).is_ok_and(|file| file.is_dense),
        Err(_) => {
            read(&dir.join(file_name::LONE_PARTITION)).is_ok_and(|bytes| decode_lone_file(&bytes).is_ok_and(|file| file.is_dense))
        }
    }
}

/// The line of a partition in checkpoints that it has for itself. Its directory may be renamed, and have a name that a
/// checkpoint cannot hold.
pub(crate) fn own_line() -> TopicPartition {
    TopicPartition::new("partition", 0)
}

/// The line of a partition in the checkpoint of its log, or in its own if it is alone; `None` where there is none that can be
/// read.
fn stored_recovery_point(context: &PartitionContext, dir: &Path, id: &TopicPartition) -> Option<u64> {
    recovery_point_in(context, directory_of(dir), id).or_else(|| recovery_point_in(context, dir, &own_line()))
}

fn recovery_point_in(context: &PartitionContext, home: &Path, id: &TopicPartition) -> Option<u64> {
    let path = home.join(file_name::RECOVERY_POINTS);
    let lines = decode_offsets(&read_file(&*context.storage, &path, MAX_METADATA_BYTES).ok()?).ok()?;
    lines
        .into_iter()
        .find(|(topic, partition, _)| **topic == *id.topic && *partition == id.partition)
        .map(|(_, _, offset)| offset)
}
