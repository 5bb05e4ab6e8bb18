//! The state after a truncation: all records below the new end, no byte of those above it, and an
//! end that the next opening finds.

use crate::partition::tests::write::appending::{append, with_a_gap};
use crate::partition::tests::*;
use crate::storage::{Access, MemoryDisk, read_file};

fn reopened(disk: &FaultyDisk, is_dense: bool) -> Arc<PartitionCore> {
    let (core, report) = PartitionCore::open(
        &context(disk),
        &PartitionSpec {
            is_dense,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(report.bytes_cut, 0, "{report:?}");
    core
}

#[test]
fn end_inside_a_gap_is_found_by_the_next_opening() {
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
            "a file name states the end if no batch does"
        );
        assert_eq!(append(&core, 1).unwrap(), end..end + 1);
        assert_eq!(read(&core).unwrap().len(), 2);
    }
}

/// Regression: a broker removes the file that promises a cut, and opens the segments that are left.
/// They were removed from the first one on, so the broker found later records after a gap.
#[test]
fn interrupted_cut_leaves_no_gap_between_segments() {
    for fails_at in 0.. {
        let disk = FaultyDisk::failing_at(fails_at);
        let core = written(&disk, 0, 20);
        let before = segment_bases(&disk);
        assert!(before.len() > 3);
        disk.set_fault(Some(Fault::AnyForGood));
        let cut = core.truncation(2).make();
        let left = segment_bases(&disk);
        assert!(before.starts_with(&left), "call {fails_at}: {left:?}");
        if cut.is_ok() {
            assert_eq!(left, [0]);
            return;
        }
    }
}

fn segment_bases(disk: &impl Storage) -> Vec<u64> {
    let entries = disk.list(DIR.as_ref()).unwrap();
    let parsed = entries
        .iter()
        .filter_map(|entry| file_name::parse_segment_file(&entry.name));
    let mut bases: Vec<_> = parsed
        .filter(|(_, suffix)| *suffix == file_name::LOG)
        .map(|(base, _)| base)
        .collect();
    bases.sort_unstable();
    bases
}

#[test]
fn cut_of_a_large_segment_leaves_no_byte_above_the_end() {
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
        "this is more than one copied piece"
    );
    let core = reopened(&disk, true);
    assert_eq!(
        (core.log_end_offset(), read(&core).unwrap().len()),
        (16, 16)
    );
}

#[test]
fn records_after_a_cut_do_not_count_as_compacted() {
    let core =
        PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, 10).unwrap();
    core.truncation(9).make().unwrap();
    assert_eq!(core.cleaned_end(), None, "the log was never compacted");
    core.set_cleaned_end(Some(8));
    core.truncation(8).make().unwrap();
    assert_eq!(core.cleaned_end(), Some(8));
    core.truncation(5).make().unwrap();
    assert_eq!(core.cleaned_end(), Some(5));
}

#[test]
fn cut_at_missing_records_is_refused_and_changes_nothing() {
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

/// Creates a log of one segment with five batches of one record each. Returns it with the size of a
/// batch.
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

/// A cut is the way to remove damage that was reported.
#[test]
fn cut_removes_a_damaged_batch() {
    for (case, position) in [("its header", 16), ("its record", 70)] {
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
            "{case}"
        );
    }
}

#[test]
fn cut_between_two_segments_copies_neither() {
    let disk = FaultyDisk::failing_at(0);
    let core = written(&disk, 0, 20);
    let before = core.segments().snapshot();
    let end = before[2].base_offset;
    core.truncation(end).make().unwrap();
    let after = core.segments().snapshot();
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert!(Arc::ptr_eq(&before[1], &after[1]));
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
fn lowest_cut_is_that_of_all_later_cuts() {
    let (core, _) = of_five(&FaultyDisk::failing_at(0));
    assert_eq!((core.truncations(), core.lowest_cut_since(0)), (0, None));
    let known = [4, 2].map(|end| {
        core.truncation(end).make().unwrap();
        core.truncations()
    });
    assert_eq!(
        [0, known[0], known[1]].map(|known| core.lowest_cut_since(known)),
        [Some(2), Some(2), None]
    );
}

#[test]
fn recovery_point_of_a_cut_is_the_lowest_possible_end() {
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
        "with gaps, the segment that is cut may end at any offset"
    );
}

#[test]
fn cut_below_the_log_start_is_refused_and_a_cut_at_it_removes_all_records() {
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

#[test]
fn cut_of_a_log_that_lost_its_end_lowers_the_end_of_its_last_segment() {
    let disk = MemoryDisk::new();
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.close(true).unwrap();
    drop(core);
    let (core, report) = PartitionCore::open(&context(&disk), &spec(0, 9, i64::MAX)).unwrap();
    assert!(report.damage.is_some());
    core.truncation(3).make().unwrap();
    let segments = core.segments().snapshot();
    assert_eq!(segments[0].next_offset(), 3);
    assert_eq!(segments[1].base_offset, 3);
    append(&core, 1).unwrap();
    core.delete_records_before(4).unwrap();
    assert_eq!(core.segments().snapshot().len(), 1);
}

/// Opens a log of 20 records in several segments, of which the second one is damaged.
fn damaged(disk: &FaultyDisk) -> Arc<PartitionCore> {
    let core = written(disk, 0, 20);
    core.flush().unwrap();
    let second = Arc::clone(&core.segments().snapshot()[1]);
    drop(core);
    let mut bytes = read_file(disk, second.log_path(), 1 << 20).unwrap();
    bytes[65] ^= 1;
    put(disk, second.log_path(), &bytes);
    let spec = spec(0, second.base_offset + 1, i64::MAX);
    let (core, report) = PartitionCore::open(&context(disk), &spec).unwrap();
    assert!(report.damage.is_some());
    core
}

/// Otherwise the next opening would finish the first cut, and remove the records that came later.
#[test]
fn half_done_cut_of_a_damaged_partition_loses_no_later_record() {
    let mut poisoned = 0;
    for fails_at in 0.. {
        let disk = FaultyDisk::failing_at(fails_at);
        let core = damaged(&disk);
        disk.set_fault(Some(Fault::AnyForGood));
        let first = core.truncation(5).make();
        disk.set_fault(None);
        if first.is_ok() {
            break;
        }
        let second = core.truncation(4).make();
        poisoned += usize::from(matches!(second, Err(Error::Poisoned { .. })));
        if is_poisoned(&core) {
            core.reopen().unwrap().take_writes();
            core.truncation(4).make().unwrap();
        }
        let values = append_values(&core, 20);
        let spec = spec(0, core.recovery_point(), i64::MAX);
        drop(core);
        let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
        assert!(report.damage.is_none(), "fails at {fails_at}: {report:?}");
        let found = read(&core).unwrap().split_off(4);
        assert_eq!(found, values, "fails at {fails_at}");
    }
    assert!(poisoned > 0);
}

/// Appends synced records, and returns their offsets and values.
fn append_values(core: &PartitionCore, count: usize) -> Vec<(u64, String)> {
    let appended = (0..count).map(|number| {
        let value = format!("value {number}");
        let record = Record::new(value.as_str());
        let appended = core.append(Durability::Synced, [record]).unwrap();
        (appended.offsets.start, value)
    });
    appended.collect()
}

/// No checksum covers the base offset, and the gap that a wrong one makes is legal.
#[test]
fn wrong_offset_in_a_log_with_gaps_does_not_hide_batches_below_the_cut() {
    let disk = MemoryDisk::new();
    let spec = PartitionSpec {
        is_dense: false,
        ..spec(0, 0, i64::MAX)
    };
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    let mut starts = Vec::new();
    for _ in 0..5 {
        starts.push(core.segments().snapshot()[0].size() as usize);
        core.append(Durability::Os, ["a"]).unwrap();
    }
    let mut bytes = read_file(&disk, LOG.as_ref(), 1 << 20).unwrap();
    bytes[starts[1] + 7] ^= 8;
    put(&disk, LOG, &bytes);
    let refused = core.truncation(4).make();
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
    assert_eq!(core.log_end_offset(), 5);
    core.truncation(1).make().unwrap();
    assert_eq!(read(&core).unwrap().len(), 1);
}
