//! The table of keys, the setters and the defaults agree.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Result;

use super::keys::TABLE;
use super::*;

mod log;
mod values;

/// The defaults of Kafka 4 in the notation of its documentation, except for `file.delete.delay.ms`
/// (60000 in Kafka) and `preallocate` (`false` in Kafka).
const DEFAULTS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("segment.bytes", "1073741824"),
    ("segment.ms", "604800000"),
    ("segment.jitter.ms", "0"),
    ("segment.index.bytes", "10485760"),
    ("index.interval.bytes", "4096"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("max.message.bytes", "1048588"),
    ("file.delete.delay.ms", "0"),
    ("delete.retention.ms", "86400000"),
    ("min.compaction.lag.ms", "0"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("compression.type", "producer"),
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("compression.zstd.level", "3"),
    ("message.timestamp.type", "CreateTime"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.after.max.ms", "3600000"),
    ("preallocate", "true"),
];

/// Settings that only a cluster needs, and settings that Kafka 4 no longer has.
const KEPT: &[(&str, &str)] = &[
    ("message.format.version", "3.0-IV1"),
    ("message.downconversion.enable", "true"),
    ("min.insync.replicas", "2"),
    ("unclean.leader.election.enable", "FALSE"),
    ("leader.replication.throttled.replicas", "0:1,1:2"),
    ("follower.replication.throttled.replicas", ""),
    ("remote.storage.enable", "false"),
    ("remote.log.copy.disable", "false"),
    ("remote.log.delete.on.disable", "false"),
    ("local.retention.ms", "-2"),
    ("local.retention.bytes", "-2"),
];

const SECOND: Duration = Duration::from_secs(1);

/// Calls every typed setter, with a value that is not the default.
fn all_setters() -> TopicConfig {
    TopicConfig::new()
        .cleanup_policy(CleanupPolicy::CompactAndDelete)
        .retention(SECOND)
        .retention_bytes(2)
        .delete_retention(3 * SECOND)
        .min_compaction_lag(4 * SECOND)
        .max_compaction_lag(5 * SECOND)
        .min_cleanable_dirty_ratio(0.06)
        .file_delete_delay(7 * SECOND)
        .segment_bytes(80)
        .segment_age(9 * SECOND)
        .segment_jitter(10 * SECOND)
        .segment_index_bytes(11)
        .index_interval_bytes(12)
        .preallocate(false)
        .flush_messages(13)
        .flush_after(14 * SECOND)
        .durability(Durability::Synced)
        .max_message_bytes(15)
        .compression(Compression::Zstd)
        .gzip_level(1)
        .lz4_level(16)
        .zstd_level(17)
        .timestamp_type(TimestampType::LogAppendTime)
        .timestamp_before_max(18 * SECOND)
        .timestamp_after_max(19 * SECOND)
}

/// Returns the settings that [`all_setters`] results in. No field has its default, so that a setter
/// or a row that misses its field fails a test.
fn all_settings() -> TopicSettings {
    TopicSettings {
        cleanup_policy: CleanupPolicy::CompactAndDelete,
        retention_ms: 1000,
        retention_bytes: 2,
        delete_retention_ms: 3000,
        min_compaction_lag_ms: 4000,
        max_compaction_lag_ms: 5000,
        min_cleanable_dirty_ratio: 0.06,
        file_delete_delay_ms: 7000,
        segment_bytes: 80,
        segment_ms: 9000,
        segment_jitter_ms: 10_000,
        segment_index_bytes: 11,
        index_interval_bytes: 12,
        preallocate: false,
        flush_messages: 13,
        flush_ms: 14_000,
        durability: Some(Durability::Synced),
        max_message_bytes: 15,
        compression: CompressionType::Codec(Compression::Zstd),
        compression_gzip_level: 1,
        compression_lz4_level: 16,
        compression_zstd_level: 17,
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 18_000,
        timestamp_after_max_ms: 19_000,
    }
}

fn set_all<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<TopicConfig> {
    entries
        .into_iter()
        .try_fold(TopicConfig::new(), |config, (key, value)| {
            config.set(key, value)
        })
}

#[test]
fn an_empty_config_results_in_the_base() {
    assert_eq!(
        TopicConfig::new().over(&TopicSettings::default()).unwrap(),
        TopicSettings::default()
    );
    assert_eq!(
        TopicConfig::new().over(&all_settings()).unwrap(),
        all_settings()
    );
    assert!(TopicConfig::new().is_empty());
    assert_eq!(TopicConfig::new().entries(), []);
}

#[test]
fn topic_defaults_are_those_of_kafka() {
    let defaults = set_all(DEFAULTS.iter().copied()).unwrap();
    let base = TopicSettings {
        durability: None,
        ..all_settings()
    };
    assert_eq!(defaults.over(&base).unwrap(), TopicSettings::default());
}

#[test]
fn the_table_has_each_key_once() {
    let in_table: BTreeSet<_> = TABLE.iter().map(|row| row.key).collect();
    assert_eq!(in_table.len(), TABLE.len());
    let own = ["annals.durability", "message.timestamp.difference.max.ms"];
    let known: BTreeSet<_> = DEFAULTS
        .iter()
        .chain(KEPT)
        .map(|(key, _)| *key)
        .chain(own)
        .collect();
    assert_eq!(in_table, known);
}

#[test]
fn each_setter_sets_its_key() {
    let config = all_setters();
    assert_eq!(
        config.over(&TopicSettings::default()).unwrap(),
        all_settings()
    );
    let entries = config.entries();
    let set: BTreeSet<_> = entries.iter().map(|(key, _)| *key).collect();
    let typed: BTreeSet<_> = DEFAULTS
        .iter()
        .map(|(key, _)| *key)
        .chain(["annals.durability"])
        .collect();
    assert_eq!(set, typed);
    assert_eq!(
        set_all(entries.iter().map(|(key, value)| (*key, value.as_str()))).unwrap(),
        config
    );
}

#[test]
fn values_are_written_in_kafkas_notation() {
    let entries = all_setters().entries();
    let texts: Vec<_> = entries.iter().map(|(_, value)| value.as_str()).collect();
    let expected = "compact,delete 1000 2 3000 4000 5000 0.06 7000 80 9000 10000 11 12 false 13 14000 synced 15 zstd 1 16 17 \
                    LogAppendTime 18000 19000";
    assert_eq!(texts, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn no_limit_is_written_with_kafkas_numbers() {
    let config = TopicConfig::new()
        .retention(None)
        .retention_bytes(None)
        .max_compaction_lag(None)
        .timestamp_before_max(None)
        .timestamp_after_max(None)
        .flush_messages(None)
        .flush_after(None);
    let settings = config.over(&all_settings()).unwrap();
    assert_eq!((settings.retention_ms, settings.retention_bytes), (-1, -1));
    assert_eq!(settings.max_compaction_lag_ms, i64::MAX);
    assert_eq!(
        (
            settings.timestamp_before_max_ms,
            settings.timestamp_after_max_ms
        ),
        (i64::MAX, i64::MAX)
    );
    assert_eq!(
        (settings.flush_messages, settings.flush_ms),
        (i64::MAX, i64::MAX)
    );
}

#[test]
fn times_are_rounded_up_and_saturate() {
    let retention = |time: Duration| {
        TopicConfig::new()
            .retention(time)
            .get("retention.ms")
            .unwrap()
    };
    assert_eq!(retention(Duration::ZERO), "0");
    assert_eq!(retention(Duration::from_nanos(1)), "1");
    assert_eq!(retention(Duration::from_micros(1001)), "2");
    assert_eq!(retention(Duration::MAX), i64::MAX.to_string());
    assert_eq!(
        TopicConfig::new()
            .retention_bytes(u64::MAX)
            .get("retention.bytes")
            .unwrap(),
        i64::MAX.to_string()
    );
}

#[test]
fn new_timestamp_limits_override_the_old_one() {
    let old = TopicConfig::new()
        .set("message.timestamp.difference.max.ms", "5")
        .unwrap();
    let both = old.clone().timestamp_after_max(SECOND);
    let limits = |config: TopicConfig| {
        let settings = config.over(&TopicSettings::default()).unwrap();
        (
            settings.timestamp_before_max_ms,
            settings.timestamp_after_max_ms,
        )
    };
    assert_eq!(limits(old), (5, 5));
    assert_eq!(limits(both), (5, 1000));
}

#[test]
fn compaction_lags_are_compared_with_those_of_the_base() {
    let base = TopicConfig::new()
        .max_compaction_lag(SECOND)
        .over(&TopicSettings::default())
        .unwrap();
    assert!(
        TopicConfig::new()
            .min_compaction_lag(2 * SECOND)
            .over(&base)
            .is_err()
    );
    assert!(
        TopicConfig::new()
            .min_compaction_lag(SECOND)
            .over(&base)
            .is_ok()
    );
}

#[test]
fn an_update_changes_only_what_it_sets() {
    let config = all_setters().set("min.insync.replicas", "2").unwrap();
    assert_eq!(config.clone().updated(&TopicConfig::new()), config);
    assert_eq!(TopicConfig::new().updated(&config), config);
    let changes = TopicConfig::new()
        .retention(None)
        .set("min.insync.replicas", "1")
        .unwrap();
    let updated = config.clone().updated(&changes);
    assert_eq!(updated.get("retention.ms").as_deref(), Some("-1"));
    assert_eq!(updated.get("min.insync.replicas").as_deref(), Some("1"));
    let differing = updated
        .entries()
        .into_iter()
        .zip(config.entries())
        .filter(|(new, old)| new != old)
        .count();
    assert_eq!(differing, 2);
}

#[test]
fn settings_of_a_cluster_are_kept_and_have_no_effect() {
    let config = set_all(KEPT.iter().copied()).unwrap();
    let entries = config.entries();
    assert_eq!(
        entries
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect::<Vec<_>>(),
        KEPT
    );
    assert_eq!(config.over(&all_settings()).unwrap(), all_settings());
}

#[test]
fn a_topic_configuration_of_a_cluster_is_accepted() {
    let pasted = "compression.type=producer\nleader.replication.throttled.replicas=\nremote.storage.enable=false\n\
                  message.downconversion.enable=true\nmin.insync.replicas=1\nsegment.jitter.ms=0\ncleanup.policy=compact\n\
                  flush.ms=9223372036854775807\nfollower.replication.throttled.replicas=\nsegment.bytes=104857600\n\
                  retention.ms=604800000\nflush.messages=9223372036854775807\nmessage.format.version=3.0-IV1\n\
                  max.compaction.lag.ms=9223372036854775807\nfile.delete.delay.ms=60000\nmax.message.bytes=1048588\n\
                  min.compaction.lag.ms=0\nmessage.timestamp.type=CreateTime\npreallocate=false\nindex.interval.bytes=4096\n\
                  min.cleanable.dirty.ratio=0.5\nunclean.leader.election.enable=false\nretention.bytes=-1\n\
                  delete.retention.ms=86400000\nsegment.ms=604800000\nsegment.index.bytes=10485760";
    let lines: Vec<_> = pasted
        .lines()
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let config = set_all(lines.iter().copied()).unwrap();
    for (key, value) in lines {
        assert_eq!(config.get(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(
        config
            .over(&TopicSettings::default())
            .unwrap()
            .segment_bytes,
        100 << 20
    );
}

#[test]
fn an_unconfigured_topic_keeps_everything() {
    let settings = TopicSettings::unconfigured();
    assert!(settings.retention_ms < 0);
    assert!(settings.retention_bytes < 0);
    assert_eq!(settings.cleanup_policy, CleanupPolicy::Delete);
    assert_eq!(
        (
            settings.timestamp_before_max_ms,
            settings.timestamp_after_max_ms
        ),
        (i64::MAX, i64::MAX)
    );
    assert_eq!(
        settings.max_message_bytes,
        TopicSettings::default().max_message_bytes
    );
}

#[test]
fn a_config_displays_the_settings_that_were_set() {
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .retention(SECOND);
    assert_eq!(
        config.to_string(),
        "cleanup.policy=compact, retention.ms=1000"
    );
    assert_eq!(
        format!("{config:?}"),
        r#"TopicConfig {"cleanup.policy": "compact", "retention.ms": "1000"}"#
    );
    assert_eq!(TopicConfig::new().to_string(), "");
}

#[test]
fn synced_is_a_higher_durability_than_os() {
    assert!(Durability::Os < Durability::Synced);
}
