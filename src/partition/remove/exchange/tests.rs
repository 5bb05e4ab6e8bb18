//! Tests of `exchange`.

use super::*;
use crate::config::{Durability, TopicSettings};
use crate::format::record::Record;
use crate::partition::PartitionSpec;
use crate::partition::tests::{context, spec};
use crate::segment::batch_file::BatchFile;
use crate::segment::digest;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, SimulatedDisk, Storage, read_file};

/// Returns a log of batches of one record each, in several segments.
fn written(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    let spec = spec(0, 0, i64::MAX);
    let cleanup_policy = CleanupPolicy::Compact;
    let settings = TopicSettings {
        file_delete_delay_ms: 0,
        cleanup_policy,
        ..spec.settings.clone()
    };
    let core = PartitionCore::create(&context(disk), &PartitionSpec { settings, ..spec }).unwrap();
    for _ in 0..20 {
        core.append(Durability::Os, [Record::new("a value").key("a key")])
            .unwrap();
    }
    assert!(core.sealed_segments().len() > 2);
    core
}

/// Returns the first two segments, and one without index entries that replaces them.
fn cleaned(disk: &impl Storage, core: &PartitionCore) -> (Vec<Arc<Segment>>, CleanedSegment) {
    let originals: Vec<_> = core
        .sealed_segments()
        .into_iter()
        .take(2)
        .map(|(segment, _)| segment)
        .collect();
    let cleaned = cleaned_of(disk, core, &originals);
    (originals, cleaned)
}

/// Returns a segment without index entries that replaces these ones.
fn cleaned_of(
    disk: &impl Storage,
    core: &PartitionCore,
    originals: &[Arc<Segment>],
) -> CleanedSegment {
    let base_offset = originals[0].base_offset;
    let parts: Vec<_> = originals
        .iter()
        .map(|original| read_file(disk, original.log_path(), 1 << 20).unwrap())
        .collect();
    let put = |suffix, bytes: &[u8]| {
        let file = disk
            .open(
                &cleaned_path(core.home(), base_offset, suffix),
                Access::CreateNew,
            )
            .unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    };
    for suffix in [file_name::OFFSET_INDEX, file_name::TIME_INDEX] {
        drop(put(suffix, b""));
    }
    let log = parts.concat();
    CleanedSegment {
        base_offset,
        next_offset: originals[originals.len() - 1].next_offset(),
        log_bytes: u32::try_from(log.len()).unwrap(),
        log: put(file_name::LOG, &log),
        digests: [digest(b""); 3],
    }
}

/// A power cut may keep the new name of one output and lose the files of another. The directory is
/// synced before, so that these files are there and show that the output does not count yet.
#[test]
fn names_of_several_outputs_are_synced_before_the_first_is_renamed() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = written(&disk);
    let sealed = core.sealed_segments().into_iter().take(2);
    let originals: Vec<_> = sealed.map(|(segment, _)| segment).collect();
    let first_call = |originals: &[Arc<Segment>], outputs: &[CleanedSegment]| {
        disk.take();
        core.replace_segments(originals, outputs, 0).unwrap();
        let mut calls = disk.take().into_iter().map(|(call, _)| call);
        calls
            .find(|call| ["sync", "rename"].contains(call))
            .unwrap()
    };
    let outputs = [0, 1].map(|number| cleaned_of(&disk, &core, &originals[number..=number]));
    assert_eq!(first_call(&originals, &outputs), "sync");
    let (segment, _) = core.sealed_segments().swap_remove(2);
    let one = [cleaned_of(&disk, &core, &[Arc::clone(&segment)])];
    assert_eq!(
        first_call(&[segment], &one),
        "rename",
        "one name needs no other"
    );
}

/// A crash after the removal of the originals would discard the output, which is then all that is
/// left.
#[test]
fn leftovers_of_an_earlier_compaction_are_removed_before_the_output_counts() {
    for stale in [
        (0, file_name::TRANSACTION_INDEX),
        (1, file_name::LOG),
        (7, file_name::OFFSET_INDEX),
    ] {
        let disk = SimulatedDisk::new(1);
        let core = written(&disk);
        let (originals, cleaned) = cleaned(&disk, &core);
        let (base, suffix) = stale;
        let path = cleaned_path(core.home(), base, suffix);
        drop(disk.open(&path, Access::CreateNew).unwrap());
        // The first call of the exchange lists the directory, and the second removes the file.
        disk.fail_call(disk.calls() + 1, io::Error::other("the device failed"));
        let replace = || {
            core.replace_segments(
                &originals,
                std::slice::from_ref(&cleaned),
                core.truncations(),
            )
        };
        assert!(replace().is_err(), "{stale:?}");
        assert!(
            originals.iter().all(|original| core.lists(original)),
            "{stale:?}"
        );
        assert!(core.check_writable().is_ok(), "{stale:?}");
        assert!(replace().unwrap().is_some(), "{stale:?}");
        assert!(disk.metadata(&path).is_err(), "{stale:?}");
    }
}

#[test]
fn a_cleaned_segment_replaces_its_originals() {
    let disk = MemoryDisk::new();
    let core = written(&disk);
    let (originals, cleaned) = cleaned(&disk, &core);
    let snapshots = [0, 1].map(|number: usize| originals[number].path(file_name::SNAPSHOT));
    for snapshot in &snapshots {
        drop(disk.open(snapshot, Access::OpenOrCreate).unwrap());
    }
    let cleaned = [cleaned];
    let replaced = core
        .replace_segments(&originals, &cleaned, core.truncations() + 1)
        .unwrap();
    assert!(replaced.is_none(), "the log was cut in the meantime");
    assert!(originals.iter().all(|original| core.lists(original)));
    let compacted = TopicSettings::clone(&core.settings());
    core.set_settings(TopicSettings {
        cleanup_policy: CleanupPolicy::Delete,
        ..compacted.clone()
    });
    assert!(
        core.replace_segments(&originals, &cleaned, 0)
            .unwrap()
            .is_none(),
        "the topic is no longer compacted"
    );
    core.set_settings(compacted);
    assert!(
        core.replace_segments(&originals, &cleaned, 0)
            .unwrap()
            .is_some()
    );
    assert_eq!(
        snapshots.map(|path| disk.metadata(&path).is_ok()),
        [true, false],
        "a snapshot is removed if its base offset is"
    );
    assert!(originals.iter().all(|original| !core.lists(original)));
    let left = core.segments().snapshot();
    assert!(core.lists(&left[0]));
    assert!(left[0].is_named());
    assert_eq!(
        (left[0].base_offset, left[0].next_offset()),
        (0, left[1].base_offset)
    );
}

#[test]
fn the_size_of_a_cleaned_segment_is_the_sum_of_its_files() {
    let disk = MemoryDisk::new();
    let (_, cleaned) = cleaned(&disk, &written(&disk));
    assert_eq!(
        CleanedSegment {
            log_bytes: 100,
            digests: [(16, 1), (24, 2), (34, 3)],
            ..cleaned
        }
        .bytes(),
        174
    );
}

#[test]
fn only_one_compaction_runs_at_a_time() {
    let core = written(&MemoryDisk::new());
    let turn = core.cleaning().lock();
    assert!(core.cleaning().try_lock().is_none());
    drop(turn);
    assert!(core.cleaning().try_lock().is_some());
}

#[test]
fn a_segment_is_cleaned_without_a_mapping() {
    let core = written(&MemoryDisk::new());
    let (segment, _) = core.sealed_segments().swap_remove(0);
    assert!(segment.view_to(1).unwrap().is_some());
    let mut file = BatchFile::new(core.read_by_position(&segment));
    assert!(file.segment().view_to(1).unwrap().is_none());
    assert!(file.header_at(0, segment.size()).unwrap().is_some());
}

#[test]
fn batch_that_ends_after_its_segment_is_not_compacted() {
    let core = written(&MemoryDisk::new());
    let (segment, end) = core.sealed_segments().swap_remove(0);
    let header = BatchFile::new(Arc::clone(&segment))
        .header_at(0, segment.size())
        .unwrap()
        .unwrap();
    let ends_at = |stated_last_offset| {
        let header = BatchHeader {
            stated_last_offset,
            ..header
        };
        PartitionCore::check_within(&segment, &header).is_ok()
    };
    assert!(ends_at(end - 1));
    assert!(!ends_at(end));
}

#[test]
fn the_error_for_an_unreadable_batch_names_its_offsets() {
    let core = written(&MemoryDisk::new());
    let (segment, end) = core.sealed_segments().swap_remove(0);
    for (next, lost) in [(1, 1..end), (end - 1, end - 1..end), (end, end..end + 1)] {
        let error = core.unreadable(&segment, 7, next, Malformed("it is").into());
        assert!(
            matches!(&error, Error::Corrupt(damage) if damage.offsets == lost),
            "{error}"
        );
    }
    let error = core.unreadable(&segment, 7, 1, io::Error::other("the device failed").into());
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
