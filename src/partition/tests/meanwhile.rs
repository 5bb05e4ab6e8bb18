//! What happens to a segment, or to the disk, while somebody syncs.

use super::*;
use crate::storage::MemoryDisk;
use crate::storage::recording::RecordingDisk;

fn append(core: &PartitionCore, count: usize) {
    for _ in 0..count {
        core.append(Durability::Os, [Record::new(format!("record {}", core.log_end_offset()))]).unwrap();
    }
}

#[test]
fn a_segment_that_is_deleted_before_its_turn_need_not_be_synced() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = PartitionCore::create(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, 12);
    let first = core.segments().snapshot().first().map(Arc::clone).unwrap();
    assert!(first.is_sealed());
    // As if it had made room for another file: it is opened by its name when it is synced.
    first.close_file();
    disk.take();
    let (deleting, end) = (Arc::clone(&core), first.next_offset());
    disk.before_call(0, move || assert_eq!(deleting.delete_records_before(end).unwrap(), end));
    core.sync_published().unwrap();
    assert!(!disk.is_pending() && !is_poisoned(&core));
    assert_eq!(core.append(Durability::Synced, [Record::new("on")]).unwrap().offsets, 12..13);
}

/// Nobody knows what a directory holds after its sync failed: a later one that succeeds says nothing of it.
#[test]
fn a_directory_that_a_flush_cannot_sync_poisons() {
    let mut failed = 0;
    for fails_at in 0..20 {
        let faulty = FaultyDisk::failing_at(fails_at);
        let disk = RecordingDisk::over(faulty.clone());
        let core = PartitionCore::create(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
        append(&core, 1);
        core.flush().unwrap();
        append(&core, 1);
        disk.take();
        faulty.set_fault(Some(Fault::Any));
        let flushed = core.flush();
        let calls = disk.take();
        if calls.last().is_some_and(|(call, path)| *call == "sync" && path == core.dir()) && flushed.is_err() {
            assert!(matches!(flushed, Err(Error::SyncFailed { .. })), "{flushed:?}");
            assert!(is_poisoned(&core) && core.recovery_point() == 1);
            failed += 1;
        }
    }
    assert_eq!(failed, 1);
}
