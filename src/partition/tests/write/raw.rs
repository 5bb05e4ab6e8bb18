//! Batches that are appended as they are: what the log stamps, what it refuses, and a disk that
//! fails at each call.

use super::appending;
use crate::config::{CleanupPolicy, Compression, TimestampType};
use crate::format::batch::{
    BatchBuilder, BatchHeader, HEADER_BYTES, ProducerStamp, emptied, stamp, stamp_append_time,
};
use crate::format::compression::codecs;
use crate::format::record;
use crate::partition::tests::*;

const NOW: i64 = 1_700_000_000_000;

fn create(disk: &FaultyDisk, settings: TopicSettings) -> Arc<PartitionCore> {
    let spec = PartitionSpec {
        is_dense: settings.cleanup_policy == CleanupPolicy::Delete,
        settings,
        ..spec(0, 0, i64::MAX)
    };
    PartitionCore::create(&context(disk), &spec).unwrap()
}

fn in_memory(settings: TopicSettings) -> Arc<PartitionCore> {
    create(&FaultyDisk::failing_at(0), settings)
}

/// Returns a batch with these values, of a producer if there is a sequence.
fn batch(codec: Compression, sequence: Option<i32>, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), codec);
    for value in values {
        builder.push(&Record::from(("k", *value)), NOW).unwrap();
    }
    if let Some(sequence) = sequence {
        builder.set_producer(ProducerStamp {
            id: 7,
            epoch: 0,
            sequence,
        });
    }
    let mut bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
    stamp(&mut bytes, 1_000, 9);
    bytes
}

fn plain(values: &[&str]) -> Vec<u8> {
    batch(Compression::None, None, values)
}

fn append_raw(core: &PartitionCore, bytes: &[u8]) -> Result<std::ops::Range<u64>> {
    core.append_raw(Durability::Os, bytes)
}

/// Returns the stored bytes of each batch.
fn stored(core: &Arc<PartitionCore>) -> Vec<Vec<u8>> {
    let reader = Reader::new(core, KeepOpen::nothing(), &(..), ReadOptions::new()).unwrap();
    reader
        .map(|batch| batch.unwrap().as_bytes().to_vec())
        .collect()
}

/// Returns the place and the reason of a batch that is refused.
fn refusal(core: &PartitionCore, bytes: &[u8]) -> (usize, String) {
    let end = core.log_end_offset();
    let refused = append_raw(core, bytes);
    assert_eq!(core.log_end_offset(), end, "a refused call appends nothing");
    match refused {
        Err(Error::InvalidBatch { index, reason }) => (index, reason.into_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_offset_and_the_epoch_of_a_batch_are_stamped() {
    for codec in codecs() {
        let core = in_memory(TopicSettings::unconfigured());
        appending::append(&core, 3).unwrap();
        let mut long = batch(codec, Some(5), &[&"v".repeat(300), "w"]);
        assert_eq!(append_raw(&core, &long).unwrap(), 3..5);
        stamp(&mut long, 3, 0);
        assert_eq!(stored(&core)[1], long, "{codec:?}");
        assert_eq!(read(&core).unwrap()[4], (4, "w".to_owned()));
    }
}

#[test]
fn several_batches_are_one_append() {
    for codec in codecs() {
        let core = in_memory(TopicSettings::unconfigured());
        let all = [
            plain(&["a", "b"]),
            batch(codec, None, &["c"]),
            plain(&["d"]),
        ]
        .concat();
        assert_eq!(append_raw(&core, &all).unwrap(), 0..4);
        let expected = ["a", "b", "c", "d"].map(str::to_owned);
        let values: Vec<String> = read(&core).unwrap().into_iter().map(|(_, v)| v).collect();
        assert_eq!(values, expected, "{codec:?}");
    }
    let core = in_memory(TopicSettings::unconfigured());
    let mut broken = [plain(&["e"]), plain(&["f"])].concat();
    *broken.last_mut().unwrap() ^= 1;
    let (index, reason) = refusal(&core, &broken);
    assert_eq!(index, 1);
    assert!(reason.contains("checksum"), "{reason}");
}

#[test]
fn segments_and_their_indexes_are_those_of_single_appends() {
    let settings = TopicSettings {
        segment_bytes: 400,
        index_interval_bytes: 80,
        ..TopicSettings::unconfigured()
    };
    let (one, all) = (in_memory(settings.clone()), in_memory(settings));
    for _ in 0..6 {
        let batches = [plain(&["a"]), plain(&["b"]), plain(&["c"])];
        append_raw(&all, &batches.concat()).unwrap();
        for batch in batches {
            append_raw(&one, &batch).unwrap();
        }
    }
    assert!(all.segment_infos().unwrap().len() > 2);
    assert_eq!(read(&one).unwrap(), read(&all).unwrap());
    for offset in 0..18 {
        let mut reader =
            Reader::new(&all, KeepOpen::nothing(), &(offset..), ReadOptions::new()).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    }
}

#[test]
fn append_time_is_stamped_where_the_topic_asks_for_it() {
    let core = in_memory(TopicSettings {
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 1,
        ..TopicSettings::unconfigured()
    });
    let mut old = plain(&["a", "b"]);
    let mut header = BatchHeader::decode(&old).unwrap();
    header.base_timestamp = 5;
    header.max_timestamp = 5;
    header.write(&mut old);
    append_raw(&core, &[old.clone(), old].concat()).unwrap();
    for bytes in stored(&core) {
        let header = BatchHeader::decode(&bytes).unwrap();
        assert!(header.crc_is_valid(&bytes));
        assert_eq!(header.timestamp_type(), Some(TimestampType::LogAppendTime));
        assert_eq!(header.max_timestamp, NOW);
    }
    // The records of another log keep the time of their append there.
    let core = in_memory(TopicSettings::unconfigured());
    let mut stamped = plain(&["a"]);
    stamp_append_time(&mut stamped, NOW - 50);
    append_raw(&core, &stamped).unwrap();
    let header = BatchHeader::decode(&stored(&core)[0]).unwrap();
    assert_eq!(header.max_timestamp, NOW - 50);
}

#[test]
fn batches_that_the_topic_does_not_accept_are_refused() {
    let settings = TopicSettings {
        timestamp_before_max_ms: 100,
        timestamp_after_max_ms: 100,
        ..TopicSettings::unconfigured()
    };
    let core = in_memory(settings);
    let at = |millis: i64| {
        let mut bytes = plain(&["a"]);
        let mut header = BatchHeader::decode(&bytes).unwrap();
        (header.base_timestamp, header.max_timestamp) = (millis, millis);
        header.write(&mut bytes);
        bytes
    };
    append_raw(&core, &[at(NOW - 100), at(NOW + 100), at(-1)].concat()).unwrap();
    for (millis, expected) in [
        (NOW - 101, "message.timestamp.before.max.ms"),
        (NOW + 101, "message.timestamp.after.max.ms"),
        (-2, "negative"),
    ] {
        let (index, reason) = refusal(&core, &[plain(&["b"]), at(millis)].concat());
        assert_eq!(index, 1);
        assert!(reason.starts_with("record 0: "), "{reason}");
        assert!(reason.contains(expected), "{reason}");
    }
    let (_, reason) = refusal(&core, &[]);
    assert!(reason.contains("no bytes"), "{reason}");

    let keyed = in_memory(TopicSettings {
        cleanup_policy: CleanupPolicy::Compact,
        ..TopicSettings::unconfigured()
    });
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder.push(&Record::from(("k", "v")), NOW).unwrap();
    builder.push(&Record::new("v"), NOW).unwrap();
    let bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
    let (_, reason) = refusal(&keyed, &bytes);
    assert_eq!(reason, "record 1: a compacted topic needs a key");
}

#[test]
fn batches_larger_than_the_limits_are_refused() {
    let settings = TopicSettings {
        max_message_bytes: 100,
        segment_bytes: 200,
        ..TopicSettings::unconfigured()
    };
    let core = in_memory(settings);
    let small = plain(&["v"]);
    append_raw(&core, &[small.clone(), small.clone()].concat()).unwrap();
    for (bytes, expected) in [
        (plain(&[&"v".repeat(50)]), "max.message.bytes"),
        (
            [small.clone(), small.clone(), small].concat(),
            "segment.bytes",
        ),
    ] {
        let refused = append_raw(&core, &bytes);
        assert!(
            matches!(refused, Err(Error::RecordTooLarge { key, .. }) if key == expected),
            "{refused:?}"
        );
    }
    // The limit of `PartitionContext::for_tests` is 1 MiB.
    for codec in codecs().filter(|&codec| codec != Compression::None) {
        let core = in_memory(TopicSettings::unconfigured());
        let bomb = batch(codec, None, &[&"v".repeat(1 << 20)]);
        let (_, reason) = refusal(&core, &bomb);
        assert!(reason.contains("max_decompressed_bytes"), "{reason}");
    }
}

#[test]
fn gaps_in_a_batch_are_accepted_only_where_compaction_may_leave_them() {
    let mut thinned = plain(&["a", "b"]);
    let mut header = BatchHeader::decode(&thinned).unwrap();
    header.last_offset += 3;
    header.write(&mut thinned);
    let (_, reason) = refusal(&in_memory(TopicSettings::unconfigured()), &thinned);
    assert!(reason.contains("append its records instead"), "{reason}");

    let disk = FaultyDisk::failing_at(0);
    let core = create(
        &disk,
        TopicSettings {
            cleanup_policy: CleanupPolicy::Compact,
            ..TopicSettings::unconfigured()
        },
    );
    assert_eq!(append_raw(&core, &thinned).unwrap(), 0..5);
    assert_eq!(append_raw(&core, &plain(&["c"])).unwrap(), 5..6);
    let values = [(0, "a"), (1, "b"), (5, "c")].map(|(at, value)| (at, value.to_owned()));
    assert_eq!(read(&core).unwrap(), values);
    let mut empty = Vec::new();
    emptied(&BatchHeader::decode(&thinned).unwrap(), &mut empty);
    let (_, reason) = refusal(&core, &empty);
    assert!(reason.contains("no records"), "{reason}");
    drop(core);
    let spec = PartitionSpec {
        is_dense: false,
        ..spec(0, 0, i64::MAX)
    };
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(read(&core).unwrap(), values);
}

#[test]
fn records_with_the_same_offset_are_refused() {
    let core = in_memory(TopicSettings::unconfigured());
    for deltas in [[0, 1, 1, 3], [0, 0, 2, 3], [0, 2, 1, 3], [0, 1, 2, 2]] {
        let value = "v".repeat(40);
        let mut bytes = plain(&[&*value; 4]);
        let header = BatchHeader::decode(&bytes).unwrap();
        bytes.truncate(HEADER_BYTES);
        for delta in deltas {
            record::encode(&mut bytes, 0, delta, Record::from(("k", &*value)).parts()).unwrap();
        }
        assert_eq!(bytes.len(), header.size_bytes as usize);
        header.write(&mut bytes);
        let (_, reason) = refusal(&core, &bytes);
        assert!(reason.contains("offset"), "{deltas:?}: {reason}");
    }
}

/// An index entry counts offsets from the start of its segment, in 31 bits.
#[test]
fn segment_ends_at_the_last_offset_that_an_index_entry_can_have() {
    const LAST: u64 = i32::MAX.unsigned_abs() as u64;
    let core = in_memory(TopicSettings {
        cleanup_policy: CleanupPolicy::Compact,
        ..TopicSettings::unconfigured()
    });
    let mut thinned = plain(&["a"]);
    let mut header = BatchHeader::decode(&thinned).unwrap();
    header.last_offset += LAST - 2;
    header.write(&mut thinned);
    let bases = || -> Vec<u64> {
        let segments = core.segments().snapshot();
        segments.iter().map(|segment| segment.base_offset).collect()
    };
    assert_eq!(append_raw(&core, &thinned).unwrap(), 0..LAST - 1);
    let two = plain(&["b", "c"]);
    assert_eq!(append_raw(&core, &two).unwrap(), LAST - 1..LAST + 1);
    assert_eq!(bases(), [0]);
    append_raw(&core, &plain(&["d"])).unwrap();
    assert_eq!(bases(), [0, LAST + 1]);

    // One append has room for as many offsets as one segment.
    header.last_offset += 2;
    header.write(&mut thinned);
    let (_, reason) = refusal(&core, &[&two[..], &thinned].concat());
    assert!(reason.contains("too many offsets"), "{reason}");
    assert_eq!(append_raw(&core, &thinned).unwrap(), LAST + 2..2 * LAST + 3);
}

#[test]
fn batches_end_at_the_greatest_offset() {
    const LAST: u64 = i64::MAX.unsigned_abs();
    let core = written(&FaultyDisk::failing_at(0), LAST - 3, 1);
    let two = plain(&["a", "b"]);
    let (_, reason) = refusal(&core, &[&two[..], &two].concat());
    assert!(reason.contains("too many offsets"), "{reason}");
    assert_eq!(append_raw(&core, &two).unwrap(), LAST - 2..LAST);
    let (_, reason) = refusal(&core, &plain(&["c"]));
    assert!(reason.contains("too many offsets"), "{reason}");
}

#[test]
fn batches_of_a_producer_are_appended_once_and_in_order() {
    let core = in_memory(TopicSettings::unconfigured());
    let at = |sequence, values: &[&str]| batch(Compression::None, Some(sequence), values);
    // An unknown producer may start anywhere.
    let both = [at(4, &["a", "b"]), at(6, &["c"])].concat();
    appending::append(&core, 1).unwrap();
    assert_eq!(append_raw(&core, &both).unwrap(), 1..4);
    appending::append(&core, 1).unwrap();
    for _ in 0..2 {
        assert_eq!(append_raw(&core, &both).unwrap(), 1..4, "sent again");
        assert_eq!(append_raw(&core, &at(6, &["c"])).unwrap(), 3..4);
    }
    assert_eq!(core.log_end_offset(), 5);
    for bytes in [
        [at(6, &["c"]), at(7, &["d"])].concat(),
        [at(7, &["d"]), at(7, &["d"])].concat(),
        [plain(&["x"]), at(6, &["c"])].concat(),
    ] {
        let (_, reason) = refusal(&core, &bytes);
        assert!(reason.contains("one by one"), "{reason}");
    }
    for bytes in [at(8, &["x"]), [at(7, &["d"]), at(9, &["x"])].concat()] {
        let refused = append_raw(&core, &bytes);
        assert!(
            matches!(
                refused,
                Err(Error::OutOfOrderSequence { producer_id: 7, .. })
            ),
            "{refused:?}"
        );
    }
    assert_eq!(append_raw(&core, &at(7, &["d"])).unwrap(), 5..6);
    let mut next_epoch = at(0, &["e"]);
    let mut header = BatchHeader::decode(&next_epoch).unwrap();
    header.producer_epoch = 1;
    header.write(&mut next_epoch);
    assert_eq!(append_raw(&core, &next_epoch).unwrap(), 6..7);
    let fenced = append_raw(&core, &at(8, &["x"]));
    assert!(
        matches!(fenced, Err(Error::ProducerFenced { epoch: 0, .. })),
        "{fenced:?}"
    );
    assert_eq!(core.log_end_offset(), 7);
}

/// A value that makes a batch so large that its records are not copied.
fn large() -> String {
    "v".repeat(40 << 10)
}

#[test]
fn large_batches_are_stamped_as_small_ones_are() {
    for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let settings = TopicSettings {
            timestamp_type,
            ..TopicSettings::unconfigured()
        };
        let core = in_memory(settings);
        let all = [
            plain(&["a"]),
            plain(&[&large(), "b"]),
            plain(&[&large()]),
            plain(&["c"]),
        ];
        assert_eq!(append_raw(&core, &all.concat()).unwrap(), 0..5);
        assert_eq!(append_raw(&core, &all[1]).unwrap(), 5..7);
        for (bytes, (start, original)) in stored(&core)
            .iter()
            .zip([0, 1, 3, 4, 5].into_iter().zip(all.iter().chain([&all[1]])))
        {
            let mut expected = original.clone();
            stamp(&mut expected, start, 0);
            if timestamp_type == TimestampType::LogAppendTime {
                stamp_append_time(&mut expected, NOW);
            }
            assert!(*bytes == expected, "the batch at {start}");
        }
    }
}

#[test]
fn a_failed_write_leaves_none_of_the_batches() {
    let spec = PartitionSpec {
        settings: TopicSettings::unconfigured(),
        ..spec(0, 0, i64::MAX)
    };
    let small = [plain(&["a"]), plain(&["b", "c"]), plain(&["d"])].concat();
    let mixed = [plain(&["a"]), plain(&[&large(), "c"]), plain(&["d"])].concat();
    for (batches, fault) in [&small, &mixed]
        .into_iter()
        .flat_map(|batches| [(batches, Fault::Any), (batches, Fault::Full)])
    {
        let mut failures = 0;
        for fails_at in 0..30 {
            let disk = FaultyDisk::failing_at(fails_at);
            let core = create(&disk, TopicSettings::unconfigured());
            appending::append(&core, 2).unwrap();
            disk.set_fault(Some(fault));
            let durability = [Durability::Os, Durability::Synced][fails_at % 2];
            let appended = core.append_raw(durability, batches);
            disk.set_fault(None);
            let count = read(&core).unwrap().len();
            let case = format!("{fault:?} at {fails_at}");
            failures += usize::from(appended.is_err());
            match appended {
                Ok(offsets) => assert_eq!((offsets, count), (2..6, 6), "{case}"),
                // After a failed sync it is unknown what the device has.
                Err(Error::SyncFailed { .. }) => assert_eq!(count, 6, "{case}"),
                Err(error) => assert_eq!(count, 2, "{case}: {error}"),
            }
            drop(core);
            let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
            assert!(report.damage.is_none(), "{case}: {report:?}");
            assert_eq!(core.log_end_offset(), count as u64, "{case}");
        }
        assert!(failures > 0, "{fault:?}: {failures}");
    }
}

#[test]
fn a_synced_append_of_batches_is_on_the_device() {
    let core = in_memory(TopicSettings::unconfigured());
    core.append_raw(Durability::Synced, &[plain(&["a"]), plain(&["b"])].concat())
        .unwrap();
    assert_eq!(core.commit.synced_end(), 2);
}

#[test]
fn a_closed_or_deleted_partition_refuses_batches() {
    let closed = in_memory(TopicSettings::unconfigured());
    closed.close(true).unwrap();
    assert!(matches!(
        append_raw(&closed, &plain(&["a"])),
        Err(Error::Closed)
    ));
    let deleted = in_memory(TopicSettings::unconfigured());
    deleted.mark_deleted();
    let refused = append_raw(&deleted, &plain(&["a"]));
    assert!(
        matches!(refused, Err(Error::UnknownTopic(_))),
        "{refused:?}"
    );
}

#[test]
fn greatest_timestamp_of_a_batch_is_corrected_when_it_is_stored() {
    let core = in_memory(TopicSettings::unconfigured());
    append_raw(&core, &plain(&["before"])).unwrap();
    let mut batch = plain(&["a", "b"]);
    let header = BatchHeader::decode(&batch).unwrap();
    BatchHeader {
        max_timestamp: NOW + 9,
        ..header
    }
    .write(&mut batch);
    append_raw(&core, &batch).unwrap();
    let last = stored(&core).pop().unwrap();
    let found = BatchHeader::decode(&last).unwrap();
    assert_eq!((found.base_offset, found.max_timestamp), (1, NOW));
    assert!(found.crc_is_valid(&last));
}
