//! The places of batches between the index entries, for the newest part of an active segment.
//!
//! An index entry leads to within `index.interval.bytes` of a batch. If batches are small, a
//! look-up reads more than twenty of them to find one. The writer knows where each batch begins, so
//! it notes more places than the index file gets. They take at most 1 MiB of memory for each active
//! segment: the oldest are forgotten, and look-ups there use the entries.
//!
//! A place has the lowest offset that its batch may have, and an entry has the last one. So a
//! look-up need not read the batch before the one that it is for.

use std::collections::VecDeque;

use crate::format::index_entry::last_at_most;

use super::IndexedBatch;

/// A place is noted once this many bytes follow the last one.
const SPACING_BYTES: u32 = 512;
/// The most places that are kept.
const MOST: usize = 128 << 10;

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The offset after the batch before it, relative to the base offset of the segment.
    relative_offset: u32,
    position: u32,
}

/// Where a look-up begins and how far it has to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The lowest base offset that the batch at `position` may have, relative to the base offset of
    /// the segment. No batch before it has an offset at or above this one.
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
    /// The position of a batch that begins above the offset, or `None` if no later place is known.
    pub(crate) end: Option<u32>,
}

/// Some of the newest batches, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    noted: VecDeque<Place>,
    bytes_since_place: u32,
    /// The offset after the last batch that was noted.
    next_offset: Option<u32>,
}

impl Places {
    /// Notes the next batch, which can have an index entry, if a place is due.
    pub(super) fn note(&mut self, batch: &IndexedBatch) {
        let lowest = match self.next_offset {
            Some(next) => Some(next).filter(|next| *next <= batch.relative_last_offset),
            None => Some(0).filter(|_| batch.position == 0),
        };
        if let Some(relative_offset) = lowest
            && (self.bytes_since_place >= SPACING_BYTES || batch.position == 0)
        {
            if self.noted.len() == MOST {
                self.noted.pop_front();
            }
            let position = batch.position;
            self.noted.push_back(Place {
                relative_offset,
                position,
            });
            self.bytes_since_place = 0;
        }
        self.bytes_since_place = self.bytes_since_place.saturating_add(batch.size_bytes);
        self.next_offset = self.next_offset.max(Some(batch.relative_last_offset + 1));
        debug_assert!(self.noted.len() <= MOST, "the oldest places are forgotten");
    }

    /// Returns the last place at or below an offset, or `None` if the offset is before all of them.
    pub(super) fn floor(&self, relative_offset: u32) -> Option<Start> {
        let offset_at = |number| {
            let place: Option<&Place> = self.noted.get(number);
            place.map_or(u32::MAX, |place| place.relative_offset)
        };
        let number = last_at_most(self.noted.len(), offset_at, relative_offset)?;
        let place = self.noted.get(number)?;
        Some(Start {
            relative_offset: place.relative_offset,
            position: place.position,
            end: self.noted.get(number + 1).map(|next| next.position),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the places of batches of one record each, all of this size.
    fn places_of(batches: u32, size_bytes: u32) -> Places {
        let mut places = Places::default();
        for number in 0..batches {
            places.note(&IndexedBatch {
                position: number * size_bytes,
                size_bytes,
                relative_last_offset: number,
                max_timestamp: -1,
            });
        }
        places
    }

    /// Returns the offset and the position of the last place at or below an offset, and the
    /// position of the next one, or 0 if there is none.
    fn found(places: &Places, relative_offset: u32) -> (u32, u32, u32) {
        let start = places.floor(relative_offset).unwrap();
        (
            start.relative_offset,
            start.position,
            start.end.unwrap_or(0),
        )
    }

    #[test]
    fn a_place_is_noted_after_each_spacing() {
        let places = places_of(20, 200);
        assert_eq!(found(&places, 2), (0, 0, 600));
        for offset in 6..9 {
            assert_eq!(found(&places, offset), (6, 1_200, 1_800));
        }
        assert_eq!(found(&places, u32::MAX), (18, 3_600, 0));
    }

    #[test]
    fn large_batches_have_a_place_each() {
        let places = places_of(10, 10_000);
        for number in 0..9 {
            let position = number * 10_000;
            assert_eq!(
                found(&places, number),
                (number, position, position + 10_000)
            );
        }
    }

    #[test]
    fn the_oldest_places_are_forgotten() {
        let most = u32::try_from(MOST).unwrap();
        let places = places_of(most + 11, 600);
        assert_eq!(places.floor(10), None, "the first ten are forgotten");
        assert_eq!(found(&places, 11), (11, 6_600, 7_200));
        assert_eq!(found(&places, most), (most, most * 600, (most + 1) * 600));
    }

    #[test]
    fn a_batch_whose_offset_does_not_rise_has_no_place() {
        let mut places = places_of(10, 600);
        places.note(&IndexedBatch {
            position: 6_000,
            size_bytes: 600,
            relative_last_offset: 3,
            max_timestamp: -1,
        });
        assert_eq!(found(&places, u32::MAX), (9, 5_400, 0));
    }

    #[test]
    fn batches_that_follow_others_without_a_place_have_none_before_them() {
        let mut places = Places::default();
        for number in 5..7 {
            places.note(&IndexedBatch {
                position: number * 1_000,
                size_bytes: 1_000,
                relative_last_offset: number,
                max_timestamp: -1,
            });
        }
        assert_eq!(places.floor(5), None, "what precedes it is unknown");
        assert_eq!(found(&places, 6), (6, 6_000, 0));
    }

    #[test]
    fn a_place_after_a_gap_is_found_from_the_gap_on() {
        let mut places = Places::default();
        for (number, relative_last_offset) in (0..).zip([3, 9, 20]) {
            places.note(&IndexedBatch {
                position: number * 1_000,
                size_bytes: 1_000,
                relative_last_offset,
                max_timestamp: -1,
            });
        }
        assert_eq!(found(&places, 3), (0, 0, 1_000));
        assert_eq!(found(&places, 4), (4, 1_000, 2_000));
        assert_eq!(found(&places, 10), (10, 2_000, 0));
    }
}
