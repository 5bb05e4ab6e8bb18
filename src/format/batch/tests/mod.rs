//! Batches made by Kafka's own classes, batches that nobody should make, and random ones.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::config::TopicSettings;
use crate::format::record::{RawRecord, Record};

mod odd;

const T: i64 = 1_700_000_000_000;

const PLAIN: &str = "0000000000000000000000510000000002e8f37d980000000000020000018bcfe568000000018bcfe56805ffffffffffff\
    ffffffffffffffff0000000314000000046b31047631001a000a0201000402680278026e010c000504000100";
const TRANSACTIONAL_BATCH: &str = "00000000000000640000003c0000000702761af0830010000000000000018bcfe568000000018bcfe568000000\
    000000000fa00002000000110000000114000000046b3104763100";
const APPEND_TIME: &str = "00000000000000050000004a000000000221cbd31c0008000000010000018bcfe568000000018bcfe56be8ffffffffff\
    ffffffffffffffffff0000000214000000046b31047631001a000a0201000402680278026e01";
const GZIP: &str = "00000000000000000000005d00000000020d6113290001000000010000018bcfe568000000018bcfe56801ffffffffffffffff\
    ffffffffffff000000021f8b08000000000000ff1361606060c93664293364686064606262c9362a4824133000002a70585a4d000000";
const SNAPPY: &str = "00000000000000000000006100000000027ada64b30002000000010000018bcfe568000000018bcfe56801ffffffffffff\
    ffffffffffffffff0000000282534e415050590000000001000000010000001c4d5014000000046b31047631008001000202046b327061da01000000";
const LZ4: &str = "0000000000000000000000600000000002ea6249aa0003000000010000018bcfe568000000018bcfe56801ffffffffffffffff\
    ffffffffffff0000000204224d1860408220000000ff0614000000046b31047631008001000202046b32706101002050616161610000000000";
const ZSTD: &str = "0000000000000000000000590000000002b04b0f330004000000010000018bcfe568000000018bcfe56801ffffffffffffffff\
    ffffffffffff0000000228b52ffd0058e40000b014000000046b31047631008001000202046b327061000100790226010000";
const COMMIT: &str = "000000000000000a000000420000000002ad68175d0030000000000000018bcfe568000000018bcfe56800000000000000\
    0fa00002ffffffff000000012000000008000000010c00000000000300";
const ABORT: &str = "000000000000000a0000004200000000025956c1150030000000000000018bcfe568000000018bcfe56800000000000000\
    0fa00002ffffffff000000012000000008000000000c00000000000300";
const FILTERED: &str = "00000000000000140000003d0000000002c0fbaedb0040000000020000018bd50d4aa00000018bcfe5680affffffffff\
    ffffffffffffffffff000000011600ab8abf5202046b320100";
const EMPTY: &str = "00000000000000640000003100000000029b7a1ee9000000000002ffffffffffffffff0000018bcfe568050000000000000f\
    a000020000001100000000";

/// A decoded record with bytes of its own: offset, timestamp, key, value, headers.
type Owned = (
    u64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn owned(record: &RawRecord<'_>) -> Owned {
    let headers = record
        .headers
        .map(|header| {
            (
                header.name_bytes().to_vec(),
                header.value().map(<[u8]>::to_vec),
            )
        })
        .collect();
    (
        record.offset,
        record.timestamp,
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
        headers,
    )
}

/// Everything that comes out of a batch, up to the end.
fn visit(batch: &[u8]) -> Vec<Result<Owned, Malformed>> {
    let header = BatchHeader::decode(batch).unwrap();
    let decompressed = decompressed(&header, batch, 1 << 20).unwrap();
    let mut cursor = RecordCursor::new(&header, batch, decompressed.as_deref()).unwrap();
    let mut out = Vec::new();
    while let Some(record) = cursor.next(&header, batch, decompressed.as_deref()) {
        out.push(record.map(|record| owned(&record)));
    }
    assert!(
        cursor
            .next(&header, batch, decompressed.as_deref())
            .is_none(),
        "the end stays the end"
    );
    out
}

fn records(batch: &[u8]) -> Result<Vec<Owned>, Malformed> {
    visit(batch).into_iter().collect()
}

/// Decodes a vector whose checksum is right.
fn checked(hex: &str) -> (BatchHeader, Vec<Owned>) {
    let batch = bytes(hex);
    let frame = Frame::decode(&batch).unwrap();
    let header = BatchHeader::decode(&batch[..BatchHeader::bytes_needed(&frame)]).unwrap();
    assert_eq!(
        (frame.size_bytes as usize, frame.magic, frame.offset),
        (batch.len(), 2, header.base_offset)
    );
    assert!(header.crc_is_valid(&batch));
    (header, records(&batch).unwrap())
}

fn simple(offset: u64, timestamp: i64, key: &str, value: &str) -> Owned {
    (
        offset,
        timestamp,
        Some(key.into()),
        Some(value.into()),
        Vec::new(),
    )
}

fn built(records: &[Record<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    for record in records {
        builder.push(record, T).unwrap();
    }
    builder.finish(&TopicSettings::default()).unwrap()
}

fn packing(settings: &TopicSettings) -> Packing<'_> {
    Packing {
        settings,
        max_decompressed_bytes: 1 << 20,
        must_shrink: false,
    }
}

/// A batch of `record_count` that has these bytes for records, with the right checksum.
fn batch_of(record_count: u32, records: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(records);
    let header = BatchHeader {
        base_offset: 10,
        last_offset: 10 + u64::from(record_count.max(1)) - 1,
        stated_last_offset: 10 + u64::from(record_count.max(1)) - 1,
        size_bytes: batch.len().try_into().unwrap(),
        magic: 2,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        base_timestamp: T,
        max_timestamp: T,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count,
    };
    header.write(&mut batch);
    batch
}

#[test]
fn a_plain_batch_byte_for_byte() {
    let three = [
        Record::from(("k1", "v1")),
        Record::new("")
            .header("h", "x")
            .header("n", None::<&str>)
            .timestamp(Timestamp::from_millis(T + 5)),
        Record::tombstone("").timestamp(Timestamp::from_millis(T - 3)),
    ];
    assert_eq!(built(&three), bytes(PLAIN));
    let (header, records) = checked(PLAIN);
    let headers = vec![(b"h".to_vec(), Some(b"x".to_vec())), (b"n".to_vec(), None)];
    let expected = [
        simple(0, T, "k1", "v1"),
        (1, T + 5, None, Some(vec![]), headers),
        (2, T - 3, Some(vec![]), None, vec![]),
    ];
    assert_eq!(records, expected);
    assert_eq!(
        (
            header.last_offset,
            header.max_timestamp,
            header.record_count
        ),
        (2, T + 5, 3)
    );
    assert_eq!(header.timestamp_type(), Some(TimestampType::CreateTime));
    assert!(!header.is_transactional() && !header.is_control() && !header.has_producer());
    assert_eq!(
        (header.delete_horizon(), header.last_sequence()),
        (None, -1)
    );
}

#[test]
fn the_example_of_the_layout() {
    let example = "0000000000000000 0000003c 00000000 02 6ba48e85 0000 00000000 0000018bcfe56800 0000018bcfe56800 \
        ffffffffffffffff ffff ffffffff 00000001 14000000046b3104763100";
    assert_eq!(
        built(&[("k1", "v1").into()]),
        bytes(&example.replace(' ', ""))
    );
}

#[test]
fn a_transactional_batch() {
    let (header, records) = checked(TRANSACTIONAL_BATCH);
    assert_eq!(records, [simple(100, T, "k1", "v1")]);
    assert!(header.is_transactional() && !header.is_control() && header.has_producer());
    assert_eq!(
        (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        ),
        (4000, 2, 17, 17)
    );
    assert_eq!(header.leader_epoch, 7);
    let mut batch = built(&[("k1", "v1").into()]);
    let ours = BatchHeader {
        base_offset: 100,
        last_offset: 100,
        leader_epoch: 7,
        attributes: TRANSACTIONAL,
        producer_id: 4000,
        producer_epoch: 2,
        base_sequence: 17,
        ..BatchHeader::decode(&batch).unwrap()
    };
    ours.write(&mut batch);
    assert_eq!(batch, bytes(TRANSACTIONAL_BATCH));
}

#[test]
fn the_time_of_the_append_is_that_of_every_record() {
    let (header, records) = checked(APPEND_TIME);
    assert_eq!(header.timestamp_type(), Some(TimestampType::LogAppendTime));
    assert_eq!(
        records
            .iter()
            .map(|record| (record.0, record.1))
            .collect::<Vec<_>>(),
        [(5, T + 1_000), (6, T + 1_000)]
    );
    let two = [
        Record::from(("k1", "v1")),
        Record::new("")
            .header("h", "x")
            .header("n", None::<&str>)
            .timestamp(Timestamp::from_millis(T + 5)),
    ];
    let mut batch = built(&two);
    stamp_append_time(&mut batch, T + 1_000);
    stamp(&mut batch, 5, 0);
    assert_eq!(batch, bytes(APPEND_TIME));
    stamp_append_time(&mut batch, T + 1_000);
    assert_eq!(batch, bytes(APPEND_TIME), "and again");
}

#[test]
fn numbering_a_batch_keeps_its_checksum() {
    let mut batch = built(&["a".into(), "b".into()]);
    stamp(&mut batch, 1 << 40, 9);
    let header = BatchHeader::decode(&batch).unwrap();
    assert!(header.crc_is_valid(&batch));
    assert_eq!(
        (header.base_offset, header.last_offset, header.leader_epoch),
        (1 << 40, (1 << 40) + 1, 9)
    );
}

#[test]
fn compressed_batches() {
    for (codec, hex, is_built) in [
        (Compression::Gzip, GZIP, cfg!(feature = "gzip")),
        (Compression::Snappy, SNAPPY, cfg!(feature = "snappy")),
        (Compression::Lz4, LZ4, cfg!(feature = "lz4")),
        (Compression::Zstd, ZSTD, cfg!(feature = "zstd")),
    ] {
        if !is_built {
            continue;
        }
        let value = "a".repeat(56);
        let (header, records) = checked(hex);
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!(
            records,
            [simple(0, T, "k1", "v1"), simple(1, T + 1, "k2", &value)],
            "{codec:?}"
        );

        let mut builder = BatchBuilder::new(Vec::with_capacity(1 << 10), codec);
        builder.push(&("k1", "v1").into(), T).unwrap();
        builder.push(&("k2", &value).into(), T + 1).unwrap();
        let ours = builder.finish(&TopicSettings::default()).unwrap();
        let header = BatchHeader::decode(&ours).unwrap();
        assert!(header.crc_is_valid(&ours) && header.codec() == Ok(codec));
        assert!(ours.capacity() >= 1 << 10, "the caller's buffer comes back");
        assert_eq!(self::records(&ours).unwrap(), records, "{codec:?}");
        assert!(
            decompressed(&header, &ours, 10).is_err(),
            "{codec:?}: over the limit"
        );

        let fewer = BatchHeader {
            record_count: 1,
            ..header
        };
        let mut batch = ours.clone();
        fewer.write(&mut batch);
        assert!(
            self::records(&batch).is_err(),
            "{codec:?}: a record too many"
        );
        let more = BatchHeader {
            record_count: 3,
            last_offset: 2,
            ..header
        };
        more.write(&mut batch);
        assert!(
            self::records(&batch).is_err(),
            "{codec:?}: a record too few"
        );
    }
}

#[test]
fn records_that_a_codec_makes_larger_are_stored_as_they_are() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new(Vec::new(), codec);
        builder.push(&("k", "v").into(), T).unwrap();
        // A codec that the build leaves out is refused all the same.
        let Ok(batch) = builder.finish(&TopicSettings::default()) else {
            continue;
        };
        assert_eq!(batch, built(&[("k", "v").into()]), "{codec:?}");
    }
}

#[test]
fn control_batches() {
    for (hex, key) in [(COMMIT, [0, 0, 0, 1]), (ABORT, [0, 0, 0, 0])] {
        let (header, records) = checked(hex);
        assert!(header.is_control() && header.is_transactional());
        assert_eq!((header.producer_id, header.last_sequence()), (4000, -1));
        assert_eq!(
            records,
            [(
                10,
                T,
                Some(key.to_vec()),
                Some(vec![0, 0, 0, 0, 0, 3]),
                vec![]
            )]
        );
    }
}

#[test]
fn compacted_batches() {
    let (header, records) = checked(FILTERED);
    assert_eq!(records, [(21, T + 10, Some(b"k2".to_vec()), None, vec![])]);
    assert_eq!(header.delete_horizon(), Some(T + 86_500_000));
    assert_eq!(
        (header.base_offset, header.last_offset, header.record_count),
        (20, 22, 1)
    );

    let (header, records) = checked(EMPTY);
    assert_eq!(records, []);
    assert_eq!(
        (header.base_offset, header.last_offset, header.record_count),
        (100, 102, 0)
    );
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, T + 5));
    assert_eq!((header.producer_id, header.last_sequence()), (4000, 19));
    let mut batch = vec![0; HEADER_BYTES];
    header.write(&mut batch);
    assert_eq!(batch, bytes(EMPTY));
}

#[test]
fn what_is_left_below_an_offset_has_times_of_its_own() {
    let at = |millis| Record::new("v").timestamp(Timestamp::from_millis(millis));
    let mut batch = built(&[at(T + 10), at(T + 20), at(T + 5), at(T + 90)]);
    stamp(&mut batch, 100, 0);
    let header = BatchHeader::decode(&batch).unwrap();
    let left = below(
        &header,
        &batch,
        None,
        103,
        packing(&TopicSettings::default()),
    )
    .unwrap()
    .unwrap();
    let header = BatchHeader::decode(&left).unwrap();
    assert!(header.crc_is_valid(&left));
    assert_eq!(
        (header.base_offset, header.last_offset, header.record_count),
        (100, 102, 3)
    );
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (T + 10, T + 20)
    );
    let times = records(&left)
        .unwrap()
        .iter()
        .map(|record| (record.0, record.1))
        .collect::<Vec<_>>();
    assert_eq!(times, [(100, T + 10), (101, T + 20), (102, T + 5)]);
}

#[test]
fn what_is_left_of_a_legacy_batch_is_a_current_one() {
    // Offset 7, "k1" and "v1". The bit of the timestamp type, set, means nothing there.
    let v0 = bytes("00000000000000070000001257e7496e0008000000026b31000000027631");
    let header = BatchHeader::decode(&v0).unwrap();
    let left = below(&header, &v0, None, 8, packing(&TopicSettings::default()))
        .unwrap()
        .unwrap();
    let header = BatchHeader::decode(&left).unwrap();
    assert!(header.crc_is_valid(&left));
    assert_eq!(
        (
            header.magic,
            header.attributes,
            header.base_offset,
            header.last_offset
        ),
        (2, 0, 7, 7)
    );
    assert_eq!(records(&left).unwrap(), [simple(7, -1, "k1", "v1")]);
}

#[test]
fn records_without_a_time_have_none_in_what_is_left() {
    let mut batch = built(&["a".into(), "b".into()]);
    let header = BatchHeader {
        base_timestamp: -1,
        max_timestamp: -1,
        ..BatchHeader::decode(&batch).unwrap()
    };
    header.write(&mut batch);
    let left = below(&header, &batch, None, 1, packing(&TopicSettings::default()))
        .unwrap()
        .unwrap();
    assert_eq!(BatchHeader::decode(&left).unwrap().max_timestamp, -1);
    let mut kept = Vec::new();
    retained(
        &header,
        &batch,
        None,
        &[false, true],
        None,
        packing(&TopicSettings::default()),
        &mut kept,
    )
    .unwrap();
    assert_eq!(BatchHeader::decode(&kept).unwrap().max_timestamp, -1);
    assert_eq!(records(&kept).unwrap()[0].1, -1);
}

#[test]
fn records_that_are_not_compressed_are_not_copied() {
    for hex in [PLAIN, EMPTY] {
        let batch = bytes(hex);
        assert_eq!(
            decompressed(&BatchHeader::decode(&batch).unwrap(), &batch, 1 << 20),
            Ok(None)
        );
    }
    let (mut batch, header) = (bytes(EMPTY), BatchHeader::decode(&bytes(EMPTY)).unwrap());
    BatchHeader {
        attributes: 1,
        ..header
    }
    .write(&mut batch);
    let header = BatchHeader::decode(&batch).unwrap();
    assert_eq!(
        decompressed(&header, &batch, 1 << 20),
        Ok(None),
        "nothing is there to decompress"
    );
}

#[test]
fn a_batch_that_is_built_knows_its_codec() {
    for codec in [Compression::None, Compression::Zstd] {
        assert_eq!(BatchBuilder::new(Vec::new(), codec).compression(), codec);
    }
}

#[test]
fn common_records_are_read_and_stepped_over_quickly() {
    let keys = ["a", "b", "c", "d"];
    let batch = built(&keys.map(|key| Record::from((key, "v".repeat(50)))));
    let header = BatchHeader::decode(&batch).unwrap();
    let walk = || RecordCursor::new(&header, &batch, None).unwrap().current;
    let payload = &batch[HEADER_BYTES..];
    let next = |cursor: &mut cursor::CurrentCursor, wanted| {
        cursor
            .next_quickly(&header, payload, &wanted)
            .map(|raw| raw.offset)
    };
    let mut cursor = walk();
    assert_eq!(
        [0, 1, 2].map(|_| next(&mut cursor, 0..4)),
        [Some(0), Some(1), Some(2)]
    );
    assert!(cursor.has_records());
    let mut cursor = walk();
    assert_eq!(next(&mut cursor, 2..4), None, "it is not wanted");
    cursor.skip_quickly(&header, payload, 2);
    assert_eq!(next(&mut cursor, 2..4), Some(2));
    let mut whole = RecordCursor::new(&header, &batch, None).unwrap();
    while whole.next(&header, &batch, None).is_some() {}
    assert!(!whole.current.has_records());
}

#[test]
fn sequences_go_on_at_zero() {
    let header = BatchHeader::decode(&bytes(EMPTY)).unwrap();
    for (base, last) in [
        (i32::MAX - 2, i32::MAX),
        (i32::MAX - 1, 0),
        (i32::MAX, 1),
        (0, 2),
        (-1, -1),
    ] {
        assert_eq!(
            BatchHeader {
                base_sequence: base,
                ..header
            }
            .last_sequence(),
            last,
            "{base}"
        );
    }
}

/// The CRC, the header or the frame notices every flipped bit, but for what the CRC does not cover.
#[test]
fn a_flipped_bit_is_noticed() {
    let batch = bytes(PLAIN);
    let good = BatchHeader::decode(&batch).unwrap();
    for at in 0..batch.len() {
        for bit in 0..8 {
            let mut batch = batch.clone();
            batch[at] ^= 1 << bit;
            let Ok(header) = BatchHeader::decode(&batch) else {
                continue;
            };
            if header.crc_is_valid(&batch) {
                assert!(matches!(at, 0..8 | 12..17), "bit {bit} of byte {at}");
                let BatchHeader {
                    base_offset,
                    last_offset,
                    stated_last_offset,
                    leader_epoch,
                    ..
                } = header;
                assert_eq!(
                    header,
                    BatchHeader {
                        base_offset,
                        last_offset,
                        stated_last_offset,
                        leader_epoch,
                        ..good
                    }
                );
            }
        }
    }
}

#[test]
fn fronts_that_are_no_batch() {
    let batch = bytes(PLAIN);
    let with = |at: usize, new: &[u8]| {
        let mut batch = batch.clone();
        batch[at..at + new.len()].copy_from_slice(new);
        batch
    };
    assert_eq!(
        Frame::decode(&with(16, &[3])).unwrap().magic,
        2,
        "as Kafka reads it"
    );
    assert_eq!(
        Frame::decode(&with(16, &[0x7f])).unwrap().magic,
        2,
        "the highest there is"
    );
    assert!(Frame::decode(&with(8, &[0, 0, 0, 14])).is_ok());
    for (what, front) in [
        ("one byte too short", batch[..16].to_vec()),
        ("zeros", vec![0; 61]),
        ("a negative offset", with(0, &[0x80])),
        ("a length of 13", with(8, &[0, 0, 0, 13])),
        ("a negative length", with(8, &[0xff])),
        ("a negative magic", with(16, &[0x80])),
    ] {
        assert!(Frame::decode(&front).is_err(), "{what}");
        assert!(BatchHeader::decode(&front).is_err(), "{what}");
    }
    for (what, header) in [
        ("one byte too short", batch[..60].to_vec()),
        ("smaller than its header", with(8, &[0, 0, 0, 48])),
        (
            "a last offset over i64::MAX",
            with(0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
    ] {
        assert!(Frame::decode(&header).is_ok(), "{what}");
        assert!(BatchHeader::decode(&header).is_err(), "{what}");
    }
}

#[test]
fn the_last_offset_may_be_the_highest_there_is() {
    let mut batch = bytes(PLAIN);
    stamp(&mut batch, MAX_OFFSET - 2, 0);
    assert_eq!(BatchHeader::decode(&batch).unwrap().last_offset, MAX_OFFSET);
    batch[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(
        BatchHeader::decode(&batch).is_err(),
        "one that reaches beyond it"
    );
    stamp(&mut batch, 5, 0);
    let header = BatchHeader::decode(&batch).unwrap();
    assert_eq!(
        header.last_offset,
        5 + u64::from(i32::MAX.unsigned_abs()),
        "a batch of 2^31 offsets"
    );
}

/// `a`, without key, at offset delta 0, and the same at 1.
const TWO_RECORDS: [u8; 16] = [14, 0, 0, 0, 1, 2, b'a', 0, 14, 0, 0, 2, 1, 2, b'a', 0];

#[test]
fn counts_that_are_wrong_come_out_at_the_end() {
    assert_eq!(records(&batch_of(2, &TWO_RECORDS)).unwrap().len(), 2);
    for count in [0, 1, 3, 1_000_000, i32::MAX.cast_unsigned()] {
        let out = visit(&batch_of(count, &TWO_RECORDS));
        let (last, good) = out.split_last().unwrap();
        assert!(
            last.is_err() && good.iter().all(Result::is_ok),
            "{count}: {out:?}"
        );
        assert_eq!(good.len(), count.min(2) as usize);
    }
}

#[test]
fn a_malformed_record_does_not_take_the_next_with_it() {
    let mut payload = TWO_RECORDS;
    payload[5] = 4; // The value of the first now takes the header count, too.
    let out = visit(&batch_of(2, &payload));
    assert!(matches!(&out[..], [Err(_), Ok((11, ..))]), "{out:?}");
    payload[0] = 0xfc; // With no end to the first there is no second.
    assert!(matches!(&visit(&batch_of(2, &payload))[..], [Err(_)]));
}

#[test]
fn offsets_outside_the_batch_are_malformed() {
    for delta in [1, 4, 0x7e] {
        let mut payload = TWO_RECORDS;
        payload[11] = delta;
        assert!(records(&batch_of(2, &payload)).is_err(), "{delta}");
    }
}

#[test]
fn what_cannot_be_in_a_batch_leaves_it_as_it_was() {
    let mut builder = BatchBuilder::new(vec![1; 100], Compression::None);
    assert_eq!(
        (
            builder.record_count(),
            builder.len_bytes(),
            builder.max_timestamp()
        ),
        (0, HEADER_BYTES, -1)
    );
    builder.push(&("k1", "v1").into(), T).unwrap();
    let before = (
        builder.record_count(),
        builder.len_bytes(),
        builder.max_timestamp(),
    );
    assert_eq!(before, (1, HEADER_BYTES + 11, T));
    assert!(
        builder
            .push(&Record::new("v").timestamp(Timestamp::from_millis(-1)), T)
            .is_err()
    );
    assert!(builder.push(&Record::new("v"), -1).is_err());
    let mebibyte = vec![0; 1 << 20];
    let header = (
        Cow::Borrowed(&b"same again"[..]),
        Some(Cow::Borrowed(&*mebibyte)),
    );
    let large = Record {
        headers: vec![header; 2_047],
        ..Record::new(&mebibyte[..1 << 19])
    };
    let over = Record {
        headers: vec![large.headers[0].clone(); 2_048],
        ..Record::default()
    };
    assert!(builder.push(&over, T).is_err(), "2 GiB and a little");
    assert_eq!(
        (
            builder.record_count(),
            builder.len_bytes(),
            builder.max_timestamp()
        ),
        before
    );
    assert_eq!(
        builder.finish(&TopicSettings::default()).unwrap(),
        built(&[("k1", "v1").into()])
    );
    assert!(
        BatchBuilder::new(Vec::new(), Compression::None)
            .finish(&TopicSettings::default())
            .is_err(),
        "no record"
    );
}

#[test]
fn a_warm_buffer_is_used_again() {
    let mut buffer = Vec::with_capacity(4_096);
    let place = buffer.as_ptr();
    for _ in 0..3 {
        let mut builder = BatchBuilder::new(buffer, Compression::None);
        for _ in 0..100 {
            builder.push(&("key", "value").into(), T).unwrap();
        }
        buffer = builder.finish(&TopicSettings::default()).unwrap();
        assert_eq!(buffer.as_ptr(), place);
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    let long = (any::<u8>(), 60..20_000_usize).prop_map(|(byte, length)| vec![byte; length]);
    option::of(prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => long])
}

fn any_record() -> impl Strategy<Value = Record<'static>> {
    let timestamp = option::of(prop_oneof![0..=i64::MAX, T - 100..T + 20_000]);
    (
        any_bytes(),
        any_bytes(),
        vec((vec(any::<u8>(), 0..8), any_bytes()), 0..4),
        timestamp,
    )
        .prop_map(|(key, value, headers, timestamp)| {
            let mut record = Record::new(value).key(key);
            for (name, value) in headers {
                record = record.header_bytes(name, value);
            }
            Record {
                timestamp: timestamp.map(Timestamp::from_millis),
                ..record
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn what_is_appended_is_decoded(appended in vec(any_record(), 1..100), base in 0..=i64::MAX.cast_unsigned() - 100) {
        let mut batch = built(&appended);
        stamp(&mut batch, base, 3);
        let header = BatchHeader::decode(&batch).unwrap();
        prop_assert!(header.crc_is_valid(&batch));
        let decoded = records(&batch).unwrap();
        prop_assert_eq!(header.max_timestamp, decoded.iter().map(|record| record.1).max().unwrap());
        prop_assert_eq!(header.last_offset, decoded.last().unwrap().0);
        let expected: Vec<Owned> = appended.into_iter().zip(base..).map(|(record, offset)| {
            let own = |bytes: Option<Cow<'_, [u8]>>| bytes.map(Cow::into_owned);
            let headers = record.headers.into_iter().map(|(name, value)| (name.into_owned(), own(value))).collect();
            (offset, record.timestamp.map_or(T, Timestamp::as_millis), own(record.key), own(record.value), headers)
        }).collect();
        prop_assert_eq!(decoded, expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(count in 0..50_u32, payload in vec(prop_oneof![any::<u8>(), 0..16_u8], 0..300)) {
        let out = visit(&batch_of(count, &payload));
        prop_assert!(out.len() <= count as usize + 1);
    }

    #[test]
    fn a_damaged_payload_is_decoded_or_refused(at in 0..32_usize, new in any::<u8>()) {
        let mut batch = bytes(PLAIN);
        batch[HEADER_BYTES + at] = new;
        prop_assert!(visit(&batch).len() <= 4);
    }

    #[test]
    fn any_header_is_decoded_or_refused(mut front in vec(any::<u8>(), 0..100), small in any::<bool>()) {
        if small && front.len() > 61 {
            (front[0], front[8], front[9], front[16], front[22], front[23], front[57]) = (0, 0, 0, 2, 0, 0x7f, 0);
        }
        if let Ok(header) = BatchHeader::decode(&front) {
            prop_assert!(header.base_offset <= header.last_offset && header.last_offset <= MAX_OFFSET);
            prop_assert!(header.size_bytes as usize >= HEADER_BYTES || header.magic < 2);
            let _ = (header.crc_is_valid(&front), header.last_sequence(), header.delete_horizon());
        }
    }
}
