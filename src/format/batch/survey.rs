//! A look at the records of a batch that takes no more than an append must know of them.
//!
//! It walks over plain records: those without headers, with fields of usual size. The caller
//! decodes every other record, and asks for the next survey after it.

#![expect(
    clippy::little_endian_bytes,
    reason = "the first group of a number is its lowest, and comes first"
)]

use std::ops::{Range, RangeInclusive};

use super::BatchHeader;
use crate::format::varint;

/// The number of bytes from the start of a record in which its fields before the key must end.
const LOOK_AHEAD_BYTES: usize = 16;

/// The bit of each byte that says whether another byte of the number follows.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

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

/// The fields of a plain record that an append must know. The deltas are in zig-zag.
struct Plain {
    size: usize,
    timestamp_delta: u32,
    offset_delta: u32,
    has_key: bool,
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

/// The places of the fields of a plain record.
///
/// Many logs have records of one size. If a record has the layout of the one before it, the place
/// of the next one does not depend on its bytes, so the processor need not wait for them.
struct Layout {
    size: usize,
    /// The first bytes, without those that may differ in a record of the same layout: all except
    /// the attributes and the seven low bits of each byte of the deltas.
    front: u64,
    front_mask: u64,
    /// The position of the timestamp delta, in bits, and its bits.
    timestamp_at: u32,
    timestamp_mask: u64,
    /// The position of the offset delta, in bits, and its bits.
    offset_at: u32,
    offset_mask: u64,
    /// The position of the length of the value.
    value_at: usize,
    value_length: u32,
    value_length_mask: u32,
    /// The timestamp delta of the record that was looked at.
    timestamp_delta: u64,
}

impl Layout {
    /// Returns the timestamp delta and the offset delta of a record of this size, in zig-zag, if it
    /// has this layout.
    #[inline]
    fn deltas_of(&self, record: &[u8]) -> Option<(u64, u64)> {
        let word = u64::from_le_bytes(*record.first_chunk()?);
        let value: &[u8; 4] = record.get(self.value_at..)?.first_chunk()?;
        let is_alike = word & self.front_mask == self.front
            && u32::from_le_bytes(*value) & self.value_length_mask == self.value_length
            && *record.last()? == 0;
        is_alike.then(|| {
            let timestamp_delta =
                varint::join_groups(word >> self.timestamp_at & self.timestamp_mask);
            let offset_delta = varint::join_groups(word >> self.offset_at & self.offset_mask);
            (timestamp_delta, offset_delta)
        })
    }
}

/// Returns the fields of the record at this position, if it is plain and there are enough bytes
/// after it to look ahead. Returns its layout too, if the fields before the key take eight bytes at
/// most.
#[inline]
fn plain_at(records: &[u8], at: usize) -> Option<(Plain, Option<Layout>)> {
    let ahead: &[u8; LOOK_AHEAD_BYTES] = records.get(at..)?.first_chunk()?;
    let word = u128::from_le_bytes(*ahead);
    let (length, length_bits) = varint::few_groups_in(low(word))?;
    // The attributes take one byte.
    let timestamp_at = length_bits + 8;
    let mut rest = low(word >> timestamp_at);
    let (timestamp_delta, timestamp_bits) = varint::few_groups_in(rest)?;
    rest >>= timestamp_bits;
    let (offset_delta, offset_bits) = varint::few_groups_in(rest)?;
    rest >>= offset_bits;
    // Two of the eight bytes are left at least.
    let (key, key_bits) = varint::few_groups_in(rest).filter(|(_, bits)| *bits <= 16)?;
    let key_length_at = timestamp_at + timestamp_bits + offset_bits;
    let key_at = bytes_of(key_length_at + key_bits);
    let value_at = key_at + varint::length_of(key).unwrap_or(0);
    let ahead: &[u8; 4] = records.get(at + value_at..)?.first_chunk()?;
    let value_word = u32::from_le_bytes(*ahead);
    let (value, value_bits) = varint::few_groups_in(value_word.into())?;
    let value_end = value_at + bytes_of(value_bits) + varint::length_of(value).unwrap_or(0);
    let size = bytes_of(length_bits) + varint::length_of(length)?;
    // After the value comes the count of headers, which must be 0.
    if value_end + 1 != size || *records.get(at + value_end)? != 0 {
        return None;
    }
    let plain = Plain {
        size,
        timestamp_delta,
        offset_delta,
        has_key: varint::length_of(key).is_some(),
    };
    let layout = (key_length_at + key_bits <= u64::BITS).then(|| {
        let front_mask = ones(length_bits)
            | (CONTINUED & ones(timestamp_bits + offset_bits)) << timestamp_at
            | ones(key_bits) << key_length_at;
        let value_length_mask = u32::MAX >> (u32::BITS - value_bits);
        Layout {
            size,
            front: low(word) & front_mask,
            front_mask,
            timestamp_at,
            timestamp_mask: ones(timestamp_bits),
            offset_at: timestamp_at + timestamp_bits,
            offset_mask: ones(offset_bits),
            value_at,
            value_length: value_word & value_length_mask,
            value_length_mask,
            timestamp_delta: timestamp_delta.into(),
        }
    });
    Some((plain, layout))
}

/// Returns a word whose lowest `bits` bits are set.
#[inline]
fn ones(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Returns the lowest eight bytes.
#[inline]
fn low(word: u128) -> u64 {
    (word & 0xffff_ffff_ffff_ffff) as u64
}

#[inline]
fn bytes_of(bits: u32) -> usize {
    (bits / 8) as usize
}
