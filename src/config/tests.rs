//! Table, setters and defaults agree, and what is not allowed is refused by name.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::error::{Error, Result};

use super::keys::TABLE;
use super::*;

/// Kafka 4's defaults as its documentation writes them, but for `file.delete.delay.ms` (there 60000)
/// and `preallocate` (`false`).
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

/// What only a cluster needs, and what Kafka 4 no longer knows.
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

/// Every typed setter, with a value that is no default.
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

/// What [`all_setters`] comes to. No field has its default, so that a setter or a row that misses
/// one is seen.
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

/// What is wrong with setting `key` to `value`, once it is sure that the error names the key.
fn refusal(key: &str, value: &str) -> String {
    match TopicConfig::new().set(key, value) {
        Err(Error::InvalidConfig { key: named, reason }) if named == key => reason,
        other => panic!("{key}={value}: {other:?}"),
    }
}

#[test]
fn nothing_set_is_the_defaults() {
    assert_eq!(
        TopicConfig::new().over(&TopicSettings::default()).unwrap(),
        TopicSettings::default()
    );
    assert_eq!(
        TopicConfig::new().over(&all_settings()).unwrap(),
        all_settings()
    );
    assert!(TopicConfig::new().is_empty() && TopicConfig::new().entries().is_empty());
}

#[test]
fn the_defaults_are_those_of_kafka() {
    let defaults = set_all(DEFAULTS.iter().copied()).unwrap();
    let base = TopicSettings {
        durability: None,
        ..all_settings()
    };
    assert_eq!(defaults.over(&base).unwrap(), TopicSettings::default());
}

#[test]
fn the_table_has_every_key_once() {
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
fn every_setter_has_its_key() {
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
fn what_is_set_is_written_as_kafka_writes_it() {
    let entries = all_setters().entries();
    let texts: Vec<_> = entries.iter().map(|(_, value)| value.as_str()).collect();
    let expected = "compact,delete 1000 2 3000 4000 5000 0.06 7000 80 9000 10000 11 12 false 13 14000 synced 15 zstd 1 16 17 \
                    LogAppendTime 18000 19000";
    assert_eq!(texts, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn no_limit_has_kafkas_numbers() {
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
fn times_are_rounded_up_and_never_wrap() {
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
fn a_bad_value_is_refused_and_what_is_allowed_is_said() {
    for (key, values) in [
        (
            "cleanup.policy",
            &["", "Delete", "compact;delete", "compact,", "keep"][..],
        ),
        (
            "segment.bytes",
            &["13", "-1", "2147483648", "1e9", "1073741824.0", "1 GiB", ""],
        ),
        ("segment.ms", &["0", "-1", "9223372036854775808"]),
        ("segment.jitter.ms", &["-1"]),
        ("segment.index.bytes", &["3"]),
        ("index.interval.bytes", &["-1"]),
        ("flush.messages", &["0"]),
        ("flush.ms", &["-1"]),
        ("retention.bytes", &["x", "0x10"]),
        ("retention.ms", &["-2", "7d", "forever"]),
        ("max.message.bytes", &["-1", "2147483648"]),
        ("file.delete.delay.ms", &["-1"]),
        ("delete.retention.ms", &["-1"]),
        ("min.compaction.lag.ms", &["-1"]),
        ("max.compaction.lag.ms", &["0"]),
        (
            "min.cleanable.dirty.ratio",
            &["-0.1", "1.1", "NaN", "inf", "half"],
        ),
        ("compression.type", &["none", "GZIP", "brotli", ""]),
        ("compression.gzip.level", &["0", "10", "-2"]),
        ("compression.lz4.level", &["0", "18"]),
        ("compression.zstd.level", &["23", "-131073"]),
        ("message.timestamp.type", &["createtime", "NoTimestampType"]),
        ("message.timestamp.before.max.ms", &["-1"]),
        ("message.timestamp.after.max.ms", &["-1"]),
        ("message.timestamp.difference.max.ms", &["-1"]),
        ("preallocate", &["yes", "1", ""]),
        ("annals.durability", &["sync", "Os", ""]),
        ("min.insync.replicas", &["0"]),
        ("remote.storage.enable", &["on"]),
        ("local.retention.ms", &["-3"]),
    ] {
        for value in values {
            let reason = refusal(key, value);
            assert!(
                reason.starts_with(&format!("{value:?} is not allowed, only ")),
                "{reason}"
            );
        }
    }
}

#[test]
fn refusals_read_well() {
    assert_eq!(
        refusal("segment.bytes", "9"),
        "\"9\" is not allowed, only a whole number of bytes from 14 to 2147483647"
    );
    assert_eq!(
        refusal("retention.ms", "7d"),
        "\"7d\" is not allowed, only a whole number of milliseconds from -1 (-1 is for ever)"
    );
    assert_eq!(
        refusal("retention.bytes", "x"),
        "\"x\" is not allowed, only a whole number of bytes (-1 is no limit)"
    );
    assert_eq!(
        refusal("compression.zstd.level", "23"),
        "\"23\" is not allowed, only a whole number from -131072 to 22"
    );
    assert_eq!(
        refusal("annals.durability", ""),
        "\"\" is not allowed, only one of `os`, `synced`"
    );
    assert_eq!(
        refusal("preallocate", "1"),
        "\"1\" is not allowed, only `true` or `false`"
    );
    assert_eq!(
        refusal("cleanup.policy", "x"),
        "\"x\" is not allowed, only `delete`, `compact`, or both with a comma between"
    );
    assert_eq!(
        refusal("min.cleanable.dirty.ratio", "2"),
        "\"2\" is not allowed, only a number from 0 to 1"
    );
    let error = TopicConfig::new().set("flush.ms", "-1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid setting `flush.ms`: \"-1\" is not allowed, only a whole number of milliseconds from 0"
    );
}

#[test]
fn an_unknown_key_is_refused_with_what_is_meant() {
    for key in [
        "",
        "retension.ms",
        "bootstrap.servers",
        "retention",
        "caf\u{e9}",
    ] {
        assert!(
            refusal(key, "1").contains("such as `retention.ms`"),
            "{key}"
        );
        assert_eq!(TopicConfig::new().get(key), None);
    }
    for key in [
        "log.retention.ms",
        "retention_ms",
        "Retention.Ms",
        "retention-ms ",
        "LOG_RETENTION_MS",
    ] {
        assert_eq!(
            refusal(key, "1"),
            "a topic has no such setting, but `retention.ms`",
            "{key}"
        );
    }
}

#[test]
fn the_bounds_themselves_are_allowed() {
    for (key, values) in [
        ("segment.bytes", &["14", "2147483647"][..]),
        ("segment.ms", &["1", "9223372036854775807"]),
        ("retention.ms", &["-1", "0"]),
        ("retention.bytes", &["-9223372036854775808", "-1", "0"]),
        ("max.message.bytes", &["0", "2147483647"]),
        ("min.cleanable.dirty.ratio", &["0", "1", "0.25"]),
        ("compression.gzip.level", &["-1", "1", "9"]),
        ("compression.lz4.level", &["1", "17"]),
        ("compression.zstd.level", &["-131072", "22"]),
        (
            "compression.type",
            &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"],
        ),
        ("local.retention.bytes", &["-2"]),
    ] {
        for value in values {
            let config = TopicConfig::new().set(key, value).unwrap();
            assert!(
                config.over(&TopicSettings::default()).is_ok(),
                "{key}={value}"
            );
        }
    }
}

#[test]
fn values_are_read_as_kafka_reads_them() {
    let get = |key, value| {
        TopicConfig::new()
            .set(key, value)
            .unwrap()
            .get(key)
            .unwrap()
    };
    assert_eq!(get("retention.ms", " 5\n"), "5");
    assert_eq!(get("preallocate", "TRUE"), "true");
    assert_eq!(get("cleanup.policy", "delete, compact"), "compact,delete");
    assert_eq!(get("cleanup.policy", "delete,delete"), "delete");
    assert_eq!(get("compression.type", "producer"), "producer");
    assert_eq!(get("min.cleanable.dirty.ratio", "1"), "1.0");
}

#[test]
fn the_old_timestamp_limit_yields_to_the_new_ones() {
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
fn a_typed_setting_is_checked_when_it_is_used() {
    for (config, named) in [
        (TopicConfig::new().segment_bytes(13), "segment.bytes"),
        (TopicConfig::new().segment_bytes(1 << 31), "segment.bytes"),
        (TopicConfig::new().segment_age(Duration::ZERO), "segment.ms"),
        (
            TopicConfig::new().max_message_bytes(u32::MAX),
            "max.message.bytes",
        ),
        (
            TopicConfig::new().min_cleanable_dirty_ratio(f64::NAN),
            "min.cleanable.dirty.ratio",
        ),
        (TopicConfig::new().zstd_level(23), "compression.zstd.level"),
        (TopicConfig::new().flush_messages(0), "flush.messages"),
        (
            TopicConfig::new().max_compaction_lag(Duration::ZERO),
            "max.compaction.lag.ms",
        ),
        (
            TopicConfig::new()
                .min_compaction_lag(2 * SECOND)
                .max_compaction_lag(SECOND),
            "min.compaction.lag.ms",
        ),
    ] {
        let error = config.over(&TopicSettings::default()).unwrap_err();
        assert!(
            matches!(&error, Error::InvalidConfig { key, .. } if key == named),
            "{error}"
        );
    }
    let large = TopicConfig::new().segment_bytes(14).max_message_bytes(1000);
    assert!(
        large.over(&TopicSettings::default()).is_ok(),
        "a batch that is larger than a segment has one to itself"
    );
}

#[test]
fn lags_are_compared_with_those_of_the_base_too() {
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
fn what_a_cluster_needs_is_kept_and_does_nothing() {
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
fn a_configuration_of_a_cluster_can_be_pasted() {
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
    assert!(settings.retention_ms < 0 && settings.retention_bytes < 0);
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
fn a_config_shows_what_was_set() {
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
fn durability_can_be_compared() {
    assert!(Durability::Os < Durability::Synced);
}

#[test]
fn a_log_has_the_defaults_that_it_says() {
    let settings = LogConfig::new().resolve().unwrap();
    assert!((1..=4).contains(&settings.recovery_threads));
    let expected = LogSettings {
        durability: Durability::Os,
        flush_interval: SECOND,
        maintenance_interval: Some(300 * SECOND),
        max_bytes: None,
        topic_defaults: TopicSettings::default(),
        internal_partitions: 1,
        group_max_size: None,
        offsets_retention: None,
        damaged_offsets: DamagedOffsets::Refuse,
        read_mode: ReadMode::Map,
        max_open_files: 512,
        max_decompressed_bytes: 67_108_864,
        cleaner_dedupe_buffer_bytes: 134_217_728,
        recovery_threads: settings.recovery_threads,
    };
    assert_eq!(settings, expected);
}

#[test]
fn every_setting_of_a_log_arrives() {
    let config = LogConfig::new()
        .durability(Durability::Synced)
        .flush_interval(2 * SECOND)
        .maintenance_interval(None)
        .max_bytes(3 << 30)
        .topic_defaults(all_setters())
        .internal_partitions(4)
        .group_max_size(8)
        .offsets_retention(9 * SECOND)
        .damaged_offsets(DamagedOffsets::PassOver)
        .read_mode(ReadMode::Copy)
        .max_open_files(5)
        .max_decompressed_bytes(6)
        .cleaner_dedupe_buffer_bytes(8)
        .recovery_threads(7);
    let expected = LogSettings {
        durability: Durability::Synced,
        flush_interval: 2 * SECOND,
        maintenance_interval: None,
        max_bytes: Some(3 << 30),
        topic_defaults: all_settings(),
        internal_partitions: 4,
        group_max_size: Some(8),
        offsets_retention: Some(9 * SECOND),
        damaged_offsets: DamagedOffsets::PassOver,
        read_mode: ReadMode::Copy,
        max_open_files: 5,
        max_decompressed_bytes: 6,
        cleaner_dedupe_buffer_bytes: 8,
        recovery_threads: 7,
    };
    assert_eq!(config.resolve().unwrap(), expected);
    assert_eq!(config.max_bytes(None).resolve().unwrap().max_bytes, None);
}

#[test]
fn a_log_refuses_what_cannot_work() {
    let bad_topics = TopicConfig::new().segment_bytes(1);
    for (config, named) in [
        (
            LogConfig::new().flush_interval(Duration::ZERO),
            "flush_interval",
        ),
        (
            LogConfig::new().maintenance_interval(Duration::ZERO),
            "maintenance_interval",
        ),
        (LogConfig::new().max_bytes(0), "max_bytes"),
        (LogConfig::new().max_bytes(1_048_587), "max_bytes"),
        (
            LogConfig::new().internal_partitions(0),
            "internal_partitions",
        ),
        (LogConfig::new().group_max_size(0), "group_max_size"),
        (LogConfig::new().max_open_files(0), "max_open_files"),
        (
            LogConfig::new().max_decompressed_bytes(0),
            "max_decompressed_bytes",
        ),
        (LogConfig::new().recovery_threads(0), "recovery_threads"),
        (LogConfig::new().topic_defaults(bad_topics), "segment.bytes"),
    ] {
        let error = config.resolve().unwrap_err();
        assert!(
            matches!(&error, Error::InvalidConfig { key, .. } if key == named),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn what_can_be_set_comes_back(
        row in 0..TABLE.len(),
        number: i64,
        small in -3_i64..30,
        ratio in -0.5_f64..1.5,
        text in "[a-zA-Z0-9,. -]{0,12}",
    ) {
        let key = TABLE[row].key;
        for value in [number.to_string(), small.to_string(), ratio.to_string(), text] {
            match TopicConfig::new().set(key, &value) {
                Ok(config) => {
                    let written = config.get(key).unwrap();
                    prop_assert_eq!(TopicConfig::new().set(key, &written).unwrap(), config.clone());
                    prop_assert_eq!(config.entries(), vec![(key, written)]);
                    prop_assert!(config.over(&TopicSettings::default()).is_ok() || key == "min.compaction.lag.ms");
                }
                Err(error) => prop_assert!(error.to_string().contains(key)),
            }
        }
    }

    #[test]
    fn any_key_and_value_are_taken_or_refused(key in "\\PC{0,30}", value in "\\PC{0,30}") {
        if let Err(error) = TopicConfig::new().set(&key, &value) {
            prop_assert!(error.to_string().contains(&key));
        }
    }
}
