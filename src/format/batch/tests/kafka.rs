//! Batches that Kafka's own classes made, decoded and encoded byte for byte.

use super::*;

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

#[test]
fn a_plain_batch_has_kafkas_bytes() {
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
    assert!(!header.is_transactional());
    assert!(!header.is_control());
    assert!(!header.has_producer());
    assert_eq!(
        (header.delete_horizon(), header.last_sequence()),
        (None, -1)
    );
}

#[test]
fn the_documented_example_has_kafkas_bytes() {
    let example = "0000000000000000 0000003c 00000000 02 6ba48e85 0000 00000000 0000018bcfe56800 0000018bcfe56800 \
        ffffffffffffffff ffff ffffffff 00000001 14000000046b3104763100";
    assert_eq!(
        built(&[("k1", "v1").into()]),
        bytes(&example.replace(' ', ""))
    );
}

#[test]
fn a_transactional_batch_has_kafkas_bytes() {
    let (header, records) = checked(TRANSACTIONAL_BATCH);
    assert_eq!(records, [simple(100, T, "k1", "v1")]);
    assert!(header.is_transactional());
    assert!(!header.is_control());
    assert!(header.has_producer());
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
fn a_log_append_time_batch_has_kafkas_bytes_and_one_timestamp() {
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
    assert_eq!(batch, bytes(APPEND_TIME), "the same after a second stamp");
}

#[test]
fn compressed_batches_are_read_and_built() {
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
        assert!(header.crc_is_valid(&ours));
        assert_eq!(header.codec(), Ok(codec));
        assert!(ours.capacity() >= 1 << 10, "it is the caller's buffer");
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
            "{codec:?}: one record too many"
        );
        let more = BatchHeader {
            record_count: 3,
            last_offset: 2,
            ..header
        };
        more.write(&mut batch);
        assert!(
            self::records(&batch).is_err(),
            "{codec:?}: one record too few"
        );
    }
}

#[test]
fn control_batches_are_decoded() {
    for (hex, key) in [(COMMIT, [0, 0, 0, 1]), (ABORT, [0, 0, 0, 0])] {
        let (header, records) = checked(hex);
        assert!(header.is_control());
        assert!(header.is_transactional());
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
fn compacted_batches_are_decoded_and_an_empty_one_is_encoded() {
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
