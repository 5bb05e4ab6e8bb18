//! The settings that decide when a log is compacted, and which records are not compacted yet.

use super::*;

#[test]
fn maintain_compacts_a_partition_that_is_dirty_enough() {
    let bench = Bench::new(START);
    let partition = bench.partition(
        "t",
        compacted(4 * record_bytes() + 20).min_cleanable_dirty_ratio(0.5),
    );
    append(&partition, "abcdefgh");
    append(&partition, "i");
    // Every record is dirty, so the partition is compacted, but no record has a successor.
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
        "a third of the bytes is not dirty enough"
    );
    assert_eq!(
        partition.compact().unwrap().records_removed,
        3,
        "compact ignores the ratio"
    );
    append(&partition, &"k".repeat(24));
    assert!(bench.log().maintain().unwrap().records_removed > 15);
}

/// The checkpoint may come with the files of another disk, or name a topic that was created again.
#[test]
fn a_cleaner_checkpoint_beyond_the_log_end_is_ignored() {
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
        "every record is dirty"
    );
    assert_eq!(offsets(&bench.reopen()), [3, 7, 8]);
    assert!(
        fs::read_to_string(bench.file("cleaner-offset-checkpoint"))
            .unwrap()
            .ends_with("t 0 8\n")
    );
}

#[test]
fn records_older_than_the_max_compaction_lag_are_compacted() {
    let bench = Bench::new(START);
    let config = compacted(4 * record_bytes() + 20).min_cleanable_dirty_ratio(1.0);
    let partition = bench.partition("t", config.max_compaction_lag(HOUR));
    append(&partition, "aaaaa");
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    bench.clock.advance(HOUR);
    assert_eq!(bench.log().maintain().unwrap().records_removed, 0);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.log().maintain().unwrap().records_removed, 3);
    // The old active segment is compacted too: it rolls at the next append.
    assert_eq!(bases(&partition), [0, 4]);
    append(&partition, "a");
    assert_eq!(bases(&partition), [0, 4, 5]);
}

#[test]
fn records_younger_than_the_min_compaction_lag_are_kept() {
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
fn compaction_merges_small_segments() {
    let bench = Bench::new(START);
    let bytes = record_bytes();
    let partition = bench.partition("t", compacted(4 * bytes + 20));
    append(&partition, "abcdefghaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(bases(&partition), [0, 4, 8, 12, 16, 20, 24]);
    partition.compact().unwrap();
    // The segments are grouped by their sizes before the pass, so the small ones are still
    // separate.
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
fn compact_and_delete_applies_both_policies() {
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
fn a_topic_with_policy_delete_is_not_compacted() {
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
    // Kafka's segments of 100 MiB would make this test slow. A lone partition rolls at the size
    // that it is given.
    bench.close();
    let offsets = Partition::open(bench.file("__consumer_offsets-0"), compacted(500)).unwrap();
    let unrelated_tombstone = Record::tombstone(vec![0, 1, 0, 1, b'g', 0, 1, b'x', 0, 0, 0, 0]);
    offsets.append(unrelated_tombstone).unwrap();
    assert_eq!(offsets.compact().unwrap().records_removed, 199);
    drop(offsets);
    assert!(store(&bench) * 50 < before);
    bench.open();
    let group = bench.log().consumer_group("group").unwrap();
    assert_eq!(group.committed(&topic).unwrap().unwrap().offset, 200);
}
