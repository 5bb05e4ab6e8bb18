//! One record: the form that is appended ([`Record`]) and the form that is decoded
//! ([`RawRecord`]).
//!
//! In a v2 batch, plain or decompressed, records follow one another in this layout:
//!
//! | field | type | notes |
//! |---|---|---|
//! | length | varint | of everything after this field |
//! | attributes | int8 | unused, 0 |
//! | timestamp delta | varlong | timestamp - base timestamp of the batch; may be negative |
//! | offset delta | varint | offset - base offset of the batch |
//! | key length, key | varint, bytes | length -1 is null, which is not the same as empty |
//! | value length, value | varint, bytes | as for the key; a record with a key and a null value is a tombstone |
//! | header count | varint | |
//! | for each header: name length, name | varint, bytes | usually UTF-8; never null; may repeat; the order is kept |
//! | for each header: value length, value | varint, bytes | length -1 is null |
//!
//! Example: `14 00 00 00 04 6b31 04 7631 00` is key `k1` and value `v1`, at the base offset and
//! timestamp, without headers.
//!
//! Like Kafka, the decoder reads any negative length of a key or value as null. A record must end
//! with its last header. The batch adds its base offset and base timestamp to the deltas.

use std::borrow::Cow;
use std::fmt;

use crate::brief::{Few, Nullable};
use crate::clock::Timestamp;

mod bytes;
mod decode;
mod encode;
mod header;
mod layout;
mod parts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use bytes::IntoBytes;
pub(super) use decode::{Fields, decode, decode_first_plain, measure_first_plain, split_first};
pub(crate) use encode::{TOO_LONG, encode, size_bound};
pub use header::{Header, Headers};
pub(super) use layout::{Layout, Plain, plain_at};
pub(crate) use parts::Parts;

/// A record to append: a value, and optionally a key, headers and a timestamp.
///
/// A record borrows its bytes or owns them; see [`IntoBytes`] for the types that it accepts.
///
/// Methods that append take `impl Into<Record>`, so a `Record` is needed only for headers and
/// timestamps. A value that is [`IntoBytes`] is a record without a key, and a pair is a key and a
/// value. Pass `&Record` to keep the record, for example to append it again after an error.
///
/// ```
/// use annals::{Log, Record, Timestamp, TopicConfig};
///
/// let log = Log::in_memory();
/// let partition = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
///
/// partition.append("paid")?;
/// partition.append(("order-42", "paid"))?;
/// let order = Record::new("paid")
///     .key("order-42")
///     .header("source", "web")
///     .timestamp(Timestamp::from_millis(1_700_000_000_000));
/// partition.append(&order)?;
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub(crate) key: Bytes<'a>,
    pub(crate) value: Bytes<'a>,
    /// Names are bytes, because the names in a stored record may not be text.
    pub(crate) headers: Vec<(Cow<'a, [u8]>, Bytes<'a>)>,
    pub(crate) timestamp: Option<Timestamp>,
}

impl<'a> Record<'a> {
    /// Creates a record with this value and without key, headers and timestamp.
    #[inline]
    pub fn new(value: impl IntoBytes<'a>) -> Self {
        Self {
            value: value.into_bytes(),
            ..Self::default()
        }
    }

    /// Creates a record that deletes `key` from a compacted topic: its value is null.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let deletion = Record::tombstone("user-7");
    /// assert_eq!(deletion.get_key(), Some(&b"user-7"[..]));
    /// assert_eq!(deletion.get_value(), None);
    /// ```
    #[inline]
    pub fn tombstone(key: impl IntoBytes<'a>) -> Self {
        Self {
            key: key.into_bytes(),
            ..Self::default()
        }
    }

    /// Sets the key. It determines the partition when the producer chooses one, and compaction
    /// keeps only the newest record of each key.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let order = Record::new("paid").key("order-42");
    /// assert_eq!(order, Record::from(("order-42", "paid")));
    /// ```
    #[inline]
    #[must_use]
    pub fn key(mut self, key: impl IntoBytes<'a>) -> Self {
        self.key = key.into_bytes();
        self
    }

    /// Adds a header after those that were added before. A name may occur more than once.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let order = Record::new("paid").header("source", "web").header("attempt", "2");
    /// let names: Vec<_> = order.get_headers().map(|header| header.name().into_owned()).collect();
    /// assert_eq!(names, ["source", "attempt"]);
    /// ```
    #[must_use]
    pub fn header(self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        let name = match name.into() {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        };
        self.header_bytes(name, value)
    }

    /// Adds a header whose name may be any bytes, after those that were added before.
    ///
    /// Kafka's Java client reads each part of such a name that is not UTF-8 as U+FFFD.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let latin1 = Record::new("paid").header_bytes(b"caf\xe9", "7");
    /// let name = latin1.get_headers().next().map(|header| header.name_bytes().to_vec());
    /// assert_eq!(name.as_deref(), Some(&b"caf\xe9"[..]));
    /// ```
    #[must_use]
    pub fn header_bytes(
        mut self,
        name: impl Into<Cow<'a, [u8]>>,
        value: impl IntoBytes<'a>,
    ) -> Self {
        self.headers.push((name.into(), value.into_bytes()));
        self
    }

    /// Sets the timestamp, which is stored in milliseconds.
    ///
    /// Without one, the append sets it to the time of the log's clock. A topic with
    /// [`TimestampType::LogAppendTime`](crate::TimestampType::LogAppendTime) always uses that time
    /// and ignores the one that is set here. An append refuses times before 1970.
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// use annals::{Record, Timestamp};
    ///
    /// let now = Record::new("paid").timestamp(SystemTime::now());
    /// let past = Record::new("paid").timestamp(Timestamp::from_millis(1_700_000_000_000));
    /// assert!(past.get_timestamp() < now.get_timestamp());
    /// ```
    #[inline]
    #[must_use]
    pub fn timestamp(mut self, at: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(at.into());
        self
    }

    /// Returns the key; `None` is null, which is not the same as empty.
    ///
    /// The getters have a `get_` in their names, like those of [`std::process::Command`], because
    /// [`key`](Self::key) sets the key.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let order = Record::new("paid").key("order-42");
    /// assert_eq!(order.get_key(), Some(&b"order-42"[..]));
    /// assert_eq!(order.get_value(), Some(&b"paid"[..]));
    /// assert_eq!(order.get_timestamp(), None);
    /// ```
    pub fn get_key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Returns the value; `None` is null.
    pub fn get_value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Returns the headers, in the order in which they were added.
    pub fn get_headers(&self) -> impl ExactSizeIterator<Item = Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| Header::new(name, value.as_deref()))
    }

    /// Returns the timestamp that was set, or `None` if the append is to set it.
    pub fn get_timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Copies all borrowed bytes, and returns a record that owns them.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// fn read_line() -> Record<'static> {
    ///     let line = String::from("order-42 paid");
    ///     let (key, value) = line.split_once(' ').unwrap_or_default();
    ///     Record::new(value).key(key).into_owned()
    /// }
    /// assert_eq!(read_line().get_key(), Some(&b"order-42"[..]));
    /// ```
    pub fn into_owned(self) -> Record<'static> {
        fn own(bytes: Bytes<'_>) -> Bytes<'static> {
            bytes.map(|bytes| Cow::Owned(bytes.into_owned()))
        }
        let headers = self
            .headers
            .into_iter()
            .map(|(name, value)| (Cow::Owned(name.into_owned()), own(value)))
            .collect();
        Record {
            key: own(self.key),
            value: own(self.value),
            headers,
            timestamp: self.timestamp,
        }
    }
}

/// Shows key and value as text if they are text, and at most their first bytes. Headers and
/// timestamp appear only if they are set.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Record");
        shown
            .field("key", &Nullable(self.get_key()))
            .field("value", &Nullable(self.get_value()));
        if !self.headers.is_empty() {
            let headers: Vec<Header<'_>> = self.get_headers().collect();
            shown.field("headers", &Few(&headers));
        }
        if let Some(timestamp) = &self.timestamp {
            shown.field("timestamp", timestamp);
        }
        shown.finish()
    }
}

/// Creates a record with this value and without a key.
impl<'a, T: IntoBytes<'a>> From<T> for Record<'a> {
    #[inline]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Creates a record from a key and a value.
impl<'a, K: IntoBytes<'a>, V: IntoBytes<'a>> From<(K, V)> for Record<'a> {
    #[inline]
    fn from((key, value): (K, V)) -> Self {
        Self::new(value).key(key)
    }
}

/// Creates a record from a key and a value.
impl<'a, K, V> From<&'a (K, V)> for Record<'a>
where
    &'a K: IntoBytes<'a>,
    &'a V: IntoBytes<'a>,
{
    #[inline]
    fn from((key, value): &'a (K, V)) -> Self {
        Self::new(value).key(key)
    }
}

/// Creates an equal record that borrows its bytes from this one.
impl<'a> From<&'a Record<'_>> for Record<'a> {
    fn from(record: &'a Record<'_>) -> Self {
        fn borrow<'a>(bytes: &'a Bytes<'_>) -> Bytes<'a> {
            bytes.as_deref().map(Cow::Borrowed)
        }
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (Cow::Borrowed(&**name), borrow(value)))
            .collect();
        Self {
            key: borrow(&record.key),
            value: borrow(&record.value),
            headers,
            timestamp: record.timestamp,
        }
    }
}

impl<'a> Record<'a> {
    /// Turns a stored record into one that can be stored again.
    pub(crate) fn from_raw(raw: &RawRecord<'a>) -> Self {
        Self {
            key: raw.key.map(Cow::Borrowed),
            value: raw.value.map(Cow::Borrowed),
            headers: raw
                .headers
                .map(|header| {
                    (
                        header.name_bytes().into(),
                        header.value().map(Cow::Borrowed),
                    )
                })
                .collect(),
            timestamp: (raw.timestamp >= 0).then_some(Timestamp::from_millis(raw.timestamp)),
        }
    }
}

/// A decoded record that borrows from its batch, or from the decompressed bytes of its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    pub(crate) offset: u64,
    /// In milliseconds; -1 if the record has none.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}
