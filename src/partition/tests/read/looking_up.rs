//! Look-ups of offsets by time. They describe the log at their end, check index entries against the
//! batches, and read only a small part of a segment.

use std::thread;
use std::time::Duration;

use crate::config::Compression;
use crate::format::batch::{BatchBuilder, BatchHeader, emptied, stamp};
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk};

const BATCH_BYTES: usize = 20_000;
/// Longer than a change needs if it waits for no lock.
const PATIENCE: Duration = Duration::from_millis(20);

fn create(
    disk: &(impl Storage + Clone),
    log_start: u64,
    index_interval_bytes: u32,
) -> Arc<PartitionCore> {
    let settings = TopicSettings {
        segment_bytes: 100 << 20,
        index_interval_bytes,
        ..TopicSettings::unconfigured()
    };
    PartitionCore::create(
        &context(disk),
        &PartitionSpec {
            settings,
            ..spec(log_start, 0, i64::MAX)
        },
    )
    .unwrap()
}

/// Appends a batch of one record for each of these times.
fn append_at(core: &PartitionCore, times: impl IntoIterator<Item = i64>, value_bytes: usize) {
    let value = "v".repeat(value_bytes);
    for time in times {
        core.append(
            Durability::Os,
            [Record::new(&value).timestamp(Timestamp::from_millis(time))],
        )
        .unwrap();
    }
}

fn find(core: &PartitionCore, spec: OffsetSpec) -> Option<(u64, i64)> {
    let found = core.offset_for(spec).unwrap();
    found.map(|found| (found.offset, found.timestamp.unwrap().as_millis()))
}

fn find_at(core: &PartitionCore, time: i64) -> Option<(u64, i64)> {
    find(core, OffsetSpec::Timestamp(Timestamp::from_millis(time)))
}

/// Creates a batch of one record with this offset and time, or the header that compaction leaves of
/// it.
fn batch(offset: u64, time: i64, is_emptied: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder.push(&Record::new("a value"), time).unwrap();
    let mut batch = builder.finish(&TopicSettings::unconfigured()).unwrap();
    stamp(&mut batch, offset, 0);
    if is_emptied {
        let header = BatchHeader::decode(&batch).unwrap();
        emptied(&header, &mut batch);
    }
    batch
}

/// Creates a partition of these batches that may have gaps.
fn of_batches(batches: &[Vec<u8>]) -> Arc<PartitionCore> {
    let disk = FaultyDisk::failing_at(0);
    drop(created(&disk));
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(&batches.concat(), 0).unwrap();
    let spec = PartitionSpec {
        is_dense: false,
        settings: TopicSettings::unconfigured(),
        ..spec(0, 0, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(report.bytes_cut, 0, "{report:?}");
    core
}

#[test]
fn look_up_reads_only_a_small_part_of_a_segment() {
    const START: u64 = 5;
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = create(&disk, START, 80);
    append_at(&core, 0..250, BATCH_BYTES);
    assert_eq!(find_at(&core, 240), Some((START + 240, 240)));
    assert_eq!(
        find(&core, OffsetSpec::MaxTimestamp),
        Some((START + 249, 249))
    );
    assert!(disk.largest_read() <= 256 << 10, "{}", disk.largest_read());
}

#[test]
fn time_entry_that_does_not_match_its_batch_is_ignored() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk, 0, 200);
    append_at(&core, (0..40).map(|number| 10 * number), 10);
    core.close(true).unwrap();
    let file = disk
        .open(
            format!("{DIR}/00000000000000000000.timeindex").as_ref(),
            Access::Write,
        )
        .unwrap();
    // Reads the third entry: its time, and the offset of the batch that has this time.
    let mut entry = [0; 12];
    file.read_at(&mut entry, 24).unwrap();
    let time = i64::from_be_bytes(*entry.first_chunk().unwrap());
    let offset = u32::from_be_bytes(*entry.last_chunk().unwrap());
    assert_eq!(time, 10 * i64::from(offset));
    file.write_all_at(&(offset + 1).to_be_bytes(), 32).unwrap();
    let settings = TopicSettings {
        segment_bytes: 100 << 20,
        index_interval_bytes: 200,
        ..TopicSettings::unconfigured()
    };
    let spec = PartitionSpec {
        clean: true,
        settings,
        ..spec(0, 40, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!(
        (report.indexes_rebuilt, report.bytes_scanned),
        (0, 0),
        "{report:?}"
    );
    assert_eq!(
        find_at(&core, time + 10),
        Some((u64::from(offset) + 1, time + 10))
    );
}

/// A search that has noted too low a largest time does not keep it once the index was rebuilt.
#[test]
fn segment_is_found_after_its_index_was_rebuilt() {
    let disk = MemoryDisk::new();
    let spec = PartitionSpec {
        settings: TopicSettings {
            segment_bytes: 400,
            index_interval_bytes: 1,
            ..TopicSettings::unconfigured()
        },
        ..spec(0, 0, i64::MAX)
    };
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    append_at(&core, [50, 15, 20, 10], 10);
    core.roll_now().unwrap();
    append_at(&core, [60], 10);
    core.close(true).unwrap();
    disk.remove_file(format!("{DIR}/{}", file_name::INDEX_DIGESTS).as_ref())
        .unwrap();
    let entries = [(15_i64, 1_u32), (20, 2)]
        .map(|(time, offset)| [&time.to_be_bytes()[..], &offset.to_be_bytes()].concat());
    let index = format!("{DIR}/00000000000000000000.timeindex");
    put(&disk, index, &entries.concat());
    let spec = PartitionSpec {
        clean: true,
        ..spec
    };
    let (core, _) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!(find_at(&core, 30), Some((4, 60)), "the index lacks time 50");
    // This search compares an entry of the index with the batches.
    assert_eq!(find_at(&core, 16), Some((0, 50)));
    assert_eq!(find_at(&core, 30), Some((0, 50)));
}

#[test]
fn emptied_batch_has_no_largest_time_and_the_first_of_equal_times_counts() {
    let core = of_batches(&[
        batch(0, 40, false),
        batch(1, 100, true),
        batch(2, 50, false),
        batch(3, 50, false),
        batch(4, 30, false),
    ]);
    assert_eq!(find(&core, OffsetSpec::MaxTimestamp), Some((2, 50)));
    core.delete_records_before(4).unwrap();
    assert_eq!(find(&core, OffsetSpec::MaxTimestamp), Some((4, 30)));
}

/// Cuts the log before each of the next calls, at the last of `ends` first, and appends a record of
/// time 100 after each cut.
fn cut_at_each_call(disk: &RecordingDisk, core: &Arc<PartitionCore>, mut ends: Vec<u64>) {
    let (next, core) = (disk.clone(), Arc::clone(core));
    disk.before_call(0, move || {
        if let Some(end) = ends.pop() {
            core.truncation(end).make().unwrap();
            append_at(&core, [100], BATCH_BYTES);
            cut_at_each_call(&next, &core, ends);
        }
    });
}

#[test]
fn look_up_restarts_each_time_the_log_is_cut_under_it() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = create(&disk, 0, i32::MAX.unsigned_abs());
    append_at(&core, (0..59).chain([100]), BATCH_BYTES);
    disk.take();
    cut_at_each_call(&disk, &core, (1..58).step_by(3).collect());
    assert_eq!(find_at(&core, 100), Some((1, 100)));
    assert_eq!(core.log_end_offset(), 2, "the last cut was made");
}

/// The records that the look-up has read before the cut no longer exist, even if one of them
/// matched.
#[test]
fn look_up_finds_records_that_replaced_the_cut_ones() {
    let mut cut = 0;
    for number in 0..12 {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = create(&disk, 0, i32::MAX.unsigned_abs());
        append_at(&core, 0..60, BATCH_BYTES);
        disk.take();
        let other = Arc::clone(&core);
        disk.before_call(number, move || {
            other.truncation(3).make().unwrap();
            append_at(&other, 1_003..1_080, BATCH_BYTES);
        });
        let found = find_at(&core, 50);
        let expected = if disk.is_pending() {
            (50, 50)
        } else {
            (3, 1_003)
        };
        assert_eq!(found, Some(expected), "cut at call {number}");
        cut += usize::from(!disk.is_pending());
    }
    assert!(cut > 2, "{cut}");
}

#[test]
fn segment_without_timestamps_has_no_first_and_no_largest_one() {
    let core = create(&FaultyDisk::failing_at(0), 0, 80);
    let active = Arc::clone(&core.writer.lock().active);
    assert_eq!(core.first_timestamp(&active).unwrap(), -1);
    assert_eq!(core.confirmed_max_timestamp(0).unwrap(), None);
    append_at(&core, [0], 10);
    assert_eq!(core.first_timestamp(&active).unwrap(), 0);
    assert_eq!(
        core.confirmed_max_timestamp(0).unwrap(),
        Some(Timestamp::from_millis(0))
    );
}

#[test]
fn largest_time_of_a_sealed_segment_is_the_same_on_a_second_read() {
    let core = created(&FaultyDisk::failing_at(0));
    append_at(&core, [7, 30, 20, 0, 0, 0, 0, 0, 0, 0], 10);
    assert!(core.segments().snapshot()[0].is_sealed());
    for _ in 0..2 {
        assert_eq!(
            core.confirmed_max_timestamp(0).unwrap(),
            Some(Timestamp::from_millis(30))
        );
    }
}

/// Runs `look` once for each of its calls, while the first records are deleted before that call.
fn at_each_call(mut look: impl FnMut(&PartitionCore)) {
    for call in 0.. {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = created(&disk);
        append_at(&core, (0..20).rev(), 10);
        append_at(&core, [15; 5], 10);
        let segments = core.segments().snapshot();
        segments.iter().for_each(|segment| segment.close_file());
        disk.take();
        let deleting = Arc::clone(&core);
        disk.before_call(call, move || {
            let delete = move || deleting.delete_records_before(10).map(drop).unwrap();
            // A deletion that needs a lock of the look-up continues after the call.
            let (patience, deletion) = (Deadline::after(PATIENCE), thread::spawn(delete));
            while !deletion.is_finished() && !patience.has_passed() {
                thread::yield_now();
            }
        });
        look(&core);
        if disk.is_pending() {
            assert!(call > 2, "a look makes some calls");
            return;
        }
    }
}

#[test]
fn largest_time_is_looked_up_again_if_its_segment_was_deleted() {
    at_each_call(|core| {
        let found = find(core, OffsetSpec::MaxTimestamp).unwrap();
        assert!([(0, 19), (20, 15)].contains(&found), "{found:?}");
    });
}

#[test]
fn offset_that_is_deleted_during_the_search_is_out_of_range() {
    at_each_call(|core| match core.seek(3) {
        Ok(place) => assert_eq!(place.file.segment().base_offset, 0),
        Err(error) => assert!(
            matches!(error, Error::OffsetOutOfRange { requested: 3, .. }),
            "{error}"
        ),
    });
}

#[test]
fn each_segment_has_its_own_modification_time() {
    let disk = FaultyDisk::failing_at(0);
    let core = written(&disk, 0, 20);
    let segments = core.segments().snapshot();
    let times = (1..).map(|number| Timestamp::from_millis(1_000 * number));
    for (segment, time) in segments.iter().zip(times.clone()) {
        disk.open(segment.log_path(), Access::Write)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    assert!(segments.len() > 2);
    for (segment, time) in segments.iter().zip(times) {
        assert_eq!(core.segment_modified(segment.base_offset).unwrap(), time);
    }
    assert!(matches!(
        core.segment_modified(1),
        Err(Error::OffsetOutOfRange { requested: 1, .. })
    ));
}

#[test]
fn largest_time_belongs_to_a_record_above_the_log_start() {
    let core = create(&FaultyDisk::failing_at(0), 0, 80);
    append_at(&core, [100, 10, 20, 15], 10);
    assert_eq!(find(&core, OffsetSpec::MaxTimestamp), Some((0, 100)));
    core.delete_records_before(1).unwrap();
    assert_eq!(find(&core, OffsetSpec::MaxTimestamp), Some((2, 20)));
}
