//! A batch that a reader returns, and its records.

mod view;

use std::fmt;
use std::mem;
use std::ops::Range;
use std::slice;
use std::sync::{Arc, OnceLock};

use crate::config::Compression;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::{self, BatchHeader, HEADER_BYTES, RecordCursor};
use crate::partition::state::origin::Origin;
use crate::segment::batch_file::BatchBytes;

pub use view::RecordView;

/// The records of a batch after decompression, or the reason why it failed. `None` if they are not
/// compressed.
type Decompressed = OnceLock<std::result::Result<Option<Vec<u8>>, Malformed>>;

/// A checked batch: its checksum and its place in the order of offsets are right. Its records are
/// decompressed and decoded when they are visited.
///
/// A batch shares the bytes of the file. Clones are cheap and can be moved to other threads. It
/// stays readable after its segment is deleted or the log is closed, and keeps the mapping of that
/// segment alive. [`detach`](Self::detach) copies it.
///
/// ```
/// # use annals::{Batch, Log, TopicConfig};
/// # let log = Log::in_memory();
/// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
/// orders.append_batch(["paid", "packed"])?;
/// let batches: Vec<Batch> = orders.read(..)?.collect::<Result<_, _>>()?;
/// for record in batches.iter().flatten() {
///     let record = record?;
///     println!("{}: {}", record.offset(), record.text());
/// }
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Batch {
    origin: Arc<Origin>,
    header: BatchHeader,
    bytes: BatchBytes,
    segment_base: u64,
    position: u32,
    /// Number of cuts of the partition before the batch was read.
    cuts_seen: u64,
    range: Range<u64>,
    /// The records of a compressed batch, filled at the first visit. `None` for any other batch.
    decompressed: Option<Arc<Decompressed>>,
    /// Whether every record in the range is known to decode. Then a record that does not decode is
    /// after the range.
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
        debug_assert!(range.start <= range.end, "{range:?} is a range of offsets");
        debug_assert_eq!(
            bytes.as_slice().len(),
            header.size_bytes as usize,
            "the bytes are exactly the batch"
        );
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

    /// Returns the offsets that iteration covers: those of the batch within the range of the
    /// reader. In a compacted topic some of them have no record.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed", "sent"])?;
    /// let batch = orders.read(1..)?.next().expect("there is a batch")?;
    /// assert_eq!(batch.offsets(), 1..3);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn offsets(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Returns an iterator over the records. It decodes each record when it is visited.
    ///
    /// # Errors
    ///
    /// The iterator returns [`Error::Corrupt`] for a record that cannot be decoded, and continues
    /// after it if it can. It returns [`Error::BatchTooLarge`] once, instead of all records, if the
    /// batch decompresses to more than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes).
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed"])?;
    /// let batch = orders.read(..)?.next().expect("there is a batch")?;
    /// let mut values = Vec::new();
    /// for record in batch.iter() {
    ///     values.push(record?.text());
    /// }
    /// assert_eq!(values, ["paid", "packed"]);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::over(slice::from_ref(self))
    }

    /// Returns a copy that owns its bytes, and so keeps neither a mapping nor a deleted segment
    /// alive.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// # orders.append("paid")?;
    /// // The copy does not keep the file, so the log can delete it and free the space.
    /// let first = orders.read(..)?.next().expect("there is a batch")?.detach();
    /// assert_eq!(first.offsets(), 0..1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            bytes: self.bytes.detach(),
            ..self.clone()
        }
    }

    /// Returns the batch exactly as it is stored: the header and the records, compressed if they
    /// were stored so.
    ///
    /// These are the bytes that a Kafka broker sends to a consumer: a record batch of format v2, or
    /// an entry of a message set v0 or v1 that an old broker wrote.
    /// [`append_raw`](crate::Partition::append_raw) appends them to another partition.
    ///
    /// They always are the whole batch, even if [`offsets`](Self::offsets) covers only a part of
    /// it: because the reader began inside the batch, or because its first records were deleted.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed"])?;
    /// let batch = orders.read(1..)?.next().expect("there is a batch")?;
    /// // The first eight bytes are the offset of the first record.
    /// assert_eq!(batch.as_bytes()[..8], [0; 8]);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Returns the size of the stored batch.
    pub(crate) fn size_bytes(&self) -> u32 {
        self.header.size_bytes
    }

    /// Returns the number of records in the stored batch. Iteration returns at most as many, except
    /// from a legacy wrapper.
    pub(crate) fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// Counts the records that iteration returns. Decodes them only if some offsets have no record.
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

    /// Returns the same batch with a range that contains only its offsets within `offsets`.
    pub(crate) fn narrowed(&self, offsets: Range<u64>) -> Self {
        let start = self.range.start.max(offsets.start);
        Self {
            range: start..self.range.end.min(offsets.end).max(start),
            ..self.clone()
        }
    }

    /// Returns the same batch up to `end`. Every record of its range below `end` is known to
    /// decode.
    pub(crate) fn sound_below(&self, end: u64) -> Self {
        debug_assert!(
            end <= self.range.end,
            "{end} is within {:?}, of which the records were decoded",
            self.range
        );
        Self {
            is_sound: true,
            ..self.narrowed(0..end)
        }
    }

    /// Returns the decompressed records, or `None` if the batch itself contains them uncompressed.
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

    /// Returns the header and the bytes as they are stored.
    pub(crate) fn stored(&self) -> (&BatchHeader, &[u8]) {
        (&self.header, self.bytes.as_slice())
    }

    fn cursor(&self) -> std::result::Result<RecordCursor, Malformed> {
        RecordCursor::new(&self.header, self.bytes.as_slice(), self.decompressed()?)
    }

    /// Returns the decompressed records of a batch that has a cursor.
    #[inline]
    fn decompressed_for_cursor(&self) -> Option<&[u8]> {
        self.decompressed.as_ref()?;
        let Ok(decompressed) = self.decompressed() else {
            unreachable!("a cursor is created only after the records were decompressed")
        };
        decompressed
    }

    /// Returns the bytes that the cursor of a v2 batch walks over, or `None` if they are not
    /// decompressed yet.
    #[inline]
    fn records(&self) -> Option<&[u8]> {
        match &self.decompressed {
            None => self.bytes.after(HEADER_BYTES),
            Some(cell) => cell.get()?.as_ref().ok()?.as_deref(),
        }
    }

    /// Returns the next record within the range, whether the quick decoder accepts it or not.
    #[inline(never)]
    fn next_of_any_kind(&self, cursor: &mut RecordCursor) -> Option<Result<RecordView<'_>>> {
        let (bytes, decompressed) = (self.bytes.as_slice(), self.decompressed_for_cursor());
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

    /// Returns a walk over the range. Steps over the records before the range, once.
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

/// A position among the records of a batch, which the owner of the walk passes to each method. The
/// default has no records.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordWalk {
    cursor: RecordCursor,
    /// Whether the batch is a v2 batch whose records are all in the range.
    is_whole: bool,
}

impl RecordWalk {
    /// Returns whether there certainly is another record in the range. Decodes none.
    #[inline]
    pub(crate) fn is_at_record(&self) -> bool {
        self.is_whole && self.cursor.current.has_records()
    }

    /// Returns whether there is another record in the range.
    #[inline]
    pub(crate) fn has_next(&self, batch: &Batch) -> bool {
        self.is_at_record() || batch.has_next(&self.cursor)
    }

    /// Returns the next record of `batch`, for which the walk was created, if the quick decoder
    /// accepts it. After `None` the caller asks `next_of_any_kind`, which may still find a record.
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
        debug_assert!(
            batch.range.contains(&raw.offset),
            "the decoder stays within the range"
        );
        Some(RecordView { batch, raw })
    }

    /// Returns the next record of `batch` within its range.
    #[inline]
    pub(crate) fn next_of_any_kind<'a>(
        &mut self,
        batch: &'a Batch,
    ) -> Option<Result<RecordView<'a>>> {
        batch.next_of_any_kind(&mut self.cursor)
    }
}

/// An iterator over the records of one or several batches.
pub struct RecordIter<'a> {
    batch: Option<&'a Batch>,
    /// The bytes that the cursor walks over if `batch` is a v2 batch.
    records: &'a [u8],
    cursor: RecordCursor,
    batches: slice::Iter<'a, Batch>,
}

impl<'a> RecordIter<'a> {
    /// Creates an iterator over several batches, one after the other.
    pub(crate) fn over(batches: &'a [Batch]) -> Self {
        Self {
            batch: None,
            records: &[],
            cursor: RecordCursor::default(),
            batches: batches.iter(),
        }
    }

    /// Returns the next record, even if the quick decoder does not accept it or it is in the next
    /// batch.
    ///
    /// The iterator is passed and returned by value. A reference to it, or to a part of it, would
    /// keep the compiler from holding all of it in registers during a loop.
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
