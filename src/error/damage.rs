//! The places of damaged and oversized batches.

use std::ops::Range;
use std::path::PathBuf;

use crate::topic_partition::TopicPartition;

/// A place where stored bytes are damaged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Corruption {
    /// The partition.
    pub partition: TopicPartition,
    /// The file.
    pub path: PathBuf,
    /// The byte position in the file where the damage starts.
    pub position: u32,
    /// The offsets that cannot be read. Reading can resume at the end of the range.
    pub offsets: Range<u64>,
    /// The kind of damage.
    pub reason: String,
}

/// A batch that decompresses to more bytes than the log was opened to read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OversizedBatch {
    /// The partition.
    pub partition: TopicPartition,
    /// The file.
    pub path: PathBuf,
    /// The byte position in the file where the batch starts.
    pub position: u32,
    /// The offsets of the batch. Reading can resume at the end of the range.
    pub offsets: Range<u64>,
    /// The largest number of bytes to which this log decompresses a batch.
    pub limit: u64,
}
