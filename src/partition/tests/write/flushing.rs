//! The files that a flush syncs and those that it does not, and the syncs that changes of settings
//! cause.

use std::path::PathBuf;

use super::appending::append;
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, read_file};

/// Creates a partition of some segments, with one record in each batch.
fn filled() -> (RecordingDisk, Arc<PartitionCore>) {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = written(&disk, 0, 20);
    assert!(core.segments().snapshot().len() > 2);
    disk.take();
    (disk, core)
}

fn synced(disk: &RecordingDisk) -> Vec<PathBuf> {
    disk.take()
        .into_iter()
        .filter(|(call, _)| *call == "sync")
        .map(|(_, path)| path)
        .collect()
}

#[test]
fn new_partition_is_dirty_and_has_its_leader_epoch_in_the_checkpoint() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    assert!(core.is_dirty());
    disk.take();
    append(&core, 1).unwrap();
    assert!(
        disk.take().iter().all(|(call, _)| *call != "rename"),
        "the checkpoint already has the epoch"
    );
}

#[test]
fn flush_of_a_flushed_partition_makes_no_call() {
    let (disk, core) = filled();
    assert!(core.is_dirty());
    core.flush().unwrap();
    assert!(!core.is_dirty());
    disk.take();
    core.flush().unwrap();
    assert_eq!(disk.take(), []);
    append(&core, 1).unwrap();
    assert!(core.is_dirty());
}

#[test]
fn flush_syncs_the_indexes_of_sealed_segments() {
    let (disk, core) = filled();
    core.flush().unwrap();
    let synced = synced(&disk);
    let segments = core.segments().snapshot();
    for segment in segments.iter().filter(|segment| segment.is_sealed()) {
        for suffix in [file_name::OFFSET_INDEX, file_name::TIME_INDEX] {
            assert!(
                synced.contains(&segment.path(suffix)),
                "{suffix} of {}",
                segment.base_offset
            );
        }
    }
}

#[test]
fn flush_writes_the_digests_of_sealed_indexes() {
    let (disk, core) = filled();
    core.flush().unwrap();
    let text = || {
        let bytes = read_file(&disk, &core.dir().join(file_name::INDEX_DIGESTS), 10_000).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    for segment in core.segments().snapshot().iter() {
        let name = file_name::segment_file(segment.base_offset, file_name::OFFSET_INDEX);
        assert_eq!(text().contains(&name), segment.is_sealed(), "{name}");
    }
}

#[test]
fn synced_records_are_not_synced_again() {
    let (disk, core) = filled();
    core.sync_published().unwrap();
    assert!(!synced(&disk).is_empty());
    core.sync_published().unwrap();
    assert_eq!(synced(&disk), Vec::<PathBuf>::new());
}

#[test]
fn settings_sync_only_if_the_topic_becomes_synced() {
    let (disk, core) = filled();
    let with = |durability| TopicSettings {
        durability: Some(durability),
        ..TopicSettings::unconfigured()
    };
    core.set_settings(with(Durability::Os));
    assert_eq!((synced(&disk), core.commit.synced_end()), (Vec::new(), 0));
    core.set_settings(with(Durability::Synced));
    assert_eq!(
        (synced(&disk).is_empty(), core.commit.synced_end()),
        (false, 20)
    );
    core.set_settings(with(Durability::Synced));
    core.set_settings(with(Durability::Os));
    assert_eq!(synced(&disk), Vec::<PathBuf>::new());
}

#[test]
fn waiting_reader_wakes_when_a_record_is_appended() {
    let (_, core) = filled();
    let signal = Signal::new();
    core.waiters().register(&signal);
    std::thread::scope(|scope| {
        scope.spawn(|| append(&core, 1).unwrap());
        core.wait(&signal, Deadline::never());
        assert!(signal.is_notified());
    });
}
