//! Entries in the directory of a log that do not belong to it: the log reports them and leaves them
//! alone, and no new log is created around them.

use std::fs;
use std::path::Path;

use annals::{Error, Log, TopicConfig};

use super::{assert_unchanged, one_partition, texts, tree};
use crate::kafka::copy_dir;

const DIRECTORIES: [&str; 7] = [
    "lost+found",
    "src",
    "backup",
    ".git",
    "orders",
    "orders-01",
    "backup-20240131",
];
const FILES: [&str; 4] = ["backup-20240131", "orders-0", "notes.txt", "orders.topics"];

fn closed_log(dir: &Path) {
    let log = Log::open(dir).unwrap();
    one_partition(&log, "t").append("a").unwrap();
    log.close().unwrap();
}

fn put(dir: &Path, name: &str, is_dir: bool) {
    let path = dir.join(name);
    if is_dir {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("photo.jpg"), "x").unwrap();
    } else {
        fs::write(path, "x").unwrap();
    }
}

#[test]
fn a_log_opens_alongside_foreign_entries_and_lists_them() {
    for (name, is_dir) in DIRECTORIES
        .map(|name| (name, true))
        .into_iter()
        .chain(FILES.map(|name| (name, false)))
    {
        let dir = tempfile::tempdir().unwrap();
        closed_log(dir.path());
        put(dir.path(), name, is_dir);
        let before = tree(dir.path());
        for log in [
            Log::open(dir.path()).unwrap(),
            Log::open_read_only(dir.path()).unwrap(),
        ] {
            assert_eq!(
                log.recovery().foreign,
                [dir.path().canonicalize().unwrap().join(name)]
            );
            assert!(log.recovery().clean);
            assert!(!log.recovery().has_losses());
            assert_eq!(log.topics().len(), 1);
            assert_eq!(
                texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
                ["a"]
            );
            log.close().unwrap();
        }
        assert_unchanged(&before, &tree(dir.path()));
    }
}

#[test]
fn files_of_a_log_and_of_a_broker_are_not_foreign() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    for name in [
        "replication-offset-checkpoint.tmp",
        "bootstrap.checkpoint",
        "0123456789abcdef.tmp",
        "cleaner-offset-checkpoint",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().foreign.is_empty(), "{:?}", log.recovery());
}

#[test]
fn a_log_is_not_created_around_foreign_entries() {
    for (name, is_dir) in DIRECTORIES
        .map(|name| (name, true))
        .into_iter()
        .chain(FILES.map(|name| (name, false)))
    {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), name, is_dir);
        let before = tree(dir.path());
        match Log::open(dir.path()) {
            Err(error @ Error::NotALog { .. }) => {
                let text = error.to_string();
                assert!(text.contains(name), "{text}");
                assert!(
                    text.contains("choose an empty or a new directory"),
                    "{text}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_unchanged(&before, &tree(dir.path()));
    }
}

/// The files of the topic would be mixed with the existing ones, and deleting the topic would
/// delete both.
#[test]
fn a_topic_is_not_created_over_a_foreign_entry() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    put(dir.path(), "backup-2", true);
    put(dir.path(), "other-1", false);
    let log = Log::open(dir.path()).unwrap();
    let before = tree(dir.path());
    for name in ["backup", "other"] {
        let refused = log.open_topic(name, 3, TopicConfig::new());
        assert!(
            matches!(&refused, Err(Error::Io { .. })),
            "{name}: {refused:?}"
        );
        assert!(refused.unwrap_err().to_string().contains("move it away"));
    }
    assert_unchanged(&before, &tree(dir.path()));
    let backup = log.open_topic("backup", 2, TopicConfig::new()).unwrap();
    assert!(backup.increase_partitions_to(3).is_err());
    assert_eq!(backup.partitions().len(), 2);
    log.delete_topic("backup").unwrap();
    assert!(dir.path().join("backup-2/photo.jpg").exists());
}

/// The topic keeps its number of partitions, so no key is mapped to a missing one.
#[test]
fn a_copy_with_a_date_is_not_a_partition_of_the_topic() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    copy_dir(&dir.path().join("t-0"), &dir.path().join("t-20240131"));
    put(dir.path(), "t-1", true);
    let log = Log::open(dir.path()).unwrap();
    let foreign: Vec<_> = log
        .recovery()
        .foreign
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(foreign, ["t-1", "t-20240131"]);
    let topic = log.topic("t").unwrap();
    assert_eq!(topic.partitions().len(), 1);
    for key in 0..20 {
        topic.append((key.to_string(), "x")).unwrap();
    }
    log.delete_topic("t").unwrap();
    assert!(dir.path().join("t-1/photo.jpg").exists());
    assert!(dir.path().join("t-20240131").exists());
}

/// This happens if a log is restored with an older topic file.
#[test]
fn a_partition_with_the_next_number_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    copy_dir(&dir.path().join("t-0"), &dir.path().join("t-1"));
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().foreign.is_empty());
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(1).unwrap()).unwrap(),
        ["a"]
    );
}

#[test]
fn a_partition_directory_that_was_renamed_by_mistake_is_a_loss_and_is_listed() {
    for (wrong, is_listed) in [("t_0", true), ("t-00", true), ("tt-0", false)] {
        let dir = tempfile::tempdir().unwrap();
        closed_log(dir.path());
        fs::rename(dir.path().join("t-0"), dir.path().join(wrong)).unwrap();
        let log = Log::open(dir.path()).unwrap();
        assert!(log.recovery().has_losses(), "{wrong}");
        assert_eq!(
            log.recovery()
                .foreign
                .iter()
                .any(|path| path.ends_with(wrong)),
            is_listed,
            "{wrong}"
        );
        assert!(
            log.open_topic("t", 1, TopicConfig::new())
                .unwrap_err()
                .to_string()
                .contains("put it back")
        );
        log.close().unwrap();
        fs::rename(dir.path().join(wrong), dir.path().join("t-0")).unwrap();
        let log = Log::open(dir.path()).unwrap();
        assert_eq!(
            texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
            ["a"],
            "{wrong}"
        );
    }
}
