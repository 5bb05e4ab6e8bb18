//! Message sets v0 and v1, which we read but never write. The functions of `batch/` hide the
//! difference from v2 batches.
//!
//! A message set is a sequence of entries. An entry has one record, or it is a *wrapper*, which
//! contains a compressed message set.
//!
//! | offset v0 | v1 | size | field                                                                              |
//! |-----------|----|------|------------------------------------------------------------------------------------|
//! | 0         | 0  | 8    | offset; in a wrapper, that of its last record                                      |
//! | 8         | 8  | 4    | size of everything after this field, at least 14 (v0) or 22 (v1)                   |
//! | 12        | 12 | 4    | CRC-32 (IEEE) from the magic to the end                                            |
//! | 16        | 16 | 1    | magic, 0 or 1                                                                      |
//! | 17        | 17 | 1    | attributes: bits 0 to 2 codec; bit 3 timestamp type, v1 only; others unused        |
//! |           | 18 | 8    | timestamp, v1 only                                                                 |
//! | 18        | 26 |      | key: length int32 and bytes; a negative length is null                             |
//! |           |    |      | value: likewise                                                                    |
//!
//! The value of a wrapper is the compressed inner set, and its key is null. Inner entries are not
//! compressed again. Under `LogAppendTime`, every record has the wrapper's timestamp.
//!
//! - In v0, inner offsets are absolute.
//! - In v1, they are relative to the wrapper's first record (0, 1, 2, with gaps after compaction).
//!   The offset of that record is `wrapper offset - last inner offset`, so a reader must find the
//!   last inner entry first.
//! - In a v1 wrapper at offset 0, they are absolute.
//!
//! As in Kafka's reader, an inner set may end in the middle of an entry, which is then ignored. An
//! inner set without a whole entry is malformed. The CRC of an inner entry is checked when it is
//! read. Callers check the CRC of the outer entry.
//!
//! Example, in v1: offset 7, timestamp 1700000000000, key `k1` and value `v1` are
//! `0000000000000007 0000001a a5da6a62 01 00 0000018bcfe56800 00000002 6b31 00000002 7631`.

use crate::config::Compression;

use super::BatchHeader;
use crate::format::Malformed;
use crate::format::checksum::crc32;
use crate::format::compression;
use crate::format::record::{Headers, RawRecord};

/// The size of the offset and size fields, which the size field does not count.
const OVERHEAD_BYTES: usize = 12;
const HEADER_BYTES_V0: usize = 18;
const HEADER_BYTES_V1: usize = 26;
/// The size of a null key and a null value, which have only their length fields.
const NO_KEY_NO_VALUE_BYTES: usize = 8;
/// The position of the first byte that the CRC covers.
pub(in crate::format) const CHECKED_FROM: usize = 16;

const CODEC_MASK: u8 = 0b111;
const LOG_APPEND_TIME: u8 = 1 << 3;
const NO_TIMESTAMP: i64 = -1;

const TRUNCATED: Malformed = Malformed("message set ends too early");
const SIZE_TOO_SMALL: Malformed = Malformed("size of a message is too small");
const FIELD_TOO_LONG: Malformed = Malformed("key or value extends past the end of its message");
const NOT_DECOMPRESSED: Malformed = Malformed("compressed message set inside a compressed one");

/// The fields of an entry before its key.
#[derive(Clone, Copy, Debug)]
struct EntryHeader {
    offset: u64,
    /// The size of the whole entry, including its first 12 bytes.
    size_bytes: u32,
    crc: u32,
    magic: u8,
    attributes: u8,
    timestamp: i64,
}

/// A record, with the fields of its entry that a dump shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegacyRecord<'a> {
    /// The absolute offset, even if the entry stores a relative one.
    pub(crate) offset: u64,
    /// The magic of this entry, which may differ from that of its wrapper.
    pub(crate) magic: u8,
    pub(crate) attributes: u8,
    /// The timestamp in milliseconds: that of the wrapper under `LogAppendTime`, and -1 in v0.
    pub(crate) timestamp: i64,
    /// The CRC that is stored in the entry.
    pub(crate) crc: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    checked: &'a [u8],
}

impl LegacyRecord<'_> {
    /// Returns whether the CRC of this entry is right.
    pub(crate) fn crc_is_valid(&self) -> bool {
        crc32(self.checked) == self.crc
    }
}

/// Returns the size of the header of an entry.
pub(in crate::format) fn bytes_needed(magic: u8) -> usize {
    if magic == 0 {
        HEADER_BYTES_V0
    } else {
        HEADER_BYTES_V1
    }
}

/// Decodes the header of an entry. `bytes` may end after the header.
///
/// Unused attributes become 0, so that callers do not mistake them for attributes of a v2 batch.
pub(in crate::format) fn decode_header(bytes: &[u8]) -> Result<BatchHeader, Malformed> {
    let entry = EntryHeader::decode(bytes)?;
    let known = if entry.magic == 0 {
        CODEC_MASK
    } else {
        CODEC_MASK | LOG_APPEND_TIME
    };
    let attributes = u16::from(entry.attributes & known);
    Ok(BatchHeader {
        base_offset: entry.offset,
        last_offset: entry.offset,
        stated_last_offset: entry.offset,
        size_bytes: entry.size_bytes,
        magic: entry.magic,
        leader_epoch: -1,
        crc: entry.crc,
        attributes,
        base_timestamp: entry.timestamp,
        max_timestamp: entry.timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 1,
    })
}

/// Returns whether the CRC of an entry is right. `batch` is exactly the entry.
pub(in crate::format) fn crc_is_valid(batch: &[u8]) -> bool {
    let stored = batch
        .get(OVERHEAD_BYTES..)
        .and_then(<[u8]>::first_chunk::<4>)
        .map(|crc| u32::from_be_bytes(*crc));
    let checked = batch.get(CHECKED_FROM..);
    checked.is_some_and(|checked| stored == Some(crc32(checked)))
}

/// Returns the decompressed inner set of a wrapper, at most `limit` bytes, or `None` for an entry
/// with one record.
pub(in crate::format) fn decompressed(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, Malformed> {
    let codec = compression::codec_of(header.attributes)?;
    if codec == Compression::None {
        return Ok(None);
    }
    let (_, _, value) = split_entry(batch)?;
    let value = value.ok_or(Malformed("compressed message set without a value"))?;
    compression::decompress(codec, header.magic, value, limit).map(Some)
}

/// Returns the records of an entry with the fields that a dump shows, up to the first error. Their
/// CRCs are not checked. `decompressed` is the result of [`decompressed`].
pub(crate) fn records<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    decompressed: Option<&'a [u8]>,
) -> Result<impl Iterator<Item = Result<LegacyRecord<'a>, Malformed>> + use<'a>, Malformed> {
    let mut cursor = LegacyCursor::new(header, batch, decompressed)?;
    let header = *header;
    Ok(std::iter::from_fn(move || {
        cursor.next_legacy(&header, batch, decompressed)
    }))
}

/// A position among the records of an entry. It does not borrow from the entry.
#[derive(Clone, Debug)]
pub(in crate::format) struct LegacyCursor {
    /// The position in the inner set; 0 for an entry with one record.
    position: usize,
    /// The offset to which inner offsets are relative.
    base_offset: u64,
    is_done: bool,
}

impl LegacyCursor {
    /// Creates a cursor before the first record. For a wrapper, makes one pass over the inner
    /// entries to find the offset of the last one.
    pub(in crate::format) fn new(
        header: &BatchHeader,
        _batch: &[u8],
        decompressed: Option<&[u8]>,
    ) -> Result<Self, Malformed> {
        let base_offset = match decompressed {
            Some(inner_set) => base_offset(header, inner_set)?,
            None if compression::codec_of(header.attributes)? == Compression::None => 0,
            None => return Err(Malformed("compressed message set was not decompressed")),
        };
        Ok(Self {
            position: 0,
            base_offset,
            is_done: false,
        })
    }

    /// Returns the next record, or `None` after the last and after an error. The arguments are
    /// those of [`new`](Self::new).
    pub(in crate::format) fn next<'a>(
        &mut self,
        header: &BatchHeader,
        batch: &'a [u8],
        decompressed: Option<&'a [u8]>,
    ) -> Option<Result<RawRecord<'a>, Malformed>> {
        let record = self
            .next_legacy(header, batch, decompressed)?
            .and_then(|record| {
                // An entry with one record is a batch of its own, and the caller has checked its
                // CRC.
                if decompressed.is_some() && !record.crc_is_valid() {
                    self.is_done = true;
                    return Err(Malformed(
                        "CRC of a message inside a compressed message set does not match",
                    ));
                }
                let LegacyRecord {
                    offset,
                    timestamp,
                    key,
                    value,
                    ..
                } = record;
                Ok(RawRecord {
                    offset,
                    timestamp,
                    key,
                    value,
                    headers: Headers::default(),
                })
            });
        Some(record)
    }

    fn next_legacy<'a>(
        &mut self,
        header: &BatchHeader,
        batch: &'a [u8],
        decompressed: Option<&'a [u8]>,
    ) -> Option<Result<LegacyRecord<'a>, Malformed>> {
        if self.is_done {
            return None;
        }
        let record = match decompressed {
            None => {
                self.is_done = true;
                decode_record(batch)
            }
            Some(inner_set) => match next_entry(inner_set, self.position)? {
                Ok(entry) => {
                    self.position += entry.len();
                    decode_record(entry).and_then(|record| self.resolve(header, record))
                }
                Err(malformed) => Err(malformed),
            },
        };
        self.is_done |= record.is_err();
        Some(record)
    }

    /// Replaces the offset and the timestamp of an inner record by the effective ones.
    fn resolve<'a>(
        &self,
        header: &BatchHeader,
        mut record: LegacyRecord<'a>,
    ) -> Result<LegacyRecord<'a>, Malformed> {
        if record.attributes & CODEC_MASK != 0 {
            return Err(NOT_DECOMPRESSED);
        }
        record.offset = self
            .base_offset
            .checked_add(record.offset)
            .filter(|&offset| i64::try_from(offset).is_ok())
            .ok_or(Malformed("offset of a message is too large"))?;
        if record.magic > 0 && header.attributes & u16::from(LOG_APPEND_TIME) != 0 {
            record.timestamp = header.max_timestamp;
        }
        Ok(record)
    }
}

impl EntryHeader {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (offset, rest) = bytes.split_first_chunk::<8>().ok_or(TRUNCATED)?;
        let (size, rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        let (crc, rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        let (&[magic, attributes], rest) = rest.split_first_chunk::<2>().ok_or(TRUNCATED)?;
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            1 => i64::from_be_bytes(*rest.first_chunk::<8>().ok_or(TRUNCATED)?),
            _ => return Err(Malformed("magic of a message set is neither 0 nor 1")),
        };
        let size_bytes = entry_bytes(*size)?;
        if size_bytes < bytes_needed(magic) + NO_KEY_NO_VALUE_BYTES {
            return Err(SIZE_TOO_SMALL);
        }
        Ok(Self {
            offset: u64::try_from(i64::from_be_bytes(*offset))
                .map_err(|_| Malformed("negative offset of a message"))?,
            size_bytes: u32::try_from(size_bytes)
                .map_err(|_| Malformed("size of a message is too large"))?,
            crc: u32::from_be_bytes(*crc),
            magic,
            attributes,
            timestamp,
        })
    }
}

/// Returns the size of a whole entry, computed from its size field.
fn entry_bytes(size: [u8; 4]) -> Result<usize, Malformed> {
    let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| SIZE_TOO_SMALL)?;
    let entry_bytes = size.saturating_add(OVERHEAD_BYTES);
    if entry_bytes < HEADER_BYTES_V0 + NO_KEY_NO_VALUE_BYTES {
        Err(SIZE_TOO_SMALL)
    } else {
        Ok(entry_bytes)
    }
}

/// Returns the entry at a position of a message set, or `None` if no whole entry is left.
fn next_entry(set: &[u8], position: usize) -> Option<Result<&[u8], Malformed>> {
    let rest = set.get(position..)?;
    let overhead = rest.first_chunk::<OVERHEAD_BYTES>()?;
    let &[.., a, b, c, d] = overhead;
    match entry_bytes([a, b, c, d]) {
        Ok(entry_bytes) => rest.get(..entry_bytes).map(Ok),
        Err(malformed) => Some(Err(malformed)),
    }
}

/// Returns the offset to which the offsets in a wrapper are relative.
fn base_offset(wrapper: &BatchHeader, inner_set: &[u8]) -> Result<u64, Malformed> {
    let (mut position, mut last) = (0, None);
    while let Some(entry) = next_entry(inner_set, position) {
        let entry = entry?;
        position += entry.len();
        last = Some(entry);
    }
    let last =
        EntryHeader::decode(last.ok_or(Malformed("compressed message set without a message"))?)?;
    if wrapper.magic == 0 || wrapper.last_offset == 0 {
        return Ok(0);
    }
    wrapper
        .last_offset
        .checked_sub(last.offset)
        .ok_or(Malformed(
            "offset of a compressed message set is below its last message's",
        ))
}

/// The header, key and value of a whole entry.
type SplitEntry<'a> = (EntryHeader, Option<&'a [u8]>, Option<&'a [u8]>);

fn split_entry(entry: &[u8]) -> Result<SplitEntry<'_>, Malformed> {
    let header = EntryHeader::decode(entry)?;
    let fields = entry.get(bytes_needed(header.magic)..).ok_or(TRUNCATED)?;
    let (key, rest) = split_field(fields)?;
    let (value, _) = split_field(rest)?;
    Ok((header, key, value))
}

fn split_field(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Malformed> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(FIELD_TOO_LONG)?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Err(_) => Ok((None, rest)),
        Ok(length) => {
            let (field, rest) = rest.split_at_checked(length).ok_or(FIELD_TOO_LONG)?;
            Ok((Some(field), rest))
        }
    }
}

fn decode_record(entry: &[u8]) -> Result<LegacyRecord<'_>, Malformed> {
    let (
        EntryHeader {
            offset,
            crc,
            magic,
            attributes,
            timestamp,
            ..
        },
        key,
        value,
    ) = split_entry(entry)?;
    let checked = entry.get(CHECKED_FROM..).ok_or(TRUNCATED)?;
    Ok(LegacyRecord {
        offset,
        magic,
        attributes,
        timestamp,
        crc,
        key,
        value,
        checked,
    })
}

#[cfg(all(
    test,
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    feature = "zstd"
))]
mod tests;
