//! A record that borrows from its batch.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::Batch;
use crate::brief::Nullable;
use crate::clock::Timestamp;
use crate::config::TimestampType;
use crate::format::record::{Headers, RawRecord, Record};
use crate::partition::PartitionCore;
use crate::topic_partition::TopicPartition;

/// A record that borrows its bytes from its batch. [`into_owned`](Self::into_owned) copies it.
///
/// ```
/// # use annals::{Log, Record, TopicConfig};
/// # let log = Log::in_memory();
/// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
/// orders.append(Record::new("paid").key("order 7"))?;
/// let mut reader = orders.read(..)?;
/// let record = reader.next_record()?.expect("there is a record");
/// assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 0, 0));
/// assert_eq!(record.key(), Some(&b"order 7"[..]));
/// assert_eq!(record.value(), Some(&b"paid"[..]));
/// assert_eq!(record.text(), "paid");
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    pub(super) batch: &'a Batch,
    pub(super) raw: RawRecord<'a>,
}

impl<'a> RecordView<'a> {
    /// Returns the name of the record's topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        &self.batch.origin.id.topic
    }

    /// Returns the number of the record's partition.
    #[inline]
    pub fn partition(&self) -> u32 {
        self.batch.origin.id.partition
    }

    /// Returns the topic and the number of the partition together.
    #[inline]
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.batch.origin.id
    }

    /// Returns the offset of the record in its partition.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.raw.offset
    }

    /// Returns the timestamp, or `None` if the record has none (Kafka stores -1).
    #[inline]
    pub fn timestamp(&self) -> Option<Timestamp> {
        (self.raw.timestamp != -1).then_some(Timestamp::from_millis(self.raw.timestamp))
    }

    /// Returns the meaning of the timestamp, or `None` for a record of format v0, which has no
    /// timestamp.
    #[inline]
    pub fn timestamp_type(&self) -> Option<TimestampType> {
        self.batch.header.timestamp_type()
    }

    /// Returns the key, or `None` if it is null. An empty key is not null.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key
    }

    /// Returns the value, or `None` if it is null: a tombstone in a compacted topic.
    ///
    /// ```
    /// # use annals::{Log, Record, TopicConfig};
    /// # let users = Log::in_memory().open_topic("users", 1, TopicConfig::new())?.partition(0)?;
    /// users.append(Record::tombstone("user 7"))?;
    /// let mut reader = users.read(..)?;
    /// assert!(reader.next_record()?.is_some_and(|record| record.value().is_none()));
    /// # Ok::<(), annals::Error>(())
    /// ```
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value
    }

    /// Returns the value as text, or `""` if it is null. Bytes that are not UTF-8 become `U+FFFD`.
    #[inline]
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.raw.value.unwrap_or_default())
    }

    /// Returns whether the record was read from this very partition, not from an earlier one of the
    /// same name.
    pub(crate) fn is_of(&self, partition: &PartitionCore) -> bool {
        Arc::ptr_eq(&self.batch.origin, partition.origin())
    }

    /// Returns the number of cuts of the partition before the record was read.
    pub(crate) fn cuts_seen(&self) -> u64 {
        self.batch.cuts_seen
    }

    /// Returns the headers, in their order.
    ///
    /// ```
    /// # use annals::{Log, Record, TopicConfig};
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append(Record::new("paid").header("source", "shop"))?;
    /// let mut reader = orders.read(..)?;
    /// let record = reader.next_record()?.expect("there is a record");
    /// assert_eq!(record.headers().next().expect("one").value(), Some(&b"shop"[..]));
    /// # Ok::<(), annals::Error>(())
    /// ```
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.raw.headers
    }
}

/// Borrows the key, value, headers and timestamp, so that the record can be appended elsewhere.
impl<'a> From<RecordView<'a>> for Record<'a> {
    fn from(view: RecordView<'a>) -> Self {
        Self::from_raw(&view.raw)
    }
}

/// Shows the first bytes of the key and of the value, as text if they are text.
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
