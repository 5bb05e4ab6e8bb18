//! Effects of an append other than the write: flushes that the topic requests, the limits of
//! offsets and segments, and the limits and formats of the topic.

use crate::config::{CleanupPolicy, Compression, CompressionType};
use crate::format::batch::{BatchBuilder, stamp, stamp_append_time};
use crate::format::compression::codecs;
use crate::partition::tests::*;
use crate::storage::Access;

const MAX: u64 = i64::MAX.unsigned_abs();

fn create(log_start: u64, settings: TopicSettings) -> Arc<PartitionCore> {
    let disk = FaultyDisk::failing_at(0);
    let spec = PartitionSpec {
        settings,
        ..spec(log_start, 0, i64::MAX)
    };
    PartitionCore::create(&context(&disk), &spec).unwrap()
}

pub(in crate::partition::tests) fn append(
    core: &PartitionCore,
    count: usize,
) -> Result<std::ops::Range<u64>> {
    core.append(Durability::Os, (0..count).map(|_| Record::new("a value")))
        .map(|appended| appended.offsets)
}

/// Creates a batch of one record as compaction leaves it, with an offset that does not follow the
/// batch before it.
pub(in crate::partition::tests) fn lone_batch(offset: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder
        .push(&Record::new("a value"), 1_700_000_000_000)
        .unwrap();
    let mut batch = builder.finish(&TopicSettings::unconfigured()).unwrap();
    stamp(&mut batch, offset, 0);
    batch
}

/// Creates a partition that may have gaps, with a record at 0 and one at `offset` in one segment.
pub(in crate::partition::tests) fn with_a_gap(
    disk: &FaultyDisk,
    offset: u64,
) -> Arc<PartitionCore> {
    let core = created(disk);
    append(&core, 1).unwrap();
    core.close(true).unwrap();
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(&lone_batch(offset), file.bytes().unwrap())
        .unwrap();
    let spec = PartitionSpec {
        is_dense: false,
        ..spec(0, 0, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(disk), &spec).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(report.bytes_cut, 0, "{report:?}");
    core
}

#[test]
fn append_flushes_after_flush_messages_records() {
    let core = create(
        0,
        TopicSettings {
            flush_messages: 3,
            ..TopicSettings::unconfigured()
        },
    );
    for (count, recovery_point) in [
        (1, 0),
        (1, 0),
        (1, 3),
        (2, 3),
        (5, 10),
        (1, 10),
        (1, 10),
        (1, 13),
    ] {
        append(&core, count).unwrap();
        assert_eq!(
            core.recovery_point(),
            recovery_point,
            "at {}",
            core.log_end_offset()
        );
    }
}

#[test]
fn offsets_end_at_the_largest_offset_of_kafka() {
    let core = create(MAX - 2, TopicSettings::unconfigured());
    assert_eq!(append(&core, 1).unwrap(), MAX - 2..MAX - 1);
    let refused = append(&core, 2);
    assert!(
        matches!(refused, Err(Error::OffsetOutOfRange { log_end, .. }) if log_end == MAX - 1),
        "{refused:?}"
    );
    assert_eq!(
        append(&core, 1).unwrap(),
        MAX - 1..MAX,
        "the end must be an offset too"
    );
    assert!(append(&core, 1).is_err());
    assert_eq!(read(&core).unwrap().len(), 2);
}

#[test]
fn offset_too_far_from_the_base_offset_begins_a_segment() {
    let last = u64::from(i32::MAX.unsigned_abs());
    let core = with_a_gap(&FaultyDisk::failing_at(0), last - 1);
    assert_eq!(append(&core, 1).unwrap(), last..last + 1);
    assert_eq!(
        core.segment_infos().unwrap().len(),
        1,
        "the last offset that fits"
    );
    assert_eq!(append(&core, 1).unwrap(), last + 1..last + 2);
    let bases: Vec<_> = core
        .segment_infos()
        .unwrap()
        .iter()
        .map(|segment| segment.base_offset)
        .collect();
    assert_eq!(bases, [0, last + 1]);
    assert_eq!(read(&core).unwrap().len(), 4);
}

#[test]
fn size_limit_applies_to_the_compressed_batch() {
    let settings = TopicSettings {
        max_message_bytes: 300,
        ..TopicSettings::unconfigured()
    };
    let long = "v".repeat(3_000);
    let plain = create(0, settings.clone())
        .append(Durability::Os, [Record::new(&long)])
        .map(|appended| appended.offsets);
    assert!(
        matches!(plain, Err(Error::RecordTooLarge { limit: 300, .. })),
        "{plain:?}"
    );
    let all = codecs().filter(|&codec| codec != Compression::None);
    for compression in all.map(CompressionType::Codec) {
        let core = create(
            0,
            TopicSettings {
                compression,
                ..settings.clone()
            },
        );
        core.append(Durability::Os, [Record::new(&long)]).unwrap();
        assert_eq!(read(&core).unwrap(), [(0, long.clone())]);
    }
}

#[test]
fn negative_timestamp_is_refused() {
    let core = create(0, TopicSettings::unconfigured());
    let at = |millis| {
        let record = Record::new("v").timestamp(Timestamp::from_millis(millis));
        core.append(Durability::Os, [record])
            .map(|appended| appended.max_timestamp)
    };
    assert_eq!(at(0).unwrap(), 0);
    let refused = at(-1);
    assert!(
        matches!(
            refused,
            Err(Error::InvalidRecord {
                index: 0,
                reason: "its timestamp is negative"
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn leader_epoch_is_in_the_checkpoint_before_its_first_batch_is_in_the_log() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 2).unwrap();
    core.close(true).unwrap();
    disk.remove_file(format!("{DIR}/{}", file_name::LEADER_EPOCHS).as_ref())
        .unwrap();
    // The log was closed cleanly, so no batch is read.
    let spec = PartitionSpec {
        clean: true,
        ..spec(0, 2, i64::MAX)
    };
    let (core, _) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!(append(&core, 1).unwrap(), 2..3);
    let epochs = LeaderEpochs::load(&disk, DIR.as_ref()).unwrap().unwrap();
    assert_eq!(epochs.latest(), Some(0));
}

#[test]
fn topic_that_becomes_synced_keeps_its_records_readable() {
    let core = create(0, TopicSettings::unconfigured());
    append(&core, 3).unwrap();
    assert_eq!(
        (core.high_watermark(), core.commit.synced_end()),
        (3, 0),
        "no record is synced"
    );
    core.set_settings(TopicSettings {
        durability: Some(Durability::Synced),
        ..TopicSettings::unconfigured()
    });
    assert_eq!(core.high_watermark(), 3);
    assert!(core.is_dense(), "the topic is not compacted");
}

#[test]
fn partition_is_synced_before_it_may_have_gaps() {
    let core = create(0, TopicSettings::unconfigured());
    append(&core, 3).unwrap();
    core.prepare_for_gaps().unwrap();
    assert_eq!((core.is_dense(), core.commit.synced_end()), (false, 3));
    append(&core, 2).unwrap();
    core.sync_below(3).unwrap();
    assert_eq!(
        core.commit.synced_end(),
        3,
        "the records are synced already"
    );
    core.sync_below(4).unwrap();
    assert_eq!(
        core.commit.synced_end(),
        5,
        "no record may be removed for one that a power cut can take"
    );

    let core = create(0, TopicSettings::unconfigured());
    core.set_settings(TopicSettings {
        cleanup_policy: CleanupPolicy::Compact,
        ..TopicSettings::unconfigured()
    });
    assert!(!core.is_dense());
}

#[test]
fn first_of_the_records_with_the_largest_time_is_found() {
    let core = create(
        0,
        TopicSettings {
            segment_bytes: 200,
            ..TopicSettings::unconfigured()
        },
    );
    for _ in 0..8 {
        append(&core, 1).unwrap();
    }
    assert!(core.segment_infos().unwrap().len() > 2);
    let first = core
        .offset_for(OffsetSpec::MaxTimestamp)
        .unwrap()
        .map(|found| found.offset);
    assert_eq!(first, Some(0));
}

#[test]
fn close_of_a_deleted_topic_writes_nothing() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    append(&core, 3).unwrap();
    core.mark_deleted();
    disk.remove_dir_all(DIR.as_ref()).unwrap();
    core.close(true).unwrap();
    assert!(disk.list(DIR.as_ref()).is_err());
    assert!(
        matches!(append(&core, 1), Err(Error::UnknownTopic(_))),
        "the topic stays deleted"
    );
}

#[test]
fn close_without_a_flush_keeps_the_recovery_point() {
    let core = create(0, TopicSettings::unconfigured());
    append(&core, 3).unwrap();
    core.close(false).unwrap();
    assert_eq!(core.recovery_point(), 0);
    assert!(matches!(append(&core, 1), Err(Error::Closed)));
}

#[test]
fn each_segment_rolls_with_its_own_jitter() {
    let settings = TopicSettings {
        segment_bytes: 100,
        segment_ms: 600_000,
        segment_jitter_ms: 1_000,
        ..TopicSettings::unconfigured()
    };
    let core = create(0, settings);
    let mut times: Vec<i64> = Vec::new();
    for _ in 0..20 {
        append(&core, 1).unwrap();
        times.push(core.writer.lock().jitter_ms);
    }
    assert!(core.segment_infos().unwrap().len() > 9);
    assert!(
        times.iter().all(|time| (0..1_000).contains(time)),
        "{times:?}"
    );
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 2, "{times:?}");
}

#[test]
fn jitter_covers_every_value_below_the_limit() {
    let core = create(
        0,
        TopicSettings {
            segment_bytes: 100,
            segment_jitter_ms: 2,
            ..TopicSettings::unconfigured()
        },
    );
    let mut found = [false; 2];
    for _ in 0..100 {
        append(&core, 1).unwrap();
        found[usize::try_from(core.writer.lock().jitter_ms).unwrap()] = true;
    }
    assert_eq!(found, [true; 2]);
}

#[test]
fn segment_whose_first_batch_has_no_timestamp_ages_by_the_clock() {
    let disk = FaultyDisk::failing_at(0);
    drop(created(&disk));
    let mut batch = lone_batch(0);
    stamp_append_time(&mut batch, -1);
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(&batch, 0).unwrap();
    let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
    assert_eq!(
        core.first_timestamp(&core.segments().snapshot()[0])
            .unwrap(),
        -1
    );
    assert_eq!(append(&core, 1).unwrap(), 1..2);
    assert_eq!(core.segment_infos().unwrap().len(), 1);
}

#[test]
fn append_of_no_records_returns_an_empty_range() {
    let core = create(3, TopicSettings::unconfigured());
    let appended = core
        .append(Durability::Synced, Vec::<Record<'_>>::new())
        .unwrap();
    assert_eq!(
        (appended.offsets, appended.max_timestamp, core.log_bytes()),
        (3..3, -1, 0)
    );
}

#[test]
fn handle_is_never_less_durable_than_its_original() {
    let core = create(0, TopicSettings::unconfigured());
    let partition = Partition::new(core, Durability::Os, KeepOpen::nothing());
    assert_eq!(partition.durability(), Durability::Os);
    let synced = partition.with_durability(Durability::Synced);
    assert_eq!(synced.durability(), Durability::Synced);
    assert_eq!(
        synced.with_durability(Durability::Os).durability(),
        Durability::Synced
    );
}

#[test]
fn append_at_an_expected_end_fails_once_the_end_has_moved() {
    let core = created(&FaultyDisk::failing_at(0));
    let at = |end, records: &[&str]| {
        let records = records.iter().map(|value| Record::new(*value));
        core.append_if(Durability::Os, Some(end), records)
            .map(|appended| appended.offsets)
    };
    assert_eq!(at(0, &["a", "b"]).unwrap(), 0..2);
    for (expected, records) in [(0, &["c"][..]), (3, &["c"]), (0, &[])] {
        let refused = at(expected, records);
        assert!(
            matches!(&refused, Err(Error::EndMoved { expected: found, log_end: 2, .. }) if *found == expected),
            "{refused:?}"
        );
    }
    assert_eq!(at(2, &[]).unwrap(), 2..2);
    assert_eq!(at(2, &["c"]).unwrap(), 2..3);
}

#[test]
fn of_several_threads_that_append_at_the_same_end_one_succeeds() {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 200;
    let core = created(&FaultyDisk::failing_at(0));
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    (0..ROUNDS)
                        .filter(|end| {
                            let won =
                                core.append_if(Durability::Os, Some(*end), [Record::new("won")]);
                            while core.log_end_offset() <= *end {
                                std::thread::yield_now();
                            }
                            won.is_ok()
                        })
                        .count()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(wins as u64, ROUNDS);
    assert_eq!(core.log_end_offset(), ROUNDS);
}
