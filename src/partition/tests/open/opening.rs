//! What is found out again when a partition is opened.

use crate::config::ReadMode;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::write::appending::{append, lone_batch};
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk};

#[test]
fn leader_epochs_that_no_checkpoint_has_are_known_from_the_batches() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    for epoch in [0, 0, 3, 3, 5] {
        core.writer.lock().leader_epoch = epoch;
        append(&core, 1).unwrap();
    }
    let known = core.writer.lock().epochs.clone();
    assert_eq!(known.latest(), Some(5));
    disk.remove_file(format!("{DIR}/{}", file_name::LEADER_EPOCHS).as_ref())
        .unwrap();
    let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    assert_eq!(core.writer.lock().epochs, known);
    append(&core, 1).unwrap();
    assert_eq!(core.writer.lock().leader_epoch, 5);
}

#[test]
fn a_scan_writes_the_indexes_that_it_makes() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    for _ in 0..4 {
        append(&core, 1).unwrap();
    }
    let index = format!("{DIR}/00000000000000000000.index");
    let bytes = || {
        disk.metadata(index.as_ref())
            .map_or(0, |metadata| metadata.bytes)
    };
    assert_eq!(bytes(), 0, "it is in memory as long as the segment grows");
    drop(PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap());
    assert!(bytes() > 0);
}

#[test]
fn a_log_that_was_closed_keeps_its_records_without_its_indexes() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.close(true).unwrap();
    disk.remove_file(format!("{DIR}/00000000000000000000.index").as_ref())
        .unwrap();
    // There is no checkpoint that would show where the end was.
    let spec = PartitionSpec {
        clean: true,
        ..spec(0, 0, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!((read(&core).unwrap().len(), core.log_end_offset()), (3, 3));
    assert_eq!(append(&core, 1).unwrap(), 3..4);
}

#[test]
fn a_log_that_does_not_end_as_it_was_closed_is_scanned() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.close(true).unwrap();
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    let whole = file.bytes().unwrap();
    file.write_all_at(b"half a batch", whole).unwrap();
    let spec = PartitionSpec {
        clean: true,
        ..spec(0, 3, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!(
        (
            report.bytes_scanned,
            report.bytes_cut,
            file.bytes().unwrap()
        ),
        (whole, 12, whole),
        "{report:?}"
    );
    assert_eq!(append(&core, 1).unwrap(), 3..4);
    assert_eq!(read(&core).unwrap().len(), 4);
}

#[test]
fn damage_costs_no_batch_that_stands_behind_it() {
    for (what, at) in [
        ("a record", 70),
        ("the length", 8),
        ("the offset", 2),
        ("the magic", 16),
    ] {
        for damaged in 0..5 {
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
            for _ in 0..5 {
                append(&core, 1).unwrap();
            }
            let size = core.log_bytes() / 5;
            let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
            file.write_all_at(&[0xee], damaged * size + at).unwrap();
            let options = ReadOptions::new().skip_corrupt(true);
            let mut reader = Reader::new(&core, KeepOpen::nothing(), &(..), options).unwrap();
            let mut left = Vec::new();
            while let Some(record) = reader.next_record().unwrap() {
                left.push(record.offset());
            }
            assert_eq!(
                left,
                (0..5)
                    .filter(|offset| *offset != damaged)
                    .collect::<Vec<_>>(),
                "{what} of {damaged}"
            );
            let lost: Vec<_> = reader
                .take_skipped()
                .into_iter()
                .map(|damage| (damage.offsets.start, damage.offsets.end))
                .collect();
            assert_eq!(lost, [(damaged, damaged + 1)], "{what} of {damaged}");
        }
    }
}

#[test]
fn every_batch_from_the_recovery_point_on_is_checked_though_an_index_leads_beyond() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    for _ in 0..20 {
        append(&core, 1).unwrap();
    }
    core.close(true).unwrap();
    let second = Arc::clone(&core.segments().snapshot()[1]);
    let batches = u32::try_from(second.next_offset() - second.base_offset).unwrap();
    assert!(batches > 3 && second.is_sealed());
    let file = disk.open(second.log_path(), Access::Write).unwrap();
    file.write_all_at(b"damage", u64::from(second.size() / batches + 65))
        .unwrap();
    let (core, report) =
        PartitionCore::open(&context(&disk), &spec(0, second.base_offset + 1, i64::MAX)).unwrap();
    assert_eq!(core.log_end_offset(), second.base_offset + 1, "{report:?}");
    assert!(!report.kept.is_empty(), "{report:?}");
}

#[test]
fn a_partition_that_cannot_be_opened_says_why_and_touches_nothing() {
    let disk = FaultyDisk::failing_at(0);
    let why = || Error::UnknownPartition(("t", 0).into());
    let core = PartitionCore::unavailable(&context(&disk), &spec(7, 9, i64::MAX), why());
    assert!(matches!(append(&core, 1), Err(Error::UnknownPartition(_))));
    assert!(matches!(read(&core), Err(Error::UnknownPartition(_))));
    assert_eq!(
        (
            core.log_start_offset(),
            core.log_end_offset(),
            core.first_base_offset()
        ),
        (0, 0, 0)
    );
    assert!(core.is_damaged(), "what was found on the disk is why");
    assert!(core.close(true).is_ok());
    assert!(disk.list(DIR.as_ref()).is_err(), "there is no directory");
}

#[test]
fn sealed_files_are_mapped_where_the_log_says_so_but_not_to_recover_them() {
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let context = Arc::new(PartitionContext {
            read_mode,
            ..PartitionContext::for_tests(disk.clone())
        });
        let core = PartitionCore::create(&context, &spec(0, 0, i64::MAX)).unwrap();
        for _ in 0..20 {
            append(&core, 1).unwrap();
        }
        let maps = || disk.take().iter().any(|(call, _)| *call == "view");
        assert_eq!(read(&core).unwrap().len(), 20);
        assert_eq!(maps(), read_mode == ReadMode::Map);
        drop(PartitionCore::open(&context, &spec(0, 0, i64::MAX)).unwrap());
        assert!(!maps(), "what may be cut is not mapped");
    }
}

#[test]
fn only_a_log_that_was_closed_is_flushed_up_to_its_end() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.close(true).unwrap();
    let read_only = reading(&disk);
    for (clean, recovery_point) in [(true, 3), (false, 1)] {
        let spec = PartitionSpec {
            clean,
            ..spec(0, 1, i64::MAX)
        };
        let (core, _) = PartitionCore::open(&read_only, &spec).unwrap();
        assert_eq!(
            (core.recovery_point(), core.log_end_offset()),
            (recovery_point, 3)
        );
    }
    // What is behind its end was not there when it was closed.
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(b"half a batch", file.bytes().unwrap())
        .unwrap();
    let spec = PartitionSpec {
        clean: true,
        ..spec(0, 1, i64::MAX)
    };
    let (core, _) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!((core.recovery_point(), core.log_end_offset()), (1, 3));
}

#[test]
fn a_partition_without_a_batch_goes_on_in_its_first_leader_epoch() {
    let disk = FaultyDisk::failing_at(0);
    drop(created(&disk));
    let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    assert_eq!(core.writer.lock().leader_epoch, 0);
}

#[test]
fn a_batch_too_far_from_the_base_of_its_segment_is_kept_and_the_next_one_begins_a_segment() {
    const BASE: u64 = 5;
    let last = BASE + u64::from(i32::MAX.unsigned_abs());
    for (offset, segments) in [(last - 1, 1), (last, 2), (last + 1, 2)] {
        let disk = FaultyDisk::failing_at(0);
        let spec = PartitionSpec {
            is_dense: false,
            ..spec(BASE, 0, i64::MAX)
        };
        drop(PartitionCore::create(&context(&disk), &spec).unwrap());
        let path = format!("{DIR}/{}", file_name::segment_file(BASE, file_name::LOG));
        disk.open(path.as_ref(), Access::Write)
            .unwrap()
            .write_all_at(&lone_batch(offset), 0)
            .unwrap();
        let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
        assert_eq!(
            (core.log_end_offset(), report.bytes_cut),
            (offset + 1, 0),
            "{offset}: {report:?}"
        );
        append(&core, 1).unwrap();
        assert_eq!(core.segments().snapshot().len(), segments, "{offset}");
    }
}
