//! Finding the batch that holds an offset, and what to do when the bytes there are damaged.
//!
//! The index gives a place to start from; from there the batch headers are followed. An index entry
//! that does not fit the batch it points at is not believed: the segment is walked from its start,
//! and its index built anew.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::partition::PartitionCore;
use crate::partition::state::segment_list;
use crate::segment::Segment;
use crate::segment::batch_file::{BatchFile, ReadError};
use crate::segment::walk::{SegmentBatches, check_follows};

/// Where a reader stands.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: BatchFile,
    pub(crate) position: u32,
    /// Lowest base offset that the batch here may have; in a dense log the only one.
    pub(crate) expected: u64,
    /// Count of truncations when the place was found: after another one it must be looked for
    /// again.
    pub(crate) truncations: u64,
}

impl Place {
    pub(crate) fn at_start(segment: Arc<Segment>, truncations: u64) -> Self {
        Self {
            expected: segment.base_offset,
            position: 0,
            truncations,
            file: BatchFile::new(segment),
        }
    }

    /// Moves behind the batch here.
    #[inline]
    pub(crate) fn step_over(&mut self, header: &BatchHeader) {
        self.position += header.size_bytes;
        self.expected = header.next_base_offset();
    }
}

impl PartitionCore {
    /// The place of the first batch that ends at or behind `offset`; at the end of a segment where
    /// that batch is yet to come, or stands in the next one.
    pub(crate) fn seek(&self, offset: u64) -> Result<Place> {
        // In a read-only log: the file that could not be read before the directory was read again.
        let mut failed_on = None;
        loop {
            let truncations = self.truncations();
            let segments = self.segments().snapshot();
            let Some(segment) = segments.get(segment_list::floor(&segments, offset)) else {
                return Err(self.out_of_range(offset));
            };
            match self.seek_in(segment, offset, truncations) {
                Ok(place) => return Ok(place),
                Err(_) if self.is_read_only() && failed_on != Some(segment.file_id()) => {
                    // Another process deleted, replaced or cut what is there, for all that is known
                    // here.
                    failed_on = Some(segment.file_id());
                    self.reread()?;
                    if offset < self.log_start_offset() {
                        return Err(self.out_of_range(offset));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Deleted since the list was taken; the list has changed by now.
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

    pub(in crate::partition) fn seek_in(
        &self,
        segment: &Arc<Segment>,
        offset: u64,
        truncations: u64,
    ) -> io::Result<Place> {
        let entry = segment.floor_offset(offset, &self.batches(segment))?;
        if let Some(entry) = entry {
            let mut place = Place::at_start(Arc::clone(segment), truncations);
            place.position = entry.position;
            let indexed = segment.base_offset + u64::from(entry.relative_offset);
            let limit = segment.size();
            let fits = match place.file.header_at(entry.position, limit) {
                Ok(Some(header)) => {
                    place.expected = header.base_offset;
                    let is_its_batch = if self.is_dense() {
                        header.stated_last_offset == indexed
                    } else {
                        header.stated_last_offset <= indexed
                    };
                    is_its_batch
                        && header.base_offset >= segment.base_offset
                        && place.file.checked(entry.position, &header, limit).is_ok()
                }
                Ok(None) | Err(ReadError::Damaged(_)) => false,
                Err(ReadError::Io(error)) => return Err(error),
            };
            if fits {
                return self.walk_to(place, offset);
            }
            segment.distrust_index(&self.batches(segment))?;
        }
        self.walk_to(Place::at_start(Arc::clone(segment), truncations), offset)
    }

    /// Follows the headers up to the first batch that ends at or behind `offset`, or to damage that
    /// may hide it.
    fn walk_to(&self, mut place: Place, offset: u64) -> io::Result<Place> {
        loop {
            let limit = place.file.segment().size();
            let found = match place.file.header_at(place.position, limit) {
                Ok(found) => found,
                Err(ReadError::Damaged(_)) => return self.walk_around(place, offset, limit),
                Err(ReadError::Io(error)) => return Err(error),
            };
            match found {
                Some(header) if self.check_order(&place, &header).is_err() => {
                    return self.walk_around(place, offset, limit);
                }
                Some(header) => {
                    let is_it = header.last_offset >= offset;
                    // A wrong last offset leads past the batch that was looked for. Where the next
                    // batch would not show it, only the checksum does.
                    let is_checked = !is_it && self.is_dense();
                    if !is_checked
                        && let Err(ReadError::Damaged(_)) =
                            place.file.checked(place.position, &header, limit)
                    {
                        return self.walk_around(place, offset, limit);
                    }
                    if is_it {
                        return Ok(place);
                    }
                    place.step_over(&header);
                }
                None => return Ok(place),
            }
        }
    }

    /// Damage stands at the place. Where a good batch behind it holds `offset` the damage does no
    /// harm to who looks for it.
    fn walk_around(&self, mut place: Place, offset: u64, limit: u32) -> io::Result<Place> {
        let (position, expected) = (place.position, place.expected);
        let behind = self.next_good(&mut place, limit)?;
        if let Some((good, header)) = behind
            && header.base_offset <= offset
        {
            (place.position, place.expected) = (good, header.base_offset);
            return self.walk_to(place, offset);
        }
        (place.position, place.expected) = (position, expected);
        Ok(place)
    }

    /// Whether a header may stand where it does. Kafka's checksum covers neither its offset nor its
    /// length: this does.
    #[inline]
    pub(crate) fn check_order(
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
                "the offset of a batch lies behind the end of its segment",
            ));
        }
        Ok(())
    }

    /// The offsets that damage at the place takes with it: up to the next good batch, segment, or
    /// the end.
    pub(crate) fn lost_behind(
        &self,
        place: &mut Place,
        next: u64,
        limit: u32,
    ) -> Result<Range<u64>> {
        let position = place.position;
        let path = place.file.segment().log_path().to_owned();
        let from = place.expected;
        let behind = self.next_good(place, limit);
        place.position = position;
        let end = match behind {
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

    /// The next batch behind the place whose header, order and checksum are right.
    pub(in crate::partition) fn next_good(
        &self,
        place: &mut Place,
        limit: u32,
    ) -> io::Result<Option<(u32, BatchHeader)>> {
        let end = self.end_of(place.file.segment());
        let damaged = place.position;
        let promised = self.promised_behind(place, limit)?;
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
            let is_promised = promised == Some((position, header.base_offset));
            if !self.is_dense() || is_promised || is_followed(place, &header, limit, end)? {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Offset behind the last batch that the segment may have.
    fn end_of(&self, segment: &Segment) -> u64 {
        if segment.is_sealed() {
            segment.next_offset()
        } else {
            self.log_end_offset()
        }
    }

    /// Position and base offset of the batch behind the damaged one at the place, where the header
    /// of that is in order.
    fn promised_behind(&self, place: &mut Place, limit: u32) -> io::Result<Option<(u32, u64)>> {
        match place.file.header_at(place.position, limit) {
            Ok(Some(header)) if self.check_order(place, &header).is_ok() => Ok(Some((
                place.position + header.size_bytes,
                header.next_base_offset(),
            ))),
            Ok(_) | Err(ReadError::Damaged(_)) => Ok(None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// The batches of a segment, for its index to be checked by or built from.
    pub(in crate::partition) fn batches<'a>(
        &self,
        segment: &'a Arc<Segment>,
    ) -> SegmentBatches<'a> {
        SegmentBatches {
            segment,
            interval_bytes: self.settings().index_interval_bytes,
            is_dense: self.is_dense(),
        }
    }
}

/// Whether the batch behind this one, or the end of the segment, is where it says. Behind damage
/// nothing before a batch shows that its base offset is right, and no checksum does.
fn is_followed(place: &mut Place, header: &BatchHeader, limit: u32, end: u64) -> io::Result<bool> {
    let next = header.next_base_offset();
    match place
        .file
        .header_at(place.position + header.size_bytes, limit)
    {
        Ok(Some(behind)) => Ok(behind.base_offset == next),
        Ok(None) => Ok(next == end),
        Err(ReadError::Damaged(_)) => Ok(false),
        Err(ReadError::Io(error)) => Err(error),
    }
}
