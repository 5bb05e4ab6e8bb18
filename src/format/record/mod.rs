//! One record: what is appended ([`Record`]) and what is decoded ([`RawRecord`]).
//!
//! Inside a v2 batch, plain or decompressed, one record after the other:
//!
//! | field | type | notes |
//! |---|---|---|
//! | length | varint | of all that follows |
//! | attributes | int8 | unused, 0 |
//! | timestamp delta | varlong | timestamp - base timestamp of the batch; may be negative |
//! | offset delta | varint | offset - base offset of the batch |
//! | key length, key | varint, bytes | length -1: null, which is not the same as empty |
//! | value length, value | varint, bytes | likewise; a record with a key and a null value is a tombstone |
//! | header count | varint | |
//! | for each header: name length, name | varint, bytes | usually UTF-8; never null; may occur again; the order is kept |
//! | for each header: value length, value | varint, bytes | length -1: null |
//!
//! Example: `14 00 00 00 04 6b31 04 7631 00` is key `k1` and value `v1`, at the base offset and
//! timestamp, without headers.
//!
//! Any negative length of a key or value is read as null, as Kafka does. The record must end with
//! its last header. What the deltas are relative to is the business of the batch.

use std::borrow::Cow;
use std::fmt;

use crate::brief::{Few, Nullable};
use crate::clock::Timestamp;

use super::Malformed;
use super::varint;

mod header;
#[cfg(test)]
mod tests;

pub use header::{Header, Headers};

/// A batch, and so a record, is never larger: its length field is an `i32`.
const MAX_BYTES: u64 = i32::MAX as u64;
/// A batch that is made would be larger.
pub(crate) const TOO_LONG: Malformed = Malformed("a batch would be over 2147483647 bytes");

/// Bytes that a key, a value or a header value can be made of, borrowed or owned.
///
/// Implemented for `str`, `String`, byte slices, arrays and vectors, `Box` and `Cow` of them,
/// references to all these, and an `Option` of each, of which `None` is null. Null and empty
/// differ. Implement it for types of your own that have a form in bytes: they then are [`Record`]s
/// too.
///
/// ```
/// use annals::Record;
///
/// let user: Option<&str> = None;
/// let record = Record::new(vec![1, 2, 3]).key(user).header("trace", b"4bf92f35").header("retries", "2".to_owned());
/// # let _ = record;
/// ```
pub trait IntoBytes<'a> {
    /// The bytes, or null.
    fn into_bytes(self) -> Option<Cow<'a, [u8]>>;
}

/// Each type by itself: one implementation for every `&&T` would send the search for the source of
/// a `Record::from` round in circles.
macro_rules! into_bytes {
    ($([$($generics:tt)*] $type:ty: $self:ident => $bytes:expr;)*) => {$(
        impl<'a, $($generics)*> IntoBytes<'a> for $type {
            #[inline]
            fn into_bytes($self) -> Option<Cow<'a, [u8]>> {
                Some($bytes)
            }
        }
    )*};
}

into_bytes! {
    [] &'a str: self => Cow::Borrowed(self.as_bytes());
    [] &'a [u8]: self => Cow::Borrowed(self);
    [const N: usize] &'a [u8; N]: self => Cow::Borrowed(self);
    [] &'a String: self => Cow::Borrowed(self.as_bytes());
    [] &'a Vec<u8>: self => Cow::Borrowed(self);
    [] &'a Box<str>: self => Cow::Borrowed(self.as_bytes());
    [] &'a Box<[u8]>: self => Cow::Borrowed(self);
    [] &'a Cow<'_, str>: self => Cow::Borrowed(self.as_bytes());
    [] &'a Cow<'_, [u8]>: self => Cow::Borrowed(self);
    [] &&'a str: self => Cow::Borrowed(self.as_bytes());
    [] &&'a [u8]: self => Cow::Borrowed(self);
    [const N: usize] &&'a [u8; N]: self => Cow::Borrowed(*self);
    [] &&'a String: self => Cow::Borrowed(self.as_bytes());
    [] &&'a Vec<u8>: self => Cow::Borrowed(self);
    [] String: self => Cow::Owned(self.into_bytes());
    [] Vec<u8>: self => Cow::Owned(self);
    [] Box<str>: self => Cow::Owned(self.into_string().into_bytes());
    [] Box<[u8]>: self => Cow::Owned(self.into_vec());
    [const N: usize] [u8; N]: self => Cow::Owned(self.to_vec());
    [] Cow<'a, [u8]>: self => self;
    [] Cow<'a, str>: self => match self {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
}

impl<'a, T: IntoBytes<'a>> IntoBytes<'a> for Option<T> {
    #[inline]
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        self.and_then(IntoBytes::into_bytes)
    }
}

/// What a key, a value or a header holds; `None` is null.
type Bytes<'a> = Option<Cow<'a, [u8]>>;

/// A record to append: a value, and perhaps a key, headers and a timestamp. It borrows its bytes or
/// owns them.
///
/// Whatever takes records takes `impl Into<Record>`: everything that is [`IntoBytes`] is a record
/// with that value, a pair is key and value, and a `&Record` is good for a second try.
///
/// ```
/// use annals::{Record, Timestamp};
///
/// let order = Record::new("paid").key("order-42").header("source", "web").timestamp(Timestamp::from_millis(1_700_000_000_000));
/// assert_eq!(Record::from(("order-42", "paid")), Record::new("paid").key("order-42"));
/// assert_eq!(Record::from(&order), order);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub(crate) key: Bytes<'a>,
    pub(crate) value: Bytes<'a>,
    /// Names are bytes: those of a stored record need not be text.
    pub(crate) headers: Vec<(Cow<'a, [u8]>, Bytes<'a>)>,
    pub(crate) timestamp: Option<Timestamp>,
}

impl<'a> Record<'a> {
    /// A record with this value and nothing else.
    #[inline]
    pub fn new(value: impl IntoBytes<'a>) -> Self {
        Self {
            value: value.into_bytes(),
            ..Self::default()
        }
    }

    /// A record that deletes `key` from a compacted topic: its value is null.
    #[inline]
    pub fn tombstone(key: impl IntoBytes<'a>) -> Self {
        Self {
            key: key.into_bytes(),
            ..Self::default()
        }
    }

    /// Sets the key, which decides the partition and what compaction keeps.
    #[inline]
    #[must_use]
    pub fn key(mut self, key: impl IntoBytes<'a>) -> Self {
        self.key = key.into_bytes();
        self
    }

    /// Adds a header after those that are there. Names may occur more than once.
    #[must_use]
    pub fn header(self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        let name = match name.into() {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        };
        self.header_bytes(name, value)
    }

    /// Adds a header whose name need not be text, after those that are there. Kafka's Java client
    /// reads each part of such a name that is not UTF-8 as U+FFFD.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let latin1 = Record::new("paid").header_bytes(b"caf\xe9", "7");
    /// assert_eq!(Record::new("paid").header_bytes(b"cafe", "7"), Record::new("paid").header("cafe", "7"));
    /// # let _ = latin1;
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

    /// Sets the timestamp. Without one it is the time of the append, by the log's clock; so it is
    /// in a topic with [`TimestampType::LogAppendTime`](crate::TimestampType::LogAppendTime),
    /// whatever is set here. Moments before 1970 are refused.
    #[inline]
    #[must_use]
    pub fn timestamp(mut self, at: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(at.into());
        self
    }

    /// Returns the key; `None` is null, which is not the same as empty.
    ///
    /// The getters have a `get_` in their names, as those of [`std::process::Command`] do:
    /// [`key`](Self::key) sets the key.
    ///
    /// ```
    /// use annals::Record;
    ///
    /// let order = Record::new("paid").key("order-42").header("source", "web");
    /// assert_eq!(order.get_key(), Some(&b"order-42"[..]));
    /// assert_eq!(order.get_value(), Some(&b"paid"[..]));
    /// assert_eq!(order.get_headers().map(|header| header.name().into_owned()).collect::<Vec<_>>(), ["source"]);
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

    /// Returns the timestamp that was set; `None` if the append is to set it.
    pub fn get_timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The same record with bytes of its own.
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

/// Shows key and value as text where they are text, and not more than their first bytes; headers
/// and timestamp if there are any.
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

/// The value, and no key.
impl<'a, T: IntoBytes<'a>> From<T> for Record<'a> {
    #[inline]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Key and value.
impl<'a, K: IntoBytes<'a>, V: IntoBytes<'a>> From<(K, V)> for Record<'a> {
    #[inline]
    fn from((key, value): (K, V)) -> Self {
        Self::new(value).key(key)
    }
}

/// Key and value.
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

/// The same record, borrowing its bytes.
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
    /// A stored record, to be stored again.
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

/// A decoded record; its parts borrow from the (decompressed) batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    pub(crate) offset: u64,
    /// -1: none.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

/// The fields of a record, with deltas that only its batch can turn into an offset and a timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// The first of `records` without its length, and how many bytes it takes with it.
pub(super) fn split_first(records: &[u8]) -> Result<(&[u8], usize), Malformed> {
    let mut rest = records;
    let length = varint::read_i32(&mut rest)?;
    let length =
        usize::try_from(length).map_err(|_| Malformed("the length of a record is negative"))?;
    let record = rest
        .get(..length)
        .ok_or(Malformed("a record is cut short"))?;
    Ok((record, records.len() - rest.len() + length))
}

/// Decodes a record without its length: `record` is exactly what the length counts.
pub(super) fn decode(record: &[u8]) -> Result<Fields<'_>, Malformed> {
    let Some((_attributes, mut rest)) = record.split_first() else {
        return Err(Malformed("a record without a byte"));
    };
    let timestamp_delta = varint::read_i64(&mut rest)?;
    let offset_delta = varint::read_i32(&mut rest)?.into();
    let key = read_bytes(&mut rest)?;
    let value = read_bytes(&mut rest)?;
    Ok(Fields {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers: Headers::decode(rest)?,
    })
}

/// As many bytes as the fields in front of the key of a record take, and some.
const LOOK_AHEAD_BYTES: usize = 16;

/// `split_first` and `decode` in one, for the records that fill most logs: no headers, a short key,
/// deltas of few bytes, and more bytes behind it than the smallest records have. `None` says
/// nothing about the others. It calls nothing and keeps what it looks at in registers, so that a
/// loop over records takes a fraction of the time of the two.
#[expect(
    clippy::inline_always,
    reason = "a call would pass the fields, which are a dozen words, through memory"
)]
#[inline(always)]
pub(super) fn decode_first_plain(records: &[u8]) -> Option<(Fields<'_>, usize)> {
    let ahead: &[u8; LOOK_AHEAD_BYTES] = records.first_chunk()?;
    let (length, start) = varint::few_groups_at(ahead, 0)?;
    let size = start + length_of(length)?;
    // Behind the attributes.
    let (timestamp_delta, at) = varint::few_groups_at(ahead, start + 1)?;
    let (offset_delta, at) = varint::few_groups_at(ahead, at)?;
    let (key, key_start) = varint::few_groups_at(ahead, at)?;
    let key_end = key_start + length_of(key).unwrap_or(0);
    let ahead: &[u8; 3] = records.get(key_end..key_end + 3)?.first_chunk()?;
    let (value, value_size) = varint::few_groups_at(ahead, 0)?;
    let value_start = key_end + value_size;
    let value_end = value_start + length_of(value).unwrap_or(0);
    // Behind the value: no headers.
    if value_end + 1 != size || *records.get(value_end)? != 0 {
        return None;
    }
    let bytes = |length, start, end| {
        if length_of(length).is_some() {
            records.get(start..end).map(Some)
        } else {
            Some(None)
        }
    };
    let (key, value) = (
        bytes(key, key_start, key_end)?,
        bytes(value, value_start, value_end)?,
    );
    let (timestamp_delta, offset_delta) = (
        varint::signed(timestamp_delta.into()),
        varint::signed(offset_delta.into()),
    );
    Some((
        Fields {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: Headers::default(),
        },
        size,
    ))
}

/// Of the first record, if it is one that `decode_first_plain` may decode, its offset delta, and
/// how many bytes it takes.
#[inline]
pub(super) fn measure_first_plain(records: &[u8]) -> Option<(i64, usize)> {
    let ahead: &[u8; LOOK_AHEAD_BYTES] = records.first_chunk()?;
    let (length, start) = varint::few_groups_at(ahead, 0)?;
    let size = start + length_of(length)?;
    let (_timestamp_delta, at) = varint::few_groups_at(ahead, start + 1)?;
    let (offset_delta, _) = varint::few_groups_at(ahead, at)?;
    Some((varint::signed(offset_delta.into()), size))
}

/// A length as its groups have it, unless it is negative.
#[inline]
fn length_of(groups: u32) -> Option<usize> {
    if groups & 1 == 0 {
        Some((groups >> 1) as usize)
    } else {
        None
    }
}

/// A length and that many bytes; null if the length is negative.
fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let Ok(length) = usize::try_from(varint::read_i32(rest)?) else {
        return Ok(None);
    };
    let Some((bytes, behind)) = rest.split_at_checked(length) else {
        return Err(Malformed("a key or value is longer than its record"));
    };
    *rest = behind;
    Ok(Some(bytes))
}

/// Appends a record to `out`, the batch so far. Malformed, and `out` is as before, if the batch
/// would be over `i32::MAX` bytes.
#[inline]
pub(crate) fn encode(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Result<(), Malformed> {
    match encode_plain(out, timestamp_delta, offset_delta, record) {
        Some(()) => Ok(()),
        None => encode_any(out, timestamp_delta, offset_delta, record),
    }
}

/// `encode` for the records that fill most logs, as `decode_first_plain` has them. `None`: `out` is
/// as before. It puts the fields in front of the key together in one word, and takes half the time
/// of `encode_any`.
#[inline]
fn encode_plain(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Option<()> {
    if !record.headers.is_empty() {
        return None;
    }
    let length_of =
        |bytes: Option<&[u8]>| bytes.map_or(NULL_LENGTH, |bytes| (bytes.len() as u64) << 1);
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let (timestamp_delta, timestamp_size) = varint::to_few_groups(varint::zigzag(timestamp_delta))?;
    let (offset_delta, offset_size) = varint::to_few_groups(u64::from(offset_delta) << 1)?;
    let (key_length, key_size) = varint::to_few_groups(length_of(key))?;
    let (value_length, value_size) = varint::to_few_groups(length_of(value))?;
    let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
    // With the attributes and the count of headers.
    let length =
        1 + timestamp_size + offset_size + key_size + key.len() + value_size + value.len() + 1;
    let (groups, size) = varint::to_few_groups((length as u64) << 1)?;
    let front_size = size + 1 + timestamp_size + offset_size + key_size;
    let room = MAX_BYTES.saturating_sub(out.len() as u64);
    if front_size > 8 || (size + length) as u64 > room {
        return None;
    }
    let front = groups << (8 * (1 + timestamp_size)) | timestamp_delta;
    let front = (front << (8 * offset_size) | offset_delta) << (8 * key_size) | key_length;

    out.reserve(size + length + 8);
    let end = out.len() + size + length;
    extend_by_lowest(out, front, front_size);
    out.extend_from_slice(key);
    extend_by_lowest(out, value_length, value_size);
    out.extend_from_slice(value);
    out.push(0);
    debug_assert_eq!(
        out.len(),
        end,
        "a record is as long as was worked out before"
    );
    Some(())
}

/// The length of null, -1, as its group has it.
const NULL_LENGTH: u64 = 1;

/// Appends the lowest `count` bytes of a word, which are at least 1, the highest first. Copies all
/// eight, which takes no call.
#[inline]
fn extend_by_lowest(out: &mut Vec<u8>, word: u64, count: usize) {
    let end = out.len() + count;
    out.extend_from_slice(&(word << (64 - 8 * count)).to_be_bytes());
    out.truncate(end);
}

/// At least as many bytes as the record takes up in a batch.
#[inline]
pub(crate) fn size_bound(record: &Record<'_>) -> usize {
    /// Length, attributes, deltas, the lengths of key and value, the count of headers.
    const FIELDS_BYTES: usize = 32;
    /// The lengths of name and value.
    const HEADER_BYTES: usize = 10;
    let length = |bytes: &Bytes<'_>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| HEADER_BYTES + name.len() + length(value))
        .sum();
    FIELDS_BYTES + length(&record.key) + length(&record.value) + headers
}

#[inline(never)]
fn encode_any(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: u32,
    record: &Record<'_>,
) -> Result<(), Malformed> {
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let mut length = 1
        + varint::size_of_i64(timestamp_delta) as u64
        + varint::size_of_i64(offset_delta.into()) as u64
        + size_of_bytes(key)
        + size_of_bytes(value)
        + varint::size_of_length(record.headers.len()) as u64;
    for (name, value) in &record.headers {
        length += size_of_bytes(Some(name)) + size_of_bytes(value.as_deref());
    }
    let room = MAX_BYTES.saturating_sub(out.len() as u64);
    let length = match usize::try_from(length) {
        Ok(fits) if length + (varint::size_of_length(fits) as u64) <= room => fits,
        _ => return Err(TOO_LONG),
    };

    out.reserve(varint::size_of_length(length) + length);
    varint::write_length(out, length);
    let end = out.len() + length;
    out.push(0);
    varint::write_i64(out, timestamp_delta);
    varint::write_i64(out, offset_delta.into());
    write_bytes(out, key);
    write_bytes(out, value);
    varint::write_length(out, record.headers.len());
    for (name, value) in &record.headers {
        write_bytes(out, Some(name));
        write_bytes(out, value.as_deref());
    }
    debug_assert_eq!(
        out.len(),
        end,
        "a record is as long as was worked out before"
    );
    Ok(())
}

/// Size of a key or value with its length.
#[inline]
fn size_of_bytes(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(1, |bytes| {
        varint::size_of_length(bytes.len()) as u64 + bytes.len() as u64
    })
}

#[inline]
fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => varint::write_i32(out, -1),
    }
}
