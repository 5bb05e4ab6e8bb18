//! Handles on a partition that no log keeps, and what its topic stamps into an append.

use crate::config::TimestampType;
use crate::format::Malformed;
use crate::partition::tests::write::appending::lone_batch;
use crate::partition::tests::*;
use crate::storage::MemoryDisk;

fn handle(core: &Arc<PartitionCore>) -> Partition {
    Partition::new(Arc::clone(core), Durability::Os, KeepOpen::nothing())
}

#[test]
fn append_at_an_end_that_has_moved_writes_nothing() {
    let partition = handle(&written(&MemoryDisk::new(), 0, 3));
    assert_eq!(partition.append_batch_at(3, ["a", "b"]).unwrap(), 3..5);
    let error = partition.append_batch_at(3, ["c"]).unwrap_err();
    assert!(matches!(
        error,
        Error::EndMoved {
            expected: 3,
            log_end: 5,
            ..
        }
    ));
    assert_eq!(partition.log_end_offset(), 5);
}

#[test]
fn partition_without_a_log_is_emptied_and_continues_elsewhere() {
    let core = written(&MemoryDisk::new(), 0, 3);
    let partition = handle(&core);
    partition.restart_at(90).unwrap();
    let bounds = (partition.log_start_offset(), partition.log_end_offset());
    assert_eq!(bounds, (90, 90));
    assert_eq!(partition.append("a value").unwrap().offset, 90);
    assert_eq!(core.leader_epoch(), 0, "no broker has begun another epoch");
}

#[test]
fn greatest_offset_may_be_the_next_start_of_a_partition() {
    const LAST: u64 = i64::MAX.unsigned_abs();
    let partition = handle(&written(&MemoryDisk::new(), 0, 3));
    let error = partition.restart_at(LAST + 1).unwrap_err();
    assert!(matches!(error, Error::OffsetOutOfRange { .. }), "{error}");
    partition.restart_at(LAST).unwrap();
    let bounds = (partition.log_start_offset(), partition.log_end_offset());
    assert_eq!(bounds, (LAST, LAST));
    assert!(partition.append("a value").is_err(), "no offset is left");
    partition.restart_at(LAST - 1).unwrap();
    assert_eq!(partition.append("a value").unwrap().offset, LAST - 1);
}

#[test]
fn last_stable_offset_without_transactions_is_the_high_watermark() {
    let partition = handle(&written(&MemoryDisk::new(), 0, 3));
    assert_eq!(partition.last_stable_offset(), 3);
    assert_eq!(partition.high_watermark(), 3);
}

#[test]
fn malformed_record_is_corruption_at_its_own_offset() {
    let core = written(&MemoryDisk::new(), 0, 3);
    let Error::Corrupt(corruption) = core.corrupt_record(2, Malformed("it is cut")) else {
        panic!("a malformed record is corruption");
    };
    assert_eq!(
        (corruption.offsets, &*corruption.reason),
        (2..3, "it is cut")
    );
}

#[test]
fn topic_with_append_time_stamps_its_clock_into_every_batch() {
    let disk = MemoryDisk::new();
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.timestamp_type = TimestampType::LogAppendTime;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000);
    let early = Record::new("a value").timestamp(Timestamp::from_millis(7));
    let appended = core.append(Durability::Os, [early]).unwrap();
    assert_eq!(appended.max_timestamp, now.as_millis());
    let mut reader = handle(&core).read(..).unwrap();
    let record = reader.next_record().unwrap().unwrap();
    assert_eq!(record.timestamp(), Some(now));
    assert_eq!(record.timestamp_type(), Some(TimestampType::LogAppendTime));
}

#[test]
fn restart_after_a_roll_leaves_one_segment() {
    let core = written(&MemoryDisk::new(), 0, 3);
    core.roll_now().unwrap();
    assert!(core.segments().snapshot().len() > 1);
    handle(&core).restart_at(90).unwrap();
    assert_eq!(core.segments().snapshot().len(), 1);
}

/// Regression: the list showed the end of an append before readers got its records.
#[test]
fn active_segment_ends_at_the_log_end_during_an_append() {
    let core = written(&MemoryDisk::new(), 0, 3);
    let writer = core.writer.lock();
    let appended = writer.active.append(&lone_batch(3), 3, 0, 4096);
    assert!(appended.is_ok(), "not published yet");
    let listed = handle(&core).segments();
    let active = listed.last().unwrap();
    assert_eq!((active.next_offset, core.log_end_offset()), (3, 3));
}
