//! Reads the directory of a read-only partition again, after a writer in another process deleted,
//! cut or replaced files.
//!
//! The result replaces all that was known, as after a truncation: readers search for their place
//! again. Files appear and vanish while they are listed and opened. So a result that does not fit
//! together is retried for a moment before it is accepted. A directory that is gone, or that holds
//! another topic by now, means that the topic was deleted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::refresh::is_replaced;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::partition::open::recovery::Contents;
use crate::partition::stated::{Stated, stored_topic_id};
use crate::partition::{PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec, Writer};
use crate::segment::Segment;
use crate::storage::IfExists;

/// Longer than a writer needs between two steps of one change.
const PATIENCE: Duration = Duration::from_millis(100);
/// If one look takes longer than `PATIENCE`, it may see the files at two different times. So at
/// least this many looks are made.
const LEAST_LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(5);

impl PartitionCore {
    /// Opens a partition that another process may be writing to. Files that change in the meantime
    /// are looked at again. Repairs nothing.
    pub(crate) fn open_read_only(
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
                    // The writer lowers the checkpoint before a cut. If the checkpoint is
                    // unchanged, there was no cut.
                    let stated = Stated::read(&*context.storage, &spec.dir, &spec.id);
                    let recovery_point = stated.recovery_point.unwrap_or(spec.recovery_point);
                    let is_dense = spec.is_dense && stated.is_dense;
                    let is_unchanged =
                        recovery_point >= spec.recovery_point && is_dense == spec.is_dense;
                    if is_unchanged && matches!(is_still_there, Ok(true)) {
                        return Ok((Arc::new(core), report));
                    }
                    (spec.recovery_point, spec.is_dense) = (recovery_point, is_dense);
                }
                Err(error) if !is_passing(&error) => return Err(error),
                // The topic was deleted after the root was listed.
                Err(_) if is_gone(context, &spec.dir) => {
                    return Err(Error::UnknownPartition(spec.id));
                }
                Err(error) if is_over => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Reads the directory again, whatever the files look like.
    pub(crate) fn reread(&self) -> Result<()> {
        debug_assert!(self.context.read_only, "the writer knows its own files");
        self.notify_if_changed(|writer| self.reload(writer))
            .map(drop)
    }

    /// Looks at the end for new batches, and at the front for segments that the writer has deleted.
    pub(crate) fn refresh_both_ends(&self) -> Result<()> {
        if !self.context.read_only {
            return Ok(());
        }
        let look = |writer: &mut Writer| {
            self.look_at_end(writer)?;
            self.look_at_front(writer)
        };
        self.notify_if_changed(look).map(drop)
    }

    /// Runs `look`. In a read-only log, runs it again after an error, once the directory was read
    /// again: another process may have deleted, replaced or cut the files. An error is returned if
    /// it occurs twice with the same files.
    pub(in crate::partition) fn retry_after_reread<T>(
        &self,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut failed_on = None;
        loop {
            let segments = self.segments().snapshot();
            let error = match look() {
                Err(
                    error @ (Error::Corrupt(_) | Error::Io { .. } | Error::OffsetOutOfRange { .. }),
                ) if self.is_read_only() => error,
                looked => return looked,
            };
            let files: Vec<_> = segments
                .iter()
                .map(|segment| (segment.base_offset, segment.file_id()))
                .collect();
            if failed_on.as_ref() == Some(&files) {
                return Err(error);
            }
            failed_on = Some(files);
            self.reread()?;
        }
    }

    /// Does the same as [`refresh_both_ends`](Self::refresh_both_ends) for callers that return no
    /// error. After a failure the state stays as it was.
    pub(crate) fn try_refresh(&self) {
        let _reported_by_the_next_read = self.refresh_both_ends();
    }

    /// Looks for segments that the writer has removed or replaced.
    ///
    /// Compaction replaces several segments by one, and a deletion removes the first ones. A
    /// listing that is not atomic may also miss a file that is renamed in the meantime. So a
    /// listing that shows other segments than the known ones is accepted only if the next one shows
    /// the same.
    fn look_at_front(&self, writer: &mut Writer) -> Result<()> {
        debug_assert!(self.context.read_only, "the writer knows its own start");
        let contents = self.contents()?;
        let (mut segments, active) = (
            self.segments().snapshot().to_vec(),
            writer.active.base_offset,
        );
        let is_empty = contents.logs.is_empty() && contents.swaps.is_empty();
        if is_empty || is_known(&contents, &segments, active) {
            return self.look_after_gap(writer, &contents);
        }
        let first = contents.logs.first().copied().unwrap_or_default();
        segments.drain(
            ..segments.partition_point(|segment| {
                segment.base_offset < first && segment.base_offset < active
            }),
        );
        if contents.unnamed().next().is_none()
            && is_known(&contents, &segments, active)
            && self.contents()?.logs == contents.logs
        {
            self.raise_log_start(first);
            self.segments().replace(segments);
            return Ok(());
        }
        self.reload(writer)
    }

    /// Looks for a segment that begins at the log start, above the end that is known. The recovery
    /// of the writer creates one if the log has lost its end and ends below its start. A look at
    /// the end cannot find it, because it has another name than the next segment.
    fn look_after_gap(&self, writer: &mut Writer, contents: &Contents) -> Result<()> {
        let last = contents.logs.last().copied().unwrap_or_default();
        if last <= writer.active.next_offset() {
            return Ok(());
        }
        let stated = Stated::read(&*self.context.storage, self.dir(), self.id());
        let is_after_gap = stated.log_start.is_some_and(|start| {
            start > writer.active.next_offset() && contents.logs.contains(&start)
        });
        if is_after_gap {
            self.reload(writer)
        } else {
            Ok(())
        }
    }

    /// Raises the log start to `offset`, as the writer reported it. The writer had written up to
    /// `offset` by then.
    pub(crate) fn follow_log_start(&self, offset: u64) {
        debug_assert!(self.context.read_only, "the writer moves its own start");
        if offset > self.log_end_offset() {
            let _reported_by_the_next_read = self.refresh();
        }
        self.raise_log_start(offset);
    }

    fn raise_log_start(&self, offset: u64) {
        self.bounds.raise_log_start(offset);
    }

    /// Marks the partition as deleted if the directory is gone or belongs to a later topic of this
    /// name.
    pub(crate) fn check_not_deleted(&self) -> Result<()> {
        let is_another = || {
            let stored = stored_topic_id(&*self.context.storage, self.dir());
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
        debug_assert!(self.context.read_only, "the writer recovers in place");
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        let deadline = Deadline::after(PATIENCE);
        loop {
            self.check_not_deleted()?;
            let contents = self.contents()?;
            let opened = match contents.logs.last().max(contents.swaps.last()) {
                // The writer has not yet created the first segment.
                None if self.is_without_files(writer) => return Ok(()),
                None => Err(Error::io(
                    "find a segment in",
                    self.dir(),
                    io::ErrorKind::NotFound.into(),
                )),
                Some(last) => Self::open_read_only(&self.context, &self.spec_to_reload(*last)),
            };
            match opened {
                Ok((fresh, _)) => {
                    // The topic may have been deleted while the files were read.
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

    /// Returns the parameters for the reload. Only the last segment and the records above the
    /// recovery point are in doubt. The log start comes from the files, because the known one may
    /// come from a look at files that were being changed.
    fn spec_to_reload(&self, last: u64) -> PartitionSpec {
        let stated = Stated::read(&*self.context.storage, self.dir(), self.id());
        let now = self.spec_of_now();
        PartitionSpec {
            recovery_point: stated.recovery_point.unwrap_or(0).max(last),
            is_dense: now.is_dense && stated.is_dense,
            log_start: stated.log_start.unwrap_or(now.log_start),
            ..now
        }
    }

    /// Replaces all that was known, in the order of a truncation.
    fn take_place(&self, writer: &mut Writer, fresh: &Self) {
        debug_assert!(self.context.read_only, "the writer recovers in place");
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        let mut found = fresh.writer.lock();
        writer.active = Arc::clone(&found.active);
        writer.epochs = found.epochs.clone();
        writer.producers = std::mem::take(&mut found.producers);
        writer.seen = None;
        drop(found);
        if !fresh.is_dense() {
            self.allow_gaps();
        }
        self.health.set_damage(fresh.health.damage());
        let end = fresh.log_end_offset();
        let first_unstable = writer.producers.first_unstable_offset();
        self.begin_cut(end, first_unstable);
        // Raise the log start before the list changes, as a deletion does: a reader that misses a
        // segment in the list must find the log start raised.
        let log_start = fresh.log_start_offset();
        self.raise_log_start(log_start);
        self.publish_cut(fresh.segments().snapshot().to_vec(), end);
        self.bounds.set_log_start(log_start);
        self.publish_end(writer);
        self.end_cut(end, first_unstable);
    }
}

fn is_gone(context: &PartitionContext, dir: &Path) -> bool {
    matches!(context.storage.metadata(dir).if_exists(), Ok(None))
}

/// Returns whether a file vanished or shrank while it was read. A roll, for example, cuts the zeros
/// ahead of the old segment.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if is_replaced(source))
}

/// Returns whether a directory holds exactly these segments. It may hold more after `active`, the
/// last of them.
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
        .unnamed()
        .eq(outputs().map(|output| output.base_offset))
        && known.eq(found.into_iter().take_while(|base| *base <= active))
}
