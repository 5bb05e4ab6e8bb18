//! Settings of topics: how they are stored, changed and refused.

use annals::{Compression, Error, Log, LogConfig, MemoryDisk, Record, TopicConfig};
use std::time::Duration;

fn open(disk: &MemoryDisk) -> Log {
    Log::builder("data").storage(disk.clone()).open().unwrap()
}

#[test]
fn kafka_settings_are_stored_and_read_back() {
    let pairs = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604800000"),
        ("segment.bytes", "14000"),
        ("min.insync.replicas", "2"),
        ("compression.type", "zstd"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let config = pairs
        .iter()
        .fold(TopicConfig::new(), |config, (key, value)| {
            config.set(key, value).unwrap()
        });
    let disk = MemoryDisk::default();
    let log = open(&disk);
    log.create_topic("t", 1, config.clone()).unwrap();
    log.close().unwrap();
    let topic = open(&disk).topic("t").unwrap();
    assert_eq!(topic.config(), config);
    for (key, value) in pairs {
        assert_eq!(topic.config().get(key).as_deref(), Some(value), "{key}");
    }
}

#[test]
fn errors_about_settings_name_the_key() {
    for (key, value) in [
        ("retention.msec", "1"),
        ("retention.ms", "7d"),
        ("segment.bytes", "13"),
        ("cleanup.policy", "shred"),
        ("", ""),
    ] {
        let result = TopicConfig::new().set(key, value);
        assert!(
            matches!(&result, Err(Error::InvalidConfig { key: named, .. }) if named == key),
            "{key}={value}: {result:?}"
        );
    }
}

#[test]
fn an_update_changes_only_the_settings_it_names() {
    let disk = MemoryDisk::default();
    let log = open(&disk);
    let config = TopicConfig::new()
        .retention(Duration::from_secs(60))
        .max_message_bytes(2000);
    let topic = log.create_topic("t", 1, config).unwrap();
    topic
        .update_config(TopicConfig::new().max_message_bytes(200))
        .unwrap();
    let changed = TopicConfig::new()
        .retention(Duration::from_secs(60))
        .max_message_bytes(200);
    assert_eq!(topic.config(), changed);
    let refused = topic.append(Record::new(vec![b'x'; 1000]));
    assert!(
        matches!(refused, Err(Error::RecordTooLarge { limit: 200, .. })),
        "the new limit applies immediately: {refused:?}"
    );
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(
        log.topic("t").unwrap().config(),
        changed,
        "the update is stored"
    );
}

#[test]
fn a_refused_update_changes_no_setting() {
    let disk = MemoryDisk::default();
    let log = open(&disk);
    let config = TopicConfig::new()
        .compression(Compression::None)
        .max_compaction_lag(Duration::from_secs(1));
    let topic = log.create_topic("t", 1, config.clone()).unwrap();
    let bad = TopicConfig::new()
        .max_message_bytes(99)
        .min_compaction_lag(Duration::from_secs(2));
    assert!(matches!(
        topic.update_config(bad),
        Err(Error::InvalidConfig { .. })
    ));
    assert_eq!(topic.config(), config);
    log.close().unwrap();
    assert_eq!(open(&disk).topic("t").unwrap().config(), config);
}

#[test]
fn log_defaults_apply_to_settings_that_a_topic_leaves_unset() {
    let disk = MemoryDisk::default();
    let defaults = LogConfig::new().topic_defaults(TopicConfig::new().max_message_bytes(200));
    let log = Log::builder("data")
        .storage(disk.clone())
        .config(defaults)
        .open()
        .unwrap();
    let plain = log.create_topic("plain", 1, TopicConfig::new()).unwrap();
    let own = log
        .create_topic("own", 1, TopicConfig::new().max_message_bytes(5000))
        .unwrap();
    let large = Record::new(vec![b'x'; 1000]);
    assert!(matches!(
        plain.append(&large),
        Err(Error::RecordTooLarge { limit: 200, .. })
    ));
    own.append(&large).unwrap();
    assert!(
        plain.config().is_empty(),
        "the log's defaults are not stored with the topic"
    );
    log.close().unwrap();
    open(&disk).topic("plain").unwrap().append(&large).unwrap();
}

#[test]
fn opening_a_log_refuses_impossible_settings() {
    for config in [
        LogConfig::new().max_open_files(0),
        LogConfig::new().internal_partitions(0),
        LogConfig::new().max_bytes(0),
    ] {
        let result = Log::builder("data")
            .storage(MemoryDisk::default())
            .config(config)
            .open();
        assert!(
            matches!(result, Err(Error::InvalidConfig { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn config_differences_lists_the_settings_that_differ() {
    let disk = MemoryDisk::default();
    let defaults = LogConfig::new().topic_defaults(TopicConfig::new().max_message_bytes(200));
    let log = Log::builder("data")
        .storage(disk)
        .config(defaults)
        .open()
        .unwrap();
    let stored = TopicConfig::new()
        .retention(Duration::from_secs(60))
        .min_compaction_lag(Duration::from_secs(5));
    let topic = log.create_topic("t", 1, stored.clone()).unwrap();
    let differences = |config: &TopicConfig| topic.config_differences(config).unwrap();
    assert_eq!(
        differences(&TopicConfig::new()),
        [""; 0],
        "an empty config differs in no setting"
    );
    assert_eq!(differences(&stored), [""; 0]);
    assert_eq!(
        differences(
            &TopicConfig::new()
                .max_message_bytes(200)
                .segment_bytes(1 << 30)
        ),
        [""; 0],
        "these values are already in force"
    );
    let wanted = TopicConfig::new()
        .retention(None)
        .segment_bytes(1 << 20)
        .max_message_bytes(1 << 20);
    let wanted = wanted.set("min.insync.replicas", "2").unwrap();
    assert_eq!(
        differences(&wanted),
        [
            "retention.ms",
            "segment.bytes",
            "max.message.bytes",
            "min.insync.replicas"
        ]
    );
    topic.update_config(wanted.clone()).unwrap();
    assert_eq!(differences(&wanted), [""; 0]);
    let later = TopicConfig::new()
        .min_compaction_lag(Duration::from_secs(20))
        .max_compaction_lag(Duration::from_secs(30));
    assert_eq!(
        differences(&later),
        ["min.compaction.lag.ms", "max.compaction.lag.ms"]
    );
    let wrong = TopicConfig::new()
        .min_compaction_lag(Duration::from_secs(20))
        .max_compaction_lag(Duration::from_secs(10));
    assert!(matches!(
        topic.config_differences(&wrong),
        Err(Error::InvalidConfig { .. })
    ));
}
