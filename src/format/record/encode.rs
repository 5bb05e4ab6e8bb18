//! Encoding one record.

use super::bytes::{Bytes, size_of_bytes, write_bytes};
use super::{Parts, Record};
use crate::format::{Malformed, varint};

/// The greatest size of a batch, and so of a record: the length field of a batch is an `i32`.
pub(super) const MAX_BYTES: u64 = i32::MAX as u64;
/// The error for a record that would make its batch too large.
pub(crate) const TOO_LONG: Malformed = Malformed("a batch would be over 2147483647 bytes");
/// The length of null, -1, as a varint.
const NULL_LENGTH: u64 = 1;

/// Appends a record to `out`, which is the batch so far.
///
/// Returns `Malformed`, and leaves `out` unchanged, if the batch would exceed `i32::MAX` bytes.
#[inline]
pub(crate) fn encode(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: Parts<'_>,
) -> Result<(), Malformed> {
    match encode_plain(out, timestamp_delta, offset_delta, record) {
        Some(()) => Ok(()),
        None => encode_any(out, timestamp_delta, offset_delta, record),
    }
}

/// Does the work of [`encode`] for the records that fill most logs: those without headers, with a
/// short key and small deltas.
///
/// Returns `None`, and leaves `out` unchanged, for every other record. It packs the fields before
/// the key into one word and takes half the time of [`encode_any`].
#[inline]
pub(super) fn encode_plain(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: Parts<'_>,
) -> Option<()> {
    if !record.headers.is_empty() {
        return None;
    }
    let (key, value) = (record.key, record.value);
    let length_of =
        |bytes: Option<&[u8]>| bytes.map_or(NULL_LENGTH, |bytes| (bytes.len() as u64) << 1);
    let (timestamp_delta, timestamp_size) = varint::to_few_groups(varint::zigzag(timestamp_delta))?;
    let (offset_delta, offset_size) = varint::to_few_groups(u64::from(offset_delta) << 1)?;
    let (key_length, key_size) = varint::to_few_groups(length_of(key))?;
    let (value_length, value_size) = varint::to_few_groups(length_of(value))?;
    let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
    // The attributes and the count of headers take one byte each.
    let length =
        1 + timestamp_size + offset_size + key_size + key.len() + value_size + value.len() + 1;
    let (groups, size) = varint::to_few_groups((length as u64) << 1)?;
    let front_size = size + 1 + timestamp_size + offset_size + key_size;
    let room = MAX_BYTES.saturating_sub(out.len() as u64);
    if front_size > 8 || (size + length) as u64 > room {
        return None;
    }
    let front = groups << (8 * (1 + timestamp_size)) | timestamp_delta;
    let front = (front << (8 * offset_size) | offset_delta) << (8 * key_size) | key_length;

    out.reserve(size + length + 8);
    let end = out.len() + size + length;
    extend_by_lowest(out, front, front_size);
    out.extend_from_slice(key);
    extend_by_lowest(out, value_length, value_size);
    out.extend_from_slice(value);
    out.push(0);
    debug_assert_eq!(
        out.len(),
        end,
        "a record has the length that was computed for it"
    );
    Some(())
}

/// Appends the lowest `count` bytes of a word, highest byte first. `count` is at least 1.
///
/// Copies all eight bytes and cuts the rest off, which compiles to no call.
#[inline]
fn extend_by_lowest(out: &mut Vec<u8>, word: u64, count: usize) {
    let end = out.len() + count;
    out.extend_from_slice(&(word << (64 - 8 * count)).to_be_bytes());
    out.truncate(end);
}

/// Returns an upper bound of the size of the record in a batch, in bytes.
#[inline]
pub(crate) fn size_bound(record: &Record<'_>) -> usize {
    /// Room for the length, the attributes, the deltas, the lengths of key and value, and the
    /// count of headers.
    const FIELDS_BYTES: usize = 32;
    /// Room for the lengths of the name and the value.
    const HEADER_BYTES: usize = 10;
    let length = |bytes: &Bytes<'_>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| HEADER_BYTES + name.len() + length(value))
        .sum();
    FIELDS_BYTES + length(&record.key) + length(&record.value) + headers
}

/// Does the work of [`encode`] for any record.
#[inline(never)]
pub(super) fn encode_any(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: Parts<'_>,
) -> Result<(), Malformed> {
    let Parts {
        key,
        value,
        headers,
        ..
    } = record;
    let mut length = 1
        + varint::size_of_i64(timestamp_delta) as u64
        + varint::size_of_i64(offset_delta.into()) as u64
        + size_of_bytes(key)
        + size_of_bytes(value)
        + varint::size_of_length(headers.len()) as u64;
    for (name, value) in headers {
        length += size_of_bytes(Some(name)) + size_of_bytes(value.as_deref());
    }
    let room = MAX_BYTES.saturating_sub(out.len() as u64);
    let length = match usize::try_from(length) {
        Ok(fits) if length + (varint::size_of_length(fits) as u64) <= room => fits,
        _ => return Err(TOO_LONG),
    };

    out.reserve(varint::size_of_length(length) + length);
    varint::write_length(out, length);
    let end = out.len() + length;
    out.push(0);
    varint::write_i64(out, timestamp_delta);
    varint::write_i64(out, offset_delta.into());
    write_bytes(out, key);
    write_bytes(out, value);
    varint::write_length(out, headers.len());
    for (name, value) in headers {
        write_bytes(out, Some(name));
        write_bytes(out, value.as_deref());
    }
    debug_assert_eq!(
        out.len(),
        end,
        "a record has the length that was computed for it"
    );
    Ok(())
}
