//! A look at the records of a batch that takes no more than an append must know of them.
//!
//! It walks over plain records: those without headers, with fields of usual size. The caller
//! decodes every other record, and asks for the next survey after it.

use std::ops::{Range, RangeInclusive};

use super::BatchHeader;
use crate::format::record::{Layout, Plain, plain_at};
use crate::format::varint;

/// Plain records that follow each other, with offsets that rise.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) count: u32,
    /// The position after the last one, in bytes from the first record of the batch.
    pub(super) end: usize,
    /// The offset after the last one.
    pub(super) next_offset: u64,
    pub(super) have_keys: bool,
    least_timestamp_delta: i64,
    greatest_timestamp_delta: i64,
}

impl Survey {
    /// Surveys at most `remaining` records from `position` on. Their offsets must be in `wanted`,
    /// which is a part of the batch's offsets.
    pub(super) fn of(
        header: &BatchHeader,
        records: &[u8],
        position: usize,
        remaining: u32,
        wanted: &Range<u64>,
    ) -> Self {
        let mut survey = Self {
            count: 0,
            end: position,
            next_offset: wanted.start,
            have_keys: true,
            least_timestamp_delta: i64::MAX,
            greatest_timestamp_delta: i64::MIN,
        };
        while survey.count < remaining
            && let Some((plain, layout)) = plain_at(records, survey.end)
            && survey.take(&plain, header, wanted.end)
        {
            if let Some(layout) = layout {
                survey.take_alike(&layout, header, records, remaining, wanted.end);
            }
        }
        survey
    }

    /// Takes the next record in, if its offset is wanted.
    #[inline]
    fn take(&mut self, plain: &Plain, header: &BatchHeader, end: u64) -> bool {
        let delta = plain.offset_delta >> 1;
        let offset = header.base_offset.wrapping_add(delta.into());
        // A negative delta is an odd number.
        if plain.offset_delta & 1 != 0 || !(self.next_offset..end).contains(&offset) {
            return false;
        }
        let delta = varint::signed(plain.timestamp_delta.into());
        self.least_timestamp_delta = self.least_timestamp_delta.min(delta);
        self.greatest_timestamp_delta = self.greatest_timestamp_delta.max(delta);
        self.have_keys &= plain.has_key;
        self.next_offset = offset + 1;
        self.end += plain.size;
        self.count += 1;
        true
    }

    /// Takes the records in that have the layout of the last one.
    fn take_alike(
        &mut self,
        layout: &Layout,
        header: &BatchHeader,
        records: &[u8],
        remaining: u32,
        end: u64,
    ) {
        let mut next = self.next_offset.wrapping_sub(header.base_offset);
        let end = end.wrapping_sub(header.base_offset);
        let (mut least, mut greatest) = (self.least_timestamp_delta, self.greatest_timestamp_delta);
        let mut last_timestamp = layout.timestamp_delta;
        let mut count = 0;
        let rest = records.get(self.end..).unwrap_or_default();
        for record in rest.chunks_exact(layout.size) {
            let Some((timestamp_delta, offset_delta)) = layout.deltas_of(record) else {
                break;
            };
            let delta = offset_delta >> 1;
            if offset_delta & 1 != 0
                || delta < next
                || delta >= end
                || self.count + count == remaining
            {
                break;
            }
            // The records of a batch often have one timestamp.
            if timestamp_delta != last_timestamp {
                last_timestamp = timestamp_delta;
                let delta = varint::signed(timestamp_delta);
                (least, greatest) = (least.min(delta), greatest.max(delta));
            }
            next = delta + 1;
            count += 1;
        }
        (self.least_timestamp_delta, self.greatest_timestamp_delta) = (least, greatest);
        self.next_offset = header.base_offset.wrapping_add(next);
        self.count += count;
        self.end += count as usize * layout.size;
    }

    /// Returns the least and the greatest timestamp of the records. Returns `None` if there are no
    /// records, or if their timestamps wrap around.
    pub(super) fn timestamps(&self, header: &BatchHeader) -> Option<RangeInclusive<i64>> {
        let least = header.timestamp_of(self.least_timestamp_delta);
        let greatest = header.timestamp_of(self.greatest_timestamp_delta);
        (self.count > 0 && least <= greatest).then_some(least..=greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compression, TopicSettings};
    use crate::format::batch::{BatchBuilder, HEADER_BYTES};
    use crate::format::record::Record;

    #[test]
    fn all_wanted_records_of_one_layout_are_taken_at_once() {
        let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
        for time in [7, 3, 9, 9, 5] {
            builder.push(&Record::new("value"), time).unwrap();
        }
        let batch = builder.finish(&TopicSettings::default()).unwrap();
        let header = BatchHeader::decode(&batch).unwrap();
        let records = &batch[HEADER_BYTES..];
        for (remaining, end, count) in [(5, 5, 5), (5, 4, 4), (3, 5, 3), (1, 5, 1)] {
            let mut survey = Survey::of(&header, records, 0, 1, &(0..1));
            assert_eq!(survey.count, 1);
            let (plain, layout) = plain_at(records, 0).unwrap();
            survey.take_alike(&layout.unwrap(), &header, records, remaining, end);
            assert_eq!((survey.count, survey.next_offset), (count, count.into()));
            assert_eq!(survey.end, plain.size * count as usize);
        }
    }
}
