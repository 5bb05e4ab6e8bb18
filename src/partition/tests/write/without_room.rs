//! A torn end on a full disk. If it contains no whole batch, it is cut. Otherwise the log waits for
//! room to keep it.

use crate::partition::tests::*;
use crate::storage::Access;

/// Creates a log of three records, the last two of them above the recovery point.
fn left_by_a_kill(disk: &FaultyDisk) -> String {
    let core = created(disk);
    for number in 0..3 {
        core.append(Durability::Os, [Record::new(format!("record {number}"))])
            .unwrap();
        if number == 0 {
            core.flush().unwrap();
        }
    }
    format!("{DIR}/00000000000000000000.log")
}

fn open(disk: &FaultyDisk) -> (Arc<PartitionCore>, PartitionRecovery) {
    PartitionCore::open(&context(disk), &spec(0, 1, i64::MAX)).unwrap()
}

fn torn(disk: &FaultyDisk) -> usize {
    let entries = disk.list(DIR.as_ref()).unwrap();
    entries
        .iter()
        .filter(|entry| {
            file_name::parse_segment_file(&entry.name).is_none() && entry.name.contains(".torn")
        })
        .count()
}

#[test]
fn half_a_batch_is_cut_without_a_copy() {
    let disk = FaultyDisk::failing_at(0);
    let path = left_by_a_kill(&disk);
    let file = disk.open(path.as_ref(), Access::Write).unwrap();
    let bytes = file.bytes().unwrap();
    file.set_len(bytes - 5).unwrap();
    disk.set_fault(Some(Fault::FullForGood));
    let (core, report) = open(&disk);
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(report.bytes_cut, bytes / 3 - 5, "{report:?}");
    assert!(report.kept.is_empty(), "{report:?}");
    assert_eq!(read(&core).unwrap().len(), 2);
    assert!(matches!(
        core.append(Durability::Os, ["x"]),
        Err(Error::DiskFull { .. })
    ));
    disk.set_fault(None);
    assert_eq!(core.append(Durability::Os, ["x"]).unwrap().offsets, 2..3);
}

#[test]
fn whole_batch_after_damage_waits_for_room() {
    let disk = FaultyDisk::failing_at(0);
    let path = left_by_a_kill(&disk);
    let file = disk.open(path.as_ref(), Access::Write).unwrap();
    let bytes = file.bytes().unwrap();
    // Damages the second of three batches of the same size.
    file.write_all_at(b"x", bytes / 3 * 2 - 4).unwrap();
    disk.set_fault(Some(Fault::FullForGood));
    for _ in 0..2 {
        let (core, report) = open(&disk);
        assert!(
            matches!(report.damage, Some(Error::DiskFull { .. })),
            "{report:?}"
        );
        assert!(core.is_damaged());
        assert_eq!(
            (read(&core).unwrap().len(), file.bytes().unwrap()),
            (1, bytes),
            "no byte is lost"
        );
        assert!(matches!(
            core.append(Durability::Os, ["x"]),
            Err(Error::DiskFull { .. })
        ));
        assert!(
            matches!(
                core.reopen().unwrap().report.damage,
                Some(Error::DiskFull { .. })
            ),
            "the disk is still full"
        );
    }
    let (core, _) = open(&disk);
    disk.set_fault(None);
    let report = core.reopen().unwrap().take_writes();
    assert!(!core.is_damaged());
    assert_eq!(
        (report.damage.is_none(), report.kept.len(), torn(&disk)),
        (true, 1, 1),
        "{report:?}"
    );
    assert_eq!(core.append(Durability::Os, ["x"]).unwrap().offsets, 1..2);
    assert_eq!(read(&core).unwrap().len(), 2);
}
