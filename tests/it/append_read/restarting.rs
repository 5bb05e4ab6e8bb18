//! Emptying partitions that a broker wrote: nothing of them is left, whatever their batches, indexes
//! and checkpoints contain.

use std::fs;
use std::path::Path;

use annals::Log;
use annals::inspect::verify;

use crate::kafka::{copy_dir, fixture};

/// Returns the offset in the line of a partition in a checkpoint.
fn line(root: &Path, checkpoint: &str, topic: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join(checkpoint)).unwrap();
    let start = format!("{topic} 0 ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.next().map(|offset| offset.parse().unwrap())
}

/// Restarts a partition of a copy of a fixture at an offset, and opens the copy again.
fn check(set: &str, topic: &str, start: u64) {
    let case = format!("{set} {topic} at {start}");
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("copy");
    copy_dir(&fixture(set), &root);
    let log = Log::open(&root).unwrap();
    let partition = log.topic(topic).unwrap().partition(0).unwrap();
    partition
        .restart_at(start)
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(partition.read(..).unwrap().count(), 0, "{case}");
    assert_eq!(partition.last_stable_offset(), start, "{case}");
    drop(partition);
    log.close().unwrap();
    for checkpoint in ["log-start-offset-checkpoint", "cleaner-offset-checkpoint"] {
        let line = line(&root, checkpoint, topic);
        assert!(
            line.is_none_or(|offset| offset <= start),
            "{case}: {line:?}"
        );
    }
    let point = line(&root, "recovery-point-offset-checkpoint", topic);
    assert_eq!(point, Some(start), "{case}");
    let dir = root.join(format!("{topic}-0"));
    assert_eq!(verify(&dir).unwrap(), [], "{case}");

    let log = Log::open(&root).unwrap();
    assert!(log.recovery().clean, "{case}");
    let partition = log.topic(topic).unwrap().partition(0).unwrap();
    let bounds = (partition.log_start_offset(), partition.log_end_offset());
    assert_eq!(bounds, (start, start), "{case}");
    let key = "a compacted topic needs one";
    assert_eq!(
        partition.append((key, "new")).unwrap().offset,
        start,
        "{case}"
    );
    drop(partition);
    log.close().unwrap();
    assert_eq!(verify(&dir).unwrap(), [], "{case}");
}

#[test]
fn a_partition_of_a_broker_restarts_at_any_offset() {
    for topic in [
        "plain",
        "compacted",
        "deleted-records",
        "aged-out",
        "idempotent",
        "transactions",
        "empty",
    ] {
        for start in [0, 7, 1_000_000] {
            check("clean/root", topic, start);
        }
    }
    for topic in ["v0-gzip", "upgraded"] {
        check("legacy/root", topic, 3);
    }
}
