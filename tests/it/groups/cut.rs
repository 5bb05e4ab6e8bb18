//! A log that is cut under a group that reads it: what takes the place of what was lost is read,
//! and positions say so.

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

/// As a failed write of the last batch would leave it.
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
fn what_is_appended_behind_a_reopen_is_read_by_the_members_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 3);
    log.flush().unwrap();
    fill(&topic, 0, 2);
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    let mut alone = log.assign([t(0)]).unwrap();
    assert_eq!(
        (drain(&mut member), drain(&mut alone)),
        (of(0, 0..5), of(0, 0..5))
    );
    member.commit().unwrap();
    let partition = topic.partition(0).unwrap();
    damage_the_last_batch(&partition);
    partition.reopen().unwrap();
    assert_eq!((partition.log_end_offset(), committed(&log)), (4, Some(4)));
    fill(&topic, 0, 3);
    assert_eq!(member.position(&t(0)).unwrap(), 4);
    assert_eq!(
        (drain(&mut member), drain(&mut alone)),
        (of(0, 4..7), of(0, 4..7))
    );
}

#[test]
fn what_is_appended_behind_a_truncation_is_read_whoever_reads() {
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
        "what stands there now was not given to anybody"
    );
    drop(member);
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 7..9));
}

#[test]
fn positions_that_were_lost_with_the_end_of_the_store_no_longer_count() {
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
fn an_older_position_that_counts_again_is_lowered_too() {
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
        "the record that said so is gone, and it is above the end none the less"
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

/// Power goes at every call of a deletion: the next topic of that name starts without positions.
#[test]
fn a_topic_that_is_made_again_starts_without_positions_wherever_its_deletion_was_cut_off() {
    let disk = SimulatedDisk::new(7);
    let log = on_disk(&disk).unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 5);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), 3.into())])
        .unwrap();
    // As brokers before 4.1 write it: nothing says which topic it is about.
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
                assert_eq!(committed(&log), Some(3), "cut at {call}");
                continue;
            }
            fill(&log.create_topic("t", 1, TopicConfig::new()).unwrap(), 0, 5);
            assert_eq!(committed(&log), None, "cut at {call}");
            deletions += 1;
        }
        if has_ended {
            break;
        }
    }
    assert!(deletions > 10, "{deletions} deletions were seen");
}

/// The position reached the disk, the records did not, and then there was no room for anything.
#[test]
fn a_full_disk_with_a_position_above_the_end_opens_and_the_position_is_lowered() {
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
    let is_it = |left: &SimulatedDisk| {
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
        .find(is_it)
        .expect("a power cut may take what was not flushed");
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
        "it was written once there was room"
    );
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(drain(&mut member), of(0, 3..7));
}

/// A store that cannot be opened keeps its positions from everybody, and nobody from opening the
/// log.
#[test]
fn no_room_for_the_store_at_any_call_is_no_reason_against_the_log() {
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
    assert!(unopened > 0, "it could always be opened");
}

#[test]
fn the_store_of_a_broker_is_compacted_from_the_first_commit_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    copy_dir(&fixture("clean").join("root"), &root);
    let log = Log::open(&root).unwrap();
    let store = log.topic("__consumer_offsets").unwrap();
    let before: Vec<_> = log
        .consumer_groups()
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
    let groups = log.consumer_groups();
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
