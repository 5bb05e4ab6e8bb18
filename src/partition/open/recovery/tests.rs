//! Tests of the single steps of opening.

use std::io;
use std::path::Path;

use super::*;
use crate::clock::Timestamp;
use crate::config::{Durability, TopicSettings};
use crate::format::batch::{ProducerStamp, stamp_producer};
use crate::format::index_entry::OffsetEntry;
use crate::format::record::Record;
use crate::partition::tests::{DIR, context, put, spec, written};
use crate::segment::index_file::IndexLookup;
use crate::storage::Access;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, Storage};

const OFFSETS: &str = "/data/t-0/00000000000000000000.index";
const TIMES: &str = "/data/t-0/00000000000000000000.timeindex";

#[test]
fn a_directory_with_the_name_of_a_segment_is_not_a_segment() {
    let disk = MemoryDisk::new();
    drop(written(&disk, 0, 1));
    disk.create_dir_all(&Path::new(DIR).join("00000000000000000005.log"))
        .unwrap();
    assert_eq!(
        Contents::list(&context(&disk), Path::new(DIR))
            .unwrap()
            .logs,
        [0]
    );
}

#[test]
fn only_a_full_disk_is_forgiven() {
    let failed =
        |kind: io::ErrorKind| unless_full(Err(Error::io("write", Path::new(DIR), kind.into())));
    assert!(failed(io::ErrorKind::StorageFull).is_ok());
    assert!(matches!(
        failed(io::ErrorKind::PermissionDenied),
        Err(Error::Io { .. })
    ));
}

#[test]
fn sealed_indexes_keep_their_digests() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    core.close(true).unwrap();
    let digests = |core: &PartitionCore| {
        let segments = core.segments().snapshot();
        assert!(segments.len() > 2);
        segments[..segments.len() - 1]
            .iter()
            .map(|segment| segment.digests())
            .collect::<Vec<_>>()
    };
    let stored = digests(&core);
    let is_whole = |digests: &SegmentDigests| {
        digests.log_bytes.is_some() && digests.indexes.iter().all(Option::is_some)
    };
    assert!(
        stored
            .iter()
            .all(|digests| digests.as_ref().is_some_and(is_whole)),
        "{stored:?}"
    );
    let (core, _) = PartitionCore::open(
        &context(&disk),
        &PartitionSpec {
            clean: true,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    assert_eq!(digests(&core), stored);
}

/// A broker may have appended to the segment, or compacted it, after the digests were written.
#[test]
fn digests_of_a_log_of_another_length_do_not_count() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    core.close(true).unwrap();
    let segments = core.segments().snapshot();
    let (first, second) = (&segments[0], &segments[1]);
    disk.open(first.log_path(), Access::Write)
        .unwrap()
        .set_len(u64::from(first.size()) - 1)
        .unwrap();
    let (core, _) = PartitionCore::open(
        &context(&disk),
        &PartitionSpec {
            clean: true,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    let opened = core.segments().snapshot();
    assert_eq!(opened[0].digests(), None);
    assert_eq!(opened[1].digests(), second.digests());
}

#[test]
fn records_that_were_deleted_are_not_missing() {
    let disk = MemoryDisk::new();
    drop(written(&disk, 0, 1));
    let is_missing = |log_start, end| {
        let (context, spec) = (context(&disk), spec(log_start, 5, i64::MAX));
        Opening::new(&context, &spec, false)
            .unwrap()
            .is_missing_end(end)
    };
    assert_eq!(
        [(0, 4), (0, 5), (4, 3), (5, 3), (6, 3)].map(|(start, end)| is_missing(start, end)),
        [true, false, true, false, false]
    );
}

#[test]
fn a_log_that_ends_below_its_start_is_not_damaged() {
    let disk = MemoryDisk::new();
    drop(written(&disk, 0, 2));
    let (core, report) = PartitionCore::open(&context(&disk), &spec(9, 9, i64::MAX)).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!((core.log_start_offset(), core.log_end_offset()), (9, 9));
}

/// The first opening begins a segment at the log start, and leaves those below it.
#[test]
fn records_after_a_lost_end_below_the_log_start_stay() {
    let disk = MemoryDisk::new();
    drop(written(&disk, 0, 1));
    let opened = || PartitionCore::open(&context(&disk), &spec(7, 0, i64::MAX)).unwrap();
    let (core, _) = opened();
    assert_eq!(core.log_end_offset(), 7);
    for offset in 7..20 {
        core.append(Durability::Os, [Record::new(format!("value {offset}"))])
            .unwrap();
    }
    assert!(core.segments().snapshot().len() > 3);
    drop(core);
    let (core, report) = opened();
    assert_eq!((report.bytes_cut, report.kept), (0, Vec::new()));
    assert!(report.damage.is_none());
    assert_eq!((core.log_start_offset(), core.log_end_offset()), (7, 20));
    drop(core);
    let first = log_path_of(0);
    let torn = read_file(&disk, &first, 1 << 20).unwrap();
    put(&disk, &first, &torn[..torn.len() - 1]);
    let (core, report) = opened();
    assert!(
        report.bytes_cut > 0 && report.damage.is_none(),
        "{report:?}"
    );
    assert_eq!((core.log_start_offset(), core.log_end_offset()), (7, 20));
}

fn log_path_of(base: u64) -> PathBuf {
    Path::new(DIR).join(file_name::segment_file(base, file_name::LOG))
}

/// A roll that fails creates the file of the next segment, and may not be able to remove it.
#[test]
fn an_empty_segment_below_the_end_of_the_one_before_it_is_removed() {
    for empty in [&[1_u64][..], &[1, 2], &[2, 4]] {
        let disk = MemoryDisk::new();
        drop(written(&disk, 0, 8));
        for base in empty {
            put(&disk, log_path_of(*base), b"");
        }
        let opened = || PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
        let (core, report) = opened();
        assert!(report.damage.is_none(), "{report:?}");
        assert_eq!((report.bytes_cut, core.log_end_offset()), (0, 8));
        let bases: Vec<_> = core
            .segments()
            .snapshot()
            .iter()
            .map(|s| s.base_offset)
            .collect();
        assert!(bases.iter().all(|base| !empty.contains(base)), "{bases:?}");
        let appended = core.append(Durability::Os, [Record::new("next")]).unwrap();
        assert_eq!(appended.offsets, 8..9);
        drop(core);
        assert_eq!(opened().0.log_end_offset(), 9);
    }
}

#[test]
fn a_closed_log_that_lost_its_end_is_damaged_even_if_its_index_fits() {
    let disk = MemoryDisk::new();
    written(&disk, 0, 3).close(true).unwrap();
    let clean = |recovery_point| PartitionSpec {
        clean: true,
        ..spec(0, recovery_point, i64::MAX)
    };
    let damage = |recovery_point| {
        PartitionCore::open(&context(&disk), &clean(recovery_point))
            .unwrap()
            .1
            .damage
    };
    assert!(damage(3).is_none());
    assert!(matches!(damage(5), Some(Error::Corrupt(damage)) if damage.offsets == (3..5)));
}

#[test]
fn damage_loses_at_least_one_offset() {
    let disk = MemoryDisk::new();
    drop(written(&disk, 0, 1));
    for (recovery_point, lost) in [(0, 5..6), (5, 5..6), (9, 5..9)] {
        let (context, spec) = (context(&disk), spec(0, recovery_point, i64::MAX));
        let mut opening = Opening::new(&context, &spec, false).unwrap();
        opening.log_end = 5;
        opening.damaged(0, 7, opening.lost_before(None), "it is");
        assert!(
            matches!(opening.report.damage, Some(Error::Corrupt(damage)) if damage.offsets == lost && damage.position == 7)
        );
    }
}

#[test]
fn an_index_entry_leads_to_the_batch_that_ends_at_its_offset() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 100, 3);
    let bytes = core.segments().snapshot()[0].size();
    let (context, spec) = (context(&disk), spec(100, 0, i64::MAX));
    let opening = Opening::new(&context, &spec, false).unwrap();
    let is_misleading = |relative_offset, position| {
        opening
            .is_misleading(
                100,
                bytes,
                Some(OffsetEntry {
                    relative_offset,
                    position,
                }),
            )
            .unwrap()
    };
    assert_eq!(
        [0, 1, 2].map(|relative| is_misleading(relative, bytes / 3)),
        [true, false, true]
    );
    assert!(is_misleading(1, bytes / 3 + 1), "no batch starts there");
}

#[test]
fn a_scan_starts_at_the_last_entry_below_the_recovery_point() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    core.close(true).unwrap();
    let first = Arc::clone(&core.segments().snapshot()[0]);
    let (bytes, batches) = (first.size(), u32::try_from(first.next_offset()).unwrap());
    let start = |recovery_point, is_first| {
        let (context, spec) = (context(&disk), spec(0, recovery_point, i64::MAX));
        let mut opening = Opening::new(&context, &spec, false).unwrap();
        let start = opening.start_of_scan(0, bytes, is_first).unwrap();
        (
            start.position * batches / bytes,
            opening.report.indexes_rebuilt,
        )
    };
    let files = Segment::stored_index(core.home(), 0, bytes)
        .unwrap()
        .unwrap();
    let entry = files.floor_offset(u32::MAX).unwrap();
    let (offset, number) = (
        u64::from(entry.relative_offset),
        entry.position * batches / bytes,
    );
    assert!(number > 0);
    assert_eq!(start(offset + 1, true), (number, 0));
    assert!(
        start(offset, true).0 < number,
        "the entry is not below the recovery point"
    );
    assert_eq!(
        start(offset + 1, false),
        (0, 0),
        "there is no recovery point in a later segment"
    );

    put(
        &disk,
        Path::new(DIR).join("00000000000000000000.snapshot"),
        b"",
    );
    assert_eq!(
        start(offset + 1, true),
        (number, 0),
        "the snapshot covers no batch of the segment"
    );
    put(
        &disk,
        Path::new(DIR).join("00000000000000000001.snapshot"),
        b"",
    );
    assert_eq!(start(offset + 1, true), (0, 0), "there are producers");
    disk.remove_file(&Path::new(DIR).join("00000000000000000001.snapshot"))
        .unwrap();
    disk.remove_file(&first.path(file_name::OFFSET_INDEX))
        .unwrap();
    assert_eq!(start(offset + 1, true), (0, 1), "the index is gone");
}

/// Closes a segment of records whose times first rise and then fall. Returns its size, and its time
/// index.
fn with_times(disk: &MemoryDisk, spec: &PartitionSpec) -> (u32, Vec<u8>) {
    let core = PartitionCore::create(&context(disk), spec).unwrap();
    for time in (0..10).chain((0..10).rev()) {
        let record = Record::new("a value").timestamp(Timestamp::from_millis(time));
        core.append(Durability::Os, [record]).unwrap();
    }
    core.close(true).unwrap();
    let bytes = core.segments().snapshot()[0].size();
    (bytes, read_file(disk, Path::new(TIMES), 1 << 20).unwrap())
}

/// Returns the spec of a log of one segment with an index entry for every second batch.
fn one_segment(recovery_point: u64) -> PartitionSpec {
    let spec = spec(0, recovery_point, i64::MAX);
    let settings = TopicSettings {
        segment_bytes: 1 << 20,
        ..spec.settings.clone()
    };
    PartitionSpec { settings, ..spec }
}

/// The scan would take over the entries before its start, and look-ups by time would miss records.
#[test]
fn a_scan_starts_at_an_entry_only_if_the_time_index_fits_the_batches_before_it() {
    let disk = MemoryDisk::new();
    let (bytes, times) = with_times(&disk, &one_segment(0));
    let start = || {
        let (context, spec) = (context(&disk), one_segment(18));
        let mut opening = Opening::new(&context, &spec, false).unwrap();
        opening.start_of_scan(0, bytes, true).unwrap().position
    };
    assert_ne!(start(), 0, "the index is whole");
    let (others, last) = times.split_at(times.len() - 12);
    put(&disk, TIMES, others);
    assert_eq!(start(), 0, "the last entry is lost");
    let time = i64::from_be_bytes(*last.first_chunk().unwrap());
    let later = [others, &(time + 1).to_be_bytes(), &last[8..]].concat();
    put(&disk, TIMES, &later);
    assert_eq!(start(), 0, "no batch has the time of the last entry");
}

#[test]
fn a_closed_log_is_scanned_if_its_last_index_entries_fit_no_batch() {
    let disk = MemoryDisk::new();
    let (_, times) = with_times(&disk, &one_segment(0));
    let offsets = read_file(&disk, Path::new(OFFSETS), 1 << 20).unwrap();
    let scanned_as = |is_dense| {
        let clean = PartitionSpec {
            clean: true,
            is_dense,
            ..one_segment(20)
        };
        let context = context(&disk);
        let mut opening = Opening::new(&context, &clean, false).unwrap();
        !opening.open_tail(&[0]).unwrap()
    };
    let scanned = || scanned_as(true);
    assert!(!scanned(), "the indexes are whole");
    let harm = |index: &[u8], from_end: usize| {
        let mut harmed = index.to_vec();
        let at = harmed.len() - from_end;
        harmed[at] ^= 1;
        harmed
    };
    put(&disk, TIMES, &harm(&times, 5));
    assert!(scanned(), "the last time is wrong");
    put(&disk, TIMES, &harm(&times, 1));
    assert!(scanned(), "the last time has the offset of another batch");
    put(&disk, TIMES, &times);
    put(&disk, OFFSETS, &harm(&offsets, 1));
    assert!(scanned(), "the last position is inside a batch");
    put(&disk, OFFSETS, &offsets);
    assert!(!scanned_as(false), "the indexes are whole again");
    let mut above = offsets.clone();
    let at = above.len() - 8;
    above[at..at + 4].copy_from_slice(&20_u32.to_be_bytes());
    put(&disk, OFFSETS, &above);
    assert!(scanned_as(false), "the last offset is the log end");
}

#[test]
fn scanned_bytes_are_counted_from_the_start_of_the_scan() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    core.close(true).unwrap();
    let first = Arc::clone(&core.segments().snapshot()[0]);
    let files = Segment::stored_index(core.home(), 0, first.size())
        .unwrap()
        .unwrap();
    let below_last = u32::try_from(first.next_offset() - 2).unwrap();
    let entry = files.floor_offset(below_last).unwrap();
    let recovery_point = u64::from(entry.relative_offset) + 1;
    let (_, report) =
        PartitionCore::open(&context(&disk), &spec(0, recovery_point, i64::MAX)).unwrap();
    assert_eq!(
        report.bytes_scanned,
        core.log_bytes() - u64::from(entry.position),
        "{report:?}"
    );
    assert!(report.damage.is_none());
    assert_eq!(report.bytes_cut, 0);
}

/// Opens a partition that was not closed, and returns the calls on its first `.log` file.
fn scan_of_a_whole_log() -> Vec<&'static str> {
    let disk = RecordingDisk::over(MemoryDisk::new());
    drop(written(&disk, 0, 2));
    drop(disk.take());
    drop(PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap());
    let log = Path::new(DIR).join("00000000000000000000.log");
    let calls = disk.take().into_iter();
    calls
        .filter(|(_, path)| *path == log)
        .map(|(call, _)| call)
        .collect()
}

#[test]
fn a_whole_log_is_not_cut() {
    assert!(!scan_of_a_whole_log().contains(&"set length"));
}

/// The page cache may hold bytes of a failed write that the device does not have.
#[test]
fn a_scan_syncs_a_file_and_reads_it_from_the_device() {
    let calls = scan_of_a_whole_log();
    let at = |call| calls.iter().position(|made| *made == call);
    assert!(at("sync").is_some(), "{calls:?}");
    assert!(at("sync") < at("drop cache"), "{calls:?}");
    assert!(at("drop cache") < at("read"), "{calls:?}");
}

#[test]
fn a_lower_epoch_in_a_later_batch_does_not_remove_a_higher_one() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 1);
    for epoch in [5, 3] {
        core.writer.lock().leader_epoch = epoch;
        core.append(Durability::Os, [Record::new("a value")])
            .unwrap();
    }
    disk.remove_file(&Path::new(DIR).join(file_name::LEADER_EPOCHS))
        .unwrap();
    let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    assert_eq!(core.writer.lock().epochs.latest(), Some(5));
}

#[test]
fn producers_are_rebuilt_from_the_batches_if_the_snapshot_is_damaged() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 2);
    core.close(true).unwrap();
    assert!(core.writer.lock().producers.is_empty());
    let log = core.segments().snapshot()[0].log_path().to_owned();
    let mut batch = read_file(&disk, &log, 1 << 20).unwrap();
    batch.truncate(batch.len() / 2);
    stamp_producer(
        &mut batch,
        ProducerStamp {
            id: 9,
            epoch: 0,
            sequence: 0,
        },
    );
    disk.open(&log, Access::Write)
        .unwrap()
        .write_all_at(&batch, 0)
        .unwrap();
    let clean = PartitionSpec {
        clean: true,
        ..spec(0, 0, i64::MAX)
    };
    let knows_some = || {
        let (core, _) = PartitionCore::open(&context(&disk), &clean).unwrap();
        let writer = core.writer.lock();
        !writer.producers.is_empty()
    };
    assert!(
        !knows_some(),
        "without a snapshot no producers are expected"
    );
    put(
        &disk,
        Path::new(DIR).join("00000000000000000002.snapshot"),
        b"damaged",
    );
    assert!(knows_some());
}
