//! A look at a plain record that takes no more than an append must know of it. The records that
//! [`decode_first_plain`](super::decode_first_plain) decodes are plain.

#![expect(
    clippy::little_endian_bytes,
    reason = "the first group of a number is its lowest, and comes first"
)]

use super::decode::LOOK_AHEAD_BYTES;
use crate::format::varint;

/// The bit of each byte that says whether another byte of the number follows.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// The fields of a plain record that an append must know. The deltas are in zig-zag.
pub(in crate::format) struct Plain {
    pub(in crate::format) size: usize,
    pub(in crate::format) timestamp_delta: u32,
    pub(in crate::format) offset_delta: u32,
    pub(in crate::format) has_key: bool,
}

/// The places of the fields of a plain record.
///
/// Many logs have records of one size. If a record has the layout of the one before it, the place
/// of the next one does not depend on its bytes, so the processor need not wait for them.
pub(in crate::format) struct Layout {
    pub(in crate::format) size: usize,
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
    pub(in crate::format) timestamp_delta: u64,
}

impl Layout {
    /// Returns the timestamp delta and the offset delta of a record of this size, in zig-zag, if it
    /// has this layout.
    #[inline]
    pub(in crate::format) fn deltas_of(&self, record: &[u8]) -> Option<(u64, u64)> {
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
pub(in crate::format) fn plain_at(records: &[u8], at: usize) -> Option<(Plain, Option<Layout>)> {
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
