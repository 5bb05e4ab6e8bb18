//! Small inputs that public reports describe: a broker serves them, so they are read here with the same answers.

use std::path::PathBuf;

use annals::{Log, Partition};

use crate::kafka::{copy_dir, fixture};

mod header_names;
mod negative_commit;

/// Copies the log directory of a case to a place where it may be written.
fn copy_of(case: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    copy_dir(&fixture("cases").join(case).join("root"), &root);
    (dir, root)
}

/// Returns the only partition of a case.
fn only(log: &Log) -> Partition {
    log.topic("t").unwrap().partition(0).unwrap()
}

/// Returns the offsets of all records that a reader gets.
fn offsets(partition: &Partition) -> Vec<u64> {
    let mut reader = partition.read(..).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}
