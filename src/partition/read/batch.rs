//! A batch as a reader gives it, and its records.

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::slice;
use std::sync::{Arc, OnceLock};

use crate::brief::Nullable;
use crate::clock::Timestamp;
use crate::config::{Compression, TimestampType};
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::{self, BatchHeader, HEADER_BYTES, RecordCursor};
use crate::format::record::{Headers, RawRecord, Record};
use crate::partition::PartitionCore;
use crate::partition::state::origin::Origin;
use crate::segment::batch_file::BatchBytes;
use crate::topic_partition::TopicPartition;

/// The decompressed records of a batch, or why there are none.
type Decompressed = OnceLock<std::result::Result<Option<Vec<u8>>, Malformed>>;

/// A checked batch: its checksum and its place in the order of offsets are right. Its records are
/// decoded (and decompressed) as they are visited.
///
/// A batch shares the bytes of the file; clones are cheap and may go to other threads. It stays
/// readable when its segment is deleted or the log is closed, and keeps that segment's mapping
/// alive: [`detach`](Self::detach) copies it out.
#[derive(Clone)]
pub struct Batch {
    origin: Arc<Origin>,
    header: BatchHeader,
    bytes: BatchBytes,
    segment_base: u64,
    position: u32,
    /// How often the partition had been cut before the batch was read.
    cuts_seen: u64,
    range: Range<u64>,
    /// For a compressed batch: its records, once somebody looked.
    decompressed: Option<Arc<Decompressed>>,
    /// Whether every record in the range decodes, so that one that does not lies behind it.
    is_sound: bool,
}

impl Batch {
    pub(crate) fn new(
        origin: &Arc<Origin>,
        (segment_base, position): (u64, u32),
        cuts_seen: u64,
        header: BatchHeader,
        bytes: BatchBytes,
        range: Range<u64>,
    ) -> Self {
        let is_plain = matches!(header.codec(), Ok(Compression::None));
        let decompressed = (!is_plain).then(Arc::default);
        let origin = Arc::clone(origin);
        Self {
            origin,
            header,
            bytes,
            segment_base,
            position,
            cuts_seen,
            range,
            decompressed,
            is_sound: false,
        }
    }

    /// The offsets that iteration goes through: those of the batch within the range asked for. In a
    /// compacted topic not every one of them has a record.
    pub fn offsets(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Its records, decoded as they are visited. A record that cannot be decoded is an error,
    /// [`Error::Corrupt`]; the iterator goes on behind it where it can. A batch that decompresses
    /// to more than [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes)
    /// is one [`Error::BatchTooLarge`].
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::over(slice::from_ref(self))
    }

    /// A copy that keeps no mapping and no deleted segment alive.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            bytes: self.bytes.detach(),
            ..self.clone()
        }
    }

    /// Size of the stored batch.
    pub(crate) fn size_bytes(&self) -> u32 {
        self.header.size_bytes
    }

    /// Records in the stored batch: an upper bound of what iteration gives, for all but legacy
    /// wrappers.
    pub(crate) fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// How many records iteration goes through. Decodes them only where not every offset has its
    /// record.
    pub(in crate::partition) fn count(&self) -> Result<u64> {
        let header = &self.header;
        if header.magic >= 2
            && u64::from(header.record_count) == header.last_offset - header.base_offset + 1
        {
            return Ok(self.range.end - self.range.start);
        }
        self.iter()
            .try_fold(0, |count, record| record.map(|_| count + 1))
    }

    /// The same batch, iterating only what of `offsets` it had before.
    pub(crate) fn narrowed(&self, offsets: Range<u64>) -> Self {
        let start = self.range.start.max(offsets.start);
        Self {
            range: start..self.range.end.min(offsets.end).max(start),
            ..self.clone()
        }
    }

    /// The same batch up to `end`, below which every record is known to decode.
    pub(crate) fn sound_below(&self, end: u64) -> Self {
        Self {
            is_sound: true,
            ..self.narrowed(0..end)
        }
    }

    /// The stored records, decompressed where they are compressed; `None`: in the batch itself.
    fn decompressed(&self) -> std::result::Result<Option<&[u8]>, Malformed> {
        let Some(cell) = &self.decompressed else {
            return Ok(None);
        };
        let limit = self.origin.max_decompressed_bytes;
        let decompressed =
            cell.get_or_init(|| batch::decompressed(&self.header, self.bytes.as_slice(), limit));
        decompressed
            .as_ref()
            .map(Option::as_deref)
            .map_err(|malformed| *malformed)
    }

    /// Header and bytes as they are stored.
    pub(crate) fn stored(&self) -> (&BatchHeader, &[u8]) {
        (&self.header, self.bytes.as_slice())
    }

    fn cursor(&self) -> std::result::Result<RecordCursor, Malformed> {
        RecordCursor::new(&self.header, self.bytes.as_slice(), self.decompressed()?)
    }

    /// As from `decompressed`, for a batch that has a cursor: of another nothing is read.
    #[inline]
    fn decompressed_or_none(&self) -> Option<&[u8]> {
        if self.decompressed.is_some() {
            self.decompressed().unwrap_or_default()
        } else {
            None
        }
    }

    /// What a cursor for v2 batches walks over; `None` where that is not at hand.
    #[inline]
    fn records(&self) -> Option<&[u8]> {
        match &self.decompressed {
            None => self.bytes.behind(HEADER_BYTES),
            Some(cell) => cell.get()?.as_ref().ok()?.as_deref(),
        }
    }

    /// The next record within the range, of those that may take long to decode and those that do
    /// not.
    #[inline(never)]
    fn next_of_any_kind(&self, cursor: &mut RecordCursor) -> Option<Result<RecordView<'_>>> {
        let (bytes, decompressed) = (self.bytes.as_slice(), self.decompressed_or_none());
        loop {
            match cursor.next(&self.header, bytes, decompressed)? {
                Ok(raw) if raw.offset < self.range.start => {}
                Ok(raw) if raw.offset >= self.range.end => return None,
                Ok(raw) => return Some(Ok(RecordView { batch: self, raw })),
                Err(_) if self.is_sound => return None,
                Err(malformed) => return Some(Err(self.corrupt(malformed))),
            }
        }
    }

    #[inline(never)]
    fn has_next(&self, cursor: &RecordCursor) -> bool {
        self.next_of_any_kind(&mut cursor.clone()).is_some()
    }

    /// A walk over the range. What lies in front of it is stepped over here, once.
    pub(crate) fn walk(&self) -> Result<RecordWalk> {
        let mut cursor = self.cursor().map_err(|malformed| self.corrupt(malformed))?;
        let is_whole = self.header.magic >= 2
            && self.range.start <= self.header.base_offset
            && self.range.end > self.header.last_offset;
        if !is_whole {
            cursor.current.skip_quickly(
                &self.header,
                self.records().unwrap_or_default(),
                self.range.start,
            );
        }
        Ok(RecordWalk { cursor, is_whole })
    }

    fn corrupt(&self, malformed: Malformed) -> Error {
        self.origin.corrupt(
            self.segment_base,
            self.position,
            self.header.base_offset..self.header.last_offset + 1,
            malformed,
        )
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Result<RecordView<'a>>;
    type IntoIter = RecordIter<'a>;
    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// A place among the records of a batch that somebody else holds; by default, of none.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordWalk {
    cursor: RecordCursor,
    /// Whether it is over a v2 batch all of whose records are in the range.
    is_whole: bool,
}

impl RecordWalk {
    /// Whether there is a record in the range, as far as that can be told at once.
    #[inline]
    pub(crate) fn is_at_record(&self) -> bool {
        self.is_whole && self.cursor.current.has_records()
    }

    /// Whether there is a record in the range.
    #[inline]
    pub(crate) fn has_next(&self, batch: &Batch) -> bool {
        self.is_at_record() || batch.has_next(&self.cursor)
    }

    /// The next record of `batch`, the one the walk was made for, if it is one that is decoded
    /// quickly. `None` says nothing about it: then `next_of_any_kind` knows.
    #[expect(
        clippy::inline_always,
        reason = "a call would pass a record of a dozen words through memory"
    )]
    #[inline(always)]
    pub(crate) fn next_quickly<'a>(&mut self, batch: &'a Batch) -> Option<RecordView<'a>> {
        let raw =
            self.cursor
                .current
                .next_quickly(&batch.header, batch.records()?, &batch.range)?;
        Some(RecordView { batch, raw })
    }

    /// The next record of `batch` within its range.
    #[inline]
    pub(crate) fn next_of_any_kind<'a>(
        &mut self,
        batch: &'a Batch,
    ) -> Option<Result<RecordView<'a>>> {
        batch.next_of_any_kind(&mut self.cursor)
    }
}

/// Iterates over the records of one batch, or of several.
pub struct RecordIter<'a> {
    batch: Option<&'a Batch>,
    /// What the cursor walks over in `batch`, if that is a v2 batch.
    records: &'a [u8],
    cursor: RecordCursor,
    batches: slice::Iter<'a, Batch>,
}

impl<'a> RecordIter<'a> {
    /// Over several batches, one after the other.
    pub(crate) fn over(batches: &'a [Batch]) -> Self {
        Self {
            batch: None,
            records: &[],
            cursor: RecordCursor::default(),
            batches: batches.iter(),
        }
    }

    /// The next record, also where it takes long to decode or is in the next batch. The iterator
    /// goes through it by value: a reference to it, or to a part of it, would keep a loop from
    /// holding all of it in registers.
    #[inline(never)]
    fn next_of_any_kind(mut self) -> (Self, Option<Result<RecordView<'a>>>) {
        loop {
            if let Some(batch) = self.batch
                && let Some(next) = batch.next_of_any_kind(&mut self.cursor)
            {
                return (self, Some(next));
            }
            let Some(batch) = self.batches.next() else {
                return (Self::over(&[]), None);
            };
            match batch.cursor() {
                Ok(mut cursor) => {
                    let records = batch.records().unwrap_or_default();
                    cursor
                        .current
                        .skip_quickly(&batch.header, records, batch.range.start);
                    self = Self {
                        batch: Some(batch),
                        records,
                        cursor,
                        ..self
                    };
                }
                Err(malformed) => {
                    return (
                        Self {
                            batch: None,
                            ..self
                        },
                        Some(Err(batch.corrupt(malformed))),
                    );
                }
            }
        }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>>;

    #[expect(
        clippy::inline_always,
        reason = "a call would pass a record of a dozen words through memory"
    )]
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.batch
            && let Some(raw) =
                self.cursor
                    .current
                    .next_quickly(&batch.header, self.records, &batch.range)
        {
            return Some(Ok(RecordView { batch, raw }));
        }
        let (iter, next) = mem::replace(self, Self::over(&[])).next_of_any_kind();
        *self = iter;
        next
    }
}

/// A record, read in place: it borrows from the batch it is in. [`into_owned`](Self::into_owned)
/// copies it out.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    batch: &'a Batch,
    raw: RawRecord<'a>,
}

impl<'a> RecordView<'a> {
    /// Its topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        &self.batch.origin.id.topic
    }

    /// Its partition.
    #[inline]
    pub fn partition(&self) -> u32 {
        self.batch.origin.id.partition
    }

    /// Topic and partition together.
    #[inline]
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.batch.origin.id
    }

    /// Its offset.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.raw.offset
    }

    /// Its timestamp; `None` where Kafka stores -1.
    #[inline]
    pub fn timestamp(&self) -> Option<Timestamp> {
        (self.raw.timestamp != -1).then_some(Timestamp::from_millis(self.raw.timestamp))
    }

    /// What the timestamp means; `None` for records of format v0, which have none.
    #[inline]
    pub fn timestamp_type(&self) -> Option<TimestampType> {
        self.batch.header.timestamp_type()
    }

    /// Its key; `None` is null, which is not the same as empty.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key
    }

    /// Its value; `None` is null, a tombstone in a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value
    }

    /// The value as lossy UTF-8; `""` for null.
    #[inline]
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.raw.value.unwrap_or_default())
    }

    /// Whether the record was read from this very partition, and not from an earlier one of the
    /// same name.
    pub(crate) fn is_of(&self, partition: &PartitionCore) -> bool {
        Arc::ptr_eq(&self.batch.origin, partition.origin())
    }

    /// How often its partition had been cut before it was read.
    pub(crate) fn cuts_seen(&self) -> u64 {
        self.batch.cuts_seen
    }

    /// Its headers, in their order.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.raw.headers
    }
}

/// To append it elsewhere: key, value, headers and timestamp, borrowed.
impl<'a> From<RecordView<'a>> for Record<'a> {
    fn from(view: RecordView<'a>) -> Self {
        Self::from_raw(&view.raw)
    }
}

/// Shows key and value as text where they are text, and not more than their first bytes.
impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RecordView");
        shown
            .field("partition", self.topic_partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp());
        shown
            .field("key", &Nullable(self.key()))
            .field("value", &Nullable(self.value()));
        shown.field("headers", &self.headers()).finish()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Batch");
        shown
            .field("partition", &self.origin.id)
            .field("offsets", &self.range)
            .field("bytes", &self.size_bytes());
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordIter")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
