//! Partitions whose directory is a symbolic link.

use std::fs;
use std::os::unix::fs::symlink;

use annals::{Error, Log, TopicConfig};

use super::{one_partition, texts};

/// Creates a log whose topic `t` has two records in one partition, which is a link to a directory
/// elsewhere.
fn linked() -> (tempfile::TempDir, tempfile::TempDir) {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t")
        .partition(0)
        .unwrap()
        .append_batch(["a", "b"])
        .unwrap();
    log.close().unwrap();
    crate::kafka::copy_dir(&dir.path().join("t-0"), &elsewhere.path().join("t-0"));
    fs::remove_dir_all(dir.path().join("t-0")).unwrap();
    symlink(elsewhere.path().join("t-0"), dir.path().join("t-0")).unwrap();
    (dir, elsewhere)
}

fn is_empty(dir: &tempfile::TempDir) -> bool {
    fs::read_dir(dir.path()).unwrap().next().is_none()
}

#[test]
fn deleting_a_topic_deletes_the_target_of_its_link() {
    let (dir, elsewhere) = linked();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["a", "b"]
    );
    log.delete_topic("t").unwrap();
    assert!(is_empty(&elsewhere));
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with('t')),
        "{left:?}"
    );
    one_partition(&log, "t").append("new").unwrap();
    assert!(is_empty(&elsewhere));
}

#[test]
fn a_deletion_that_was_killed_is_finished_at_the_next_opening() {
    let name = "t-0.0123456789abcdef0123456789abcdef-delete";
    let (dir, elsewhere) = linked();
    fs::rename(dir.path().join("t-0"), dir.path().join(name)).unwrap();
    fs::rename(dir.path().join("t.topic"), dir.path().join("t.gone")).unwrap();
    drop(Log::open(dir.path()).unwrap());
    assert!(is_empty(&elsewhere));
    assert!(fs::symlink_metadata(dir.path().join(name)).is_err());
    // The process was killed after it had deleted the data and before it deleted the link, which is
    // now dangling.
    symlink(elsewhere.path().join("t-0"), dir.path().join(name)).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(fs::symlink_metadata(dir.path().join(name)).is_err());
    assert!(log.recovery().foreign.is_empty());
}

#[test]
fn a_delete_delay_applies_to_the_target_of_a_link() {
    let (dir, elsewhere) = linked();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.topic("t").unwrap();
    topic
        .update_config(
            TopicConfig::new()
                .set("file.delete.delay.ms", "3600000")
                .unwrap(),
        )
        .unwrap();
    log.delete_topic("t").unwrap();
    assert!(elsewhere.path().join("t-0").exists());
    log.close().unwrap();
    drop(Log::open(dir.path()).unwrap());
    assert!(is_empty(&elsewhere));
}

#[test]
fn deleting_records_removes_segments_in_the_target_of_a_link() {
    let (dir, elsewhere) = linked();
    let log = Log::open(dir.path()).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    partition.delete_records_before(2).unwrap();
    assert!(
        !elsewhere
            .path()
            .join("t-0/00000000000000000000.log")
            .exists()
    );
    assert!(
        elsewhere
            .path()
            .join("t-0/00000000000000000002.log")
            .exists()
    );
}

/// This happens if the disk of the target is not mounted.
#[test]
fn a_dangling_link_is_a_loss_and_is_left_alone() {
    let (dir, elsewhere) = linked();
    fs::rename(
        elsewhere.path().join("t-0"),
        elsewhere.path().join("hidden"),
    )
    .unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().has_losses());
    assert!(matches!(
        log.open_topic("t", 1, TopicConfig::new()),
        Err(Error::Io { .. })
    ));
    log.close().unwrap();
    assert!(fs::symlink_metadata(dir.path().join("t-0")).is_ok_and(|link| link.is_symlink()));
    fs::rename(
        elsewhere.path().join("hidden"),
        elsewhere.path().join("t-0"),
    )
    .unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(
        texts(&log.topic("t").unwrap().partition(0).unwrap()).unwrap(),
        ["a", "b"]
    );
}
