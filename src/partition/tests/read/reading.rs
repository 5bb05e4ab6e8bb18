//! Errors of a reader if a file is missing, the device fails or batches are damaged, and the
//! records that it returns after damage.

use crate::partition::tests::write::appending::lone_batch;
use crate::partition::tests::*;
use crate::storage::{Access, MemoryDisk, SimulatedDisk};

/// Creates a partition of some segments and opens it after a clean stop, with all files closed.
fn opened(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    let core = written(disk, 0, 20);
    core.close(true).unwrap();
    drop(core);
    let spec = PartitionSpec {
        clean: true,
        ..spec(0, 20, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(disk), &spec).unwrap();
    let segments = core.segments().snapshot();
    assert!(report.damage.is_none());
    assert!(segments.len() > 3);
    segments.iter().for_each(|segment| segment.close_file());
    core
}

#[test]
fn missing_file_is_reported_with_its_path() {
    let check = |error: Error, segment: &Segment| match error {
        Error::Io { source, path, .. } => {
            assert_eq!(
                (source.kind(), &*path),
                (io::ErrorKind::NotFound, segment.log_path())
            );
        }
        error => panic!("{error}"),
    };
    // The first segment begins at the log start.
    for number in [0, 1] {
        let disk = MemoryDisk::new();
        let core = opened(&disk);
        let segment = core.segments().snapshot().get(number).cloned().unwrap();
        disk.remove_file(segment.log_path()).unwrap();
        check(core.seek(segment.base_offset).unwrap_err(), &segment);
        let error = core.seek(segment.base_offset + 1).unwrap_err();
        assert!(matches!(error, Error::Io { action: "open", .. }), "{error}");
        check(error, &segment);
        check(read(&core).unwrap_err(), &segment);
    }
}

/// Regression: one segment whose index could not be read made the whole list empty.
#[test]
fn segment_that_cannot_be_read_is_listed_without_a_timestamp() {
    let disk = MemoryDisk::new();
    let core = opened(&disk);
    let segments = core.segments().snapshot();
    for path in [
        segments[1].log_path(),
        &segments[1].path(file_name::TIME_INDEX),
    ] {
        disk.remove_file(path).unwrap();
    }
    assert!(core.segment_infos().is_err());
    let handle = Partition::new(Arc::clone(&core), Durability::Os, KeepOpen::nothing());
    let listed = handle.segments();
    let bases = segments.iter().map(|segment| segment.base_offset);
    assert!(listed.iter().map(|info| info.base_offset).eq(bases));
    let has_time = |info: &SegmentInfo| info.max_timestamp.is_some();
    let without: Vec<_> = (0..listed.len())
        .filter(|number| !has_time(&listed[*number]))
        .collect();
    assert_eq!(without, [1]);
}

#[test]
fn device_failure_is_reported_without_further_calls() {
    for look in [
        |core: &Arc<PartitionCore>| core.seek(9).map(drop),
        |core: &Arc<PartitionCore>| read(core).map(drop),
        |core: &Arc<PartitionCore>| core.offset_for(OffsetSpec::MaxTimestamp).map(drop),
    ] {
        for call in 0.. {
            let disk = SimulatedDisk::new(1);
            let core = opened(&disk);
            let at = disk.calls() + call;
            disk.fail_call(at, io::Error::other("the device failed"));
            let looked = look(&core);
            if disk.calls() <= at {
                assert!(call > 0 && looked.is_ok(), "reading makes calls");
                break;
            }
            let error = looked.unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "call {call}: {error}");
            assert_eq!(disk.calls(), at + 1, "call {call}");
        }
    }
}

/// Creates a partition of one segment with these records, each in its own batch. Returns it with
/// the bytes of its file.
fn of_records<'a>(
    disk: &MemoryDisk,
    records: impl IntoIterator<Item = Record<'a>>,
) -> (Arc<PartitionCore>, Vec<u8>) {
    let settings = TopicSettings::unconfigured();
    let core = PartitionCore::create(
        &context(disk),
        &PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    for record in records {
        core.append(Durability::Os, [record]).unwrap();
    }
    let mut bytes = vec![0; usize::try_from(core.log_bytes()).unwrap()];
    let read = disk
        .open(LOG.as_ref(), Access::Read)
        .unwrap()
        .read_at(&mut bytes, 0)
        .unwrap();
    assert_eq!(read, bytes.len());
    (core, bytes)
}

fn overwrite(disk: &MemoryDisk, position: usize) {
    disk.open(LOG.as_ref(), Access::Write)
        .unwrap()
        .write_all_at(&[0xee], position as u64)
        .unwrap();
}

/// Reads with `skip_corrupt`. Returns the offsets of the records, and the ranges that are reported
/// as lost.
fn read_around(core: &Arc<PartitionCore>) -> (Vec<u64>, Vec<(u64, u64)>) {
    let options = ReadOptions::new().unsynced(true).skip_corrupt(true);
    let mut reader = Reader::new(core, KeepOpen::nothing(), &(..), options).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    (
        offsets,
        reader
            .take_skipped()
            .into_iter()
            .map(|damage| (damage.offsets.start, damage.offsets.end))
            .collect(),
    )
}

#[test]
fn batches_in_the_value_of_a_damaged_record_are_not_read_as_batches_of_the_log() {
    for first in [0, 5, 6] {
        let disk = MemoryDisk::new();
        let record = |number| match number {
            2 => Record::new([lone_batch(first), lone_batch(first + 1)].concat()).key("outside"),
            number => Record::new(format!("value {number}")),
        };
        let (core, bytes) = of_records(&disk, (0..5).map(record));
        let key = bytes
            .windows(7)
            .position(|window| window == b"outside")
            .unwrap();
        overwrite(&disk, key);
        assert_eq!(
            read_around(&core),
            (vec![0, 1, 3, 4], vec![(2, 3)]),
            "{first}"
        );
    }
}
