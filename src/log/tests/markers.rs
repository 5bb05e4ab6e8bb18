//! ABORT markers that could not be written when a log was opened.

use std::io;
use std::path::Path;

use crate::config::{Durability, TopicConfig};
use crate::log::Log;
use crate::producer::ProducerConfig;
use crate::storage::{SimulatedDisk, Storage};

fn open(disk: &SimulatedDisk) -> crate::error::Result<Log> {
    Log::builder("data").storage(disk.clone()).open()
}

/// Returns a disk on which a killed process left a transaction open in a synced topic, and the
/// states of the transactions are lost.
fn with_open_transaction() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    let config = TopicConfig::new().durability(Durability::Synced);
    let topic = log.create_topic("t", 1, config).unwrap();
    let small = ProducerConfig::new().buffer_memory(300).batch_size(100);
    let mut producer = log.transactional_producer_with("id", small).unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&topic, "v".repeat(4_000)).unwrap();
    assert_eq!(log.open_transactions().unwrap().len(), 1);
    let disk = disk.process_killed();
    // Nothing states which id the transaction belongs to, or how it ends.
    for entry in disk.list("data".as_ref()).unwrap() {
        let path = Path::new("data").join(&entry.name);
        match entry.name.starts_with("__transaction_state") {
            true if entry.is_dir => disk.remove_dir_all(&path).unwrap(),
            true => disk.remove_file(&path).unwrap(),
            false => {}
        }
    }
    disk
}

/// Regression: the marker was written at a later attempt, but not synced. Readers of the topic
/// waited for it.
#[test]
fn marker_that_is_written_late_is_synced() {
    let mut late = 0;
    for call in 0.. {
        let disk = with_open_transaction();
        let at = disk.calls() + call;
        disk.fail_call(at, io::ErrorKind::StorageFull.into());
        let opened = open(&disk);
        if disk.calls() <= at {
            break;
        }
        let Ok(log) = opened else { continue };
        if log.open_transactions().unwrap().is_empty() {
            continue;
        }
        late += 1;
        log.core().transactions.maintain().unwrap();
        assert!(log.open_transactions().unwrap().is_empty(), "call {call}");
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        assert_eq!(
            partition.high_watermark(),
            partition.log_end_offset(),
            "call {call}"
        );
    }
    assert!(late > 0, "some call keeps the marker from being written");
}
