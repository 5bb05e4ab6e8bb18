//! A partition without a log around it.

use std::fs;
use std::time::Duration;

use annals::{
    Durability, Error, Log, ManualClock, MemoryDisk, Partition, Record, Timestamp, TopicConfig,
};

use super::{assert_unchanged, killed_copy, one_partition, texts, tree};

#[test]
fn it_is_there_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("kv").join("wal");
    let wal = Partition::open(&root, TopicConfig::new().durability(Durability::Synced)).unwrap();
    assert_eq!((&*wal.id().topic, wal.id().partition), ("wal", 0));
    wal.append(("a", "1")).unwrap();
    wal.append(Record::tombstone("a")).unwrap();
    drop(wal);
    assert!(
        root.join(".kafka_cleanshutdown").exists()
            && root.join("recovery-point-offset-checkpoint").exists()
    );
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    assert_eq!(wal.log_end_offset(), 2);
    let before = tree(&root);
    assert_eq!(texts(&wal).unwrap(), ["1", ""]);
    drop(wal);
    assert_unchanged(&before, &tree(&root));
}

#[test]
fn the_name_of_its_directory_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (name, topic, partition) in [
        ("orders-7", "orders", 7),
        ("a b", "a b", 0),
        ("x-01", "x-01", 0),
    ] {
        let open = || Partition::open(dir.path().join(name), TopicConfig::new()).unwrap();
        let lone = open();
        assert_eq!((&*lone.id().topic, lone.id().partition), (topic, partition));
        lone.append_batch(["x", "y", "z"]).unwrap();
        lone.delete_records_before(1).unwrap();
        drop(lone);
        let lone = open();
        assert_eq!(
            (lone.log_start_offset(), lone.log_end_offset()),
            (1, 3),
            "{name}"
        );
    }
}

#[test]
fn a_snapshot_and_a_log_from_there() {
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
fn a_kill_loses_nothing() {
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
fn it_is_locked_while_a_handle_lives() {
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
fn a_partition_of_a_log_is_left_as_the_log_wants_it() {
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
        "the log has it"
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
    assert!(
        log.recovery().clean && !log.recovery().has_losses(),
        "{:?}",
        log.recovery()
    );
    let topic = log.topic("t").unwrap();
    let partition = topic.partition(0).unwrap();
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (2, 3)
    );
    assert_eq!(texts(&partition).unwrap(), ["c"]);
    assert_eq!(texts(&topic.partition(1).unwrap()).unwrap(), ["other"]);
}

#[test]
fn a_name_that_the_log_around_cannot_hold_is_refused() {
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
fn everything_is_kept_unless_the_config_says_otherwise() {
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
    assert_eq!((wal.log_start_offset(), wal.log_end_offset()), (1, 1));
}

#[test]
fn it_keeps_in_mind_that_no_offset_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let note = root.join("lone-partition");
    let open = |config| Partition::open(&root, config).unwrap();
    let wal = open(TopicConfig::new().segment_bytes(100));
    for text in ["a", "b", "c", "d"] {
        wal.append(text).unwrap();
    }
    let gone = wal.segments()[1].clone();
    drop(wal);
    fs::remove_file(&gone.path).unwrap();

    let error = texts(&open(TopicConfig::new())).unwrap_err();
    let Error::Corrupt(damage) = error else {
        panic!("{error}")
    };
    assert_eq!(damage.offsets, gone.base_offset..gone.next_offset);

    // A partition of before that file, or one that may be compacted: gaps are legal from then on.
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
fn a_broker_that_held_it_may_have_compacted_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal-0");
    let open = || Partition::open(&root, TopicConfig::new().segment_bytes(100)).unwrap();
    let wal = open();
    wal.append_batch(["a", "b"]).unwrap();
    wal.append_batch(["c", "d"]).unwrap();
    wal.append("e").unwrap();
    let gone = wal.segments()[1].path.clone();
    drop(wal);
    fs::write(
        root.join("partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ",
    )
    .unwrap();
    fs::remove_file(gone).unwrap();
    assert_eq!(texts(&open()).unwrap(), ["a", "b", "e"]);
}

/// Its log start stood only in a checkpoint without a checksum: one flipped digit hid records, and
/// nothing was told.
#[test]
fn where_it_starts_stands_under_a_checksum() {
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

/// It was created anew, empty, and its offsets started again at 0.
#[test]
fn that_all_its_segments_are_gone_is_told() {
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
            panic!("offsets are given twice")
        };
        assert_eq!(damage.offsets, 0..3);
        assert!(texts(&wal).unwrap_err().is_corruption());
    }
    let wal = open();
    wal.truncate_to(0).unwrap();
    assert_eq!(wal.append("d").unwrap().offset, 0);
}

#[test]
fn it_says_what_opening_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let open = || Partition::open(&root, TopicConfig::new()).unwrap();
    let wal = open();
    wal.append_batch(["a", "b"]).unwrap();
    let path = wal.segments()[0].path.clone();
    assert_eq!(wal.recovery().bytes_scanned, 0, "it was created");
    drop(wal);
    assert_eq!(
        open().recovery().bytes_scanned,
        0,
        "it was closed in good order"
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
fn a_partition_of_a_log_has_the_report_that_the_log_has() {
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
fn it_is_read_beside_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new().segment_bytes(200)).unwrap();
    wal.append_batch(["a", "b", "c"]).unwrap();
    wal.delete_records_before(1).unwrap();
    let before = tree(&root);
    let reading = Partition::open_read_only(&root).unwrap();
    assert_eq!(reading.id(), wal.id());
    assert_eq!(reading.log_start_offset(), 1);
    assert_eq!(texts(&reading).unwrap(), ["b", "c"]);
    assert_unchanged(&before, &tree(&root));

    let mut follower = reading.follow(3..).unwrap();
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
    assert_eq!(
        (reading.log_start_offset(), reading.log_end_offset()),
        (8, 8)
    );
    let before = tree(&root);
    for refused in [
        reading.append("x").map(drop),
        reading.roll(),
        reading.delete_records_before(8).map(drop),
        reading.truncate_to(0),
        reading.reopen().map(drop),
    ] {
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    }
    reading.flush().unwrap();
    drop((reading, follower));
    assert_unchanged(&before, &tree(&root));
    wal.append("after").unwrap();
}

#[test]
fn a_partition_of_a_log_is_read_alone_beside_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = one_partition(&log, "t");
    topic.append("a").unwrap();
    let reading = Partition::open_read_only(dir.path().join("t-0")).unwrap();
    assert_eq!(reading.id(), topic.partition(0).unwrap().id());
    topic.append("b").unwrap();
    assert_eq!(texts(&reading).unwrap(), ["a", "b"]);
    log.delete_topic("t").unwrap();
    assert!(matches!(reading.read(..), Err(Error::UnknownTopic(_))));
}

#[test]
fn damage_in_a_partition_that_is_read_alone_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let wal = Partition::open(&root, TopicConfig::new().segment_bytes(200)).unwrap();
    for _ in 0..3 {
        wal.append("v".repeat(100)).unwrap();
    }
    let middle = wal.segments()[1].path.clone();
    drop(wal);
    fs::remove_file(middle).unwrap();
    let reading = Partition::open_read_only(&root).unwrap();
    let error = reading.read(..).unwrap().find_map(Result::err);
    assert!(matches!(error, Some(Error::Corrupt(_))), "{error:?}");
}

#[test]
fn what_is_no_partition_is_not_read_as_one() {
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
