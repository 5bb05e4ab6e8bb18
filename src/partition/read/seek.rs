//! Finds the batch that contains an offset, and steps around damage on the way.
//!
//! A search starts at the batch that the index names, and follows the batch headers from there. If
//! the index entry does not match the batch, the index is rebuilt, and the search starts at the
//! beginning of the segment.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::place::Place;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::OffsetEntry;
use crate::partition::PartitionCore;
use crate::partition::state::segment_list;
use crate::segment::Segment;
use crate::segment::batch_file::ReadError;
use crate::segment::walk::{SegmentBatches, check_follows};

/// If the entries of an index are further apart than this, a search does not read all bytes between
/// two of them at once.
const MAX_SPACING_BYTES: u32 = 64 << 10;

impl PartitionCore {
    /// Finds the first batch that ends at or after `offset`. Returns the end of a segment if that
    /// batch is in the next segment, or is not written yet.
    pub(crate) fn seek(&self, offset: u64) -> Result<Place> {
        // In a read-only log: the file that could not be read when the directory was last read
        // again.
        let mut failed_on = None;
        loop {
            let truncations = self.truncations();
            let segments = self.segments().snapshot();
            let Some(segment) = segments.get(segment_list::floor(&segments, offset)) else {
                unreachable!("a partition has at least one segment")
            };
            match self.seek_in(segment, offset, truncations) {
                Ok(place) => return Ok(place),
                Err(_) if self.is_read_only() && failed_on != Some(segment.file_id()) => {
                    // Another process may have deleted, replaced or cut the file.
                    failed_on = Some(segment.file_id());
                    self.reread()?;
                    if offset < self.log_start_offset() {
                        return Err(self.out_of_range(offset));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The segment was deleted after the list was read. The deletion changes the
                    // list before it removes the file.
                    if offset < self.log_start_offset() {
                        return Err(self.out_of_range(offset));
                    }
                    if Arc::ptr_eq(&segments, &self.segments().snapshot()) {
                        return Err(Error::io("open", segment.log_path(), error));
                    }
                }
                Err(error) => return Err(Error::io("read", segment.log_path(), error)),
            }
        }
    }

    /// Finds the first batch of a segment that ends at or after `offset`, or the end of the
    /// segment.
    pub(in crate::partition) fn seek_in(
        &self,
        segment: &Arc<Segment>,
        offset: u64,
        truncations: u64,
    ) -> io::Result<Place> {
        let batches = self.batches(segment);
        let mut place = Place::at_start(Arc::clone(segment), truncations);
        let near = match segment.search_start(offset, &batches)? {
            Ok(start) => {
                place.position = start.position;
                place.expected = segment.base_offset + u64::from(start.relative_offset);
                place.end_read_at(start.position, start.end.unwrap_or(segment.size()));
                return self.walk_to(place, offset);
            }
            Err(near) => near,
        };
        let start = near.floor.map_or(0, |floor| floor.position);
        let is_of_floor = |floor: OffsetEntry| segment.last_offset_of(floor) == offset;
        let spacing = batches.interval_bytes;
        if let Some(next) = near.next
            && !near.floor.is_some_and(is_of_floor)
            && is_far(start, next, spacing)
        {
            place.end_read_at(
                next.position,
                near.after_next
                    .map_or(segment.size(), |after| after.position),
            );
            if self.has_moved_to(&mut place, next, offset)? {
                return Ok(place);
            }
        }
        let end = match (near.next, near.floor) {
            (Some(next), Some(floor)) if is_of_floor(floor) => next.position,
            (Some(next), _) => next.position.saturating_add(spacing / 4),
            (None, _) => segment.size(),
        };
        if spacing <= MAX_SPACING_BYTES {
            place.end_read_at(start, end);
        }
        let Some(floor) = near.floor else {
            return self.walk_to(place, offset);
        };
        if self.has_moved_to_floor(&mut place, floor)? {
            return self.walk_to(place, offset);
        }
        self.distrust_index(segment)?;
        self.walk_to(Place::at_start(Arc::clone(segment), truncations), offset)
    }

    /// Moves the place to the batch of `entry`, if this batch contains `offset` and is not damaged.
    /// Otherwise the place stays, and the caller searches from an earlier entry.
    fn has_moved_to(&self, place: &mut Place, entry: OffsetEntry, offset: u64) -> io::Result<bool> {
        let segment = place.file.segment();
        let (limit, last_offset) = (segment.size(), segment.last_offset_of(entry));
        let Some(header) = header_at(place, entry.position, limit)? else {
            return Ok(false);
        };
        // The header of a legacy wrapper does not contain its base offset.
        if header.magic < 2
            || header.base_offset > offset
            || header.stated_last_offset != last_offset
        {
            return Ok(false);
        }
        let (position, expected) = (place.position, place.expected);
        (place.position, place.expected) = (entry.position, header.base_offset.max(expected));
        let is_it =
            self.check_order(place, &header).is_ok() && is_intact(place.check(&header, limit))?;
        if !is_it {
            (place.position, place.expected) = (position, expected);
        }
        Ok(is_it)
    }

    /// Moves the place to the batch of `entry`, from which a walk leads to the offset. Returns
    /// `false` if the entry does not match the batch.
    fn has_moved_to_floor(&self, place: &mut Place, entry: OffsetEntry) -> io::Result<bool> {
        let segment = place.file.segment();
        let (limit, last_offset) = (segment.size(), segment.last_offset_of(entry));
        let base_offset = segment.base_offset;
        let Some(header) = header_at(place, entry.position, limit)? else {
            return Ok(false);
        };
        let is_its_batch = if self.is_dense() {
            header.stated_last_offset == last_offset
        } else {
            header.stated_last_offset <= last_offset
        };
        if !is_its_batch || header.base_offset < base_offset {
            return Ok(false);
        }
        (place.position, place.expected) = (entry.position, header.base_offset);
        // The batch after this one must begin at the offset after it. In a log that may have gaps,
        // only the checksum confirms the last offset.
        Ok(self.is_dense() || is_intact(place.check(&header, limit))?)
    }

    /// Moves to the first batch that ends at or after `offset`, or to damage that may hide it.
    ///
    /// In a dense log the base offset of each batch confirms where the one before it ends, so the
    /// walk need not compare checksums on the way. If it meets damage nevertheless, an earlier
    /// batch may have led it astray, by a wrong length for example. Then it starts again, and
    /// compares them.
    fn walk_to(&self, mut place: Place, offset: u64) -> io::Result<Place> {
        let start = (place.position, place.expected);
        if self.is_dense() && self.has_walked_to(&mut place, offset)? {
            return Ok(place);
        }
        (place.position, place.expected) = start;
        self.walk_checked(place, offset)
    }

    /// Follows the headers of a dense log to an intact batch that ends at or after `offset`, or to
    /// the end of the log. Returns `false` if it meets damage on the way.
    fn has_walked_to(&self, place: &mut Place, offset: u64) -> io::Result<bool> {
        let segment = place.file.segment();
        let (end, limit) = (self.end_of(segment), segment.size());
        place.pass_below(offset.min(end), limit)?;
        loop {
            let limit = place.file.segment().size();
            debug_assert!(
                place.position <= limit,
                "a place is within the published bytes"
            );
            match self.header_in_order(place, limit) {
                Ok(Some(header)) if header.last_offset >= offset => {
                    return is_intact(place.check(&header, limit));
                }
                Ok(Some(header)) => place.step_over(&header),
                // The batches end before their segment does if one of them is damaged.
                Ok(None) => return Ok(place.expected >= end),
                Err(ReadError::Damaged(_)) => return Ok(false),
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
    }

    /// Does the work of [`walk_to`](Self::walk_to), and compares the checksum of every batch: only
    /// that confirms the last offset of a batch in a log that may have gaps.
    fn walk_checked(&self, mut place: Place, offset: u64) -> io::Result<Place> {
        loop {
            let limit = place.file.segment().size();
            let header = match self.header_in_order(&mut place, limit) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(place),
                Err(ReadError::Damaged(_)) => return self.walk_around(place, offset, limit),
                Err(ReadError::Io(error)) => return Err(error),
            };
            if !is_intact(place.check(&header, limit))? {
                return self.walk_around(place, offset, limit);
            }
            if header.last_offset >= offset {
                return Ok(place);
            }
            place.step_over(&header);
        }
    }

    /// Searches on after the damage at the place. If a good batch after it begins at or below
    /// `offset`, the damage can be stepped over. Otherwise the damage may hide `offset`, and the
    /// place remains where it is.
    fn walk_around(&self, mut place: Place, offset: u64, limit: u32) -> io::Result<Place> {
        let (position, expected) = (place.position, place.expected);
        let next = self.next_good(&mut place, limit)?;
        if let Some((good, header)) = next
            && header.base_offset <= offset
        {
            (place.position, place.expected) = (good, header.base_offset);
            return self.walk_to(place, offset);
        }
        (place.position, place.expected) = (position, expected);
        Ok(place)
    }

    /// Returns the header of the batch at the place, if its offsets are in order. Returns `None` at
    /// the end of the published bytes. Every reader of the partition takes its steps by this.
    #[inline]
    pub(in crate::partition) fn header_in_order(
        &self,
        place: &mut Place,
        limit: u32,
    ) -> std::result::Result<Option<BatchHeader>, ReadError> {
        let Some(header) = place.file.header_at(place.position, limit)? else {
            return Ok(None);
        };
        self.check_order(place, &header)?;
        Ok(Some(header))
    }

    /// Checks that a batch with this header may be at the place. Kafka's checksum covers neither
    /// the offset nor the length of a batch, so this check has to.
    #[inline]
    fn check_order(
        &self,
        place: &Place,
        header: &BatchHeader,
    ) -> std::result::Result<(), Malformed> {
        let is_exact = self.is_dense() && header.magic >= 2;
        check_follows(header, place.expected, is_exact)?;
        let segment = place.file.segment();
        if segment.is_sealed() && header.stated_last_offset >= segment.next_offset()
            || header.base_offset > self.log_end_offset()
        {
            return Err(Malformed(
                "the offset of a batch is after the end of its segment",
            ));
        }
        Ok(())
    }

    /// Returns the offsets that are lost to damage at the place: up to the next good batch, the
    /// next segment or the end of the log, and at least up to `next`.
    pub(crate) fn lost_after(
        &self,
        place: &mut Place,
        next: u64,
        limit: u32,
    ) -> Result<Range<u64>> {
        let position = place.position;
        let path = place.file.segment().log_path().to_owned();
        let from = place.expected;
        let next_good = self.next_good(place, limit);
        place.position = position;
        let end = match next_good {
            Ok(Some((_, header))) => header.base_offset,
            Ok(None) => {
                let segments = self.segments().snapshot();
                let base_offset = place.file.segment().base_offset;
                segment_list::after(&segments, base_offset)
                    .map_or(self.log_end_offset(), |segment| segment.base_offset)
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        Ok(from..end.max(from + 1).max(next))
    }

    /// Finds the next batch after the place whose header, order and checksum are right. Moves the
    /// position of the place.
    pub(in crate::partition) fn next_good(
        &self,
        place: &mut Place,
        limit: u32,
    ) -> io::Result<Option<(u32, BatchHeader)>> {
        let end = self.end_of(place.file.segment());
        let damaged = place.position;
        debug_assert!(damaged <= limit, "the damage is within the published bytes");
        // The file reads other bytes from here on.
        place.checked = None;
        let stated = self.stated_next(place, limit)?;
        for position in damaged.saturating_add(1)..limit {
            place.position = position;
            let header = match place.file.header_at(position, limit) {
                Ok(Some(header))
                    if header.base_offset >= place.expected && header.stated_last_offset < end =>
                {
                    header
                }
                Ok(_) | Err(ReadError::Damaged(_)) => continue,
                Err(ReadError::Io(error)) => return Err(error),
            };
            match place.file.checked(position, &header, limit) {
                Ok(_) => {}
                Err(ReadError::Damaged(_)) => continue,
                Err(ReadError::Io(error)) => return Err(error),
            }
            let is_stated = stated == Some((position, header.base_offset));
            if !self.is_dense() || is_stated || is_followed(place, &header, limit, end)? {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Returns the offset after the last batch that the segment may have.
    fn end_of(&self, segment: &Segment) -> u64 {
        if segment.is_sealed() {
            segment.next_offset()
        } else {
            self.log_end_offset()
        }
    }

    /// Returns the position and the base offset of the next batch as the damaged batch at the place
    /// states them, if its header is in order.
    fn stated_next(&self, place: &mut Place, limit: u32) -> io::Result<Option<(u32, u64)>> {
        match self.header_in_order(place, limit) {
            Ok(Some(header)) => Ok(Some((
                place.position + header.size_bytes,
                header.next_base_offset(),
            ))),
            Ok(None) | Err(ReadError::Damaged(_)) => Ok(None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Rebuilds the index of a segment, because it has led to a wrong batch.
    pub(super) fn distrust_index(&self, segment: &Arc<Segment>) -> io::Result<()> {
        segment.distrust_index(&self.batches(segment))?;
        self.segments().forget_max_timestamp(segment);
        Ok(())
    }

    /// Returns the batches of a segment, with which its index is checked or rebuilt.
    pub(in crate::partition) fn batches<'a>(
        &self,
        segment: &'a Arc<Segment>,
    ) -> SegmentBatches<'a> {
        SegmentBatches {
            segment,
            interval_bytes: self.settings.read().index_interval_bytes,
            is_dense: self.is_dense(),
        }
    }
}

/// Returns the header of the batch at `position`, or `None` if there is no batch.
fn header_at(place: &mut Place, position: u32, limit: u32) -> io::Result<Option<BatchHeader>> {
    match place.file.header_at(position, limit) {
        Ok(header) => Ok(header),
        Err(ReadError::Damaged(_)) => Ok(None),
        Err(ReadError::Io(error)) => Err(error),
    }
}

/// Returns whether the batches between two index entries are large, so that the batch of the second
/// entry has a good part of the offsets between them.
///
/// A batch gets an entry if `spacing` bytes follow the last entry. So batches that are larger than
/// this have an entry each.
fn is_far(start: u32, next: OffsetEntry, spacing: u32) -> bool {
    next.position.saturating_sub(start) > spacing.saturating_add(spacing / 4)
}

/// Returns whether a batch is not damaged. Fails if it could not be read.
fn is_intact(checked: std::result::Result<(), ReadError>) -> io::Result<bool> {
    match checked {
        Ok(()) => Ok(true),
        Err(ReadError::Damaged(_)) => Ok(false),
        Err(ReadError::Io(error)) => Err(error),
    }
}

/// Returns whether the batch after this one, or the end of the segment, is where this header
/// states.
///
/// After damage, no batch before this one confirms its base offset, and the checksum does not cover
/// it. Only the next batch can.
fn is_followed(place: &mut Place, header: &BatchHeader, limit: u32, end: u64) -> io::Result<bool> {
    let next = header.next_base_offset();
    match place
        .file
        .header_at(place.position + header.size_bytes, limit)
    {
        Ok(Some(following)) => Ok(following.base_offset == next),
        Ok(None) => Ok(next == end),
        Err(ReadError::Damaged(_)) => Ok(false),
        Err(ReadError::Io(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, TopicSettings};
    use crate::format::record::Record;
    use crate::partition::PartitionSpec;
    use crate::partition::tests::{context, spec, written};
    use crate::storage::{MemoryDisk, SimulatedDisk};

    /// Returns the header at the place, and the same header with another checksum.
    fn right_and_wrong(place: &mut Place) -> (BatchHeader, BatchHeader) {
        let limit = place.file.segment().size();
        let right = place
            .file
            .header_at(place.position, limit)
            .unwrap()
            .unwrap();
        let wrong = BatchHeader {
            crc: !right.crc,
            ..right
        };
        (right, wrong)
    }

    #[test]
    fn batch_that_a_search_found_is_not_checked_again() {
        let core = written(&MemoryDisk::new(), 0, 12);
        let segment = core.segments().snapshot().first().map(Arc::clone).unwrap();
        for offset in segment.base_offset..segment.next_offset() {
            let mut place = core.seek(offset).unwrap();
            let limit = segment.size();
            let (_, wrong) = right_and_wrong(&mut place);
            place.check(&wrong, limit).unwrap();
        }
    }

    #[test]
    fn batch_after_the_one_that_was_checked_is_checked() {
        let core = written(&MemoryDisk::new(), 0, 12);
        let segment = core.segments().snapshot().first().map(Arc::clone).unwrap();
        let limit = segment.size();
        let mut place = Place::at_start(segment, core.truncations());
        let (right, wrong) = right_and_wrong(&mut place);
        assert!(matches!(
            place.check(&wrong, limit),
            Err(ReadError::Damaged(_))
        ));
        place.check(&right, limit).unwrap();
        place.step_over(&right);
        let (right, wrong) = right_and_wrong(&mut place);
        assert!(matches!(
            place.check(&wrong, limit),
            Err(ReadError::Damaged(_))
        ));
        place.check(&right, limit).unwrap();
    }

    #[test]
    fn device_failure_while_a_long_batch_is_checked_is_reported() {
        for call in 0.. {
            let disk = SimulatedDisk::new(1);
            let settings = TopicSettings::unconfigured();
            let spec = PartitionSpec {
                settings,
                ..spec(0, 0, i64::MAX)
            };
            let core = PartitionCore::create(&context(&disk), &spec).unwrap();
            core.append(Durability::Os, [Record::new(vec![7; 300_000])])
                .unwrap();
            let at = disk.calls() + call;
            disk.fail_call(at, io::Error::other("the device failed"));
            let found = core.seek(0);
            if disk.calls() <= at {
                assert!(call > 1, "a search reads the header and the batch");
                found.unwrap();
                break;
            }
            found.expect_err("the call failed");
            assert_eq!(disk.calls(), at + 1, "call {call}");
        }
    }

    #[test]
    fn batch_is_checked_again_after_the_file_read_other_bytes() {
        let core = written(&MemoryDisk::new(), 0, 12);
        let mut place = core.seek(0).unwrap();
        let limit = place.file.segment().size();
        let (_, wrong) = right_and_wrong(&mut place);
        core.lost_after(&mut place, 0, limit).unwrap();
        assert!(matches!(
            place.check(&wrong, limit),
            Err(ReadError::Damaged(_))
        ));
    }
}
