//! Small text files, Kafka's and our own.
//!
//! | file | whose | in |
//! | --- | --- | --- |
//! | `partition.metadata` | Kafka's: the topic id of a partition | `partition_metadata.rs` |
//! | `meta.properties` | Kafka's: cluster, node and directory | `meta_properties.rs` |
//! | `.kafka_cleanshutdown` | Kafka's: there only while the directory is closed | here |
//! | `<topic>.topic` | ours: what Kafka has no place for in a data directory | `topic_file.rs` |
//! | `index-digests` | ours: checksums of sealed indexes | `index_digests.rs` |
//! | `lone-partition` | ours: what a partition without a topic file has to say | `lone_file.rs` |
//!
//! Kafka's have no checksum. Ours end with one (`checked_text.rs`), so that damage is told from
//! content.

mod checked_text;
mod index_digests;
mod lone_file;
mod meta_properties;
mod partition_metadata;
mod topic_file;
mod topic_id;

use super::Malformed;

pub(crate) use index_digests::{
    Digest, SegmentDigests, decode_index_digests, encode_index_digests,
};
pub(crate) use lone_file::{LoneFile, decode_lone_file, encode_lone_file};
pub(crate) use meta_properties::{MetaProperties, decode_meta_properties, encode_meta_properties};
pub(crate) use partition_metadata::{decode_partition_metadata, encode_partition_metadata};
pub(crate) use topic_file::{TopicFile, decode_topic_file, encode_topic_file};
pub(crate) use topic_id::TopicId;

/// A file of a version that is not known yet.
pub(crate) const NEWER_VERSION: Malformed = Malformed("a newer version of this file");

/// What `.kafka_cleanshutdown` holds: no epoch of a broker. That the file is there is what counts.
pub(crate) const CLEAN_SHUTDOWN_TEXT: &str = r#"{"version":0,"brokerEpoch":-1}"#;

/// CRC-32C, as in batches, snapshots and index digests.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
