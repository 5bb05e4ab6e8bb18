//! Values: which are allowed, how they are parsed, and how a refusal describes them.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::keys::TABLE;
use crate::config::{TopicConfig, TopicSettings};
use crate::error::Error;

use super::SECOND;

/// Returns the reason for which `value` is refused, and checks that the error names the key.
fn refusal(key: &str, value: &str) -> String {
    match TopicConfig::new().set(key, value) {
        Err(Error::InvalidConfig { key: named, reason }) if named == key => reason,
        other => panic!("{key}={value}: {other:?}"),
    }
}

#[test]
fn a_value_outside_its_bounds_is_refused() {
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
                reason.starts_with(&format!("{value:?} is not allowed: it must be ")),
                "{reason}"
            );
        }
    }
}

#[test]
fn a_refusal_describes_the_allowed_values() {
    assert_eq!(
        refusal("segment.bytes", "9"),
        "\"9\" is not allowed: it must be a whole number of bytes from 14 to 2147483647"
    );
    assert_eq!(
        refusal("retention.ms", "7d"),
        "\"7d\" is not allowed: it must be a whole number of milliseconds from -1 (-1 means for ever)"
    );
    assert_eq!(
        refusal("retention.bytes", "x"),
        "\"x\" is not allowed: it must be a whole number of bytes (-1 means no limit)"
    );
    assert_eq!(
        refusal("compression.zstd.level", "23"),
        "\"23\" is not allowed: it must be a whole number from -131072 to 22"
    );
    assert_eq!(
        refusal("annals.durability", ""),
        "\"\" is not allowed: it must be one of `os`, `synced`"
    );
    assert_eq!(
        refusal("preallocate", "1"),
        "\"1\" is not allowed: it must be `true` or `false`"
    );
    assert_eq!(
        refusal("cleanup.policy", "x"),
        "\"x\" is not allowed: it must be `delete`, `compact`, or both with a comma between"
    );
    assert_eq!(
        refusal("min.cleanable.dirty.ratio", "2"),
        "\"2\" is not allowed: it must be a number from 0 to 1"
    );
    let error = TopicConfig::new().set("flush.ms", "-1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid setting `flush.ms`: \"-1\" is not allowed: it must be a whole number of milliseconds from 0"
    );
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
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
            "there is no such topic setting; use `retention.ms`",
            "{key}"
        );
    }
}

#[test]
fn values_at_the_bounds_are_allowed() {
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
fn values_are_parsed_as_kafka_parses_them() {
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
fn typed_settings_are_checked_on_use() {
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

proptest! {
    #[test]
    fn a_value_that_was_set_reads_back_equal(
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
    fn any_key_and_value_are_accepted_or_refused_by_name(key in "\\PC{0,30}", value in "\\PC{0,30}") {
        if let Err(error) = TopicConfig::new().set(&key, &value) {
            prop_assert!(error.to_string().contains(&key));
        }
    }
}
