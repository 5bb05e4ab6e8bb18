//! A record that was read, with bytes of its own.

use std::borrow::Cow;
use std::fmt;

use super::batch::RecordView;
use crate::brief::{Few, Nullable};
use crate::clock::Timestamp;
use crate::format::record::{Header, Record};
use crate::topic_partition::TopicPartition;

/// A record that was read, with its place in the log and bytes of its own: it can be kept, and go
/// to other threads.
///
/// A [`RecordView`] borrows from its batch; [`RecordView::into_owned`] copies it out. Kafka's
/// consumers call this a `ConsumerRecord`. It converts into a [`Record`], to be appended again. To
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
    /// Copies the record, so that it can be kept when its batch is gone, or go to another thread.
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

    /// Returns the name of its topic.
    pub fn topic(&self) -> &str {
        &self.topic_partition.topic
    }

    /// Returns the number of its partition.
    pub fn partition(&self) -> u32 {
        self.topic_partition.partition
    }

    /// Returns topic and partition together.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Returns its offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns its timestamp; `None` where Kafka stores -1.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Returns its key; `None` is null, which is not the same as empty.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.get_key()
    }

    /// Returns its value; `None` is null, a tombstone in a compacted topic.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.get_value()
    }

    /// Returns the value as lossy UTF-8; `""` for null.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.value().unwrap_or_default())
    }

    /// Returns its headers, in their order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'_>> {
        self.record.get_headers()
    }
}

/// To append it elsewhere: key, value, headers and timestamp.
impl From<OwnedRecord> for Record<'static> {
    fn from(owned: OwnedRecord) -> Self {
        owned.record
    }
}

/// To append it elsewhere, borrowed.
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
