//! Settings of a log and of its topics.
//!
//! A caller writes [`TopicConfig`] and [`LogConfig`]. The layers above read `TopicSettings` and
//! `LogSettings`, which are plain values that were checked once. Only `keys` knows Kafka's key of a
//! topic setting. This module reads neither the environment nor any file.

mod keys;
mod log;
mod settings;
mod topic;

#[cfg(test)]
mod tests;

pub use log::LogConfig;
pub(crate) use log::LogSettings;
pub(crate) use settings::TopicSettings;
pub(crate) use topic::CompressionType;
pub use topic::TopicConfig;

/// The failures that an acknowledged append survives.
///
/// A later variant includes the earlier ones, so `Os < Synced`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The operating system has the bytes, so they survive a killed process. A power cut may lose
    /// records that were not flushed yet. Each partition then keeps a prefix of its records.
    #[default]
    Os,
    /// The device has the bytes, so they survive a power cut as well.
    Synced,
}

/// The codec of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip: slow, and supported everywhere. Needs the feature `gzip`, which is on by default.
    Gzip,
    /// Snappy in xerial framing: fast, saves little. Needs the feature `snappy`, which is on by
    /// default.
    Snappy,
    /// LZ4 frames: fast, saves more than Snappy. Needs the feature `lz4`, which is on by default.
    Lz4,
    /// Zstandard: saves the most for its speed. Needs the feature `zstd`, which is on by default.
    Zstd,
}

/// The meaning of a record's timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampType {
    /// The timestamp that the appender set, or the time of the append if it set none.
    #[default]
    CreateTime,
    /// The time of the append, whatever the appender set.
    LogAppendTime,
}

/// The treatment of old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CleanupPolicy {
    /// Retention deletes whole segments, by age and size.
    #[default]
    Delete,
    /// Compaction keeps the latest record of each key, at its offset, and removes the earlier ones.
    /// Retention does not apply.
    ///
    /// Every record must have a key. A record without a value, a
    /// [tombstone](crate::Record::tombstone), deletes its key.
    /// [`Partition::compact`](crate::Partition::compact) describes which records are compacted, and
    /// when.
    Compact,
    /// Both: records are compacted, and retention deletes whole segments.
    CompactAndDelete,
}

/// The way in which segments are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// Through read-only memory maps: of sealed segments, and of the active one as far as whole
    /// pages of it are written. A device error on a mapped page ends the process with `SIGBUS`.
    #[default]
    Map,
    /// Into buffers. A device error is returned as an error.
    Copy,
}

/// The reaction to damage in the stored offsets of consumer groups, `__consumer_offsets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamagedOffsets {
    /// A call that needs a position that may be affected fails with
    /// [`Error::Corrupt`](crate::Error::Corrupt). A batch that cannot be read may contain the
    /// position of any group. A record that cannot be decoded affects only the position of its key.
    #[default]
    Refuse,
    /// Batches and records that cannot be read are skipped. A position that they contained falls
    /// back to the one committed before, or to the consumer's `auto_offset_reset`: with `Earliest`
    /// records may be read again, with `Latest` some are not read.
    PassOver,
}
