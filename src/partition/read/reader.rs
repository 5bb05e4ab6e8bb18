//! Reading batch by batch: from a place found once, walking on from segment to segment without the
//! writer's lock.

use std::fmt;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, RecordView, RecordWalk};
use super::options::{Isolation, ReadOptions};
use super::seek::Place;
use crate::clock::Deadline;
use crate::error::{Corruption, Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::partition::state::report::MISSING_END;
use crate::partition::state::segment_list;
use crate::partition::state::transaction_filter::TransactionFilter;
use crate::partition::state::waiting::{Signal, Waker};
use crate::partition::{KeepOpen, PartitionCore};
use crate::segment::batch_file::ReadError;

/// Reads a partition: an iterator over checked [`Batch`]es, or [record by
/// record](Self::next_record).
///
/// A reader finds its place once and then walks on; it takes no lock that an append holds while it
/// writes. It outlives the handle it came from. After an error it returns `None`;
/// [`next_offset`](Self::next_offset) is then the offset at which a new reader can continue.
///
/// # When records are deleted
/// Retention and [`delete_records_before`](crate::partition::Partition::delete_records_before) may
/// raise the log start while a reader is open. A reader never returns a batch that begins below the
/// log start, and it never passes over deleted records in silence:
///
/// - If the log start has passed the next offset of the reader, its next call returns
///   [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange) with that offset. After it the
///   reader is at its end, and [`next_offset`](Self::next_offset) is the log start.
/// - A range without a start (`..`) begins wherever the log starts when the first batch is
///   returned, so it fails on a deletion only after that.
/// - A batch that was returned before the deletion stays readable, also record by record.
///
/// Records that compaction removed are not deleted in this sense: the reader continues with the
/// next record that is left.
pub struct Reader {
    core: Arc<PartitionCore>,
    _keep: KeepOpen,
    options: ReadOptions,
    /// Next offset to give.
    next: u64,
    /// Whether the range has no start and no batch of it was returned yet: then it begins at the
    /// log start of the moment.
    is_at_log_start: bool,
    /// Offset to stop at.
    end: u64,
    place: Option<Place>,
    signal: Arc<Signal>,
    filter: Option<TransactionFilter>,
    /// Where the filter ends: it knows nothing of the transactions from there on.
    filter_end: u64,
    /// The batch that `next_record` is in, and `walk` its place there: over nothing once the reader
    /// failed.
    current: Option<Batch>,
    walk: RecordWalk,
    has_failed: bool,
    /// Damage that was passed over and not told yet.
    skipped: Vec<Corruption>,
    /// In a read-only log: the offset and the file at which nothing could be read, when the
    /// directory was last read again.
    looked_again: Option<(u64, Option<u64>)>,
}

/// What one step found.
enum Step {
    Batch(Batch),
    /// Nothing to hand out here, but there may be behind it.
    GoOn,
    End,
}

impl Reader {
    pub(crate) fn new(
        core: &Arc<PartitionCore>,
        keep: KeepOpen,
        offsets: &impl RangeBounds<u64>,
        options: ReadOptions,
    ) -> Result<Self> {
        core.check_readable()?;
        core.refresh_both_ends()?;
        let (log_start, log_end) = (core.log_start_offset(), core.log_end_offset());
        let is_at_log_start = matches!(offsets.start_bound(), Bound::Unbounded);
        let next = match offsets.start_bound() {
            Bound::Unbounded => log_start,
            Bound::Included(offset) => *offset,
            Bound::Excluded(offset) => offset.saturating_add(1),
        };
        if !is_at_log_start && !(log_start..=log_end).contains(&next) {
            return Err(Error::OffsetOutOfRange {
                partition: core.id().clone(),
                requested: next,
                log_start,
                log_end,
            });
        }
        let end = match offsets.end_bound() {
            Bound::Unbounded => u64::MAX,
            Bound::Included(offset) => offset.saturating_add(1),
            Bound::Excluded(offset) => *offset,
        };
        let signal = Signal::new();
        if options.wait {
            core.waiters().register(&signal);
        }
        let core = Arc::clone(core);
        let (place, filter, current) = (None, None, None);
        let (walk, has_failed, skipped, looked_again) =
            (RecordWalk::default(), false, Vec::new(), None);
        Ok(Self {
            core,
            _keep: keep,
            options,
            next,
            is_at_log_start,
            end,
            place,
            signal,
            filter,
            filter_end: 0,
            current,
            walk,
            has_failed,
            skipped,
            looked_again,
        })
    }

    /// The next record, over all batches; `None` at the end of the range, or when
    /// [woken](Waker::wake). It borrows from the reader until the next call.
    #[expect(
        clippy::inline_always,
        reason = "a call would pass a record of a dozen words through memory"
    )]
    #[inline(always)]
    pub fn next_record(&mut self) -> Result<Option<RecordView<'_>>> {
        // First make sure that there is a record, then borrow it: a borrow that leaves a loop on
        // one way would last on all.
        let has_next = self.walk.is_at_record() || self.has_next_of_any_kind();
        if !has_next && !self.load_batch(Deadline::never())? || self.signal.take_woken() {
            return Ok(None);
        }
        let Some(batch) = &self.current else {
            return Ok(None);
        };
        if let Some(record) = self.walk.next_quickly(batch) {
            self.next = record.offset() + 1;
            return Ok(Some(record));
        }
        match self.walk.next_of_any_kind(batch) {
            Some(Ok(record)) => {
                self.next = record.offset() + 1;
                Ok(Some(record))
            }
            Some(Err(error)) => {
                // The error speaks of the whole batch.
                self.next = self.next.max(batch.offsets().end);
                self.has_failed = true;
                self.walk = RecordWalk::default();
                Err(error)
            }
            None => Ok(None),
        }
    }

    /// Reads the next record as [`next_record`](Self::next_record) does, and waits for it no longer
    /// than `timeout`. Returns `None` as well if the time is over; the reader can be asked again.
    ///
    /// Only a reader that [follows](crate::partition::Partition::follow) waits; any other returns
    /// `None` at its end at once.
    ///
    /// # Errors
    /// As of `next_record`.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # use std::time::Duration;
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// let mut reader = orders.follow(..)?;
    /// assert!(reader.next_record_timeout(Duration::from_millis(1))?.is_none());
    /// orders.append("paid")?;
    /// assert!(reader.next_record_timeout(Duration::from_secs(10))?.is_some());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn next_record_timeout(&mut self, timeout: Duration) -> Result<Option<RecordView<'_>>> {
        let has_next = self.walk.is_at_record() || self.has_next_of_any_kind();
        if !has_next && !self.load_batch(Deadline::after(timeout))? {
            return Ok(None);
        }
        self.next_record()
    }

    #[inline(never)]
    fn has_next_of_any_kind(&self) -> bool {
        !self.has_failed
            && self
                .current
                .as_ref()
                .is_some_and(|batch| self.walk.has_next(batch))
    }

    /// Goes on to the next batch that has a record; `false` at the end.
    #[inline(never)]
    fn load_batch(&mut self, until: Deadline) -> Result<bool> {
        loop {
            self.walk = RecordWalk::default();
            if let Some(batch) = self.current.take() {
                self.next = self.next.max(batch.offsets().end);
            }
            let Some(batch) = self.next_batch(until) else {
                return Ok(false);
            };
            let batch = batch?;
            self.walk = batch.walk().inspect_err(|_| self.has_failed = true)?;
            self.next = batch.offsets().start;
            let has_next = self.walk.has_next(&batch);
            self.current = Some(batch);
            if has_next {
                return Ok(true);
            }
        }
    }

    /// Where a later read goes on: behind the last record or batch that was given, also where
    /// nothing but transaction markers or aborted records stood behind it.
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// Wakes this reader from any thread.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.signal))
    }

    /// What a follower does from time to time.
    #[cfg(test)]
    pub(crate) fn look(&self) -> Result<bool> {
        self.core.refresh()
    }

    fn next_batch(&mut self, until: Deadline) -> Option<Result<Batch>> {
        if self.has_failed {
            return None;
        }
        let found = self.find_batch(until);
        self.has_failed = found.is_err();
        found.transpose()
    }

    /// Finds the next batch; `None` at the end, and of a reader that waits when it is woken or at
    /// `until`.
    fn find_batch(&mut self, until: Deadline) -> Result<Option<Batch>> {
        loop {
            if self.signal.take_woken() {
                return Ok(None);
            }
            if self.options.wait {
                self.signal.reset();
            }
            self.core.check_readable()?;
            let bound = self.bound();
            if self.next < bound.min(self.end) {
                let from = self.next;
                let step = self.step(bound);
                if self.has_lost_start(from)? {
                    continue;
                }
                match step {
                    Ok(Step::Batch(batch)) => match self.sound_part(batch)? {
                        Some(batch) => {
                            self.is_at_log_start = false;
                            return Ok(Some(batch));
                        }
                        None => continue,
                    },
                    Ok(Step::GoOn) => continue,
                    Ok(Step::End) => {}
                    Err(error) => {
                        self.skip(from, self.core.or_gone(error))?;
                        continue;
                    }
                }
            }
            if self.next < self.end && self.core.refresh()? {
                continue;
            }
            if !self.options.wait || self.next >= self.end || until.has_passed() {
                return Ok(None);
            }
            self.core.wait(&self.signal, until);
        }
    }

    /// Whether `from`, the offset that a step looked for, was deleted, so that whatever the step
    /// found does not count. A range without a start then begins at the log start; for any other
    /// range this is an error.
    ///
    /// A deletion raises the log start before it changes the list of segments. So a step that has
    /// missed records because of a deletion is always noticed here, after the step.
    fn has_lost_start(&mut self, from: u64) -> Result<bool> {
        let log_start = self.core.log_start_offset();
        if from >= log_start {
            return Ok(false);
        }
        let error = self.core.out_of_range(from);
        self.next = log_start;
        (self.place, self.filter) = (None, None);
        if self.is_at_log_start {
            Ok(true)
        } else {
            Err(error)
        }
    }

    /// Goes on behind the damage, where that is asked for; `from` is the offset that was looked
    /// for.
    fn skip(&mut self, from: u64, error: Error) -> Result<()> {
        let damage = match error {
            Error::Corrupt(damage) if self.options.skip_corrupt => damage,
            error => return Err(error),
        };
        let end = damage.offsets.end.min(self.core.log_end_offset());
        if end <= from {
            return Err(Error::Corrupt(damage));
        }
        self.next = end;
        // Markers may be among what is passed over: both are looked for again.
        (self.place, self.filter) = (None, None);
        self.skipped.push(*damage);
        Ok(())
    }

    /// Of a batch with a good checksum, what stands before a malformed record, where damage is to
    /// be passed over.
    fn sound_part(&mut self, batch: Batch) -> Result<Option<Batch>> {
        if !self.options.skip_corrupt {
            return Ok(Some(batch));
        }
        let mut end = batch.offsets().start;
        for record in &batch {
            match record {
                Ok(record) => end = record.offset() + 1,
                Err(Error::Corrupt(mut damage)) => {
                    damage.offsets.start = end;
                    self.skipped.push(*damage);
                    let rest = batch.sound_below(end);
                    return Ok(Some(rest).filter(|rest| !rest.offsets().is_empty()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(batch))
    }

    /// Damage that this reader passed over since the last call, in the order of the offsets: with
    /// [`ReadOptions::skip_corrupt`]. It is told with the batch behind it at the latest. Offsets
    /// between two records that were read, and that are not told here, never had a record to give
    /// out, or it was compacted.
    pub fn take_skipped(&mut self) -> Vec<Corruption> {
        std::mem::take(&mut self.skipped)
    }

    /// Offset that this reader may not pass now.
    pub(in crate::partition) fn bound(&self) -> u64 {
        let end = if self.options.unsynced {
            self.core.log_end_offset()
        } else {
            self.core.high_watermark()
        };
        match self.options.isolation {
            Isolation::ReadCommitted if !self.options.past_open => self.core.stable_end(end),
            Isolation::ReadCommitted | Isolation::ReadUncommitted => end,
        }
    }

    /// Looks at the batch at the place, and moves behind it.
    fn step(&mut self, bound: u64) -> Result<Step> {
        if self
            .place
            .as_ref()
            .is_none_or(|place| place.truncations != self.core.truncations())
        {
            self.place = Some(self.core.seek(self.next)?);
            // After a cut other transactions may have the same offsets.
            self.filter = None;
        }
        let Some(place) = &mut self.place else {
            return Ok(Step::End);
        };
        // Sealed first: the size of a sealed segment moves no more.
        let is_sealed = place.file.segment().is_sealed();
        let limit = place.file.segment().size();
        let header = match place.file.header_at(place.position, limit) {
            Ok(Some(header)) => header,
            Ok(None) if is_sealed => return self.go_to_next_segment(),
            Ok(None) => return Ok(Step::End),
            Err(error) => return self.failed(error, limit),
        };
        if let Err(malformed) = self.core.check_order(place, &header) {
            return self.failed(malformed.into(), limit);
        }
        if header.base_offset >= bound {
            return Ok(Step::End);
        }
        if let Err(error) = place.file.checked(place.position, &header, limit) {
            return self.failed(error, limit);
        }
        let bytes = place.file.share(place.position, &header);
        let (at, cuts_seen) = (
            (place.file.segment().base_offset, place.position),
            place.truncations,
        );
        place.step_over(&header);
        let range = self.range_of(&header);
        let batch = Batch::new(
            self.core.origin(),
            at,
            cuts_seen,
            header,
            bytes,
            range.clone(),
        );
        let Some(is_wanted) = self.delivers(&header, &batch, bound)? else {
            // What the indexes say now is not about the segment that this batch is from.
            (self.place, self.filter) = (None, None);
            return Ok(Step::GoOn);
        };
        self.next = self
            .next
            .max(header.last_offset + 1)
            .min(self.end.max(self.next));
        Ok(if is_wanted && !range.is_empty() {
            Step::Batch(batch)
        } else {
            Step::GoOn
        })
    }

    /// What of a batch's offsets was asked for. A legacy wrapper does not tell its base: it begins
    /// where the last batch ended.
    fn range_of(&self, header: &BatchHeader) -> Range<u64> {
        let base = if header.magic < 2 {
            self.next.min(header.base_offset)
        } else {
            header.base_offset
        };
        let start = base.max(self.next);
        start..(header.last_offset + 1).min(self.end).max(start)
    }

    /// Whether records of the batch are handed out; `None` where its segment was replaced or
    /// deleted before that was known. All transactions with data below `bound` have ended, or are
    /// passed over.
    fn delivers(
        &mut self,
        header: &BatchHeader,
        batch: &Batch,
        bound: u64,
    ) -> Result<Option<bool>> {
        if self.options.isolation == Isolation::ReadUncommitted || !header.is_transactional() {
            return Ok(Some(!header.is_control() && header.record_count > 0));
        }
        if self.filter.is_none() || header.base_offset >= self.filter_end {
            let (mut passed_over, end) = match self.core.aborted_around(header.base_offset) {
                Err(_) if self.looks_again()? => return Ok(None),
                found => found?,
            };
            self.filter_end = end.min(bound);
            if self.options.past_open {
                passed_over.extend(self.core.open_transactions());
            }
            // What was found may be of a later topic of this name.
            self.core.check_readable()?;
            self.filter = Some(TransactionFilter::new(passed_over));
            let segments = self.core.segments().snapshot();
            let is_listed = self
                .place
                .as_ref()
                .is_some_and(|place| segment_list::contains(&segments, place.file.segment()));
            if !is_listed {
                return Ok(None);
            }
        }
        let Some(filter) = &mut self.filter else {
            return Ok(Some(false));
        };
        let control = batch.control_record();
        Ok(Some(
            filter.delivers(header, control) && header.record_count > 0,
        ))
    }

    /// The segment is read to its end: on to the next one.
    fn go_to_next_segment(&mut self) -> Result<Step> {
        let Some(place) = &self.place else {
            return Ok(Step::End);
        };
        let base_offset = place.file.segment().base_offset;
        let segments = self.core.segments().snapshot();
        if place.truncations != self.core.truncations() {
            return Ok(Step::GoOn);
        }
        if !segment_list::contains(&segments, place.file.segment()) {
            // Compaction put another in its place, which may continue after its end, or it was
            // deleted.
            self.place = None;
            return Ok(Step::GoOn);
        }
        let Some(next) = segment_list::after(&segments, base_offset) else {
            let lost = place.expected..place.file.segment().next_offset();
            if lost.is_empty() {
                return Ok(Step::End);
            }
            // Only a log whose end was lost ends in a sealed segment.
            let (position, malformed) = (place.position, Malformed(MISSING_END));
            self.next = lost.end;
            return Err(self
                .core
                .origin()
                .corrupt(base_offset, position, lost, malformed));
        };
        if next.base_offset > place.expected {
            // What was deleted may be missing, also of a segment that the log starts in.
            let lost = place.expected.max(self.core.log_start_offset())..next.base_offset;
            if self.core.is_dense() && !lost.is_empty() {
                let position = place.position;
                if self.looks_again()? {
                    return Ok(Step::GoOn);
                }
                self.next = lost.end;
                let malformed = Malformed("segments are missing behind it");
                return Err(self
                    .core
                    .origin()
                    .corrupt(base_offset, position, lost, malformed));
            }
        }
        // Of before the snapshot: of a later truncation the segment knows nothing.
        self.place = Some(Place::at_start(Arc::clone(next), place.truncations));
        Ok(Step::GoOn)
    }

    /// In a read-only log, once for each place in each file: reads the directory again, since
    /// another process may have deleted, replaced or cut what is here, and looks for the place
    /// again.
    fn looks_again(&mut self) -> Result<bool> {
        let file = self
            .place
            .as_ref()
            .and_then(|place| place.file.segment().file_id());
        if !self.core.is_read_only() || self.looked_again == Some((self.next, file)) {
            return Ok(false);
        }
        self.looked_again = Some((self.next, file));
        self.core.read_anew()?;
        self.place = None;
        Ok(true)
    }

    /// A batch could not be read: its file is gone, the disk refused, or it is damaged.
    fn failed(&mut self, error: ReadError, limit: u32) -> Result<Step> {
        if self.looks_again()? {
            return Ok(Step::GoOn);
        }
        let Some(place) = &mut self.place else {
            return Ok(Step::End);
        };
        match error {
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                // The segment went before anybody could hold it: look the offset up in what is
                // there now.
                self.place = None;
                Ok(Step::GoOn)
            }
            ReadError::Io(error) => Err(Error::io("read", place.file.segment().log_path(), error)),
            ReadError::Damaged(_) if place.truncations != self.core.truncations() => Ok(Step::GoOn),
            ReadError::Damaged(malformed) => {
                let lost = self.core.lost_behind(place, self.next, limit)?;
                let (base_offset, position) = (place.file.segment().base_offset, place.position);
                self.next = lost.end;
                Err(self
                    .core
                    .origin()
                    .corrupt(base_offset, position, lost, malformed))
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        // What `next_record` left of its batch comes first.
        if let Some(batch) = self.current.take()
            && !self.has_failed
        {
            if self.signal.take_woken() {
                self.current = Some(batch);
                return None;
            }
            self.walk = RecordWalk::default();
            let rest = batch.narrowed(self.next..u64::MAX);
            self.next = self.next.max(batch.offsets().end);
            if !rest.offsets().is_empty() {
                return Some(Ok(rest));
            }
        }
        self.next_batch(Deadline::never())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reader");
        shown
            .field("partition", self.core.id())
            .field("next_offset", &self.next)
            .field("has_failed", &self.has_failed);
        shown
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.options.wait && self.core.context().opener.is_this_process() {
            self.core.waiters().unregister(&self.signal);
        }
    }
}
