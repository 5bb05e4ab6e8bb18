//! Bytes or null: what a key, a value and the value of a header are made of.

use std::borrow::Cow;

use crate::format::{Malformed, varint};

/// A key, a value, or the value of a header, borrowed or owned; `None` is null.
pub(super) type Bytes<'a> = Option<Cow<'a, [u8]>>;

/// A value that can be turned into the bytes of a key, a value or a header, or into null.
///
/// Implemented for `str`, `String`, byte slices, arrays and vectors, for `Box` and `Cow` of these,
/// and for references to all of them. An `Option` of any of them works too: `None` is null, which
/// is not the same as empty bytes.
///
/// ```
/// use annals::Record;
///
/// let user: Option<&str> = None;
/// let record = Record::new(vec![1, 2, 3])
///     .key(user)
///     .header("trace", b"4bf92f35")
///     .header("retries", "2".to_owned());
/// assert_eq!(record.get_key(), None);
/// assert_eq!(record.get_value(), Some(&[1, 2, 3][..]));
/// ```
///
/// Implement it for a type of your own to pass values of that type as keys, values and whole
/// [`Record`](crate::Record)s:
///
/// ```
/// use std::borrow::Cow;
///
/// use annals::{IntoBytes, Record};
///
/// struct Celsius(i32);
///
/// impl<'a> IntoBytes<'a> for Celsius {
///     fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
///         Some(Cow::Owned(self.0.to_be_bytes().to_vec()))
///     }
/// }
///
/// let reading = Record::from(("cellar", Celsius(12)));
/// assert_eq!(reading.get_value(), Some(&[0, 0, 0, 12][..]));
/// ```
pub trait IntoBytes<'a> {
    /// Returns the bytes, or `None` for null.
    fn into_bytes(self) -> Option<Cow<'a, [u8]>>;
}

/// Implements the trait for each type separately. A blanket implementation for `&&T` would send
/// the compiler's search for the source type of a `Record::from` into a loop.
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

/// Takes a length and that many bytes off the front of `rest`; returns `None`, which is null, for
/// a negative length.
#[inline]
pub(super) fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let Ok(length) = usize::try_from(varint::read_i32(rest)?) else {
        return Ok(None);
    };
    let Some((bytes, after)) = rest.split_at_checked(length) else {
        return Err(Malformed("a key or value is longer than its record"));
    };
    *rest = after;
    Ok(Some(bytes))
}

/// Returns the size of a key or value including its length field.
#[inline]
pub(super) fn size_of_bytes(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(1, |bytes| {
        varint::size_of_length(bytes.len()) as u64 + bytes.len() as u64
    })
}

#[inline]
pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => varint::write_i32(out, -1),
    }
}
