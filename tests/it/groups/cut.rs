//! Partitions that lose their end while a group reads them: the members read the records that
//! replace the lost ones, and committed positions are lowered.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use annals::{
    ConsumerConfig, Log, LogConfig, ManualClock, OffsetReset, Partition, Record, Result, Seek,
    SimulatedDisk,
};
use annals::{Timestamp, TopicConfig};

use super::{copy_dir, drain, fill, log_with, of, t};
use crate::kafka::fixture;

/// Leaves the last batch as a failed write would.
fn damage_the_last_batch(partition: &Partition) {
    let active = partition.segments().pop().unwrap();
    let file = OpenOptions::new().write(true).open(&active.path).unwrap();
    file.write_all_at(b"x", active.bytes - 2).unwrap();
}

fn committed(log: &Log) -> Option<u64> {
    super::committed(&log.consumer_group("g").unwrap(), &t(0))
}

fn open(dir: &Path) -> Log {
    Log::builder(dir)
        .config(LogConfig::new().maintenance_interval(None))
        .open()
        .unwrap()
}

#[test]
fn records_appended_after_a_reopen_reach_existing_members() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 3);
    log.flush().unwrap();
    fill(&topic, 0, 2);
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    let mut alone = log.assign([t(0)]).unwrap();
    assert_eq!(drain(&mut member), of(0, 0..5));
    assert_eq!(drain(&mut alone), of(0, 0..5));
    member.commit().unwrap();
    let partition = topic.partition(0).unwrap();
    damage_the_last_batch(&partition);
    partition.reopen().unwrap();
    assert_eq!(partition.log_end_offset(), 4);
    assert_eq!(committed(&log), Some(4));
    fill(&topic, 0, 3);
    assert_eq!(member.position(&t(0)).unwrap(), 4);
    assert_eq!(drain(&mut member), of(0, 4..7));
    assert_eq!(drain(&mut alone), of(0, 4..7));
}

#[test]
fn records_appended_after_a_truncation_reach_old_and_new_members() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::Latest);
    let mut member = group.join_with("t", config).unwrap();
    member.seek(&t(0), Seek::Earliest).unwrap();
    assert_eq!(drain(&mut member), of(0, 0..6));
    member.commit().unwrap();
    let partition = topic.partition(0).unwrap();
    partition.truncate_to(3).unwrap();
    assert_eq!(committed(&log), Some(3));
    fill(&topic, 0, 5);
    assert_eq!(drain(&mut member), of(0, 3..8));
    partition.truncate_to(7).unwrap();
    fill(&topic, 0, 2);
    member.commit().unwrap();
    assert_eq!(
        committed(&log),
        Some(7),
        "no member has received the records that are there now"
    );
    drop(member);
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 7..9));
}

#[test]
fn positions_that_the_offset_store_lost_no_longer_count() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log.open_topic("t", 1, TopicConfig::new()).unwrap(), 0, 5);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 1.into())]).unwrap();
    log.flush().unwrap();
    for next in 2..5 {
        group.commit([(t(0), next.into())]).unwrap();
    }
    let store = log
        .topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap();
    damage_the_last_batch(&store);
    store.reopen().unwrap();
    assert_eq!(committed(&log), Some(3));
    store.truncate_to(1).unwrap();
    assert_eq!(committed(&log), Some(1));
    group.commit([(t(0), 2.into())]).unwrap();
    assert_eq!(committed(&log), Some(2));
    log.close().unwrap();
    assert_eq!(committed(&open(dir.path())), Some(2));
}

#[test]
fn an_older_position_that_becomes_current_again_is_lowered_too() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), 5.into())])
        .unwrap();
    topic.partition(0).unwrap().truncate_to(3).unwrap();
    assert_eq!(committed(&log), Some(3));
    log.topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap()
        .truncate_to(1)
        .unwrap();
    assert_eq!(
        committed(&log),
        Some(3),
        "the record of the lowered position is lost, and the older position is above the end"
    );
}

fn on_disk(disk: &SimulatedDisk) -> Result<Log> {
    let config = LogConfig::new().maintenance_interval(None);
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    Log::builder("data")
        .storage(disk.clone())
        .clock(clock)
        .config(config)
        .open()
}

/// Cuts the power at every call of a deletion. The next topic of that name must start without
/// positions.
#[test]
fn a_recreated_topic_starts_without_positions_after_a_power_cut_in_the_deletion() {
    let disk = SimulatedDisk::new(7);
    let log = on_disk(&disk).unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 5);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), 3.into())])
        .unwrap();
    // Write the position in the format of brokers before 4.1, which does not contain the topic id.
    let store = log
        .topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap();
    let batch = store.read(..).unwrap().next().unwrap().unwrap();
    let key = batch
        .iter()
        .next()
        .unwrap()
        .unwrap()
        .key()
        .unwrap()
        .to_vec();
    // Version, offset, leader epoch, no metadata, time.
    let value = [
        &[0, 3][..],
        &3_u64.to_be_bytes(),
        &[0xff; 4],
        &[0, 0],
        &7_u64.to_be_bytes(),
    ]
    .concat();
    store.append(Record::new(value).key(key)).unwrap();
    drop(topic);
    log.close().unwrap();
    let mut deletions = 0;
    for call in 0.. {
        let cut = disk.fork();
        let log = on_disk(&cut).unwrap();
        cut.cut_power_at(call);
        let _cut_off = log.delete_topic("t");
        drop(log);
        let has_ended = !cut.has_lost_power();
        for left in cut.crash_states().take(50).chain([cut.fork()]) {
            let log = on_disk(&left).unwrap();
            if log.topic("t").is_ok() {
                assert_eq!(committed(&log), Some(3), "power cut at call {call}");
                continue;
            }
            fill(&log.create_topic("t", 1, TopicConfig::new()).unwrap(), 0, 5);
            assert_eq!(committed(&log), None, "power cut at call {call}");
            deletions += 1;
        }
        if has_ended {
            break;
        }
    }
    assert!(deletions > 10, "only {deletions} deletions were seen");
}

/// The position reached the disk and the records did not. Then the disk is full.
#[test]
fn a_position_above_the_end_is_lowered_on_a_full_disk() {
    let disk = SimulatedDisk::new(7);
    let log = on_disk(&disk).unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 3);
    log.flush().unwrap();
    fill(&topic, 0, 2);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), 5.into())])
        .unwrap();
    let store = log
        .topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap();
    store.flush().unwrap();
    let has_lost_the_records = |left: &SimulatedDisk| {
        let log = Log::builder("data")
            .storage(left.fork())
            .open_read_only()
            .unwrap();
        log.topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .log_end_offset()
            == 3
    };
    let left = disk
        .crash_states()
        .find(has_lost_the_records)
        .expect("a power cut can lose records that were not flushed");
    left.set_capacity(0);
    drop(log);
    let log = on_disk(&left).unwrap();
    assert_eq!(committed(&log), Some(3));
    left.set_capacity(u64::MAX);
    fill(&log.topic("t").unwrap(), 0, 4);
    log.maintain().unwrap();
    drop(log);
    let log = on_disk(&left.process_killed()).unwrap();
    assert_eq!(
        committed(&log),
        Some(3),
        "the lowered position was written once there was room"
    );
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(drain(&mut member), of(0, 3..7));
}

/// An offset store that cannot be opened makes its positions unavailable. The log opens
/// nevertheless.
#[test]
fn a_full_disk_for_the_offset_store_does_not_prevent_opening_the_log() {
    let disk = SimulatedDisk::new(7);
    let log = on_disk(&disk).unwrap();
    fill(&log.open_topic("t", 1, TopicConfig::new()).unwrap(), 0, 3);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), 2.into())])
        .unwrap();
    log.flush().unwrap();
    let killed = disk.process_killed();
    let mut unopened = 0;
    for call in 0.. {
        let left = killed.fork();
        left.fail_call(left.calls() + call, io::ErrorKind::StorageFull.into());
        let opened = on_disk(&left);
        let Ok(log) = opened else {
            assert!(
                !format!("{opened:?}").contains("__consumer_offsets"),
                "{opened:?}"
            );
            continue;
        };
        if left.calls() <= killed.calls() + call {
            break;
        }
        let is_unopened = log
            .topic("__consumer_offsets")
            .unwrap()
            .partition(0)
            .is_err();
        assert_eq!(
            log.consumer_group("g").unwrap().committed(&t(0)).is_err(),
            is_unopened,
            "call {call}"
        );
        unopened += usize::from(is_unopened);
    }
    assert!(unopened > 0, "the offset store could always be opened");
}

#[test]
fn the_offset_store_of_a_broker_is_compacted_from_the_first_commit_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    copy_dir(&fixture("clean").join("root"), &root);
    let log = Log::open(&root).unwrap();
    let store = log.topic("__consumer_offsets").unwrap();
    let before: Vec<_> = log
        .consumer_groups()
        .unwrap()
        .iter()
        .map(|group| group.describe().unwrap().positions.len())
        .collect();
    let topic = log
        .topics()
        .into_iter()
        .find(|topic| !topic.name().starts_with("__"))
        .unwrap();
    let id = topic.partitions()[0].id().clone();
    log.consumer_group("new")
        .unwrap()
        .commit([(id, 0.into())])
        .unwrap();
    let set = store.config().entries();
    assert!(
        set.iter()
            .any(|(key, policy)| *key == "cleanup.policy" && policy == "compact"),
        "{set:?}"
    );
    for partition in store.partitions() {
        partition.compact().unwrap();
    }
    log.close().unwrap();
    let log = Log::open(&root).unwrap();
    let groups = log.consumer_groups().unwrap();
    let after: Vec<_> = groups
        .iter()
        .filter(|group| group.id() != "new")
        .map(|group| group.describe().unwrap())
        .collect();
    assert_eq!(
        after
            .iter()
            .map(|group| group.positions.len())
            .collect::<Vec<_>>(),
        before
    );
}
