//! A partition that cannot be opened is never skipped silently: `poll` reports it, and its lag is
//! unknown.

use std::fs;
use std::time::Duration;

use annals::{ConsumerConfig, Error, Log, OffsetReset, Rebalance, Seek, TopicConfig};

use super::{committed, drain, fill, of, offsets, t};

/// Creates a log with topic `t` of three partitions. The directory of the second one is missing.
/// Group `g` has committed 2 in each.
fn log_without_a_partition() -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 3, TopicConfig::new()).unwrap();
    for number in 0..3 {
        fill(&topic, number, 5);
    }
    log.consumer_group("g")
        .unwrap()
        .commit([0, 1, 2].map(|number| (t(number), 2.into())))
        .unwrap();
    log.close().unwrap();
    fs::remove_dir_all(dir.path().join("t-1")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.topic("t").unwrap().partition(1).is_err());
    (dir, log)
}

#[test]
fn a_poll_returns_the_error_of_an_unopened_partition_once_and_serves_the_others() {
    let (_dir, log) = log_without_a_partition();
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(member.assignment(), [t(0), t(1), t(2)]);
    assert_eq!(member.lag(), None);
    let (mut errors, mut found) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        match member.poll(Duration::ZERO) {
            Ok(records) => found.extend(offsets(&records)),
            Err(error) => errors.push(error),
        }
    }
    found.sort_unstable();
    assert_eq!(found, [of(0, 2..5), of(2, 2..5)].concat());
    assert!(matches!(&*errors, [Error::Io { .. }]), "{errors:?}");
    assert_eq!(
        member.lag(),
        None,
        "the lag stays unknown after the error was returned"
    );
}

#[test]
fn an_unopened_partition_refuses_seeks_and_commits_and_keeps_its_position() {
    let (_dir, log) = log_without_a_partition();
    let group = log.consumer_group("g").unwrap();
    let first = group.join("t").unwrap();
    let mut second = group.join("t").unwrap();
    drop(first);
    let records = second.poll(Duration::ZERO).unwrap();
    assert_eq!(
        records.rebalance(),
        [Rebalance::Assigned(vec![t(0), t(1), t(2)])]
    );
    for to in [
        Seek::Earliest,
        Seek::Latest,
        Seek::Committed,
        Seek::Offset(0),
        Seek::ShiftBy(1),
    ] {
        assert!(
            matches!(second.seek(&t(1), to), Err(Error::Io { .. })),
            "{to:?}"
        );
    }
    assert!(matches!(second.position(&t(1)), Err(Error::Io { .. })));
    assert!(matches!(
        second.commit_offsets([(t(1), 0.into())]),
        Err(Error::Io { .. })
    ));
    while second
        .poll(Duration::ZERO)
        .map_or(true, |records| !records.is_empty())
    {}
    second.commit().unwrap();
    assert_eq!(
        [0, 1, 2].map(|number| committed(&group, &t(number))),
        [5, 2, 5].map(Some),
        "the unopened partition keeps its position"
    );
}

#[test]
fn a_reset_policy_does_not_set_a_position_for_an_unopened_partition() {
    let (_dir, log) = log_without_a_partition();
    let group = log.consumer_group("fresh").unwrap();
    for reset in [
        OffsetReset::Earliest,
        OffsetReset::Latest,
        OffsetReset::ByDuration(Duration::ZERO),
    ] {
        let mut member = group
            .join_with("t", ConsumerConfig::new().auto_offset_reset(reset))
            .unwrap();
        let polls = [member.poll(Duration::ZERO), member.poll(Duration::ZERO)];
        let errors = polls.iter().filter(|polled| polled.is_err()).count();
        assert_eq!(
            errors, 1,
            "exactly one of two polls must report the partition"
        );
        member.commit().unwrap();
        assert_eq!(committed(&group, &t(1)), None, "{reset:?}");
        drop(member);
        group.delete().unwrap();
    }
}

#[test]
fn a_description_covers_every_partition_of_the_topics_with_or_without_a_commit() {
    let (_dir, log) = log_without_a_partition();
    let other = log.create_topic("u", 2, TopicConfig::new()).unwrap();
    fill(&other, 1, 3);
    let group = log.consumer_group("g").unwrap();
    let position_of = |place: usize| group.describe().unwrap().positions[place].clone();
    let opened = position_of(0);
    assert_eq!(opened.log_start, Some(0));
    assert_eq!(opened.log_end, Some(5));
    assert_eq!(opened.lag, Some(3));
    assert!(opened.error.is_none());
    let unopened = position_of(1);
    assert_eq!(unopened.partition, t(1));
    assert_eq!(unopened.committed, Some(2.into()));
    assert_eq!(unopened.log_start, None);
    assert_eq!(unopened.log_end, None);
    assert_eq!(unopened.lag, None);
    assert!(matches!(unopened.error, Some(Error::Io { .. })));
    assert_eq!(group.describe().unwrap().positions.len(), 3);
    assert_eq!(
        group.lag().unwrap(),
        None,
        "the lag of one partition is unknown"
    );

    let _member = group.join("u").unwrap();
    let described = group.describe().unwrap();
    let names: Vec<String> = described
        .positions
        .iter()
        .map(|position| position.partition.to_string())
        .collect();
    assert_eq!(names, ["t-0", "t-1", "t-2", "u-0", "u-1"]);
    assert!(described.positions[4].member.is_some());
    assert!(described.positions[4].lag.is_none());

    let group = log.consumer_group("h").unwrap();
    assert!(group.describe().unwrap().positions.is_empty());
    assert_eq!(group.lag().unwrap(), Some(0), "the group has no topics");
    group.commit([(("u", 0).into(), 0.into())]).unwrap();
    assert_eq!(group.describe().unwrap().positions.len(), 2);
    assert_eq!(
        group.lag().unwrap(),
        None,
        "`u-1` has records and no committed position"
    );
    group.commit([(("u", 1).into(), 1.into())]).unwrap();
    assert_eq!(group.lag().unwrap(), Some(2));
    group.delete_offsets([("u", 0).into()]).unwrap();
    assert_eq!(
        group.lag().unwrap(),
        Some(2),
        "an empty partition has no lag"
    );
}

#[test]
fn missing_topics_lists_subscribed_topics_that_do_not_exist() {
    let log = Log::in_memory();
    fill(&log.create_topic("t", 1, TopicConfig::new()).unwrap(), 0, 1);
    let mut member = log
        .consumer_group("g")
        .unwrap()
        .join(["t", "orders", "ordres"])
        .unwrap();
    assert_eq!(member.missing_topics(), ["orders", "ordres"]);
    log.create_topic("orders", 1, TopicConfig::new()).unwrap();
    assert_eq!(member.missing_topics(), ["ordres"]);
    drain(&mut member);
    log.delete_topic("t").unwrap();
    assert_eq!(member.missing_topics(), ["ordres", "t"]);
    let pattern = annals::Subscription::pattern("x.*").unwrap();
    assert!(
        log.consumer_group("p")
            .unwrap()
            .join(pattern)
            .unwrap()
            .missing_topics()
            .is_empty()
    );
    assert!(
        log.assign([("orders", 0).into()])
            .unwrap()
            .missing_topics()
            .is_empty()
    );
}
