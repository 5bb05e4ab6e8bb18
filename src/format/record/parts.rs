//! What is encoded of a record, without what it owns.

use std::borrow::Cow;
use std::mem;

use super::Record;
use super::bytes::Bytes;
use crate::clock::Timestamp;

/// The parts of a record, borrowed.
///
/// The compiler keeps them in registers while a record is encoded. A [`Record`] that may own
/// something has to be in memory, since its destructor takes its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(Cow<'a, [u8]>, Bytes<'a>)],
    pub(crate) timestamp: Option<Timestamp>,
}

impl<'a> Record<'a> {
    #[inline]
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
            timestamp: self.timestamp,
        }
    }

    /// Returns the parts of a record that owns nothing, and any other record as it is.
    #[inline]
    pub(crate) fn try_into_parts(self) -> Result<Parts<'a>, Self> {
        let owns_bytes = |bytes: &Bytes<'_>| matches!(bytes, Some(Cow::Owned(_)));
        if owns_bytes(&self.key) || owns_bytes(&self.value) || self.headers.capacity() > 0 {
            return Err(self);
        }
        let (key, value) = (borrowed(&self.key), borrowed(&self.value));
        let timestamp = self.timestamp;
        // There is nothing to free.
        mem::forget(self);
        Ok(Parts {
            key,
            value,
            headers: &[],
            timestamp,
        })
    }
}

#[inline]
fn borrowed<'a>(bytes: &Bytes<'a>) -> Option<&'a [u8]> {
    match bytes {
        Some(Cow::Borrowed(bytes)) => Some(bytes),
        _ => None,
    }
}
