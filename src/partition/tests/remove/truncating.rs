//! What a truncation leaves: the records below its end, no byte of those above it, and an end that
//! an opening finds again.

use crate::format::batch::BatchHeader;
use crate::partition::tests::write::appending::{append, lone_batch, with_a_gap};
use crate::partition::tests::*;
use crate::storage::Access;

fn reopened(disk: &FaultyDisk, is_dense: bool) -> Arc<PartitionCore> {
    let (core, report) = PartitionCore::open(
        &context(disk),
        &PartitionSpec {
            is_dense,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    assert!(
        report.damage.is_none() && report.bytes_cut == 0,
        "{report:?}"
    );
    core
}

#[test]
fn an_end_inside_a_gap_is_found_again() {
    for (end, segments) in [(6, 2), (1, 1)] {
        let disk = FaultyDisk::failing_at(0);
        let core = with_a_gap(&disk, 10);
        assert_eq!(core.log_end_offset(), 11);
        core.truncation(end).make().unwrap();
        assert_eq!(
            (core.log_end_offset(), core.segment_infos().unwrap().len()),
            (end, segments)
        );
        let core = reopened(&disk, false);
        assert_eq!(
            core.log_end_offset(),
            end,
            "its name tells, where no batch does"
        );
        assert_eq!(append(&core, 1).unwrap(), end..end + 1);
        assert_eq!(read(&core).unwrap().len(), 2);
    }
}

#[test]
fn of_a_large_segment_nothing_above_the_end_stays() {
    let disk = FaultyDisk::failing_at(0);
    let settings = TopicSettings::unconfigured();
    let core = PartitionCore::create(
        &context(&disk),
        &PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    let value = "v".repeat(100_000);
    for _ in 0..24 {
        core.append(Durability::Os, [Record::new(&value)]).unwrap();
    }
    let whole = core.log_bytes();
    core.truncation(16).make().unwrap();
    let bytes = disk.metadata(LOG.as_ref()).unwrap().bytes;
    assert_eq!(
        (core.log_bytes(), bytes),
        (whole / 24 * 16, whole / 24 * 16),
        "more than is copied at a time"
    );
    let core = reopened(&disk, true);
    assert_eq!(
        (core.log_end_offset(), read(&core).unwrap().len()),
        (16, 16)
    );
}

#[test]
fn what_comes_where_compacted_records_were_is_not_compacted() {
    let core =
        PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, i64::MAX)).unwrap();
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
    let core =
        PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, 3).unwrap();
    let segment = Arc::clone(&core.segments().snapshot()[0]);
    let header = BatchHeader::decode(&lone_batch(1)).unwrap();
    let check = |expected, last_offset| {
        let header = BatchHeader {
            last_offset,
            stated_last_offset: last_offset,
            ..header
        };
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
    assert!(
        matches!(&refused, Err(Error::Corrupt(damage)) if damage.offsets == (1..6)),
        "{refused:?}"
    );
    assert_eq!(
        (core.log_end_offset(), core.segment_infos().unwrap().len()),
        (11, 1)
    );
}

/// A log of one segment and five batches of a record each, and the size of one.
fn of_five(disk: &FaultyDisk) -> (Arc<PartitionCore>, u64) {
    let settings = TopicSettings::unconfigured();
    let core = PartitionCore::create(
        &context(disk),
        &PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    for _ in 0..5 {
        append(&core, 1).unwrap();
    }
    let size = core.log_bytes() / 5;
    (core, size)
}

/// Where damage is told, the cut is the way out of it.
#[test]
fn a_batch_that_goes_need_not_be_sound() {
    for (what, position) in [("its header", 16), ("its record", 70)] {
        let disk = FaultyDisk::failing_at(0);
        let (core, size) = of_five(&disk);
        disk.open(LOG.as_ref(), Access::Write)
            .unwrap()
            .write_all_at(&[0xee], 3 * size + position)
            .unwrap();
        core.truncation(3).make().unwrap();
        assert_eq!(
            (core.log_end_offset(), read(&core).unwrap().len()),
            (3, 3),
            "{what}"
        );
    }
}

#[test]
fn a_cut_between_two_segments_copies_neither() {
    let disk = FaultyDisk::failing_at(0);
    let core = written(&disk, 0, 20);
    let before = core.segments().snapshot();
    let end = before[2].base_offset;
    core.truncation(end).make().unwrap();
    let after = core.segments().snapshot();
    assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
    assert_eq!(
        (after.len(), after[2].base_offset, after[2].size()),
        (3, end, 0)
    );
    assert_eq!(
        (core.log_end_offset(), core.lowest_cut_since(0)),
        (end, Some(end))
    );
}

#[test]
fn whoever_knows_of_no_cut_is_told_the_lowest() {
    let (core, _) = of_five(&FaultyDisk::failing_at(0));
    assert_eq!((core.truncations(), core.lowest_cut_since(0)), (0, None));
    core.truncation(4).make().unwrap();
    core.truncation(2).make().unwrap();
    assert_eq!(
        [0, 1, 2].map(|known| core.lowest_cut_since(known)),
        [Some(2), Some(2), None]
    );
}

#[test]
fn the_recovery_point_goes_as_low_as_a_cut_may_leave_the_log() {
    let core = written(&FaultyDisk::failing_at(0), 0, 20);
    let (first, second) = (
        core.segments().snapshot()[1].base_offset,
        core.segments().snapshot()[2].base_offset,
    );
    let points = || {
        [1, first, first + 1, second, second + 1].map(|end| core.truncation(end).recovery_point())
    };
    assert_eq!(points(), [1, first, first + 1, second, second + 1]);
    core.allow_gaps();
    assert_eq!(
        points(),
        [0, 0, first, first, second],
        "where there are gaps, the segment that is cut may end anywhere"
    );
}

#[test]
fn a_cut_below_the_log_start_is_refused_and_one_at_it_leaves_nothing() {
    let (core, _) = of_five(&FaultyDisk::failing_at(0));
    core.delete_records_before(2).unwrap();
    let refused = core.truncation(1).make();
    assert!(
        matches!(
            refused,
            Err(Error::OffsetOutOfRange {
                requested: 1,
                log_start: 2,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(core.log_end_offset(), 5);
    core.truncation(2).make().unwrap();
    assert_eq!((core.log_end_offset(), read(&core).unwrap().len()), (2, 0));
    assert_eq!(append(&core, 1).unwrap(), 2..3);
}
