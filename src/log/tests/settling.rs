//! A transaction that begins while the last one of its producer still has work to do, and is
//! killed or meets a failing disk. It must take effect as a whole or not at all.

use std::io;
use std::mem;

use crate::clock::{ManualClock, Timestamp};
use crate::config::TopicConfig;
use crate::log::Log;
use crate::partition::{Isolation, Partition, ReadOptions};
use crate::producer::ProducerConfig;
use crate::storage::SimulatedDisk;

fn open(disk: &SimulatedDisk) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let builder = Log::builder("data").storage(disk.clone()).clock(clock);
    builder.open().unwrap()
}

fn partition(log: &Log, topic: &str) -> Partition {
    log.topic(topic).unwrap().partition(0).unwrap()
}

fn visible(log: &Log, topic: &str) -> Vec<String> {
    let options = ReadOptions::new().isolation(Isolation::ReadCommitted);
    let mut reader = partition(log, topic).read_with(.., options).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        found.push(record.text().into_owned());
    }
    found
}

/// Returns whether the topics `t` and `u` show the record of the second transaction.
fn shown(log: &Log) -> (bool, bool) {
    let has = |topic: &str| visible(log, topic).contains(&topic.to_owned());
    (has("t"), has("u"))
}

/// Commits a transaction in `t`, makes the change, and kills the process during the commit of a
/// second transaction in `t` and `u`, at every call.
fn kill_after(is_before: bool, change: fn(&Log)) {
    for call in 0.. {
        let disk = SimulatedDisk::new(1);
        let log = open(&disk);
        log.create_topic("t", 1, TopicConfig::new()).unwrap();
        let u = log.create_topic("u", 1, TopicConfig::new()).unwrap();
        let mut producer = log.transactional_producer("id").unwrap();
        let mut first = producer.begin().unwrap();
        first.send(&log.topic("t").unwrap(), "a").unwrap();
        first.send(&log.topic("t").unwrap(), "b").unwrap();
        first.commit().unwrap();
        if is_before {
            change(&log);
        }
        let mut second = producer.begin().unwrap();
        if !is_before {
            change(&log);
        }
        second.send(&log.topic("t").unwrap(), "t").unwrap();
        second.send(&u, "u").unwrap();
        let at = disk.calls() + call;
        disk.fail_calls_from(at, io::Error::other("killed"));
        let committed = second.commit();
        if disk.calls() <= at {
            committed.unwrap();
            assert!(call > 2);
            return;
        }
        let left = disk.process_killed();
        left.heal();
        let log = open(&left);
        let (t, u) = shown(&log);
        assert_eq!(t, u, "call {call}: {committed:?}");
    }
}

#[test]
fn commit_after_a_topic_was_created_again_is_whole_after_a_kill() {
    for is_before in [false, true] {
        kill_after(is_before, |log| {
            log.delete_topic("t").unwrap();
            log.create_topic("t", 1, TopicConfig::new()).unwrap();
        });
    }
}

#[test]
fn commit_after_a_cut_is_whole_after_a_kill() {
    for is_before in [false, true] {
        kill_after(is_before, |log| partition(log, "t").truncate_to(0).unwrap());
    }
}

#[test]
fn commit_after_a_restart_is_whole_after_a_kill() {
    for is_before in [false, true] {
        kill_after(is_before, |log| partition(log, "t").restart_at(0).unwrap());
    }
}

/// Both commits have the same partitions and the same time.
#[test]
fn lost_commit_point_is_not_mistaken_for_that_of_the_last_commit() {
    for call in 0.. {
        for later in 0..60 {
            let disk = SimulatedDisk::new(1);
            let log = open(&disk);
            let t = log.create_topic("t", 1, TopicConfig::new()).unwrap();
            let u = log.create_topic("u", 1, TopicConfig::new()).unwrap();
            let mut producer = log.transactional_producer("id").unwrap();
            let mut first = producer.begin().unwrap();
            first.send(&t, "a").unwrap();
            first.send(&u, "a").unwrap();
            first.commit().unwrap();
            let mut second = producer.begin().unwrap();
            second.send(&t, "t").unwrap();
            second.send(&u, "u").unwrap();
            let at = disk.calls() + call;
            disk.fail_calls_from(at, io::Error::other("failed"));
            let committed = second.commit();
            if disk.calls() <= at {
                return;
            }
            disk.heal();
            for core in log.core().catalog.partitions() {
                let topic = log.topic(&core.id().topic).unwrap();
                let _may_fail = topic.partition(core.id().partition).unwrap().reopen();
            }
            disk.fail_calls_from(disk.calls() + later, io::Error::other("killed"));
            let is_taken = log.transactional_producer("id").is_ok();
            let left = disk.process_killed();
            left.heal();
            let log = open(&left);
            let (t, u) = shown(&log);
            assert_eq!(t, u, "call {call}, {later} later: {committed:?}");
            if is_taken {
                break;
            }
        }
    }
}

/// A sync that fails loses the marker of the first transaction, and there is no room to write it
/// again until the second one was committed.
#[test]
fn marker_without_room_is_not_forgotten() {
    let mut held_back = 0;
    for second_topic in ["t", "u"] {
        for seed in 0..20 {
            for later in 0.. {
                let disk = SimulatedDisk::new(seed);
                let log = open(&disk);
                let t = log.create_topic("t", 1, TopicConfig::new()).unwrap();
                log.create_topic("u", 1, TopicConfig::new()).unwrap();
                let mut producer = log.transactional_producer("id").unwrap();
                let mut first = producer.begin().unwrap();
                first.send(&t, "a").unwrap();
                first.commit().unwrap();
                let mut second = producer.begin().unwrap();
                second.send(&log.topic(second_topic).unwrap(), "b").unwrap();
                let partition = t.partition(0).unwrap();
                disk.fail_call(disk.calls(), io::Error::other("sync"));
                if partition.flush().is_ok() {
                    break;
                }
                let at = disk.calls() + later;
                disk.fail_call(at, io::ErrorKind::StorageFull.into());
                let reopened = partition.reopen();
                if disk.calls() <= at {
                    break;
                }
                if reopened.is_err() || log.open_transactions().unwrap().is_empty() {
                    continue;
                }
                held_back += 1;
                let committed = second.commit();
                partition.reopen().unwrap();
                log.maintain().unwrap();
                let case = format!("{second_topic}, seed {seed}, {later}: {committed:?}");
                assert!(log.open_transactions().unwrap().is_empty(), "{case}");
                let log = open(&disk.process_killed());
                assert!(visible(&log, "t").contains(&"a".to_owned()), "{case}");
            }
        }
    }
    assert!(held_back > 0);
}

#[test]
fn leaked_transaction_is_not_committed_by_the_next_one() {
    let log = open(&SimulatedDisk::new(1));
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut leaked = producer.begin().unwrap();
    leaked.send(&topic, "leaked").unwrap();
    mem::forget(leaked);
    let mut next = producer.begin().unwrap();
    next.send(&topic, "committed").unwrap();
    next.commit().unwrap();
    assert_eq!(visible(&log, "t"), ["committed"]);
}

#[test]
fn abort_in_another_partition_leaves_a_transaction_alone() {
    let log = open(&SimulatedDisk::new(1));
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    log.create_topic("u", 1, TopicConfig::new()).unwrap();
    let small = ProducerConfig::new().buffer_memory(300).batch_size(100);
    let mut producer = log.transactional_producer_with("id", small).unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&topic, "v".repeat(4_000)).unwrap();
    let open = log.open_transactions().unwrap();
    assert_eq!(open.len(), 1);
    let id = open[0].producer_id;
    assert!(!log.abort_transaction(&("u", 0).into(), id).unwrap());
    transaction.commit().unwrap();
}
