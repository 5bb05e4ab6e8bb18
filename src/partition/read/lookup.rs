//! Looking offsets up by time.
//!
//! The answer to a time is the earliest *offset* whose record has that time or a later one.
//! Segments are asked oldest first; a segment without timestamps is passed over.

use std::cmp::Reverse;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::seek::Place;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::batch::BatchHeader;
use crate::partition::PartitionCore;
use crate::partition::state::segment_list;
use crate::segment::Segment;
use crate::segment::batch_file::ReadError;
use crate::segment::index_file::TimeFloor;

/// What [`Partition::offset_for`](crate::partition::Partition::offset_for) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The log start.
    Earliest,
    /// The high watermark: what a reader that starts there gets is new.
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

/// What [`Partition::offset_for`](crate::partition::Partition::offset_for) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The offset.
    pub offset: u64,
    /// The timestamp of the record there; `None` for the earliest and the latest offset.
    pub timestamp: Option<Timestamp>,
}

/// Timestamp and offset of a record, in the order of their times. Of equal times the first record
/// is the largest.
type ByTime = (i64, Reverse<u64>);

impl PartitionCore {
    pub(in crate::partition) fn offset_for(
        &self,
        spec: OffsetSpec,
    ) -> Result<Option<OffsetAndTimestamp>> {
        self.check_readable()?;
        self.refresh_both_ends()?;
        loop {
            let (segments, truncations) = (self.segments().snapshot(), self.truncations());
            match self.retry_after_reread(|| self.find(spec)) {
                // What it went through was deleted or cut meanwhile.
                Err(
                    Error::Corrupt(_)
                    | Error::BatchTooLarge(_)
                    | Error::Io { .. }
                    | Error::OffsetOutOfRange { .. },
                ) if !self.is_read_only()
                    && (truncations != self.truncations()
                        || !Arc::ptr_eq(&segments, &self.segments().snapshot())) => {}
                // The record that it found was deleted in the meantime.
                Ok(Some(found)) if found.offset < self.log_start_offset() => {}
                // A part of it may have been looked for in segments that were compacted meanwhile.
                Ok(_) if !segment_list::still_holds(&self.segments().snapshot(), &segments) => {}
                found => return found.map_err(|error| self.or_gone(error)),
            }
        }
    }

    fn find(&self, spec: OffsetSpec) -> Result<Option<OffsetAndTimestamp>> {
        let plain = |offset| {
            Some(OffsetAndTimestamp {
                offset,
                timestamp: None,
            })
        };
        let found = match spec {
            OffsetSpec::Earliest => plain(self.log_start_offset()),
            OffsetSpec::Latest => plain(self.high_watermark()),
            OffsetSpec::MaxTimestamp => self.offset_of_max()?,
            OffsetSpec::Timestamp(at) => self.first_at_or_after(at.as_millis())?,
        };
        Ok(found.filter(|found| found.timestamp.is_none() || found.offset < self.high_watermark()))
    }

    /// Largest timestamp of a segment by its index; -1: none.
    pub(crate) fn max_timestamp_of(&self, segment: &Arc<Segment>) -> Result<i64> {
        if segment.size() == 0 {
            return Ok(-1);
        }
        let max = segment.max_timestamp(&self.batches(segment));
        max.map_err(|error| Error::io("read the index of", segment.log_path(), error))
    }

    fn first_at_or_after(&self, timestamp: i64) -> Result<Option<OffsetAndTimestamp>> {
        let log_start = self.log_start_offset();
        let segments = self.segments().snapshot();
        let from = segment_list::floor(&segments, log_start);
        for segment in segments.iter().skip(from) {
            if self.max_timestamp_of(segment)? < timestamp {
                continue;
            }
            let start = self.start_of_search(segment, timestamp)?.max(log_start);
            if let Some(found) = self.first_in(segment, start, timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The offset after which the first record at or after `timestamp` is: a time entry says that
    /// all up to its offset is at or below its time. An entry that is not proven is compared with
    /// the batches first.
    fn start_of_search(&self, segment: &Arc<Segment>, timestamp: i64) -> Result<u64> {
        let floor = segment.floor_time(timestamp.saturating_sub(1), &self.batches(segment));
        let floor =
            floor.map_err(|error| Error::io("read the index of", segment.log_path(), error))?;
        let Some(floor) = floor else {
            return Ok(segment.base_offset);
        };
        if self.is_true(segment, &floor)? {
            return Ok(segment.base_offset + u64::from(floor.entry.relative_offset) + 1);
        }
        let distrusted = segment.distrust_index(&self.batches(segment));
        distrusted.map_err(|error| Error::io("read the index of", segment.log_path(), error))?;
        Ok(segment.base_offset)
    }

    /// Whether the batch that a time entry speaks of has its time, and, unless the entry is proven,
    /// none since the entry before it has a later one.
    fn is_true(&self, segment: &Arc<Segment>, floor: &TimeFloor) -> Result<bool> {
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
        while let Some((header, _)) = self.next_if(&mut place, &|_| false)? {
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

    /// The first record with the largest timestamp of those that readers get. The index of a
    /// segment says no less than the largest timestamp in it, and more where records were deleted
    /// or compacted since: the segments are searched from the largest on, until none can have a
    /// larger one.
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

    /// The first record with the largest timestamp in a segment; that is `max` or an earlier time.
    fn largest_in(
        &self,
        segment: &Arc<Segment>,
        max: i64,
        readable: &Range<u64>,
    ) -> Result<Option<ByTime>> {
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
        let promised = self.promised_max(segment, readable)?;
        match self.largest_from(segment, readable, promised)? {
            Some(found) if found.0 >= promised => Ok(Some(found)),
            // A header promised more than its records keep.
            _ => self.largest_from(segment, readable, -1),
        }
    }

    /// Largest timestamp by the headers of the batches that have a record and are readable as a
    /// whole; -1: none.
    fn promised_max(&self, segment: &Arc<Segment>, readable: &Range<u64>) -> Result<i64> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let (mut max, mut start) = (-1, place.expected);
        while let Some((header, _)) = self.next_if(&mut place, &|_| false)? {
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

    /// The first record with the largest timestamp, in batches whose largest timestamp is `least`
    /// or later.
    fn largest_from(
        &self,
        segment: &Arc<Segment>,
        readable: &Range<u64>,
        least: i64,
    ) -> Result<Option<ByTime>> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let mut largest: Option<ByTime> = None;
        while place.expected < readable.end {
            let may_be_larger = |max| max >= least && largest.is_none_or(|(found, _)| found < max);
            let Some((_, batch)) = self.next_if(&mut place, &may_be_larger)? else {
                break;
            };
            let Some(batch) = batch else { continue };
            for record in &batch.narrowed(readable.clone()) {
                let record = record?;
                let found = record
                    .timestamp()
                    .map(|timestamp| (timestamp.as_millis(), Reverse(record.offset())));
                largest = largest.max(found);
            }
        }
        Ok(largest)
    }

    /// The first record from `start` on in this segment at or after `from`; only batches that have
    /// such a one are decoded.
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
        while let Some((_, batch)) = self.next_if(&mut place, &|largest| largest >= from)? {
            let Some(batch) = batch else { continue };
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

    /// The header at the place, and the batch too if its largest timestamp fits; the place moves
    /// behind it.
    fn next_if(
        &self,
        place: &mut Place,
        fits: &impl Fn(i64) -> bool,
    ) -> Result<Option<(BatchHeader, Option<Batch>)>> {
        let limit = place.file.segment().size();
        let position = place.position;
        let found = place.file.header_at(position, limit).and_then(|found| {
            let Some(header) = found else { return Ok(None) };
            self.check_order(place, &header)?;
            if !fits(header.max_timestamp) {
                return Ok(Some((header, None)));
            }
            place.file.checked(position, &header, limit)?;
            let range = if header.magic < 2 {
                0..u64::MAX
            } else {
                header.base_offset..header.last_offset + 1
            };
            let bytes = place.file.share(position, &header);
            let at = (place.file.segment().base_offset, position);
            Ok(Some((
                header,
                Some(Batch::new(
                    self.origin(),
                    at,
                    place.truncations,
                    header,
                    bytes,
                    range,
                )),
            )))
        });
        match found {
            Ok(Some((header, batch))) => {
                place.step_over(&header);
                Ok(Some((header, batch)))
            }
            Ok(None) => Ok(None),
            Err(ReadError::Io(error)) => {
                Err(Error::io("read", place.file.segment().log_path(), error))
            }
            Err(ReadError::Damaged(malformed)) => {
                let lost = self.lost_behind(place, place.expected, limit)?;
                Err(self.origin().corrupt(
                    place.file.segment().base_offset,
                    position,
                    lost,
                    malformed,
                ))
            }
        }
    }

    /// Largest timestamp of the first batch of a segment; -1: none.
    pub(crate) fn first_timestamp(&self, segment: &Arc<Segment>) -> Result<i64> {
        let mut place = Place::at_start(Arc::clone(segment), self.truncations());
        let found = self.next_if(&mut place, &|_| false)?;
        Ok(found.map_or(-1, |(header, _)| header.max_timestamp))
    }

    /// Largest timestamp of segment `base_offset` by all its batch headers, as retention wants to
    /// know it before it deletes; `None`: no record has one, or the segment is not there.
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
        while let Some((header, _)) = self.next_if(&mut place, &|_| false)? {
            max = max.max(header.max_timestamp);
        }
        if segment.is_sealed() {
            max = *segment.confirmed_max_timestamp.get_or_init(|| max);
        }
        Ok((max >= 0).then_some(Timestamp::from_millis(max)))
    }

    /// When the `.log` of the segment was last written. `OffsetOutOfRange` if it is not in the
    /// list.
    pub(crate) fn segment_modified(&self, base_offset: u64) -> Result<Timestamp> {
        match self.modified_of(base_offset) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // Compaction, which puts it in its place, has yet to give it its name.
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
        let metadata = self
            .context
            .storage
            .metadata(path)
            .map_err(|error| Error::io("look at", path, error))?;
        Ok(metadata.modified)
    }
}
