//! Settings of a topic.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{CleanupPolicy, Compression, Durability, TimestampType};

/// The default of `max.message.bytes`.
pub(super) const MAX_MESSAGE_BYTES: u32 = 1_048_588;

/// Settings of a topic.
///
/// A config contains only the settings that were set. The others have the default that is named at
/// each setter: the default of Kafka 4, unless the setter names Kafka's as well. The config is
/// checked when it is used, before anything is written.
///
/// The setters take Rust types. [`set`](Self::set) sets the same settings by Kafka's key and in
/// Kafka's notation.
///
/// ```
/// use std::time::Duration;
///
/// use annals::{Compression, TopicConfig};
///
/// let config = TopicConfig::new()
///     .retention(Duration::from_secs(60 * 60))
///     .compression(Compression::Lz4);
/// let same = TopicConfig::new()
///     .set("retention.ms", "3600000")?
///     .set("compression.type", "lz4")?;
/// assert_eq!(config, same);
/// assert_eq!(config.to_string(), "retention.ms=3600000, compression.type=lz4");
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
#[must_use = "a setter returns the config with the setting"]
pub struct TopicConfig {
    pub(super) cleanup_policy: Option<CleanupPolicy>,
    pub(super) retention_ms: Option<i64>,
    pub(super) retention_bytes: Option<i64>,
    pub(super) delete_retention_ms: Option<i64>,
    pub(super) min_compaction_lag_ms: Option<i64>,
    pub(super) max_compaction_lag_ms: Option<i64>,
    pub(super) min_cleanable_dirty_ratio: Option<f64>,
    pub(super) file_delete_delay_ms: Option<i64>,
    pub(super) segment_bytes: Option<u32>,
    pub(super) segment_ms: Option<i64>,
    pub(super) segment_jitter_ms: Option<i64>,
    pub(super) segment_index_bytes: Option<u32>,
    pub(super) index_interval_bytes: Option<u32>,
    pub(super) preallocate: Option<bool>,
    pub(super) flush_messages: Option<i64>,
    pub(super) flush_ms: Option<i64>,
    pub(super) durability: Option<Durability>,
    pub(super) max_message_bytes: Option<u32>,
    pub(super) compression: Option<CompressionType>,
    pub(super) compression_gzip_level: Option<i32>,
    pub(super) compression_lz4_level: Option<i32>,
    pub(super) compression_zstd_level: Option<i32>,
    pub(super) timestamp_type: Option<TimestampType>,
    pub(super) timestamp_difference_max_ms: Option<i64>,
    pub(super) timestamp_before_max_ms: Option<i64>,
    pub(super) timestamp_after_max_ms: Option<i64>,
    /// Settings that only a cluster needs, by key.
    pub(super) kept: BTreeMap<&'static str, String>,
}

/// A value of `compression.type`: a codec, or Kafka's `producer`, which leaves the choice to the
/// producer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CompressionType {
    Producer,
    Codec(Compression),
}

impl CompressionType {
    /// Returns the codec to write with when the producer chose `chosen`. A codec set on the topic
    /// wins.
    pub(crate) fn codec(self, chosen: Compression) -> Compression {
        match self {
            Self::Producer => chosen,
            Self::Codec(codec) => codec,
        }
    }
}

/// # Retention and compaction
impl TopicConfig {
    /// Creates a config that sets no setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the settings of Kafka's internal topics. The defaults of the log are for the topics
    /// of the program, so they do not apply to the size of a record here.
    pub(crate) fn internal() -> Self {
        Self::new()
            .cleanup_policy(CleanupPolicy::Compact)
            .segment_bytes(100 << 20)
            .max_message_bytes(MAX_MESSAGE_BYTES)
    }

    /// Sets what happens to old records: deletion by age and size, compaction to the latest record
    /// of each key, or both.
    ///
    /// Default: [`CleanupPolicy::Delete`]. Kafka: `cleanup.policy`.
    pub fn cleanup_policy(mut self, policy: CleanupPolicy) -> Self {
        self.cleanup_policy = Some(policy);
        self
    }

    /// Sets how long records are kept; `None` is for ever.
    ///
    /// The age of a segment counts from its greatest timestamp. Only whole segments are deleted, so
    /// a record can stay longer by up to [`segment_age`](Self::segment_age).
    ///
    /// Default: 7 days. Kafka: `retention.ms`.
    pub fn retention(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.retention_ms = Some(time.into().map_or(-1, millis));
        self
    }

    /// Sets how many bytes of records each partition keeps; `None` sets no limit.
    ///
    /// The oldest segment is deleted if the rest still has that many bytes, so a partition can be
    /// larger by up to one segment. To limit a whole log, see
    /// [`LogConfig::max_bytes`](super::LogConfig::max_bytes).
    ///
    /// Default: no limit. Kafka: `retention.bytes`.
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.retention_bytes = Some(
            bytes
                .into()
                .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        );
        self
    }

    /// Sets how long compaction keeps a tombstone. A reader that reads from the beginning within
    /// that time learns of the deletion.
    ///
    /// The time counts from the first compaction that meets the tombstone.
    ///
    /// Default: 1 day. Kafka: `delete.retention.ms`.
    pub fn delete_retention(mut self, time: Duration) -> Self {
        self.delete_retention_ms = Some(millis(time));
        self
    }

    /// Sets how long compaction leaves a record as it is. At most
    /// [`max_compaction_lag`](Self::max_compaction_lag).
    ///
    /// Default: none. Kafka: `min.compaction.lag.ms`.
    pub fn min_compaction_lag(mut self, time: Duration) -> Self {
        self.min_compaction_lag_ms = Some(millis(time));
        self
    }

    /// Sets the age at which a record is compacted even if that frees little space; `None` is
    /// never.
    ///
    /// Set it if old values must be removed within a certain time.
    ///
    /// Default: never. Kafka: `max.compaction.lag.ms`.
    pub fn max_compaction_lag(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_compaction_lag_ms = Some(or_never(time));
        self
    }

    /// Sets which share of a partition, from 0 to 1, must be newer than the last compaction before
    /// the next one starts.
    ///
    /// A lower share keeps the log smaller and copies more.
    ///
    /// Default: 0.5. Kafka: `min.cleanable.dirty.ratio`.
    pub fn min_cleanable_dirty_ratio(mut self, ratio: f64) -> Self {
        self.min_cleanable_dirty_ratio = Some(ratio);
        self
    }

    /// Sets how long the files of a deleted segment are kept, renamed to `.deleted`.
    ///
    /// The default suits almost every program: readers keep the files that they need, and the space
    /// is free immediately.
    ///
    /// Default: none, where Kafka has 1 minute. Kafka: `file.delete.delay.ms`.
    pub fn file_delete_delay(mut self, time: Duration) -> Self {
        self.file_delete_delay_ms = Some(millis(time));
        self
    }
}

/// # Appends
impl TopicConfig {
    /// Sets what an acknowledged append survives.
    ///
    /// Default: [`LogConfig::durability`](super::LogConfig::durability). Key of annals, not of
    /// Kafka: `annals.durability`, with the values `os` and `synced`.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets how many bytes a batch may have as it is stored, that is compressed and with its
    /// header.
    ///
    /// Default: 1 MiB and 12 bytes. Kafka: `max.message.bytes`.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// Sets the codec of batches.
    ///
    /// Batches of many records gain most. A codec that is set here, [`Compression::None`] included,
    /// is used whatever a [`Producer`](crate::Producer) chose.
    ///
    /// Default: Kafka's `producer`: the codec that the producer chose, or no compression if there
    /// is no producer. Kafka: `compression.type`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(CompressionType::Codec(compression));
        self
    }

    /// Sets how hard gzip tries, from 1 to 9, or -1 for its own choice.
    ///
    /// Default: -1. Kafka: `compression.gzip.level`.
    pub fn gzip_level(mut self, level: i32) -> Self {
        self.compression_gzip_level = Some(level);
        self
    }

    /// Sets how hard LZ4 tries, from 1 to 17. The encoder of annals has one level, so the setting
    /// only has an effect in a cluster.
    ///
    /// Default: 9. Kafka: `compression.lz4.level`.
    pub fn lz4_level(mut self, level: i32) -> Self {
        self.compression_lz4_level = Some(level);
        self
    }

    /// Sets how hard Zstandard tries, from -131072 to 22.
    ///
    /// Default: 3. Kafka: `compression.zstd.level`.
    pub fn zstd_level(mut self, level: i32) -> Self {
        self.compression_zstd_level = Some(level);
        self
    }

    /// Sets whether a record has the timestamp of the appender or the time of the append.
    ///
    /// Default: [`TimestampType::CreateTime`]. Kafka: `message.timestamp.type`.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = Some(timestamp_type);
        self
    }

    /// Sets how far before now the timestamp of a record may be; `None` is any time. A batch with
    /// an earlier one is refused.
    ///
    /// Default: any time. Kafka: `message.timestamp.before.max.ms`.
    pub fn timestamp_before_max(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.timestamp_before_max_ms = Some(or_never(time));
        self
    }

    /// Sets how far after now the timestamp of a record may be; `None` is any time. A batch with a
    /// later one is refused.
    ///
    /// Retention does not believe a timestamp that is later than now: it uses the time of the
    /// segment's file instead, so one record from the future does not keep its segment for ever.
    /// Look-ups by time do return such records.
    ///
    /// Default: 1 hour. Kafka: `message.timestamp.after.max.ms`.
    pub fn timestamp_after_max(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.timestamp_after_max_ms = Some(or_never(time));
        self
    }
}

/// # Files
///
/// The defaults suit almost every topic. Smaller segments let retention and compaction work in
/// smaller steps, and cost more files.
impl TopicConfig {
    /// Sets how many bytes a segment may have before the next one is rolled, from 14 to 2 GiB less
    /// one. A larger batch is refused.
    ///
    /// Default: 1 GiB. Kafka: `segment.bytes`, which Kafka 4 requires to be at least 1 MiB.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Sets the age at which a segment is rolled even if it is not full, counted from its first
    /// record. At least a millisecond.
    ///
    /// It should be shorter than [`retention`](Self::retention), which only deletes whole segments.
    ///
    /// Default: 7 days. Kafka: `segment.ms`.
    pub fn segment_age(mut self, time: Duration) -> Self {
        self.segment_ms = Some(millis(time));
        self
    }

    /// Sets by how much a segment may be rolled before its [`segment_age`](Self::segment_age). The
    /// time is drawn at random for each segment, so that many partitions do not roll at once.
    ///
    /// Default: none. Kafka: `segment.jitter.ms`.
    pub fn segment_jitter(mut self, time: Duration) -> Self {
        self.segment_jitter_ms = Some(millis(time));
        self
    }

    /// Sets how many bytes each index of a segment may have before the next segment is rolled. At
    /// least 4.
    ///
    /// The default suits almost every topic.
    ///
    /// Default: 10 MiB. Kafka: `segment.index.bytes`.
    pub fn segment_index_bytes(mut self, bytes: u32) -> Self {
        self.segment_index_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes of records there are between two entries of an index.
    ///
    /// With a lower number a look-up reads less, and the indexes are larger.
    ///
    /// Default: 4096. Kafka: `index.interval.bytes`.
    pub fn index_interval_bytes(mut self, bytes: u32) -> Self {
        self.index_interval_bytes = Some(bytes);
        self
    }

    /// Sets whether zeros are written ahead of the end of a topic of [`Durability::Synced`]: a sync
    /// of a file that does not grow is cheaper. Has no effect on other topics.
    ///
    /// Default: yes. Kafka: `preallocate`, which allocates a whole segment ahead and is off by
    /// default.
    pub fn preallocate(mut self, ahead: bool) -> Self {
        self.preallocate = Some(ahead);
        self
    }

    /// Sets after how many records a topic of [`Durability::Os`] is flushed to the device; `None`
    /// is never by count.
    ///
    /// The default suits almost every topic: [`durability`](Self::durability) sets what an append
    /// survives, and the log flushes by time.
    ///
    /// Default: never. Kafka: `flush.messages`.
    pub fn flush_messages(mut self, records: impl Into<Option<u64>>) -> Self {
        self.flush_messages = Some(records.into().map_or(i64::MAX, |records| {
            i64::try_from(records).unwrap_or(i64::MAX)
        }));
        self
    }

    /// Sets how long a record of a topic of [`Durability::Os`] may wait until it is flushed to the
    /// device; `None` waits for the flush of the log.
    ///
    /// The default suits almost every topic: see
    /// [`LogConfig::flush_interval`](super::LogConfig::flush_interval).
    ///
    /// Default: `None`. Kafka: `flush.ms`.
    pub fn flush_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.flush_ms = Some(or_never(time));
        self
    }
}

impl fmt::Display for TopicConfig {
    /// Writes the settings that were set, as in `retention.ms=60000, cleanup.policy=compact`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries()
            .iter()
            .enumerate()
            .try_for_each(|(number, (key, value))| {
                let comma = if number == 0 { "" } else { ", " };
                write!(f, "{comma}{key}={value}")
            })
    }
}

impl fmt::Debug for TopicConfig {
    /// Writes only the settings that were set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopicConfig ")?;
        f.debug_map().entries(self.entries()).finish()
    }
}

/// Returns the milliseconds of `time`, rounded up, so that a time that is not zero stays so.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Returns the milliseconds of `time`, or the greatest number for `None`, as in Kafka.
fn or_never(time: impl Into<Option<Duration>>) -> i64 {
    time.into().map_or(i64::MAX, millis)
}
