//! Cuts the end of a log.
//!
//! A file that readers may have mapped is never shrunk: the part that stays is copied to a new
//! file, which is renamed over the old one. If the cut removes the marker of a transaction that
//! leaves records, the new file ends with the marker. So a crash leaves the log as it was before
//! the cut, or as it is after it, and each transaction as it ended.
//!
//! A cut that also removes whole segments takes several steps. It first gives the new file a name
//! that [promises](super::unfinished) the cut: the next opening finishes it. If the cut is at the
//! border of two segments, the new file is that of the segment that begins there.
//!
//! A broker that starts on such a directory removes the promise, as every `.deleted` file, so for
//! the broker the cut was not made. If some segments were already removed, it was made down to the
//! end of those that are left.
//!
//! Some steps come before that, because they are right for the log before the cut and after it. The
//! recovery point is lowered, so recovery looks at everything above it. A snapshot of the producers
//! at the last border of two batches is written, and the later ones and the later leader epochs are
//! removed.
//!
//! If the log may have gaps, its remaining records may end before `end`. Then only the name of an
//! empty segment after them shows where the log ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::kept::Kept;
use super::unfinished;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::producer_snapshot::{self, ProducerEntry};
use crate::partition::keeper::Truncation;
use crate::partition::state::leader_epoch::LeaderEpochs;
use crate::partition::state::producers::ProducerStates;
use crate::partition::{Marker, Outcome, PartitionCore, Writer};
use crate::segment::Segment;
use crate::storage::{NewFile, remove_if_exists};
use crate::sync::MutexGuard;

mod kept;

/// The last segment after the cut, and its file.
struct Replacement<'a> {
    new: NewFile<'a>,
    kept: Kept,
}

impl Truncation<'_> {
    /// Keeps the transactions of these producers as they ended.
    pub(in crate::partition) fn keeping(self, producers: Vec<i64>) -> Self {
        Self { producers, ..self }
    }

    /// Returns the offset at which the log will end.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the highest recovery point that is valid at every step of the cut. The stored one is
    /// lowered to it first.
    pub(crate) fn recovery_point(&self) -> u64 {
        let (core, end) = (self.core, self.end);
        if core.is_dense() {
            return end;
        }
        // The cut segment may end anywhere from here on, because a compaction may have removed the
        // records before `end`.
        let segments = core.segments().snapshot();
        segments
            .get(last_below(&segments, end))
            .map_or(end, |cut| end.min(cut.base_offset))
    }

    /// Returns whether there is anything to cut. Fails with [`Error::OffsetOutOfRange`] below the
    /// log start, or with the reason why no cut can be made.
    pub(crate) fn is_due(&self) -> Result<bool> {
        self.core.check_truncatable()?;
        if self.end < self.core.log_start_offset() {
            return Err(self.core.out_of_range(self.end));
        }
        Ok(self.end < self.core.log_end_offset())
    }

    pub(crate) fn make(self) -> Result<()> {
        let recovery_point = self.recovery_point();
        self.core
            .truncate(self.end, recovery_point, &self.producers)
    }
}

/// Returns the index of the segment that a cut at `end` shortens.
fn last_below(segments: &[Arc<Segment>], end: u64) -> usize {
    segments
        .partition_point(|segment| segment.base_offset < end)
        .saturating_sub(1)
}

impl PartitionCore {
    pub(crate) fn truncation(&self, end: u64) -> Truncation<'_> {
        Truncation {
            core: self,
            end,
            producers: Vec::new(),
            _no_flush: self.flush.lock(),
            _replaces: self.replacing.lock(),
        }
    }

    /// Returns whether any producer has written here that is still known.
    pub(in crate::partition) fn has_producers(&self) -> bool {
        !self.writer.lock().producers.is_empty()
    }

    fn truncate(&self, end: u64, recovery_point: u64, own: &[i64]) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_truncatable()?;
        let before = self.log_end_offset();
        if end >= before {
            return Ok(());
        }
        if end < self.log_start_offset() {
            return Err(self.out_of_range(end));
        }
        self.begin_change()?;
        let _no_sync = self.commit.take_turn();
        let segments = self.segments().snapshot();
        let (left, gone) = segments.split_at(last_below(&segments, end) + 1);
        let (left, gone) = (left.to_vec(), gone.to_vec());
        debug_assert!(
            gone.iter().all(|gone| gone.base_offset >= end),
            "only whole segments above the cut are removed"
        );
        drop(segments);
        let Some(cut) = left.last().map(Arc::clone) else {
            unreachable!("a partition has at least one segment")
        };
        let mut kept = self.kept_below(&cut, end)?;
        let producers = self.producers_at(&writer, end)?;
        let mut markers = self.encode_markers(
            &writer,
            &self.markers_above(&writer, &producers, end, own)?,
            end,
        )?;
        let whole_end = kept.rest.as_ref().map_or(end, |_| kept.next_offset);
        let is_whole = kept.bytes == cut.size() && cut.base_offset < end;
        if is_whole && !gone.is_empty() {
            kept = Kept::empty(end);
        }
        let is_promised = !gone.is_empty();
        let path = self.path_of_kept(kept.base_offset, is_promised);
        let replacement = if is_whole && !is_promised && markers.is_empty() {
            None
        } else {
            let new = self.write_kept(&cut, &mut kept, &mut markers, &path)?;
            Some(Replacement { new, kept })
        };
        let below = (whole_end < end).then(|| self.producers_at(&writer, whole_end));
        let below = below.transpose()?;
        self.snapshot_below_cut(&mut writer, whole_end, below.as_ref().unwrap_or(&producers))?;
        // Up to here nothing has changed.
        debug_assert!(recovery_point <= end, "no recovery point is above the cut");
        self.bounds.lower_recovery_point(recovery_point);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.begin_cut(end, producers.first_unstable_offset());
        if is_whole {
            // The segment may end above its batches: the end of the log was lost.
            cut.lower_end(end);
        }
        self.cut(&mut writer, left, &gone, replacement, end)
            .inspect_err(|error| {
                // The cut is half done. Only opening the partition again can find the end of the
                // log.
                self.health.poison(io::Error::other(error.to_string()));
                if self.log_end_offset() == before {
                    // Readers still have all segments, and may read them to the end.
                    let first_unstable = writer.producers.first_unstable_offset();
                    self.bounds.set_first_unstable(first_unstable);
                }
            })?;
        self.end_cut(end, writer.producers.first_unstable_offset());
        self.health.forget_damage_from(end);
        self.assert_segments(&writer);
        drop(writer);
        self.waiters.notify();
        Ok(())
    }

    /// Returns the path of the new file. With `is_promised`, its name promises the cut.
    fn path_of_kept(&self, base_offset: u64, is_promised: bool) -> PathBuf {
        if is_promised {
            unfinished::cut_path(self.dir(), base_offset)
        } else {
            self.home.path(base_offset, file_name::LOG)
        }
    }

    /// Writes a snapshot of the producers at `whole_end`, if there are any producers or earlier
    /// snapshots. The log has the same batches below it before the cut and after it.
    fn snapshot_below_cut(
        &self,
        writer: &mut Writer,
        whole_end: u64,
        producers: &ProducerStates,
    ) -> Result<()> {
        if producers.is_empty() && !writer.had_producers {
            return Ok(());
        }
        let bytes = producer_snapshot::encode(&producers.entries());
        let stored = self.store_snapshot(whole_end, &bytes);
        stored.at("write a snapshot in", self.dir())?;
        writer.had_producers = true;
        Ok(())
    }

    /// Returns the markers at and above `end` of transactions that have records below it, if their
    /// producer is one of `own`. `left` are the producers at `end`.
    ///
    /// Without its marker such a transaction would be open. The next one of its producer would
    /// continue it, and its end would be the end of both.
    fn markers_above(
        &self,
        writer: &Writer,
        left: &ProducerStates,
        end: u64,
        own: &[i64],
    ) -> Result<Vec<Marker>> {
        let is_ended = |entry: &ProducerEntry| {
            let open = writer.producers.open_transaction_of(entry.producer_id);
            open.is_none_or(|first| first >= end)
        };
        let mut ended = left
            .with_open_transaction()
            .filter(|entry| own.contains(&entry.producer_id) && is_ended(entry))
            .filter_map(|entry| Some((entry, entry.current_transaction_first_offset?)))
            .peekable();
        if ended.peek().is_none() {
            return Ok(Vec::new());
        }
        let aborted = match self.aborted_transactions(end) {
            // A cut also removes damage. If it hides how a transaction ended, the transaction is
            // open.
            Err(Error::Corrupt(_)) => return Ok(Vec::new()),
            aborted => aborted?,
        };
        let outcome = |producer_id: i64, first: u64| {
            let is_aborted = aborted.iter().any(|aborted| {
                aborted.producer_id == producer_id
                    && (aborted.first_offset..aborted.last_offset).contains(&first)
            });
            if is_aborted {
                Outcome::Aborted
            } else {
                Outcome::Committed
            }
        };
        let markers = ended.map(|(entry, first)| Marker {
            producer_id: entry.producer_id,
            producer_epoch: entry.producer_epoch,
            outcome: outcome(entry.producer_id, first),
            coordinator_epoch: 0,
        });
        Ok(markers.collect())
    }

    pub(in crate::partition) fn check_truncatable(&self) -> Result<()> {
        // A damaged partition may be truncated, which is one way to repair it.
        self.check_readable()?;
        self.context.check_not_read_only()?;
        self.health.check_not_poisoned()
    }

    /// Removes the segments in `gone`. If there is a `replacement`, it becomes the last segment.
    fn cut(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        mut left: Vec<Arc<Segment>>,
        gone: &[Arc<Segment>],
        replacement: Option<Replacement<'_>>,
        end: u64,
    ) -> Result<()> {
        let mut epochs = writer.epochs.clone();
        if epochs.truncate_end(end) {
            self.store_epochs(writer, epochs.clone())?;
        }
        self.remove_snapshots(|at| at > end)?;
        self.context.sync_dir(self.dir())?;
        let is_replaced = replacement.is_some();
        let mut marked_end = end;
        if let Some(Replacement { new, kept }) = replacement {
            marked_end = end.max(kept.next_offset);
            if gone.is_empty() {
                self.replace_log(&mut left, new, kept)?;
            } else {
                new.put_in_place().at("promise a cut of", self.dir())?;
                self.context.sync_dir(self.dir())?;
                self.remove_gone(&left, gone, end)?;
                self.put_promised_in_place(&mut left, kept)?;
            }
        }
        self.publish_cut(left.clone(), end);
        self.bounds.set_log_end(marked_end);
        let Some(last) = left.pop() else {
            unreachable!("the segment that was cut is left")
        };
        self.start_active(writer, Arc::clone(&last));
        self.has_new_digests.store(true, Ordering::Release);
        // Again, because the cut may have shortened the last batch of a producer, and the markers
        // have ended transactions.
        writer.producers = self.producers_at(writer, marked_end)?;
        if is_replaced && (writer.had_producers || !writer.producers.is_empty()) {
            // The cut removed the transaction index, and a broker takes a missing index for an
            // empty one.
            let segments = self.segments().snapshot();
            self.learn_aborted(&segments, segments.len().saturating_sub(1), &mut None)?;
        }
        if marked_end > end {
            if epochs.assign(writer.leader_epoch, end) {
                self.store_epochs(writer, epochs)?;
            }
        } else if last.is_sealed() || last.next_offset() < end {
            // No batch shows where the log ends, so the name of an empty segment has to.
            self.roll(writer, end)?;
            self.context.sync_dir(self.dir())?;
        }
        Ok(())
    }

    fn store_epochs(&self, writer: &mut Writer, epochs: LeaderEpochs) -> Result<()> {
        epochs
            .store(&*self.context.storage, self.dir())
            .at("write the leader epochs of", self.dir())?;
        writer.epochs = epochs;
        Ok(())
    }

    /// Removes the segments after those that are `left`, the last one first: a broker that finds
    /// some of them finds no gap before them.
    fn remove_gone(&self, left: &[Arc<Segment>], gone: &[Arc<Segment>], end: u64) -> Result<()> {
        if let (Some(first), Some(last)) = (gone.first(), left.last()) {
            // Between the last batch and the cut there may be no records any more.
            let end = last.next_offset().max(end).min(first.base_offset);
            self.publish_cut(left.to_vec(), end);
        }
        gone.iter()
            .rev()
            .try_for_each(|segment| self.remove_truncated(segment))
    }

    /// Stops readers of committed records where they stop both before and after a cut. The log will
    /// end at `end`, and its first open transaction will begin at `first_unstable`: the cut may
    /// remove the marker of a transaction.
    pub(in crate::partition) fn begin_cut(&self, end: u64, first_unstable: Option<u64>) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        self.bounds
            .lower_first_unstable(first_unstable.map_or(end, |first| first.min(end)));
    }

    /// Ends a cut that was published. A reader that loaded a bound in between searches again, and
    /// so does not use it.
    pub(in crate::partition) fn end_cut(&self, end: u64, first_unstable: Option<u64>) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        self.bounds.set_first_unstable(first_unstable);
        self.cuts.add(end);
    }

    /// Publishes a cut in this order: a reader that finds the log end below its place also finds
    /// that it must search again, and then finds the new segments.
    pub(in crate::partition) fn publish_cut(&self, segments: Vec<Arc<Segment>>, end: u64) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        debug_assert!(!segments.is_empty(), "a partition has at least one segment");
        self.segments().replace(segments);
        self.cuts.add(end);
        self.bounds.set_log_end(end);
    }

    /// Replaces the last of `left` in one step.
    fn replace_log(&self, left: &mut [Arc<Segment>], new: NewFile<'_>, kept: Kept) -> Result<()> {
        let Some(cut) = left.last_mut() else {
            unreachable!("the segment that was cut is left")
        };
        self.prepare_replacement(cut)?;
        new.put_in_place().at("truncate", cut.log_path())?;
        self.context.sync_dir(self.dir())?;
        *cut = self.open_kept(kept);
        Ok(())
    }

    /// Gives the new file of a promised cut its name. The other segments are removed.
    fn put_promised_in_place(&self, left: &mut Vec<Arc<Segment>>, kept: Kept) -> Result<()> {
        let base_offset = kept.base_offset;
        if let Some(cut) = left.pop_if(|last| last.base_offset == base_offset) {
            self.prepare_replacement(&cut)?;
        }
        unfinished::put_cut_in_place(&*self.context.storage, self.dir(), base_offset)?;
        left.push(self.open_kept(kept));
        Ok(())
    }

    /// Removes the indexes of a segment that is about to be replaced.
    fn prepare_replacement(&self, cut: &Segment) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        // Readers must be able to continue if a later step fails.
        cut.keep_open().at("open", cut.log_path())?;
        for suffix in file_name::INDEXES {
            let path = cut.path(suffix);
            remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
        }
        Ok(())
    }

    fn remove_truncated(&self, segment: &Arc<Segment>) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        let path = segment.log_path();
        segment.prepare_removal().at("open", path)?;
        for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
            let path = segment.path(suffix);
            remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
        }
        Ok(())
    }
}
