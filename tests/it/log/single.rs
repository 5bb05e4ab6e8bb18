//! The directory of a single partition is not a log, and a log is not a partition. Opening one as
//! the other returns an error and leaves the directory unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use annals::{Error, Log, Partition, TopicConfig};

use super::{one_partition, texts, tree};
use crate::kafka::{copy_dir, fixture};

/// The paths of a tree with their bytes and the time of their last change.
type Stamped = BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)>;

fn stamped(dir: &Path) -> Stamped {
    let mut found: Stamped = tree(dir)
        .into_iter()
        .map(|(path, bytes)| (path.clone(), (bytes, modified(&path))))
        .collect();
    found.insert(dir.to_owned(), (None, modified(dir)));
    found
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// A way to open a directory; returns the error.
type Open<'a> = &'a dyn Fn(&Path) -> Option<Error>;

/// Asserts that each of `opens` is refused with `advice` and leaves the directory unchanged.
#[track_caller]
fn assert_refused(dir: &Path, advice: &str, opens: &[Open<'_>]) {
    let before = stamped(dir);
    for open in opens {
        match open(dir) {
            Some(Error::NotALog { path, reason, .. }) => {
                assert!(
                    path == dir || path == dir.canonicalize().unwrap(),
                    "{}",
                    path.display()
                );
                assert!(reason.contains(advice), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(stamped(dir) == before, "{} was changed", dir.display());
    }
}

#[track_caller]
fn assert_single(dir: &Path) {
    let open = |dir: &Path| Log::open(dir).err();
    let open_read_only = |dir: &Path| Log::open_read_only(dir).err();
    assert_refused(
        dir,
        "this is a single partition: use `Partition::open`",
        &[&open, &open_read_only],
    );
}

#[track_caller]
fn assert_whole(dir: &Path) {
    let open = |dir: &Path| Partition::open(dir, TopicConfig::new()).err();
    assert_refused(
        dir,
        "this is a whole log, not one of its partitions: use `Log::open`",
        &[&open],
    );
}

#[test]
fn a_partition_that_was_opened_alone_is_not_opened_as_a_log() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["wal", "orders-0"] {
        let root = dir.path().join(name);
        let wal = Partition::open(&root, TopicConfig::new()).unwrap();
        wal.append("a").unwrap();
        assert_single(&root);
        drop(wal);
        assert_single(&root);
        let wal = Partition::open(&root, TopicConfig::new()).unwrap();
        assert_eq!(texts(&wal).unwrap(), ["a"]);
    }
}

#[test]
fn a_partition_of_a_log_is_not_opened_as_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("a").unwrap();
    assert_single(&dir.path().join("t-0"));
    log.close().unwrap();
    assert_single(&dir.path().join("t-0"));
    copy_dir(&fixture("clean/root"), &dir.path().join("broker"));
    assert_single(&dir.path().join("broker/plain-0"));
}

#[test]
fn a_log_is_not_opened_as_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_whole(dir.path());
    one_partition(&log, "t").append("a").unwrap();
    assert_whole(dir.path());
    log.close().unwrap();
    assert_whole(dir.path());
    // The file may be missing because the disk was full.
    fs::remove_file(dir.path().join("meta.properties")).unwrap();
    assert_whole(dir.path());
    copy_dir(&fixture("clean/root"), &dir.path().join("broker"));
    assert_whole(&dir.path().join("broker"));
}

/// Earlier versions opened such a partition as a log and left this file.
#[test]
fn a_partition_with_the_identity_of_a_log_is_still_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    Partition::open(&root, TopicConfig::new())
        .unwrap()
        .append("a")
        .unwrap();
    fs::write(
        root.join("meta.properties"),
        "version=1\ncluster.id=AAECAwQFBgcICQoLDA0ODw\nnode.id=1\n",
    )
    .unwrap();
    assert_single(&root);
    assert_eq!(
        texts(&Partition::open(&root, TopicConfig::new()).unwrap()).unwrap(),
        ["a"]
    );
}

#[test]
fn a_directory_of_single_partitions_does_not_become_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Partition::open(dir.path().join("wal-0"), TopicConfig::new()).unwrap();
    wal.append_batch(["a", "b"]).unwrap();
    wal.delete_records_before(1).unwrap();
    drop(wal);
    let open = |dir: &Path| Log::open(dir).err();
    assert_refused(dir.path(), "it contains \"wal-0\" and no log", &[&open]);
    assert_refused(
        dir.path(),
        "it contains no file of a log",
        &[&|dir| Log::open_read_only(dir).err()],
    );
    assert_eq!(
        texts(&Partition::open(dir.path().join("wal-0"), TopicConfig::new()).unwrap()).unwrap(),
        ["b"]
    );
}

#[test]
fn a_lone_partition_ignores_a_parent_directory_that_is_not_a_log() {
    let dir = tempfile::tempdir().unwrap();
    // This lock file belongs to another program.
    fs::write(dir.path().join(".lock"), "").unwrap();
    drop(Partition::open(dir.path().join("wal-0"), TopicConfig::new()).unwrap());
    assert!(dir.path().join("wal-0/.kafka_cleanshutdown").exists());
    assert!(!dir.path().join(".kafka_cleanshutdown").exists());
    // A partition inside of a lone partition does not belong to a log either.
    let inner = Partition::open(dir.path().join("wal-0/inner-0"), TopicConfig::new()).unwrap();
    inner.append("a").unwrap();
    let outer = Partition::open(dir.path().join("wal-0"), TopicConfig::new()).unwrap();
    outer.append("b").unwrap();
    assert_eq!(inner.log_end_offset(), 1);
    assert_eq!(outer.log_end_offset(), 1);
}

#[test]
fn a_partition_is_not_created_in_a_log_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t");
    let before = tree(dir.path());
    for name in ["t-1", "u-0"] {
        let refused = Partition::open(dir.path().join(name), TopicConfig::new());
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    }
    assert!(tree(dir.path()) == before);
}
