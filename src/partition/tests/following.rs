//! Readers that wait for records, and the parts of a batch that they return.

use std::time::Duration;

use crate::partition::tests::*;
use crate::storage::MemoryDisk;

fn partition_of(batches: &[usize]) -> Partition {
    let core = created(&MemoryDisk::new());
    for records in batches {
        write::appending::append(&core, *records).unwrap();
    }
    Partition::new(core, Durability::Os, KeepOpen::nothing())
}

#[test]
fn records_that_are_there_are_returned_without_a_wait() {
    let partition = partition_of(&[2, 1]);
    let mut reader = partition.follow(..).unwrap();
    for expected in 0..3 {
        let record = reader.next_record_timeout(Duration::MAX).unwrap();
        assert_eq!(record.map(|record| record.offset()), Some(expected));
    }
    let record = reader.next_record_timeout(Duration::ZERO).unwrap();
    assert!(record.is_none(), "the wait ends without a record");
    partition.append("a later value").unwrap();
    let record = reader.next_record_timeout(Duration::MAX).unwrap();
    assert_eq!(record.map(|record| record.offset()), Some(3));
}

#[test]
fn iteration_continues_with_the_rest_of_the_batch_of_the_last_record() {
    let partition = partition_of(&[3, 1]);
    for (records, expected) in [
        (0, &[(0, 3), (3, 4)][..]),
        (1, &[(1, 3), (3, 4)]),
        (3, &[(3, 4)]),
    ] {
        let mut reader = partition.read(..).unwrap();
        for _ in 0..records {
            reader.next_record().unwrap().unwrap();
        }
        let batches = reader.map(|batch| batch.unwrap().offsets());
        let ranges: Vec<_> = batches.map(|range| (range.start, range.end)).collect();
        assert_eq!(ranges, expected, "after {records} records");
    }
}
