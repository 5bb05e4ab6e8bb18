//! A damaged offset store: an error by default, passed over where that is asked for, and never
//! position 0 by itself.

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

/// A closed log in which group `g` has committed 1, 2 and 3 of 5; the byte this far from the end of
/// each of these commits is flipped.
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
        "nobody reads from 0 for want of a position"
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
        "records are not concerned"
    );
}

#[test]
fn what_was_committed_before_the_damage_counts_where_it_is_passed_over() {
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
fn what_was_committed_behind_the_damage_counts_too() {
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
fn without_any_position_the_reset_policy_decides() {
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
        "no position, and nobody said where to begin"
    );
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..5));
}

/// A closed log in which group `g` has committed 1 of 5, and then 4 in a format that a later
/// version of Kafka may write.
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
        "others are not concerned"
    );
    group.commit([(t(0), 2.into())]).unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap().map(|next| next.offset),
        Some(2),
        "a commit of ours takes its place"
    );
}

#[test]
fn a_position_of_a_later_format_is_none_where_damage_is_passed_over() {
    let dir = later_format();
    let log = open(dir.path(), DamagedOffsets::PassOver);
    let group = log.consumer_group("g").unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap(),
        None,
        "not the one before it: that was replaced"
    );
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..5));
}

#[test]
fn a_store_whose_directory_is_gone_is_not_taken_for_an_empty_one() {
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
        "nobody reads from 0 for want of a position"
    );
    drop((group, log));
    let log = open(dir.path(), DamagedOffsets::PassOver);
    assert_eq!(
        log.consumer_group("g").unwrap().committed(&t(0)).unwrap(),
        None
    );
}
