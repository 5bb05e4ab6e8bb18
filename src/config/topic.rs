//! What a caller sets for a topic.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{CleanupPolicy, Compression, Durability, TimestampType};

/// Settings of a topic.
///
/// Records what was set, nothing else: what was not set is the default that stands at each setter,
/// which is Kafka 4's unless it says otherwise. All of it is checked when the config is used,
/// before anything is written.
///
/// The setters take Rust's units. Every setting has its Kafka key too, for configurations that are
/// text: see [`set`](Self::set).
///
/// ```
/// use std::time::Duration;
/// use annals::{Compression, TopicConfig};
///
/// let config = TopicConfig::new().retention(Duration::from_secs(3600)).compression(Compression::Lz4);
/// assert_eq!(config, TopicConfig::new().set("retention.ms", "3600000")?.set("compression.type", "lz4")?);
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
    /// By key, what only a cluster needs.
    pub(super) kept: BTreeMap<&'static str, String>,
}

/// `compression.type`: a codec, or Kafka's `producer`, which leaves the choice to whoever appends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CompressionType {
    Producer,
    Codec(Compression),
}

impl CompressionType {
    /// What is written with, of somebody who chose `chosen`: the topic has the last word, if it
    /// says one.
    pub(crate) fn codec(self, chosen: Compression) -> Compression {
        match self {
            Self::Producer => chosen,
            Self::Codec(codec) => codec,
        }
    }
}

/// # What is kept, and for how long
impl TopicConfig {
    /// A config that sets nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What happens to old records: they are deleted by age and size, or compacted so that the
    /// latest of each key stays, or both.
    ///
    /// Default: [`CleanupPolicy::Delete`]. Kafka key: `cleanup.policy`.
    pub fn cleanup_policy(mut self, policy: CleanupPolicy) -> Self {
        self.cleanup_policy = Some(policy);
        self
    }

    /// How long records are kept; `None` is for ever.
    ///
    /// Counted from the greatest timestamp of a segment. Whole segments go, so a record can stay
    /// longer by up to [`segment_age`](Self::segment_age). Default: 7 days. Kafka key:
    /// `retention.ms`.
    pub fn retention(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.retention_ms = Some(time.into().map_or(-1, millis));
        self
    }

    /// How many bytes of records each partition keeps; `None` is no limit.
    ///
    /// The oldest segments go while what is left still has that many, so a partition can hold up to
    /// one segment more. To bound a whole log, see
    /// [`LogConfig::max_bytes`](super::LogConfig::max_bytes). Default: no limit. Kafka key:
    /// `retention.bytes`.
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.retention_bytes = Some(
            bytes
                .into()
                .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        );
        self
    }

    /// How long compaction keeps a tombstone, so that whoever reads from the beginning within that
    /// time learns of the deletion.
    ///
    /// Counted from the first compaction that meets it. Default: 1 day. Kafka key:
    /// `delete.retention.ms`.
    pub fn delete_retention(mut self, time: Duration) -> Self {
        self.delete_retention_ms = Some(millis(time));
        self
    }

    /// How long a record stays as it is before compaction may take it. Must not be above
    /// [`max_compaction_lag`](Self::max_compaction_lag).
    ///
    /// Default: none. Kafka key: `min.compaction.lag.ms`.
    pub fn min_compaction_lag(mut self, time: Duration) -> Self {
        self.min_compaction_lag_ms = Some(millis(time));
        self
    }

    /// After what time a record is compacted however little there is to gain; `None` is never.
    ///
    /// Set it where old values must be gone by some time. Default: never. Kafka key:
    /// `max.compaction.lag.ms`.
    pub fn max_compaction_lag(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_compaction_lag_ms = Some(or_never(time));
        self
    }

    /// What part of a partition must be new since the last compaction for the next to be worth its
    /// while, from 0 to 1.
    ///
    /// Lower keeps the log smaller and copies more. Default: 0.5. Kafka key:
    /// `min.cleanable.dirty.ratio`.
    pub fn min_cleanable_dirty_ratio(mut self, ratio: f64) -> Self {
        self.min_cleanable_dirty_ratio = Some(ratio);
        self
    }

    /// How long the files of a deleted segment stay, renamed to `.deleted`.
    ///
    /// Leave it alone: readers keep what they need, and room comes back at once. Default: none
    /// (Kafka: 1 minute). Kafka key: `file.delete.delay.ms`.
    pub fn file_delete_delay(mut self, time: Duration) -> Self {
        self.file_delete_delay_ms = Some(millis(time));
        self
    }
}

/// # What an append means
impl TopicConfig {
    /// What an acknowledged append survives.
    ///
    /// Default: that of the log, see [`LogConfig::durability`](super::LogConfig::durability). Key,
    /// one of annals' own: `annals.durability`, `os` or `synced`.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How many bytes a batch may have as it is stored, compressed and with its header.
    ///
    /// Default: 1 MiB and 12 bytes. Kafka key: `max.message.bytes`.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// What batches are compressed with.
    ///
    /// Batches of many records gain most. A codec that is set, [`Compression::None`] too, is what
    /// is written, whatever a [`Producer`](crate::Producer) chose. Default: Kafka's `producer`,
    /// which is the producer's choice, and none where there is no producer. Kafka key:
    /// `compression.type`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(CompressionType::Codec(compression));
        self
    }

    /// How hard gzip tries, from 1 to 9, or -1 for its own choice.
    ///
    /// Default: -1. Kafka key: `compression.gzip.level`.
    pub fn gzip_level(mut self, level: i32) -> Self {
        self.compression_gzip_level = Some(level);
        self
    }

    /// How hard LZ4 tries, from 1 to 17. The encoder in use has one level, so this only matters to
    /// a cluster.
    ///
    /// Default: 9. Kafka key: `compression.lz4.level`.
    pub fn lz4_level(mut self, level: i32) -> Self {
        self.compression_lz4_level = Some(level);
        self
    }

    /// How hard Zstandard tries, from -131072 to 22.
    ///
    /// Default: 3. Kafka key: `compression.zstd.level`.
    pub fn zstd_level(mut self, level: i32) -> Self {
        self.compression_zstd_level = Some(level);
        self
    }

    /// Whether a record has the time that the appender gave, or that of the append.
    ///
    /// Default: [`TimestampType::CreateTime`]. Kafka key: `message.timestamp.type`.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = Some(timestamp_type);
        self
    }

    /// How far before now a record's time may lie; `None` is any time. Beyond it the whole batch is
    /// refused.
    ///
    /// Default: any time. Kafka key: `message.timestamp.before.max.ms`.
    pub fn timestamp_before_max(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.timestamp_before_max_ms = Some(or_never(time));
        self
    }

    /// Sets how far after now the timestamp of a record may be; `None` is any time. A batch with a
    /// later one is refused.
    ///
    /// Retention does not believe a timestamp that is later than now: such a segment is as old as
    /// its file, so one record from the future keeps no segment for ever. Look-ups by time do
    /// return such records. Default: 1 hour. Kafka key: `message.timestamp.after.max.ms`.
    pub fn timestamp_after_max(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.timestamp_after_max_ms = Some(or_never(time));
        self
    }
}

/// # How files are laid out
///
/// The defaults are good: smaller segments let retention and compaction work in smaller steps, and
/// cost more files.
impl TopicConfig {
    /// How many bytes a segment may have, from 14 to 2 GiB less one, before the next is rolled. A
    /// larger batch is refused.
    ///
    /// Default: 1 GiB. Kafka key: `segment.bytes`, at least 1 MiB since Kafka 4.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// After what time a segment is rolled though it is not full, counted from its first record. At
    /// least a millisecond.
    ///
    /// Set it below [`retention`](Self::retention): only whole segments go. Default: 7 days. Kafka
    /// key: `segment.ms`.
    pub fn segment_age(mut self, time: Duration) -> Self {
        self.segment_ms = Some(millis(time));
        self
    }

    /// By how much, drawn anew each time, a segment is rolled earlier than its age says, so that
    /// many partitions do not roll at once.
    ///
    /// Default: none. Kafka key: `segment.jitter.ms`.
    pub fn segment_jitter(mut self, time: Duration) -> Self {
        self.segment_jitter_ms = Some(millis(time));
        self
    }

    /// How many bytes each index of a segment may have, at least 4, before the next segment is
    /// rolled.
    ///
    /// Leave it alone. Default: 10 MiB. Kafka key: `segment.index.bytes`.
    pub fn segment_index_bytes(mut self, bytes: u32) -> Self {
        self.segment_index_bytes = Some(bytes);
        self
    }

    /// How many bytes of records lie between two entries of an index.
    ///
    /// Lower makes a seek read less and the indexes larger. Default: 4096. Kafka key:
    /// `index.interval.bytes`.
    pub fn index_interval_bytes(mut self, bytes: u32) -> Self {
        self.index_interval_bytes = Some(bytes);
        self
    }

    /// Whether a topic of [`Durability::Synced`] has zeros written ahead of its end: a sync of a
    /// file that does not grow is cheaper. Other topics do not care.
    ///
    /// Default: yes (Kafka, where it means a whole segment ahead: no). Kafka key: `preallocate`.
    pub fn preallocate(mut self, ahead: bool) -> Self {
        self.preallocate = Some(ahead);
        self
    }

    /// After how many records a topic of [`Durability::Os`] is flushed to the device; `None` is
    /// never by count.
    ///
    /// Leave it alone: [`durability`](Self::durability) says what an append survives, and a log
    /// flushes by time as it is. Default: never. Kafka key: `flush.messages`.
    pub fn flush_messages(mut self, records: impl Into<Option<u64>>) -> Self {
        self.flush_messages = Some(records.into().map_or(i64::MAX, |records| {
            i64::try_from(records).unwrap_or(i64::MAX)
        }));
        self
    }

    /// After what time at the latest a record of a topic of [`Durability::Os`] is flushed to the
    /// device; `None` is when the log does.
    ///
    /// Leave it alone: see [`LogConfig::flush_interval`](super::LogConfig::flush_interval).
    /// Default: when the log does. Kafka key: `flush.ms`.
    pub fn flush_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.flush_ms = Some(or_never(time));
        self
    }
}

impl fmt::Display for TopicConfig {
    /// `retention.ms=60000, cleanup.policy=compact`.
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
    /// Only what was set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopicConfig ")?;
        f.debug_map().entries(self.entries()).finish()
    }
}

/// Kafka's unit. What is left over makes one more: no time, however short, becomes none.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Kafka has the greatest number for "never".
fn or_never(time: impl Into<Option<Duration>>) -> i64 {
    time.into().map_or(i64::MAX, millis)
}
