//! The bounds and the size of a read-only partition while its writer appends, and how often it
//! looks again after an error.

use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::*;
use crate::storage::MemoryDisk;

fn beside(disk: &MemoryDisk) -> Arc<PartitionCore> {
    PartitionCore::open_read_only(&reading(disk), &spec(0, 20, i64::MAX))
        .unwrap()
        .0
}

fn append_later(core: &PartitionCore) {
    for _ in 0..5 {
        write::appending::append(core, 1).unwrap();
    }
}

#[test]
fn log_start_that_the_writer_reports_is_followed_beyond_the_known_end() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    let looking = beside(&disk);
    append_later(&core);
    let bounds = || (looking.log_start_offset(), looking.log_end_offset());
    for (reported, expected) in [(3, (3, 20)), (20, (20, 20)), (23, (23, 25))] {
        looking.follow_log_start(reported);
        assert_eq!(bounds(), expected, "the writer reported {reported}");
    }
}

#[test]
fn size_of_a_log_includes_what_its_writer_has_appended() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    let looking = beside(&disk);
    let before = looking.refreshed_bytes();
    assert_eq!(before, core.log_bytes());
    append_later(&core);
    assert!(looking.refreshed_bytes() > before);
    assert_eq!(looking.refreshed_bytes(), core.log_bytes());
}

#[test]
fn failed_look_is_repeated_only_next_to_a_writer_and_once_for_the_same_files() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 20);
    let looks = |core: &PartitionCore, failures: u32| {
        let mut looks = 0;
        let looked = core.retry_after_reread(|| {
            looks += 1;
            assert!(looks < 9, "the look is repeated without end");
            if looks <= failures {
                return Err(core.out_of_range(0));
            }
            Ok(())
        });
        (looks, looked.is_ok())
    };
    let looking = beside(&disk);
    assert_eq!(looks(&looking, 1), (2, true));
    assert_eq!(looks(&looking, 2), (2, false));
    assert_eq!(looks(&core, 1), (1, false));
}
