//! Settings of a whole log.

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

use super::{DamagedOffsets, Durability, ReadMode, TopicConfig, TopicSettings};

/// Settings of a whole log.
///
/// They apply while the log is open and, unlike those of a topic, are not stored. They are checked
/// when the log is opened.
///
/// ```
/// use std::time::Duration;
///
/// use annals::{Durability, Log, LogConfig, MemoryDisk, TopicConfig};
///
/// let week = Duration::from_secs(7 * 24 * 60 * 60);
/// let config = LogConfig::new()
///     .durability(Durability::Synced)
///     .max_bytes(10 << 30)
///     .topic_defaults(TopicConfig::new().retention(week));
///
/// let log = Log::builder("data").storage(MemoryDisk::new()).config(config).open()?;
/// # log.close()?;
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a setter returns the config with the setting"]
pub struct LogConfig {
    durability: Durability,
    flush_interval: Duration,
    maintenance_interval: Option<Duration>,
    max_bytes: Option<u64>,
    topic_defaults: TopicConfig,
    internal_partitions: u32,
    group_max_size: Option<u32>,
    offsets_retention: Option<Duration>,
    damaged_offsets: DamagedOffsets,
    read_mode: ReadMode,
    max_open_files: Option<usize>,
    max_decompressed_bytes: usize,
    cleaner_dedupe_buffer_bytes: usize,
    recovery_threads: Option<usize>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Os,
            flush_interval: Duration::from_secs(1),
            maintenance_interval: Some(Duration::from_secs(5 * 60)),
            max_bytes: None,
            topic_defaults: TopicConfig::new(),
            internal_partitions: 1,
            group_max_size: None,
            offsets_retention: None,
            damaged_offsets: DamagedOffsets::Refuse,
            read_mode: ReadMode::Map,
            max_open_files: None,
            max_decompressed_bytes: 64 << 20,
            cleaner_dedupe_buffer_bytes: 128 << 20,
            recovery_threads: None,
        }
    }
}

/// # Behavior
impl LogConfig {
    /// Creates a config that leaves every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what an acknowledged append survives, in topics that do not set it themselves.
    ///
    /// Default: [`Durability::Os`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how often appends with [`Durability::Os`] are flushed to the device. A power cut loses
    /// records of about this age and younger. Longer than zero.
    ///
    /// Default: 1 second.
    pub fn flush_interval(mut self, time: Duration) -> Self {
        self.flush_interval = time;
        self
    }

    /// Sets how often a background thread of the log runs retention and compaction; `None` starts
    /// no such thread.
    ///
    /// Without the thread, everything waits for [`Log::maintain`](crate::Log::maintain), flushes
    /// included. [`Log::open`](crate::Log::open) describes what happens if the system refuses the
    /// thread.
    ///
    /// Default: 5 minutes. Kafka: `log.retention.check.interval.ms`.
    pub fn maintenance_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.maintenance_interval = time.into();
        self
    }

    /// Sets how many bytes the `.log` files of all topics together may have; `None` sets no limit.
    ///
    /// An append that would make the log larger first deletes the oldest segments of topics whose
    /// cleanup policy deletes, until an eighth of the limit is free. `maintain` and the background
    /// thread do the same. To make this possible, active segments are rolled when they reach an
    /// eighth of the limit. If the sealed segments are not enough, active ones are deleted as well.
    /// Topics that are only compacted count towards the limit, but none of their segments are
    /// deleted for it.
    ///
    /// The limit must be at least the [`max_message_bytes`](TopicConfig::max_message_bytes) of the
    /// topic defaults, since one batch may be that large.
    ///
    /// Default: no limit.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// Sets the defaults of topics, in place of Kafka's. A setting of the topic itself wins. Topics
    /// that a broker wrote and that have no configuration here are not affected.
    ///
    /// Default: an empty config. Kafka: the broker's `log.*` keys.
    pub fn topic_defaults(mut self, config: TopicConfig) -> Self {
        self.topic_defaults = config;
        self
    }

    /// Sets how many partitions `__consumer_offsets` and `__transaction_state` get when they are
    /// created. At least 1. One is enough for any number of groups.
    ///
    /// Default: 1, where Kafka has 50. Kafka: `offsets.topic.num.partitions`,
    /// `transaction.state.log.num.partitions`.
    pub fn internal_partitions(mut self, partitions: u32) -> Self {
        self.internal_partitions = partitions;
        self
    }

    /// Sets how many members a consumer group may have; `None` sets no limit. The next member to
    /// join is refused with [`Error::GroupFull`].
    ///
    /// Default: no limit. Kafka: `group.max.size`.
    pub fn group_max_size(mut self, members: impl Into<Option<u32>>) -> Self {
        self.group_max_size = members.into();
        self
    }

    /// Sets how long committed offsets are kept for topics that no member of their group reads;
    /// `None` is for ever. `maintain` and the background thread delete them.
    ///
    /// Default: for ever, where Kafka has 7 days, since a program may be started again after weeks.
    /// Kafka: `offsets.retention.minutes`.
    pub fn offsets_retention(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.offsets_retention = time.into();
        self
    }

    /// Sets what happens if stored offsets of consumer groups are damaged.
    ///
    /// Default: [`DamagedOffsets::Refuse`].
    pub fn damaged_offsets(mut self, policy: DamagedOffsets) -> Self {
        self.damaged_offsets = policy;
        self
    }
}

/// # Resources
impl LogConfig {
    /// Sets how segments are read.
    ///
    /// [`ReadMode::Copy`] is slower. Use it if a failing device must cause an error instead of the
    /// end of the process.
    ///
    /// Default: [`ReadMode::Map`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets how many files may be open for writing at once, one for each partition that is written
    /// or read. At least 1.
    ///
    /// If more partitions are in use than that, an append may have to close the file of another
    /// partition and to open its own, which takes several times as long as the write. On macOS it
    /// also syncs the file that it closes. To avoid that, raise the limit of the process
    /// (`ulimit -n`) above twice the number of partitions that are in use all the time.
    ///
    /// Default: half of the descriptors that the process may have when the log is opened
    /// (`RLIMIT_NOFILE`), which is 512 with the usual limit of 1,024.
    pub fn max_open_files(mut self, files: usize) -> Self {
        self.max_open_files = Some(files);
        self
    }

    /// Sets how many bytes the records of a compressed batch may have when they are decompressed: a
    /// few hostile bytes can claim to contain gigabytes. At least 1.
    ///
    /// Appends to topics with a codec refuse more, with [`Error::RecordTooLarge`]. A log may still
    /// contain larger batches, from a broker or from a time when the limit was higher. Readers
    /// report each as [`Error::BatchTooLarge`], and compaction leaves it as it is. Raise the limit
    /// to read and compact them.
    ///
    /// Default: 64 MiB.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.max_decompressed_bytes = bytes;
        self
    }

    /// Sets how much memory the keys of a partition may use while it is compacted: 24 bytes for
    /// each key, plus a quarter. At least 1.
    ///
    /// A partition with more keys needs several passes, each over its whole log. One partition is
    /// compacted at a time, and uses no more memory than it needs.
    ///
    /// Default: 128 MiB, enough for 4 million keys. Kafka: `log.cleaner.dedupe.buffer.size`.
    pub fn cleaner_dedupe_buffer_bytes(mut self, bytes: usize) -> Self {
        self.cleaner_dedupe_buffer_bytes = bytes;
        self
    }

    /// Sets how many threads open partitions while a log is opened, and check them if it was not
    /// closed cleanly. At least 1. They end before the log is open.
    ///
    /// Default: one for each processor, at most 4. Kafka: `num.recovery.threads.per.data.dir`.
    pub fn recovery_threads(mut self, threads: usize) -> Self {
        self.recovery_threads = Some(threads);
        self
    }

    /// Returns the value of every setting, checked.
    pub(crate) fn resolve(&self) -> Result<LogSettings> {
        let processors = || {
            thread::available_parallelism()
                .map_or(1, NonZero::get)
                .min(4)
        };
        let settings = LogSettings {
            durability: self.durability,
            flush_interval: self.flush_interval,
            maintenance_interval: self.maintenance_interval,
            max_bytes: self.max_bytes,
            topic_defaults: self.topic_defaults.over(&TopicSettings::default())?,
            internal_partitions: self.internal_partitions,
            group_max_size: self.group_max_size,
            offsets_retention: self.offsets_retention,
            damaged_offsets: self.damaged_offsets,
            read_mode: self.read_mode,
            max_open_files: self.max_open_files,
            max_decompressed_bytes: self.max_decompressed_bytes,
            cleaner_dedupe_buffer_bytes: self.cleaner_dedupe_buffer_bytes,
            recovery_threads: self.recovery_threads.unwrap_or_else(processors),
        };
        let is_zero = [
            ("flush_interval", settings.flush_interval.is_zero()),
            (
                "maintenance_interval",
                settings
                    .maintenance_interval
                    .is_some_and(|time| time.is_zero()),
            ),
            ("max_bytes", settings.max_bytes == Some(0)),
            ("internal_partitions", settings.internal_partitions == 0),
            ("group_max_size", settings.group_max_size == Some(0)),
            ("max_open_files", settings.max_open_files == Some(0)),
            (
                "max_decompressed_bytes",
                settings.max_decompressed_bytes == 0,
            ),
            (
                "cleaner_dedupe_buffer_bytes",
                settings.cleaner_dedupe_buffer_bytes == 0,
            ),
            ("recovery_threads", settings.recovery_threads == 0),
        ];
        let invalid = |key: &str, reason: String| {
            Err(Error::InvalidConfig {
                key: key.to_owned(),
                reason,
            })
        };
        if let Some((key, _)) = is_zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return invalid(key, "it must be greater than zero".to_owned());
        }
        let batch_bytes = settings.topic_defaults.max_message_bytes;
        match settings.max_bytes {
            Some(most) if most < batch_bytes.into() => invalid(
                "max_bytes",
                format!(
                    "it must be at least {batch_bytes}, the `max.message.bytes` of the topic defaults, and is {most}"
                ),
            ),
            _ => Ok(settings),
        }
    }
}

/// The value of every setting of a log, as the layers above read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogSettings {
    pub(crate) durability: Durability,
    pub(crate) flush_interval: Duration,
    /// `None` for no thread.
    pub(crate) maintenance_interval: Option<Duration>,
    /// `None` for no limit.
    pub(crate) max_bytes: Option<u64>,
    /// The settings of a topic whose config is empty.
    pub(crate) topic_defaults: TopicSettings,
    pub(crate) internal_partitions: u32,
    /// `None` for no limit.
    pub(crate) group_max_size: Option<u32>,
    /// `None` for ever.
    pub(crate) offsets_retention: Option<Duration>,
    pub(crate) damaged_offsets: DamagedOffsets,
    pub(crate) read_mode: ReadMode,
    /// `None` for half of the descriptors that the process may have.
    pub(crate) max_open_files: Option<usize>,
    pub(crate) max_decompressed_bytes: usize,
    pub(crate) cleaner_dedupe_buffer_bytes: usize,
    pub(crate) recovery_threads: usize,
}
