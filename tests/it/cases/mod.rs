//! Small inputs that public reports describe: a broker serves them, so they are read here with the
//! same answers.

use std::path::PathBuf;

use annals::{Log, Partition};

use crate::kafka::{copy_dir, fixture};

mod far_offsets;
mod header_names;
mod last_offset_delta;
mod negative_commit;
mod odd_headers;

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

/// Writes these bytes into the header of a batch, and the right checksum.
fn edit(batch: &mut [u8], at: usize, new: &[u8]) {
    batch[at..at + new.len()].copy_from_slice(new);
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
