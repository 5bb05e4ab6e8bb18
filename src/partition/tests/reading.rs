//! What a reader is told where a file has gone, or the device fails.

use super::*;
use crate::storage::{MemoryDisk, SimulatedDisk};

/// A partition of some segments, opened after a clean stop: nothing of it is open yet.
fn opened(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    let core = created(disk);
    for number in 0..20 {
        core.append(Durability::Os, [Record::new(format!("value {number}"))]).unwrap();
    }
    core.close(true).unwrap();
    drop(core);
    let spec = PartitionSpec { clean: true, ..spec(0, 20, i64::MAX) };
    let (core, report) = PartitionCore::open(&context(disk), &spec).unwrap();
    let segments = core.segments().snapshot();
    assert!(report.damage.is_none() && segments.len() > 3);
    segments.iter().for_each(|segment| segment.close_file());
    core
}

#[test]
fn a_file_that_nobody_here_deleted_is_named() {
    let disk = MemoryDisk::new();
    let core = opened(&disk);
    let segment = core.segments().snapshot().get(1).map(Arc::clone).unwrap();
    disk.remove_file(segment.log_path()).unwrap();
    let check = |error: Error| match error {
        Error::Io { source, path, .. } => {
            assert_eq!((source.kind(), &*path), (io::ErrorKind::NotFound, segment.log_path()));
        }
        error => panic!("{error}"),
    };
    check(core.seek(segment.base_offset + 1).unwrap_err());
    check(read(&core).unwrap_err());
}

#[test]
fn a_device_that_fails_is_told_and_nothing_is_tried_behind_it() {
    for look in [|core: &Arc<PartitionCore>| core.seek(9).map(drop), |core: &Arc<PartitionCore>| read(core).map(drop)] {
        for call in 0.. {
            let disk = SimulatedDisk::new(1);
            let core = opened(&disk);
            let at = disk.calls() + call;
            disk.fail_call(at, io::Error::other("the device failed"));
            let looked = look(&core);
            if disk.calls() <= at {
                assert!(call > 0 && looked.is_ok(), "it makes calls");
                break;
            }
            let error = looked.unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "call {call}: {error}");
            assert_eq!(disk.calls(), at + 1, "call {call}");
        }
    }
}
