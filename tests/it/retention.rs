//! Retention through the public face: what goes, what stays, and what is left on disk.

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
/// Some day in 2020, so that the files of the tests lie after it.
const START: Timestamp = Timestamp::from_millis(1_600_000_000_000);

fn maintain(bench: &Bench) -> u64 {
    bench.log().maintain().unwrap().segments_deleted
}

/// Size of a batch of one `value()`.
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

/// `segments` segments of `each` records.
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
fn segments_over_the_size_go() {
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
fn segments_under_the_size_stay() {
    let bench = Bench::new(START);
    let limit = u64::from(record_bytes()) * 15;
    let partition = bench.partition("t", sized(5).retention_bytes(limit + 1).retention(None));
    fill(&partition, 3, 5);
    assert_eq!(maintain(&bench), 0);
    assert_eq!(partition.segments().len(), 3);
}

#[test]
fn when_all_is_old_one_empty_segment_remains() {
    let mut bench = Bench::new(START);
    let partition = bench.partition("t", sized(5).retention(DAY));
    fill(&partition, 3, 5);
    assert_eq!(maintain(&bench), 0, "nothing is old yet");
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
    assert_eq!(partition.log_end_offset(), 15, "offsets never start again");
    assert_eq!(partition.append(value()).unwrap().offset, 15);
}

#[test]
fn only_a_policy_that_deletes_deletes() {
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
fn a_week_old_is_gone() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", TopicConfig::new());
    partition.append("old").unwrap();
    bench.clock.advance(DAY * 8);
    assert_eq!(maintain(&bench), 1);
    assert_eq!(partition.log_start_offset(), 1);
}

#[test]
fn files_wait_for_their_delay() {
    let bench = Bench::new(START);
    let partition = bench.partition("t", sized(5).retention(DAY).file_delete_delay(HOUR));
    fill(&partition, 3, 5);
    bench.clock.advance(DAY * 2);
    assert_eq!(maintain(&bench), 3);
    let dir = bench.dir.path().join("t-0");
    assert!(
        files(&dir, ".log.deleted") == 3 && files(&dir, ".log") == 1,
        "renamed first"
    );
    bench.clock.advance(HOUR / 2);
    maintain(&bench);
    assert_eq!(files(&dir, ".log.deleted"), 3, "half an hour is not enough");
    bench.clock.advance(HOUR);
    assert!(bench.log().maintain().unwrap().bytes_freed > 0);
    assert_eq!(files(&dir, ".deleted"), 0);
}

#[test]
fn a_deleted_topic_waits_for_its_delay() {
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
fn a_pass_removes_files_and_old_reads_are_out_of_range() {
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
fn a_record_from_the_future_holds_nothing_back_for_ever() {
    let bench = Bench::new(START);
    let config = sized(1).retention(DAY).timestamp_after_max(None);
    let partition = bench.partition("t", config);
    partition
        .append(Record::new("bogus future value").timestamp(START + DAY * 40_000))
        .unwrap();
    for _ in 0..3 {
        partition.append(value()).unwrap();
    }
    // The files were written now, which is long after the clock's day: first nothing dates them.
    bench.clock.advance(DAY * 2);
    assert_eq!(maintain(&bench), 0);
    bench
        .clock
        .set(Timestamp::from(std::time::SystemTime::now()) + HOUR);
    assert_eq!(maintain(&bench), 0, "written an hour ago, by its file");
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
fn the_log_as_a_whole_is_bounded_and_the_oldest_go_first() {
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
    assert_eq!(maintain(&bench), 0, "a little over 19 of 20");
    for _ in 0..4 {
        a.append(value().timestamp(START + HOUR * 4)).unwrap();
    }
    assert_eq!(
        (a.log_start_offset(), b.log_start_offset()),
        (0, 4),
        "b is the oldest"
    );
    for _ in 0..20 {
        a.append(value().timestamp(START + HOUR * 4)).unwrap();
    }
    maintain(&bench);
    assert!(
        a.log_start_offset() > 0 && b.log_end_offset() - b.log_start_offset() == 2,
        "active segments stay"
    );
    let left: u64 = [&a, &b, &compacted]
        .iter()
        .flat_map(|partition| partition.segments())
        .map(|segment| segment.bytes)
        .sum();
    assert!(left <= bytes * 20 && left > bytes * 16, "{left}");
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

/// A regression: segments of 1 GiB and a look every five minutes let a log of 8 MiB grow to 36.
#[test]
fn a_log_with_default_segments_never_grows_beyond_its_bound() {
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
    assert!(log_bytes(&log) > BOUND / 2, "and most of it is used");
}

#[test]
fn a_bound_holds_for_many_partitions_that_are_smaller_than_a_segment() {
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
        "the oldest records are deleted, wherever they are: {newest}"
    );
}

/// A regression: nothing was freed on a full disk, because everything was in the active segment.
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
fn an_update_takes_effect_at_the_next_pass() {
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
