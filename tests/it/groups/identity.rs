//! A commit refers to the records that were delivered. It never covers records of a later topic
//! with the same name, or records that replaced truncated ones.

use std::collections::HashSet;
use std::iter;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use annals::{
    Consumer, ConsumerConfig, ConsumerGroup, Error, Log, OffsetAndMetadata, Records, Seek, Topic,
    TopicConfig, TopicPartition,
};

use super::{committed, drain, fill, log_with, of, poll, t};

#[test]
fn a_record_of_a_deleted_topic_is_not_committed_for_the_recreated_topic() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    log.delete_topic("t").unwrap();
    fill(&log.create_topic("t", 1, TopicConfig::new()).unwrap(), 0, 8);
    let last = records.iter().last().unwrap().unwrap();
    for has_polled in [false, true] {
        assert!(
            matches!(consumer.commit_record(&last), Err(Error::UnknownTopic(_))),
            "has polled the new topic: {has_polled}"
        );
        assert_eq!(committed(&group, &t(0)), None);
        // This poll assigns the partition of the new topic.
        consumer.poll(Duration::ZERO).unwrap();
    }
    consumer.seek_all(Seek::Earliest).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 0..8));
}

#[test]
fn committing_a_truncated_record_commits_the_offset_of_the_cut() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    topic.partition(0).unwrap().truncate_to(3).unwrap();
    fill(&topic, 0, 5);
    let last = records.iter().last().unwrap().unwrap();
    consumer.commit_record(&last).unwrap();
    assert_eq!(committed(&group, &t(0)), Some(3));
    assert_eq!(poll(&mut consumer), of(0, 3..8));
    consumer.commit_record(&last).unwrap();
    assert_eq!(
        committed(&group, &t(0)),
        Some(3),
        "the same after a poll that has seen the cut"
    );
    consumer
        .commit_record(&records.iter().next().unwrap().unwrap())
        .unwrap();
    assert_eq!(
        committed(&group, &t(0)),
        Some(1),
        "a record below the cut still exists"
    );
}

#[test]
fn an_offset_from_before_a_cut_is_committed_as_the_offset_of_the_cut() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 6);
    fill(&topic, 1, 6);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    drain(&mut consumer);
    topic.partition(0).unwrap().truncate_to(3).unwrap();
    fill(&topic, 0, 5);
    let note = OffsetAndMetadata {
        offset: 6,
        metadata: "six".into(),
    };
    consumer
        .commit_offsets([(t(0), note.clone()), (t(1), note.clone())])
        .unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap(),
        Some(OffsetAndMetadata {
            offset: 3,
            metadata: "six".into()
        })
    );
    assert_eq!(group.committed(&t(1)).unwrap(), Some(note));
    assert_eq!(drain(&mut consumer), of(0, 3..8));
    consumer.commit_offsets([(t(0), 6.into())]).unwrap();
    assert_eq!(
        committed(&group, &t(0)),
        Some(6),
        "after a poll the offset refers to the log after the cut"
    );
}

/// Creates a log with six records in `t`, and a member of `g` that has read and committed all of
/// them.
fn member_at_the_end() -> (Log, Topic, ConsumerGroup, Consumer) {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    drain(&mut consumer);
    consumer.commit().unwrap();
    (log, topic, group, consumer)
}

#[test]
fn a_commit_is_stored_when_new_records_reach_the_old_end_after_a_cut() {
    for seeks_to_the_cut in [false, true] {
        let (_log, topic, group, mut consumer) = member_at_the_end();
        topic.partition(0).unwrap().truncate_to(3).unwrap();
        fill(&topic, 0, 3);
        if seeks_to_the_cut {
            consumer.seek(&t(0), 3).unwrap();
        }
        assert_eq!(drain(&mut consumer), of(0, 3..6));
        consumer.commit().unwrap();
        assert_eq!(committed(&group, &t(0)), Some(6));
    }
}

#[test]
fn a_commit_is_stored_again_after_the_offset_store_was_truncated() {
    let (log, _topic, group, mut consumer) = member_at_the_end();
    log.topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap()
        .truncate_to(0)
        .unwrap();
    assert_eq!(committed(&group, &t(0)), None);
    consumer.commit().unwrap();
    assert_eq!(committed(&group, &t(0)), Some(6));
}

#[test]
fn a_refused_truncation_does_not_lower_a_position() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 6);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 5.into())]).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.delete_records_before(4).unwrap();
    assert!(matches!(
        partition.truncate_to(2),
        Err(Error::OffsetOutOfRange { .. })
    ));
    assert_eq!(committed(&group, &t(0)), Some(5));
    log.delete_topic("t").unwrap();
    fill(&log.create_topic("t", 1, TopicConfig::new()).unwrap(), 0, 6);
    group.commit([(t(0), 5.into())]).unwrap();
    assert!(
        matches!(partition.truncate_to(5), Err(Error::UnknownTopic(_))),
        "the handle belongs to the old topic"
    );
    assert_eq!(committed(&group, &t(0)), Some(5));
}

/// Appends `count` records with values that are unique in the test, each in its own batch.
fn append_new(log: &Log, number: u32, count: u64, made: &AtomicU64) {
    let Ok(partition) = log.topic("t").and_then(|topic| topic.partition(number)) else {
        return;
    };
    for _ in 0..count {
        partition
            .append(made.fetch_add(1, Ordering::SeqCst).to_string())
            .unwrap();
    }
}

/// Polls, and commits in every way, including records of much earlier polls. Each delivered value
/// is in `given` before the member can commit it.
fn consume(log: &Log, given: &Mutex<HashSet<String>>, stop: &AtomicBool, seed: u64) {
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", ConsumerConfig::new().max_poll_records(7))
        .unwrap();
    let mut old = Vec::new();
    let mut steps = seed;
    while !stop.load(Ordering::SeqCst) {
        let records = match consumer.poll(Duration::from_millis(1)) {
            Ok(records) => records,
            // The poll read files of a topic that is being deleted.
            Err(Error::Io { .. }) => continue,
            Err(error) => panic!("poll: {error}"),
        };
        given.lock().unwrap().extend(
            records
                .iter()
                .map(|record| record.unwrap().text().into_owned()),
        );
        steps = steps
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let kept: &Records = old
            .get(usize::try_from(steps >> 40).unwrap() % (old.len() + 1))
            .unwrap_or(&records);
        let committed = match steps >> 33 & 3 {
            0 => consumer.commit(),
            1 => kept
                .iter()
                .last()
                .map_or(Ok(()), |record| consumer.commit_record(&record.unwrap())),
            2 => {
                let positions = records.partitions().iter();
                let next = positions.map(|id| {
                    (
                        id.clone(),
                        records.of(id).last().unwrap().unwrap().offset() + 1,
                    )
                });
                consumer
                    .commit_offsets(next.map(|(id, next)| (id, next.into())).collect::<Vec<_>>())
            }
            _ => Ok(()),
        };
        assert!(
            matches!(
                committed,
                Ok(()) | Err(Error::UnknownTopic(_) | Error::MemberFenced { .. })
            ),
            "{committed:?}"
        );
        if old.len() < 50 && !records.is_empty() {
            old.push(records);
        }
    }
}

/// Asserts that every record below a committed position was delivered. The caller must be the only
/// thread that truncates and deletes.
fn check_positions(log: &Log, given: &Mutex<HashSet<String>>) {
    let group = log.consumer_group("g").unwrap();
    for partition in log.topic("t").unwrap().partitions() {
        let position = committed(&group, partition.id()).unwrap_or(0);
        let given = given.lock().unwrap();
        for batch in partition.read(..position).unwrap() {
            for record in &batch.unwrap() {
                let record = record.unwrap();
                let (offset, id) = (record.offset(), partition.id());
                assert!(
                    given.contains(&*record.text()),
                    "offset {offset} of {id} was never delivered, and {position} is committed"
                );
            }
        }
    }
}

#[test]
fn positions_skip_no_record_while_the_topic_is_truncated_and_recreated() {
    let (log, _topic) = log_with(2);
    let (given, stop, made) = (
        Mutex::new(HashSet::new()),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    let (log, given, stop, made) = (&log, &given, &stop, &made);
    thread::scope(|scope| {
        for seed in 1..=2 {
            scope.spawn(move || consume(log, given, stop, seed));
        }
        for round in 0..300_u64 {
            let number = u32::try_from(round % 2).unwrap();
            append_new(log, number, 3 + round % 5, made);
            if round % 7 == 0 {
                log.delete_topic("t").unwrap();
                log.create_topic("t", 2, TopicConfig::new()).unwrap();
            } else if round % 3 == 0 {
                let partition = log.topic("t").unwrap().partition(number).unwrap();
                partition
                    .truncate_to(partition.log_end_offset() * (round % 4) / 4)
                    .unwrap();
            } else if round % 11 == 0 {
                log.topic("t")
                    .unwrap()
                    .partition(number)
                    .unwrap()
                    .reopen()
                    .unwrap();
            }
            append_new(log, number, 5, made);
            check_positions(log, given);
            thread::sleep(Duration::from_micros(300 * (round % 3)));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let given = given.lock().unwrap();
    assert!(
        given.len() > 200,
        "the members received only {} records",
        given.len()
    );
}

/// Returns positions to commit. After the first one is taken, the topic is truncated or recreated.
fn positions_with(
    log: &Log,
    is_cut: bool,
) -> impl Iterator<Item = (TopicPartition, OffsetAndMetadata)> {
    let change = move || {
        if is_cut {
            log.topic("t")
                .unwrap()
                .partition(0)
                .unwrap()
                .truncate_to(3)
                .unwrap();
        } else {
            log.delete_topic("t").unwrap();
            log.create_topic("t", 2, TopicConfig::new()).unwrap();
        }
        fill(&log.topic("t").unwrap(), 0, 8);
        (t(1), 0.into())
    };
    iter::once((t(0), 6.into())).chain(iter::once_with(change))
}

#[test]
fn a_position_refers_to_the_topic_that_existed_when_it_was_taken() {
    for has_member in [false, true] {
        for is_cut in [false, true] {
            let (log, topic) = log_with(2);
            fill(&topic, 0, 6);
            let group = log.consumer_group("g").unwrap();
            let member = has_member.then(|| group.join("t").unwrap());
            let stored = match member {
                Some(mut member) => member.commit_offsets(positions_with(&log, is_cut)),
                None => group.commit(positions_with(&log, is_cut)),
            };
            if is_cut {
                stored.unwrap();
                assert_eq!(committed(&group, &t(0)), Some(3));
                assert_eq!(committed(&group, &t(1)), Some(0));
            } else {
                assert!(matches!(stored, Err(Error::UnknownTopic(_))), "{stored:?}");
                assert_eq!(committed(&group, &t(0)), None);
                assert_eq!(committed(&group, &t(1)), None);
            }
        }
    }
}
