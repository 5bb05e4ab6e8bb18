//! A broker's transaction index with each of its bits flipped, and cut at each byte. Readers of
//! committed records never get a record of an aborted transaction.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Isolation, Log, ReadOptions};

use super::{copy_with, scratch};
use crate::kafka::{copy_dir, fixture};

const INDEX: &str = "t-0/00000000000000000000.txnindex";

fn master() -> PathBuf {
    fixture("cases/transaction-index/root")
}

fn committed(root: &Path, open: fn(&Path) -> annals::Result<Log>) -> Vec<u64> {
    let log = open(root).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let mut reader = partition
        .read_with(.., ReadOptions::new().isolation(Isolation::ReadCommitted))
        .unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}

fn check(root: &Path, label: &str) {
    let opens: [fn(&Path) -> annals::Result<Log>; 2] =
        [|root| Log::open_read_only(root), |root| Log::open(root)];
    for open in opens {
        assert_eq!(committed(root, open), [4, 6], "{label}");
    }
}

#[test]
fn a_damaged_transaction_index_changes_no_read() {
    let bytes = fs::read(master().join(INDEX)).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (_dir, root) = copy_with(&master(), INDEX, flipped);
        check(&root, &format!("bit {bit}"));
    }
    for length in 0..=bytes.len() {
        let (_dir, root) = copy_with(&master(), INDEX, bytes[..length].to_vec());
        check(&root, &format!("cut to {length} bytes"));
        assert_eq!(
            fs::read(root.join(INDEX)).unwrap(),
            bytes,
            "the index is written again"
        );
    }
    let (_dir, root) = copy_with(&master(), INDEX, [&bytes[..], &bytes[34..]].concat());
    check(&root, "an entry twice");
}

#[test]
fn a_missing_transaction_index_is_written_again() {
    let dir = scratch();
    let root = dir.path().join("log");
    copy_dir(&master(), &root);
    let bytes = fs::read(root.join(INDEX)).unwrap();
    fs::remove_file(root.join(INDEX)).unwrap();
    assert_eq!(committed(&root, |root| Log::open_read_only(root)), [4, 6]);
    assert!(
        !root.join(INDEX).exists(),
        "a read-only open writes no file"
    );
    assert_eq!(committed(&root, |root| Log::open(root)), [4, 6]);
    assert_eq!(fs::read(root.join(INDEX)).unwrap(), bytes);
}
