//! Files that a killed broker preallocated, which have 1 GiB. Recovery reads and copies the bytes
//! after the batches piece by piece, however many there are.

use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, StorageFile};

/// Enough bytes for several pieces.
const PADDED_BYTES: u64 = 5 << 19;
/// Largest number of bytes that one read may request.
const MOST_AT_ONCE: usize = (1 << 20) + 100;

/// Creates the files that a kill leaves of three records, with a log file that is longer. `harm`
/// receives the file and the end of its batches.
fn left_by_a_kill(harm: impl Fn(&dyn StorageFile, u64)) -> RecordingDisk {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    for number in 0..3 {
        core.append(Durability::Os, [Record::new(format!("record {number}"))])
            .unwrap();
    }
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    let end = file.bytes().unwrap();
    file.set_len(PADDED_BYTES).unwrap();
    harm(&*file, end);
    disk.beside()
}

fn open(disk: &RecordingDisk) -> (Arc<PartitionCore>, PartitionRecovery) {
    PartitionCore::open(&context(disk), &spec(0, 0, i64::MAX)).unwrap()
}

#[test]
fn recovery_reads_and_cuts_padding_piece_by_piece() {
    let disk = left_by_a_kill(|_, _| {});
    let (core, report) = open(&disk);
    assert_eq!(read(&core).unwrap().len(), 3);
    assert_eq!(report.kept, Vec::<std::path::PathBuf>::new(), "{report:?}");
    assert_eq!(report.bytes_cut, 0, "{report:?}");
    assert!(
        disk.largest_read() <= MOST_AT_ONCE,
        "{} bytes at once",
        disk.largest_read()
    );
    assert_eq!(core.append(Durability::Os, ["x"]).unwrap().offsets.start, 3);
    let path = format!("{DIR}/00000000000000000000.log");
    assert!(disk.metadata(path.as_ref()).unwrap().bytes < 1_000);
}

#[test]
fn recovery_keeps_a_torn_end_piece_by_piece() {
    for at in [0, 1 << 20, PADDED_BYTES - 400] {
        let disk = left_by_a_kill(|file, end| file.write_all_at(b"torn", end + at).unwrap());
        let (_, report) = open(&disk);
        let kept = disk.open(&report.kept[0], Access::Read).unwrap();
        let mut bytes = [0; 6];
        kept.read_at(&mut bytes[1..], at).unwrap();
        assert_eq!(&bytes, b"\0torn\0", "{at}");
        assert!(
            disk.largest_read() <= MOST_AT_ONCE,
            "{} bytes at once",
            disk.largest_read()
        );
    }
}

/// A file that readers have mapped is not cut. A copy replaces it.
#[test]
fn reopen_copies_a_log_piece_by_piece() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 10 << 20;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    for _ in 0..30 {
        core.append(Durability::Os, [Record::new(vec![b'x'; 100_000])])
            .unwrap();
    }
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(b"torn", file.bytes().unwrap()).unwrap();
    assert_eq!(core.reopen().unwrap().report.bytes_cut, 4);
    assert_eq!(read(&core).unwrap().len(), 30);
    assert!(
        disk.largest_read() <= MOST_AT_ONCE,
        "{} bytes at once",
        disk.largest_read()
    );
}
