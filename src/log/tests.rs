//! A disk that fills up, seen from the whole engine.

use super::Log;
use crate::config::TopicConfig;
use crate::error::Error;
use crate::storage::faulty::{Fault, FaultyDisk};

fn open(disk: &FaultyDisk) -> Log {
    Log::builder("data").storage(disk.clone()).open().unwrap()
}

fn append(log: &Log, count: u64) {
    let config = TopicConfig::new().segment_bytes(400).retention(None);
    let partition = log.open_topic("t", 1, config).unwrap().partition(0).unwrap();
    for _ in 0..count {
        partition.append(format!("value {}", partition.log_end_offset())).unwrap();
    }
}

fn check(log: &Log, start: u64, end: u64) {
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (start, end));
    let mut reader = partition.read(..).unwrap();
    for offset in start..end {
        assert_eq!(reader.next_record().unwrap().unwrap().text(), format!("value {offset}"));
    }
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 30);
    disk.set_fault(Some(Fault::FullForGood));
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    for _ in 0..3 {
        assert!(matches!(partition.append("value 30"), Err(Error::DiskFull { .. })));
    }
    check(&log, 0, 30);
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    check(&log, 12, 30);
    disk.set_fault(None);
    append(&log, 3);
    check(&log, 12, 33);
    log.close().unwrap();
    check(&open(&disk), 12, 33);
}

/// What was broken: recovery wanted room for the indexes it had built, and a log on a full disk could not even be opened to
/// make room in it.
#[test]
fn a_killed_log_on_a_full_disk_opens_reads_and_deletes() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 30);
    disk.set_fault(Some(Fault::FullForGood));
    assert!(log.close().is_err(), "what is not flushed is told");
    let log = open(&disk);
    assert!(!log.recovery().clean);
    check(&log, 0, 30);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    disk.set_fault(None);
    append(&log, 1);
    log.close().unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    check(&log, 12, 31);
}
