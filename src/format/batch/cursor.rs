//! Iterating over the records of a batch.

use std::ops::Range;

use super::legacy::LegacyCursor;
use super::survey::Survey;
use super::{BatchHeader, HEADER_BYTES, MAX_I32};
use crate::format::Malformed;
use crate::format::record::{self, Fields, RawRecord};

/// A position among the records of a batch. It does not borrow from the batch, so that a reader can
/// own both.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordCursor {
    /// The position in a v2 batch. For a legacy batch it is at the end from the start.
    pub(crate) current: CurrentCursor,
    legacy: Option<Box<LegacyCursor>>,
}

/// A position in a v2 batch. It is small and `Copy`, so that a loop over records can keep it in
/// registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CurrentCursor {
    /// The position of the next record, in bytes from the first record.
    position: usize,
    /// The number of records still to come.
    remaining: u32,
}

/// Returns the records of a v2 batch. `decompressed` is the result of
/// [`decompressed`](super::decompressed).
#[inline]
fn records_of<'a>(batch: &'a [u8], decompressed: Option<&'a [u8]>) -> &'a [u8] {
    decompressed.unwrap_or_else(|| batch.get(HEADER_BYTES..).unwrap_or_default())
}

impl RecordCursor {
    /// Creates a cursor before the first record of a v2 or legacy batch. `decompressed` is the
    /// result of [`decompressed`](super::decompressed).
    ///
    /// For a legacy wrapper, makes one pass over the inner entries to compute their absolute
    /// offsets. Returns `Malformed` for a negative record count.
    pub(crate) fn new(
        header: &BatchHeader,
        batch: &[u8],
        decompressed: Option<&[u8]>,
    ) -> Result<Self, Malformed> {
        if header.magic < 2 {
            let cursor = LegacyCursor::new(header, batch, decompressed)?;
            return Ok(Self {
                current: CurrentCursor::default(),
                legacy: Some(Box::new(cursor)),
            });
        }
        if header.record_count > MAX_I32 {
            return Err(Malformed("a batch has a negative count of records"));
        }
        Ok(Self {
            current: CurrentCursor {
                position: 0,
                remaining: header.record_count,
            },
            legacy: None,
        })
    }

    /// Returns the next record, or `None` after the last. The arguments are those of
    /// [`new`](Self::new).
    ///
    /// - If there are too few or too many records, or bytes are left over, returns `Malformed`
    ///   once, and then `None`.
    /// - If a record is malformed but its length is right, returns `Malformed`, and continues with
    ///   the next record.
    #[inline]
    pub(crate) fn next<'a>(
        &mut self,
        header: &BatchHeader,
        batch: &'a [u8],
        decompressed: Option<&'a [u8]>,
    ) -> Option<Result<RawRecord<'a>, Malformed>> {
        match &mut self.legacy {
            None => self.current.next(header, records_of(batch, decompressed)),
            Some(cursor) => cursor.next(header, batch, decompressed),
        }
    }
}

impl CurrentCursor {
    /// Returns whether there are more records. Even after the last record there may be bytes that
    /// make the batch malformed.
    #[inline]
    pub(crate) fn has_records(&self) -> bool {
        self.remaining > 0
    }

    /// Returns the next record if the quick decoder accepts it and its offset is in `wanted`, which
    /// is a part of the batch's offsets.
    ///
    /// Otherwise returns `None` and does not move. That may be any other record, the end, or an
    /// error: the caller then calls [`RecordCursor::next`].
    #[expect(
        clippy::inline_always,
        reason = "a call would pass a record of a dozen words through memory"
    )]
    #[inline(always)]
    pub(crate) fn next_quickly<'a>(
        &mut self,
        header: &BatchHeader,
        records: &'a [u8],
        wanted: &Range<u64>,
    ) -> Option<RawRecord<'a>> {
        let remaining = self.remaining.checked_sub(1)?;
        let (fields, size) = record::decode_first_plain(records.get(self.position..)?)?;
        let offset = header.base_offset.wrapping_add_signed(fields.offset_delta);
        if !wanted.contains(&offset) {
            return None;
        }
        *self = Self {
            position: self.position + size,
            remaining,
        };
        let timestamp = header.timestamp_of(fields.timestamp_delta);
        Some(RawRecord {
            offset,
            timestamp,
            key: fields.key,
            value: fields.value,
            headers: fields.headers,
        })
    }

    /// Surveys the plain records from here on, whose offsets must be in `wanted`. Does not move.
    pub(super) fn survey(
        &self,
        header: &BatchHeader,
        records: &[u8],
        wanted: &Range<u64>,
    ) -> Survey {
        Survey::of(header, records, self.position, self.remaining, wanted)
    }

    /// Steps over the records of a survey.
    pub(super) fn pass(&mut self, survey: &Survey) {
        (self.position, self.remaining) = (survey.end, self.remaining - survey.count);
    }

    /// Steps over records below `offset` without decoding them. Stops before the first record at or
    /// above `offset`, and before one that the quick decoder does not accept.
    pub(crate) fn skip_quickly(&mut self, header: &BatchHeader, records: &[u8], offset: u64) {
        while let Some(remaining) = self.remaining.checked_sub(1)
            && let Some((delta, size)) = records
                .get(self.position..)
                .and_then(record::measure_first_plain)
            && header.base_offset.wrapping_add_signed(delta) < offset
        {
            *self = Self {
                position: self.position + size,
                remaining,
            };
        }
    }

    fn next<'a>(
        &mut self,
        header: &BatchHeader,
        records: &'a [u8],
    ) -> Option<Result<RawRecord<'a>, Malformed>> {
        if let Some(record) = self.next_quickly(
            header,
            records,
            &(header.base_offset..header.last_offset + 1),
        ) {
            return Some(Ok(record));
        }
        let rest = records.get(self.position..).unwrap_or_default();
        let end = Self {
            position: records.len(),
            remaining: 0,
        };
        let Some(remaining) = self.remaining.checked_sub(1) else {
            *self = end;
            return (!rest.is_empty())
                .then_some(Err(Malformed("a batch is longer than its records")));
        };
        match record::split_first(rest) {
            Ok((record, size)) => {
                *self = Self {
                    position: self.position + size,
                    remaining,
                };
                Some(record::decode(record).and_then(|fields| resolve(header, fields)))
            }
            Err(malformed) => {
                *self = end;
                Some(Err(malformed))
            }
        }
    }
}

/// Turns the deltas of a record into an offset and a timestamp.
fn resolve<'a>(header: &BatchHeader, fields: Fields<'a>) -> Result<RawRecord<'a>, Malformed> {
    let offset = header.base_offset.wrapping_add_signed(fields.offset_delta);
    if !(header.base_offset..=header.last_offset).contains(&offset) {
        return Err(Malformed("the offset of a record is outside its batch"));
    }
    let timestamp = header.timestamp_of(fields.timestamp_delta);
    Ok(RawRecord {
        offset,
        timestamp,
        key: fields.key,
        value: fields.value,
        headers: fields.headers,
    })
}
