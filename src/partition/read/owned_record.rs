//! A record that owns its bytes.

use std::borrow::Cow;
use std::fmt;

use super::batch::RecordView;
use crate::brief::{Few, Nullable};
use crate::clock::Timestamp;
use crate::format::record::{Header, Record};
use crate::topic_partition::TopicPartition;

/// A record that was read, with its partition and offset. It owns its bytes, so it can be kept or
/// moved to another thread.
///
/// A [`RecordView`] borrows from its batch; [`RecordView::into_owned`] copies it. Kafka's consumers
/// call this a `ConsumerRecord`. It converts into a [`Record`], which can be appended again. To
/// keep whole batches without copying them, see [`Batch`](crate::partition::Batch).
///
/// ```
/// use annals::{Log, OwnedRecord, TopicConfig};
///
/// let log = Log::in_memory();
/// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
/// orders.append_batch(["paid", "packed"])?;
///
/// let mut kept: Vec<OwnedRecord> = Vec::new();
/// for batch in orders.read(..)? {
///     for record in &batch? {
///         kept.push(record?.into_owned());
///     }
/// }
/// log.close()?;
/// assert_eq!((kept[1].offset(), kept[1].text().as_ref()), (1, "packed"));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[doc(alias = "ConsumerRecord")]
pub struct OwnedRecord {
    topic_partition: TopicPartition,
    offset: u64,
    timestamp: Option<Timestamp>,
    record: Record<'static>,
}

impl RecordView<'_> {
    /// Copies the record, so that it can be kept after its batch is dropped, or moved to another
    /// thread.
    ///
    /// ```
    /// # use annals::{Log, OwnedRecord, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append("paid")?;
    /// let mut last: Option<OwnedRecord> = None;
    /// let mut reader = orders.read(..)?;
    /// while let Some(record) = reader.next_record()? {
    ///     last = Some(record.into_owned());
    /// }
    /// assert_eq!(last.expect("there is a record").text(), "paid");
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn into_owned(self) -> OwnedRecord {
        OwnedRecord::new(&self)
    }
}

impl OwnedRecord {
    pub(in crate::partition) fn new(view: &RecordView<'_>) -> Self {
        Self {
            topic_partition: view.topic_partition().clone(),
            offset: view.offset(),
            timestamp: view.timestamp(),
            record: Record::from(*view).into_owned(),
        }
    }

    /// Returns the name of the record's topic.
    pub fn topic(&self) -> &str {
        &self.topic_partition.topic
    }

    /// Returns the number of the record's partition.
    pub fn partition(&self) -> u32 {
        self.topic_partition.partition
    }

    /// Returns the topic and the number of the partition together.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Returns the offset of the record in its partition.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the timestamp, or `None` if the record has none (Kafka stores -1).
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Returns the key, or `None` if it is null. An empty key is not null.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.get_key()
    }

    /// Returns the value, or `None` if it is null: a tombstone in a compacted topic.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.get_value()
    }

    /// Returns the value as text, or `""` if it is null. Bytes that are not UTF-8 become `U+FFFD`.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.value().unwrap_or_default())
    }

    /// Returns the headers, in their order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'_>> {
        self.record.get_headers()
    }
}

/// Keeps the key, value, headers and timestamp, so that the record can be appended elsewhere.
impl From<OwnedRecord> for Record<'static> {
    fn from(owned: OwnedRecord) -> Self {
        owned.record
    }
}

/// Borrows the key, value, headers and timestamp, so that the record can be appended elsewhere.
impl<'a> From<&'a OwnedRecord> for Record<'a> {
    fn from(owned: &'a OwnedRecord) -> Self {
        Self::from(&owned.record)
    }
}

impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<Header<'_>> = self.headers().collect();
        let mut shown = f.debug_struct("OwnedRecord");
        shown
            .field("partition", &self.topic_partition)
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp);
        shown
            .field("key", &Nullable(self.key()))
            .field("value", &Nullable(self.value()));
        shown
            .field("headers", &Few(&headers))
            .finish_non_exhaustive()
    }
}
