//! Kafka's keys of the settings of a topic: one table that ties each key to its field, its type and
//! its allowed values.
//!
//! `TopicConfig::set`, `get`, `entries`, `updated` and `over` all walk the table, so a setting that
//! has a row is complete. Values are written as Kafka writes them, and parsed as Kafka parses them:
//! white space around them is ignored.

use std::fmt;

use crate::error::{Error, Result};

use super::topic::{CompressionType, TopicConfig};
use super::{CleanupPolicy, Compression, Durability, TimestampType, TopicSettings};

/// The row of one setting.
pub(super) struct Row {
    pub(super) key: &'static str,
    allowed: Allowed,
    get: fn(&TopicConfig) -> Option<String>,
    set: fn(&mut TopicConfig, &str) -> Option<()>,
    update: fn(&mut TopicConfig, &TopicConfig),
    apply: fn(&TopicConfig, &mut TopicSettings),
}

/// Creates the row of a setting that has a field. The last argument stores the value in the
/// settings, if it does not belong in the field of the same name.
macro_rules! row {
    ($key:literal, $field:ident, $allowed:expr) => {
        row!($key, $field, $allowed, |value, settings| settings.$field =
            value)
    };
    ($key:literal, $field:ident, $allowed:expr, |$value:ident, $settings:ident| $apply:expr) => {
        Row {
            key: $key,
            allowed: $allowed,
            get: |config| config.$field.map(Value::text),
            set: |config, text| {
                config.$field = Some(Value::parse(text)?);
                Some(())
            },
            update: |config, changes| config.$field = changes.$field.or(config.$field),
            apply: |config, $settings| {
                if let Some($value) = config.$field {
                    $apply;
                }
            },
        }
    };
}

/// Creates the row of a setting that has no effect in annals. Its text is kept, so that a cluster
/// that takes over the topic finds it.
macro_rules! kept {
    ($key:literal, $allowed:expr) => {
        Row {
            key: $key,
            allowed: $allowed,
            get: |config| config.kept.get($key).cloned(),
            set: |config, text| {
                config.kept.insert($key, text.to_owned());
                Some(())
            },
            update: |config, changes| {
                if let Some(text) = changes.kept.get($key) {
                    config.kept.insert($key, text.clone());
                }
            },
            apply: |_, _| {},
        }
    };
}

const I32_MAX: i64 = i32::MAX as i64;

/// Every key, in the order of the subjects in Kafka's documentation.
pub(super) const TABLE: &[Row] = &[
    row!("cleanup.policy", cleanup_policy, Allowed::Policies),
    row!(
        "retention.ms",
        retention_ms,
        Allowed::whole("milliseconds", -1, i64::MAX).or("-1 means for ever")
    ),
    row!(
        "retention.bytes",
        retention_bytes,
        Allowed::whole("bytes", i64::MIN, i64::MAX).or("-1 means no limit")
    ),
    row!("delete.retention.ms", delete_retention_ms, Allowed::MILLIS),
    row!(
        "min.compaction.lag.ms",
        min_compaction_lag_ms,
        Allowed::MILLIS
    ),
    row!(
        "max.compaction.lag.ms",
        max_compaction_lag_ms,
        Allowed::whole("milliseconds", 1, i64::MAX)
    ),
    row!(
        "min.cleanable.dirty.ratio",
        min_cleanable_dirty_ratio,
        Allowed::Ratio
    ),
    row!(
        "file.delete.delay.ms",
        file_delete_delay_ms,
        Allowed::MILLIS
    ),
    row!(
        "segment.bytes",
        segment_bytes,
        Allowed::whole("bytes", 14, I32_MAX)
    ),
    row!(
        "segment.ms",
        segment_ms,
        Allowed::whole("milliseconds", 1, i64::MAX)
    ),
    row!("segment.jitter.ms", segment_jitter_ms, Allowed::MILLIS),
    row!(
        "segment.index.bytes",
        segment_index_bytes,
        Allowed::whole("bytes", 4, I32_MAX)
    ),
    row!(
        "index.interval.bytes",
        index_interval_bytes,
        Allowed::whole("bytes", 0, I32_MAX)
    ),
    row!("preallocate", preallocate, Allowed::Flag),
    row!(
        "flush.messages",
        flush_messages,
        Allowed::whole("records", 1, i64::MAX)
    ),
    row!("flush.ms", flush_ms, Allowed::MILLIS),
    row!(
        "annals.durability",
        durability,
        Allowed::OneOf(&["os", "synced"]),
        |value, settings| settings.durability = Some(value)
    ),
    row!(
        "max.message.bytes",
        max_message_bytes,
        Allowed::whole("bytes", 0, I32_MAX)
    ),
    row!(
        "compression.type",
        compression,
        Allowed::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
    ),
    row!(
        "compression.gzip.level",
        compression_gzip_level,
        Allowed::OneOf(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"])
    ),
    row!(
        "compression.lz4.level",
        compression_lz4_level,
        Allowed::whole("", 1, 17)
    ),
    row!(
        "compression.zstd.level",
        compression_zstd_level,
        Allowed::whole("", -131_072, 22)
    ),
    row!(
        "message.timestamp.type",
        timestamp_type,
        Allowed::OneOf(&["CreateTime", "LogAppendTime"])
    ),
    // The key of Kafka 3 for both of the settings that follow. They override it.
    row!(
        "message.timestamp.difference.max.ms",
        timestamp_difference_max_ms,
        Allowed::MILLIS,
        |value, settings| {
            settings.timestamp_before_max_ms = value;
            settings.timestamp_after_max_ms = value;
        }
    ),
    row!(
        "message.timestamp.before.max.ms",
        timestamp_before_max_ms,
        Allowed::MILLIS
    ),
    row!(
        "message.timestamp.after.max.ms",
        timestamp_after_max_ms,
        Allowed::MILLIS
    ),
    kept!("message.format.version", Allowed::Text),
    kept!("message.downconversion.enable", Allowed::Flag),
    kept!("min.insync.replicas", Allowed::whole("", 1, I32_MAX)),
    kept!("unclean.leader.election.enable", Allowed::Flag),
    kept!("leader.replication.throttled.replicas", Allowed::Text),
    kept!("follower.replication.throttled.replicas", Allowed::Text),
    kept!("remote.storage.enable", Allowed::Flag),
    kept!("remote.log.copy.disable", Allowed::Flag),
    kept!("remote.log.delete.on.disable", Allowed::Flag),
    kept!(
        "local.retention.ms",
        Allowed::whole("milliseconds", -2, i64::MAX).or("-2 means the value of `retention.ms`")
    ),
    kept!(
        "local.retention.bytes",
        Allowed::whole("bytes", -2, i64::MAX).or("-2 means the value of `retention.bytes`")
    ),
];

/// # Kafka's keys
///
/// All topic-level keys of Kafka are known, so the configuration of a topic of a cluster can be
/// used unchanged. Settings that only a cluster needs, such as `min.insync.replicas`, are kept and
/// have no effect.
impl TopicConfig {
    /// Sets the setting `key` to `value`, both in Kafka's notation.
    ///
    /// ```
    /// use annals::{CleanupPolicy, Error, TopicConfig};
    ///
    /// let config = TopicConfig::new()
    ///     .set("cleanup.policy", "compact")?
    ///     .set("min.insync.replicas", "2")?; // has no effect here, and is kept for a cluster
    /// assert_eq!(config.get("cleanup.policy").as_deref(), Some("compact"));
    ///
    /// // Some settings can also be set with the setters.
    /// let typed = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    /// assert_eq!(config, typed.set("min.insync.replicas", "2")?);
    ///
    /// let error = TopicConfig::new().set("retention.ms", "7d").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid setting `retention.ms`: \"7d\" is not allowed: \
    ///      it must be a whole number of milliseconds from -1 (-1 means for ever)"
    /// );
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if topics have no such setting or if the value is not
    /// allowed. The error describes the values that are.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        Row::of(key)?.set(&mut self, value)?;
        Ok(self)
    }

    /// Returns the value that was set for `key`, in Kafka's notation, or `None` if none was.
    pub fn get(&self, key: &str) -> Option<String> {
        Row::of(key).ok()?.get(self)
    }

    /// Returns the key and value of every setting that was set, in Kafka's notation.
    /// [`set`](Self::set) accepts them, and then results in an equal config.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        TABLE
            .iter()
            .filter_map(|row| Some((row.key, row.get(self)?)))
            .collect()
    }

    /// Returns whether no setting was set.
    pub fn is_empty(&self) -> bool {
        TABLE.iter().all(|row| row.get(self).is_none())
    }

    /// Returns this config with the settings of `changes`, which win. The other settings stay as
    /// they are.
    pub fn updated(mut self, changes: &Self) -> Self {
        for row in TABLE {
            row.update(&mut self, changes);
        }
        self
    }

    /// Returns the keys of the settings that would change if `stored`, over `base`, were updated
    /// with this config.
    pub(crate) fn changes_to(
        &self,
        stored: &Self,
        base: &TopicSettings,
    ) -> Result<Vec<&'static str>> {
        let now = stored.over(base)?;
        stored.clone().updated(self).over(base)?;
        let is_changed = |row: &&Row| -> bool {
            let mut changed = stored.clone();
            row.update(&mut changed, self);
            changed.kept != stored.kept || changed.over(base).map_or(true, |changed| changed != now)
        };
        Ok(TABLE.iter().filter(is_changed).map(|row| row.key).collect())
    }

    /// Returns the value of every setting: the value that is set here, or else that of `base`.
    pub(crate) fn over(&self, base: &TopicSettings) -> Result<TopicSettings> {
        let mut settings = base.clone();
        for row in TABLE {
            row.apply(self, &mut settings)?;
        }
        if settings.min_compaction_lag_ms > settings.max_compaction_lag_ms {
            return Err(Error::InvalidConfig {
                key: "min.compaction.lag.ms".to_owned(),
                reason: format!(
                    "{} is above {}, the `max.compaction.lag.ms`",
                    settings.min_compaction_lag_ms, settings.max_compaction_lag_ms
                ),
            });
        }
        Ok(settings)
    }
}

impl Row {
    /// Returns the setting with this key.
    pub(super) fn of(key: &str) -> Result<&'static Self> {
        TABLE
            .iter()
            .find(|row| row.key == key)
            .ok_or_else(|| Error::InvalidConfig {
                key: key.to_owned(),
                reason: unknown(key),
            })
    }

    /// Returns the value of the setting in `config`, if it is set there.
    pub(super) fn get(&self, config: &TopicConfig) -> Option<String> {
        (self.get)(config)
    }

    /// Sets the setting in `config`.
    pub(super) fn set(&self, config: &mut TopicConfig, value: &str) -> Result<()> {
        let text = value.trim();
        self.check_text(text)?;
        (self.set)(config, text).ok_or_else(|| self.refuse(text))
    }

    /// Sets the setting in `config` if it is set in `changes`.
    pub(super) fn update(&self, config: &mut TopicConfig, changes: &TopicConfig) {
        (self.update)(config, changes);
    }

    /// Sets the setting in `settings` if it is set in `config`. Checks the value, since a typed
    /// setter accepts more than Kafka does.
    pub(super) fn apply(&self, config: &TopicConfig, settings: &mut TopicSettings) -> Result<()> {
        if let Some(text) = self.get(config) {
            self.check_text(&text)?;
        }
        (self.apply)(config, settings);
        Ok(())
    }

    fn check_text(&self, text: &str) -> Result<()> {
        if self.allowed.admits(text) {
            Ok(())
        } else {
            Err(self.refuse(text))
        }
    }

    fn refuse(&self, text: &str) -> Error {
        Error::InvalidConfig {
            key: self.key.to_owned(),
            reason: format!("{text:?} is not allowed: it must be {}", self.allowed),
        }
    }
}

/// Returns why `key` is refused, with the key that was probably meant if that is easy to see.
fn unknown(key: &str) -> String {
    let spelled = key.trim().to_ascii_lowercase().replace(['_', '-'], ".");
    let spelled = spelled.strip_prefix("log.").unwrap_or(&spelled);
    match TABLE.iter().find(|row| row.key == spelled) {
        Some(row) => format!("there is no such topic setting; use `{}`", row.key),
        None => "there is no such topic setting; the keys are Kafka's topic-level keys, such as \
                 `retention.ms`"
            .to_owned(),
    }
}

/// The values that a setting may have.
enum Allowed {
    Whole {
        unit: &'static str,
        from: i64,
        to: i64,
        or: &'static str,
    },
    Ratio,
    Flag,
    OneOf(&'static [&'static str]),
    Policies,
    Text,
}

impl Allowed {
    const MILLIS: Self = Self::whole("milliseconds", 0, i64::MAX);

    const fn whole(unit: &'static str, from: i64, to: i64) -> Self {
        Self::Whole {
            unit,
            from,
            to,
            or: "",
        }
    }

    /// Describes a value of the range that has a special meaning.
    const fn or(self, special: &'static str) -> Self {
        match self {
            Self::Whole { unit, from, to, .. } => Self::Whole {
                unit,
                from,
                to,
                or: special,
            },
            other => other,
        }
    }

    fn admits(&self, text: &str) -> bool {
        match self {
            Self::Whole { from, to, .. } => text
                .parse()
                .is_ok_and(|number| (*from..=*to).contains(&number)),
            Self::Ratio => text
                .parse()
                .is_ok_and(|number| (0.0..=1.0).contains(&number)),
            Self::Flag => bool::parse(text).is_some(),
            Self::OneOf(texts) => texts.contains(&text),
            Self::Policies => CleanupPolicy::parse(text).is_some(),
            Self::Text => true,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole { unit, from, to, or } => {
                f.write_str("a whole number")?;
                if !unit.is_empty() {
                    write!(f, " of {unit}")?;
                }
                match (from, to) {
                    (i64::MIN, _) => {}
                    (_, i64::MAX) => write!(f, " from {from}")?,
                    _ => write!(f, " from {from} to {to}")?,
                }
                if or.is_empty() {
                    Ok(())
                } else {
                    write!(f, " ({or})")
                }
            }
            Self::Ratio => f.write_str("a number from 0 to 1"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::OneOf(texts) => {
                f.write_str("one of ")?;
                texts.iter().enumerate().try_for_each(|(number, text)| {
                    let comma = if number == 0 { "" } else { ", " };
                    write!(f, "{comma}`{text}`")
                })
            }
            Self::Policies => f.write_str("`delete`, `compact`, or both with a comma between"),
            Self::Text => f.write_str("text"),
        }
    }
}

/// A value in Kafka's notation.
trait Value: Copy {
    fn parse(text: &str) -> Option<Self>;
    fn text(self) -> String;
}

macro_rules! number {
    ($($number:ty),*) => {
        $(impl Value for $number {
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn text(self) -> String {
                format!("{self:?}")
            }
        })*
    };
}

number!(u32, i32, i64, f64);

/// Implements [`Value`] for an enum whose variants have fixed texts.
macro_rules! named {
    ($type:ty, $($variant:path = $text:literal),*) => {
        impl Value for $type {
            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some($variant),)*
                    _ => None,
                }
            }
            fn text(self) -> String {
                let text = match self {
                    $($variant => $text,)*
                };
                text.to_owned()
            }
        }
    };
}

named!(
    TimestampType,
    TimestampType::CreateTime = "CreateTime",
    TimestampType::LogAppendTime = "LogAppendTime"
);
named!(
    Durability,
    Durability::Os = "os",
    Durability::Synced = "synced"
);
named!(
    Compression,
    Compression::None = "uncompressed",
    Compression::Gzip = "gzip",
    Compression::Snappy = "snappy",
    Compression::Lz4 = "lz4",
    Compression::Zstd = "zstd"
);

impl Value for CompressionType {
    fn parse(text: &str) -> Option<Self> {
        if text == "producer" {
            Some(Self::Producer)
        } else {
            Compression::parse(text).map(Self::Codec)
        }
    }
    fn text(self) -> String {
        match self {
            Self::Producer => "producer".to_owned(),
            Self::Codec(codec) => codec.text(),
        }
    }
}

impl Value for bool {
    fn parse(text: &str) -> Option<Self> {
        let is_true = text.eq_ignore_ascii_case("true");
        (is_true || text.eq_ignore_ascii_case("false")).then_some(is_true)
    }
    fn text(self) -> String {
        self.to_string()
    }
}

impl Value for CleanupPolicy {
    fn parse(text: &str) -> Option<Self> {
        let (mut delete, mut compact) = (false, false);
        for policy in text.split(',') {
            match policy.trim() {
                "delete" => delete = true,
                "compact" => compact = true,
                _ => return None,
            }
        }
        Some(match (compact, delete) {
            (true, true) => Self::CompactAndDelete,
            (true, false) => Self::Compact,
            (false, _) => Self::Delete,
        })
    }
    fn text(self) -> String {
        let text = match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
        };
        text.to_owned()
    }
}
