//! Small text files: three of Kafka and three of annals.
//!
//! | file | owner | content | code |
//! | --- | --- | --- | --- |
//! | `partition.metadata` | Kafka | the topic id of a partition | `partition_metadata.rs` |
//! | `meta.properties` | Kafka | the ids of cluster, node and directory | `meta_properties.rs` |
//! | `.kafka_cleanshutdown` | Kafka | a marker that exists only while the directory is closed | this file |
//! | `<topic>.topic` | annals | facts about a topic that Kafka does not store in a data directory | `topic_file.rs` |
//! | `index-digests` | annals | checksums of sealed indexes | `index_digests.rs` |
//! | `lone-partition` | annals | facts about a partition that has no topic file | `lone_file.rs` |
//!
//! Kafka's files have no checksum. Those of annals end with one (`checked_text.rs`), so that a
//! reader detects damage.

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

/// The error for a file whose version is newer than this code.
pub(crate) const NEWER_VERSION: Malformed = Malformed("a newer version of this file");

/// The content of `.kafka_cleanshutdown`, without the epoch of a broker. Readers check only that
/// the file exists.
pub(crate) const CLEAN_SHUTDOWN_TEXT: &str = r#"{"version":0,"brokerEpoch":-1}"#;
