//! The output of `Debug`: short, and it names the partition.

use crate::partition::tests::*;
use crate::storage::MemoryDisk;

#[test]
fn debug_output_names_the_partition_and_its_state() {
    let core = written(&MemoryDisk::new(), 0, 3);
    let partition = Partition::new(Arc::clone(&core), Durability::Os, KeepOpen::nothing());
    let shown = format!("{partition:?}");
    for part in ["t-0", "0..3", "state"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let mut reader = partition.read(1..).unwrap();
    let shown = format!("{reader:?}");
    for part in ["t-0", "next_offset: 1", "has_failed: false", "options"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let shown = format!("{:?}", reader.next().unwrap().unwrap());
    for part in ["t-0", "1..2", "bytes"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(format!("{:?}", KeepOpen::nothing()), "KeepOpen");
}

#[test]
fn debug_output_of_a_recovery_shows_at_most_a_few_kept_files() {
    let report = PartitionRecovery {
        bytes_scanned: 70,
        bytes_cut: 9,
        kept: (0..30)
            .map(|number| format!("file {number}").into())
            .collect(),
        ..PartitionRecovery::default()
    };
    let shown = format!("{report:?}");
    for part in [
        "bytes_scanned: 70",
        "bytes_cut: 9",
        "file 0",
        "damage: None",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("file 29"), "{shown}");
}

#[test]
fn debug_output_of_a_waker_is_its_name() {
    let core = written(&MemoryDisk::new(), 0, 1);
    let partition = Partition::new(core, Durability::Os, KeepOpen::nothing());
    let reader = partition.follow(..).unwrap();
    assert_eq!(format!("{:?}", reader.waker()), "Waker");
}
