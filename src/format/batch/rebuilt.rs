//! A batch that is built from some of the records of another one.

use super::packing::Packing;
use super::{BatchHeader, HEADER_BYTES, TOO_LONG, codec_bits};
use crate::config::TimestampType;
use crate::format::Malformed;
use crate::format::record::{self, RawRecord, Record};

/// Takes the records one by one, then the header.
#[derive(Debug)]
pub(super) struct Rebuilt<'a> {
    header: &'a BatchHeader,
    out: &'a mut Vec<u8>,
    /// Base offset and base timestamp, once there is a record.
    base: Option<(u64, i64)>,
    record_count: u32,
    max_timestamp: i64,
}

impl<'a> Rebuilt<'a> {
    /// Clears `out` and leaves room for the header. The records are those of a batch with this
    /// `header`.
    pub(super) fn new(header: &'a BatchHeader, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.resize(HEADER_BYTES, 0);
        Self {
            header,
            out,
            base: None,
            record_count: 0,
            max_timestamp: -1,
        }
    }

    /// Adds a record, which keeps its offset and timestamp. `base_timestamp` counts for the first
    /// record.
    pub(super) fn push(
        &mut self,
        raw: &RawRecord<'_>,
        base_timestamp: i64,
    ) -> Result<(), Malformed> {
        // The header of a legacy wrapper does not state the base offset: the first record does.
        let base_offset = if self.header.magic >= 2 {
            self.header.base_offset
        } else {
            raw.offset
        };
        let (base_offset, base_timestamp) = *self.base.get_or_insert((base_offset, base_timestamp));
        let delta = raw.offset.checked_sub(base_offset);
        let delta = delta.and_then(|delta| u32::try_from(delta).ok());
        record::encode(
            self.out,
            raw.timestamp.wrapping_sub(base_timestamp),
            delta.ok_or(Malformed("the offset of a record is out of range"))?,
            Record::from_raw(raw).parts(),
        )?;
        self.record_count += 1;
        self.max_timestamp = raw.timestamp.max(self.max_timestamp);
        Ok(())
    }

    /// Compresses the records and writes the header, with these `attributes` besides the codec.
    /// Returns `false`, and writes nothing, if no record was added.
    pub(super) fn finish(
        self,
        attributes: u16,
        last_offset: u64,
        packing: Packing<'_>,
    ) -> Result<bool, Malformed> {
        let Some((base_offset, base_timestamp)) = self.base else {
            return Ok(false);
        };
        let codec = packing.pack(self.header.codec()?, self.out)?;
        let is_append_time = self.header.timestamp_type() == Some(TimestampType::LogAppendTime);
        let size_bytes = u32::try_from(self.out.len())
            .ok()
            .filter(|size| *size <= i32::MAX.cast_unsigned());
        BatchHeader {
            base_offset,
            last_offset,
            size_bytes: size_bytes.ok_or(TOO_LONG)?,
            magic: 2,
            attributes: attributes | codec_bits(codec),
            base_timestamp,
            max_timestamp: if is_append_time {
                self.header.max_timestamp
            } else {
                self.max_timestamp
            },
            record_count: self.record_count,
            ..*self.header
        }
        .write(self.out);
        Ok(true)
    }
}
