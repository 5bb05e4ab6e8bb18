//! What a flush makes durable, what it leaves alone, and what changes of settings sync.

use std::path::PathBuf;

use super::appending::append;
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, read_file};

/// A partition of some segments, each batch of one record.
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
fn a_new_partition_has_something_to_flush_and_knows_its_leader_epoch() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    assert!(core.is_dirty());
    disk.take();
    append(&core, 1).unwrap();
    assert!(
        disk.take().iter().all(|(call, _)| *call != "rename"),
        "the checkpoint tells of the epoch already"
    );
}

#[test]
fn a_flush_of_what_is_flushed_does_nothing() {
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
fn a_flush_syncs_the_indexes_of_the_segments_that_it_passes() {
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
fn a_flush_writes_down_what_the_sealed_indexes_are() {
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
fn what_is_synced_is_not_synced_again() {
    let (disk, core) = filled();
    core.sync_published().unwrap();
    assert!(!synced(&disk).is_empty());
    core.sync_published().unwrap();
    assert_eq!(synced(&disk), Vec::<PathBuf>::new());
}

#[test]
fn settings_sync_only_where_the_topic_becomes_synced() {
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
fn who_waits_for_records_waits_until_some_come() {
    let (_, core) = filled();
    let signal = Signal::new();
    core.waiters().register(&signal);
    std::thread::scope(|scope| {
        scope.spawn(|| append(&core, 1).unwrap());
        core.wait(&signal, Deadline::never());
        assert!(signal.is_notified());
    });
}
