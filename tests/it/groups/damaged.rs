//! A damaged offset store is an error by default, and is passed over if the configuration says so.
//! Damage never moves a group to offset 0 silently.

use std::fs;
use std::path::Path;
use std::time::Duration;

use annals::{
    ConsumerConfig, DamagedOffsets, Error, Log, LogConfig, OffsetReset, Record, TopicConfig,
};

use super::{drain, fill, of, t};

const STORE: &str = "__consumer_offsets-0/00000000000000000000.log";

fn open(dir: &Path, damaged: DamagedOffsets) -> Log {
    Log::builder(dir)
        .config(LogConfig::new().damaged_offsets(damaged))
        .open()
        .unwrap()
}

/// Creates a closed log in which group `g` has committed 1, 2 and 3 of 5. In each of `commits`, one
/// bit is flipped in the byte that is `from_end` bytes before the end of the commit.
fn damaged(commits: &[usize], from_end: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), DamagedOffsets::Refuse);
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 5);
    let store = dir.path().join(STORE);
    let mut ends = Vec::new();
    for next in 1..4 {
        log.consumer_group("g")
            .unwrap()
            .commit([(t(0), next.into())])
            .unwrap();
        ends.push(
            log.topic("__consumer_offsets")
                .unwrap()
                .partition(0)
                .unwrap()
                .segments()[0]
                .bytes,
        );
    }
    drop(topic);
    log.close().unwrap();
    let mut bytes = fs::read(&store).unwrap();
    for commit in commits {
        bytes[usize::try_from(ends[*commit]).unwrap() - from_end] ^= 0x10;
    }
    fs::write(&store, bytes).unwrap();
    dir
}

#[test]
fn a_position_that_may_be_lost_is_an_error() {
    let dir = damaged(&[2], 10);
    let log = open(dir.path(), DamagedOffsets::Refuse);
    let group = log.consumer_group("g").unwrap();
    assert!(
        matches!(group.committed(&t(0)), Err(Error::Corrupt(_))),
        "{:?}",
        group.committed(&t(0))
    );
    assert!(
        matches!(group.join("t"), Err(Error::Corrupt(_))),
        "a member must not start at 0 because the position is lost"
    );
    assert!(matches!(
        group.commit([(t(0), 4.into())]),
        Err(Error::Corrupt(_))
    ));
    assert_eq!(
        log.topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .log_end_offset(),
        5,
        "the records are unaffected"
    );
}

#[test]
fn a_commit_before_the_damage_counts_if_damage_is_passed_over() {
    let dir = damaged(&[2], 10);
    let log = open(dir.path(), DamagedOffsets::PassOver);
    let group = log.consumer_group("g").unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap().map(|next| next.offset),
        Some(2)
    );
    let mut consumer = group.join("t").unwrap();
    assert_eq!(drain(&mut consumer), of(0, 2..5));
}

#[test]
fn a_commit_after_the_damage_counts_if_damage_is_passed_over() {
    let dir = damaged(&[0, 1], 10);
    let log = open(dir.path(), DamagedOffsets::PassOver);
    assert_eq!(
        log.consumer_group("g")
            .unwrap()
            .committed(&t(0))
            .unwrap()
            .map(|next| next.offset),
        Some(3)
    );
}

#[test]
fn the_reset_policy_decides_if_every_position_is_damaged() {
    let dir = damaged(&[0, 1, 2], 10);
    let log = open(dir.path(), DamagedOffsets::PassOver);
    let group = log.consumer_group("g").unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), None);
    let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::None);
    let polled = group
        .join_with("t", config)
        .and_then(|mut consumer| consumer.poll(Duration::ZERO).map(drop));
    assert!(
        polled.is_err(),
        "the group has neither a position nor a reset policy"
    );
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..5));
}

/// Creates a closed log in which group `g` has committed 1, 2 and 3 of 5, and then a position in a
/// format that a later version of Kafka may write.
fn later_format() -> tempfile::TempDir {
    let dir = damaged(&[], 1);
    let log = open(dir.path(), DamagedOffsets::Refuse);
    let store = log
        .topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap();
    let last = store
        .read(..)
        .unwrap()
        .map(|batch| batch.unwrap())
        .last()
        .unwrap();
    let record = last.iter().last().unwrap().unwrap();
    let mut value = record.value().unwrap().to_vec();
    value[1] = 9;
    store
        .append(Record::new(&value[..]).key(record.key().unwrap()))
        .unwrap();
    log.close().unwrap();
    dir
}

#[test]
fn a_position_of_a_later_format_is_an_error_for_its_partition_alone() {
    let dir = later_format();
    let log = open(dir.path(), DamagedOffsets::Refuse);
    let group = log.consumer_group("g").unwrap();
    let Err(error @ Error::Corrupt(_)) = group.committed(&t(0)) else {
        panic!("{:?}", group.committed(&t(0)))
    };
    assert!(error.to_string().contains("version"), "{error}");
    assert!(matches!(
        group
            .join("t")
            .and_then(|mut member| member.poll(Duration::ZERO).map(drop)),
        Err(Error::Corrupt(_))
    ));
    assert_eq!(
        log.consumer_group("h").unwrap().committed(&t(0)).unwrap(),
        None,
        "other groups are unaffected"
    );
    group.commit([(t(0), 2.into())]).unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap().map(|next| next.offset),
        Some(2),
        "a new commit replaces it"
    );
}

#[test]
fn a_position_of_a_later_format_counts_as_absent_if_damage_is_passed_over() {
    let dir = later_format();
    let log = open(dir.path(), DamagedOffsets::PassOver);
    let group = log.consumer_group("g").unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap(),
        None,
        "the earlier position was replaced and does not count"
    );
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..5));
}

#[test]
fn an_offset_store_without_its_directory_is_not_taken_for_an_empty_one() {
    let dir = damaged(&[], 1);
    fs::remove_dir_all(dir.path().join("__consumer_offsets-0")).unwrap();
    let log = open(dir.path(), DamagedOffsets::Refuse);
    let group = log.consumer_group("g").unwrap();
    assert!(
        group.committed(&t(0)).is_err(),
        "{:?}",
        group.committed(&t(0))
    );
    assert!(
        group.join("t").is_err(),
        "a member must not start at 0 because the position is lost"
    );
    assert!(log.consumer_groups().is_err(), "not an empty list");
    drop((group, log));
    let log = open(dir.path(), DamagedOffsets::PassOver);
    assert_eq!(
        log.consumer_group("g").unwrap().committed(&t(0)).unwrap(),
        None
    );
}
