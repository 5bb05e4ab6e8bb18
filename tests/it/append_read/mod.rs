//! Appending and reading back: every shape of record, the rules for rolling, the limits, and the
//! operations that are refused.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::CODECS;
use annals::{
    CleanupPolicy, Error, Log, ManualClock, OffsetSpec, Partition, Record, Timestamp,
    TimestampType, TopicConfig,
};

mod growing;
mod raw;
mod reading;
mod restarting;
mod rolling;
mod topic_batch;
mod truncating;

const T: i64 = 1_700_000_000_000;

fn at(later: i64) -> Timestamp {
    Timestamp::from_millis(T + later)
}

fn log_at(later: i64) -> (Log, ManualClock) {
    let clock = ManualClock::at(at(later));
    let log = Log::builder("log")
        .storage(annals::MemoryDisk::new())
        .clock(clock.clone())
        .open()
        .unwrap();
    (log, clock)
}

fn partition(log: &Log, config: TopicConfig) -> Partition {
    log.create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap()
}

fn bases(partition: &Partition) -> Vec<u64> {
    partition
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect()
}

#[test]
fn every_shape_of_record_is_read_back_with_every_codec() {
    for codec in CODECS {
        let (log, _) = log_at(0);
        let partition = partition(&log, TopicConfig::new().compression(codec));
        let wide = vec![7; 100_000];
        let records = [
            Record::new("value").key("key"),
            Record::new("").key(""),
            Record::tombstone("gone"),
            Record::new(None::<&str>),
            Record::new(&wide)
                .header("a", "1")
                .header("a", None::<&str>)
                .header("", ""),
        ];
        assert_eq!(partition.append_batch(&records).unwrap(), 0..5);
        let read: Vec<Record<'static>> = partition
            .read(..)
            .unwrap()
            .flat_map(|batch| {
                batch
                    .unwrap()
                    .iter()
                    .map(|r| Record::from(r.unwrap()).into_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        let expected: Vec<_> = records
            .into_iter()
            .map(|record| record.timestamp(at(0)).into_owned())
            .collect();
        assert_eq!(read, expected, "{codec:?}");
    }
}

#[test]
fn read_accepts_every_kind_of_range() {
    let (log, _) = log_at(0);
    let partition = partition(&log, TopicConfig::new().segment_bytes(400));
    for batch in 0..10 {
        partition
            .append_batch((0..3).map(|n| (batch * 3 + n).to_string()))
            .unwrap();
    }
    let read = |reader: annals::Result<annals::Reader>| -> Vec<u64> {
        reader
            .unwrap()
            .flat_map(|batch| {
                batch
                    .unwrap()
                    .iter()
                    .map(|r| r.unwrap().offset())
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(read(partition.read(..)), (0..30).collect::<Vec<_>>());
    for start in 0..=30 {
        assert_eq!(
            read(partition.read(start..)),
            (start..30).collect::<Vec<_>>()
        );
        assert_eq!(
            read(partition.read(start..start + 4)),
            (start..(start + 4).min(30)).collect::<Vec<_>>()
        );
        assert_eq!(
            read(partition.read(..=start)),
            (0..(start + 1).min(30)).collect::<Vec<_>>()
        );
    }
    assert!(read(partition.read(5..5)).is_empty());
    let out = |reader: annals::Result<annals::Reader>| {
        matches!(
            reader,
            Err(Error::OffsetOutOfRange {
                requested: 31,
                log_start: 0,
                log_end: 30,
                ..
            })
        )
    };
    assert!(out(partition.read(31..)));
    assert_eq!(partition.delete_records_before(7).unwrap(), 7);
    assert!(matches!(
        partition.read(6..),
        Err(Error::OffsetOutOfRange {
            requested: 6,
            log_start: 7,
            ..
        })
    ));
    assert_eq!(read(partition.read(..9)), [7, 8]);
}

#[test]
fn the_iterator_continues_where_next_record_stopped() {
    let (log, _) = log_at(0);
    let partition = partition(&log, TopicConfig::new());
    partition.append_batch(["a", "b", "c"]).unwrap();
    partition.append_batch(["d", "e"]).unwrap();
    let mut reader = partition.read(..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "a");
    assert_eq!(reader.next_offset(), 1);
    assert_eq!(reader.next().unwrap().unwrap().offsets(), 1..3);
    assert_eq!(reader.next_offset(), 3);
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "d");
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "e");
    assert!(reader.next_record().unwrap().is_none());
    assert_eq!(reader.next_offset(), 5);
}

#[test]
fn a_batch_larger_than_any_buffer_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = partition(&log, TopicConfig::new().max_message_bytes(8 << 20));
    let huge = vec![1; 5 << 20];
    partition.append("small").unwrap();
    partition.append(&huge).unwrap();
    partition.append("small").unwrap();
    let sizes: Vec<usize> = partition
        .read(..)
        .unwrap()
        .map(|batch| {
            batch
                .unwrap()
                .iter()
                .next()
                .unwrap()
                .unwrap()
                .value()
                .unwrap()
                .len()
        })
        .collect();
    assert_eq!(sizes, [5, huge.len(), 5]);
    assert_eq!(
        partition
            .read(1..2)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .value(),
        Some(&huge[..])
    );
}

#[test]
fn a_segment_rolls_when_the_next_batch_does_not_fit() {
    let (log, _) = log_at(0);
    let partition = partition(&log, TopicConfig::new().segment_bytes(300));
    let size = |partition: &Partition| partition.segments().last().unwrap().bytes;
    partition.append("x".repeat(20)).unwrap();
    let one = size(&partition);
    let fit = 300 / one;
    for _ in 1..fit {
        partition.append("x".repeat(20)).unwrap();
    }
    assert_eq!(bases(&partition), [0]);
    partition.append("x".repeat(20)).unwrap();
    assert_eq!(bases(&partition), [0, fit]);
}

#[test]
fn a_segment_rolls_by_the_time_of_its_records() {
    let (log, clock) = log_at(0);
    let config = TopicConfig::new()
        .segment_age(Duration::from_secs(10))
        .timestamp_after_max(None);
    let partition = partition(&log, config);
    let append = |later: i64| {
        partition
            .append(Record::new("v").timestamp(at(later)))
            .unwrap()
    };
    clock.advance(Duration::from_secs(3600));
    append(0);
    assert_eq!(bases(&partition), [0], "an empty segment is never too old");
    append(10_000);
    assert_eq!(
        bases(&partition),
        [0],
        "the records span the limit exactly, whatever the clock says"
    );
    append(10_001);
    assert_eq!(bases(&partition), [0, 2]);
    append(5_000);
    append(20_001);
    assert_eq!(
        bases(&partition),
        [0, 2],
        "the age counts from the first record of the segment"
    );
    append(20_002);
    assert_eq!(bases(&partition), [0, 2, 5]);
    partition.append_batch(Vec::<&str>::new()).unwrap();
    assert_eq!(bases(&partition), [0, 2, 5]);
}

#[test]
fn jitter_only_makes_a_roll_earlier() {
    let (log, _) = log_at(0);
    let config = TopicConfig::new()
        .segment_age(Duration::from_secs(10))
        .segment_jitter(Duration::from_secs(2));
    let partition = partition(&log, config.timestamp_after_max(None));
    let append = |later: i64| {
        partition
            .append(Record::new("v").timestamp(at(later)))
            .unwrap()
    };
    append(0);
    append(7_999);
    assert_eq!(bases(&partition), [0]);
    append(10_001);
    assert_eq!(bases(&partition), [0, 2]);
}

#[test]
fn a_segment_rolls_when_its_index_is_full() {
    let (log, _) = log_at(0);
    let partition = partition(
        &log,
        TopicConfig::new()
            .segment_index_bytes(64)
            .index_interval_bytes(0),
    );
    for number in 0..40_i64 {
        partition
            .append(Record::new("v").timestamp(at(number)))
            .unwrap();
    }
    assert!(bases(&partition).len() > 5, "{:?}", bases(&partition));
    assert_eq!(partition.read(..).unwrap().count(), 40);
}

#[test]
fn the_timestamp_type_selects_the_records_or_the_clocks_time() {
    let (log, clock) = log_at(0);
    let created = log.create_topic("created", 1, TopicConfig::new()).unwrap();
    assert_eq!(
        created
            .append(Record::new("v").timestamp(at(-5)))
            .unwrap()
            .timestamp,
        at(-5)
    );
    assert_eq!(created.append("v").unwrap().timestamp, at(0));
    let config = TopicConfig::new().timestamp_type(TimestampType::LogAppendTime);
    let appended = log.create_topic("appended", 1, config).unwrap();
    clock.advance(Duration::from_millis(7));
    assert_eq!(
        appended
            .append(Record::new("v").timestamp(at(-5)))
            .unwrap()
            .timestamp,
        at(7)
    );
    let mut reader = appended.partition(0).unwrap().read(..).unwrap();
    let record = reader.next_record().unwrap().unwrap();
    assert_eq!(
        (record.timestamp(), record.timestamp_type()),
        (Some(at(7)), Some(TimestampType::LogAppendTime))
    );
}

#[test]
fn times_are_looked_up_by_kafkas_rules() {
    let (log, _) = log_at(0);
    let config = TopicConfig::new()
        .segment_bytes(300)
        .index_interval_bytes(0)
        .timestamp_after_max(None);
    let partition = partition(&log, config);
    let of = |spec: OffsetSpec| {
        partition
            .offset_for(spec)
            .unwrap()
            .map(|found| (found.offset, found.timestamp))
    };
    assert_eq!(of(OffsetSpec::MaxTimestamp), None);
    assert_eq!(of(OffsetSpec::Timestamp(at(0))), None);
    for later in [0, 10, 20, 30, 40, 60, 50] {
        partition
            .append(Record::new("v").timestamp(at(later)))
            .unwrap();
    }
    assert_eq!(of(OffsetSpec::Earliest), Some((0, None)));
    assert_eq!(of(OffsetSpec::Latest), Some((7, None)));
    assert_eq!(of(OffsetSpec::MaxTimestamp), Some((5, Some(at(60)))));
    for (target, expected) in [(-1, 0), (0, 0), (1, 1), (30, 3), (41, 5), (50, 5), (60, 5)] {
        assert_eq!(
            of(OffsetSpec::Timestamp(at(target))).map(|(offset, _)| offset),
            Some(expected),
            "{target}"
        );
    }
    assert_eq!(of(OffsetSpec::Timestamp(at(61))), None);
    partition.delete_records_before(3).unwrap();
    assert_eq!(of(OffsetSpec::Earliest), Some((3, None)));
    assert_eq!(
        of(OffsetSpec::Timestamp(at(0))).map(|(offset, _)| offset),
        Some(3)
    );
    partition.truncate_to(5).unwrap();
    assert_eq!(of(OffsetSpec::MaxTimestamp), Some((4, Some(at(40)))));
}

#[test]
fn an_empty_log_has_offsets() {
    let (log, _) = log_at(0);
    let partition = partition(&log, TopicConfig::new());
    assert_eq!(
        (
            partition.log_start_offset(),
            partition.log_end_offset(),
            partition.high_watermark()
        ),
        (0, 0, 0)
    );
    assert_eq!(partition.read(0..).unwrap().count(), 0);
    assert!(matches!(
        partition.read(1..),
        Err(Error::OffsetOutOfRange { .. })
    ));
    assert_eq!(partition.append_batch(Vec::<&str>::new()).unwrap(), 0..0);
}

/// Returns the names and contents of all files below a directory.
fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_refused_append_or_deletion_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(at(0));
    let log = Log::builder(dir.path()).clock(clock).open().unwrap();
    let config = TopicConfig::new()
        .max_message_bytes(1_000)
        .timestamp_before_max(Duration::from_secs(60));
    let create = |name: &str, config| {
        let topic = log.create_topic(name, 1, config).unwrap();
        topic.partition(0).unwrap()
    };
    let plain = create("plain", config);
    let small = create("small", TopicConfig::new().segment_bytes(500));
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    let compacted = create("compacted", config);
    for partition in [&plain, &small, &compacted] {
        partition.append(("k", "v")).unwrap();
    }
    log.flush().unwrap();
    let before = snapshot(dir.path());
    let big = "x".repeat(2_000);
    let timed = |timestamp: Timestamp| {
        plain.append_batch([Record::new("a"), Record::new("b").timestamp(timestamp)])
    };
    assert!(matches!(
        plain.append(&big),
        Err(Error::RecordTooLarge {
            limit: 1_000,
            key: "max.message.bytes",
            ..
        })
    ));
    assert!(matches!(
        small.append(&big),
        Err(Error::RecordTooLarge {
            limit: 500,
            key: "segment.bytes",
            ..
        })
    ));
    for timestamp in [Timestamp::from_millis(-1), at(-60_001), at(3_600_001)] {
        let refused = timed(timestamp);
        assert!(
            matches!(refused, Err(Error::InvalidRecord { index: 1, .. })),
            "{timestamp:?}: {refused:?}"
        );
    }
    assert!(matches!(
        compacted.append_batch(&[Record::new("v").key("k"), Record::new("v")]),
        Err(Error::InvalidRecord { index: 1, .. })
    ));
    assert!(matches!(
        compacted.delete_records_before(1),
        Err(Error::PolicyViolation { .. })
    ));
    assert!(matches!(
        plain.delete_records_before(2),
        Err(Error::OffsetOutOfRange { requested: 2, .. })
    ));
    log.flush().unwrap();
    assert_eq!(snapshot(dir.path()), before);
    for partition in [&plain, &small, &compacted] {
        assert_eq!(partition.append(("k", "w")).unwrap().offset, 1);
    }
    for limit in [-60_000, 3_600_000] {
        timed(at(limit)).unwrap();
    }
}

#[test]
fn the_largest_accepted_batch_is_read_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log")).unwrap();
    let partition = partition(&log, TopicConfig::new());
    let overhead = {
        partition.append(vec![0; 1_000_000]).unwrap();
        usize::try_from(partition.segments()[0].bytes).unwrap() - 1_000_000
    };
    let largest = 1_048_588 - overhead;
    partition.append(vec![0; largest]).unwrap();
    assert!(matches!(
        partition.append(vec![0; largest + 1]),
        Err(Error::RecordTooLarge { .. })
    ));
    crate::kafka::copy_dir(&dir.path().join("log"), &dir.path().join("copy"));
    let copy = Log::open(dir.path().join("copy")).unwrap();
    assert_eq!(
        copy.topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .read(..)
            .unwrap()
            .flatten()
            .count(),
        2
    );
}

#[test]
fn a_truncation_inside_a_batch_keeps_the_records_below() {
    for end in 0..=20 {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        let partition = partition(
            &log,
            TopicConfig::new()
                .segment_bytes(400)
                .index_interval_bytes(0),
        );
        for batch in 0..4 {
            partition
                .append_batch((0..5).map(|n| format!("value {}", batch * 5 + n)))
                .unwrap();
        }
        partition.truncate_to(end).unwrap();
        assert_eq!(partition.log_end_offset(), end);
        assert_eq!(partition.append("after").unwrap().offset, end);
        log.close().unwrap();
        let log = Log::open(dir.path()).unwrap();
        let mut reader = log
            .topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .read(..)
            .unwrap();
        for offset in 0..end {
            assert_eq!(
                reader.next_record().unwrap().unwrap().text(),
                format!("value {offset}")
            );
        }
        assert_eq!(reader.next_record().unwrap().unwrap().text(), "after");
        assert!(reader.next_record().unwrap().is_none());
    }
}
