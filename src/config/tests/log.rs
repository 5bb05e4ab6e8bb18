//! Settings of a log.

use std::time::Duration;

use crate::config::{
    DamagedOffsets, Durability, LogConfig, LogSettings, ReadMode, TopicConfig, TopicSettings,
};
use crate::error::Error;

use super::{SECOND, all_setters, all_settings};

#[test]
fn log_defaults_are_those_of_the_docs() {
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
        max_open_files: None,
        max_decompressed_bytes: 67_108_864,
        cleaner_dedupe_buffer_bytes: 134_217_728,
        recovery_threads: settings.recovery_threads,
    };
    assert_eq!(settings, expected);
}

#[test]
fn each_log_setter_reaches_its_setting() {
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
        max_open_files: Some(5),
        max_decompressed_bytes: 6,
        cleaner_dedupe_buffer_bytes: 8,
        recovery_threads: 7,
    };
    assert_eq!(config.resolve().unwrap(), expected);
    assert_eq!(config.max_bytes(None).resolve().unwrap().max_bytes, None);
}

#[test]
fn log_settings_outside_their_bounds_are_refused() {
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
