//! The first part of a batch, made into a batch of its own.

use super::packing::Packing;
use super::rebuilt::Rebuilt;
use super::{BatchHeader, CODEC, LOG_APPEND_TIME, RecordCursor};
use crate::config::TimestampType;
use crate::format::Malformed;

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
    let mut kept = Vec::new();
    let mut rebuilt = Rebuilt::new(header, &mut kept);
    let mut cursor = RecordCursor::new(header, batch, decompressed)?;
    while let Some(raw) = cursor.next(header, batch, decompressed) {
        let raw = raw?;
        if raw.offset >= end {
            break;
        }
        let base_timestamp = if is_current {
            header.base_timestamp
        } else {
            raw.timestamp
        };
        rebuilt.push(&raw, base_timestamp)?;
    }
    let attributes = if is_current {
        header.attributes & !CODEC
    } else if header.timestamp_type() == Some(TimestampType::LogAppendTime) {
        LOG_APPEND_TIME
    } else {
        0
    };
    let has_records = rebuilt.finish(attributes, end - 1, packing)?;
    Ok(has_records.then_some(kept))
}
