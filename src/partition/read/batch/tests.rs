//! Tests of `batch`.

use std::path::Path;

use super::*;
use crate::clock::Timestamp;
use crate::config::{TimestampType, TopicSettings};
use crate::format::batch::BatchBuilder;
use crate::format::compression::codecs;
use crate::format::control::ControlRecord;
use crate::format::record::Record;
use crate::topic_partition::TopicPartition;

/// Returns a batch of four records with the offsets from 100 to 103.
fn batch(codec: Compression, range: Range<u64>) -> Batch {
    let mut builder = BatchBuilder::new(Vec::new(), codec);
    for key in ["a", "b", "c", "d"] {
        builder
            .push(&Record::from((key, "v".repeat(50))), 7)
            .unwrap();
    }
    stamped(builder, 0, range)
}

/// Finishes a batch, sets these attributes as well, and gives it the base offset 100.
fn stamped(builder: BatchBuilder, attributes: u16, range: Range<u64>) -> Batch {
    let mut bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
    let header = BatchHeader::decode(&bytes).unwrap();
    BatchHeader {
        attributes: header.attributes | attributes,
        ..header
    }
    .write(&mut bytes);
    batch::stamp(&mut bytes, 100, 0);
    let dir: Arc<Path> = Path::new("/data/t-3").into();
    let origin = Origin {
        id: TopicPartition::new("t", 3),
        dir,
        max_decompressed_bytes: 1 << 20,
    };
    let header = BatchHeader::decode(&bytes).unwrap();
    let bytes = BatchBytes::Copied {
        start: 0,
        end: bytes.len(),
        chunk: Arc::new(bytes.as_slice().into()),
    };
    Batch::new(&Arc::new(origin), (100, 0), 0, header, bytes, range)
}

#[test]
fn record_has_the_topic_partition_and_offset_it_was_read_from() {
    let batch = batch(Compression::None, 0..200);
    let record = batch.iter().next().unwrap().unwrap();
    assert_eq!(
        (record.topic(), record.partition(), record.offset()),
        ("t", 3, 100)
    );
}

#[test]
fn detached_batch_shares_no_bytes() {
    let batch = batch(Compression::None, 101..103);
    let detached = batch.detach();
    assert_eq!(
        (detached.stored(), detached.offsets()),
        (batch.stored(), 101..103)
    );
    assert_ne!(detached.stored().1.as_ptr(), batch.stored().1.as_ptr());
}

#[test]
fn walk_over_a_whole_batch_is_at_a_record_without_decoding() {
    for codec in codecs() {
        let batch = batch(codec, 0..200);
        let mut walk = batch.walk().unwrap();
        assert!(walk.is_at_record());
        assert_eq!(
            walk.next_quickly(&batch).map(|record| record.offset()),
            Some(100),
            "{codec:?}"
        );
        for _ in 0..3 {
            assert!(walk.next_of_any_kind(&batch).unwrap().is_ok());
        }
        assert!(!walk.is_at_record());
        assert!(!walk.has_next(&batch));
    }
}

#[test]
fn walk_over_a_part_of_a_batch_starts_at_the_first_record_of_the_range() {
    for (range, first) in [
        (102..103, Some(102)),
        (0..101, Some(100)),
        (103..200, Some(103)),
        (104..200, None),
    ] {
        let batch = batch(Compression::None, range.clone());
        let mut walk = batch.walk().unwrap();
        assert!(!walk.is_at_record(), "{range:?}: there may be no record");
        assert_eq!(walk.has_next(&batch), first.is_some());
        assert_eq!(
            walk.next_quickly(&batch).map(|record| record.offset()),
            first,
            "{range:?}"
        );
    }
}

#[test]
fn only_control_batch_has_a_control_record() {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder
        .push(&Record::new([0, 0, 0, 0, 0, 3]).key([0, 0, 0, 0]), 7)
        .unwrap();
    let marker = stamped(builder, 0b11 << 4, 0..200);
    assert_eq!(
        marker.control_record(),
        Some(ControlRecord::Abort {
            coordinator_epoch: 3
        })
    );
    assert_eq!(batch(Compression::None, 0..200).control_record(), None);
}

#[test]
fn owned_record_keeps_everything_that_its_view_shows() {
    let record = Record::new("a value")
        .key("a key")
        .header("source", "shop")
        .timestamp(Timestamp::from_millis(9));
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder.push(&record, 7).unwrap();
    let batch = stamped(builder, 0, 0..200);
    let view = batch.iter().next().unwrap().unwrap();
    assert_eq!(Record::from(view), record);
    assert_eq!(view.timestamp_type(), Some(TimestampType::CreateTime));
    assert_eq!(view.headers().count(), 1);
    let shown = format!("{:?}", view.headers());
    assert!(
        shown.contains("source") && shown.contains("shop"),
        "{shown}"
    );

    let owned = view.into_owned();
    assert_eq!(
        (owned.topic(), owned.partition(), owned.offset()),
        ("t", 3, 100)
    );
    assert_eq!(owned.topic_partition(), &TopicPartition::new("t", 3));
    assert_eq!(owned.timestamp(), Some(Timestamp::from_millis(9)));
    assert_eq!(owned.key(), Some(&b"a key"[..]));
    assert_eq!(owned.value(), Some(&b"a value"[..]));
    assert_eq!(owned.text(), "a value");
    assert_eq!(owned.headers().next().unwrap().value(), Some(&b"shop"[..]));
    assert_eq!(Record::from(&owned), record);
    assert_eq!(Record::from(owned), record);
}

#[test]
fn debug_output_names_the_partition_and_the_record() {
    let batch = batch(Compression::None, 101..103);
    let shown = format!("{:?}", batch.iter());
    assert!(shown.starts_with("RecordIter"), "{shown}");
    let view = batch.iter().next().unwrap().unwrap();
    for shown in [format!("{view:?}"), format!("{:?}", view.into_owned())] {
        assert!(
            shown.contains("t-3") && shown.contains("offset: 101") && shown.contains("\"b\""),
            "{shown}"
        );
    }
}

#[test]
fn batch_reports_damage_with_all_of_its_offsets() {
    let Error::Corrupt(corruption) =
        batch(Compression::None, 0..200).corrupt(Malformed("it is damaged"))
    else {
        panic!("a malformed record is corruption");
    };
    assert_eq!(corruption.offsets, 100..104);
}
