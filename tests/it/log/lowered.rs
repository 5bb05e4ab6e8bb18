//! Opening a log lowers positions above the end of their partition, even after a clean shutdown:
//! later records with these offsets must be delivered. So does a truncation while members read.

use std::fs;
use std::path::Path;

use annals::{CleanupPolicy, Log, LoweredCommit, Partition, Seek, TopicConfig};

use super::{one_partition, texts};
use crate::kafka::copy_dir;

/// Creates and closes a log whose topic `t` has the records 0 to 4. Group `g` has committed the
/// offset `committed`.
fn closed_log(dir: &Path, committed: u64) {
    let log = Log::open(dir).unwrap();
    one_partition(&log, "t")
        .partition(0)
        .unwrap()
        .append_batch(["0", "1", "2", "3", "4"])
        .unwrap();
    log.consumer_group("g")
        .unwrap()
        .commit([(("t", 0).into(), committed.into())])
        .unwrap();
    log.close().unwrap();
}

fn alone(dir: &Path) -> Partition {
    Partition::open(dir.join("t-0"), TopicConfig::new()).unwrap()
}

/// Opens the log and returns the lowered commits and the position of the group. Asserts that the
/// next opening keeps the position.
#[track_caller]
fn opened(dir: &Path) -> (Vec<(u64, u64)>, u64) {
    let committed = |log: &Log| {
        log.consumer_group("g")
            .unwrap()
            .committed(&("t", 0).into())
            .unwrap()
            .unwrap()
            .offset
    };
    let log = Log::open(dir).unwrap();
    assert!(log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    let lowered = log
        .recovery()
        .lowered_commits
        .iter()
        .map(|LoweredCommit { from, to, .. }| (*from, *to))
        .collect();
    let position = committed(&log);
    log.close().unwrap();
    let log = Log::open(dir).unwrap();
    assert!(
        log.recovery().lowered_commits.is_empty(),
        "{:?}",
        log.recovery()
    );
    assert_eq!(committed(&log), position);
    (lowered, position)
}

#[test]
fn truncating_a_partition_that_is_opened_alone_lowers_positions() {
    for (committed, expected) in [
        (5, (vec![(5, 2)], 2)),
        (3, (vec![(3, 2)], 2)),
        (2, (vec![], 2)),
        (1, (vec![], 1)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        closed_log(dir.path(), committed);
        alone(dir.path()).truncate_to(2).unwrap();
        assert_eq!(opened(dir.path()), expected, "{committed}");
    }
}

#[test]
fn records_appended_after_a_truncation_do_not_hide_it() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path(), 5);
    let partition = alone(dir.path());
    partition.truncate_to(2).unwrap();
    partition.append_batch(vec!["new"; 6]).unwrap();
    partition.flush().unwrap();
    drop(partition);
    // Open and close the partition once more before the log is opened.
    alone(dir.path()).append("newer").unwrap();
    assert_eq!(opened(dir.path()), (vec![(5, 2)], 2));

    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path(), 5);
    alone(dir.path()).truncate_to(2).unwrap();
    alone(dir.path()).append_batch(vec!["new"; 6]).unwrap();
    assert_eq!(
        opened(dir.path()),
        (vec![(5, 2)], 2),
        "truncated and appended in two steps"
    );
}

#[test]
fn appending_to_a_partition_that_is_opened_alone_lowers_no_position() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path(), 5);
    let partition = alone(dir.path());
    partition.append_batch(vec!["new"; 6]).unwrap();
    partition.truncate_to(11).unwrap();
    drop(partition);
    assert_eq!(opened(dir.path()), (vec![], 5));
}

#[test]
fn replacing_a_partition_by_a_shorter_one_lowers_positions() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    closed_log(dir.path(), 5);
    copy_dir(&dir.path().join("t-0"), &older.path().join("t-0"));
    Partition::open(older.path().join("t-0"), TopicConfig::new())
        .unwrap()
        .truncate_to(3)
        .unwrap();
    fs::remove_dir_all(dir.path().join("t-0")).unwrap();
    copy_dir(&older.path().join("t-0"), &dir.path().join("t-0"));
    fs::remove_file(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(opened(dir.path()), (vec![(5, 3)], 3));
    let log = Log::open(dir.path()).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    partition.append("new").unwrap();
    assert_eq!(texts(&partition).unwrap(), ["0", "1", "2", "new"]);
}

/// Regression: the member continued after the last record that compaction had left, below the cut.
#[test]
fn a_member_continues_at_a_cut_with_no_records_below_it() {
    let log = Log::in_memory();
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append_batch([("key", "value"); 7]).unwrap();
    partition.roll().unwrap();
    partition.append(("other", "value")).unwrap();
    assert_eq!(partition.compact().unwrap().records_removed, 6);
    let mut member = log.consumer_group("g").unwrap().join("t").unwrap();
    member.seek(&("t", 0).into(), Seek::Latest).unwrap();
    for end in [2, 1] {
        partition.truncate_to(end).unwrap();
        assert_eq!(member.position(&("t", 0).into()).unwrap(), end);
    }
}
