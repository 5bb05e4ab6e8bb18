//! Settings of a log and of its topics.
//!
//! [`TopicConfig`] and [`LogConfig`] are what a caller writes; `TopicSettings` and `LogSettings`
//! are what the floors above read: plain values, checked once. `keys` is the one place that ties a
//! topic's setting to its Kafka key. Nothing here is read from the environment or from a file.

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

/// What an acknowledged append survives.
///
/// Later ones include earlier ones, so `Os < Synced`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The bytes are in the operating system: a killed process loses nothing. A power cut may lose
    /// what was not flushed yet; what remains of each partition is a prefix of it.
    #[default]
    Os,
    /// The bytes are on the device: a power cut loses nothing.
    Synced,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip: understood everywhere, slow.
    Gzip,
    /// Snappy, in xerial framing: fast, saves little.
    Snappy,
    /// LZ4 frames: fast, saves more than Snappy.
    Lz4,
    /// Zstandard: saves most for its speed.
    Zstd,
}

/// What a record's timestamp means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampType {
    /// The time that the appender gave, or the time of the append if it gave none.
    #[default]
    CreateTime,
    /// The time of the append, whatever the appender gave.
    LogAppendTime,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CleanupPolicy {
    /// Whole segments go when retention says so.
    #[default]
    Delete,
    /// The latest record of each key stays, at its offset, and the earlier ones go; retention does
    /// not apply. Every record must have a key. A record without a value, a
    /// [tombstone](crate::Record::tombstone), deletes its key. See
    /// [`Partition::compact`](crate::Partition::compact) for what is compacted when.
    Compact,
    /// Both: compacted, and deleted when retention says so.
    CompactAndDelete,
}

/// How sealed segments are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// Through read-only memory maps. A device error on a mapped page ends the process with
    /// `SIGBUS`.
    #[default]
    Map,
    /// By copying: a device error is an error.
    Copy,
}

/// What to do about damage in the stored offsets of consumer groups, `__consumer_offsets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamagedOffsets {
    /// Whoever asks for a position that could be affected gets
    /// [`Error::Corrupt`](crate::Error::Corrupt): a batch that cannot be read may hold the position
    /// of any group, a record that cannot be understood only that of its own.
    #[default]
    Refuse,
    /// What cannot be read is passed over. A position that it held is as it was committed before,
    /// or is where the consumer's `auto_offset_reset` says: with `Earliest` records may be read
    /// once more, with `Latest` some are not read.
    PassOver,
}
