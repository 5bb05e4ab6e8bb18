//! A batch that was made elsewhere and is to be appended as it is.
//!
//! It passes the checks of a broker for a batch that a client produced (Kafka's `LogValidator`),
//! with one exception: some offsets may lack a record, as in a batch that compaction has thinned.

use std::ops::RangeInclusive;

use super::survey::Survey;
use super::{
    BatchHeader, CHECKED_FROM, CONTROL, DELETE_HORIZON, FRAME_BYTES, Frame, HEADER_BYTES,
    LOG_APPEND_TIME, MAX_I32, RecordCursor, decompressed, header_of,
};
use crate::config::TimestampType;
use crate::format::Malformed;
use crate::format::checksum::Checksum;
use crate::format::fixed::set_field;
use crate::format::record::RawRecord;

/// The position of the magic in every format.
const MAGIC_AT: usize = 16;

/// Returns the header and the size in bytes of the first batch in `bytes`, whose checksum is right.
///
/// Refuses every batch that a client may not produce, and any batch of a transaction: its marker
/// would never follow.
pub(crate) fn first_whole(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), Malformed> {
    match bytes.get(MAGIC_AT) {
        None => return Err(Malformed("the bytes are cut short: pass whole batches")),
        Some(0 | 1) => {
            return Err(Malformed(
                "it has a format before v2, or is no batch: append its records instead",
            ));
        }
        Some(2) => {}
        Some(_) => {
            return Err(Malformed(
                "it is no batch of format v2: pass whole batches, as `Batch::as_bytes` returns them",
            ));
        }
    }
    debug_assert!(bytes.len() >= FRAME_BYTES, "the magic ends the frame");
    let size = Frame::decode(bytes)?.size_bytes as usize;
    let batch = bytes
        .get(..size)
        .ok_or(Malformed("the bytes are cut short: pass whole batches"))?;
    let header = BatchHeader::decode(bytes)?;
    if !header.crc_is_valid(batch) {
        return Err(Malformed(
            "its checksum does not match its bytes: read it from its source again",
        ));
    }
    if header.attributes & CONTROL != 0 {
        return Err(Malformed(
            "it is a control batch, as a transaction marker is: leave it out",
        ));
    }
    if header.is_transactional() {
        return Err(Malformed(
            "it belongs to a transaction, which no marker would end: append its records instead",
        ));
    }
    if header.record_count == 0 {
        return Err(Malformed("it has no records: leave it out"));
    }
    if header.record_count > MAX_I32 || header.stated_last_offset != header.last_offset {
        return Err(Malformed(
            "it states fewer offsets than records: append its records instead",
        ));
    }
    if header.has_producer() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(Malformed(
            "it names a producer without an epoch or a sequence: append its records instead",
        ));
    }
    Ok((header, batch))
}

/// What a topic accepts without a closer look.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) needs_keys: bool,
    pub(crate) timestamps: RangeInclusive<i64>,
}

impl Accepted {
    fn has(&self, survey: &Survey, timestamps: &RangeInclusive<i64>) -> bool {
        (survey.have_keys || !self.needs_keys)
            && self.timestamps.contains(timestamps.start())
            && self.timestamps.contains(timestamps.end())
    }
}

/// Checks every record of a batch that [`first_whole`] returned, decompressed to at most `limit`
/// bytes. Records that are not in `accepted` are passed to `check` with their number, and some
/// others too.
///
/// Returns the greatest timestamp of the records, or the error of `check`. The offsets of the
/// records rise within those of the batch.
pub(crate) fn check_records<E: From<Malformed>>(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
    accepted: &Accepted,
    mut check: impl FnMut(u32, &RawRecord<'_>) -> Result<(), E>,
) -> Result<i64, E> {
    let plain = decompressed(header, batch, limit)?;
    let plain = plain.as_deref();
    let records = plain.unwrap_or_else(|| batch.get(HEADER_BYTES..).unwrap_or_default());
    let mut cursor = RecordCursor::new(header, batch, plain)?;
    let (mut number, mut max_timestamp) = (0, -1);
    let mut wanted = header.base_offset..header.last_offset + 1;
    let mut is_surveyed = true;
    loop {
        if is_surveyed {
            let survey = cursor.current.survey(header, records, &wanted);
            let accepted = survey
                .timestamps(header)
                .filter(|timestamps| accepted.has(&survey, timestamps));
            // Records that are not accepted are decoded one by one, up to the one that is refused.
            is_surveyed = survey.count == 0 || accepted.is_some();
            if let Some(timestamps) = accepted {
                cursor.current.pass(&survey);
                number += survey.count;
                wanted.start = survey.next_offset;
                max_timestamp = max_timestamp.max(*timestamps.end());
            }
        }
        let Some(raw) = cursor.next(header, batch, plain) else {
            break;
        };
        let raw = raw?;
        if raw.offset < wanted.start {
            return Err(Malformed("the offsets of its records do not rise").into());
        }
        check(number, &raw)?;
        number += 1;
        wanted.start = raw.offset + 1;
        max_timestamp = raw.timestamp.max(max_timestamp);
    }
    debug_assert_eq!(number, header.record_count, "the cursor counts the records");
    Ok(max_timestamp)
}

/// Corrects the fields that have another meaning in the new log of a batch. Returns whether the
/// header changed, so that [`write_times`] must write it.
///
/// The greatest timestamp is corrected, because the time index depends on it. The time from which
/// on compaction may drop tombstones is removed: it counts from a compaction of another log.
pub(crate) fn settle(header: &mut BatchHeader, max_timestamp: i64) -> bool {
    let is_create_time = header.timestamp_type() == Some(TimestampType::CreateTime);
    let is_settled = header.delete_horizon().is_none()
        && (!is_create_time || header.max_timestamp == max_timestamp);
    header.attributes &= !DELETE_HORIZON;
    header.max_timestamp = max_timestamp;
    !is_settled
}

/// Sets the time of the append in the header. [`write_times`] must write it.
pub(crate) fn settle_append_time(header: &mut BatchHeader, now: i64) {
    header.attributes |= LOG_APPEND_TIME;
    header.max_timestamp = now;
}

/// Writes attributes and greatest timestamp of the header into its batch, and the checksum. The
/// batch is in two parts, and `front` contains the whole header.
pub(crate) fn write_times(header: &BatchHeader, front: &mut [u8], rest: &[u8]) {
    let fields = header_of(front);
    set_field::<21, _, _>(fields, header.attributes.to_be_bytes());
    set_field::<35, _, _>(fields, header.max_timestamp.to_be_bytes());
    let mut crc = Checksum::crc32c();
    crc.update(front.get(CHECKED_FROM..).unwrap_or_default());
    crc.update(rest);
    set_field::<17, _, _>(header_of(front), crc.value().to_be_bytes());
}
