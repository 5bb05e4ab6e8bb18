//! What a truncation leaves: the records below its end, no byte of those above it, and an end that an opening finds again.

use super::appending::{append, lone_batch, with_a_gap};
use super::*;
use crate::format::batch::BatchHeader;

fn reopened(disk: &FaultyDisk, is_dense: bool) -> Arc<PartitionCore> {
    let (core, report) = PartitionCore::open(&context(disk), &PartitionSpec { is_dense, ..spec(0, 0, i64::MAX) }).unwrap();
    assert!(report.damage.is_none() && report.bytes_cut == 0, "{report:?}");
    core
}

#[test]
fn an_end_inside_a_gap_is_found_again() {
    for (end, segments) in [(6, 2), (1, 1)] {
        let disk = FaultyDisk::failing_at(0);
        let core = with_a_gap(&disk, 10);
        assert_eq!(core.log_end_offset(), 11);
        core.truncation(end).make().unwrap();
        assert_eq!((core.log_end_offset(), core.segment_infos().unwrap().len()), (end, segments));
        let core = reopened(&disk, false);
        assert_eq!(core.log_end_offset(), end, "its name tells, where no batch does");
        assert_eq!(append(&core, 1).unwrap(), end..end + 1);
        assert_eq!(read(&core).unwrap().len(), 2);
    }
}

#[test]
fn of_a_large_segment_nothing_above_the_end_stays() {
    let disk = FaultyDisk::failing_at(0);
    let settings = TopicSettings::unconfigured();
    let core = PartitionCore::create(&context(&disk), &PartitionSpec { settings, ..spec(0, 0, i64::MAX) }).unwrap();
    let value = "v".repeat(100_000);
    for _ in 0..24 {
        core.append(Durability::Os, [Record::new(&value)]).unwrap();
    }
    let whole = core.log_bytes();
    core.truncation(16).make().unwrap();
    let bytes = disk.metadata(format!("{DIR}/00000000000000000000.log").as_ref()).unwrap().bytes;
    assert_eq!((core.log_bytes(), bytes), (whole / 24 * 16, whole / 24 * 16), "more than is copied at a time");
    let core = reopened(&disk, true);
    assert_eq!((core.log_end_offset(), read(&core).unwrap().len()), (16, 16));
}

#[test]
fn what_comes_where_compacted_records_were_is_not_compacted() {
    let core = PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, 10).unwrap();
    core.truncation(9).make().unwrap();
    assert_eq!(core.cleaned_end(), None, "it never was");
    core.set_cleaned_end(Some(8));
    core.truncation(8).make().unwrap();
    assert_eq!(core.cleaned_end(), Some(8));
    core.truncation(5).make().unwrap();
    assert_eq!(core.cleaned_end(), Some(5));
}

#[test]
fn a_batch_that_does_not_follow_the_one_before_it_is_not_compacted() {
    let core = PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, 3).unwrap();
    let segment = Arc::clone(&core.segments().snapshot()[0]);
    let header = BatchHeader::decode(&lone_batch(1)).unwrap();
    let check = |expected, last_offset| {
        let header = BatchHeader { last_offset, ..header };
        PartitionCore::check_follows(&segment, expected, &header).is_ok()
    };
    assert!(check(0, 1) && check(1, 2));
    assert!(!check(2, 2), "it begins below the end of the one before");
    assert!(!check(1, 3), "it ends behind the segment");
}

#[test]
fn an_end_where_records_are_missing_is_refused_and_changes_nothing() {
    let core = with_a_gap(&FaultyDisk::failing_at(0), 10);
    core.is_dense.store(true, Ordering::SeqCst);
    let refused = core.truncation(6).make();
    assert!(matches!(&refused, Err(Error::Corrupt(damage)) if damage.offsets == (1..6)), "{refused:?}");
    assert_eq!((core.log_end_offset(), core.segment_infos().unwrap().len()), (11, 1));
}
