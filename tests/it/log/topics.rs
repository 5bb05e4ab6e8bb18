//! Topics that are created, changed and deleted, and crashes in between.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use annals::{CleanupPolicy, Error, Log, Record, TopicConfig};

use super::{is_unknown_topic, killed_copy, one_partition, texts, tree};

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn topics_are_listed_by_name() {
    let log = Log::in_memory();
    for name in ["b", "a-1", "c.d"] {
        one_partition(&log, name);
    }
    let listed: Vec<_> = log
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned())
        .collect();
    assert_eq!(listed, ["a-1", "b", "c.d"]);
}

#[test]
fn a_key_maps_to_the_partition_that_kafka_chooses() {
    let log = Log::in_memory();
    let topic = log.create_topic("t", 10, TopicConfig::new()).unwrap();
    for (key, partition) in [
        ("21", 0),
        ("foobar", 6),
        ("abc", 7),
        ("", 1),
        ("user-1", 8),
        ("order-42", 4),
    ] {
        assert_eq!(
            topic.append((key, "v")).unwrap().partition,
            partition,
            "{key}"
        );
        assert_eq!(
            topic.partition_for(key.as_bytes()).id().partition,
            partition,
            "{key}"
        );
    }
}

#[test]
fn records_without_a_key_change_the_partition_after_16_kib() {
    let log = Log::in_memory();
    let topic = log.create_topic("t", 8, TopicConfig::new()).unwrap();
    let value = vec![b'x'; 1024];
    let runs: Vec<u32> = (0..320)
        .map(|_| topic.append(Record::new(&value)).unwrap().partition)
        .collect();
    let changes = runs.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(
        (18..=22).contains(&changes),
        "320 KiB in runs of 16: {changes}"
    );
    assert!(runs.iter().collect::<BTreeSet<_>>().len() > 2, "{runs:?}");
}

#[test]
fn a_deleted_topic_is_unknown_and_its_directories_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 2, TopicConfig::new()).unwrap();
    one_partition(&log, "u").append("kept").unwrap();
    let partition = topic.partition(1).unwrap();
    partition.append_batch(["a", "b"]).unwrap();
    let batch = partition.read(..).unwrap().next().unwrap().unwrap();
    let mut reader = partition.read(..).unwrap();
    log.delete_topic("t").unwrap();

    assert!(is_unknown_topic(&log.topic("t")));
    assert!(is_unknown_topic(&topic.append("c")));
    assert!(is_unknown_topic(&topic.partition(0)));
    assert!(is_unknown_topic(&partition.append("c")));
    assert!(is_unknown_topic(&partition.read(..)));
    assert!(is_unknown_topic(&topic.update_config(TopicConfig::new())));
    assert!(is_unknown_topic(&topic.increase_partitions_to(3)));
    assert!(is_unknown_topic(&log.delete_topic("t")));
    assert!(
        reader
            .next()
            .is_none_or(|next| next.is_ok() || is_unknown_topic(&next)),
        "the reader returns held batches or reports the deleted topic"
    );
    assert_eq!(
        batch
            .iter()
            .map(|record| record.unwrap().text().into_owned())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(
        names(dir.path()).iter().all(|name| !name.starts_with('t')),
        "{:?}",
        names(dir.path())
    );

    let again = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    assert_ne!(again.id(), topic.id());
    assert_eq!(again.append("new").unwrap().offset, 0);
    assert!(
        is_unknown_topic(&topic.append("c")),
        "the old handle must belong to the old topic"
    );
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["new"]
    );
    assert_eq!(
        texts(&log.topic("u").unwrap().partition(0).unwrap()).unwrap(),
        ["kept"]
    );
}

#[test]
fn checkpoints_of_a_deleted_topic_do_not_affect_a_new_topic_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t")
        .partition(0)
        .unwrap()
        .append_batch(vec!["x"; 100])
        .unwrap();
    log.flush().unwrap();
    assert!(
        fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint"))
            .unwrap()
            .contains("t 0 100")
    );
    log.delete_topic("t").unwrap();
    one_partition(&log, "t").append("new").unwrap();
    let copy = killed_copy(dir.path());
    let log = Log::open(copy.path()).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["new"]
    );
}

#[test]
fn an_interrupted_deletion_is_finished_by_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("t", 3, TopicConfig::new())
        .unwrap()
        .append("a")
        .unwrap();
    one_partition(&log, "u").append("kept").unwrap();
    log.close().unwrap();
    // The deletion was interrupted after it had renamed the topic file and one directory.
    fs::rename(dir.path().join("t.topic"), dir.path().join("t.gone")).unwrap();
    fs::rename(
        dir.path().join("t-1"),
        dir.path()
            .join("t-1.0123456789abcdef0123456789abcdef-delete"),
    )
    .unwrap();
    fs::write(dir.path().join("0123456789abcdef.tmp"), "half").unwrap();

    let reader = Log::open_read_only(dir.path()).unwrap();
    assert!(is_unknown_topic(&reader.topic("t")));
    let log = Log::open(dir.path()).unwrap();
    assert!(is_unknown_topic(&log.topic("t")));
    let left: Vec<_> = names(dir.path())
        .into_iter()
        .filter(|name| name.starts_with('t') || name.contains(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        !fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint"))
            .unwrap()
            .contains("t 0")
    );
    one_partition(&log, "t").append("new").unwrap();
    assert_eq!(
        texts(&log.topic("u").unwrap().partition(0).unwrap()).unwrap(),
        ["kept"]
    );
}

#[test]
fn stray_and_future_directories_of_a_broker_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::open(dir.path()).unwrap());
    let stray = "t-1.0123456789abcdef0123456789abcdef-stray";
    let future = "t-2.0123456789abcdef0123456789abcdef-future";
    for name in [stray, future, "remote-log-index-cache"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("x"), "x").unwrap();
    }
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().has_losses());
    assert!(log.recovery().foreign.is_empty());
    one_partition(&log, "u").append("a").unwrap();
    log.close().unwrap();
    for name in [stray, future, "remote-log-index-cache"] {
        assert!(dir.path().join(name).join("x").exists(), "{name}");
    }
}

#[test]
fn partitions_that_are_missing_after_a_crash_are_created() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("t", 3, TopicConfig::new()).unwrap();
    let copy = killed_copy(dir.path());
    drop(log);
    fs::remove_dir_all(copy.path().join("t-1")).unwrap();
    fs::remove_dir_all(copy.path().join("t-2")).unwrap();
    let read_only = Log::open_read_only(copy.path()).unwrap();
    assert!(!read_only.recovery().has_losses());
    let missing = read_only.topic("t").unwrap().partition(1);
    assert!(
        matches!(missing, Err(Error::UnknownPartition(_))),
        "{missing:?}"
    );
    fs::create_dir(copy.path().join("t-2")).unwrap();
    let log = Log::open(copy.path()).unwrap();
    let topic = log.topic("t").unwrap();
    assert_eq!(topic.partitions().len(), 3);
    for partition in topic.partitions() {
        assert_eq!(partition.append("a").unwrap().offset, 0);
    }
}

#[test]
fn a_lost_partition_is_not_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 2, TopicConfig::new()).unwrap();
    topic.partition(0).unwrap().append("a").unwrap();
    topic.partition(1).unwrap().append("b").unwrap();
    log.close().unwrap();
    fs::remove_dir_all(dir.path().join("t-1")).unwrap();
    // A read-only log reports the loss too.
    let read_only = Log::open_read_only(dir.path()).unwrap();
    assert!(read_only.recovery().has_losses());
    let lost = read_only.topic("t").unwrap().partition(1);
    assert!(matches!(lost, Err(Error::Io { .. })), "{lost:?}");
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().has_losses());
    let topic = log.topic("t").unwrap();
    assert_eq!(
        texts(&topic.partition(0).unwrap()).unwrap(),
        ["a"],
        "the other partition must stay readable"
    );
    assert!(
        matches!(topic.partition(1), Err(Error::Io { .. })),
        "{:?}",
        topic.partition(1)
    );
    assert!(texts(&topic.partitions()[1]).is_err());
    log.close().unwrap();
    assert!(!dir.path().join("t-1").exists());
}

#[test]
fn a_damaged_topic_file_loses_only_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log
        .create_topic(
            "t",
            2,
            TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
        )
        .unwrap();
    topic.append(("k", "v")).unwrap();
    let (id, partition) = (topic.id(), topic.partition_for(b"k").id().partition);
    log.close().unwrap();
    let file = dir.path().join("t.topic");
    let mut bytes = fs::read(&file).unwrap();
    bytes[12] ^= 1;
    fs::write(&file, &bytes).unwrap();

    let log = Log::open(dir.path()).unwrap();
    assert_eq!(log.recovery().topics.len(), 1);
    assert_eq!(&*log.recovery().topics[0].0, "t");
    let topic = log.topic("t").unwrap();
    assert_eq!(topic.id(), id, "the id comes from the partitions");
    assert_eq!(topic.partitions().len(), 2);
    assert_eq!(
        topic.config().get("retention.ms").as_deref(),
        Some("-1"),
        "records must not expire until the topic is configured"
    );
    assert_eq!(texts(&topic.partition(partition).unwrap()).unwrap(), ["v"]);
    assert_eq!(
        fs::read(&file).unwrap(),
        bytes,
        "the damaged file must be kept for inspection"
    );
    topic
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))
        .unwrap();
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().topics.is_empty());
    assert_eq!(
        log.topic("t")
            .unwrap()
            .config()
            .get("cleanup.policy")
            .as_deref(),
        Some("compact")
    );
}

#[test]
fn added_partitions_are_seen_by_all_handles_and_survive_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    let other_handle = log.topic("t").unwrap();
    topic.append(("order-42", "a")).unwrap();
    topic.increase_partitions_to(3).unwrap();
    assert_eq!(other_handle.partitions().len(), 3);
    assert_eq!(
        other_handle
            .partition(2)
            .unwrap()
            .append("b")
            .unwrap()
            .offset,
        0
    );
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.topic("t").unwrap();
    assert_eq!(topic.partitions().len(), 3);
    assert_eq!(texts(&topic.partition(2).unwrap()).unwrap(), ["b"]);
    assert_eq!(
        topic.append(("user-1", "c")).unwrap().partition,
        2,
        "the key must map to one of three partitions"
    );
}

#[test]
fn a_failed_increase_of_partitions_leaves_the_topic_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    topic.append("a").unwrap();
    fs::write(dir.path().join("t-2"), "in the way").unwrap();
    let before = tree(dir.path());
    assert!(matches!(
        topic.increase_partitions_to(4),
        Err(Error::Io { .. })
    ));
    assert_eq!(
        tree(dir.path()).keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    assert_eq!(
        fs::read(dir.path().join("t.topic")).unwrap(),
        before[&dir.path().join("t.topic")].clone().unwrap()
    );
    assert_eq!(topic.partitions().len(), 1);
    fs::write(dir.path().join("u-1"), "in the way").unwrap();
    assert!(matches!(
        log.create_topic("u", 2, TopicConfig::new()),
        Err(Error::Io { .. })
    ));
    assert!(!dir.path().join("u.topic").exists());
    assert!(!dir.path().join("u-0").exists());
    fs::remove_file(dir.path().join("u-1")).unwrap();
    log.create_topic("u", 2, TopicConfig::new()).unwrap();
}

/// A regression: a program that read every partition of a topic silently missed one that could not
/// be opened.
#[test]
fn the_partitions_of_a_topic_include_one_that_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 3, TopicConfig::new()).unwrap();
    topic.partition(1).unwrap().append("lost").unwrap();
    log.close().unwrap();
    fs::remove_dir_all(dir.path().join("t-1")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partitions = log.topic("t").unwrap().partitions();
    assert_eq!(partitions.len(), 3);
    partitions[0].read(..).unwrap();
    assert!(partitions[1].read(..).is_err());
    assert!(partitions[1].append("x").is_err());
}
