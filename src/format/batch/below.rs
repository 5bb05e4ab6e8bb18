//! The first part of a batch, made into a batch of its own.

use super::packing::Packing;
use super::{
    BatchHeader, CODEC, HEADER_BYTES, LOG_APPEND_TIME, RecordCursor, TOO_LONG, codec_bits,
};
use crate::config::TimestampType;
use crate::format::Malformed;
use crate::format::record::{self, Record};

/// Returns a batch with the records below offset `end`, which is an offset of the old batch.
/// Returns `None` if no record is below it.
///
/// - The records keep their offsets and timestamps. The batch keeps the producer and its first
///   sequence number.
/// - The last offset of the new batch is `end - 1`, even if compaction has removed that record.
/// - It keeps the codec, unless readers would refuse to decompress it.
/// - It is a v2 batch, even if the old batch was a legacy one.
///
/// `decompressed` is the result of [`decompressed`](super::decompressed).
pub(crate) fn below(
    header: &BatchHeader,
    batch: &[u8],
    decompressed: Option<&[u8]>,
    end: u64,
    packing: Packing<'_>,
) -> Result<Option<Vec<u8>>, Malformed> {
    let is_current = header.magic >= 2;
    let mut kept = vec![0; HEADER_BYTES];
    let (mut base, mut record_count, mut max_timestamp) = (None, 0, -1);
    let mut cursor = RecordCursor::new(header, batch, decompressed)?;
    while let Some(raw) = cursor.next(header, batch, decompressed) {
        let raw = raw?;
        if raw.offset >= end {
            break;
        }
        let first = if is_current {
            (header.base_offset, header.base_timestamp)
        } else {
            (raw.offset, raw.timestamp)
        };
        let (base_offset, base_timestamp) = *base.get_or_insert(first);
        let delta = raw
            .offset
            .checked_sub(base_offset)
            .and_then(|delta| u32::try_from(delta).ok());
        let delta = delta.ok_or(Malformed("the offset of a record is out of range"))?;
        record::encode(
            &mut kept,
            raw.timestamp.wrapping_sub(base_timestamp),
            delta,
            &Record::from_raw(&raw),
        )?;
        record_count += 1;
        max_timestamp = raw.timestamp.max(max_timestamp);
    }
    let Some((base_offset, base_timestamp)) = base else {
        return Ok(None);
    };
    let codec = packing.pack(header.codec()?, &mut kept)?;
    let is_append_time = header.timestamp_type() == Some(TimestampType::LogAppendTime);
    let attributes = if is_current {
        header.attributes & !CODEC
    } else if is_append_time {
        LOG_APPEND_TIME
    } else {
        0
    };
    let size_bytes = u32::try_from(kept.len())
        .ok()
        .filter(|size| *size <= i32::MAX.cast_unsigned());
    let made = BatchHeader {
        base_offset,
        last_offset: end - 1,
        size_bytes: size_bytes.ok_or(TOO_LONG)?,
        magic: 2,
        attributes: attributes | codec_bits(codec),
        base_timestamp,
        max_timestamp: if is_append_time {
            header.max_timestamp
        } else {
            max_timestamp
        },
        record_count,
        ..*header
    };
    made.write(&mut kept);
    Ok(Some(kept))
}
