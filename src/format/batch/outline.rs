//! The few fields with which a search steps over a batch.

use super::{HEADER_BYTES, MAX_I32, MAX_OFFSET, MIN_V2_BYTES, OVERHEAD, field};

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
        let base_offset = u64::from_be_bytes(field::<0, _, _>(header));
        let length = u32::from_be_bytes(field::<8, _, _>(header));
        let delta = u32::from_be_bytes(field::<23, _, _>(header));
        let record_count = u32::from_be_bytes(field::<57, _, _>(header));
        let is_sound = header[16] == 2
            && (MIN_V2_BYTES - OVERHEAD..=MAX_I32).contains(&length)
            && (1..=MAX_I32).contains(&record_count)
            && record_count - 1 == delta
            && base_offset <= MAX_OFFSET - u64::from(delta);
        is_sound.then(|| Self {
            base_offset,
            last_offset: base_offset + u64::from(delta),
            size_bytes: length + OVERHEAD,
        })
    }
}
