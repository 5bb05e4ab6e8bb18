//! A read-only partition that another process writes to: the errors that it reports at once, and
//! the changes after which it looks again.

use std::thread;
use std::time::Duration;

use crate::clock::ManualClock;
use crate::format::checkpoint::encode_offsets;
use crate::format::metadata_file::{
    TopicFile, TopicId, encode_partition_metadata, encode_topic_file,
};
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, SimulatedDisk, read_file};

pub(in crate::partition::tests) fn reading(disk: &(impl Storage + Clone)) -> Arc<PartitionContext> {
    Arc::new(PartitionContext {
        read_only: true,
        ..PartitionContext::for_tests(disk.clone())
    })
}

fn beside(
    disk: &(impl Storage + Clone),
    spec: &PartitionSpec,
) -> Result<(Arc<PartitionCore>, PartitionRecovery)> {
    PartitionCore::open_read_only(&reading(disk), spec)
}

/// Appends `count` batches of one record.
fn append(core: &PartitionCore, text: &str, count: u64) {
    for _ in 0..count {
        core.append(
            Durability::Os,
            [Record::new(format!("{text} {:02}", core.log_end_offset()))],
        )
        .unwrap();
    }
}

fn cut(core: &PartitionCore, end: u64) {
    core.truncation(end).make().unwrap();
}

fn flushed(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    let core = created(disk);
    append(&core, "value", 20);
    core.flush().unwrap();
    core
}

fn put_recovery_points<const N: usize>(disk: &impl Storage, lines: [(&str, u32, u64); N]) {
    put(
        disk,
        "/data/recovery-point-offset-checkpoint",
        encode_offsets(lines).as_bytes(),
    );
}

fn put_topic_file(disk: &impl Storage, is_dense: bool) {
    let topic_id = TopicId([7; 16]);
    let file = TopicFile {
        topic_id,
        partitions: 2,
        is_dense,
        log_starts: Vec::new(),
        config: Vec::new(),
    };
    put(disk, "/data/t.topic", encode_topic_file(&file).as_bytes());
}

fn remove_segment(disk: &impl Storage, core: &PartitionCore, number: usize) {
    disk.remove_file(core.segments().snapshot()[number].log_path())
        .unwrap();
}

fn lists(disk: &RecordingDisk) -> usize {
    disk.take()
        .iter()
        .filter(|(call, _)| *call == "list")
        .count()
}

fn device_failed() -> io::Error {
    io::Error::other("the device failed")
}

#[test]
fn directory_is_listed_before_and_after_opening_whether_sound_or_damaged() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let spec = spec(0, 20, i64::MAX);
    disk.take();
    let (_, report) = beside(&disk, &spec).unwrap();
    assert!(report.damage.is_none());
    let sound = lists(&disk);
    cut(&core, 5);
    put_recovery_points(&disk, [("t", 0, 20)]);
    disk.take();
    let (found, report) = beside(&disk, &spec).unwrap();
    assert!(report.damage.is_some());
    assert_eq!((sound, lists(&disk), found.log_end_offset()), (2, 2, 20));
}

#[test]
fn end_below_the_recovery_point_is_not_damage_if_the_checkpoint_was_lowered() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    cut(&core, 5);
    let lines = [("t", 1, 90), ("s", 0, 91), ("t", 0, 5), ("u", 0, 92)];
    put_recovery_points(&disk, lines);
    let (found, report) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(found.log_end_offset(), 5);
}

/// The topic was deleted and created again after the recovery point was read.
#[test]
fn end_below_the_recovery_point_is_not_damage_if_the_checkpoint_has_no_line_any_more() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    cut(&core, 5);
    put_recovery_points(&disk, [("u", 0, 92)]);
    let (found, report) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(found.log_end_offset(), 5);
}

#[test]
fn end_below_the_current_recovery_point_is_damage() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    cut(&core, 5);
    for stored in [None, Some(20), Some(30)] {
        if let Some(stored) = stored {
            put_recovery_points(&disk, [("t", 0, stored)]);
        }
        let (_, report) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
        assert!(report.damage.is_some(), "{stored:?}");
    }
}

#[test]
fn gap_is_damage_unless_the_topic_has_become_compacted() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    let third = core.segments().snapshot().get(2).map(Arc::clone).unwrap();
    let count = u32::try_from(third.next_offset() - third.base_offset).unwrap();
    assert!(count > 2);
    disk.open(third.log_path(), Access::Write)
        .unwrap()
        .set_len(u64::from(third.size() / count))
        .unwrap();
    for is_dense in [true, false] {
        put_topic_file(&disk, is_dense);
        let (found, report) = beside(&disk, &spec(0, third.base_offset + 2, i64::MAX)).unwrap();
        assert_eq!(report.damage.is_some(), is_dense, "{report:?}");
        assert_eq!(found.is_dense(), is_dense);
    }
}

#[test]
fn topic_that_becomes_compacted_while_open_may_have_gaps() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    let gone = core.segments().snapshot()[1].base_offset..core.segments().snapshot()[2].base_offset;
    remove_segment(&disk, &core, 1);
    put_topic_file(&disk, false);
    found.reread().unwrap();
    let offsets: Vec<u64> = read(&found)
        .unwrap()
        .into_iter()
        .map(|(offset, _)| offset)
        .collect();
    assert_eq!(
        offsets,
        (0..20)
            .filter(|offset| !gone.contains(offset))
            .collect::<Vec<_>>()
    );
}

/// Makes a change before each call of an opening, one call at a time, and checks the result.
fn at_each_call(
    change: fn(&RecordingDisk, &PartitionCore),
    mut check: impl FnMut(&str, Result<(Arc<PartitionCore>, PartitionRecovery)>),
) {
    for call in 0.. {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = flushed(&disk);
        put_topic_file(&disk, true);
        let reading = disk.beside();
        reading.before_call(call, move || change(&disk, &core));
        let opened = beside(&reading, &spec(0, 20, i64::MAX));
        if reading.is_pending() {
            assert!(call > 4, "opening makes calls");
            return;
        }
        check(&format!("at call {call}"), opened);
    }
}

#[test]
fn segments_deleted_during_an_opening_are_not_an_error() {
    let change = |_: &RecordingDisk, core: &PartitionCore| {
        assert_eq!(core.delete_records_before(12).unwrap(), 12);
    };
    at_each_call(change, |case, opened| {
        let (found, report) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(report.damage.is_none(), "{case}: {report:?}");
        assert_eq!(found.log_end_offset(), 20, "{case}");
    });
}

/// On a busy machine, one look may take longer than a change by the writer.
#[test]
fn segments_deleted_during_a_slow_look_are_not_an_error() {
    let change = |_: &RecordingDisk, core: &PartitionCore| {
        thread::sleep(Duration::from_millis(110));
        core.delete_records_before(12).map(drop).unwrap();
    };
    at_each_call(change, |case, opened| {
        let (_, report) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(report.damage.is_none(), "{case}: {report:?}");
    });
}

#[test]
fn directory_removed_during_an_opening_means_a_deleted_topic() {
    let change =
        |disk: &RecordingDisk, core: &PartitionCore| disk.remove_dir_all(core.dir()).unwrap();
    let mut reported = 0;
    at_each_call(change, |case, opened| match opened {
        Ok((found, _)) => assert_eq!(found.log_end_offset(), 20, "{case}"),
        Err(Error::UnknownPartition(id)) => {
            assert_eq!(&*id.topic, "t");
            reported += 1;
        }
        Err(error) => panic!("{case}: {error}"),
    });
    assert!(reported > 2);
}

/// Creates a writer's partition on a simulated disk.
fn simulated() -> (SimulatedDisk, Arc<PartitionCore>) {
    let disk = SimulatedDisk::with_clock(1, ManualClock::at(Timestamp::from_millis(1)));
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    (disk, core)
}

/// Runs `look` once for each of its calls, with that call failing. Returns the number of calls, and
/// how many of the failures were reported as an error.
fn failing<T>(
    error: fn() -> io::Error,
    prepare: impl Fn(&SimulatedDisk) -> T,
    look: impl Fn(&SimulatedDisk, T) -> Result<()>,
) -> (usize, usize) {
    let (mut looks, mut errors) = (0, 0);
    loop {
        let (disk, _writer) = simulated();
        let prepared = prepare(&disk);
        let call = disk.calls() + looks;
        disk.fail_call(call, error());
        let looked = look(&disk, prepared);
        if disk.calls() <= call {
            return (usize::try_from(looks).unwrap(), errors);
        }
        errors += usize::from(matches!(looked, Err(Error::Io { .. })));
        assert!(
            matches!(looked, Ok(()) | Err(Error::Io { .. })),
            "{looked:?}"
        );
        looks += 1;
    }
}

fn open(disk: &SimulatedDisk) -> Result<()> {
    beside(disk, &spec(0, 20, i64::MAX)).map(|(core, _)| assert_eq!(core.log_end_offset(), 20))
}

fn opened(disk: &SimulatedDisk) -> Arc<PartitionCore> {
    beside(disk, &spec(0, 20, i64::MAX)).unwrap().0
}

#[test]
fn opening_retries_a_file_that_was_cut_and_reports_a_device_failure() {
    let (calls, errors) = failing(
        || io::ErrorKind::UnexpectedEof.into(),
        |_| (),
        |disk, ()| open(disk),
    );
    assert!(calls > 5, "{calls}");
    assert_eq!(errors, 0);
    let (again, errors) = failing(device_failed, |_| (), |disk, ()| open(disk));
    assert_eq!(again, calls);
    assert!(errors > 5, "{errors} of {calls}");
}

#[test]
fn opening_reports_a_lasting_failure_after_some_retries() {
    let (disk, _writer) = simulated();
    disk.fail_calls_from(disk.calls(), io::ErrorKind::UnexpectedEof.into());
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn full_reload_retries_a_file_that_was_cut_and_reports_a_device_failure() {
    let look = |_: &SimulatedDisk, core: Arc<PartitionCore>| core.reread();
    let (calls, errors) = failing(|| io::ErrorKind::UnexpectedEof.into(), opened, look);
    assert!(calls > 5, "{calls}");
    assert!(errors <= 1, "only a failed listing is reported: {errors}");
    let (_, errors) = failing(device_failed, opened, look);
    assert!(errors > 5, "{errors} of {calls}");
}

#[test]
fn failed_look_at_the_end_is_reported() {
    let look = |_: &SimulatedDisk, core: Arc<PartitionCore>| core.refresh().map(drop);
    let (calls, errors) = failing(device_failed, opened, look);
    assert!(calls > 2, "{calls}");
    assert_eq!(errors, calls);
}

#[test]
fn directory_without_a_segment_is_an_empty_partition_until_it_has_one() {
    let disk = MemoryDisk::new();
    disk.create_dir_all(DIR.as_ref()).unwrap();
    let (found, _) = beside(&disk, &spec(0, 0, i64::MAX)).unwrap();
    found.reread().unwrap();
    assert_eq!(
        (found.log_end_offset(), found.refresh().unwrap()),
        (0, false)
    );
    let core = flushed(&disk);
    assert!(found.refresh().unwrap());
    assert_eq!(found.log_end_offset(), core.log_end_offset());
}

#[test]
fn partition_that_lost_its_segments_is_not_an_empty_one() {
    for count in [1, 20] {
        let disk = MemoryDisk::new();
        let core = created(&disk);
        append(&core, "value", count);
        let (found, _) = beside(&disk, &spec(0, 0, i64::MAX)).unwrap();
        for number in 0..core.segments().snapshot().len() {
            remove_segment(&disk, &core, number);
        }
        let error = found.reread().unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
        assert_eq!(found.log_end_offset(), count);
    }
}

#[test]
fn deletion_of_the_first_segments_keeps_the_others() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    let (second, cuts) = (
        core.segments().snapshot()[1].base_offset,
        found.truncations(),
    );
    assert_eq!(core.delete_records_before(second).unwrap(), second);
    found.refresh_both_ends().unwrap();
    assert_eq!(
        (found.log_start_offset(), found.truncations()),
        (second, cuts)
    );
    let left: Vec<u64> = core
        .segments()
        .snapshot()
        .iter()
        .map(|segment| segment.base_offset)
        .collect();
    let ours: Vec<u64> = found
        .segments()
        .snapshot()
        .iter()
        .map(|segment| segment.base_offset)
        .collect();
    assert_eq!(ours, left);
}

fn last_text(core: &Arc<PartitionCore>) -> String {
    read(core).unwrap().pop().unwrap().1
}

/// Replaces the last record by another one of the same size, in the same file, as a broker does
/// when it cuts.
fn replace_last(disk: &SimulatedDisk, core: &PartitionCore) {
    let (segment, number) = (
        core.segments().snapshot().last().map(Arc::clone).unwrap(),
        core.log_end_offset() - 1,
    );
    let other = MemoryDisk::new();
    let parallel = created(&other);
    append(&parallel, "value", number);
    append(&parallel, "other", 1);
    let count = u32::try_from(core.log_end_offset() - segment.base_offset).unwrap();
    let mut batch = vec![0; (segment.size() / count) as usize];
    let position = u64::from(segment.size()) - batch.len() as u64;
    let read = other
        .open(segment.log_path(), Access::Read)
        .unwrap()
        .read_at(&mut batch, position)
        .unwrap();
    assert_eq!(read, batch.len());
    disk.open(segment.log_path(), Access::Write)
        .unwrap()
        .write_all_at(&batch, position)
        .unwrap();
}

/// The modification time of a file is too coarse to show two changes in the same moment.
#[test]
fn replaced_batch_of_the_same_size_in_the_same_moment_is_detected() {
    let (disk, core) = simulated();
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(!found.refresh().unwrap());
    replace_last(&disk, &core);
    assert!(found.refresh().unwrap());
    assert_eq!(last_text(&found), "other 19");
}

#[test]
fn changed_file_is_trusted_only_after_it_has_rested() {
    let (disk, core) = simulated();
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(!found.refresh().unwrap());
    thread::sleep(LOOK_INTERVAL + Duration::from_millis(5));
    assert!(!found.refresh().unwrap());
    append(&core, "value", 1);
    assert!(found.refresh().unwrap());
    replace_last(&disk, &core);
    assert!(found.refresh().unwrap());
    assert_eq!(last_text(&found), "other 20");
}

#[test]
fn log_with_a_missing_end_is_reloaded_after_it_has_grown() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let last = core.segments().snapshot().last().map(Arc::clone).unwrap();
    cut(&core, 19);
    let (found, report) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(report.damage.is_some());
    assert!(last.base_offset < 19);
    let cuts = found.truncations();
    for _ in 0..3 {
        assert!(!found.refresh().unwrap());
    }
    assert_eq!(found.truncations(), cuts, "the log has not changed");
    append(&core, "value", 1);
    assert!(found.refresh().unwrap());
    assert_eq!(last_text(&found), "value 19");
}

/// Renames a file with these bytes over the `.log` of a segment, as compaction does.
fn put_instead(disk: &MemoryDisk, segment: &Segment, bytes: &[u8]) {
    let temporary = segment.log_path().with_extension("log.swap");
    put(disk, &temporary, bytes);
    disk.rename(&temporary, segment.log_path()).unwrap();
}

fn bytes_of(disk: &MemoryDisk, segment: &Segment) -> Vec<u8> {
    read_file(disk, segment.log_path(), 1 << 20).unwrap()
}

/// If a file with other batches takes the same name, the batch at the same position may be a later
/// one.
#[test]
fn reader_of_a_replaced_file_does_not_continue_at_its_old_position() {
    let disk = MemoryDisk::new();
    let settings = TopicSettings {
        segment_bytes: 360_000,
        ..TopicSettings::unconfigured()
    };
    let core = PartitionCore::create(
        &context(&disk),
        &PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    for _ in 0..6 {
        // Each record is larger than the read-ahead.
        core.append(Durability::Os, [Record::new(vec![b'.'; 70_000])])
            .unwrap();
    }
    let first = core.segments().snapshot().first().map(Arc::clone).unwrap();
    assert_eq!(first.next_offset(), 5);
    let (found, _) = beside(
        &disk,
        &PartitionSpec {
            is_dense: false,
            ..spec(0, 6, i64::MAX)
        },
    )
    .unwrap();
    let mut reader = Reader::new(&found, KeepOpen::nothing(), &(..), ReadOptions::new()).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 0);
    let bytes = bytes_of(&disk, &first);
    put_instead(&disk, &first, &bytes[bytes.len() / 5 * 2..]);
    // Simulates a file that was closed to make room for another one.
    found.segments().snapshot()[0].close_file();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    assert_eq!(offsets, [2, 3, 4, 5]);
}

#[test]
fn log_start_that_no_file_states_is_corrected_by_the_next_look() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    found.bounds.set_log_start(9);
    found.reread().unwrap();
    assert_eq!(found.log_start_offset(), 0);
    core.delete_records_before(7).unwrap();
    found.refresh_both_ends().unwrap();
    let first = core.segments().snapshot()[0].base_offset;
    assert_eq!(found.log_start_offset(), first);
    let topic_file = TopicFile {
        topic_id: TopicId([7; 16]),
        partitions: 2,
        is_dense: true,
        log_starts: vec![(0, 7), (1, 9)],
        config: Vec::new(),
    };
    put(
        &disk,
        "/data/t.topic",
        encode_topic_file(&topic_file).as_bytes(),
    );
    found.reread().unwrap();
    assert_eq!(found.log_start_offset(), 7);
    disk.remove_file("/data/t.topic".as_ref()).unwrap();
    put(
        &disk,
        "/data/log-start-offset-checkpoint",
        encode_offsets([("t", 1, 9), ("t", 0, 8)]).as_bytes(),
    );
    found.reread().unwrap();
    assert_eq!(found.log_start_offset(), 8);
}

#[test]
fn log_start_after_a_broker_is_the_same_at_an_opening_and_at_a_reload() {
    let disk = MemoryDisk::new();
    drop(flushed(&disk));
    let id = TopicId([9; 16]);
    let metadata = encode_partition_metadata(id);
    put(&disk, "/data/t-0/partition.metadata", metadata.as_bytes());
    put(&disk, "/data/replication-offset-checkpoint", b"0\n0\n");
    let checkpoint = encode_offsets([("t", 0, 9)]);
    put(
        &disk,
        "/data/log-start-offset-checkpoint",
        checkpoint.as_bytes(),
    );
    // The broker may have moved the start, and may have created another topic of the same name.
    for (topic_id, in_file, start) in [(id, 5, 9), (id, 12, 12), (TopicId([7; 16]), 12, 9)] {
        let file = TopicFile {
            topic_id,
            partitions: 1,
            is_dense: true,
            log_starts: vec![(0, in_file)],
            config: Vec::new(),
        };
        put(&disk, "/data/t.topic", encode_topic_file(&file).as_bytes());
        let (found, _) = beside(&disk, &spec(start, 20, i64::MAX)).unwrap();
        found.reread().unwrap();
        assert_eq!(found.log_start_offset(), start, "{in_file} in the file");
        assert!(!found.is_dense(), "the broker may have compacted it");
    }
}
