//! Compressing the records of a batch that was built.

use super::HEADER_BYTES;
use crate::config::{Compression, TopicSettings};
use crate::format::{Malformed, compression};

/// How batches are compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing<'a> {
    /// For the levels of the codecs.
    pub(crate) settings: &'a TopicSettings,
    /// Readers refuse a compressed batch whose records have more bytes than this.
    pub(crate) max_decompressed_bytes: usize,
    /// Whether records that the codec makes larger stay as they are. A batch that is built from
    /// another one keeps its codec all the same, as in Kafka.
    pub(crate) must_shrink: bool,
}

impl Packing<'_> {
    /// Compresses the records in `batch`, which are all bytes after the header, and returns the
    /// codec to name there: none if the records stay as they are. They do if readers would refuse
    /// to decompress them.
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
        // Copied back, so that the caller's buffer keeps its room for the next batch.
        batch.truncate(HEADER_BYTES);
        batch.extend_from_slice(&compressed);
        Ok(codec)
    }
}
