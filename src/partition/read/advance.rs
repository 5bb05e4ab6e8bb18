//! Moves a reader from one batch to the next: within a segment, to the next segment, past damage,
//! and around deletions and cuts that happen in the meantime.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::options::Isolation;
use super::place::Place;
use super::reader::Reader;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::partition::state::report::MISSING_END;
use crate::partition::state::segment_list;
use crate::partition::state::transaction_filter::TransactionFilter;
use crate::segment::batch_file::ReadError;

/// The result of one step.
enum Step {
    Batch(Batch),
    /// This step found no batch to return. The next one may.
    Again,
    /// The reader may not pass this place now.
    End,
}

/// Whether the reader returns the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Wanted,
    /// The batch has only markers or aborted records, or compaction emptied it.
    PassedOver,
    /// The segment was replaced or deleted before the transactions in it were known.
    Unknown,
}

impl Delivery {
    fn wanted_if(is_wanted: bool) -> Self {
        if is_wanted {
            Self::Wanted
        } else {
            Self::PassedOver
        }
    }
}

impl Reader {
    /// Finds the next batch. Returns `None` at the end. A reader that waits returns `None` when it
    /// is woken, or when `until` has passed.
    pub(super) fn find_batch(&mut self, until: Deadline) -> Result<Option<Batch>> {
        loop {
            if self.take_woken() {
                return Ok(None);
            }
            let signal = self.signal.get().filter(|_| self.options.wait);
            if let Some(signal) = signal {
                signal.reset();
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
                    Ok(Step::Again) => continue,
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
            let Some(signal) = self.signal.get().filter(|_| self.options.wait) else {
                return Ok(None);
            };
            if self.next >= self.end || until.has_passed() {
                return Ok(None);
            }
            self.core.wait(signal, until);
        }
    }

    /// Returns whether `from`, the offset that a step looked for, was deleted in the meantime. The
    /// result of the step then does not count: a range without a start begins again at the log
    /// start, and any other range fails.
    ///
    /// A deletion raises the log start before it changes the list of segments. So this check, which
    /// follows the step, always notices a step that missed records because of a deletion.
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

    /// Passes over the damage if the options say so. `from` is the offset that the step looked for.
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
        // The damage may contain transaction markers, so the filter is built again as well.
        (self.place, self.filter) = (None, None);
        self.skipped.push(*damage);
        Ok(())
    }

    /// Returns the part of a batch that decodes, if damage is to be passed over: the records before
    /// the first malformed one. The checksum of such a batch is right.
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

    /// Returns the offset that this reader may not pass now.
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

    /// Reads the batch at the place, and moves after it. Searches for the place first if there is
    /// none, or if the log was cut.
    fn step(&mut self, bound: u64) -> Result<Step> {
        if self
            .place
            .as_ref()
            .is_none_or(|place| place.truncations != self.core.truncations())
        {
            self.place = Some(self.core.seek(self.next)?);
            // After a cut, other transactions may have the same offsets, and the bound may be from
            // before it.
            self.filter = None;
            return Ok(Step::Again);
        }
        let Some(place) = &mut self.place else {
            unreachable!("the reader has just found its place")
        };
        // The size is read second: it no longer changes once the segment is sealed.
        let is_sealed = place.file.segment().is_sealed();
        let limit = place.file.segment().size();
        let header = match self.core.header_in_order(place, limit) {
            Ok(Some(header)) => header,
            Ok(None) if is_sealed => return self.go_to_next_segment(),
            Ok(None) => return Ok(Step::End),
            Err(error) => return self.failed(error, limit),
        };
        if header.base_offset >= bound {
            return Ok(Step::End);
        }
        debug_assert!(
            header.size_bytes <= limit - place.position,
            "the whole batch is below the published size"
        );
        if let Err(error) = place.check(&header, limit) {
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
        let delivery = self.delivery_of(&header, &batch, bound)?;
        if delivery == Delivery::Unknown {
            // The indexes no longer describe the segment that this batch is from.
            (self.place, self.filter) = (None, None);
            return Ok(Step::Again);
        }
        self.next = self
            .next
            .max(header.last_offset + 1)
            .min(self.end.max(self.next));
        Ok(if delivery == Delivery::Wanted && !range.is_empty() {
            Step::Batch(batch)
        } else {
            Step::Again
        })
    }

    /// Returns the offsets of the batch that are in the range of the reader. The header of a legacy
    /// wrapper does not contain its base offset: the wrapper begins at the end of the last batch.
    fn range_of(&self, header: &BatchHeader) -> Range<u64> {
        let base = if header.magic < 2 {
            self.next.min(header.base_offset)
        } else {
            header.base_offset
        };
        let start = base.max(self.next);
        start..(header.last_offset + 1).min(self.end).max(start)
    }

    /// Returns whether the reader returns the records of the batch. Every transaction with records
    /// below `bound` has ended, or is one that the reader leaves out.
    fn delivery_of(&mut self, header: &BatchHeader, batch: &Batch, bound: u64) -> Result<Delivery> {
        debug_assert!(
            header.base_offset < bound,
            "the transactions are known only below the bound"
        );
        if self.options.isolation == Isolation::ReadUncommitted || !header.is_transactional() {
            let has_records = !header.is_control() && header.record_count > 0;
            return Ok(Delivery::wanted_if(has_records));
        }
        if self.filter.is_none() || header.base_offset >= self.filter_end {
            // First the open ones: a transaction that is aborted in between is then in both lists.
            let open = if self.options.past_open {
                self.core.open_transactions()
            } else {
                Vec::new()
            };
            let (mut passed_over, end) = match self.core.aborted_around(header.base_offset) {
                Err(_) if self.looks_again()? => return Ok(Delivery::Unknown),
                found => found?,
            };
            self.filter_end = end.min(bound);
            passed_over.extend(open);
            // The directory may belong to a later topic with the same name by now.
            self.core.check_readable()?;
            self.filter = Some(TransactionFilter::new(passed_over));
            let segments = self.core.segments().snapshot();
            let is_listed = self
                .place
                .as_ref()
                .is_some_and(|place| segment_list::contains(&segments, place.file.segment()));
            if !is_listed {
                return Ok(Delivery::Unknown);
            }
        }
        let Some(filter) = &mut self.filter else {
            unreachable!("the filter was built for this segment")
        };
        let is_wanted = filter.delivers(header, batch.control_record());
        Ok(Delivery::wanted_if(is_wanted && header.record_count > 0))
    }

    /// Moves from the end of a segment to the next one.
    fn go_to_next_segment(&mut self) -> Result<Step> {
        let Some(place) = &self.place else {
            unreachable!("the reader is at the end of a segment")
        };
        let base_offset = place.file.segment().base_offset;
        let segments = self.core.segments().snapshot();
        if place.truncations != self.core.truncations() {
            return Ok(Step::Again);
        }
        if !segment_list::contains(&segments, place.file.segment()) {
            // The segment was deleted, or compaction replaced it with one that may end later.
            self.place = None;
            return Ok(Step::Again);
        }
        let Some(next) = segment_list::after(&segments, base_offset) else {
            let lost = place.expected..place.file.segment().next_offset();
            if lost.is_empty() {
                return Ok(Step::End);
            }
            // The last segment is sealed only if the end of the log was lost.
            let (position, malformed) = (place.position, Malformed(MISSING_END));
            self.next = lost.end;
            return Err(self
                .core
                .origin()
                .corrupt(base_offset, position, lost, malformed));
        };
        debug_assert!(
            next.base_offset > base_offset,
            "the list is in the order of the base offsets"
        );
        if next.base_offset > place.expected {
            // Records below the log start may be missing, even in the segment that contains it.
            let lost = place.expected.max(self.core.log_start_offset())..next.base_offset;
            if self.core.is_dense() && !lost.is_empty() {
                let position = place.position;
                if self.looks_again()? {
                    return Ok(Step::Again);
                }
                self.next = lost.end;
                let malformed = Malformed("segments are missing after it");
                return Err(self
                    .core
                    .origin()
                    .corrupt(base_offset, position, lost, malformed));
            }
        }
        // The place keeps the count of truncations from before the snapshot. A cut after the
        // snapshot is then noticed by the next step.
        self.place = Some(Place::at_start(Arc::clone(next), place.truncations));
        Ok(Step::Again)
    }

    /// Reads the directory of a read-only log again, and drops the place: another process may have
    /// deleted, replaced or cut the file. Returns `false` if it was already read again for this
    /// offset and file, or if the log is not read-only.
    fn looks_again(&mut self) -> Result<bool> {
        let file = self
            .place
            .as_ref()
            .and_then(|place| place.file.segment().file_id());
        if !self.core.is_read_only() || self.looked_again == Some((self.next, file)) {
            return Ok(false);
        }
        self.looked_again = Some((self.next, file));
        self.core.reread()?;
        self.place = None;
        Ok(true)
    }

    /// Handles a batch that could not be read because its file is gone, the disk refused, or it is
    /// damaged.
    fn failed(&mut self, error: ReadError, limit: u32) -> Result<Step> {
        if self.looks_again()? {
            return Ok(Step::Again);
        }
        let Some(place) = &mut self.place else {
            unreachable!("the batch was read at the place")
        };
        match error {
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                // The segment was removed before the reader could open it. The next step searches
                // for the offset in the current segments.
                self.place = None;
                Ok(Step::Again)
            }
            ReadError::Io(error) => Err(Error::io("read", place.file.segment().log_path(), error)),
            ReadError::Damaged(_) if place.truncations != self.core.truncations() => {
                Ok(Step::Again)
            }
            ReadError::Damaged(malformed) => {
                let lost = self.core.lost_after(place, self.next, limit)?;
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
