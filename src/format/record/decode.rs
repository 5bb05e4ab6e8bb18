//! Decoding one record, or stepping over it.

use super::Headers;
use super::bytes::read_bytes;
use crate::format::{Malformed, varint};

/// The fields of a record. Only its batch can turn the deltas into an offset and a timestamp.
#[derive(Clone, Copy, Debug)]
pub(in crate::format) struct Fields<'a> {
    pub(in crate::format) timestamp_delta: i64,
    pub(in crate::format) offset_delta: i64,
    pub(in crate::format) key: Option<&'a [u8]>,
    pub(in crate::format) value: Option<&'a [u8]>,
    pub(in crate::format) headers: Headers<'a>,
}

/// Returns the first of `records` without its length field, and how many bytes it takes including
/// that field.
pub(in crate::format) fn split_first(records: &[u8]) -> Result<(&[u8], usize), Malformed> {
    let mut rest = records;
    let length = varint::read_i32(&mut rest)?;
    let length =
        usize::try_from(length).map_err(|_| Malformed("the length of a record is negative"))?;
    let record = rest
        .get(..length)
        .ok_or(Malformed("a record is cut short"))?;
    Ok((record, records.len() - rest.len() + length))
}

/// Decodes a record; `record` is exactly the bytes that its length field counts.
pub(in crate::format) fn decode(record: &[u8]) -> Result<Fields<'_>, Malformed> {
    let Some((_attributes, mut rest)) = record.split_first() else {
        return Err(Malformed("a record is empty"));
    };
    let timestamp_delta = varint::read_i64(&mut rest)?;
    let offset_delta = varint::read_i32(&mut rest)?.into();
    let key = read_bytes(&mut rest)?;
    let value = read_bytes(&mut rest)?;
    Ok(Fields {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers: Headers::decode(rest)?,
    })
}

/// The number of bytes in which [`decode_first_plain`] expects all fields before the key.
pub(super) const LOOK_AHEAD_BYTES: usize = 16;

/// Does the work of [`split_first`] and [`decode`] in one pass, for the records that fill most
/// logs: those without headers, with a short key and small deltas.
///
/// Returns `None` for every other record, well-formed or not, and for one with too few bytes after
/// it to look ahead. The function makes no calls and keeps its working values in registers. A loop
/// over records takes a fraction of the time that the other two functions need.
#[expect(
    clippy::inline_always,
    reason = "a call would pass the fields, which are a dozen words, through memory"
)]
#[inline(always)]
pub(in crate::format) fn decode_first_plain(records: &[u8]) -> Option<(Fields<'_>, usize)> {
    let ahead: &[u8; LOOK_AHEAD_BYTES] = records.first_chunk()?;
    let (length, start) = varint::few_groups_at(ahead, 0)?;
    let size = start + varint::length_of(length)?;
    // The attributes take one byte.
    let (timestamp_delta, at) = varint::few_groups_at(ahead, start + 1)?;
    let (offset_delta, at) = varint::few_groups_at(ahead, at)?;
    let (key, key_start) = varint::few_groups_at(ahead, at)?;
    let key_end = key_start + varint::length_of(key).unwrap_or(0);
    let ahead: &[u8; 3] = records.get(key_end..key_end + 3)?.first_chunk()?;
    let (value, value_size) = varint::few_groups_at(ahead, 0)?;
    let value_start = key_end + value_size;
    let value_end = value_start + varint::length_of(value).unwrap_or(0);
    // After the value comes the count of headers, which must be 0.
    if value_end + 1 != size || *records.get(value_end)? != 0 {
        return None;
    }
    let bytes = |length, start, end| {
        if varint::length_of(length).is_some() {
            records.get(start..end).map(Some)
        } else {
            Some(None)
        }
    };
    let (key, value) = (
        bytes(key, key_start, key_end)?,
        bytes(value, value_start, value_end)?,
    );
    let (timestamp_delta, offset_delta) = (
        varint::signed(timestamp_delta.into()),
        varint::signed(offset_delta.into()),
    );
    Some((
        Fields {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: Headers::default(),
        },
        size,
    ))
}

/// Returns the offset delta and the size of the first record, if it starts like a record that
/// [`decode_first_plain`] decodes.
#[inline]
pub(in crate::format) fn measure_first_plain(records: &[u8]) -> Option<(i64, usize)> {
    let ahead: &[u8; LOOK_AHEAD_BYTES] = records.first_chunk()?;
    let (length, start) = varint::few_groups_at(ahead, 0)?;
    let size = start + varint::length_of(length)?;
    let (_timestamp_delta, at) = varint::few_groups_at(ahead, start + 1)?;
    let (offset_delta, _) = varint::few_groups_at(ahead, at)?;
    Some((varint::signed(offset_delta.into()), size))
}
