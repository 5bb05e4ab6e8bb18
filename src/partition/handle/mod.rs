//! The public face of a partition: appends, reads and bounds. [`admin`] has the rest.
//!
//! Only the constructors are elsewhere: `Partition::open` and `Partition::open_read_only` are in
//! `log::lone`, because they lock the directory and make the keeper, which are above this floor.

mod admin;

use std::fmt;
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use super::PartitionCore;
use super::keeper::KeepOpen;
use super::read::options::ReadOptions;
use super::read::reader::Reader;
use super::read::{last, lookup};
use super::state::report::SegmentInfo;
use super::write::append::RecordMetadata;
use crate::clock::Timestamp;
use crate::config::Durability;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::format::record::Record;
use crate::topic_partition::TopicPartition;

/// A handle on one partition: an ordered, append-only sequence of records, each with an offset.
///
/// Clones share the partition, and every clone keeps the log open. Any thread may use a handle.
#[derive(Clone)]
pub struct Partition {
    core: Arc<PartitionCore>,
    /// The least durability of appends through this handle.
    durability: Durability,
    keep: KeepOpen,
}

impl Partition {
    pub(crate) fn new(core: Arc<PartitionCore>, durability: Durability, keep: KeepOpen) -> Self {
        Self {
            core,
            durability,
            keep,
        }
    }

    pub(crate) fn core(&self) -> &Arc<PartitionCore> {
        &self.core
    }

    /// Returns the least durability of appends through this handle.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns the topic and the number of the partition.
    pub fn id(&self) -> &TopicPartition {
        self.core.id()
    }
}

/// # Appending
impl Partition {
    /// Appends one record and returns its offset and timestamp.
    ///
    /// An acknowledged record survives:
    ///
    /// | | if the process is killed | if the machine loses power |
    /// | --- | --- | --- |
    /// | [`Durability::Os`] (default) | yes | after a flush (by default every second) |
    /// | [`Durability::Synced`] | yes | yes |
    ///
    /// Waits while another thread writes to this partition. With `Synced` it also waits for the
    /// device.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::InvalidRecord`] or [`Error::RecordTooLarge`] if the topic does not accept
    ///   the record.
    /// * Returns [`Error::DiskFull`] or [`Error::Io`] if the record could not be written. The log
    ///   is as it was before. If a part of the write could not be cut off again, the partition
    ///   refuses writes from then on.
    /// * Returns [`Error::SyncFailed`] if it is unknown whether the record is durable. From then on
    ///   the partition refuses writes with [`Error::Poisoned`], until it is
    ///   [re-opened](Self::reopen).
    /// * Returns [`Error::Corrupt`] if damage was found when the partition was opened.
    /// * Returns [`Error::ReadOnly`] in a read-only log, [`Error::Closed`] after the log was
    ///   closed, and [`Error::UnknownTopic`] after the topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, Record, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.create_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// assert_eq!(orders.append("paid")?.offset, 0);
    /// assert_eq!(orders.append(Record::new("sent").key("order-42"))?.offset, 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append<'a>(&self, record: impl Into<Record<'a>>) -> Result<RecordMetadata> {
        let appended = self.core.append_one(self.durability, record.into())?;
        let timestamp = Timestamp::from_millis(appended.max_timestamp);
        Ok(RecordMetadata {
            partition: self.id().partition,
            offset: appended.offsets.start,
            timestamp,
        })
    }

    /// Appends records as one batch and returns their offsets.
    ///
    /// Either all records are appended or, after an error, none of them. Without any records
    /// the call returns an empty range at the log end. The durability is that of
    /// [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`append`](Self::append).
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// assert_eq!(lines.append_batch(["a", "b", "c"])?, 0..3);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append_batch<'a, R: Into<Record<'a>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Range<u64>> {
        Ok(self.core.append(self.durability, records)?.offsets)
    }

    /// Appends records as one batch, but only if the log still ends at `expected_end`. Returns
    /// their offsets.
    ///
    /// Several writers can then take decisions from the same records: each reads up to the log end,
    /// decides, and appends at that end. The append of every writer but the first fails, and those
    /// writers read the new records and decide again. The comparison and the append are one step:
    /// no other append comes between them. Apart from that the call works as
    /// [`append_batch`](Self::append_batch).
    ///
    /// # Errors
    ///
    /// Returns [`Error::EndMoved`] if the log ends elsewhere, also without any records, and
    /// otherwise the errors of [`append`](Self::append).
    ///
    /// ```
    /// # use annals::{Error, Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let seats = log.create_topic("seats", 1, TopicConfig::new())?.partition(0)?;
    /// let end = seats.log_end_offset();
    /// assert_eq!(seats.append_batch_at(end, ["seat 7 for Ada"])?, 0..1);
    /// let late = seats.append_batch_at(end, ["seat 7 for Bob"]);
    /// assert!(matches!(late, Err(Error::EndMoved { log_end: 1, .. })));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append_batch_at<'a, R: Into<Record<'a>>>(
        &self,
        expected_end: u64,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Range<u64>> {
        let appended = self
            .core
            .append_if(self.durability, Some(expected_end), records)?;
        Ok(appended.offsets)
    }

    /// Appends record batches as they are, and returns their offsets: for a mirror, or for batches
    /// that a Kafka client has built.
    ///
    /// `batches` are one or more record batches of Kafka's format v2, one after the other, such as
    /// [`Batch::as_bytes`](super::Batch::as_bytes) returns. Either all of them are appended or,
    /// after an error, none. Readers see them together. If the machine loses power before the call
    /// returns, the first of several batches may be left without the others.
    ///
    /// The batches follow each other from the log end on, whatever their offsets were. The log
    /// stamps these offsets, its leader epoch and, with
    /// [`LogAppendTime`](crate::TimestampType::LogAppendTime), the time of the append. Everything
    /// else stays: keys, values, headers, timestamps, the producer, and the compression, even if
    /// the topic has another codec. Two fields are corrected if they are wrong here: the greatest
    /// timestamp, and the time from which on compaction may drop tombstones.
    ///
    /// The call makes the checks that a broker makes when a client produces: it compares the
    /// checksum, decompresses the batch, decodes each record, and applies the limits of the topic
    /// on size, keys and timestamps. There is one exception. A batch from which compaction removed
    /// records takes as many offsets as before, with gaps, if this topic has been compacted as
    /// well.
    ///
    /// A batch of an idempotent producer must follow the last one of this producer. If all batches
    /// are in the log already, the call returns the offsets that they have there, so a mirror may
    /// repeat a call. If the source lacks batches because of compaction, append the records
    /// instead, with [`append_batch`](Self::append_batch).
    ///
    /// # Errors
    ///
    /// * Returns [`Error::InvalidBatch`] if the bytes are empty, damaged, cut short, or in the
    ///   format v0 or v1; if a batch is a control batch or belongs to a transaction; if it has no
    ///   records; or if the topic does not accept one of its records.
    /// * Returns [`Error::OutOfOrderSequence`] or [`Error::ProducerFenced`] if a batch does not
    ///   follow the last one of its producer.
    /// * Returns [`Error::RecordTooLarge`] if a batch is above `max.message.bytes`, or all together
    ///   are above `segment.bytes`.
    /// * Returns [`Error::Unsupported`] if this build lacks the codec of a batch.
    /// * Returns the errors of [`append`](Self::append) to a partition that refuses writes.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.create_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// let mirror = log.create_topic("mirror", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed"])?;
    /// orders.append("sent")?;
    /// for batch in orders.read(..)? {
    ///     mirror.append_raw(batch?.as_bytes())?;
    /// }
    /// assert_eq!(mirror.log_end_offset(), 3);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append_raw(&self, batches: &[u8]) -> Result<Range<u64>> {
        self.core.append_raw(self.durability, batches)
    }

    /// Returns a handle on the same partition whose appends have at least this durability.
    ///
    /// The durability of the topic and of this handle are lower limits: the new handle never
    /// promises less.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability: self.durability.max(durability),
            ..self.clone()
        }
    }

    /// Makes everything that was appended so far durable, with its indexes. Blocks on the device.
    ///
    /// A log flushes in the background, every second by default. The next start checks only what
    /// was appended after the last flush.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::SyncFailed`] if the device refused. From then on the partition refuses
    ///   writes.
    /// * Returns [`Error::Poisoned`] if an earlier write or sync failed.
    /// * Returns [`Error::DiskFull`] or [`Error::Io`] if an index or a checkpoint could not be
    ///   written.
    /// * Returns [`Error::Closed`] after the log was closed, and [`Error::UnknownTopic`] after the
    ///   topic was deleted.
    pub fn flush(&self) -> Result<()> {
        self.core.flush()?;
        // A log has a thread, or `Log::flush`, to write one checkpoint for all its partitions.
        self.keep.keeper().store_flushed()
    }
}

/// # Reading
impl Partition {
    /// Reads the records at `offsets`, and stops when it reaches the end of the partition, which is
    /// its [high watermark](Self::high_watermark). To wait there for more records, use
    /// [`follow`](Self::follow).
    ///
    /// `..` reads all records. It begins wherever the log starts when the first batch is returned,
    /// so it never fails because records were deleted before. `n..` begins at offset `n`, or at the
    /// next offset that compaction left. If records are deleted while the reader is open, it
    /// reports those that it can no longer return: see [`Reader`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::OffsetOutOfRange`] if the range starts below the log start or above the log
    /// end. Returns [`Error::Closed`] after the log was closed, and [`Error::UnknownTopic`] after
    /// the topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// let mut reader = lines.read(1..)?;
    /// while let Some(record) = reader.next_record()? {
    ///     println!("{}: {}", record.offset(), record.text()); // "1: b", then "2: c"
    /// }
    /// assert_eq!(reader.next_offset(), 3);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn read(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        self.read_with(offsets, ReadOptions::new())
    }

    /// Reads as [`read`](Self::read) does, and waits at the end until there are more records.
    ///
    /// The reader returns `None` only when it is [woken](super::Waker::wake), or at the end of a
    /// bounded range. When the log is closed, it returns [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// let mut reader = lines.follow(..)?;
    /// let writer = std::thread::spawn(move || lines.append("a"));
    /// // Blocks until the thread has appended the record.
    /// assert_eq!(reader.next_record()?.map(|record| record.offset()), Some(0));
    /// # writer.join().unwrap()?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn follow(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        self.read_with(offsets, ReadOptions::new().wait(true))
    }

    /// Reads with [options](ReadOptions), for example for committed transactions only, or for
    /// records that are not synced yet.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    pub fn read_with(
        &self,
        offsets: impl RangeBounds<u64>,
        options: ReadOptions,
    ) -> Result<Reader> {
        Reader::new(&self.core, self.keep.clone(), &offsets, options)
    }

    /// Reads the last `records` records that the partition has now, or all if it has fewer.
    ///
    /// To wait for later records, pass the [`next_offset`](Reader::next_offset) of the reader to
    /// [`follow`](Self::follow).
    ///
    /// The call reads the batches of these records once to count them. Compaction and transactions
    /// leave offsets without a record. Then the call looks further back, in steps that double,
    /// until it has found enough. If compaction left one record in a hundred, it reads up to about
    /// two hundred times as many offsets.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Corrupt`] if one of the batches is damaged, and the errors of
    /// [`read`](Self::read) of `..`.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// let mut reader = lines.read_last(2)?;
    /// assert_eq!(reader.next_record()?.map(|record| record.offset()), Some(1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn read_last(&self, records: u64) -> Result<Reader> {
        last::read_last(&self.core, &self.keep, records)
    }

    /// Finds the offset of a point in the log, for example of the first record at or after a
    /// timestamp.
    ///
    /// [`OffsetSpec`](lookup::OffsetSpec) lists the points. For a timestamp the call returns the
    /// lowest *offset* whose record has this timestamp or a later one, as Kafka's `offsetsForTimes`
    /// does. Returns `None` if all records are older.
    ///
    /// Reads at most one index and a few batches of each segment. The partition keeps the largest
    /// timestamp of each segment that a search has seen, so that later searches for a timestamp
    /// visit few segments.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Corrupt`] if a batch that decides is damaged.
    /// * Returns [`Error::BatchTooLarge`] if such a batch decompresses to more than the limit of
    ///   this log, and [`Error::Unsupported`] if this build lacks its codec.
    /// * Returns [`Error::Io`] if a file could not be read.
    /// * Returns [`Error::Closed`] after the log was closed, and [`Error::UnknownTopic`] after the
    ///   topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, Record, Timestamp, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// for (text, millis) in [("a", 1_000), ("b", 2_000), ("c", 3_000)] {
    ///     lines.append(Record::new(text).timestamp(Timestamp::from_millis(millis)))?;
    /// }
    /// let found = lines.offset_for(Timestamp::from_millis(1_500))?;
    /// assert_eq!(found.map(|found| found.offset), Some(1));
    /// assert_eq!(lines.offset_for(Timestamp::from_millis(3_001))?, None);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn offset_for(
        &self,
        spec: impl Into<lookup::OffsetSpec>,
    ) -> Result<Option<lookup::OffsetAndTimestamp>> {
        self.core.offset_for(spec.into())
    }
}

/// # Bounds and segments
impl Partition {
    /// Returns the first offset that can be read.
    pub fn log_start_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.log_start_offset()
    }

    /// Returns the offset that the next record gets.
    pub fn log_end_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.log_end_offset()
    }

    /// Returns the offset at which readers stop: the log end, or in a `Synced` topic the end of the
    /// records that are on the device.
    pub fn high_watermark(&self) -> u64 {
        self.core.try_refresh();
        self.core.high_watermark()
    }

    /// Returns the offset at which readers with
    /// [`Isolation::ReadCommitted`](super::Isolation::ReadCommitted) stop.
    ///
    /// This is the first record of the earliest transaction that is still open. Without an open
    /// transaction it is the [high watermark](Self::high_watermark).
    pub fn last_stable_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.last_stable_offset()
    }

    /// Returns the segments in order; the last is the active one.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.core.try_refresh();
        self.core
            .retry_after_reread(|| self.core.segment_infos())
            .unwrap_or_else(|_| self.core.readable_segment_infos())
    }

    /// Seals the active segment and creates the next one, as an append does when the segment is
    /// full or old. An empty active segment stays as it is.
    ///
    /// Retention and compaction work on sealed segments only. Waits for an append in
    /// progress.
    ///
    /// # Errors
    ///
    /// Returns [`Error::DiskFull`] or [`Error::Io`], which leave the partition as it was, and the
    /// errors of [`append`](Self::append) to a partition that refuses writes.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append("a")?;
    /// lines.roll()?;
    /// assert_eq!(lines.segments().len(), 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn roll(&self) -> Result<()> {
        self.core.roll_now()
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets = self.core.log_start_offset()..self.core.log_end_offset();
        let mut shown = f.debug_struct("Partition");
        shown
            .field("id", self.id())
            .field("offsets", &offsets)
            .field("state", &self.core.state_name());
        shown.finish_non_exhaustive()
    }
}
