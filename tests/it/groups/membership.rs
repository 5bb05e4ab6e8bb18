//! Members of a group: how they share partitions, release them and take them over.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annals::{
    Assign, Assignor, Consumer, ConsumerConfig, Error, GroupSpec, Rebalance, TopicConfig,
    TopicPartition,
};

use super::{SOON, drain, fill, log_with, of, offsets, poll, poll_while, t};

fn pause_all(consumer: &mut Consumer) {
    let assigned = consumer.assignment().to_vec();
    consumer.pause(&assigned).unwrap();
}

/// Polls with all members until no poll reports a rebalance. Returns the partitions that each
/// member then owns.
fn settle<const N: usize>(members: [&mut Consumer; N]) -> [Vec<u32>; N] {
    let mut members = members;
    for consumer in &mut members {
        pause_all(consumer);
    }
    loop {
        let mut is_quiet = true;
        for consumer in &mut members {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!(
                records.is_empty() || records.rebalance().is_empty(),
                "a poll that reports a rebalance must not return records"
            );
            is_quiet &= records.rebalance().is_empty();
            pause_all(consumer);
        }
        if is_quiet {
            break;
        }
    }
    members.map(|consumer| {
        let assigned = consumer.assignment().to_vec();
        consumer.resume(&assigned).unwrap();
        assigned
            .iter()
            .map(|partition| partition.partition)
            .collect()
    })
}

#[test]
fn a_partition_moves_only_after_its_owner_has_released_it() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 2);
    fill(&topic, 1, 4);
    let group = log.consumer_group("g").unwrap();
    let mut one = group
        .join_with("t", ConsumerConfig::new().max_poll_records(4))
        .unwrap();
    let polled = one.poll(Duration::ZERO).unwrap();
    assert_eq!(offsets(&polled), [of(0, 0..2), of(1, 0..2)].concat());

    let mut other = group.join("t").unwrap();
    assert!(other.assignment().is_empty());
    assert!(poll(&mut other).is_empty(), "the new member waits");
    let records = one.poll(Duration::ZERO).unwrap();
    assert_eq!(records.rebalance(), [Rebalance::Revoking(vec![t(1)])]);
    assert!(records.is_empty());
    assert_eq!(
        one.assignment(),
        [t(0), t(1)],
        "the owner keeps the partition until its next poll"
    );
    assert_eq!(poll(&mut other), []);
    assert_eq!(other.assignment(), []);
    one.commit().unwrap();

    assert_eq!(
        poll(&mut one),
        [],
        "this poll releases the partition, and the other one has no records"
    );
    assert_eq!(one.assignment(), [t(0)]);
    let records = other.poll(Duration::ZERO).unwrap();
    assert_eq!(records.rebalance(), [Rebalance::Assigned(vec![t(1)])]);
    assert_eq!(
        drain(&mut other),
        of(1, 2..4),
        "the new owner starts at the committed position"
    );

    let late = polled.of(&t(1)).next().unwrap().unwrap();
    assert!(
        matches!(one.commit_record(&late), Err(Error::MemberFenced { group, .. }) if &*group == "g"),
        "another member owns the partition now"
    );
    assert!(matches!(one.position(&t(1)), Err(Error::NotAssigned(_))));
    one.commit().unwrap();

    other.close().unwrap();
    let records = one.poll(Duration::ZERO).unwrap();
    assert_eq!(
        records.rebalance(),
        [Rebalance::Assigned(vec![t(1)])],
        "a closed member releases its partitions immediately"
    );
    assert_eq!(
        drain(&mut one),
        of(1, 2..4),
        "the closed member did not commit"
    );
}

#[test]
fn a_rebalance_ends_the_poll_of_a_waiting_member() {
    let (log, topic) = log_with(2);
    let group = log.consumer_group("g").unwrap();
    let mut one = group.join("t").unwrap();
    let (records, mut other) = poll_while(&mut one, || group.join("t").unwrap());
    assert_eq!(records.rebalance(), [Rebalance::Revoking(vec![t(1)])]);
    let (records, ()) = poll_while(&mut other, || assert!(poll(&mut one).is_empty()));
    assert_eq!(records.rebalance(), [Rebalance::Assigned(vec![t(1)])]);
    let (records, ()) = poll_while(&mut one, || drop(other));
    assert_eq!(records.rebalance(), [Rebalance::Assigned(vec![t(1)])]);
    fill(&topic, 1, 1);
    assert_eq!(poll(&mut one), of(1, [0]));
}

#[test]
fn the_range_assignor_shares_partitions_as_kafka_does() {
    let (log, _topic) = log_with(10);
    let group = log.consumer_group("g").unwrap();
    let [mut a, mut b, mut c] = [0; 3].map(|_| {
        group
            .join_with("t", ConsumerConfig::new().assignor(Assignor::Range))
            .unwrap()
    });
    let shares = settle([&mut a, &mut b, &mut c]);
    assert_eq!(shares, [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]]);
    drop(b);
    assert_eq!(
        settle([&mut a, &mut c]),
        [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9]]
    );
}

#[test]
fn the_partitions_of_a_member_that_panics_move_to_the_others() {
    let (log, topic) = log_with(6);
    for number in 0..6 {
        fill(&topic, number, 10);
    }
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new()
        .max_poll_records(3)
        .assignor(Assignor::Range);
    let [mut a, mut b, mut c] = [0; 3].map(|_| group.join_with("t", config.clone()).unwrap());
    assert_eq!(
        settle([&mut a, &mut b, &mut c]),
        [vec![0, 1], vec![2, 3], vec![4, 5]]
    );

    let mut done: Vec<(u32, u64)> = Vec::new();
    let mut work = |consumer: &mut Consumer, polls: usize| {
        for _ in 0..polls {
            for record in &consumer.poll(Duration::ZERO).unwrap() {
                let record = record.unwrap();
                consumer.commit_record(&record).unwrap();
                done.push((record.partition(), record.offset()));
            }
        }
    };
    work(&mut a, 2);
    work(&mut b, 2);
    let panicked = thread::spawn(move || {
        let polled = c.poll(Duration::ZERO).unwrap();
        assert!(polled.is_empty(), "a worker's bug");
    });
    assert!(panicked.join().is_err(), "the worker did not panic");
    a.close().unwrap();
    let mut polls = 0;
    while group
        .committed(&t(5))
        .unwrap()
        .is_none_or(|next| next.offset < 10)
        || b.lag() != Some(0)
    {
        work(&mut b, 1);
        polls += 1;
        assert!(polls < 100);
    }
    assert_eq!(b.assignment().len(), 6);
    let once: BTreeSet<(u32, u64)> = done.iter().copied().collect();
    assert_eq!(
        once.len(),
        done.len(),
        "no record is read again after its commit"
    );
    assert_eq!(once.len(), 60, "every record is read");
}

#[test]
fn dropping_a_consumer_while_panicking_commits_nothing() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 3);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let caught = catch_unwind(AssertUnwindSafe(move || {
        assert_eq!(poll(&mut consumer).len(), 3);
        let _held = consumer;
        resume_unwind(Box::new("a worker's bug"));
    }));
    assert!(caught.is_err());
    assert_eq!(group.committed(&t(0)).unwrap(), None);
    assert_eq!(drain(&mut group.join("t").unwrap()), of(0, 0..3));
}

#[test]
fn a_member_that_stays_away_too_long_is_fenced() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 3);
    fill(&topic, 1, 3);
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new().assignor(Assignor::Range);
    let mut slow = group
        .join_with(
            "t",
            config.clone().max_poll_interval(Duration::from_millis(20)),
        )
        .unwrap();
    let polled = slow.poll(Duration::ZERO).unwrap();
    let mut other = group.join_with("t", config).unwrap();
    // No event wakes this poll. It must notice by itself that the slow member is overdue.
    let (records, ()) = poll_while(&mut other, || ());
    assert_eq!(records.rebalance(), [Rebalance::Assigned(vec![t(0), t(1)])]);
    assert_eq!(offsets(&other.poll(SOON).unwrap()).len(), 6);

    let first = polled.iter().next().unwrap().unwrap();
    assert!(matches!(
        slow.commit_record(&first),
        Err(Error::MemberFenced { .. })
    ));
    assert!(matches!(slow.commit(), Err(Error::MemberFenced { .. })));
    assert_eq!(group.committed(&t(0)).unwrap(), None);
    let records = slow.poll(Duration::ZERO).unwrap();
    assert_eq!(
        records.rebalance(),
        [Rebalance::Lost(vec![t(0), t(1)])],
        "the poll of a fenced member joins again"
    );
    assert!(slow.assignment().is_empty());
    slow.commit().unwrap();

    other.commit().unwrap();
    assert_eq!(
        other.poll(Duration::ZERO).unwrap().rebalance(),
        [Rebalance::Revoking(vec![t(0)])]
    );
    assert!(poll(&mut other).is_empty());
    assert_eq!(
        slow.poll(SOON).unwrap().rebalance(),
        [Rebalance::Assigned(vec![t(0)])],
        "the member keeps its place in the order of members"
    );
    assert!(
        poll(&mut slow).is_empty(),
        "the other member has committed all records"
    );
}

#[test]
fn a_member_that_waits_in_a_poll_is_not_fenced() {
    let (log, topic) = log_with(2);
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new().max_poll_interval(Duration::from_millis(10));
    let mut one = group.join_with("t", config.clone()).unwrap();
    assert!(one.poll(Duration::from_millis(60)).unwrap().is_empty());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| one.poll(SOON).unwrap());
        thread::sleep(Duration::from_millis(40));
        let mut other = group.join("t").unwrap();
        assert_eq!(
            waiting.join().unwrap().rebalance(),
            [Rebalance::Revoking(vec![t(1)])]
        );
        drop(other.poll(Duration::ZERO).unwrap());
    });
    fill(&topic, 0, 1);
    drop(poll(&mut one));
}

#[test]
fn new_partitions_and_topics_are_assigned() {
    let (log, topic) = log_with(1);
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join(["t", "later"])
        .unwrap();
    assert_eq!(consumer.assignment(), [t(0)]);
    topic.increase_partitions_to(3).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.rebalance(), [Rebalance::Assigned(vec![t(1), t(2)])]);
    let (records, ()) = poll_while(&mut consumer, || {
        let later = log.open_topic("later", 1, TopicConfig::new()).unwrap();
        fill(&later, 0, 1);
    });
    assert_eq!(
        records.rebalance(),
        [Rebalance::Assigned(vec![("later", 0).into()])]
    );
    assert_eq!(poll(&mut consumer), of(0, [0]));
    assert_eq!(consumer.assignment().len(), 4);
}

#[test]
fn deleting_a_topic_takes_its_partitions_from_the_members() {
    let (log, topic) = log_with(1);
    let other = log.open_topic("u", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 3);
    let mut consumer = log.consumer_group("g").unwrap().join(["t", "u"]).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let (change, ()) = poll_while(&mut consumer, || log.delete_topic("t").unwrap());
    assert_eq!(change.rebalance(), [Rebalance::Lost(vec![t(0)])]);
    assert_eq!(consumer.assignment(), [("u", 0).into()]);
    assert_eq!(
        offsets(&records),
        of(0, 0..3),
        "records that were already returned stay readable"
    );
    fill(&other, 0, 1);
    assert_eq!(poll(&mut consumer), of(0, [0]));
}

#[test]
fn a_pause_ends_with_a_revocation() {
    let (log, topic) = log_with(2);
    fill(&topic, 1, 1);
    let group = log.consumer_group("g").unwrap();
    let mut one = group.join("t").unwrap();
    one.pause(&[t(1)]).unwrap();
    let mut other = group.join("t").unwrap();
    assert_eq!(settle([&mut one, &mut other]), [vec![0], vec![1]]);
    drop(other);
    assert_eq!(
        one.poll(Duration::ZERO).unwrap().rebalance(),
        [Rebalance::Assigned(vec![t(1)])]
    );
    assert_eq!(poll(&mut one), of(1, [0]));
}

#[test]
fn a_member_without_partitions_takes_over_when_the_owner_leaves() {
    let (log, topic) = log_with(1);
    let group = log.consumer_group("g").unwrap();
    let mut owner = group.join("t").unwrap();
    let mut idle = group.join("t").unwrap();
    fill(&topic, 0, 1);
    assert_eq!(poll(&mut owner), of(0, [0]));
    assert_eq!(poll(&mut idle), []);
    assert_eq!(idle.assignment(), []);
    idle.commit().unwrap();
    assert_eq!(idle.lag(), Some(0));
    drop(owner);
    assert_eq!(drain(&mut idle), of(0, [0]));
}

/// An assignor that assigns all partitions to the member that joined last.
#[derive(Debug)]
struct LastTakesAll;

impl Assign for LastTakesAll {
    fn name(&self) -> &'static str {
        "last takes all"
    }

    fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
        let mut shares = vec![Vec::new(); group.members().len()];
        if let Some(last) = shares.last_mut() {
            last.extend(group.partitions());
        }
        shares
    }
}

#[test]
fn a_custom_assignor_decides_the_shares() {
    let (log, topic) = log_with(3);
    let group = log.consumer_group("g").unwrap();
    let config = || ConsumerConfig::new().assignor(Assignor::Custom(Arc::new(LastTakesAll)));
    let mut first = group.join_with("t", config()).unwrap();
    assert_eq!(first.assignment().len(), 3);
    let mut last = group.join_with("t", config()).unwrap();
    assert_eq!(group.describe().unwrap().assignor, "last takes all");
    // The first poll announces the revocation and the second one releases the partitions.
    assert_eq!(poll(&mut first), []);
    assert_eq!(poll(&mut first), []);
    assert_eq!(poll(&mut last), []);
    fill(&topic, 1, 2);
    assert_eq!(poll(&mut first), []);
    assert_eq!(drain(&mut last), of(1, 0..2));
    drop(last);
    assert_eq!(
        drain(&mut first),
        of(1, 0..2),
        "the last member did not commit them"
    );
}
