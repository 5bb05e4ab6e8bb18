//! Deletion from the start of the log: which files are removed at once, which later, and where the
//! log start is stored.

use std::path::Path;
use std::time::Duration;

use crate::clock::ManualClock;
use crate::partition::tests::write::appending::append;
use crate::partition::tests::*;
use crate::storage::{SimulatedDisk, read_file};

const DELAY_MS: i64 = 1_000;

/// Creates a flushed partition of some segments, whose files are removed `file_delete_delay_ms`
/// after their deletion.
fn filled(
    disk: &(impl Storage + Clone),
    file_delete_delay_ms: i64,
) -> (ManualClock, Arc<PartitionCore>) {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let context = PartitionContext {
        clock: Arc::new(clock.clone()),
        ..PartitionContext::for_tests(disk.clone())
    };
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.file_delete_delay_ms = file_delete_delay_ms;
    let core = PartitionCore::create(&Arc::new(context), &spec).unwrap();
    for _ in 0..20 {
        append(&core, 1).unwrap();
    }
    core.flush().unwrap();
    (clock, core)
}

/// Returns the base offset of the third segment.
fn bound_of(core: &PartitionCore) -> u64 {
    core.segments().snapshot()[2].base_offset
}

fn delete_before(core: &PartitionCore, bound: u64) -> Result<Maintenance> {
    core.delete_segments_before(bound, core.truncations())
        .map(Option::unwrap)
}

/// Returns the number and the bytes of the files of the segments below `bound`.
fn files_below(disk: &impl Storage, bound: u64) -> (usize, u64) {
    let names = disk
        .list(DIR.as_ref())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name);
    let is_of_it = |name: &String| {
        file_name::parse_segment_file(name)
            .is_some_and(|(base, suffix)| base < bound && file_name::SEGMENT.contains(&suffix))
    };
    let bytes: Vec<_> = names
        .filter(is_of_it)
        .map(|name| disk.metadata(&Path::new(DIR).join(name)).unwrap().bytes)
        .collect();
    (bytes.len(), bytes.iter().sum())
}

fn waiting(disk: &impl Storage) -> usize {
    disk.list(DIR.as_ref())
        .unwrap()
        .iter()
        .filter(|entry| entry.name.ends_with(".deleted"))
        .count()
}

#[test]
fn deletion_without_a_delay_removes_files_at_once_and_counts_them() {
    let disk = FaultyDisk::failing_at(0);
    let (_, core) = filled(&disk, 0);
    let bound = bound_of(&core);
    let (count, bytes) = files_below(&disk, bound);
    assert!(count >= 4);
    assert!(bytes > 0);
    let done = delete_before(&core, bound).unwrap();
    assert_eq!((done.segments_deleted, done.bytes_freed), (2, bytes));
    assert_eq!((files_below(&disk, bound), waiting(&disk)), ((0, 0), 0));
    assert_eq!(core.unlink_due().unwrap(), Maintenance::default());
}

/// Retention chose an offset. Before it got the lock, the log was cut and grew again, so the
/// records below that offset are new.
#[test]
fn retention_does_not_delete_records_that_were_appended_after_a_cut() {
    let disk = FaultyDisk::failing_at(0);
    let (_, core) = filled(&disk, 0);
    let (bound, truncations) = (bound_of(&core), core.truncations());
    core.truncation(1).make().unwrap();
    for _ in 0..20 {
        append(&core, 1).unwrap();
    }
    assert_eq!(
        core.delete_segments_before(bound, truncations).unwrap(),
        None
    );
    assert_eq!(
        (core.log_start_offset(), files_below(&disk, bound).0 > 0),
        (0, true)
    );
    assert!(
        core.delete_segments_before(bound, core.truncations())
            .unwrap()
            .is_some()
    );
    assert_eq!(core.log_start_offset(), bound);
}

#[test]
fn deletion_with_a_delay_removes_files_when_the_delay_is_over() {
    let disk = FaultyDisk::failing_at(0);
    let (clock, core) = filled(&disk, DELAY_MS);
    let bound = bound_of(&core);
    let (count, bytes) = files_below(&disk, bound);
    let done = delete_before(&core, bound).unwrap();
    assert_eq!(
        (done.segments_deleted, done.bytes_freed),
        (2, 0),
        "the files were only renamed"
    );
    assert_eq!((files_below(&disk, bound), waiting(&disk)), ((0, 0), count));
    for _ in 0..2 {
        assert_eq!(
            core.unlink_due().unwrap(),
            Maintenance::default(),
            "the delay is not over"
        );
        assert_eq!(waiting(&disk), count);
        clock.advance(Duration::from_millis(499));
    }
    clock.advance(Duration::from_millis(2));
    assert_eq!(
        core.unlink_due().unwrap(),
        Maintenance {
            bytes_freed: bytes,
            ..Maintenance::default()
        }
    );
    assert_eq!(waiting(&disk), 0);
}

#[test]
fn removal_of_a_file_whose_metadata_cannot_be_read_is_retried() {
    let disk = SimulatedDisk::new(1);
    let (clock, core) = filled(&disk, DELAY_MS);
    let bound = bound_of(&core);
    let (count, bytes) = files_below(&disk, bound);
    delete_before(&core, bound).unwrap();
    clock.advance(Duration::from_secs(2));
    disk.fail_call(disk.calls(), io::Error::other("the device failed"));
    assert!(matches!(core.unlink_due(), Err(Error::Io { .. })));
    assert_eq!(waiting(&disk), count);
    assert_eq!(core.unlink_due().unwrap().bytes_freed, bytes);
    assert_eq!(waiting(&disk), 0);
}

#[test]
fn files_that_could_not_be_removed_are_removed_by_the_next_pass() {
    let mut failed = 0;
    for fails_at in 0..40 {
        let disk = FaultyDisk::failing_at(fails_at);
        let (_, core) = filled(&disk, 0);
        let bound = bound_of(&core);
        disk.set_fault(Some(Fault::Any));
        let deleted = delete_before(&core, bound);
        disk.set_fault(None);
        let (count, bytes) = files_below(&disk, bound);
        assert!(deleted.is_err() || count == 0, "call {fails_at}");
        let expected = Maintenance {
            segments_deleted: if deleted.is_err() { 2 } else { 0 },
            bytes_freed: bytes,
            ..Maintenance::default()
        };
        assert_eq!(
            core.unlink_due().unwrap(),
            expected,
            "call {fails_at}: {deleted:?}"
        );
        assert_eq!(files_below(&disk, bound), (0, 0), "call {fails_at}");
        failed += usize::from(deleted.is_err());
    }
    assert!(failed > 4, "{failed}");
}

#[test]
fn files_left_by_a_failed_pass_are_counted_with_the_due_ones() {
    let disk = SimulatedDisk::new(1);
    let (clock, core) = filled(&disk, DELAY_MS);
    let segments = core.segments().snapshot();
    let (first, second) = (segments[1].base_offset, segments[2].base_offset);
    drop(segments);
    let (_, due) = files_below(&disk, first);
    delete_before(&core, first).unwrap();
    clock.advance(Duration::from_secs(2));
    core.set_settings(TopicSettings {
        file_delete_delay_ms: 0,
        ..TopicSettings::clone(&core.settings())
    });
    let (_, left) = files_below(&disk, second);
    disk.fail_calls_from(disk.calls(), io::Error::other("the device failed"));
    assert!(delete_before(&core, second).is_err());
    disk.heal();
    let done = core.unlink_due().unwrap();
    assert_eq!((done.segments_deleted, done.bytes_freed), (1, due + left));
}

#[test]
fn deletion_raises_the_start_of_the_first_leader_epoch() {
    let disk = FaultyDisk::failing_at(0);
    let (_, core) = filled(&disk, 0);
    let text = || {
        let path = Path::new(DIR).join(file_name::LEADER_EPOCHS);
        String::from_utf8(read_file(&disk, &path, 1_000).unwrap()).unwrap()
    };
    assert_eq!(text(), "0\n1\n0 0\n");
    let bound = bound_of(&core);
    for start in [1, bound] {
        core.delete_records_before(start).unwrap();
        assert_eq!(text(), format!("0\n1\n0 {start}\n"));
        assert_eq!(
            LeaderEpochs::load(&disk, DIR.as_ref()).unwrap().as_ref(),
            Some(&core.writer.lock().epochs)
        );
    }
}

#[test]
fn log_start_goes_to_the_checkpoint_only_if_no_file_name_states_it() {
    let (_, core) = filled(&FaultyDisk::failing_at(0), 0);
    assert_eq!(core.log_start_line(), None);
    assert_eq!(core.delete_records_before(1).unwrap(), 1);
    assert_eq!(core.log_start_line(), Some(1), "the first segment is kept");
    let bound = bound_of(&core);
    assert_eq!(core.delete_records_before(bound).unwrap(), bound);
    assert_eq!(core.log_start_line(), None);
}

#[test]
fn deletion_without_effect_keeps_a_clean_log_clean() {
    let disk = FaultyDisk::failing_at(0);
    let (_, core) = filled(&disk, 0);
    core.delete_records_before(1).unwrap();
    core.close(true).unwrap();
    let context = context(&disk);
    let spec = PartitionSpec {
        clean: true,
        ..spec(1, 20, i64::MAX)
    };
    let (core, _) = PartitionCore::open(&context, &spec).unwrap();
    for offset in [0, 1] {
        assert_eq!(core.delete_records_before(offset).unwrap(), 1);
        assert!(!context.clean_marker.is_cleared(), "{offset}");
    }
    assert_eq!(core.delete_records_before(2).unwrap(), 2);
    assert!(context.clean_marker.is_cleared());
}
