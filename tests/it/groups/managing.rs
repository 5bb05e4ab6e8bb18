//! Administration of groups, and the options of members: patterns, static membership, assignment
//! without a group.

use std::time::Duration;

use annals::{
    Assignor, Consumer, ConsumerConfig, ConsumerGroup, Error, GroupState, Log, LogConfig,
    ManualClock, MemoryDisk, OffsetReset, Rebalance, Seek, Subscription, Timestamp, TopicConfig,
    TopicPartition,
};

use super::{drain, fill, log_with, of, poll, poll_while, t};

/// Creates a log with five records in each of two partitions, and a member of `g` that has read all
/// of them. The group has committed offset 3 in partition 0.
fn group_with_a_member() -> (Log, ConsumerGroup, Consumer) {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 5);
    fill(&topic, 1, 5);
    let group = log.consumer_group("g").unwrap();
    let mut member = group
        .join_with("t", ConsumerConfig::new().assignor(Assignor::Range))
        .unwrap();
    assert_eq!(drain(&mut member).len(), 10);
    member.commit_offsets([(t(0), 3.into())]).unwrap();
    (log, group, member)
}

#[test]
fn a_group_without_members_and_positions_is_empty_and_cannot_be_deleted() {
    let (log, _topic) = log_with(2);
    let group = log.consumer_group("g").unwrap();
    assert_eq!(group.describe().unwrap().state, GroupState::Empty);
    assert!(matches!(group.delete(), Err(Error::UnknownGroup(name)) if &*name == "g"));
    assert!(
        matches!(group.delete_offsets([t(0)]), Err(Error::UnknownGroup(name)) if &*name == "g")
    );
}

#[test]
fn a_group_is_described_with_its_members_and_lags() {
    let (_log, group, _member) = group_with_a_member();
    let description = group.describe().unwrap();
    assert_eq!(description.state, GroupState::Stable);
    assert_eq!(description.assignor, "range");
    assert_eq!(description.members[0].assignment, [t(0), t(1)]);
    let lags: Vec<Option<u64>> = description
        .positions
        .iter()
        .map(|position| position.lag)
        .collect();
    assert_eq!(lags, [Some(2), None]);
    assert_eq!(
        description.positions[1].member.as_ref(),
        Some(&description.members[0].member)
    );
}

#[test]
fn a_group_with_members_refuses_resets_and_deletions() {
    let (_log, group, _member) = group_with_a_member();
    assert!(matches!(
        group.reset([t(0)], Seek::Earliest),
        Err(Error::NonEmptyGroup { .. })
    ));
    assert!(matches!(group.delete(), Err(Error::NonEmptyGroup { .. })));
    assert!(matches!(
        group.delete_offsets([t(0)]),
        Err(Error::GroupSubscribed { .. })
    ));
    group.delete_offsets([("u", 0).into()]).unwrap();
}

#[test]
fn a_reset_plan_resolves_each_kind_of_seek_and_changes_no_position() {
    let (_log, group, member) = group_with_a_member();
    member.close().unwrap();
    for (to, expected) in [
        (Seek::Earliest, 0),
        (Seek::Latest, 5),
        (Seek::Committed, 3),
        (Seek::Offset(99), 5),
        (Seek::ShiftBy(-9), 0),
        (Seek::ShiftBy(1), 4),
        (Seek::ShiftBy(9), 5),
        (Seek::Timestamp(Timestamp::from_millis(0)), 0),
        (Seek::Ago(Duration::from_secs(3600)), 0),
    ] {
        let plan = group.reset_plan([t(0)], to).unwrap();
        assert_eq!(plan, [(t(0), expected)], "{to:?}");
    }
    assert_eq!(group.committed(&t(0)).unwrap(), Some(3.into()));
}

#[test]
fn a_group_without_members_is_reset_and_deleted() {
    let (log, group, member) = group_with_a_member();
    member.close().unwrap();
    assert!(matches!(
        group.reset([t(1)], Seek::ShiftBy(1)),
        Err(Error::NoOffset(_))
    ));
    assert_eq!(
        group.reset([t(0), t(1)], Seek::Latest).unwrap(),
        [(t(0), 5), (t(1), 5)]
    );
    group.delete_offsets([t(1)]).unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), Some(5.into()));
    assert_eq!(group.committed(&t(1)).unwrap(), None);
    group.delete().unwrap();
    assert!(log.consumer_groups().unwrap().is_empty());
}

#[test]
fn positions_of_an_overdue_member_can_be_deleted() {
    let (log, _topic) = log_with(1);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 0.into())]).unwrap();
    let _overdue = group
        .join_with("t", ConsumerConfig::new().max_poll_interval(Duration::ZERO))
        .unwrap();
    group.delete_offsets([t(0)]).unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), None);
}

#[test]
fn a_pattern_follows_topics_that_are_created_and_deleted() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 1);
    log.open_topic("other", 1, TopicConfig::new()).unwrap();
    let mut member = log
        .consumer_group("g")
        .unwrap()
        .join(Subscription::pattern("t.*").unwrap())
        .unwrap();
    assert_eq!(member.assignment(), [t(0)]);
    log.open_topic("t2", 1, TopicConfig::new()).unwrap();
    assert_eq!(
        member.poll(Duration::ZERO).unwrap().rebalance(),
        [Rebalance::Assigned(vec![("t2", 0).into()])]
    );
    log.delete_topic("t").unwrap();
    assert_eq!(
        member.poll(Duration::ZERO).unwrap().rebalance(),
        [Rebalance::Lost(vec![t(0)])]
    );
}

#[test]
fn a_static_member_that_rejoins_gets_its_partitions_back() {
    let (log, _topic) = log_with(4);
    let group = log.consumer_group("g").unwrap();
    let named_for = |timeout| {
        ConsumerConfig::new()
            .group_instance_id("one")
            .session_timeout(timeout)
    };
    let hour = Duration::from_secs(3600);
    let first = group.join_with("t", named_for(hour)).unwrap();
    assert!(matches!(
        group.join_with("t", named_for(hour)),
        Err(Error::InstanceInUse { .. })
    ));
    first.close().unwrap();
    assert_eq!(
        group.join("t").unwrap().assignment().len(),
        2,
        "two partitions stay reserved for the static member"
    );
    assert_eq!(
        group
            .join_with("t", named_for(Duration::ZERO))
            .unwrap()
            .assignment()
            .len(),
        4
    );
    assert_eq!(
        group.join("t").unwrap().assignment().len(),
        4,
        "a session timeout of zero reserves no partitions"
    );
}

#[test]
fn a_full_group_refuses_another_member() {
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .config(LogConfig::new().group_max_size(1))
        .open()
        .unwrap();
    let group = log.consumer_group("g").unwrap();
    let _first = group.join("t").unwrap();
    assert!(matches!(
        group.join("t"),
        Err(Error::GroupFull { limit: 1, .. })
    ));
}

#[test]
fn partitions_of_a_static_member_that_stays_away_go_to_the_waiting_members() {
    let (log, topic) = log_with(4);
    let group = log.consumer_group("g").unwrap();
    let config = ConsumerConfig::new()
        .group_instance_id("one")
        .session_timeout(Duration::from_millis(20));
    let mut named = group.join_with("t", config).unwrap();
    let mut other = group.join("t").unwrap();
    // The first poll announces the revocation and the second one releases the partitions.
    assert_eq!(poll(&mut named), []);
    assert_eq!(poll(&mut named), []);
    assert_eq!(poll(&mut other), []);
    assert_eq!(named.assignment().len(), 2);
    assert_eq!(other.assignment().len(), 2);
    let kept = named.assignment().to_vec();
    let (records, ()) = poll_while(&mut other, || named.close().unwrap());
    assert_eq!(records.rebalance(), [Rebalance::Assigned(kept.clone())]);
    assert_eq!(other.assignment().len(), 4);
    assert_eq!(group.describe().unwrap().members.len(), 1);
    fill(&topic, kept[0].partition, 1);
    assert_eq!(poll(&mut other), of(kept[0].partition, [0]));
}

#[test]
fn positions_of_a_topic_without_a_reader_can_be_deleted_while_the_group_has_members() {
    let (log, _topic) = log_with(1);
    log.open_topic("u", 1, TopicConfig::new()).unwrap();
    let (group, u) = (
        log.consumer_group("g").unwrap(),
        TopicPartition::new("u", 0),
    );
    group
        .commit([(t(0), 0.into()), (u.clone(), 0.into())])
        .unwrap();
    let _member = group.join("t").unwrap();
    let refused = group.delete_offsets([u.clone(), t(0)]);
    assert!(matches!(refused, Err(Error::GroupSubscribed { topic, .. }) if &*topic == "t"));
    assert_eq!(
        group.committed(&u).unwrap(),
        Some(0.into()),
        "the call deletes all of them or none"
    );
    group.delete_offsets([u.clone()]).unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), Some(0.into()));
    assert_eq!(group.committed(&u).unwrap(), None);
}

#[test]
fn a_consumer_without_a_group_reads_but_cannot_commit() {
    let (log, topic) = log_with(2);
    fill(&topic, 1, 3);
    let mut consumer = log.assign([t(1)]).unwrap();
    assert_eq!(drain(&mut consumer), of(1, 0..3));
    assert!(matches!(consumer.commit(), Err(Error::NoGroup)));
    assert!(matches!(consumer.committed(&t(1)), Err(Error::NoGroup)));
    consumer.seek_all(1).unwrap();
    assert_eq!(drain(&mut consumer), of(1, 1..3));
    assert!(matches!(
        log.assign([t(7)]),
        Err(Error::UnknownPartition(_))
    ));
}

#[test]
fn old_positions_expire_unless_a_member_reads_the_topic() {
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
    let config = LogConfig::new().offsets_retention(Duration::from_secs(60));
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .clock(clock.clone())
        .config(config)
        .open()
        .unwrap();
    let topic = log
        .open_topic("t", 1, TopicConfig::new().retention(None))
        .unwrap();
    fill(&topic, 0, 2);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 1.into())]).unwrap();
    clock.advance(Duration::from_secs(61));
    let reader = group.join("t").unwrap();
    log.maintain().unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap(),
        Some(1.into()),
        "a member reads the topic"
    );
    drop(reader);
    log.maintain().unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), None);
    fill(&topic, 0, 1);
    let config =
        ConsumerConfig::new().auto_offset_reset(OffsetReset::ByDuration(Duration::from_secs(30)));
    assert_eq!(
        drain(&mut group.join_with("t", config).unwrap()),
        of(0, [2])
    );
}
