//! Encoding one record.

use super::Record;
use super::buffer::Buffer;
use super::bytes::{Bytes, size_of_bytes, write_bytes};
use crate::format::{Malformed, varint};

/// The greatest size of a batch, and so of a record: the length field of a batch is an `i32`.
pub(super) const MAX_BYTES: u64 = i32::MAX as u64;
/// The error for a record that would make its batch too large.
pub(crate) const TOO_LONG: Malformed = Malformed("a batch would be over 2147483647 bytes");
/// The length of null, -1, as a varint.
const NULL_LENGTH: u64 = 1;

/// The bytes beyond a record that [`encode_plain`] may overwrite.
pub(super) const LOOSE_BYTES: usize = 8;

/// Appends a record to `out`, which is the batch so far. `shape` is that of the record before it.
///
/// Returns `Malformed`, and leaves `out` unchanged, if the batch would exceed `i32::MAX` bytes.
#[inline]
pub(in crate::format) fn encode(
    out: &mut Buffer,
    shape: &mut Shape,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Result<(), Malformed> {
    match encode_plain(out, shape, timestamp_delta, offset_delta, record) {
        Some(()) => Ok(()),
        None => out.append(|out| encode_any(out, timestamp_delta, offset_delta, record)),
    }
}

/// Does the work of [`encode`] for the records that fill most logs: those without headers, with a
/// short key and small deltas.
///
/// Returns `None`, and leaves `out` unchanged, for every other record. It packs the fields before
/// the key into one word, which it computes again only if the shape of the records changes.
#[inline]
pub(super) fn encode_plain(
    out: &mut Buffer,
    shape: &mut Shape,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Option<()> {
    if !record.headers.is_empty() {
        return None;
    }
    let (offset_delta, offset_size) = varint::to_few_groups(u64::from(offset_delta) << 1)?;
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let fields = Fields {
        timestamp_delta,
        offset_size,
        key_length: length_of(key),
        value_length: length_of(value),
    };
    if shape.fields != fields {
        *shape = Shape::of(fields)?;
    }
    let free = MAX_BYTES.saturating_sub(out.len() as u64);
    if shape.size as u64 > free {
        return None;
    }
    let front = shape.front | offset_delta << shape.offset_shift;
    let room = out.room(shape.size + LOOSE_BYTES);
    let rest = put_lowest(room, front, shape.front_size)?;
    let rest = put(rest, key.unwrap_or_default())?;
    let rest = put_lowest(rest, shape.value_groups, shape.value_groups_size)?;
    let rest = put(rest, value.unwrap_or_default())?;
    let [header_count, loose @ ..] = rest else {
        return None;
    };
    *header_count = 0;
    debug_assert_eq!(
        loose.len(),
        LOOSE_BYTES,
        "a record has the length that was computed for it"
    );
    out.take(shape.size);
    Some(())
}

/// Returns the length of a key or value in zig-zag.
#[inline]
fn length_of(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(NULL_LENGTH, |bytes| (bytes.len() as u64) << 1)
}

/// What the layout of a plain record depends on. The lengths are in zig-zag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fields {
    timestamp_delta: i64,
    /// The number of groups of the offset delta. It is 0 if there is no record.
    offset_size: usize,
    key_length: u64,
    value_length: u64,
}

/// The layout of a plain record. The next record often has the same.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::format) struct Shape {
    fields: Fields,
    size: usize,
    /// The fields before the key in the lowest bytes, the first one highest. The offset delta is 0.
    front: u64,
    front_size: usize,
    /// The position of the offset delta in `front`, in bits.
    offset_shift: usize,
    value_groups: u64,
    value_groups_size: usize,
}

impl Shape {
    /// Returns the layout, or `None` if the fields before the key take more than one word.
    fn of(fields: Fields) -> Option<Self> {
        let timestamp_delta = varint::zigzag(fields.timestamp_delta);
        let (timestamp_delta, timestamp_size) = varint::to_few_groups(timestamp_delta)?;
        let (key_length, key_size) = varint::to_few_groups(fields.key_length)?;
        let (value_groups, value_groups_size) = varint::to_few_groups(fields.value_length)?;
        // The attributes and the count of headers take one byte each. A null takes none: -1 in
        // zig-zag is 1.
        let framed = 1 + timestamp_size + fields.offset_size + key_size + value_groups_size + 1;
        let length = framed as u64 + (fields.key_length >> 1) + (fields.value_length >> 1);
        let (groups, groups_size) = varint::to_few_groups(length << 1)?;
        let front_size = groups_size + 1 + timestamp_size + fields.offset_size + key_size;
        if front_size > 8 {
            return None;
        }
        let front = groups << (8 * (1 + timestamp_size)) | timestamp_delta;
        Some(Self {
            fields,
            size: groups_size + usize::try_from(length).ok()?,
            front: front << (8 * (fields.offset_size + key_size)) | key_length,
            front_size,
            offset_shift: 8 * key_size,
            value_groups,
            value_groups_size,
        })
    }
}

/// Puts the bytes at the front of `room`, and returns the room after them.
#[inline]
fn put<'a>(room: &'a mut [u8], bytes: &[u8]) -> Option<&'a mut [u8]> {
    let (front, rest) = room.split_at_mut_checked(bytes.len())?;
    if !bytes.is_empty() {
        front.copy_from_slice(bytes);
    }
    Some(rest)
}

/// Puts the lowest `count` bytes of a word at the front of `room`, highest byte first, and returns
/// the room after them. `count` is at least 1.
///
/// Copies all eight bytes, which compiles to no call. What follows overwrites those that are not
/// wanted.
#[inline]
fn put_lowest(room: &mut [u8], word: u64, count: usize) -> Option<&mut [u8]> {
    *room.first_chunk_mut()? = (word << (64 - 8 * count)).to_be_bytes();
    room.get_mut(count..)
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
pub(crate) fn encode_any(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Result<(), Malformed> {
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let mut length = 1
        + varint::size_of_i64(timestamp_delta) as u64
        + varint::size_of_i64(offset_delta.into()) as u64
        + size_of_bytes(key)
        + size_of_bytes(value)
        + varint::size_of_length(record.headers.len()) as u64;
    for (name, value) in &record.headers {
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
    varint::write_length(out, record.headers.len());
    for (name, value) in &record.headers {
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
