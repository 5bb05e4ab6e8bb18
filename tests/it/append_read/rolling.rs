//! The rules for starting a new segment, including after the log was opened again.

use std::time::Duration;

use annals::{
    CleanupPolicy, Error, Log, ManualClock, MemoryDisk, Partition, Record, Timestamp,
    TimestampType, TopicConfig,
};

const T: i64 = 1_700_000_000_000;

fn open(disk: &MemoryDisk, clock: &ManualClock, config: TopicConfig) -> (Log, Partition) {
    let log = Log::builder("log")
        .storage(disk.clone())
        .clock(clock.clone())
        .open()
        .unwrap();
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    (log, partition)
}

fn bases(partition: &Partition) -> Vec<u64> {
    partition
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect()
}

fn new() -> (MemoryDisk, ManualClock) {
    (
        MemoryDisk::new(),
        ManualClock::at(Timestamp::from_millis(T)),
    )
}

#[test]
fn a_segments_age_counts_from_its_first_record_across_openings() {
    let (disk, clock) = new();
    let config = TopicConfig::new()
        .segment_age(Duration::from_secs(10))
        .timestamp_after_max(None)
        .retention(None);
    let append = |partition: &Partition, later: i64| {
        partition
            .append(Record::new("v").timestamp(Timestamp::from_millis(T + later)))
            .unwrap()
    };
    let (log, partition) = open(&disk, &clock, config.clone());
    append(&partition, 0);
    append(&partition, 6_000);
    log.close().unwrap();
    clock.advance(Duration::from_secs(3_600));
    let (log, partition) = open(&disk, &clock, config.clone());
    append(&partition, 10_000);
    assert_eq!(bases(&partition), [0]);
    append(&partition, 10_001);
    assert_eq!(bases(&partition), [0, 3]);
    append(&partition, 1);
    assert_eq!(
        bases(&partition),
        [0, 3],
        "an old record does not cause a roll"
    );
    log.close().unwrap();
    let (_log, partition) = open(&disk, &clock, config);
    append(&partition, 20_001);
    assert_eq!(bases(&partition), [0, 3]);
    append(&partition, 20_002);
    assert_eq!(bases(&partition), [0, 3, 6]);
}

#[test]
fn the_clock_decides_when_a_log_append_time_topic_rolls() {
    let (disk, clock) = new();
    let config = TopicConfig::new()
        .segment_age(Duration::from_secs(10))
        .timestamp_type(TimestampType::LogAppendTime);
    let (_log, partition) = open(&disk, &clock, config);
    let old = Record::new("v").timestamp(Timestamp::from_millis(1));
    partition.append(&old).unwrap();
    clock.advance(Duration::from_secs(10));
    partition.append(&old).unwrap();
    assert_eq!(bases(&partition), [0]);
    clock.advance(Duration::from_millis(1));
    partition.append(&old).unwrap();
    assert_eq!(bases(&partition), [0, 2]);
    // A clock that moves back causes no roll, and offsets continue.
    clock.set(Timestamp::from_millis(T - 1_000_000));
    assert_eq!(partition.append(&old).unwrap().offset, 3);
    assert_eq!(bases(&partition), [0, 2]);
    assert_eq!(partition.read(..).unwrap().count(), 4);
}

#[test]
fn a_batch_that_fills_a_segment_to_the_last_byte_fits() {
    let (disk, clock) = new();
    let (_log, partition) = open(&disk, &clock, TopicConfig::new());
    partition.append_batch(["a", "b"]).unwrap();
    let one = u32::try_from(partition.segments()[0].bytes).unwrap();
    for (segment_bytes, expected) in [(2 * one, vec![0, 4]), (2 * one - 1, vec![0, 2, 4])] {
        let (disk, clock) = new();
        let (log, partition) = open(
            &disk,
            &clock,
            TopicConfig::new().segment_bytes(segment_bytes),
        );
        for _ in 0..3 {
            partition.append_batch(["a", "b"]).unwrap();
        }
        assert_eq!(bases(&partition), expected);
        log.topic("t")
            .unwrap()
            .update_config(TopicConfig::new().segment_bytes(one))
            .unwrap();
        partition.append_batch(["a", "b"]).unwrap();
        assert_eq!(
            bases(&partition).last(),
            Some(&6),
            "an update applies immediately"
        );
    }
}

#[test]
fn segments_reports_offsets_and_timestamps() {
    let (disk, clock) = new();
    let (_log, partition) = open(&disk, &clock, TopicConfig::new().segment_bytes(200));
    assert_eq!(partition.segments().len(), 1);
    assert_eq!(partition.segments()[0].max_timestamp, None);
    for number in 0..9 {
        partition.append(number.to_string()).unwrap();
    }
    let segments = partition.segments();
    assert!(
        segments
            .windows(2)
            .all(|pair| { pair[0].next_offset == pair[1].base_offset && !pair[0].is_active })
    );
    let last = segments.last().unwrap();
    assert_eq!(
        (last.is_active, last.next_offset, last.max_timestamp),
        (true, 9, Some(Timestamp::from_millis(T)))
    );
    partition.delete_records_before(9).unwrap();
    assert_eq!(bases(&partition), [9], "an empty segment is left");
    assert_eq!(partition.append("x").unwrap().offset, 9);
}

#[test]
fn roll_seals_a_segment_that_has_records() {
    let (disk, clock) = new();
    let (_log, partition) = open(&disk, &clock, TopicConfig::new());
    partition.roll().unwrap();
    assert_eq!(bases(&partition), [0], "an empty segment is not rolled");
    partition.append_batch(["a", "b"]).unwrap();
    partition.roll().unwrap();
    partition.roll().unwrap();
    assert_eq!(bases(&partition), [0, 2]);
    assert_eq!(partition.append("c").unwrap().offset, 2);
    assert_eq!(partition.read(..).unwrap().count(), 2);
}

#[test]
fn compaction_reaches_the_last_record_after_a_roll() {
    let (disk, clock) = new();
    let (_log, partition) = open(
        &disk,
        &clock,
        TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
    );
    for value in ["old", "new"] {
        partition.append(("key", value)).unwrap();
        partition.roll().unwrap();
    }
    assert_eq!(partition.compact().unwrap().records_removed, 1);
}

#[test]
fn roll_is_refused_when_read_only_or_closed() {
    let (disk, clock) = new();
    let (log, partition) = open(&disk, &clock, TopicConfig::new());
    partition.append("a").unwrap();
    let reading = Log::builder("log")
        .storage(disk)
        .open_read_only()
        .unwrap()
        .topic("t")
        .unwrap()
        .partition(0)
        .unwrap();
    assert!(matches!(reading.roll(), Err(Error::ReadOnly)));
    log.close().unwrap();
    assert!(matches!(partition.roll(), Err(Error::Closed)));
}
