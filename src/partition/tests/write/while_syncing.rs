//! Changes to a segment, or failures of the disk, during a sync.

use crate::partition::tests::*;
use crate::storage::MemoryDisk;
use crate::storage::recording::RecordingDisk;

/// Appends `count` batches of one record.
fn append(core: &PartitionCore, count: usize) {
    for _ in 0..count {
        core.append(
            Durability::Os,
            [Record::new(format!("record {}", core.log_end_offset()))],
        )
        .unwrap();
    }
}

/// Creates a flushed partition of `count` batches, on a disk that records its calls and can fail at
/// one of them.
fn flushed(fails_at: usize, count: usize) -> (FaultyDisk, RecordingDisk, Arc<PartitionCore>) {
    let faulty = FaultyDisk::failing_at(fails_at);
    let disk = RecordingDisk::over(faulty.clone());
    let core = created(&disk);
    append(&core, count);
    core.flush().unwrap();
    (faulty, disk, core)
}

#[test]
fn segment_that_loses_its_file_before_its_turn_is_not_synced() {
    let memory = MemoryDisk::new();
    let disk = RecordingDisk::over(memory.clone());
    let core = created(&disk);
    append(&core, 12);
    let first = core.segments().snapshot().first().map(Arc::clone).unwrap();
    assert!(first.is_sealed());
    // Simulates a file that was closed to make room for another one. A sync opens it by its name.
    first.close_file();
    disk.take();
    disk.before_call(0, move || {
        first.give_up();
        memory.remove_file(first.log_path()).unwrap();
    });
    core.sync_published().unwrap();
    assert!(!disk.is_pending());
    assert!(!is_poisoned(&core));
    assert_eq!(
        core.append(Durability::Synced, [Record::new("on")])
            .unwrap()
            .offsets,
        12..13
    );
}

/// After a failed sync, the content of a directory is unknown, and a later successful sync does not
/// prove anything.
#[test]
fn flush_that_cannot_sync_the_directory_poisons() {
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
            assert!(is_poisoned(&core));
            assert_eq!(core.recovery_point(), 1);
            failed += 1;
        }
    }
    assert_eq!(failed, 1);
}

/// A power cut may bring removed files back, so the checkpoint keeps stating the log start.
#[test]
fn deletion_that_cannot_sync_the_directory_does_not_poison() {
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
    assert_eq!(
        failed, 3,
        "one sync before each segment and one after the last"
    );
}

#[test]
fn deletion_poisons_if_records_or_the_name_of_a_new_segment_may_be_lost() {
    for deletes_all in [false, true] {
        let (mut failed, mut segments) = (0, 0);
        for fails_at in 0..60 {
            let faulty = FaultyDisk::failing_at(fails_at);
            let core = created(&faulty);
            append(&core, 20);
            let before = core.segments().snapshot();
            segments = before.len();
            let bound = if deletes_all {
                20
            } else {
                before[2].base_offset
            };
            faulty.set_fault(Some(Fault::Any));
            let deleted = core.delete_records_before(bound);
            let is_reported = matches!(deleted, Err(Error::SyncFailed { .. }));
            assert_eq!(
                is_poisoned(&core),
                is_reported,
                "call {fails_at}: {deleted:?}"
            );
            failed += usize::from(is_reported);
        }
        // The records and the names of the segments, and with a new one the directory before each
        // removal and after the last.
        let syncs = if deletes_all { 2 } else { 1 };
        assert_eq!(failed, syncs * (segments + 1));
    }
}

/// Readers of a `Synced` topic see only synced records. One that is appended while the topic
/// becomes `Synced` must not be visible before and hidden afterwards.
#[test]
fn topic_that_becomes_synced_hides_no_record() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    append(&core, 1);
    let settings = TopicSettings {
        durability: Some(Durability::Synced),
        ..TopicSettings::clone(&core.settings())
    };
    disk.take();
    let appender = Arc::clone(&core);
    disk.before_call(0, move || {
        if !appender.writer.is_locked() {
            append(&appender, 1);
        }
    });
    core.set_settings(settings);
    assert!(!disk.is_pending(), "the records were synced");
    assert_eq!(core.high_watermark(), core.log_end_offset());
    assert_eq!(read_visible(&core), core.log_end_offset());
}

fn read_visible(core: &Arc<PartitionCore>) -> u64 {
    let mut reader = Reader::new(core, KeepOpen::nothing(), &(..), ReadOptions::new()).unwrap();
    let mut count = 0;
    while reader.next_record().unwrap().is_some() {
        count += 1;
    }
    count
}
