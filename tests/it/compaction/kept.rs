//! The records that a compaction keeps: the latest of each key, and tombstones for their retention.
//! Lookups stay correct.

use annals::{Error, OffsetSpec};

use super::*;
use crate::CODECS;

#[test]
fn the_latest_record_of_each_key_keeps_its_offset() {
    let mut bench = Bench::new(START);
    let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
    append(&partition, "abacabadabacabae");
    let (before, end) = (view(&partition), partition.log_end_offset());
    assert_eq!(bases(&partition), [0, 4, 8, 12]);
    let done = partition.compact().unwrap();
    // The active segment, with the offsets 12 to 15, is not compacted.
    assert_eq!(offsets(&partition), [7, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!((done.segments_compacted, done.records_removed), (3, 8));
    assert!(done.bytes_freed > 0);
    assert_eq!(
        (view(&partition), partition.log_end_offset()),
        (before.clone(), end)
    );
    assert_eq!(
        (partition.log_start_offset(), bases(&partition)),
        (0, vec![0, 4, 8, 12])
    );
    assert!(names(partition.segments()[0].path.parent().unwrap(), ".cleaned").is_empty());
    assert_eq!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint")).unwrap(),
        "0\n1\nt 0 12\n"
    );
    // A second compaction removes no record.
    assert_eq!(partition.compact().unwrap().records_removed, 0);
    let partition = bench.reopen();
    assert_eq!(view(&partition), before);
    append(&partition, "a");
    assert_eq!(
        records(&partition).last().unwrap(),
        &(16, "a".to_owned(), Some("16".to_owned()))
    );
}

#[test]
fn a_tombstone_is_kept_for_the_delete_retention() {
    let mut bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).delete_retention(DAY),
    );
    append(&partition, "abcAdddd");
    append(&partition, "eeee");
    let tombstone = (3, "a".to_owned(), None);
    partition.compact().unwrap();
    assert!(records(&partition).contains(&tombstone));
    assert!(!view(&partition).contains_key("a"));
    assert_eq!(offsets(&partition)[..3], [1, 2, 3]);
    // The retention counts from the first compaction, whatever the timestamp of the tombstone is.
    bench
        .clock
        .advance(Duration::from_millis(24 * 3_600_000 - 1));
    append(&partition, "ffff");
    partition.compact().unwrap();
    assert!(records(&partition).contains(&tombstone));
    let partition = bench.reopen();
    assert_eq!(
        partition
            .read(3..4)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .timestamp(),
        Some(START)
    );
    bench.clock.advance(Duration::from_millis(1));
    partition.compact().unwrap();
    assert!(!records(&partition).contains(&tombstone));
    assert!(!view(&partition).contains_key("a"));
}

#[test]
fn a_small_dedupe_buffer_takes_several_passes() {
    let mut bench = Bench::with(START, LogConfig::new().cleaner_dedupe_buffer_bytes(24 * 5));
    let partition = bench.partition("t", compacted(6 * record_bytes() + 20));
    append(&partition, &"abcdefghijklmnopqrstuvwxyz".repeat(4));
    append(&partition, &"zyxwvutsrqponmlkjihgfedcba".repeat(2));
    append(&partition, "ABC");
    let before = view(&partition);
    let active = *bases(&partition).last().unwrap();
    partition.compact().unwrap();
    assert_eq!(view(&partition), before);
    let sealed: Vec<_> = records(&partition)
        .into_iter()
        .filter(|(offset, ..)| *offset < active)
        .collect();
    let mut keys: Vec<_> = sealed.iter().map(|(_, key, _)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), sealed.len(), "a key is there twice: {sealed:?}");
    assert_eq!(view(&bench.reopen()), before);
}

#[test]
fn batches_are_compacted_record_by_record() {
    for codec in CODECS {
        let mut bench = Bench::new(START);
        let partition = bench.partition("t", compacted(2_000).compression(codec));
        for round in 0..60 {
            let batch = (0..20).map(|number| {
                let key = format!("key {}", (number * 7 + round * 3) % 50);
                let record = Record::new(format!("value {round} {number}"))
                    .key(key)
                    .header("round", round.to_string());
                record.timestamp(Timestamp::from_millis(
                    START.as_millis() + 1_000 * round + number,
                ))
            });
            partition.append_batch(batch).unwrap();
        }
        let before = view(&partition);
        let done = partition.compact().unwrap();
        assert!(done.records_removed > 500, "{codec:?}: {done:?}");
        assert_eq!(view(&partition), before, "{codec:?}");
        let partition = bench.reopen();
        let mut reader = partition.read(..).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            let text = record.text();
            let (round, number) = text
                .strip_prefix("value ")
                .unwrap()
                .split_once(' ')
                .unwrap();
            let at = START.as_millis()
                + 1_000 * round.parse::<i64>().unwrap()
                + number.parse::<i64>().unwrap();
            assert_eq!(record.timestamp(), Some(Timestamp::from_millis(at)));
            assert_eq!(record.headers().len(), 1);
            assert_eq!(
                record
                    .headers()
                    .get("round")
                    .and_then(|header| header.value()),
                Some(round.as_bytes())
            );
        }
    }
}

#[test]
fn lookups_find_the_remaining_records() {
    let mut bench = Bench::new(START);
    let partition = bench.partition("t", compacted(10 * record_bytes() + 20));
    for _ in 0..50 {
        append(&partition, "abcd");
        bench.clock.advance(Duration::from_secs(1));
    }
    append(&partition, "e");
    let all = records(&partition);
    partition.compact().unwrap();
    for turn in 0..2 {
        let partition = if turn == 0 {
            partition.clone()
        } else {
            bench.reopen()
        };
        let left = offsets(&partition);
        assert!(left.len() < 20, "{left:?}");
        for from in 0..=201 {
            let expected = left.iter().copied().find(|offset| *offset >= from);
            let mut reader = partition.read(from..).unwrap();
            assert_eq!(
                reader.next_record().unwrap().map(|record| record.offset()),
                expected,
                "from {from}"
            );
        }
        for second in 0..=51 {
            let at = START + Duration::from_secs(second);
            let written = |offset: &&u64| START + Duration::from_secs((**offset / 4).min(50)) >= at;
            let found = partition.offset_for(at).unwrap().map(|found| found.offset);
            assert_eq!(found, left.iter().find(written).copied(), "second {second}");
        }
        let max = partition
            .offset_for(OffsetSpec::MaxTimestamp)
            .unwrap()
            .unwrap();
        assert_eq!(
            (max.offset, max.timestamp),
            (200, Some(START + Duration::from_secs(50)))
        );
        assert!(
            left.iter()
                .all(|offset| all[usize::try_from(*offset).unwrap()].0 == *offset)
        );
    }
}

#[test]
fn records_without_a_key_are_removed_when_the_policy_becomes_compact() {
    let mut bench = Bench::new(START);
    let config = TopicConfig::new().segment_bytes(4 * record_bytes() + 20);
    let partition = bench.partition("t", config);
    for _ in 0..4 {
        partition.append("none").unwrap();
        append(&partition, "ab");
    }
    assert!(
        matches!(partition.compact(), Err(Error::InvalidConfig { key, .. }) if key == "cleanup.policy")
    );
    let file = || fs::read_to_string(bench.file("t.topic")).unwrap();
    assert!(file().contains("dense=true"));
    bench
        .log()
        .topic("t")
        .unwrap()
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))
        .unwrap();
    assert!(!file().contains("dense=true"));
    assert!(partition.append("none").is_err());
    let before: BTreeMap<_, _> = view(&partition)
        .into_iter()
        .filter(|(key, _)| !key.is_empty())
        .collect();
    partition.compact().unwrap();
    let active = *bases(&partition).last().unwrap();
    assert!(
        records(&partition)
            .iter()
            .all(|(offset, key, _)| !key.is_empty() || *offset >= active)
    );
    let after: BTreeMap<_, _> = view(&partition)
        .into_iter()
        .filter(|(key, _)| !key.is_empty())
        .collect();
    assert_eq!(after, before);
    // With the old policy the gaps are still not damage.
    bench
        .log()
        .topic("t")
        .unwrap()
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Delete))
        .unwrap();
    let left = offsets(&partition);
    assert_eq!(offsets(&bench.reopen()), left);
}

#[test]
fn a_truncation_into_compacted_records_makes_them_dirty_again() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
    append(&partition, "abcdabcdabcdabcde");
    partition.compact().unwrap();
    assert_eq!(offsets(&partition), [12, 13, 14, 15, 16]);
    partition.truncate_to(14).unwrap();
    assert!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint"))
            .unwrap()
            .ends_with("t 0 14\n")
    );
    append(&partition, "abababab");
    partition.compact().unwrap();
    let keys = records(&partition)
        .into_iter()
        .filter(|(offset, ..)| *offset < 18);
    assert!(
        keys.into_iter().all(|(offset, ..)| offset >= 14),
        "{:?}",
        records(&partition)
    );
    assert_eq!(view(&partition).len(), 2);
}

#[test]
fn a_lone_partition_is_compacted_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let config = || compacted(4 * record_bytes() + 20);
    let partition = Partition::open(&path, config()).unwrap();
    append(&partition, "abacabadabacabae");
    let before = view(&partition);
    assert_eq!(partition.compact().unwrap().records_removed, 8);
    drop(partition);
    assert_eq!(
        fs::read_to_string(path.join("cleaner-offset-checkpoint")).unwrap(),
        "0\n1\npartition 0 12\n"
    );
    let partition = Partition::open(&path, config()).unwrap();
    assert_eq!((view(&partition), offsets(&partition).len()), (before, 8));
    assert_eq!(partition.compact().unwrap().records_removed, 0);
}

#[test]
fn compacting_a_lone_partition_marks_its_topic_as_having_gaps() {
    let mut bench = Bench::new(START);
    append(
        &bench.partition(
            "t",
            TopicConfig::new().segment_bytes(4 * record_bytes() + 20),
        ),
        "abacabadabacabae",
    );
    bench.close();
    let partition = Partition::open(bench.file("t-0"), compacted(1_000)).unwrap();
    let before = view(&partition);
    assert!(partition.compact().unwrap().records_removed > 0);
    let left = offsets(&partition);
    drop(partition);
    assert!(
        !fs::read_to_string(bench.file("t.topic"))
            .unwrap()
            .contains("dense=true")
    );
    bench.open();
    let partition = bench.log().topic("t").unwrap().partition(0).unwrap();
    assert_eq!((view(&partition), offsets(&partition)), (before, left));
}

#[test]
fn deleting_a_topic_removes_its_cleaner_checkpoint() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
    append(&partition, "aaaaaaaaa");
    partition.compact().unwrap();
    bench.log().delete_topic("t").unwrap();
    assert_eq!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint")).unwrap(),
        "0\n0\n"
    );
    let partition = bench.partition("t", compacted(4 * record_bytes() + 20));
    append(&partition, "aaaaaaaaa");
    assert_eq!(partition.compact().unwrap().records_removed, 7);
}

#[test]
fn the_largest_timestamp_belongs_to_a_remaining_record() {
    let bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        TopicConfig::new().segment_bytes(4 * record_bytes() + 20),
    );
    let at = |seconds| START + Duration::from_secs(seconds);
    append(&partition, "abc");
    // This record is the last of its segment. Compaction keeps its header, which has the time.
    partition
        .append(Record::new("none").timestamp(at(100)))
        .unwrap();
    partition
        .append(Record::new("x").key("x").timestamp(at(10)))
        .unwrap();
    bench
        .log()
        .topic("t")
        .unwrap()
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))
        .unwrap();
    assert_eq!(
        partition
            .offset_for(OffsetSpec::MaxTimestamp)
            .unwrap()
            .unwrap()
            .offset,
        3
    );
    partition.compact().unwrap();
    assert_eq!(offsets(&partition), [0, 1, 2, 4]);
    let max = partition
        .offset_for(OffsetSpec::MaxTimestamp)
        .unwrap()
        .unwrap();
    assert_eq!((max.offset, max.timestamp), (4, Some(at(10))));
    assert_eq!(partition.offset_for(at(5)).unwrap().unwrap().offset, 4);
    assert_eq!(partition.offset_for(at(50)).unwrap(), None);
}
