//! Compressing the records of a new batch.

use super::HEADER_BYTES;
use crate::config::{Compression, TopicSettings};
use crate::format::{Malformed, compression};

/// The rules by which batches are compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing<'a> {
    /// The settings that contain the levels of the codecs.
    pub(crate) settings: &'a TopicSettings,
    /// The greatest size of decompressed records that readers accept in a compressed batch.
    pub(crate) max_decompressed_bytes: usize,
    /// Whether records stay uncompressed if the codec does not make them smaller. This is `false`
    /// for a batch that is built from another one, because Kafka keeps the codec there.
    pub(crate) must_shrink: bool,
}

impl Packing<'_> {
    /// Compresses the records in `batch`, which are all bytes after the header. Returns the codec
    /// that the header must name.
    ///
    /// The records stay uncompressed, and the codec is `None`, if readers would refuse to
    /// decompress them. With `must_shrink`, they also do if the codec does not make them smaller.
    pub(super) fn pack(
        self,
        codec: Compression,
        batch: &mut Vec<u8>,
    ) -> Result<Compression, Malformed> {
        let records = batch.get(HEADER_BYTES..).unwrap_or_default();
        if codec == Compression::None || records.len() > self.max_decompressed_bytes {
            return Ok(Compression::None);
        }
        let mut compressed = Vec::with_capacity(records.len() / 2);
        compression::compress(codec, self.settings, records, &mut compressed)?;
        if self.must_shrink && compressed.len() >= records.len() {
            return Ok(Compression::None);
        }
        // We copy the compressed bytes back, so that the caller can reuse its buffer, with its
        // capacity, for the next batch.
        batch.truncate(HEADER_BYTES);
        batch.extend_from_slice(&compressed);
        Ok(codec)
    }
}
