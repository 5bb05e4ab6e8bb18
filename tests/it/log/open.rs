//! Opening a log, closing it, and opening it again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    CleanupPolicy, Durability, Error, Isolation, Log, LogConfig, ManualClock, MemoryDisk,
    ReadOptions, Timestamp, TopicConfig,
};

use super::{assert_unchanged, killed_copy, one_partition, texts, tree};
use crate::kafka::{copy_dir, fixture};
use crate::rerun::command_of;

#[test]
fn records_and_topics_survive_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new").join("data");
    let log = Log::open(&root).unwrap();
    assert!(log.recovery().clean);
    assert!(!log.recovery().has_losses());
    let orders = log
        .create_topic(
            "orders",
            3,
            TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
        )
        .unwrap();
    let id = orders.id();
    let written = orders.append(("order-42", "paid")).unwrap();
    assert_eq!(written.partition, 0, "order-42 hashes to 0 of 3");
    assert_eq!(written.offset, 0);
    log.close().unwrap();

    let log = Log::open(&root).unwrap();
    assert!(log.recovery().clean);
    assert!(log.recovery().partitions.is_empty(), "{:?}", log.recovery());
    let orders = log.open_topic("orders", 99, TopicConfig::new()).unwrap();
    assert_eq!(
        orders.partitions().len(),
        3,
        "an existing topic keeps its number of partitions"
    );
    assert_eq!(
        orders.config(),
        TopicConfig::new().cleanup_policy(CleanupPolicy::Compact)
    );
    assert_eq!(orders.id(), id);
    assert_eq!(id.unwrap().len(), 22);
    assert_eq!(texts(&orders.partition_for(b"order-42")).unwrap(), ["paid"]);
    assert_eq!(orders.append(("order-42", "sent")).unwrap().offset, 1);
}

#[test]
fn the_clean_shutdown_marker_exists_only_while_the_log_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join(".kafka_cleanshutdown");
    let log = Log::open(dir.path()).unwrap();
    let topic = one_partition(&log, "t");
    assert!(!marker.exists());
    log.close().unwrap();
    assert_eq!(
        fs::read_to_string(&marker).unwrap(),
        "{\"version\":0,\"brokerEpoch\":-1}"
    );
    drop(topic);

    let log = Log::open(dir.path()).unwrap();
    let topic = log.topic("t").unwrap();
    assert!(marker.exists(), "the log is unchanged so far");
    topic.append("a").unwrap();
    assert!(!marker.exists());
    let killed = killed_copy(dir.path());
    log.close().unwrap();
    assert!(marker.exists());

    let log = Log::open(killed.path()).unwrap();
    assert!(!log.recovery().clean);
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["a"]
    );
}

#[test]
fn opening_a_clean_log_does_not_change_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("a").unwrap();
    log.close().unwrap();
    let before = tree(dir.path());
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["a"]
    );
    log.flush().unwrap();
    log.close().unwrap();
    assert_unchanged(&before, &tree(dir.path()));
}

#[test]
fn opening_the_directory_of_a_broker_does_not_change_its_files() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture("clean/root"), dir.path());
    let before = tree(dir.path());
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    let plain = log.topic("plain").unwrap();
    assert_eq!(
        plain.config().get("retention.ms").as_deref(),
        Some("-1"),
        "records of a broker must not expire"
    );
    log.maintain().unwrap();
    log.close().unwrap();
    let (mut before, mut after) = (before, tree(dir.path()));
    after.remove(&dir.path().join(".lock"));
    // Files that the broker had already marked as deleted are removed.
    before.retain(|path, _| path.extension().is_none_or(|suffix| suffix != "deleted"));
    assert_unchanged(&before, &after);
}

#[test]
fn the_first_write_takes_over_the_directory_of_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture("clean/root"), dir.path());
    let high_watermarks = dir.path().join("replication-offset-checkpoint");
    let cleaner = fs::read(dir.path().join("cleaner-offset-checkpoint")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(high_watermarks.exists());
    let plain = log.topic("plain").unwrap();
    let end = plain.partition(0).unwrap().log_end_offset();
    assert_eq!(plain.append("ours").unwrap().offset, end);
    assert!(
        !high_watermarks.exists(),
        "the file would be out of date; a broker writes it again"
    );
    let deleted = log.topic("deleted-records").unwrap().partition(0).unwrap();
    assert_eq!(deleted.log_start_offset(), 37);
    log.close().unwrap();
    assert_eq!(
        fs::read(dir.path().join("cleaner-offset-checkpoint")).unwrap(),
        cleaner
    );
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(
        log.topic("deleted-records")
            .unwrap()
            .partition(0)
            .unwrap()
            .log_start_offset(),
        37
    );
    assert_eq!(
        log.topic("plain")
            .unwrap()
            .partition(0)
            .unwrap()
            .log_end_offset(),
        end + 1
    );
}

#[test]
fn the_directory_of_a_killed_broker_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture("killed/root"), dir.path());
    let log = Log::open(dir.path()).unwrap();
    assert!(!log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    for topic in log.topics() {
        for partition in topic.partitions() {
            let end = partition.log_end_offset();
            assert_eq!(
                partition.append(("k", "ours")).unwrap().offset,
                end,
                "{}",
                partition.id()
            );
        }
    }
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    for topic in log.topics() {
        for partition in topic.partitions() {
            // One partition has a transaction that is still open.
            let all = ReadOptions::new().isolation(Isolation::ReadUncommitted);
            let mut last = partition
                .read_with(partition.log_end_offset() - 1.., all)
                .unwrap();
            assert_eq!(
                last.next_record().unwrap().unwrap().text(),
                "ours",
                "{}",
                partition.id()
            );
        }
    }
}

#[test]
fn configuring_a_topic_of_a_broker_keeps_its_records() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture("clean/root"), dir.path());
    let log = Log::open(dir.path()).unwrap();
    let plain = log.topic("plain").unwrap();
    let id = plain.id();
    plain
        .update_config(TopicConfig::new().max_message_bytes(4096))
        .unwrap();
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let plain = log.topic("plain").unwrap();
    assert_eq!(plain.id(), id);
    assert_eq!(
        plain.config().get("max.message.bytes").as_deref(),
        Some("4096")
    );
    assert_eq!(plain.config().get("retention.ms").as_deref(), Some("-1"));
    assert_eq!(log.maintain().unwrap().segments_deleted, 0);
}

#[test]
fn a_read_only_open_of_a_broker_directory_does_not_change_its_files() {
    for set in ["clean/root", "killed/root", "legacy/root"] {
        let root = fixture(set);
        let before = tree(&root);
        let log = Log::open_read_only(&root).unwrap();
        assert!(!log.topics().is_empty(), "{set}");
        for topic in log.topics() {
            for partition in topic.partitions() {
                assert!(texts(&partition).is_ok(), "{set} {}", partition.id());
            }
        }
        assert!(matches!(log.maintain(), Err(Error::ReadOnly)));
        log.close().unwrap();
        assert_unchanged(&before, &tree(&root));
    }
}

#[test]
fn a_second_opener_is_refused_until_the_first_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = one_partition(&log, "t");
    match Log::open(dir.path()) {
        Err(error @ Error::Locked { .. }) => {
            let text = error.to_string();
            let dir = dir.path().canonicalize().unwrap();
            assert!(
                text.starts_with(&format!(
                    "{} is open in this process already",
                    dir.display()
                )),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    let reader = Log::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.topics().len(), 1);
    let clone = log.clone();
    log.close().unwrap();
    let again = Log::open(dir.path()).unwrap();
    assert!(
        matches!(topic.append("a"), Err(Error::Closed)),
        "a handle of the closed log must stay closed"
    );
    clone.close().unwrap();
    again.topic("t").unwrap().append("a").unwrap();
}

#[test]
fn dropping_the_last_handle_closes_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let partition = one_partition(&Log::open(dir.path()).unwrap(), "t")
        .partition(0)
        .unwrap();
    partition.append("a").unwrap();
    let reader = partition.read(..).unwrap();
    drop(partition);
    assert!(
        matches!(Log::open(dir.path()), Err(Error::Locked { .. })),
        "a reader keeps the log open"
    );
    drop(reader);
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
}

#[test]
fn a_closed_log_refuses_every_call() {
    let log = Log::in_memory();
    let topic = one_partition(&log, "t");
    let partition = topic.partition(0).unwrap();
    partition.append("a").unwrap();
    let batch = partition.read(..).unwrap().next().unwrap().unwrap();
    let clone = log.clone();
    log.close().unwrap();
    let is_closed =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    is_closed(topic.append("b").map(drop));
    is_closed(partition.append("b").map(drop));
    is_closed(partition.read(..).map(drop));
    is_closed(topic.partition(0).map(drop));
    is_closed(topic.update_config(TopicConfig::new().retention(None)));
    is_closed(topic.increase_partitions_to(2));
    is_closed(clone.topic("t").map(drop));
    is_closed(clone.open_topic("u", 1, TopicConfig::new()).map(drop));
    is_closed(clone.create_topic("u", 1, TopicConfig::new()).map(drop));
    is_closed(clone.delete_topic("t"));
    is_closed(clone.flush());
    is_closed(clone.maintain().map(drop));
    assert_eq!(
        batch.iter().next().unwrap().unwrap().text(),
        "a",
        "a batch that was already read stays readable"
    );
    clone.close().unwrap();
}

#[test]
fn closing_the_log_ends_waiting_readers() {
    let log = Log::in_memory();
    let partition = one_partition(&log, "t").partition(0).unwrap();
    let mut follower = partition.follow(..).unwrap();
    let (send, receive) = mpsc::channel();
    let waits = thread::spawn(move || send.send(follower.next()).unwrap());
    thread::sleep(Duration::from_millis(20));
    log.close().unwrap();
    let ended = receive.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(ended, Some(Err(Error::Closed))), "{ended:?}");
    waits.join().unwrap();
}

#[test]
fn the_background_flush_raises_the_recovery_point() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::new().flush_interval(Duration::from_millis(20));
    let log = Log::builder(dir.path()).config(config).open().unwrap();
    one_partition(&log, "t").append("a").unwrap();
    let checkpoint = dir.path().join("recovery-point-offset-checkpoint");
    let until = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(&checkpoint).unwrap_or_default() != "0\n1\nt 0 1\n" {
        assert!(
            Instant::now() < until,
            "{:?}",
            fs::read_to_string(&checkpoint)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_topic_is_flushed_by_its_own_interval_and_record_count() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::new().flush_interval(Duration::from_secs(3_600));
    let log = Log::builder(dir.path()).config(config).open().unwrap();
    let config = TopicConfig::new().index_interval_bytes(1);
    // A flush writes the index to its file.
    let is_flushed = |topic: &str| {
        let index = dir
            .path()
            .join(format!("{topic}-0/00000000000000000000.index"));
        fs::metadata(index).is_ok_and(|metadata| metadata.len() > 0)
    };
    let append_some = |topic: &str, config: TopicConfig| {
        let partition = log
            .create_topic(topic, 1, config)
            .unwrap()
            .partition(0)
            .unwrap();
        for _ in 0..5 {
            partition.append("x").unwrap();
        }
    };
    append_some("never", config.clone());
    append_some("by-count", config.clone().flush_messages(5));
    assert!(is_flushed("by-count"));
    append_some("by-time", config.flush_after(Duration::from_millis(20)));
    let until = Instant::now() + Duration::from_secs(10);
    while !is_flushed("by-time") {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!is_flushed("never"));
}

#[test]
fn recovery_reports_no_loss_after_a_truncation_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = one_partition(&log, "t").partition(0).unwrap();
    partition.append_batch(vec!["x"; 100]).unwrap();
    log.flush().unwrap();
    partition.truncate_to(50).unwrap();
    let copy = killed_copy(dir.path());
    let log = Log::open(copy.path()).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.log_end_offset(), 50);
    assert_eq!(texts(&partition).unwrap().len(), 50);
    assert_eq!(partition.append("y").unwrap().offset, 50);
}

#[test]
fn deleted_records_do_not_come_back_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = one_partition(&log, "t").partition(0).unwrap();
    partition.append_batch(["a", "b", "c"]).unwrap();
    assert_eq!(partition.delete_records_before(2).unwrap(), 2);
    let copy = killed_copy(dir.path());
    // Kafka's own checkpoint has no checksum, so the topic file takes precedence.
    fs::write(
        copy.path().join("log-start-offset-checkpoint"),
        "0\n1\nt 0 1\n",
    )
    .unwrap();
    let log = Log::open(copy.path()).unwrap();
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["c"]
    );
}

#[test]
fn a_log_with_a_manual_clock_is_maintained_by_calls() {
    let disk = MemoryDisk::default();
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let log = Log::builder("data")
        .storage(disk.clone())
        .clock(clock)
        .open()
        .unwrap();
    one_partition(&log, "t").append("a").unwrap();
    log.maintain().unwrap();
    log.close().unwrap();
    let log = Log::builder("data").storage(disk).open().unwrap();
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["a"]
    );
}

#[test]
fn a_log_in_memory_appends_and_reads() {
    let log = Log::in_memory();
    let topic = one_partition(&log, "t");
    assert_eq!(
        topic
            .with_durability(Durability::Synced)
            .append("a")
            .unwrap()
            .offset,
        0
    );
    assert_eq!(topic.append("b").unwrap().offset, 1);
    assert_eq!(texts(&topic.partition(0).unwrap()).unwrap(), ["a", "b"]);
    let other = Log::in_memory();
    assert!(
        other.topics().is_empty(),
        "logs in memory must be independent"
    );
}

/// The variable that marks the process to be killed. Its value is the directory of the log.
const VICTIM: &str = "ANNALS_TEST_VICTIM";

#[test]
fn acknowledged_records_survive_a_killed_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = command_of("log::open::the_victim")
        .env(VICTIM, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let offsets = lines
        .by_ref()
        .filter_map(|line| line.strip_prefix("offset ")?.parse().ok());
    let acknowledged: Vec<u64> = offsets.take(500).collect();
    let locked = Log::open(dir.path());
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();

    let log = Log::open(dir.path()).unwrap();
    assert!(!log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let end = partition.log_end_offset();
    assert!(end > *acknowledged.last().unwrap());
    let expected: Vec<_> = (0..end).map(|number| format!("record {number}")).collect();
    assert_eq!(texts(&partition).unwrap(), expected);
    log.close().unwrap();
    assert!(Log::open(dir.path()).unwrap().recovery().clean);
}

#[test]
#[ignore = "runs in the process that another test kills"]
fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let log = Log::open(dir).unwrap();
    let topic = one_partition(&log, "t");
    for number in 0.. {
        let written = topic.append(format!("record {number}")).unwrap();
        println!("offset {}", written.offset);
    }
}
