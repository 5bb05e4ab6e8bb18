//! What happens to a segment, or to the disk, while somebody syncs.

use crate::partition::tests::*;
use crate::storage::MemoryDisk;
use crate::storage::recording::RecordingDisk;

/// As many batches of one record.
fn append(core: &PartitionCore, count: usize) {
    for _ in 0..count {
        core.append(
            Durability::Os,
            [Record::new(format!("record {}", core.log_end_offset()))],
        )
        .unwrap();
    }
}

/// A flushed partition of so many batches, on a disk that tells of its calls and can fail at one.
fn flushed(fails_at: usize, count: usize) -> (FaultyDisk, RecordingDisk, Arc<PartitionCore>) {
    let faulty = FaultyDisk::failing_at(fails_at);
    let disk = RecordingDisk::over(faulty.clone());
    let core = created(&disk);
    append(&core, count);
    core.flush().unwrap();
    (faulty, disk, core)
}

#[test]
fn a_segment_that_is_deleted_before_its_turn_need_not_be_synced() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    append(&core, 12);
    let first = core.segments().snapshot().first().map(Arc::clone).unwrap();
    assert!(first.is_sealed());
    // As if it had made room for another file: it is opened by its name when it is synced.
    first.close_file();
    disk.take();
    let (deleting, end) = (Arc::clone(&core), first.next_offset());
    disk.before_call(0, move || {
        assert_eq!(deleting.delete_records_before(end).unwrap(), end)
    });
    core.sync_published().unwrap();
    assert!(!disk.is_pending() && !is_poisoned(&core));
    assert_eq!(
        core.append(Durability::Synced, [Record::new("on")])
            .unwrap()
            .offsets,
        12..13
    );
}

/// Nobody knows what a directory holds after its sync failed: a later one that succeeds says
/// nothing of it.
#[test]
fn a_directory_that_a_flush_cannot_sync_poisons() {
    let mut failed = 0;
    for fails_at in 0..20 {
        let (faulty, disk, core) = flushed(fails_at, 1);
        append(&core, 1);
        disk.take();
        faulty.set_fault(Some(Fault::Any));
        let flushed = core.flush();
        let calls = disk.take();
        if calls
            .last()
            .is_some_and(|(call, path)| *call == "sync" && path == core.dir())
            && flushed.is_err()
        {
            assert!(
                matches!(flushed, Err(Error::SyncFailed { .. })),
                "{flushed:?}"
            );
            assert!(is_poisoned(&core) && core.recovery_point() == 1);
            failed += 1;
        }
    }
    assert_eq!(failed, 1);
}

/// What was removed may be back after a power cut, and so the checkpoint goes on to say where the
/// log starts.
#[test]
fn a_directory_that_a_deletion_cannot_sync_does_not_poison() {
    let mut failed = 0;
    for fails_at in 0..40 {
        let (faulty, disk, core) = flushed(fails_at, 20);
        let bound = core.segments().snapshot()[2].base_offset;
        disk.take();
        faulty.set_fault(Some(Fault::Any));
        let deleted = core.delete_records_before(bound);
        let is_of_directory = disk
            .take()
            .last()
            .is_some_and(|(call, path)| *call == "sync" && path == core.dir());
        faulty.set_fault(None);
        assert_eq!(
            core.log_start_line(),
            deleted.is_err().then_some(bound),
            "call {fails_at}: {deleted:?}"
        );
        assert_eq!(core.delete_records_before(bound).unwrap(), bound);
        let is_unsure = deleted.is_err() && is_of_directory;
        assert_eq!(
            core.log_start_line(),
            is_unsure.then_some(bound),
            "call {fails_at}: {deleted:?}"
        );
        append(&core, 1);
        failed += usize::from(is_unsure);
    }
    assert_eq!(failed, 3, "before each segment and behind the last");
}

#[test]
fn a_deletion_poisons_where_the_name_of_a_new_segment_may_be_lost_with_it() {
    let mut failed = 0;
    for fails_at in 0..40 {
        let faulty = FaultyDisk::failing_at(fails_at);
        let core = created(&faulty);
        append(&core, 20);
        let bound = core.segments().snapshot()[2].base_offset;
        faulty.set_fault(Some(Fault::Any));
        let deleted = core.delete_records_before(bound);
        let is_told = matches!(deleted, Err(Error::SyncFailed { .. }));
        assert_eq!(is_poisoned(&core), is_told, "call {fails_at}: {deleted:?}");
        failed += usize::from(is_told);
    }
    assert_eq!(failed, 3, "before each segment and behind the last");
}
