//! Integers of one to ten bytes, which records and Kafka's newer schemas use.
//!
//! | function | value | before the groups |
//! |---|---|---|
//! | `i32`, `i64` | signed: Kafka's varint and varlong | zig-zag, `(n << 1) ^ (n >> 31)` or `(n >> 63)` |
//! | `u32` | Kafka's unsigned varint | unchanged |
//!
//! The value is then written in groups of 7 bits, the lowest group first. Bit `0x80` of a byte is
//! set if another group follows. A 32-bit value has at most 5 groups, a 64-bit value at most 10.
//! Example: 300 is `d8 04` signed and `ac 02` unsigned.
//!
//! Writers use as few bytes as possible. Readers accept longer encodings up to the limit, and drop
//! bits above the value's top bit, as Kafka does. After an error, the reader's position in the
//! bytes is unchanged.

use super::Malformed;

const CUT_SHORT: Malformed = Malformed("a varint is cut short");
const TOO_LONG: Malformed = Malformed("a varint is too long");

/// Appends `value` as a varint.
#[inline]
pub(crate) fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_groups(
        out,
        u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()),
    );
}

/// Appends `value` as a varlong.
#[inline]
pub(crate) fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_groups(out, zigzag(value));
}

/// Appends `value` as an unsigned varint.
#[inline]
pub(crate) fn write_u32(out: &mut Vec<u8>, value: u32) {
    write_groups(out, u64::from(value));
}

/// Appends a length or count as a varint, or as a varlong if it does not fit into a varint.
#[inline]
pub(crate) fn write_length(out: &mut Vec<u8>, length: usize) {
    write_groups(out, (length as u64) << 1);
}

/// Returns the number of bytes that [`write_length`] writes.
#[inline]
pub(crate) fn size_of_length(length: usize) -> usize {
    size_of_groups((length as u64) << 1)
}

/// Returns the number of bytes of `value` as a varlong. As a varint it has the same bytes.
#[inline]
pub(crate) fn size_of_i64(value: i64) -> usize {
    size_of_groups(zigzag(value))
}

/// Reads a varint from the front of `bytes`, and moves `bytes` past it.
#[inline]
pub(crate) fn read_i32(bytes: &mut &[u8]) -> Result<i32, Malformed> {
    let value = read_u32(bytes)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Reads a varlong from the front of `bytes`, and moves `bytes` past it.
#[inline]
pub(crate) fn read_i64(bytes: &mut &[u8]) -> Result<i64, Malformed> {
    Ok(signed(read_groups::<10>(bytes)?))
}

/// Reads an unsigned varint from the front of `bytes`, and moves `bytes` past it.
#[inline]
pub(crate) fn read_u32(bytes: &mut &[u8]) -> Result<u32, Malformed> {
    Ok((read_groups::<5>(bytes)? & 0xffff_ffff) as u32)
}

/// Decodes the zig-zag encoding.
#[inline]
pub(super) fn signed(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Encodes a value in zig-zag.
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn size_of_groups(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[inline]
fn write_groups(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

#[inline]
fn read_groups<const MOST: usize>(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let (value, rest) = match few_groups(bytes) {
        Some((value, rest)) => (value.into(), rest),
        None => many_groups::<MOST>(bytes)?,
    };
    *bytes = rest;
    Ok(value)
}

/// Returns the value of up to three groups, before the zig-zag is decoded, and the bytes after it.
///
/// Nearly all numbers in a log are that short. Reading them here takes no call.
#[inline]
fn few_groups(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let joined = |low, middle, high| {
        u32::from(low & 0x7f_u8) | u32::from(middle & 0x7f_u8) << 7 | u32::from(high) << 14
    };
    match *bytes {
        [a, ref rest @ ..] if a < 0x80 => Some((a.into(), rest)),
        [a, b, ref rest @ ..] if b < 0x80 => Some((joined(a, b, 0_u8), rest)),
        [a, b, c, ref rest @ ..] if c < 0x80 => Some((joined(a, b, c), rest)),
        _ => None,
    }
}

/// Reads up to three groups at position `at`, and returns the value, before the zig-zag is decoded,
/// and the position after it.
///
/// The length of `bytes` is a constant, so that the compiler can drop the bounds checks for which
/// it knows a limit of `at`.
#[inline]
pub(super) fn few_groups_at<const N: usize>(bytes: &[u8; N], at: usize) -> Option<(u32, usize)> {
    let low = u32::from(*bytes.get(at)?);
    if low < 0x80 {
        return Some((low, at + 1));
    }
    let middle = u32::from(*bytes.get(at + 1)?);
    if middle < 0x80 {
        return Some((low & 0x7f | middle << 7, at + 2));
    }
    let high = u32::from(*bytes.get(at + 2)?);
    (high < 0x80).then_some((low & 0x7f | (middle & 0x7f) << 7 | high << 14, at + 3))
}

/// Returns the value of up to three groups in the lowest bytes of a word, the first group lowest,
/// before the zig-zag is decoded, and the number of their bits.
#[inline]
pub(super) fn few_groups_in(word: u64) -> Option<(u32, u32)> {
    let (groups, bits) = if word & 0x80 == 0 {
        (word & 0xff, 8)
    } else if word & 0x8000 == 0 {
        (word & 0xffff, 16)
    } else if word & 0x80_0000 == 0 {
        (word & 0xff_ffff, 24)
    } else {
        return None;
    };
    Some(((join_groups(groups) & 0xffff_ffff) as u32, bits))
}

/// Returns the value of up to three groups, the first group lowest. All bytes after them are 0.
#[inline]
pub(super) fn join_groups(word: u64) -> u64 {
    word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000
}

/// Returns the length that the groups hold, or `None` if it is negative.
#[inline]
pub(super) fn length_of(groups: u32) -> Option<usize> {
    if groups & 1 == 0 {
        Some((groups >> 1) as usize)
    } else {
        None
    }
}

/// Returns the groups of a value in the lowest bytes of a word, the first group highest, and their
/// number. Returns `None` if there are more than three groups.
#[inline]
pub(super) fn to_few_groups(value: u64) -> Option<(u64, usize)> {
    let group = |number: u32| value >> (7 * number) & 0x7f;
    match value {
        0..0x80 => Some((value, 1)),
        0x80..0x4000 => Some(((group(0) | 0x80) << 8 | group(1), 2)),
        0x4000..0x20_0000 => Some((
            (group(0) | 0x80) << 16 | (group(1) | 0x80) << 8 | group(2),
            3,
        )),
        _ => None,
    }
}

fn many_groups<const MOST: usize>(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let mut value = 0;
    for (group, &byte) in bytes.iter().take(MOST).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * group);
        if byte < 0x80 {
            return Ok((value, bytes.get(group + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < MOST {
        CUT_SHORT
    } else {
        TOO_LONG
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_i64(&mut out, value);
        out
    }

    #[test]
    fn varints_have_kafkas_bytes() {
        let vectors: [(i32, &[u8]); 10] = [
            (-1, &[0x01]),
            (0, &[0x00]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (-64, &[0x7f]),
            (-65, &[0x81, 0x01]),
            (300, &[0xd8, 0x04]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in vectors {
            let mut out = Vec::new();
            write_i32(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(signed(value.into()), bytes, "{value} as a varlong");
            assert_eq!(read_i32(&mut &*bytes), Ok(value));
            assert_eq!(read_i64(&mut &*bytes), Ok(value.into()));
        }
    }

    #[test]
    fn the_least_and_the_greatest_varlong_round_trip() {
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(signed(i64::MAX), most);
        assert_eq!(read_i64(&mut &most[..]), Ok(i64::MAX));
        assert_eq!(read_i64(&mut &*signed(i64::MIN)), Ok(i64::MIN));
    }

    #[test]
    fn unsigned_varints_are_not_zig_zag_encoded() {
        let mut out = Vec::new();
        write_u32(&mut out, 300);
        write_u32(&mut out, u32::MAX);
        assert_eq!(out, [0xac, 0x02, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        let mut bytes = &*out;
        assert_eq!(
            (read_u32(&mut bytes), read_u32(&mut bytes), bytes.len()),
            (Ok(300), Ok(u32::MAX), 0)
        );
    }

    #[test]
    fn readers_accept_longer_encodings_than_needed() {
        assert_eq!(read_i32(&mut &[0x82, 0x00][..]), Ok(1));
        assert_eq!(read_i32(&mut &[0x82, 0x80, 0x80, 0x80, 0x00][..]), Ok(1));
        assert_eq!(
            read_i64(&mut &[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]),
            Ok(1)
        );
        assert_eq!(
            read_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x7f][..]),
            Ok(u32::MAX),
            "bits above the 32nd are dropped"
        );
    }

    #[test]
    fn the_quick_reader_stops_at_three_groups() {
        assert_eq!(
            few_groups_at(&[0x80, 0x80, 0x7f, 0], 0),
            Some((0x7f << 14, 3))
        );
        assert_eq!(
            few_groups_at(&[0x80, 0x80, 0x80, 1], 0),
            None,
            "no value bit is set in the first three groups"
        );
        assert_eq!(few_groups(&[0x80, 0x80, 0x80, 1]), None);
    }

    #[test]
    fn malformed_varints_are_refused_and_the_position_is_unchanged() {
        for short in [&[][..], &[0x80], &[0x80, 0x80, 0x80, 0x80]] {
            let mut bytes = short;
            assert_eq!(read_i32(&mut bytes), Err(CUT_SHORT));
            assert_eq!(read_i64(&mut bytes), Err(CUT_SHORT));
            assert_eq!(bytes, short);
        }
        let long = [0x80; 11];
        assert_eq!(read_i32(&mut &long[..]), Err(TOO_LONG));
        assert_eq!(read_i32(&mut &long[..5]), Err(TOO_LONG));
        assert_eq!(read_i64(&mut &long[..9]), Err(CUT_SHORT));
        assert_eq!(read_i64(&mut &long[..10]), Err(TOO_LONG));
    }

    proptest! {
        #[test]
        fn values_round_trip(signed in any::<i64>(), shift in 0..64_u32, next in any::<u8>()) {
            let value = signed >> shift;
            let mut out = Vec::new();
            write_i64(&mut out, value);
            prop_assert_eq!(out.len(), size_of_i64(value));
            out.push(next);
            let mut bytes = &*out;
            prop_assert_eq!(read_i64(&mut bytes), Ok(value));
            prop_assert_eq!(bytes, [next]);
            if let Ok(value) = i32::try_from(value) {
                out.clear();
                write_i32(&mut out, value);
                prop_assert_eq!(out.len(), size_of_i64(value.into()));
                prop_assert_eq!(read_i32(&mut &*out), Ok(value));
                write_u32(&mut out, value.cast_unsigned());
                prop_assert_eq!(read_u32(&mut &out[size_of_i64(value.into())..]), Ok(value.cast_unsigned()));
            }
        }

        #[test]
        fn reading_any_bytes_moves_the_position_only_on_success(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            type Read = fn(&mut &[u8]) -> Result<i64, Malformed>;
            let reads: [Read; 3] =
                [|bytes| read_i32(bytes).map(i64::from), |bytes| read_i64(bytes), |bytes| read_u32(bytes).map(i64::from)];
            for read in reads {
                let mut rest = &*bytes;
                let is_read = read(&mut rest).is_ok();
                prop_assert!(bytes.ends_with(rest));
                prop_assert_eq!(is_read, rest.len() < bytes.len());
            }
        }
    }
}
