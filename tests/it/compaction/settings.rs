//! When a log compacts by itself, and what it leaves alone.

use super::*;

#[test]
fn a_log_compacts_what_is_dirty_enough() {
    let bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).min_cleanable_dirty_ratio(0.5),
    );
    append(&partition, "abcdefgh");
    append(&partition, "i");
    // Everything is dirty.
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    assert!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint"))
            .unwrap()
            .ends_with("t 0 8\n")
    );
    append(&partition, "iii");
    append(&partition, "j");
    assert_eq!(
        bench.log().maintain().unwrap().records_removed,
        0,
        "a third is not enough"
    );
    assert_eq!(
        partition.compact().unwrap().records_removed,
        3,
        "on demand it is"
    );
    append(&partition, &"k".repeat(24));
    assert!(bench.log().maintain().unwrap().records_removed > 15);
}

/// It can come with the files of another disk, or name a topic that was made anew.
#[test]
fn a_checkpoint_beyond_the_end_of_the_log_counts_for_nothing() {
    let mut bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).min_cleanable_dirty_ratio(0.5),
    );
    append(&partition, "aaaabbbbc");
    drop(partition);
    bench.close();
    fs::write(bench.file("cleaner-offset-checkpoint"), "0\n1\nt 0 99\n").unwrap();
    bench.open();
    assert_eq!(
        bench.log().maintain().unwrap().records_removed,
        6,
        "all of it is dirty"
    );
    assert_eq!(offsets(&bench.reopen()), [3, 7, 8]);
    assert!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint"))
            .unwrap()
            .ends_with("t 0 8\n")
    );
}

#[test]
fn what_waited_too_long_is_compacted() {
    let bench = Bench::new(START);
    let config = compacted(4 * record_bytes() + 20).min_cleanable_dirty_ratio(1.0);
    let partition = bench.partition("t", config.max_compaction_lag(HOUR));
    append(&partition, "aaaaa");
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    bench.clock.advance(HOUR);
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.log().maintain().unwrap().records_removed, 3);
    // And rolled, as soon as something is appended behind it.
    assert_eq!(bases(&partition), [0, 4]);
    append(&partition, "a");
    assert_eq!(bases(&partition), [0, 4, 5]);
}

#[test]
fn young_records_are_left_alone() {
    let bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).min_compaction_lag(HOUR),
    );
    append(&partition, "aaaa");
    bench.clock.advance(HOUR);
    append(&partition, "aaaaa");
    assert_eq!(partition.compact().unwrap().records_removed, 3);
    assert_eq!(offsets(&partition), [3, 4, 5, 6, 7, 8]);
    bench.clock.advance(HOUR);
    partition.compact().unwrap();
    assert_eq!(offsets(&partition), [7, 8]);
}

#[test]
fn small_segments_become_one() {
    let bench = Bench::new(START);
    let bytes = record_bytes();
    let partition = bench.partition("t", compacted(4 * bytes + 20));
    append(&partition, "abcdefghaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(bases(&partition), [0, 4, 8, 12, 16, 20, 24]);
    partition.compact().unwrap();
    // By the sizes before: nothing fits together yet, but for what this pass left.
    assert_eq!(bases(&partition), [0, 4, 8, 12, 16, 20, 24]);
    partition.compact().unwrap();
    assert_eq!(bases(&partition), [0, 4, 20, 24]);
    assert_eq!(
        offsets(&partition),
        [1, 2, 3, 4, 5, 6, 7, 23, 24, 25, 26, 27]
    );
    bench
        .log()
        .topic("t")
        .unwrap()
        .update_config(TopicConfig::new().segment_bytes(100 * bytes))
        .unwrap();
    partition.compact().unwrap();
    assert_eq!(
        (bases(&partition), offsets(&partition).len()),
        (vec![0, 24], 12)
    );
}

#[test]
fn both_policies_hold() {
    let bench = Bench::new(START);
    let config = compacted(4 * record_bytes() + 20)
        .cleanup_policy(CleanupPolicy::CompactAndDelete)
        .retention(DAY);
    let partition = bench.partition("t", config);
    append(&partition, "abcd");
    bench.clock.advance(2 * DAY);
    append(&partition, "eeeef");
    let done = bench.log().maintain().unwrap();
    assert_eq!((done.segments_deleted, done.records_removed), (1, 3));
    assert_eq!(
        (partition.log_start_offset(), offsets(&partition)),
        (4, vec![7, 8])
    );
    assert_eq!(partition.delete_records_before(8).unwrap(), 8);
    assert_eq!(offsets(&partition), [8]);
}

#[test]
fn without_compact_nothing_is_compacted() {
    let bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).cleanup_policy(CleanupPolicy::Delete),
    );
    append(&partition, "aaaaaaaaaaaaa");
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    assert_eq!(offsets(&partition).len(), 13);
}

#[test]
fn the_background_thread_compacts() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::builder(dir.path())
        .config(LogConfig::new().maintenance_interval(Duration::from_millis(20)))
        .open()
        .unwrap();
    let partition = log
        .open_topic("t", 1, compacted(4 * record_bytes() + 20))
        .unwrap()
        .partition(0)
        .unwrap();
    append(&partition, "aaaaaaaaaaaaaaaaaaaaa");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while offsets(&partition).len() > 3 {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            offsets(&partition)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    log.close().unwrap();
}

#[test]
fn committed_offsets_are_compacted() {
    let mut bench = Bench::with(START, LogConfig::new());
    append(&bench.partition("t", TopicConfig::new()), &"a".repeat(200));
    let store = |bench: &Bench| {
        let path = bench.file("__consumer_offsets-0/00000000000000000000.log");
        fs::metadata(path).unwrap().len()
    };
    let group = bench.log().consumer_group("group").unwrap();
    let topic = annals::TopicPartition::from(("t", 0));
    for next in 1..=200_u64 {
        group.commit([(topic.clone(), next.into())]).unwrap();
    }
    let before = store(&bench);
    drop(group);
    // Kafka's segments of 100 MiB would keep a test waiting: a lone partition rolls where it is
    // told to.
    bench.close();
    let offsets = Partition::open(bench.file("__consumer_offsets-0"), compacted(500)).unwrap();
    let tombstone_of_nobody = Record::tombstone(vec![0, 1, 0, 1, b'g', 0, 1, b'x', 0, 0, 0, 0]);
    offsets.append(tombstone_of_nobody).unwrap();
    assert_eq!(offsets.compact().unwrap().records_removed, 199);
    drop(offsets);
    assert!(store(&bench) * 50 < before);
    bench.open();
    let group = bench.log().consumer_group("group").unwrap();
    assert_eq!(group.committed(&topic).unwrap().unwrap().offset, 200);
}
