//! Commits: which ones are accepted, what they store, and what survives a restart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use annals::{
    ConsumerConfig, Durability, Error, Log, OffsetAndMetadata, Rebalance, Record, Seek,
    TopicConfig, TopicPartition,
};

use super::{copy_dir, drain, fill, log_with, of, poll, t};

fn committed(log: &Log, group: &str, partition: &TopicPartition) -> Option<u64> {
    super::committed(&log.consumer_group(group).unwrap(), partition)
}

#[test]
fn groups_are_independent() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 3);
    fill(&topic, 1, 2);
    let all = [of(0, 0..3), of(1, 0..2)].concat();
    let mut one = log.consumer_group("one").unwrap().join("t").unwrap();
    let mut other = log.consumer_group("other").unwrap().join("t").unwrap();
    assert_eq!(drain(&mut one), all);
    one.commit().unwrap();
    assert_eq!(drain(&mut other), all);
    assert_eq!(committed(&log, "one", &t(0)), Some(3));
    assert_eq!(committed(&log, "other", &t(0)), None);
    let names: Vec<String> = log
        .consumer_groups()
        .unwrap()
        .iter()
        .map(|group| group.id().to_owned())
        .collect();
    assert_eq!(
        names,
        ["one", "other"],
        "`one` has committed, and `other` has a member"
    );
    drop(other);
    assert_eq!(log.consumer_groups().unwrap().len(), 1);
}

#[test]
fn a_group_resumes_at_its_committed_positions_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    fill(&topic, 0, 4);
    fill(&topic, 1, 1);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    drain(&mut consumer);
    assert!(
        !dir.path().join("__consumer_offsets-0").exists(),
        "a group is on disk only from its first commit"
    );
    consumer.commit().unwrap();
    fill(&topic, 0, 2);
    drain(&mut consumer);
    let note = OffsetAndMetadata {
        offset: 5,
        metadata: "up to here".into(),
    };
    consumer.commit_offsets([(t(0), note.clone())]).unwrap();
    fill(&topic, 1, 1);
    drop((consumer, topic));
    log.close().unwrap();
    assert!(dir.path().join("__consumer_offsets-0").exists());

    let log = Log::open(dir.path()).unwrap();
    let group = log.consumer_group("g").unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), Some(note));
    let mut consumer = group.join("t").unwrap();
    assert_eq!(drain(&mut consumer), [of(0, [5]), of(1, [1])].concat());
    assert_eq!(log.consumer_groups().unwrap().len(), 1);

    let read_only = Log::open_read_only(dir.path()).unwrap();
    let group = read_only.consumer_group("g").unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap().map(|next| next.offset),
        Some(5)
    );
    assert!(matches!(group.join("t"), Err(Error::ReadOnly)));
    let next = OffsetAndMetadata {
        offset: 6,
        metadata: String::new(),
    };
    assert!(matches!(
        group.commit([(t(0), next.clone())]),
        Err(Error::ReadOnly)
    ));
    drop(consumer);
    log.consumer_group("g")
        .unwrap()
        .commit([(t(0), next)])
        .unwrap();
    assert_eq!(
        group.committed(&t(0)).unwrap().map(|next| next.offset),
        Some(6),
        "a read-only log sees later commits of the writer"
    );
    log.consumer_group("late")
        .unwrap()
        .commit([(
            t(1),
            OffsetAndMetadata {
                offset: 1,
                metadata: String::new(),
            },
        )])
        .unwrap();
    assert_eq!(read_only.consumer_groups().unwrap().len(), 2);
}

#[test]
fn commits_survive_a_log_that_was_not_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 4);
    let config = ConsumerConfig::new().durability(Durability::Synced);
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", config)
        .unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let second = records.iter().nth(1).unwrap().unwrap();
    consumer.commit_record(&second).unwrap();

    // Copy the files in the state that a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let log = Log::open(copy.path()).unwrap();
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(
        drain(&mut consumer),
        of(0, 2..4),
        "records that were polled but not committed are delivered again"
    );
}

#[test]
fn a_commit_above_the_end_that_a_crash_left_is_lowered_to_that_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    fill(&topic, 0, 5);
    fill(&topic, 1, 5);
    let group = log.consumer_group("g").unwrap();
    let note = OffsetAndMetadata {
        offset: 5,
        metadata: "note".into(),
    };
    group.commit([(t(0), note), (t(1), 4.into())]).unwrap();

    // The files are as after a power cut that lost the last two records of partition 0 and kept the
    // commit.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let path = copy.path().join("t-0/00000000000000000000.log");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 5 * 3)
        .unwrap();
    let _absent_if_nothing_was_flushed =
        fs::remove_file(copy.path().join("recovery-point-offset-checkpoint"));

    for is_first in [true, false] {
        let log = Log::open(copy.path()).unwrap();
        let lowered = &log.recovery().lowered_commits;
        if is_first {
            assert_eq!(lowered.len(), 1);
            assert_eq!(
                (
                    &*lowered[0].group,
                    &lowered[0].partition,
                    lowered[0].from,
                    lowered[0].to
                ),
                ("g", &t(0), 5, 3)
            );
        } else {
            assert!(lowered.is_empty());
        }
        let lower = OffsetAndMetadata {
            offset: 3,
            metadata: "note".into(),
        };
        let group = log.consumer_group("g").unwrap();
        assert_eq!(group.committed(&t(0)).unwrap(), Some(lower));
        assert_eq!(group.committed(&t(1)).unwrap(), Some(4.into()));
        log.close().unwrap();
    }
    let log = Log::open(copy.path()).unwrap();
    fill(&log.topic("t").unwrap(), 0, 1);
    assert_eq!(
        drain(&mut log.consumer_group("g").unwrap().join("t").unwrap()),
        [of(0, [3]), of(1, [4])].concat()
    );
}

#[test]
fn a_member_sees_the_commits_of_its_group() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 3);
    let group = log.consumer_group("g").unwrap();
    let mut one = group.join("t").unwrap();
    assert_eq!(one.committed(&t(0)).unwrap(), None);
    assert_eq!(drain(&mut one), of(0, 0..3));
    let note = OffsetAndMetadata {
        offset: 2,
        metadata: "two".into(),
    };
    one.commit_offsets([(t(0), note.clone())]).unwrap();
    assert_eq!(one.committed(&t(0)).unwrap(), Some(note.clone()));
    assert_eq!(one.position(&t(0)).unwrap(), 3);
    let other = group.join("t").unwrap();
    assert!(other.assignment().is_empty());
    assert_eq!(
        other.committed(&t(0)).unwrap(),
        Some(note),
        "a member sees the commit of another member, for a partition that it does not own"
    );
}

#[test]
fn commit_record_commits_the_offset_after_the_record() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    for record in records.iter().take(3) {
        consumer.commit_record(&record.unwrap()).unwrap();
    }
    assert_eq!(committed(&log, "g", &t(0)), Some(3));
    consumer.seek_all(Seek::Committed).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 3..5));
    drop(consumer);
    let mut consumer = group.join("t").unwrap();
    assert_eq!(
        poll(&mut consumer),
        of(0, 3..5),
        "the earlier member was dropped without a commit"
    );
    consumer
        .commit_record(&records.iter().next().unwrap().unwrap())
        .unwrap();
    assert_eq!(committed(&log, "g", &t(0)), Some(1), "a commit may go back");
    consumer.commit().unwrap();
    assert_eq!(committed(&log, "g", &t(0)), Some(5));
}

#[test]
fn a_commit_of_unchanged_positions_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    fill(&topic, 0, 1);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    drain(&mut consumer);
    let note = OffsetAndMetadata {
        offset: 1,
        metadata: "note".into(),
    };
    consumer.commit_offsets([(t(0), note.clone())]).unwrap();
    consumer.commit().unwrap();
    assert_eq!(
        committed(&log, "g", &t(1)),
        Some(0),
        "an empty partition has a position"
    );
    let written = log
        .topic("__consumer_offsets")
        .unwrap()
        .partition(0)
        .unwrap();
    let end = written.log_end_offset();
    for _ in 0..3 {
        drain(&mut consumer);
        consumer.commit().unwrap();
    }
    assert_eq!(written.log_end_offset(), end);
    assert_eq!(group.committed(&t(0)).unwrap(), Some(note));
}

#[test]
fn a_commit_with_one_invalid_position_is_refused_as_a_whole() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 3);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let mut refused = |next: (TopicPartition, OffsetAndMetadata)| {
        consumer
            .commit_offsets([(t(0), 1.into()), next])
            .unwrap_err()
    };
    assert!(matches!(
        refused((t(0), 4.into())),
        Error::OffsetOutOfRange {
            requested: 4,
            log_end: 3,
            ..
        }
    ));
    assert!(matches!(
        refused((t(1), 0.into())),
        Error::UnknownPartition(_)
    ));
    assert!(matches!(
        refused((("u", 0).into(), 0.into())),
        Error::UnknownTopic(_)
    ));
    let too_much = OffsetAndMetadata {
        offset: 1,
        metadata: "x".repeat(4097),
    };
    assert!(matches!(
        refused((t(0), too_much)),
        Error::InvalidRecord { index: 1, .. }
    ));
    assert_eq!(committed(&log, "g", &t(0)), None);
    let longest = OffsetAndMetadata {
        offset: 3,
        metadata: "x".repeat(4096),
    };
    consumer.commit_offsets([(t(0), longest.clone())]).unwrap();
    assert_eq!(group.committed(&t(0)).unwrap(), Some(longest));
    assert_eq!(group.committed(&t(5)).unwrap(), None);
    assert_eq!(group.committed(&("u", 0).into()).unwrap(), None);

    assert!(matches!(log.consumer_group(""), Err(Error::InvalidGroup)));
    assert!(matches!(
        log.consumer_group(&"g".repeat(40_000)),
        Err(Error::InvalidGroup)
    ));
}

#[test]
fn a_group_accepts_commits_of_its_handle_only_while_it_has_no_members() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 3);
    let group = log.consumer_group("g").unwrap();
    group.commit([(t(0), 2.into())]).unwrap();
    let mut consumer = group.join("t").unwrap();
    assert!(
        matches!(group.commit([(t(0), 0.into())]), Err(Error::NonEmptyGroup { group, .. }) if &*group == "g")
    );
    assert_eq!(drain(&mut consumer), of(0, [2]));
    consumer.close().unwrap();
    group.commit([(t(0), 0.into())]).unwrap();
    assert_eq!(committed(&log, "g", &t(0)), Some(0));
}

#[test]
fn deleting_a_topic_removes_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    let other = log.open_topic("other", 1, TopicConfig::new()).unwrap();
    fill(&topic, 0, 5);
    fill(&other, 0, 1);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join(["t", "other"]).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    consumer.commit().unwrap();
    log.delete_topic("t").unwrap();
    let late = records.of(&t(0)).next().unwrap().unwrap();
    assert!(matches!(
        consumer.commit_record(&late),
        Err(Error::UnknownTopic(_))
    ));
    consumer.commit().unwrap();
    assert_eq!(committed(&log, "g", &t(0)), None);

    let again = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    fill(&again, 0, 3);
    assert!(
        matches!(consumer.commit_record(&late), Err(Error::UnknownTopic(_))),
        "the record belongs to the old topic"
    );
    let records = consumer.poll(Duration::ZERO).unwrap();
    let both = vec![t(0), t(1)];
    assert_eq!(
        records.rebalance(),
        [Rebalance::Lost(both.clone()), Rebalance::Assigned(both)]
    );
    assert_eq!(
        drain(&mut consumer),
        of(0, 0..3),
        "the group starts at the beginning of the new topic"
    );
    drop((consumer, group));
    log.close().unwrap();

    let log = Log::open(dir.path()).unwrap();
    assert_eq!(
        committed(&log, "g", &t(0)),
        None,
        "the position is removed from the disk too"
    );
    assert_eq!(committed(&log, "g", &("other", 0).into()), Some(1));
}

#[test]
fn commits_of_a_broker_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for set in ["clean", "killed", "legacy"] {
        let expected = fs::read_to_string(fixtures.join(set).join("expected/groups.tsv")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&fixtures.join(set).join("root"), dir.path());
        let log = Log::open(dir.path()).unwrap();
        let mut found: Vec<String> = Vec::new();
        for group in log.consumer_groups().unwrap() {
            for partition in log.topics().iter().flat_map(annals::Topic::partitions) {
                if let Some(OffsetAndMetadata { offset, metadata }) =
                    group.committed(partition.id()).unwrap()
                {
                    found.push(format!(
                        "{}\t{}\t{offset}\t{metadata}",
                        group.id(),
                        partition.id()
                    ));
                }
            }
        }
        found.sort();
        assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{set}");
    }
}

#[test]
fn a_commit_in_the_directory_of_a_broker_survives_a_restart() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixtures.join("clean/root"), dir.path());
    let plain: TopicPartition = ("plain", 0).into();
    let log = Log::open(dir.path()).unwrap();
    let mut consumer = log
        .consumer_group("billing")
        .unwrap()
        .join("plain")
        .unwrap();
    assert_eq!(consumer.position(&plain).unwrap(), 66);
    consumer
        .commit_offsets([(plain.clone(), 60.into())])
        .unwrap();
    drop(consumer);
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(committed(&log, "billing", &plain), Some(60));
    assert_eq!(committed(&log, "by-hand", &plain), Some(7));
}

#[test]
fn records_can_be_committed_one_by_one_while_others_are_appended() {
    let (log, topic) = log_with(1);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    for round in 0..50 {
        topic.append(Record::new("x")).unwrap();
        let records = consumer.poll(super::SOON).unwrap();
        for record in &records {
            consumer.commit_record(&record.unwrap()).unwrap();
        }
        assert_eq!(committed(&log, "g", &t(0)), Some(round + 1));
    }
}
