//! Tests of topic files, and of the announcements of changes.

use std::path::Path;

use super::stored::check_partition_count;
use super::topic_file::{Found, read_topic_file, store_log_start, unconfigured};
use super::*;
use crate::config::TopicSettings;
use crate::format::metadata_file::{TopicFile, decode_topic_file, encode_topic_file};
use crate::storage::{MemoryDisk, Storage, read_file, replace_file};

fn file() -> TopicFile {
    let id = TopicId::parse("AAECAwQFBgcICQoLDA0ODw").unwrap();
    let config = vec![("retention.ms".to_owned(), "1000".to_owned())];
    TopicFile {
        topic_id: id,
        partitions: 3,
        is_dense: true,
        log_starts: vec![(1, 37)],
        config,
    }
}

fn disk_with(text: &str) -> MemoryDisk {
    let disk = MemoryDisk::default();
    disk.create_dir_all(Path::new("/data")).unwrap();
    replace_file(&disk, Path::new("/data/t.topic"), text.as_bytes()).unwrap();
    disk
}

fn read(disk: &MemoryDisk) -> Result<Found> {
    read_topic_file(disk, Path::new("/data"), "t")
}

#[test]
fn a_topic_file_returns_the_config_that_was_written() {
    let Found::Sound(found, config) = read(&disk_with(&encode_topic_file(&file()))).unwrap() else {
        panic!()
    };
    assert_eq!(found, file());
    assert_eq!(
        config,
        TopicConfig::new().set("retention.ms", "1000").unwrap()
    );
}

#[test]
fn a_missing_topic_file_is_not_an_error() {
    assert!(matches!(
        read_topic_file(&MemoryDisk::default(), Path::new("/"), "t"),
        Ok(Found::Nothing)
    ));
}

#[test]
fn a_topic_file_with_an_unknown_setting_counts_as_damaged() {
    let text = encode_topic_file(&file());
    for damaged in [
        String::new(),
        text.replace("37", "38"),
        text.replace('\n', "\r\n"),
        text[..text.len() - 1].to_owned(),
    ] {
        assert!(
            matches!(
                read(&disk_with(&damaged)),
                Ok(Found::Damaged(Error::Io { .. }))
            ),
            "{damaged:?}"
        );
    }
    let unknown = TopicFile {
        config: vec![("retention.eons".to_owned(), "1".to_owned())],
        ..file()
    };
    let found = read(&disk_with(&encode_topic_file(&unknown)));
    assert!(
        matches!(found, Ok(Found::Damaged(Error::InvalidConfig { .. }))),
        "{found:?}"
    );
}

#[test]
fn an_unconfigured_topic_keeps_its_records_after_a_later_change() {
    let defaults = TopicConfig::new()
        .retention(Duration::from_secs(1))
        .over(&TopicSettings::default())
        .unwrap();
    let changed = unconfigured()
        .updated(&TopicConfig::new().max_message_bytes(5))
        .over(&defaults)
        .unwrap();
    let kept = TopicSettings::unconfigured();
    assert_eq!(
        (changed.retention_ms, changed.retention_bytes),
        (kept.retention_ms, kept.retention_bytes)
    );
    assert_eq!(
        (changed.cleanup_policy, changed.timestamp_after_max_ms),
        (kept.cleanup_policy, kept.timestamp_after_max_ms)
    );
    assert_eq!(
        unconfigured().over(&TopicSettings::default()).unwrap(),
        kept
    );
}

#[test]
fn the_log_start_of_one_partition_is_stored() {
    let disk = disk_with(&encode_topic_file(&file()));
    let store = |partition, log_start| {
        store_log_start(
            &disk,
            Path::new("/data"),
            &TopicPartition::new("t", partition),
            log_start,
        )
        .unwrap();
        decode_topic_file(&read_file(&disk, Path::new("/data/t.topic"), 1_000).unwrap())
            .unwrap()
            .log_starts
    };
    assert_eq!(store(0, Some(5)), [(0, 5), (1, 37)]);
    assert_eq!(store(1, Some(40)), [(0, 5), (1, 40)]);
    assert_eq!(store(0, None), [(1, 40)]);
    store_log_start(
        &disk,
        Path::new("/data"),
        &TopicPartition::new("other", 0),
        Some(1),
    )
    .unwrap();
}

#[test]
fn partition_counts_are_limited_as_in_kafka() {
    for (count, is_right) in [
        (0, false),
        (1, true),
        (i32::MAX.unsigned_abs(), true),
        (1 << 31, false),
    ] {
        assert_eq!(check_partition_count(count).is_ok(), is_right, "{count}");
    }
}

#[test]
fn waiting_threads_are_notified_of_changes() {
    let changes = Changes::default();
    let signal = crate::partition::state::waiting::Signal::new();
    changes.waiters().register(&signal);
    assert_eq!(changes.version(), 0);
    changes.announce();
    assert_eq!(changes.version(), 1);
    assert!(signal.wait(crate::clock::Deadline::never()));
    changes.close();
    assert!(changes.is_closed());
    assert_eq!(changes.version(), 2);
}

#[test]
fn slots_may_skip_numbers() {
    let missing = || Err(Error::Closed);
    let slots = Slots::new(BTreeMap::from([(0, missing()), (20_240_101, missing())]));
    assert_eq!(slots.count, 20_240_102);
    assert_eq!(slots.iter().count(), 2);
    assert_eq!(Slots::new(BTreeMap::new()).count, 0);
}
