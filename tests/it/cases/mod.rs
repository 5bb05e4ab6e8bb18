//! Small inputs from public reports that a broker can serve. annals reads them with the same
//! results.

use std::path::PathBuf;
use std::time::Duration;

use annals::{Log, Partition};

use crate::kafka::{copy_dir, fixture};

mod far_offsets;
mod header_names;
mod last_offset_delta;
mod negative_commit;
mod odd_headers;
mod trailing_markers;
mod transactional_commits;

/// Copies the log directory of a case to a directory where it may be written.
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

/// Consumes the only partition in group `g` and commits. Returns the offsets of the records, and
/// the committed offset.
fn consume(log: &Log) -> (Vec<u64>, u64) {
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("t").unwrap();
    let mut found = Vec::new();
    for _ in 0..5 {
        let records = consumer.poll(Duration::from_millis(100)).unwrap();
        found.extend(records.iter().map(|record| record.unwrap().offset()));
    }
    consumer.commit().unwrap();
    let committed = group.committed(&("t", 0).into()).unwrap().unwrap();
    (found, committed.offset)
}

/// Writes `new` at `at` into the header of a batch, and corrects the checksum.
fn edit(batch: &mut [u8], at: usize, new: &[u8]) {
    batch[at..at + new.len()].copy_from_slice(new);
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
