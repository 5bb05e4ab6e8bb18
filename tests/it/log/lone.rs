//! Partitions that are opened without a log.

use std::fs;
use std::time::Duration;

use annals::{
    Durability, Error, Log, ManualClock, MemoryDisk, Partition, Record, Timestamp, TopicConfig,
};

use super::{assert_unchanged, killed_copy, one_partition, texts, tree};

#[test]
fn a_lone_partition_keeps_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("kv").join("wal");
    let wal = Partition::open(&root, TopicConfig::new().durability(Durability::Synced)).unwrap();
    assert_eq!(wal.id().to_string(), "wal-0");
    wal.append(("a", "1")).unwrap();
    wal.append(Record::tombstone("a")).unwrap();
    drop(wal);
    assert!(root.join(".kafka_cleanshutdown").exists());
    assert!(root.join("recovery-point-offset-checkpoint").exists());
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    assert_eq!(wal.log_end_offset(), 2);
    let before = tree(&root);
    assert_eq!(texts(&wal).unwrap(), ["1", ""]);
    drop(wal);
    assert_unchanged(&before, &tree(&root));
}

#[test]
fn a_lone_partition_takes_its_id_from_the_name_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for (name, topic, partition) in [
        ("orders-7", "orders", 7),
        ("a b", "a b", 0),
        ("x-01", "x-01", 0),
    ] {
        let open = || Partition::open(dir.path().join(name), TopicConfig::new()).unwrap();
        let lone = open();
        assert_eq!(&*lone.id().topic, topic);
        assert_eq!(lone.id().partition, partition);
        lone.append_batch(["x", "y", "z"]).unwrap();
        lone.delete_records_before(1).unwrap();
        drop(lone);
        let lone = open();
        assert_eq!(lone.log_start_offset(), 1, "{name}");
        assert_eq!(lone.log_end_offset(), 3, "{name}");
    }
}

#[test]
fn a_lone_partition_replays_the_records_after_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    wal.append_batch(["a", "b", "c"]).unwrap();
    wal.delete_records_before(2).unwrap();
    drop(wal);
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    let mut replay = wal.read(2..).unwrap();
    assert_eq!(replay.next_record().unwrap().unwrap().text(), "c");
    assert!(replay.next_record().unwrap().is_none());
    assert_eq!(replay.next_offset(), 3);
}

#[test]
fn a_lone_partition_keeps_its_records_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Partition::open(dir.path().join("wal"), TopicConfig::new()).unwrap();
    wal.append_batch(["a", "b"]).unwrap();
    let copy = killed_copy(dir.path());
    assert!(
        !copy
            .path()
            .join("wal")
            .join(".kafka_cleanshutdown")
            .exists()
    );
    let wal = Partition::open(copy.path().join("wal"), TopicConfig::new()).unwrap();
    assert_eq!(texts(&wal).unwrap(), ["a", "b"]);
}

#[test]
fn a_lone_partition_is_locked_while_a_handle_exists() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    wal.append("a").unwrap();
    let reader = wal.read(..).unwrap();
    drop(wal);
    assert!(matches!(
        Partition::open(&root, TopicConfig::new()),
        Err(Error::Locked { .. })
    ));
    drop(reader);
    Partition::open(&root, TopicConfig::new()).unwrap();
}

#[test]
fn a_log_opens_cleanly_after_one_of_its_partitions_was_changed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 2, TopicConfig::new()).unwrap();
    topic
        .partition(0)
        .unwrap()
        .append_batch(["a", "b", "c"])
        .unwrap();
    topic.partition(1).unwrap().append("other").unwrap();
    let member = dir.path().join("t-0");
    assert!(
        matches!(
            Partition::open(&member, TopicConfig::new()),
            Err(Error::Locked { .. })
        ),
        "the log must hold the lock"
    );
    log.close().unwrap();
    let lone = Partition::open(&member, TopicConfig::new()).unwrap();
    assert!(matches!(Log::open(dir.path()), Err(Error::Locked { .. })));
    assert_eq!(lone.append("d").unwrap().offset, 3);
    lone.delete_records_before(2).unwrap();
    lone.truncate_to(3).unwrap();
    assert!(!dir.path().join(".kafka_cleanshutdown").exists());
    drop(lone);

    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    let topic = log.topic("t").unwrap();
    let partition = topic.partition(0).unwrap();
    assert_eq!(partition.log_start_offset(), 2);
    assert_eq!(partition.log_end_offset(), 3);
    assert_eq!(texts(&partition).unwrap(), ["c"]);
    assert_eq!(texts(&topic.partition(1).unwrap()).unwrap(), ["other"]);
}

#[test]
fn a_lone_partition_in_a_log_is_refused_unless_its_name_is_that_of_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t");
    log.close().unwrap();
    let refused = Partition::open(dir.path().join("wal"), TopicConfig::new());
    assert!(matches!(refused, Err(Error::NotALog { .. })), "{refused:?}");
    let whole = Partition::open(dir.path(), TopicConfig::new());
    assert!(matches!(whole, Err(Error::NotALog { .. })), "{whole:?}");
    assert!(!dir.path().join("wal").exists());
    Log::open(dir.path()).unwrap();
}

#[test]
fn a_lone_partition_keeps_all_records_unless_its_config_sets_a_retention() {
    let disk = MemoryDisk::default();
    let clock = ManualClock::at(Timestamp::from_millis(1_600_000_000_000));
    let open = |config| {
        Log::builder("wal")
            .storage(disk.clone())
            .clock(clock.clone())
            .open_partition(config)
            .unwrap()
    };
    open(TopicConfig::new()).append("old").unwrap();
    clock.advance(Duration::from_secs(400 * 24 * 3600));
    let wal = open(TopicConfig::new());
    assert_eq!(texts(&wal).unwrap(), ["old"]);
    drop(wal);
    let wal = open(TopicConfig::new().retention(Duration::from_secs(3600)));
    assert_eq!(wal.log_start_offset(), 1);
    assert_eq!(wal.log_end_offset(), 1);
}

#[test]
fn a_lone_partition_remembers_that_no_offset_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let note = root.join("lone-partition");
    let open = |config| Partition::open(&root, config).unwrap();
    let wal = open(TopicConfig::new().segment_bytes(100));
    for text in ["a", "b", "c", "d"] {
        wal.append(text).unwrap();
    }
    let removed = wal.segments()[1].clone();
    drop(wal);
    fs::remove_file(&removed.path).unwrap();

    let error = texts(&open(TopicConfig::new())).unwrap_err();
    let Error::Corrupt(damage) = error else {
        panic!("{error}")
    };
    assert_eq!(damage.offsets, removed.base_offset..removed.next_offset);

    // Gaps are legal in a partition of an earlier version, which has no such note, and in one that
    // has been opened for compaction.
    let kept = fs::read(&note).unwrap();
    fs::remove_file(&note).unwrap();
    assert_eq!(texts(&open(TopicConfig::new())).unwrap().len(), 3);
    fs::write(&note, kept).unwrap();
    drop(open(
        TopicConfig::new().cleanup_policy(annals::CleanupPolicy::Compact),
    ));
    assert_eq!(texts(&open(TopicConfig::new())).unwrap().len(), 3);
}

#[test]
fn a_lone_partition_that_a_broker_held_may_have_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal-0");
    let open = || Partition::open(&root, TopicConfig::new().segment_bytes(100)).unwrap();
    let wal = open();
    wal.append_batch(["a", "b"]).unwrap();
    wal.append_batch(["c", "d"]).unwrap();
    wal.append("e").unwrap();
    let removed = wal.segments()[1].path.clone();
    drop(wal);
    fs::write(
        root.join("partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ",
    )
    .unwrap();
    fs::remove_file(removed).unwrap();
    assert_eq!(texts(&open()).unwrap(), ["a", "b", "e"]);
}

/// A regression: the log start was only in a checkpoint without a checksum, so one flipped digit
/// hid records without an error.
#[test]
fn the_log_start_of_a_lone_partition_is_protected_by_a_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let open = || Partition::open(&root, TopicConfig::new()).unwrap();
    let wal = open();
    wal.append_batch(["a", "b", "c"]).unwrap();
    wal.delete_records_before(1).unwrap();
    drop(wal);
    let checkpoint = root.join("log-start-offset-checkpoint");
    let text = fs::read_to_string(&checkpoint).unwrap();
    fs::write(&checkpoint, text.replace("partition 0 1", "partition 0 3")).unwrap();
    assert_eq!(texts(&open()).unwrap(), ["b", "c"]);
    fs::remove_file(root.join("lone-partition")).unwrap();
    assert_eq!(open().log_start_offset(), 3);
}

/// A regression: the partition was created again, empty, and its offsets started at 0.
#[test]
fn a_lone_partition_without_its_segments_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let open = || Partition::open(&root, TopicConfig::new()).unwrap();
    let wal = open();
    wal.append_batch(["a", "b", "c"]).unwrap();
    drop(wal);
    for name in ["log", "index", "timeindex"] {
        let _may_not_be_there = fs::remove_file(root.join(format!("00000000000000000000.{name}")));
    }
    for _ in 0..2 {
        let wal = open();
        assert_eq!(wal.log_end_offset(), 3);
        let Err(Error::Corrupt(damage)) = wal.append("d") else {
            panic!("the append must not assign offsets a second time")
        };
        assert_eq!(damage.offsets, 0..3);
        assert!(texts(&wal).unwrap_err().is_corruption());
    }
    let wal = open();
    wal.truncate_to(0).unwrap();
    assert_eq!(wal.append("d").unwrap().offset, 0);
}

#[test]
fn a_lone_partition_has_a_recovery_report() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let open = || Partition::open(&root, TopicConfig::new()).unwrap();
    let wal = open();
    wal.append_batch(["a", "b"]).unwrap();
    let path = wal.segments()[0].path.clone();
    assert_eq!(wal.recovery().bytes_scanned, 0, "the partition was created");
    drop(wal);
    assert_eq!(
        open().recovery().bytes_scanned,
        0,
        "the partition was closed cleanly"
    );
    fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
    let sound = fs::read(&path).unwrap();
    fs::write(&path, [&*sound, b"torn"].concat()).unwrap();
    let wal = open();
    assert_eq!(wal.recovery().bytes_cut, 4);
    assert_eq!(wal.recovery().kept.len(), 1);
    assert!(wal.recovery().damage.is_none());
}

#[test]
fn a_partition_of_a_log_has_the_recovery_report_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("a").unwrap();
    let copy = killed_copy(dir.path());
    let log = Log::open(copy.path()).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let (id, report) = &log.recovery().partitions[0];
    assert_eq!(id, partition.id());
    assert!(report.bytes_scanned > 0);
    assert_eq!(partition.recovery().bytes_scanned, report.bytes_scanned);
}

#[test]
fn a_lone_partition_is_read_alongside_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new().segment_bytes(200)).unwrap();
    wal.append_batch(["a", "b", "c"]).unwrap();
    wal.delete_records_before(1).unwrap();
    let before = tree(&root);
    let read_only = Partition::open_read_only(&root).unwrap();
    assert_eq!(read_only.id(), wal.id());
    assert_eq!(read_only.log_start_offset(), 1);
    assert_eq!(texts(&read_only).unwrap(), ["b", "c"]);
    assert_unchanged(&before, &tree(&root));

    let mut follower = read_only.follow(3..).unwrap();
    let long = "v".repeat(100);
    for _ in 0..5 {
        wal.append(&*long).unwrap();
    }
    for offset in 3..8 {
        assert_eq!(
            follower
                .next_record()
                .unwrap()
                .map(|record| record.offset()),
            Some(offset)
        );
    }
    wal.delete_records_before(8).unwrap();
    assert_eq!(read_only.log_start_offset(), 8);
    assert_eq!(read_only.log_end_offset(), 8);
    let before = tree(&root);
    for refused in [
        read_only.append("x").map(drop),
        read_only.roll(),
        read_only.delete_records_before(8).map(drop),
        read_only.truncate_to(0),
        read_only.reopen().map(drop),
    ] {
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    }
    read_only.flush().unwrap();
    drop((read_only, follower));
    assert_unchanged(&before, &tree(&root));
    wal.append("after").unwrap();
}

#[test]
fn a_partition_of_an_open_log_can_be_opened_alone_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = one_partition(&log, "t");
    topic.append("a").unwrap();
    let read_only = Partition::open_read_only(dir.path().join("t-0")).unwrap();
    assert_eq!(read_only.id(), topic.partition(0).unwrap().id());
    topic.append("b").unwrap();
    assert_eq!(texts(&read_only).unwrap(), ["a", "b"]);
    log.delete_topic("t").unwrap();
    assert!(matches!(read_only.read(..), Err(Error::UnknownTopic(_))));
}

#[test]
fn a_lone_partition_that_is_read_only_reports_damage() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new().segment_bytes(200)).unwrap();
    for _ in 0..3 {
        wal.append("v".repeat(100)).unwrap();
    }
    let middle = wal.segments()[1].path.clone();
    drop(wal);
    fs::remove_file(middle).unwrap();
    let read_only = Partition::open_read_only(&root).unwrap();
    let error = read_only.read(..).unwrap().find_map(Result::err);
    assert!(matches!(error, Some(Error::Corrupt(_))), "{error:?}");
}

#[test]
fn a_directory_without_a_partition_is_refused_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log")).unwrap();
    one_partition(&log, "t");
    fs::create_dir(dir.path().join("empty")).unwrap();
    for name in ["log", "empty"] {
        let refused = Partition::open_read_only(dir.path().join(name));
        assert!(
            matches!(refused, Err(Error::NotALog { .. })),
            "{name}: {refused:?}"
        );
    }
    let absent = Partition::open_read_only(dir.path().join("absent"));
    assert!(matches!(absent, Err(Error::Io { .. })), "{absent:?}");
    assert!(!dir.path().join("absent").exists());
}
