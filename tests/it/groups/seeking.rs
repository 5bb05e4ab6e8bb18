//! Start positions of consumers, and the positions that seeks set.

use std::time::Duration;

use annals::{
    ConsumerConfig, Error, Log, ManualClock, MemoryDisk, OffsetReset, Record, Seek, Timestamp,
    TopicConfig,
};

use super::{drain, fill, fill_batch, log_with, of, poll, t};

#[test]
fn a_new_group_starts_at_the_position_of_its_reset_policy() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(2)
        .unwrap();
    let join = |group: &str, reset| {
        let config = ConsumerConfig::new().auto_offset_reset(reset);
        log.consumer_group(group)
            .unwrap()
            .join_with("t", config)
            .unwrap()
    };
    let mut earliest = join("earliest", OffsetReset::Earliest);
    let mut latest = join("latest", OffsetReset::Latest);
    let mut none = join("none", OffsetReset::None);
    fill(&topic, 0, 2);
    let records = earliest.poll(Duration::ZERO).unwrap();
    assert_eq!(super::offsets(&records), of(0, 2..7));
    assert!(
        records.skipped().is_empty(),
        "a group that never committed has not missed records"
    );
    assert_eq!(
        drain(&mut latest),
        of(0, 5..7),
        "only the records appended after the member joined"
    );
    assert!(
        matches!(none.poll(Duration::ZERO), Err(Error::NoOffset(partition)) if partition == t(0))
    );
    none.seek(&t(0), Seek::Earliest).unwrap();
    assert_eq!(drain(&mut none), of(0, 2..7));
}

#[test]
fn each_kind_of_seek_sets_its_position() {
    let (log, topic) = log_with(1);
    let partition = topic.partition(0).unwrap();
    for millis in [1_000, 2_000, 1_500, 3_000, 4_000] {
        partition
            .append(Record::new("x").timestamp(Timestamp::from_millis(millis)))
            .unwrap();
    }
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    consumer.commit_offsets([(t(0), 1.into())]).unwrap();
    let seeks: [(Seek, u64); 12] = [
        (Seek::Latest, 5),
        (Seek::ShiftBy(-2), 3),
        (Seek::ShiftBy(1), 4),
        (Seek::ShiftBy(100), 5),
        (Seek::ShiftBy(-100), 0),
        (Seek::Offset(3), 3),
        (Seek::Earliest, 0),
        (Seek::Timestamp(Timestamp::from_millis(1_501)), 1),
        (Seek::Timestamp(Timestamp::from_millis(2_001)), 3),
        (Seek::Timestamp(Timestamp::from_millis(9_000)), 5),
        (Seek::Committed, 1),
        (5.into(), 5),
    ];
    for (to, expected) in seeks {
        consumer.seek(&t(0), to).unwrap();
        assert_eq!(consumer.position(&t(0)).unwrap(), expected, "{to:?}");
        assert_eq!(consumer.lag(), Some(5 - expected));
    }
    consumer.seek_all(Timestamp::from_millis(3_000)).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 3..5));
    consumer.seek_all(Seek::Committed).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 1..5));
    assert_eq!(
        log.consumer_group("g")
            .unwrap()
            .committed(&t(0))
            .unwrap()
            .unwrap()
            .offset,
        1,
        "a seek does not commit"
    );
}

/// A segment in which all records have time 0 must not be taken for a segment without timestamps.
#[test]
fn a_seek_to_time_0_finds_the_first_record_of_that_time() {
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .open()
        .unwrap();
    let config = TopicConfig::new().segment_bytes(150).retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for millis in [0, 0, 0, 0, 0, 7] {
        partition
            .append(Record::new("x").timestamp(Timestamp::from_millis(millis)))
            .unwrap();
    }
    assert!(partition.segments().len() > 2);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    for (millis, expected) in [(0, 0), (1, 5), (7, 5), (8, 6)] {
        consumer
            .seek(&t(0), Seek::Timestamp(Timestamp::from_millis(millis)))
            .unwrap();
        assert_eq!(consumer.position(&t(0)).unwrap(), expected, "time {millis}");
    }
}

#[test]
fn seeks_by_age_use_the_clock_of_the_log() {
    let clock = ManualClock::at(Timestamp::from_millis(10_000));
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .clock(clock.clone())
        .open()
        .unwrap();
    let partition = log
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    for millis in [1_000, 4_000, 4_000, 8_000] {
        partition
            .append(Record::new("x").timestamp(Timestamp::from_millis(millis)))
            .unwrap();
    }
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    let ago = |seconds| Seek::Ago(Duration::from_secs(seconds));
    for (seconds, expected) in [(0, 4), (1, 4), (2, 3), (5, 3), (6, 1), (9, 0), (3_600, 0)] {
        consumer.seek(&t(0), ago(seconds)).unwrap();
        assert_eq!(consumer.position(&t(0)).unwrap(), expected, "{seconds} s");
    }
    clock.advance(Duration::from_secs(5));
    consumer.seek_all(ago(6)).unwrap();
    assert_eq!(drain(&mut consumer), []);
    consumer.seek_all(ago(7)).unwrap();
    assert_eq!(drain(&mut consumer), of(0, [3]));
}

#[test]
fn seeks_above_the_end_or_to_other_partitions_are_refused() {
    let (log, topic) = log_with(2);
    fill(&topic, 0, 3);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(poll(&mut consumer), of(0, 0..3));
    let refused = consumer.seek(&t(0), 4);
    assert!(matches!(
        refused,
        Err(Error::OffsetOutOfRange {
            requested: 4,
            log_start: 0,
            log_end: 3,
            ..
        })
    ));
    assert!(
        consumer.seek_all(2).is_err(),
        "one of the partitions is empty"
    );
    assert_eq!(
        consumer.position(&t(0)).unwrap(),
        3,
        "a refused seek must not move the position"
    );
    assert!(matches!(
        consumer.seek(&t(7), 0),
        Err(Error::NotAssigned(_))
    ));
    assert!(matches!(
        consumer.position(&t(7)),
        Err(Error::NotAssigned(_))
    ));
}

#[test]
fn a_seek_into_a_batch_starts_inside_it() {
    let (log, topic) = log_with(1);
    fill_batch(&topic, 0, 20);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    assert_eq!(poll(&mut consumer).len(), 20);
    consumer.seek(&t(0), 13).unwrap();
    assert_eq!(drain(&mut consumer), of(0, 13..20));
}

#[test]
fn a_seek_below_the_log_start_reports_the_skipped_offsets() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(3)
        .unwrap();
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    consumer.seek(&t(0), 1).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.skipped(), [(t(0), 1..3)]);
    assert_eq!(super::offsets(&records), of(0, 3..5));
}

#[test]
fn a_reset_by_duration_goes_back_no_further_than_the_log() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 5);
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(3)
        .unwrap();
    let config = ConsumerConfig::new()
        .auto_offset_reset(OffsetReset::ByDuration(Duration::from_secs(3_600)));
    let mut consumer = log
        .consumer_group("g")
        .unwrap()
        .join_with("t", config)
        .unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(super::offsets(&records), of(0, 3..5));
    assert!(
        records.skipped().is_empty(),
        "the new group has not missed records"
    );
    consumer.commit_offsets([(t(0), 1.into())]).unwrap();
    consumer.seek(&t(0), Seek::Committed).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(
        records.skipped(),
        [(t(0), 1..3)],
        "the committed position is below the start, so the consumer continues at the start"
    );
    assert_eq!(super::offsets(&records), of(0, 3..5));
}

#[test]
fn a_position_above_the_end_moves_to_the_end_if_there_is_a_reset_policy() {
    let (log, topic) = log_with(1);
    fill(&topic, 0, 10);
    let join = |group: &str, reset| {
        let config = ConsumerConfig::new().auto_offset_reset(reset);
        let mut consumer = log
            .consumer_group(group)
            .unwrap()
            .join_with("t", config)
            .unwrap();
        consumer.seek_all(10).unwrap();
        consumer
    };
    let mut earliest = join("earliest", OffsetReset::Earliest);
    let mut latest = join("latest", OffsetReset::Latest);
    let mut none = join("none", OffsetReset::None);
    topic.partition(0).unwrap().truncate_to(4).unwrap();
    for consumer in [&mut earliest, &mut latest] {
        assert_eq!(drain(consumer), []);
        assert_eq!(consumer.position(&t(0)).unwrap(), 4);
    }
    fill(&topic, 0, 8);
    for consumer in [&mut earliest, &mut latest] {
        assert_eq!(drain(consumer), of(0, 4..12));
    }
    for _ in 0..2 {
        let refused = none.poll(Duration::ZERO);
        assert!(matches!(
            refused,
            Err(Error::OffsetOutOfRange {
                requested: 10,
                log_end: 4,
                ..
            })
        ));
    }
    none.seek(&t(0), 11).unwrap();
    assert_eq!(drain(&mut none), of(0, 11..12));
}
