//! Looks offsets up by time.
//!
//! A look-up returns the lowest *offset* whose record has the given time or a later one. It
//! searches the segments oldest first, and passes over segments whose records are all older.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::place::Place;
use crate::clock::Timestamp;
use crate::error::{At, Error, Result};
use crate::format::batch::BatchHeader;
use crate::partition::PartitionCore;
use crate::partition::state::report::SegmentInfo;
use crate::partition::state::segment_list::{self, Listed};
use crate::segment::Segment;
use crate::segment::batch_file::ReadError;
use crate::segment::index_file::TimeFloor;

/// A target of [`Partition::offset_for`](crate::partition::Partition::offset_for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The log start: the lowest offset that can be read.
    Earliest,
    /// The high watermark: a reader that starts there returns only new records.
    Latest,
    /// The first record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time.
    Timestamp(Timestamp),
}

impl From<Timestamp> for OffsetSpec {
    fn from(at: Timestamp) -> Self {
        Self::Timestamp(at)
    }
}

/// A result of [`Partition::offset_for`](crate::partition::Partition::offset_for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The offset that was looked up.
    pub offset: u64,
    /// The timestamp of the record at that offset, or `None` for [`OffsetSpec::Earliest`] and
    /// [`OffsetSpec::Latest`].
    pub timestamp: Option<Timestamp>,
}

/// The timestamp and the offset of a record, ordered by time. Among records with the same time the
/// first one is the largest.
type ByTime = (i64, Reverse<u64>);

impl PartitionCore {
    /// Looks up an offset. Searches again if segments were deleted, cut or compacted during the
    /// search.
    pub(in crate::partition) fn offset_for(
        &self,
        spec: OffsetSpec,
    ) -> Result<Option<OffsetAndTimestamp>> {
        self.check_readable()?;
        self.refresh_both_ends()?;
        loop {
            let (segments, truncations) = (self.segments().snapshot(), self.truncations());
            match self.retry_after_reread(|| self.find(spec)) {
                // The searched segments were deleted or cut in the meantime.
                Err(
                    Error::Corrupt(_)
                    | Error::BatchTooLarge(_)
                    | Error::Io { .. }
                    | Error::OffsetOutOfRange { .. },
                ) if !self.is_read_only()
                    && (truncations != self.truncations()
                        || !Arc::ptr_eq(&segments, &self.segments().snapshot())) => {}
                // The record was deleted after it was found.
                Ok(Some(found)) if found.offset < self.log_start_offset() => {}
                // The search may have seen segments that compaction replaced in the meantime.
                Ok(_) if !segment_list::still_holds(&self.segments().snapshot(), &segments) => {}
                found => return found.map_err(|error| self.or_gone(error)),
            }
        }
    }

    fn find(&self, spec: OffsetSpec) -> Result<Option<OffsetAndTimestamp>> {
        let without_time = |offset| {
            Some(OffsetAndTimestamp {
                offset,
                timestamp: None,
            })
        };
        let found = match spec {
            OffsetSpec::Earliest => without_time(self.log_start_offset()),
            OffsetSpec::Latest => without_time(self.high_watermark()),
            OffsetSpec::MaxTimestamp => self.offset_of_max()?,
            OffsetSpec::Timestamp(at) => self.first_at_or_after(at.as_millis())?,
        };
        Ok(found.filter(|found| found.timestamp.is_none() || found.offset < self.high_watermark()))
    }

    /// Returns the largest timestamp of a segment by its index, or -1 if there is none.
    pub(crate) fn max_timestamp_of(&self, segment: &Arc<Segment>) -> Result<i64> {
        if segment.size() == 0 {
            return Ok(-1);
        }
        let max = segment.max_timestamp(&self.batches(segment));
        max.at("read the index of", segment.log_path())
    }

    /// Finds the first record at or after `timestamp`.
    ///
    /// The list of segments names the next one that may have such a record. If the largest
    /// timestamp of that segment is too low, it is noted, and later searches pass over the segment.
    fn first_at_or_after(&self, timestamp: i64) -> Result<Option<OffsetAndTimestamp>> {
        let log_start = self.log_start_offset();
        let mut searched = None;
        while let Some(listed) =
            self.segments()
                .first_reaching(timestamp, |segments| match searched {
                    Some(base_offset) => segment_list::number_after(segments, base_offset),
                    None => segment_list::floor(segments, log_start),
                })
        {
            let segment = &listed.segment;
            searched = Some(segment.base_offset);
            if self.noted_max_timestamp_of(&listed)? < timestamp {
                continue;
            }
            let start = self.start_of_search(segment, timestamp)?.max(log_start);
            if let Some(found) = self.first_in(segment, start, timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the largest timestamp of a segment by its index, and lets the list note it if it
    /// does not grow any more.
    fn noted_max_timestamp_of(&self, listed: &Listed) -> Result<i64> {
        if let Some(max) = listed.max_timestamp {
            return Ok(max);
        }
        // Checked first: the segment may be sealed after its index was read.
        let is_sealed = listed.segment.is_sealed();
        let max = self.max_timestamp_of(&listed.segment)?;
        if is_sealed {
            self.segments().note_max_timestamp(listed, max);
        }
        Ok(max)
    }

    /// Returns the offset at which to start the search for the first record at or after
    /// `timestamp`.
    ///
    /// A time entry states that all records up to its offset are at or below its time. An entry
    /// that is not proven is compared with the batches first.
    fn start_of_search(&self, segment: &Arc<Segment>, timestamp: i64) -> Result<u64> {
        let floor = segment.floor_time(timestamp.saturating_sub(1), &self.batches(segment));
        let floor = floor.at("read the index of", segment.log_path())?;
        let Some(floor) = floor else {
            return Ok(segment.base_offset);
        };
        if self.matches_batches(segment, &floor)? {
            return Ok(segment.base_offset + u64::from(floor.entry.relative_offset) + 1);
        }
        let distrusted = self.distrust_index(segment);
        distrusted.at("read the index of", segment.log_path())?;
        Ok(segment.base_offset)
    }

    /// Returns whether the batch of a time entry has the time that the entry states. Unless the
    /// entry is proven, no batch since the entry before it may have a later time either.
    fn matches_batches(&self, segment: &Arc<Segment>, floor: &TimeFloor) -> Result<bool> {
        let last_offset = segment.base_offset + u64::from(floor.entry.relative_offset);
        let start = match floor.before {
            _ if floor.is_proven => last_offset,
            Some(before) => segment.base_offset + u64::from(before.relative_offset) + 1,
            None => segment.base_offset,
        };
        let mut place = self.seek(start.min(last_offset))?;
        if place.file.segment().base_offset != segment.base_offset {
            return Ok(false);
        }
        while let Some(header) = self.next_header(&mut place)? {
            if header.stated_last_offset >= last_offset {
                return Ok(header.stated_last_offset == last_offset
                    && header.max_timestamp == floor.entry.timestamp);
            }
            if header.max_timestamp > floor.entry.timestamp {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Finds the first record with the largest timestamp among those that readers can see.
    ///
    /// The timestamp in the index of a segment is at least the largest one in the segment. It is
    /// larger if records were deleted or compacted since. So the segments are searched in falling
    /// order of that timestamp, until no other segment can have a larger one.
    fn offset_of_max(&self) -> Result<Option<OffsetAndTimestamp>> {
        let readable = self.log_start_offset()..self.high_watermark();
        let segments = self.segments().snapshot();
        let mut candidates = Vec::new();
        for segment in segments
            .iter()
            .skip(segment_list::floor(&segments, readable.start))
        {
            candidates.push((self.max_timestamp_of(segment)?, segment));
        }
        candidates.sort_by_key(|(max, _)| Reverse(*max));
        let mut largest: Option<ByTime> = None;
        for (max, segment) in candidates {
            if max < 0 || largest.is_some_and(|(found, _)| found > max) {
                break;
            }
            largest = largest.max(self.largest_in(segment, max, &readable)?);
        }
        Ok(
            largest.map(|(timestamp, Reverse(offset))| OffsetAndTimestamp {
                offset,
                timestamp: Some(Timestamp::from_millis(timestamp)),
            }),
        )
    }

    /// Finds the first record with the largest timestamp in a segment. It is at most `max`.
    fn largest_in(
        &self,
        segment: &Arc<Segment>,
        max: i64,
        readable: &Range<u64>,
    ) -> Result<Option<ByTime>> {
        debug_assert!(max >= 0, "a segment without timestamps is not searched");
        let start = self.start_of_search(segment, max)?.max(readable.start);
        let found = self
            .first_in(segment, start, max)?
            .filter(|found| found.offset < readable.end);
        if let Some(OffsetAndTimestamp {
            offset,
            timestamp: Some(timestamp),
        }) = found
            && timestamp.as_millis() == max
        {
            return Ok(Some((max, Reverse(offset))));
        }
        let stated = self.stated_max(segment, readable)?;
        match self.largest_from(segment, readable, stated)? {
            Some(found) if found.0 >= stated => Ok(Some(found)),
            // The header of a batch stated a larger time than its records have.
            _ => self.largest_from(segment, readable, -1),
        }
    }

    /// Returns the largest timestamp in the headers of the batches that have a record and can be
    /// read as a whole, or -1 if there is none.
    fn stated_max(&self, segment: &Arc<Segment>, readable: &Range<u64>) -> Result<i64> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let (mut max, mut start) = (-1, place.expected);
        while let Some(header) = self.next_header(&mut place)? {
            if header.record_count > 0
                && readable.start <= start
                && header.last_offset < readable.end
            {
                max = max.max(header.max_timestamp);
            }
            start = place.expected;
        }
        Ok(max)
    }

    /// Finds the first record with the largest timestamp, in batches whose largest timestamp is at
    /// least `least`.
    fn largest_from(
        &self,
        segment: &Arc<Segment>,
        readable: &Range<u64>,
        least: i64,
    ) -> Result<Option<ByTime>> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let mut largest: Option<ByTime> = None;
        loop {
            let may_be_larger = |max| max >= least && largest.is_none_or(|(found, _)| found < max);
            let Some(batch) = self.next_fitting(&mut place, readable.end, &may_be_larger)? else {
                return Ok(largest);
            };
            for record in &batch.narrowed(readable.clone()) {
                let record = record?;
                let found = record
                    .timestamp()
                    .map(|timestamp| (timestamp.as_millis(), Reverse(record.offset())));
                largest = largest.max(found);
            }
        }
    }

    /// Finds the first record of this segment, from the offset `start` on, whose time is at or
    /// after `from`. Decodes only batches that have such a record.
    fn first_in(
        &self,
        segment: &Arc<Segment>,
        start: u64,
        from: i64,
    ) -> Result<Option<OffsetAndTimestamp>> {
        if start >= segment.next_offset() {
            return Ok(None);
        }
        let mut place = self.seek(start)?;
        if place.file.segment().base_offset != segment.base_offset {
            return Ok(None);
        }
        while let Some(batch) =
            self.next_fitting(&mut place, u64::MAX, &|largest| largest >= from)?
        {
            for record in &batch.narrowed(start..u64::MAX) {
                let record = record?;
                if let Some(timestamp) = record.timestamp()
                    && timestamp.as_millis() >= from
                {
                    return Ok(Some(OffsetAndTimestamp {
                        offset: record.offset(),
                        timestamp: Some(timestamp),
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Reads the header at the place, and moves after its batch. The checksum is not compared.
    /// Returns `None` at the end of the segment.
    fn next_header(&self, place: &mut Place) -> Result<Option<BatchHeader>> {
        let header = self.header_at(place)?;
        if let Some(header) = &header {
            place.step_over(header);
        }
        Ok(header)
    }

    /// Reads the next batch whose largest timestamp fits and that begins below `end`, and moves
    /// after it. Of the batches before it only the headers are read.
    fn next_fitting(
        &self,
        place: &mut Place,
        end: u64,
        fits: &impl Fn(i64) -> bool,
    ) -> Result<Option<Batch>> {
        while place.expected < end
            && let Some(header) = self.header_at(place)?
        {
            if !fits(header.max_timestamp) {
                place.step_over(&header);
                continue;
            }
            let limit = place.file.segment().size();
            if let Err(error) = place.check(&header, limit) {
                return Err(self.unreadable_at(place, error, limit));
            }
            let range = if header.magic < 2 {
                0..u64::MAX
            } else {
                header.base_offset..header.last_offset + 1
            };
            let at = (place.file.segment().base_offset, place.position);
            let bytes = place.file.share(place.position, &header);
            let batch = Batch::new(self.origin(), at, place.truncations, header, bytes, range);
            place.step_over(&header);
            return Ok(Some(batch));
        }
        Ok(None)
    }

    /// Reads the header at the place. Its offsets are in order.
    fn header_at(&self, place: &mut Place) -> Result<Option<BatchHeader>> {
        let limit = place.file.segment().size();
        self.header_in_order(place, limit)
            .map_err(|error| self.unreadable_at(place, error, limit))
    }

    /// Returns the error for a batch at the place that could not be read.
    fn unreadable_at(&self, place: &mut Place, error: ReadError, limit: u32) -> Error {
        let malformed = match error {
            ReadError::Io(error) => {
                return Error::io("read", place.file.segment().log_path(), error);
            }
            ReadError::Damaged(malformed) => malformed,
        };
        let (base_offset, position) = (place.file.segment().base_offset, place.position);
        match self.lost_after(place, place.expected, limit) {
            Ok(lost) => self
                .origin()
                .corrupt(base_offset, position, lost, malformed),
            Err(error) => error,
        }
    }

    /// Returns the segments in order; the last is the active one. Loads each index once, for the
    /// largest timestamp.
    pub(crate) fn segment_infos(&self) -> Result<Vec<SegmentInfo>> {
        let segments = self.segments().snapshot();
        let times = segments
            .iter()
            .map(|segment| self.max_timestamp_of(segment))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.infos_of(&segments, &times))
    }

    /// Returns the segments as [`segment_infos`](Self::segment_infos) does. A segment whose index
    /// cannot be read has no largest timestamp.
    pub(in crate::partition) fn readable_segment_infos(&self) -> Vec<SegmentInfo> {
        let segments = self.segments().snapshot();
        let time_of = |segment| self.max_timestamp_of(segment).unwrap_or(-1);
        let times: Vec<_> = segments.iter().map(time_of).collect();
        self.infos_of(&segments, &times)
    }

    fn infos_of(&self, segments: &[Arc<Segment>], max_timestamps: &[i64]) -> Vec<SegmentInfo> {
        debug_assert!(!segments.is_empty(), "a partition has at least one segment");
        let info_of = |(number, (segment, time)): (usize, (&Arc<Segment>, &i64))| {
            let next = segments.get(number + 1);
            // An append publishes the log end after its batches.
            let end = || {
                let (start, end) = (segment.base_offset, segment.next_offset());
                self.log_end_offset().clamp(start, end)
            };
            let next_offset = next.map_or_else(end, |next| next.base_offset);
            SegmentInfo {
                base_offset: segment.base_offset,
                next_offset,
                bytes: u64::from(segment.size()),
                max_timestamp: (*time >= 0).then_some(Timestamp::from_millis(*time)),
                is_active: next.is_none(),
                path: segment.log_path().to_owned(),
            }
        };
        let with_times = segments.iter().zip(max_timestamps);
        with_times.enumerate().map(info_of).collect()
    }

    /// Returns the largest timestamp of the first batch of a segment, or -1 if there is none.
    pub(crate) fn first_timestamp(&self, segment: &Arc<Segment>) -> Result<i64> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let first = self.next_header(&mut place)?;
        Ok(first.map_or(-1, |header| header.max_timestamp))
    }

    /// Returns the largest timestamp in the batch headers of the segment at `base_offset`, which
    /// retention needs before it deletes the segment. Returns `None` if no record has a timestamp,
    /// or if the segment is not in the list.
    pub(crate) fn confirmed_max_timestamp(&self, base_offset: u64) -> Result<Option<Timestamp>> {
        let segments = self.segments().snapshot();
        let Some(segment) = segments
            .iter()
            .find(|segment| segment.base_offset == base_offset)
        else {
            return Ok(None);
        };
        if let Some(max) = segment.confirmed_max_timestamp.get() {
            return Ok((*max >= 0).then_some(Timestamp::from_millis(*max)));
        }
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let mut max = -1;
        while let Some(header) = self.next_header(&mut place)? {
            max = max.max(header.max_timestamp);
        }
        if segment.is_sealed() {
            max = *segment.confirmed_max_timestamp.get_or_init(|| max);
        }
        Ok((max >= 0).then_some(Timestamp::from_millis(max)))
    }

    /// Returns the time at which the `.log` of the segment was last written, or
    /// [`Error::OffsetOutOfRange`] if the segment is not in the list.
    pub(crate) fn segment_modified(&self, base_offset: u64) -> Result<Timestamp> {
        match self.modified_of(base_offset) {
            Err(error) if error.is_not_found() => {
                // Compaction is exchanging the segment and has not renamed its file yet.
                let _replaced = self.replacing.lock();
                self.modified_of(base_offset)
            }
            found => found,
        }
    }

    fn modified_of(&self, base_offset: u64) -> Result<Timestamp> {
        let segments = self.segments().snapshot();
        let Some(segment) = segments
            .iter()
            .find(|segment| segment.base_offset == base_offset)
        else {
            return Err(self.out_of_range(base_offset));
        };
        let path = segment.log_path();
        let metadata = self.context.storage.metadata(path).at("look at", path)?;
        Ok(metadata.modified)
    }
}
