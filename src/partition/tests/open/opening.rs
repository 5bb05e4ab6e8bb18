//! The state that opening a partition recovers from its files.

use crate::config::ReadMode;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::write::appending::{append, lone_batch};
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk};

#[test]
fn leader_epochs_without_a_checkpoint_are_recovered_from_the_batches() {
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
fn scan_writes_the_indexes_that_it_builds() {
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
    assert_eq!(bytes(), 0, "the index of a growing segment is in memory");
    drop(PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap());
    assert!(bytes() > 0);
}

#[test]
fn closed_log_keeps_its_records_when_its_indexes_are_missing() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.close(true).unwrap();
    disk.remove_file(format!("{DIR}/00000000000000000000.index").as_ref())
        .unwrap();
    // No checkpoint shows where the log ended.
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
fn log_with_bytes_after_its_closed_end_is_scanned() {
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
fn damaged_batch_does_not_hide_the_batches_after_it() {
    for (case, at) in [
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
                "{case} of {damaged}"
            );
            let lost: Vec<_> = reader
                .take_skipped()
                .into_iter()
                .map(|damage| (damage.offsets.start, damage.offsets.end))
                .collect();
            assert_eq!(lost, [(damaged, damaged + 1)], "{case} of {damaged}");
        }
    }
}

#[test]
fn every_batch_above_the_recovery_point_is_checked_even_if_an_index_skips_it() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    for _ in 0..20 {
        append(&core, 1).unwrap();
    }
    core.close(true).unwrap();
    let second = Arc::clone(&core.segments().snapshot()[1]);
    let batches = u32::try_from(second.next_offset() - second.base_offset).unwrap();
    assert!(batches > 3);
    assert!(second.is_sealed());
    let file = disk.open(second.log_path(), Access::Write).unwrap();
    file.write_all_at(b"damage", u64::from(second.size() / batches + 65))
        .unwrap();
    let (core, report) =
        PartitionCore::open(&context(&disk), &spec(0, second.base_offset + 1, i64::MAX)).unwrap();
    assert_eq!(core.log_end_offset(), second.base_offset + 1, "{report:?}");
    assert!(!report.kept.is_empty(), "{report:?}");
}

#[test]
fn unavailable_partition_reports_the_reason_and_changes_no_file() {
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
    assert!(core.is_damaged(), "the disk is the reason");
    assert!(core.close(true).is_ok());
    assert!(
        disk.list(DIR.as_ref()).is_err(),
        "the directory is not created"
    );
}

#[test]
fn sealed_files_are_mapped_as_configured_but_never_during_recovery() {
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
        assert!(!maps(), "a file that may be cut is not mapped");
    }
}

#[test]
fn only_a_closed_log_counts_as_flushed_up_to_its_end() {
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
    // The bytes after its end were written after the close.
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
fn partition_without_batches_continues_in_its_first_leader_epoch() {
    let disk = FaultyDisk::failing_at(0);
    drop(created(&disk));
    let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    assert_eq!(core.writer.lock().leader_epoch, 0);
}

#[test]
fn batch_too_far_from_its_base_offset_is_kept_and_the_next_one_begins_a_segment() {
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
