//! All settings of a topic as plain values, as the layers above read them.

use super::topic::MAX_MESSAGE_BYTES;
use super::{CleanupPolicy, CompressionType, Durability, TimestampType};

/// The value of every setting of a topic: a [`TopicConfig`](super::TopicConfig) applied to a base.
/// Names and units are Kafka's. The values are checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicSettings {
    pub(crate) cleanup_policy: CleanupPolicy,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: i64,
    pub(crate) segment_jitter_ms: i64,
    pub(crate) segment_index_bytes: u32,
    pub(crate) index_interval_bytes: u32,
    /// `i64::MAX` for never by count.
    pub(crate) flush_messages: i64,
    /// `i64::MAX` for never by time.
    pub(crate) flush_ms: i64,
    /// Negative for no limit.
    pub(crate) retention_bytes: i64,
    /// Negative for ever.
    pub(crate) retention_ms: i64,
    pub(crate) max_message_bytes: u32,
    pub(crate) file_delete_delay_ms: i64,
    pub(crate) delete_retention_ms: i64,
    /// At most `max_compaction_lag_ms`.
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    /// From 0 to 1.
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) compression: CompressionType,
    pub(crate) compression_gzip_level: i32,
    pub(crate) compression_lz4_level: i32,
    pub(crate) compression_zstd_level: i32,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    /// Whether zeros are written ahead of the end of a synced topic.
    pub(crate) preallocate: bool,
    /// `None` for the durability of the log.
    pub(crate) durability: Option<Durability>,
}

impl Default for TopicSettings {
    /// Returns the defaults of Kafka 4, except for `file.delete.delay.ms` and `preallocate`, which
    /// have a different meaning in annals.
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy::Delete,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10_485_760,
            index_interval_bytes: 4096,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            max_message_bytes: MAX_MESSAGE_BYTES,
            file_delete_delay_ms: 0,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            compression: CompressionType::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            preallocate: true,
            durability: None,
        }
    }
}

impl TopicSettings {
    /// Returns the settings of a topic that a broker wrote and that has no configuration here.
    ///
    /// A data directory does not contain the configuration of its topics. Therefore no record is
    /// deleted or compacted, and no timestamp is refused.
    pub(crate) fn unconfigured() -> Self {
        Self {
            cleanup_policy: CleanupPolicy::Delete,
            retention_bytes: -1,
            retention_ms: -1,
            timestamp_after_max_ms: i64::MAX,
            ..Self::default()
        }
    }
}
