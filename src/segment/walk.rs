//! The one walk over the batches of a segment: in order, from a place on, up to damage.
//!
//! Kafka's checksum covers neither the offset of a batch nor its length, so a walk compares each
//! batch with the one before it. In a dense segment every offset has its record, and a batch begins
//! exactly where the one before it ends. Compaction leaves gaps: then offsets only rise.

use std::io;
use std::sync::Arc;

use super::Segment;
use super::batch_file::{BatchFile, ReadError};
use super::index::Batches;
use super::index_file::{IndexedBatch, MemoryIndex};
use crate::format::Malformed;
use crate::format::batch::{BatchHeader, Frame, OVERHEAD_BYTES};
use crate::format::index_entry::TimeEntry;

/// The number of bytes that every device writes together, or not at all.
const SECTOR_BYTES: u32 = 512;

/// The reason for a batch whose offset is not in order.
pub(crate) const OUT_OF_ORDER: Malformed =
    Malformed("the offset of a batch does not follow the one before it");

/// Checks the offset of a batch that follows others: `expected` is the lowest base offset that it
/// may have. With `is_exact` it must begin there, and every one of its offsets needs a record.
#[inline]
pub(crate) fn check_follows(
    header: &BatchHeader,
    expected: u64,
    is_exact: bool,
) -> Result<(), Malformed> {
    let follows = if is_exact {
        header.base_offset == expected && header.is_full_or_empty()
    } else {
        header.base_offset >= expected
    };
    if follows { Ok(()) } else { Err(OUT_OF_ORDER) }
}

/// Returns whether a power cut has left a batch without its first bytes, those before the border of
/// a sector. The checksum does not notice zeros in their place: it does not cover the base offset,
/// and the first bytes of the length are zeros in a small batch.
fn is_torn_in_front(position: u32, base: u64, expected: u64) -> bool {
    let missing = SECTOR_BYTES - position % SECTOR_BYTES;
    let left = u64::MAX.checked_shr(8 * missing).unwrap_or(0) & expected;
    (missing as usize) < OVERHEAD_BYTES && base != expected && base == left
}

/// Returns the facts about a batch that an index needs.
pub(crate) fn indexed(segment: &Segment, position: u32, header: &BatchHeader) -> IndexedBatch {
    IndexedBatch {
        position,
        size_bytes: header.size_bytes,
        relative_last_offset: segment.relative(header.stated_last_offset),
        max_timestamp: header.max_timestamp,
    }
}

/// Which batches a walk reads as a whole and compares with their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    All,
    /// Only control batches: a marker must not be believed without its checksum.
    Control,
    /// No batch: the walk needs only headers.
    Nothing,
}

/// A walk over the first bytes of a segment.
#[derive(Debug)]
pub(crate) struct Walk {
    file: BatchFile,
    limit: u32,
    position: u32,
    /// Lowest base offset that the next batch may have.
    expected: u64,
    /// Whether the next batch must begin at `expected`.
    is_exact: bool,
    is_dense: bool,
    /// Whether offsets are compared at all.
    is_ordered: bool,
    checked: Checked,
}

/// A batch on the way, with its bytes if it was checked.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) position: u32,
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Option<&'a [u8]>,
}

impl Walk {
    /// Starts at `position`, where a batch with a base offset of at least `expected` is, and ends
    /// at the current end of the segment.
    pub(crate) fn new(
        segment: &Arc<Segment>,
        position: u32,
        expected: u64,
        is_dense: bool,
        checked: Checked,
    ) -> Self {
        debug_assert!(
            expected >= segment.base_offset,
            "offsets of a segment rise from its base"
        );
        debug_assert!(position <= segment.size(), "the start is in the segment");
        Self {
            limit: segment.size(),
            file: BatchFile::new(Arc::clone(segment)),
            position,
            expected,
            is_exact: is_dense && position == 0,
            is_dense,
            is_ordered: true,
            checked,
        }
    }

    /// Takes the batches as they are, also those whose offsets are not in order.
    pub(crate) fn in_any_order(self) -> Self {
        Self {
            is_ordered: false,
            ..self
        }
    }

    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Moves to the next batch and returns it; `None` at the end. After an error the walk is still
    /// at the batch that could not be read.
    pub(crate) fn next(&mut self) -> Result<Option<Step<'_>>, ReadError> {
        let position = self.position;
        let Some(header) = self.file.header_at(position, self.limit)? else {
            return Ok(None);
        };
        if self.is_ordered {
            check_follows(&header, self.expected, self.is_exact)?;
        }
        let is_checked = match self.checked {
            Checked::All => true,
            Checked::Control => header.is_control(),
            Checked::Nothing => false,
        };
        let bytes = if is_checked {
            Some(self.file.checked(position, &header, self.limit)?)
        } else {
            None
        };
        debug_assert!(header.size_bytes > 0, "a batch has a header");
        self.position += header.size_bytes;
        self.expected = header.next_base_offset();
        debug_assert!(self.position <= self.limit, "the batch is below the limit");
        self.is_exact = self.is_dense;
        Ok(Some(Step {
            position,
            header,
            bytes,
        }))
    }

    /// Returns a batch that the walk has passed, after its checksum was compared.
    pub(crate) fn checked(
        &mut self,
        position: u32,
        header: &BatchHeader,
    ) -> Result<&[u8], ReadError> {
        debug_assert!(position < self.position, "the walk has passed the batch");
        self.file.checked(position, header, self.limit)
    }

    /// After an error: steps over a batch that is whole and has a right checksum but does not fit
    /// in, and returns its size and how many offsets it has. `None` if there is no such batch.
    pub(crate) fn step_over_misfit(&mut self) -> Result<Option<(u32, u64)>, ReadError> {
        let Some((size_bytes, offsets)) = self.file.intact_at(self.position, self.limit)? else {
            return Ok(None);
        };
        let front = self.file.bytes(self.position, OVERHEAD_BYTES, self.limit)?;
        let base = Frame::stored_offset_of(front);
        if base.is_some_and(|base| is_torn_in_front(self.position, base, self.expected)) {
            return Ok(None);
        }
        debug_assert!(
            self.position + size_bytes <= self.limit,
            "it is below the limit"
        );
        self.position += size_bytes;
        self.is_exact = false;
        Ok(Some((size_bytes, offsets)))
    }

    /// Returns whether everything from here to the end is zeros.
    pub(crate) fn is_zero_from_here(&mut self) -> io::Result<bool> {
        self.file.is_zero(self.position, self.limit)
    }
}

/// The batches of one segment, to check its index by them or to build it from them.
#[derive(Debug)]
pub(crate) struct SegmentBatches<'a> {
    pub(crate) segment: &'a Arc<Segment>,
    pub(crate) interval_bytes: u32,
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
}

impl SegmentBatches<'_> {
    /// Visits the batches from `position` on until `visit` returns `false`. Returns whether they
    /// continue, whole and in order, to the end of the segment.
    fn walk(&self, position: u32, mut visit: impl FnMut(IndexedBatch) -> bool) -> io::Result<bool> {
        let base_offset = self.segment.base_offset;
        let mut walk = Walk::new(
            self.segment,
            position,
            base_offset,
            self.is_dense,
            Checked::All,
        );
        loop {
            match walk.next() {
                Ok(Some(step)) if visit(indexed(self.segment, step.position, &step.header)) => {}
                Ok(None) => return Ok(true),
                Ok(Some(_)) | Err(ReadError::Damaged(_)) => return Ok(false),
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
    }
}

impl Batches for SegmentBatches<'_> {
    fn build_index(&self) -> io::Result<MemoryIndex> {
        let mut index = MemoryIndex::default();
        let _up_to_damage = self.walk(0, |batch| {
            index.note(batch, self.interval_bytes);
            true
        })?;
        Ok(index)
    }

    fn begin_with(&self, entry: TimeEntry) -> io::Result<bool> {
        let mut is_its_batch = false;
        let _only_the_first = self.walk(0, |batch| {
            is_its_batch = batch.has_entry(entry);
            false
        })?;
        Ok(is_its_batch)
    }

    fn end_with(&self, position: u32, last: Option<TimeEntry>) -> io::Result<bool> {
        let mut is_found = last.is_none();
        let is_whole = self.walk(position, |batch| {
            is_found |= last.is_some_and(|last| batch.has_entry(last));
            batch.max_timestamp <= last.map_or(-1, |last| last.timestamp)
        })?;
        Ok(is_found && is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compression, TopicSettings};
    use crate::format::batch::{BatchBuilder, stamp};
    use crate::format::record::Record;
    use crate::segment::tests::home;
    use crate::storage::MemoryDisk;

    /// Returns a segment with a batch of one record at each of these offsets.
    fn segment(offsets: &[u64]) -> Arc<Segment> {
        let segment = Segment::create(&home(&MemoryDisk::new()), 0).unwrap();
        for offset in offsets {
            let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
            builder.push(&Record::new("value"), 7).unwrap();
            let mut bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
            stamp(&mut bytes, *offset, 0);
            segment.append(&bytes, *offset, 7, 4096).unwrap();
        }
        Arc::new(segment)
    }

    /// Returns the base offsets of the batches up to the end or the first damage, and whether the
    /// walk reached the end.
    fn walked(walk: &mut Walk) -> (Vec<u64>, bool) {
        let mut offsets = Vec::new();
        loop {
            match walk.next() {
                Ok(Some(step)) => offsets.push(step.header.base_offset),
                Ok(None) => return (offsets, true),
                Err(_) => return (offsets, false),
            }
        }
    }

    #[test]
    fn a_walk_of_a_dense_segment_ends_at_a_gap() {
        let mut walk = Walk::new(&segment(&[0, 1, 3]), 0, 0, true, Checked::All);
        assert_eq!(walked(&mut walk), (vec![0, 1], false));
        assert_eq!(walk.expected(), 2);
    }

    #[test]
    fn a_walk_of_a_compacted_segment_passes_gaps_and_ends_at_a_lower_offset() {
        let mut walk = Walk::new(&segment(&[0, 3, 7]), 0, 0, false, Checked::All);
        assert_eq!(walked(&mut walk), (vec![0, 3, 7], true));
        let mut walk = Walk::new(&segment(&[0, 3, 2]), 0, 0, false, Checked::All);
        assert_eq!(walked(&mut walk), (vec![0, 3], false));
    }

    #[test]
    fn a_walk_continues_after_a_misfit_that_was_stepped_over() {
        let mut walk = Walk::new(&segment(&[0, 5, 1]), 0, 0, true, Checked::All);
        assert_eq!(walked(&mut walk), (vec![0], false));
        let before = walk.position();
        let (size_bytes, offsets) = walk.step_over_misfit().unwrap().unwrap();
        assert_eq!(offsets, 1);
        assert_eq!(walk.position(), before + size_bytes);
        assert_eq!(walked(&mut walk), (vec![1], true));
    }

    #[test]
    fn a_walk_in_any_order_passes_gaps_and_lower_offsets() {
        let segment = segment(&[0, 5, 1]);
        let mut walk = Walk::new(&segment, 0, 0, true, Checked::Nothing).in_any_order();
        assert_eq!(walked(&mut walk), (vec![0, 5, 1], true));
        assert_eq!(walk.expected(), 2, "the end of the last batch");
        assert_eq!(walk.position(), segment.size());
    }

    #[test]
    fn a_walk_checks_a_batch_that_it_has_passed() {
        let segment = segment(&[0, 1]);
        let mut walk = Walk::new(&segment, 0, 0, true, Checked::Nothing);
        let step = walk.next().unwrap().unwrap();
        let (position, header) = (step.position, step.header);
        let bytes = walk.checked(position, &header).unwrap();
        assert_eq!(bytes.len(), header.size_bytes as usize);
        let wrong = BatchHeader {
            crc: !header.crc,
            ..header
        };
        let refused = walk.checked(position, &wrong).unwrap_err();
        assert!(matches!(refused, ReadError::Damaged(_)), "{refused:?}");
    }

    #[test]
    fn only_checked_batches_have_bytes() {
        let segment = segment(&[0]);
        for (checked, has_bytes) in [
            (Checked::All, true),
            (Checked::Control, false),
            (Checked::Nothing, false),
        ] {
            let mut walk = Walk::new(&segment, 0, 0, true, checked);
            let step = walk.next().unwrap().unwrap();
            assert_eq!(step.bytes.is_some(), has_bytes, "{checked:?}");
        }
    }

    #[test]
    fn the_last_time_entry_is_that_of_a_batch_with_no_later_time_after_it() {
        let segment = segment(&[0, 1, 2]);
        let is_whole = |at: u32, last: Option<(i64, u32)>| {
            let batches = SegmentBatches {
                segment: &segment,
                interval_bytes: 4096,
                is_dense: true,
            };
            let entry = |(timestamp, relative_offset)| TimeEntry {
                timestamp,
                relative_offset,
            };
            batches.end_with(at, last.map(entry)).unwrap()
        };
        let size = segment.size();
        assert!(is_whole(0, Some((7, 0))));
        assert!(is_whole(size / 3, Some((7, 1))));
        assert!(!is_whole(size / 3, Some((7, 0))), "the batch is before");
        assert!(!is_whole(0, Some((8, 2))), "no batch has this time");
        assert!(!is_whole(0, None), "the batches have a time");
        assert!(is_whole(size, None), "there is no batch");
    }

    #[test]
    fn a_segment_begins_with_the_time_entry_of_its_first_batch() {
        let batches = SegmentBatches {
            segment: &segment(&[0, 1]),
            interval_bytes: 4096,
            is_dense: true,
        };
        let found = [(7, 0), (7, 1), (8, 0)].map(|(timestamp, relative_offset)| {
            let entry = TimeEntry {
                timestamp,
                relative_offset,
            };
            batches.begin_with(entry).unwrap()
        });
        assert_eq!(found, [true, false, false]);
    }
}
