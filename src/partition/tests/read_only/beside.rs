//! A reader of a partition that another process writes to: what it tells at once, and what it looks
//! at again.

use std::thread;
use std::time::Duration;

use crate::clock::ManualClock;
use crate::format::checkpoint::encode_offsets;
use crate::format::metadata_file::{TopicFile, TopicId, encode_topic_file};
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
    PartitionCore::open_beside(&reading(disk), spec)
}

/// So many batches of one record.
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
fn a_directory_is_listed_before_and_after_it_is_opened_sound_or_damaged() {
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
fn an_end_that_is_missing_since_the_checkpoint_was_read_was_cut() {
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

#[test]
fn an_end_that_is_missing_by_the_checkpoint_of_now_is_damage() {
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
fn a_gap_is_damage_unless_the_topic_is_compacted_by_now() {
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
fn a_topic_that_is_compacted_while_it_is_open_has_gaps_from_then_on() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    let gone = core.segments().snapshot()[1].base_offset..core.segments().snapshot()[2].base_offset;
    remove_segment(&disk, &core, 1);
    put_topic_file(&disk, false);
    found.read_anew().unwrap();
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

/// What the writer does at whichever call that opening makes.
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
fn segments_that_go_while_they_are_opened_are_no_error() {
    let change = |_: &RecordingDisk, core: &PartitionCore| {
        assert_eq!(core.delete_records_before(12).unwrap(), 12)
    };
    at_each_call(change, |what, opened| {
        let (found, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.damage.is_none(), "{what}: {report:?}");
        assert_eq!(found.log_end_offset(), 20, "{what}");
    });
}

/// A machine that has much to do may need longer for one look than a writer for its change.
#[test]
fn segments_that_go_while_a_look_takes_long_are_no_error() {
    let change = |_: &RecordingDisk, core: &PartitionCore| {
        thread::sleep(Duration::from_millis(110));
        core.delete_records_before(12).map(drop).unwrap();
    };
    at_each_call(change, |what, opened| {
        let (_, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.damage.is_none(), "{what}: {report:?}");
    });
}

#[test]
fn a_directory_that_goes_while_it_is_opened_is_of_a_deleted_topic() {
    let change =
        |disk: &RecordingDisk, core: &PartitionCore| disk.remove_dir_all(core.dir()).unwrap();
    let mut told = 0;
    at_each_call(change, |what, opened| match opened {
        Ok((found, _)) => assert_eq!(found.log_end_offset(), 20, "{what}"),
        Err(Error::UnknownPartition(id)) => {
            assert_eq!(&*id.topic, "t");
            told += 1;
        }
        Err(error) => panic!("{what}: {error}"),
    });
    assert!(told > 2);
}

/// A simulated disk of a writer's partition, and how many calls there were.
fn simulated() -> (SimulatedDisk, Arc<PartitionCore>) {
    let disk = SimulatedDisk::with_clock(1, ManualClock::at(Timestamp::from_millis(1)));
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    (disk, core)
}

/// Runs `look` with each of its calls failing once. Gives how many there are, and how often it was
/// an error.
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
fn a_file_that_is_cut_while_it_is_opened_is_looked_at_again_and_a_device_that_fails_is_told() {
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
fn what_goes_on_failing_is_told_after_a_moment() {
    let (disk, _writer) = simulated();
    disk.fail_calls_from(disk.calls(), io::ErrorKind::UnexpectedEof.into());
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn reading_anew_looks_again_at_a_file_that_is_cut_and_tells_of_a_device_that_fails() {
    let look = |_: &SimulatedDisk, core: Arc<PartitionCore>| core.read_anew();
    let (calls, errors) = failing(|| io::ErrorKind::UnexpectedEof.into(), opened, look);
    assert!(calls > 5, "{calls}");
    assert!(errors <= 1, "only where the list of files fails: {errors}");
    let (_, errors) = failing(device_failed, opened, look);
    assert!(errors > 5, "{errors} of {calls}");
}

#[test]
fn a_look_at_the_end_that_fails_is_told() {
    let look = |_: &SimulatedDisk, core: Arc<PartitionCore>| core.refresh().map(drop);
    let (calls, errors) = failing(device_failed, opened, look);
    assert!(calls > 2 && errors == calls, "{errors} of {calls}");
}

#[test]
fn a_directory_without_a_segment_is_an_empty_partition_until_there_is_one() {
    let disk = MemoryDisk::new();
    disk.create_dir_all(DIR.as_ref()).unwrap();
    let (found, _) = beside(&disk, &spec(0, 0, i64::MAX)).unwrap();
    found.read_anew().unwrap();
    assert_eq!(
        (found.log_end_offset(), found.refresh().unwrap()),
        (0, false)
    );
    let core = flushed(&disk);
    assert!(found.refresh().unwrap());
    assert_eq!(found.log_end_offset(), core.log_end_offset());
}

#[test]
fn a_partition_whose_segments_have_gone_is_no_empty_one() {
    for count in [1, 20] {
        let disk = MemoryDisk::new();
        let core = created(&disk);
        append(&core, "value", count);
        let (found, _) = beside(&disk, &spec(0, 0, i64::MAX)).unwrap();
        for number in 0..core.segments().snapshot().len() {
            remove_segment(&disk, &core, number);
        }
        let error = found.read_anew().unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
        assert_eq!(found.log_end_offset(), count);
    }
}

#[test]
fn segments_that_were_deleted_in_front_leave_the_others_as_they_are() {
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

/// Puts another record of the same size in the place of the last one, in the same file: so does a
/// broker that cuts.
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

/// A file tells the time of its change less finely than a writer can change it.
#[test]
fn another_batch_of_the_same_size_in_the_same_moment_is_seen() {
    let (disk, core) = simulated();
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    assert!(!found.refresh().unwrap());
    replace_last(&disk, &core);
    assert!(found.refresh().unwrap());
    assert_eq!(last_text(&found), "other 19");
}

#[test]
fn a_file_that_changed_is_as_it_looks_only_once_it_has_rested() {
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
fn a_log_whose_end_is_missing_is_read_anew_once_it_has_grown() {
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
    assert_eq!(found.truncations(), cuts, "nothing has changed");
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

/// Of a file with other batches under the same name, the batch at the same position may be a later
/// one.
#[test]
fn a_reader_whose_file_was_replaced_reads_no_other_file_from_where_it_was() {
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
        // More than is read ahead.
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
    // As if it had made room for another file.
    found.segments().snapshot()[0].close_file();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    assert_eq!(offsets, [2, 3, 4, 5]);
}

#[test]
fn a_log_start_that_no_file_tells_is_corrected_by_the_next_look() {
    let disk = MemoryDisk::new();
    let core = flushed(&disk);
    put_topic_file(&disk, true);
    let (found, _) = beside(&disk, &spec(0, 20, i64::MAX)).unwrap();
    found.log_start.store(9, Ordering::Release);
    found.read_anew().unwrap();
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
    found.read_anew().unwrap();
    assert_eq!(found.log_start_offset(), 7);
    disk.remove_file("/data/t.topic".as_ref()).unwrap();
    put(
        &disk,
        "/data/log-start-offset-checkpoint",
        encode_offsets([("t", 1, 9), ("t", 0, 8)]).as_bytes(),
    );
    found.read_anew().unwrap();
    assert_eq!(found.log_start_offset(), 8);
}
