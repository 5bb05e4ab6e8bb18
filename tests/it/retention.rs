//! Retention through the public API: which records are deleted, which are kept, and which files
//! remain.

use std::fs;
use std::path::Path;
use std::time::Duration;

use annals::{
    CleanupPolicy, Error, Log, LogConfig, ManualClock, MemoryDisk, Partition, Record,
    SimulatedDisk, Timestamp, TopicConfig,
};

use crate::bench::Bench;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A day in 2020. The files that the tests write have later times.
const START: Timestamp = Timestamp::from_millis(1_600_000_000_000);

fn maintain(bench: &Bench) -> u64 {
    bench.log().maintain().unwrap().segments_deleted
}

/// Returns the size of a batch with one `value()`.
fn record_bytes() -> u32 {
    let log = Log::in_memory();
    let partition = log
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append(value()).unwrap();
    u32::try_from(partition.segments()[0].bytes).unwrap()
}

fn value() -> Record<'static> {
    Record::new("a value of some length").timestamp(START)
}

/// Appends `each` records to each of `segments` segments.
fn fill(partition: &Partition, segments: usize, each: usize) {
    for _ in 0..segments * each {
        partition.append(value()).unwrap();
    }
    assert_eq!(partition.segments().len(), segments);
}

fn sized(each: u32) -> TopicConfig {
    TopicConfig::new().segment_bytes(record_bytes() * each)
}

fn files(dir: &Path, suffix: &str) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with(suffix)
        })
        .count()
}

#[test]
fn segments_beyond_the_size_limit_are_deleted() {
    let bench = Bench::new(START);
    let limit = u64::from(record_bytes()) * 10;
    let partition = bench.partition("t", sized(5).retention_bytes(limit).retention(None));
    fill(&partition, 3, 5);
    assert_eq!(maintain(&bench), 1);
    assert_eq!(partition.segments().len(), 2);
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (5, 15)
    );
    assert_eq!(maintain(&bench), 0);
}

#[test]
fn segments_within_the_size_limit_are_kept() {
    let bench = Bench::new(START);
    let limit = u64::from(record_bytes()) * 15;
    let partition = bench.partition("t", sized(5).retention_bytes(limit + 1).retention(None));
    fill(&partition, 3, 5);
    assert_eq!(maintain(&bench), 0);
    assert_eq!(partition.segments().len(), 3);
}

#[test]
fn one_empty_segment_remains_when_every_record_is_old() {
    let mut bench = Bench::new(START);
    let partition = bench.partition("t", sized(5).retention(DAY));
    fill(&partition, 3, 5);
    assert_eq!(
        maintain(&bench),
        0,
        "every record is younger than the limit"
    );
    bench.clock.advance(DAY + Duration::from_millis(1));
    assert_eq!(maintain(&bench), 3);
    let segments = partition.segments();
    assert_eq!(
        (segments.len(), segments[0].bytes, segments[0].base_offset),
        (1, 0, 15)
    );
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (15, 15)
    );
    assert_eq!(maintain(&bench), 0);
    assert_eq!(files(&bench.dir.path().join("t-0"), ".log"), 1);

    drop(partition);
    let partition = bench.reopen();
    assert_eq!(partition.log_end_offset(), 15, "offsets do not restart");
    assert_eq!(partition.append(value()).unwrap().offset, 15);
}

#[test]
fn retention_spares_topics_whose_policy_is_compact_alone() {
    for (policy, deleted) in [
        (CleanupPolicy::CompactAndDelete, 3),
        (CleanupPolicy::Compact, 0),
    ] {
        let bench = Bench::new(START);
        let record = value().key("k");
        let config = TopicConfig::new()
            .cleanup_policy(policy)
            .segment_bytes((record_bytes() + 1) * 5)
            .retention(DAY);
        let partition = bench.partition("t", config);
        for _ in 0..15 {
            partition.append(&record).unwrap();
        }
        assert_eq!(partition.segments().len(), 3);
        bench.clock.advance(DAY * 2);
        assert_eq!(maintain(&bench), deleted, "{policy:?}");
    }
}

#[test]
fn the_default_retention_deletes_records_older_than_a_week() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", TopicConfig::new());
    partition.append("old").unwrap();
    bench.clock.advance(DAY * 8);
    assert_eq!(maintain(&bench), 1);
    assert_eq!(partition.log_start_offset(), 1);
}

#[test]
fn deleted_segment_files_remain_until_the_delay_ends() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", sized(5).retention(DAY).file_delete_delay(HOUR));
    fill(&partition, 3, 5);
    bench.clock.advance(DAY * 2);
    assert_eq!(maintain(&bench), 3);
    let dir = bench.dir.path().join("t-0");
    assert_eq!(
        (files(&dir, ".log.deleted"), files(&dir, ".log")),
        (3, 1),
        "the files are renamed first"
    );
    bench.clock.advance(HOUR / 2);
    maintain(&bench);
    assert_eq!(
        files(&dir, ".log.deleted"),
        3,
        "the delay of an hour is not over"
    );
    bench.clock.advance(HOUR);
    assert!(bench.log().maintain().unwrap().bytes_freed > 0);
    assert_eq!(files(&dir, ".deleted"), 0);
}

#[test]
fn the_files_of_a_deleted_topic_remain_until_the_delay_ends() {
    let bench = Bench::new(START);
    bench
        .partition("t", TopicConfig::new().file_delete_delay(HOUR))
        .append("a")
        .unwrap();
    bench.log().delete_topic("t").unwrap();
    assert_eq!(files(bench.dir.path(), "-delete"), 1);
    bench
        .partition("t", TopicConfig::new())
        .append("b")
        .unwrap();
    bench.clock.advance(HOUR);
    assert!(bench.log().maintain().unwrap().bytes_freed > 0);
    assert_eq!(files(bench.dir.path(), "-delete"), 0);
}

#[test]
fn maintain_removes_files_and_puts_their_offsets_out_of_range() {
    let bench = Bench::new(START);
    let bytes = u64::from(record_bytes());
    let partition = bench.partition(
        "t",
        sized(10).retention_bytes(bytes * 50 + 10).retention(None),
    );
    fill(&partition, 20, 10);
    let done = bench.log().maintain().unwrap();
    assert_eq!((done.segments_deleted, partition.segments().len()), (14, 6));
    assert!(done.bytes_freed >= bytes * 140);
    assert_eq!(files(&bench.dir.path().join("t-0"), ".log"), 6);
    let old = partition.read(0..);
    assert!(
        matches!(
            old,
            Err(Error::OffsetOutOfRange {
                requested: 0,
                log_start: 140,
                log_end: 200,
                ..
            })
        ),
        "{old:?}"
    );
    assert_eq!(partition.append(value()).unwrap().offset, 200);
}

#[test]
fn a_record_from_the_future_does_not_stop_retention_for_ever() {
    let bench = Bench::new(START);
    let config = sized(1).retention(DAY).timestamp_after_max(None);
    let partition = bench.partition("t", config);
    partition
        .append(Record::new("bogus future value").timestamp(START + DAY * 40_000))
        .unwrap();
    for _ in 0..3 {
        partition.append(value()).unwrap();
    }
    // The first record's time lies in the future, and by this clock so do the times of the files:
    // neither can be used yet.
    bench.clock.advance(DAY * 2);
    assert_eq!(maintain(&bench), 0);
    bench
        .clock
        .set(Timestamp::from(std::time::SystemTime::now()) + HOUR);
    assert_eq!(maintain(&bench), 0, "the files were written an hour ago");
    bench.clock.advance(DAY * 2);
    assert_eq!(maintain(&bench), 4);
    assert_eq!(partition.log_start_offset(), 4);
}

#[test]
fn a_clock_that_jumps_back_deletes_nothing() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", sized(2).retention(DAY));
    fill(&partition, 3, 2);
    for back in [HOUR, DAY * 2, DAY * 18_000] {
        bench.clock.set(START - back);
        assert_eq!(maintain(&bench), 0, "{back:?}");
    }
    bench.clock.set(START);
    assert_eq!(partition.append("still there").unwrap().offset, 6);
    assert_eq!(partition.log_start_offset(), 0);
}

#[test]
fn max_bytes_bounds_the_log_and_deletes_the_oldest_records() {
    let bytes = u64::from(record_bytes());
    let bench = Bench::with(
        START,
        LogConfig::new()
            .max_bytes(bytes * 20)
            .topic_defaults(TopicConfig::new().max_message_bytes(1_000)),
    );
    let config = || sized(2).retention(None).timestamp_after_max(None);
    let (a, b) = (
        bench.partition("a", config()),
        bench.partition("b", config()),
    );
    let compacted = bench.partition(
        "c",
        TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
    );
    compacted.append(value().key("k")).unwrap();
    for (partition, hours) in [(&a, 2), (&b, 1), (&a, 3)] {
        for _ in 0..6 {
            partition
                .append(value().timestamp(START + HOUR * hours))
                .unwrap();
        }
    }
    bench.clock.advance(HOUR * 4);
    assert_eq!(maintain(&bench), 0, "the log is below its limit");
    for _ in 0..4 {
        a.append(value().timestamp(START + HOUR * 4)).unwrap();
    }
    assert_eq!(
        (a.log_start_offset(), b.log_start_offset()),
        (0, 4),
        "the oldest records are in b"
    );
    for _ in 0..20 {
        a.append(value().timestamp(START + HOUR * 4)).unwrap();
    }
    maintain(&bench);
    assert!(a.log_start_offset() > 0);
    assert_eq!(
        b.log_end_offset() - b.log_start_offset(),
        2,
        "active segments are kept"
    );
    let left: u64 = [&a, &b, &compacted]
        .iter()
        .flat_map(|partition| partition.segments())
        .map(|segment| segment.bytes)
        .sum();
    assert!(left <= bytes * 20, "{left}");
    assert!(left > bytes * 16, "{left}");
    assert_eq!(compacted.log_start_offset(), 0);
}

fn log_bytes(log: &Log) -> u64 {
    let partitions = log
        .topics()
        .into_iter()
        .flat_map(|topic| topic.partitions());
    partitions
        .flat_map(|partition| partition.segments())
        .map(|segment| segment.bytes)
        .sum()
}

/// Regression: with segments of 1 GiB and a check every five minutes, a log with a limit of 8 MiB
/// grew to 36 MiB.
#[test]
fn a_log_with_default_segments_stays_within_max_bytes() {
    const BOUND: u64 = 8 << 20;
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .config(LogConfig::new().max_bytes(BOUND))
        .open()
        .unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    let producer = log.producer().unwrap();
    for number in 0..3_000 {
        if number % 2 == 0 {
            topic.append([b'v'; 10_000]).unwrap();
        } else {
            producer.send(&topic, [b'v'; 10_000]).unwrap();
        }
        let bytes = log_bytes(&log);
        assert!(bytes <= BOUND + 70_000, "{bytes} after {number} records");
    }
    assert!(log_bytes(&log) > BOUND / 2, "most of the limit is used");
}

#[test]
fn max_bytes_holds_for_partitions_smaller_than_a_segment() {
    const BOUND: u64 = 1 << 20;
    let config = LogConfig::new()
        .max_bytes(BOUND)
        .topic_defaults(TopicConfig::new().max_message_bytes(100_000));
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .config(config)
        .open()
        .unwrap();
    let topic = log.open_topic("t", 50, TopicConfig::new()).unwrap();
    for number in 0..2_000 {
        topic
            .append(Record::new([b'v'; 2_000]).key(number.to_string()))
            .unwrap();
        let bytes = log_bytes(&log);
        assert!(bytes <= BOUND + 3_000, "{bytes} after {number} records");
    }
    let newest = topic
        .partitions()
        .iter()
        .filter(|partition| partition.log_end_offset() > partition.log_start_offset())
        .count();
    assert!(
        newest > 25,
        "records are left in {newest} partitions: others than the oldest were deleted"
    );
}

/// Regression: a pass freed no space on a full disk, because every record was in the active
/// segment.
#[test]
fn maintaining_a_full_disk_frees_the_active_segment() {
    const CAPACITY: u64 = 100_000;
    let disk = SimulatedDisk::new(1);
    let clock = ManualClock::at(START);
    let open = |config: LogConfig| {
        Log::builder("data")
            .storage(disk.clone())
            .clock(clock.clone())
            .config(config)
            .open()
            .unwrap()
    };
    let log = open(LogConfig::new());
    let partition = log
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    disk.set_capacity(CAPACITY);
    while partition.append([b'v'; 500]).is_ok() {}
    drop((log, partition));
    let log = open(
        LogConfig::new()
            .max_bytes(CAPACITY / 2)
            .topic_defaults(TopicConfig::new().max_message_bytes(10_000)),
    );
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let done = log.maintain().unwrap();
    assert!(done.bytes_freed > CAPACITY / 2, "{done:?}");
    for _ in 0..1_000 {
        partition.append([b'v'; 500]).unwrap();
    }
    assert!(log_bytes(&log) <= CAPACITY / 2 + 1_000);
}

#[test]
fn a_retention_update_takes_effect_at_the_next_pass() {
    let bench = Bench::new(START);
    let topic = bench
        .log()
        .open_topic("t", 1, sized(5).retention(None))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    fill(&partition, 3, 5);
    bench.clock.advance(DAY * 30);
    assert_eq!(maintain(&bench), 0);
    topic
        .update_config(TopicConfig::new().retention(DAY))
        .unwrap();
    assert_eq!(maintain(&bench), 3);
}
