//! The headers of a record: pairs of a name and a value.
//!
//! Kafka's format stores names as bytes. Its Java client writes UTF-8; other clients write any
//! bytes. We therefore keep a name as bytes, and turn it into text only to show it.

use std::borrow::Cow;
use std::fmt;

use super::bytes::read_bytes;
use crate::brief::{Excerpt, Few, Nullable};
use crate::format::{Malformed, varint};

/// A header of a record: a name and a value.
///
/// The name consists of bytes that are usually text. A name may occur more than once in a record.
///
/// ```
/// use annals::{Log, Record, TopicConfig};
///
/// let log = Log::in_memory();
/// let partition = log.open_topic("events", 1, TopicConfig::new())?.partition(0)?;
/// partition.append(Record::new("paid").header("trace", "4bf92f35"))?;
/// let mut reader = partition.read(..)?;
/// while let Some(record) = reader.next_record()? {
///     for header in record.headers() {
///         assert_eq!(header.name(), "trace");
///         assert_eq!(header.value(), Some(&b"4bf92f35"[..]));
///     }
/// }
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Returns the name as text. Bytes that are not UTF-8 become U+FFFD; to get them unchanged, use
    /// [`name_bytes`](Self::name_bytes).
    #[inline]
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.name)
    }

    /// Returns the bytes of the name as they are stored.
    #[inline]
    pub fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// Returns the value; `None` is null, which is not the same as empty.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    pub(super) fn new(name: &'a [u8], value: Option<&'a [u8]>) -> Self {
        Self { name, value }
    }

    fn decode(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let Some(name) = read_bytes(rest)? else {
            return Err(Malformed("a header without a name"));
        };
        Ok(Self {
            name,
            value: read_bytes(rest)?,
        })
    }
}

/// Shows name and value as text if they are text, and at most their first bytes.
impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("name", &Excerpt(self.name))
            .field("value", &Nullable(self.value))
            .finish()
    }
}

/// An iterator over the headers of a record, in the order in which they were added.
///
/// It is `Copy`, and [`get`](Self::get) looks up one header by its name.
///
/// ```
/// use annals::{Log, Record, TopicConfig};
///
/// let log = Log::in_memory();
/// let partition = log.open_topic("events", 1, TopicConfig::new())?.partition(0)?;
/// partition.append(Record::new("paid").header("source", "web").header("trace", "4bf92f35"))?;
/// let mut reader = partition.read(..)?;
/// let record = reader.next_record()?.expect("the record");
/// assert_eq!(record.headers().len(), 2);
/// let names: Vec<_> = record.headers().map(|header| header.name()).collect();
/// assert_eq!(names, ["source", "trace"]);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Returns the last header with this name, or `None` if the record has none. Kafka calls this
    /// `lastHeader`.
    ///
    /// ```
    /// use annals::{Log, Record, TopicConfig};
    ///
    /// let log = Log::in_memory();
    /// let partition = log.open_topic("events", 1, TopicConfig::new())?.partition(0)?;
    /// partition.append(Record::new("paid").header("retries", "1").header("retries", "2"))?;
    /// let mut reader = partition.read(..)?;
    /// let record = reader.next_record()?.expect("the record");
    /// let retries = record.headers().get("retries").and_then(|header| header.value());
    /// assert_eq!(retries, Some(&b"2"[..]));
    /// assert!(record.headers().get("trace").is_none());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<Header<'a>> {
        self.filter(|header| header.name == name.as_ref()).last()
    }

    /// Decodes the count and the headers, which must fill `bytes` exactly. All headers are checked
    /// here, so that iterating over them cannot fail.
    pub(super) fn decode(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let count = u32::try_from(varint::read_i32(&mut bytes)?)
            .map_err(|_| Malformed("a negative count of headers"))?;
        let mut rest = bytes;
        for _ in 0..count {
            Header::decode(&mut rest)?;
        }
        if rest.is_empty() {
            Ok(Self { count, bytes })
        } else {
            Err(Malformed("a record is longer than its fields"))
        }
    }
}

#[expect(
    clippy::copy_iterator,
    reason = "a record view is `Copy` and returns its headers by value"
)]
impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        Header::decode(&mut self.bytes).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Few(*self).fmt(f)
    }
}
