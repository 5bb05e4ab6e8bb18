//! The few fields with which a search steps over a batch.

use super::{Frame, HEADER_BYTES, MAX_I32, MAX_OFFSET, field};

/// Where a v2 batch begins and ends, in the log and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) base_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) size_bytes: u32,
}

impl Outline {
    /// Returns the outline of a batch in which every offset has a record, or `None` for any other
    /// batch and a malformed one: their whole headers must be decoded. `bytes` starts with the
    /// batch.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let frame = Frame::decode(header).ok()?;
        let delta = u32::from_be_bytes(field::<23, _, _>(header));
        let record_count = u32::from_be_bytes(field::<57, _, _>(header));
        let is_usual = header[16] == 2
            && frame.size_bytes as usize >= HEADER_BYTES
            && (1..=MAX_I32).contains(&record_count)
            && record_count - 1 == delta
            && frame.offset <= MAX_OFFSET - u64::from(delta);
        is_usual.then(|| Self {
            base_offset: frame.offset,
            last_offset: frame.offset + u64::from(delta),
            size_bytes: frame.size_bytes,
        })
    }
}
