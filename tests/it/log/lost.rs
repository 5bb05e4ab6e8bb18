//! Topics without their directories: a broker that was started on the log renamed them, or they
//! were removed. Recovery reports the loss and how to undo it, and no empty topic replaces them.

use std::fs;
use std::path::Path;

use annals::{Error, Log, Partition, TopicConfig};

use super::{one_partition, texts, tree};

const STRAY: &str = "0123456789abcdef0123456789abcdef-stray";

/// Changes the directory like a broker that is started on it and knows none of its topics.
fn after_a_broker(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::rename(&path, format!("{}.{STRAY}", path.display())).unwrap();
        }
    }
    for name in [
        "recovery-point",
        "log-start-offset",
        "replication-offset",
        "cleaner-offset",
    ] {
        let name = name.trim_end_matches("-offset");
        fs::write(dir.join(format!("{name}-offset-checkpoint")), "0\n0\n").unwrap();
    }
    fs::write(
        dir.join(".kafka_cleanshutdown"),
        "{\"version\":0,\"brokerEpoch\":7}",
    )
    .unwrap();
}

/// Undoes the renames of [`after_a_broker`].
fn rename_back(dir: &Path) {
    for name in ["t-0", "t-1", "__consumer_offsets-0"] {
        fs::rename(dir.join(format!("{name}.{STRAY}")), dir.join(name)).unwrap();
    }
}

/// Creates and closes a log with a topic `t` of two partitions and a position of group `g`. The
/// records below offset 1 are deleted.
fn closed_log(dir: &Path) {
    let log = Log::open(dir).unwrap();
    let topic = log.create_topic("t", 2, TopicConfig::new()).unwrap();
    for partition in topic.partitions() {
        partition.append_batch(["a", "b", "c"]).unwrap();
        partition.delete_records_before(1).unwrap();
    }
    log.consumer_group("g")
        .unwrap()
        .commit([(("t", 0).into(), 2.into())])
        .unwrap();
    log.close().unwrap();
}

fn committed(log: &Log) -> Result<Option<u64>, Error> {
    let committed = log
        .consumer_group("g")
        .unwrap()
        .committed(&("t", 0).into())?;
    Ok(committed.map(|committed| committed.offset))
}

#[track_caller]
fn assert_whole(dir: &Path) {
    let log = Log::open(dir).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    for partition in log
        .open_topic("t", 2, TopicConfig::new())
        .unwrap()
        .partitions()
    {
        assert_eq!(texts(&partition).unwrap(), ["b", "c"]);
        assert_eq!(partition.log_start_offset(), 1);
        assert_eq!(partition.append("d").unwrap().offset, 3);
        partition.truncate_to(3).unwrap();
    }
    assert_eq!(committed(&log).unwrap(), Some(2));
    log.close().unwrap();
}

#[test]
fn directories_renamed_by_a_broker_are_a_loss_until_they_are_renamed_back() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    after_a_broker(dir.path());
    let before = tree(dir.path());
    for log in [
        Log::open(dir.path()).unwrap(),
        Log::open_read_only(dir.path()).unwrap(),
    ] {
        assert!(log.recovery().has_losses());
        let lost: Vec<_> = log
            .recovery()
            .partitions
            .iter()
            .map(|(id, _)| id.to_string())
            .collect();
        assert_eq!(lost, ["__consumer_offsets-0", "t-0", "t-1"]);
        for (id, report) in &log.recovery().partitions {
            let text = report.damage.as_ref().unwrap().to_string();
            assert!(
                text.contains(&format!(
                    "renamed it to `{id}.{STRAY}`: close the log and rename it back to `{id}`"
                )),
                "{text}"
            );
        }
        for refused in [
            log.open_topic("t", 2, TopicConfig::new()).map(drop),
            log.topic("t").unwrap().append("x").map(drop),
        ] {
            assert!(refused.unwrap_err().to_string().contains("rename it back"));
        }
        assert!(
            committed(&log)
                .unwrap_err()
                .to_string()
                .contains("rename it back"),
            "the group must not look like one that never committed"
        );
        log.close().unwrap();
    }
    assert_eq!(
        tree(dir.path()).into_keys().collect::<Vec<_>>(),
        before.into_keys().collect::<Vec<_>>()
    );

    // Other topics stay usable, and a later opening still reports the loss.
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "other").append("x").unwrap();
    assert!(matches!(
        log.create_topic("t", 2, TopicConfig::new()),
        Err(Error::TopicExists(_))
    ));
    log.close().unwrap();
    assert!(Log::open(dir.path()).unwrap().recovery().has_losses());
    rename_back(dir.path());
    assert_whole(dir.path());
}

#[test]
fn directories_renamed_back_immediately_keep_their_log_start() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    after_a_broker(dir.path());
    rename_back(dir.path());
    assert_whole(dir.path());
}

/// Earlier versions removed the topic files in this case.
#[test]
fn directories_renamed_by_a_broker_are_a_loss_without_their_topic_files() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    after_a_broker(dir.path());
    for name in ["t.topic", "__consumer_offsets.topic"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(
        log.recovery()
            .partitions
            .iter()
            .filter(|(_, report)| report.damage.is_some())
            .count(),
        3
    );
    assert!(
        log.open_topic("t", 2, TopicConfig::new())
            .unwrap_err()
            .to_string()
            .contains("rename it back")
    );
    assert!(committed(&log).is_err());
    log.delete_topic("t").unwrap();
    assert!(
        dir.path().join(format!("t-0.{STRAY}")).exists(),
        "a directory that a broker renamed must not be deleted"
    );
}

/// Earlier versions created an empty topic in place of the renamed one.
#[test]
fn a_directory_renamed_by_a_broker_is_a_loss_even_if_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("old").unwrap();
    log.close().unwrap();
    after_a_broker(dir.path());
    fs::remove_file(dir.path().join("t.topic")).unwrap();
    fs::rename(
        dir.path().join(format!("t-0.{STRAY}")),
        dir.path().join("kept"),
    )
    .unwrap();
    fs::remove_file(dir.path().join("replication-offset-checkpoint")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("new").unwrap();
    log.close().unwrap();
    let stray = dir.path().join(format!("t-0.{STRAY}"));
    fs::rename(dir.path().join("kept"), &stray).unwrap();

    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    assert!(log.recovery().has_losses());
    let [(id, report)] = &*log.recovery().partitions else {
        panic!("{:?}", log.recovery())
    };
    let text = report.damage.as_ref().unwrap().to_string();
    assert_eq!(id.to_string(), "t-0");
    assert!(text.contains(STRAY), "{text}");
    assert!(text.contains("move it out of the log"), "{text}");
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["new"]
    );
    log.close().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(&stray, elsewhere.path().join("t-0")).unwrap();
    assert_eq!(
        texts(&Partition::open(elsewhere.path().join("t-0"), TopicConfig::new()).unwrap()).unwrap(),
        ["old"]
    );
    assert!(!Log::open(dir.path()).unwrap().recovery().has_losses());
}

#[test]
fn a_topic_without_any_directory_is_a_loss() {
    for broker_since in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let kept = tempfile::tempdir().unwrap();
        closed_log(dir.path());
        if broker_since {
            after_a_broker(dir.path());
            rename_back(dir.path());
        } else {
            // Without the checkpoint, only the topic file shows that there were partitions.
            fs::remove_file(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
        }
        for name in ["t-0", "t-1"] {
            fs::rename(dir.path().join(name), kept.path().join(name)).unwrap();
        }
        let log = Log::open(dir.path()).unwrap();
        assert!(log.recovery().has_losses(), "{broker_since}");
        let refused = log.open_topic("t", 2, TopicConfig::new()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("put it back, or delete the topic"),
            "{refused}"
        );
        one_partition(&log, "other").append("x").unwrap();
        drop(log);
        assert!(
            Log::open(dir.path()).unwrap().recovery().has_losses(),
            "the next opening must report the loss too"
        );
        for name in ["t-0", "t-1"] {
            fs::rename(kept.path().join(name), dir.path().join(name)).unwrap();
        }
        assert_whole(dir.path());
    }
}

#[test]
fn a_lost_topic_can_be_deleted_and_created_again() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    fs::remove_dir_all(dir.path().join("t-0")).unwrap();
    fs::remove_dir_all(dir.path().join("t-1")).unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.delete_topic("t").unwrap();
    one_partition(&log, "t").append("new").unwrap();
    assert_eq!(committed(&log).unwrap(), None);
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
}
