//! Legacy message sets: vectors from Kafka, and malformed entries.

use proptest::prelude::*;

use super::*;
use crate::config::TopicSettings;
use crate::format::batch;

const T: i64 = 1_700_000_000_000;
const LIMIT: usize = 1 << 20;

// Kafka's own classes made these: (T, "k1", "v1") at offset 7, and a wrapper of that record and of
// (T + 1, "k2", "v2") at offset 8.
const V1: &str = "00000000000000070000001aa5da6a6201000000018bcfe56800000000026b31000000027631";
const V0: &str = "00000000000000070000001257e7496e0000000000026b31000000027631";
const V1_GZIP: &str = concat!(
    "00000000000000080000005528987c3c01010000018bcfe56801ffffffff0000003f1f8b08000000000000ff63608003a9a5b7b29218810cc6",
    "eef34f3340224cd98620b2cc10aa0224297561ed8f0370558c60554660554600fd75920d4c000000"
);

// A 2.8 broker wrote these.
const V0_GZIP: &str = concat!(
    "00000000000000780000003ed97a64700001ffffffff000000301f8b08000000000000ff636000837220e65bfe26839981e13f144024182a4032",
    "8fbb32ca18e00000e4c0437234000000"
);
/// The header checksum of its lz4 frame is computed in the old, wrong way.
const V0_LZ4: &str = concat!(
    "0000000000000042000000479c73ecf40003ffffffff0000003904224d1860401a2a00000012000100c3410000000ea7ec68030000ff01000219",
    "002000421a00e0e38a68760000000000000000000000000000"
);
const V0_SNAPPY: &str = concat!(
    "000000000000005b0000004c253f2afb0002ffffffff0000003e82534e415050590000000001000000010000002a34000009012c5a0000000ea7",
    "ec68030000ff0d01091904005b011a34e38a687600000000000000000000"
);
const V1_SNAPPY: &str = concat!(
    "00000000000000570000005dfc27e85801020000018bcfe56809ffffffff0000004782534e415050590000000001000000010000003344000019",
    "013c160c42b84001000000018bcfe56809ff0d010d2101191016dd0a32ab010934018bcfe568030000000000000000"
);
const V1_LZ4: &str = concat!(
    "000000000000005000000058870a200a01030000018bcfe56809ffffffff0000004204224d186040823300000016000100f301160c42b8400100",
    "0000018bcfe56809ff01000321000019005016dd0a32ab09000122009003000000000000000000000000"
);
/// After compaction, only offsets 170 and 173 are left.
const V1_WITH_HOLES: &str = concat!(
    "00000000000000ad0000009472c7764401010000018bcfe5ecd3ffffffff0000007e1f8b08000000000000ff63608003e735f7598418810cc6ee",
    "f34fdf5c0032d8b2532b758d0c802c7563138582c4f45485373bb7bc9dd2022415f2d3d28a534b1472521353528b603ca851cc40ec502e227315",
    "6edc65987186a640960ad0b8e2d4d46ca0994525992599f9790aa905f9c9191041a891003602eec69b000000"
);
/// Three records under `LogAppendTime`; their own timestamps differ from it.
const V1_APPEND_TIME: &str = concat!(
    "000000000000001900000116dbe6ed450109000001a208f0343dffffffff000001001f8b08000000000000ff63608083092bdd442f3372303030",
    "2ee2f860620b1461ca360092154945f9d9a9450a498925c9190ac5a9e9b9a979250a0589e9a90aa905f940a1f4a2fcd202a8747e5a5a716a0954",
    "02ac2627353105a83b393f3737b304aa2a2d154416a5962466e64154c18c856884c843ddc508c4738ad73f5a87e236e66c237320d59c9778787d",
    "59aa42726272462ad42510766e6e6201d0d8d46c980ba0ce8478e6cdce2d6fa7b40049982bc02ac14e29482c2ac92cc9cccf53809a0dd50fe541",
    "0dc8cc4b49ad806880ba930988a399779e0c470b431320e90cf137cc0830e7d9f4a5cfe6ac41091184abc006439d060d5300c3277b1cab010000"
);

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// Offset, timestamp, key and value.
type Plain = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn read(batch: &[u8]) -> Result<Vec<Plain>, Malformed> {
    let header = decode_header(batch)?;
    let inner = batch::decompressed(&header, batch, LIMIT)?;
    let mut cursor = LegacyCursor::new(&header, batch, inner.as_deref())?;
    let mut records = Vec::new();
    while let Some(record) = cursor.next(&header, batch, inner.as_deref()) {
        let RawRecord {
            offset,
            timestamp,
            key,
            value,
            headers,
        } = record?;
        assert_eq!(headers.len(), 0);
        records.push((
            offset,
            timestamp,
            key.map(<[u8]>::to_vec),
            value.map(<[u8]>::to_vec),
        ));
    }
    Ok(records)
}

fn record(offset: u64, timestamp: i64, key: &str, value: &str) -> Plain {
    (offset, timestamp, Some(key.into()), Some(value.into()))
}

/// Returns an entry with a right CRC. `timestamp` is used only in v1.
fn entry(
    offset: u64,
    magic: u8,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut checked = vec![magic, attributes];
    if magic > 0 {
        checked.extend(timestamp.to_be_bytes());
    }
    for field in [key, value] {
        checked.extend(
            field
                .map_or(-1, |field| i32::try_from(field.len()).unwrap())
                .to_be_bytes(),
        );
        checked.extend(field.unwrap_or_default());
    }
    let size = u32::try_from(checked.len() + 4).unwrap();
    [
        &offset.to_be_bytes()[..],
        &size.to_be_bytes(),
        &crc32(&checked).to_be_bytes(),
        &checked,
    ]
    .concat()
}

fn wrapper(offset: u64, magic: u8, attributes: u8, timestamp: i64, inner: &[u8]) -> Vec<u8> {
    let codec = compression::codec_of(u16::from(attributes)).unwrap();
    let mut value = Vec::new();
    compression::compress(codec, &TopicSettings::default(), inner, &mut value).unwrap();
    entry(offset, magic, attributes, timestamp, None, Some(&value))
}

fn inner(offset: u64, timestamp: i64) -> Vec<u8> {
    entry(offset, 1, 0, timestamp, Some(b"k"), Some(b"v"))
}

#[test]
fn a_header_decodes_from_exactly_its_own_bytes() {
    for (text, magic, timestamp, crc) in [(V0, 0, -1, 0x57e7_496e), (V1, 1, T, 0xa5da_6a62)] {
        let batch = hex(text);
        let expected = BatchHeader {
            base_offset: 7,
            last_offset: 7,
            stated_last_offset: 7,
            size_bytes: u32::try_from(batch.len()).unwrap(),
            magic,
            leader_epoch: -1,
            crc,
            attributes: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 1,
        };
        let needed = bytes_needed(magic);
        assert_eq!(decode_header(&batch), Ok(expected));
        assert_eq!(decode_header(&batch[..needed]), Ok(expected));
        assert_eq!(decode_header(&batch[..needed - 1]), Err(TRUNCATED));
    }
    let wrapper = decode_header(&hex(V1_APPEND_TIME)).unwrap();
    assert_eq!(
        (wrapper.base_offset, wrapper.last_offset, wrapper.attributes),
        (25, 25, 9)
    );
}

#[test]
fn unused_attributes_decode_as_0() {
    assert_eq!(
        decode_header(&entry(0, 0, 0xf8, T, None, None))
            .unwrap()
            .attributes,
        0
    );
    assert_eq!(
        decode_header(&entry(0, 1, 0xf8, T, None, None))
            .unwrap()
            .attributes,
        8
    );
}

#[test]
fn an_entry_with_an_unknown_codec_has_a_header_but_no_records() {
    let entry = entry(0, 1, 5, T, None, None);
    let header = decode_header(&entry).unwrap();
    assert_eq!(
        decompressed(&header, &entry, 1 << 20),
        Err(Malformed("a codec of a later version of Kafka"))
    );
    assert_eq!(
        records(&header, &entry, None).err(),
        Some(Malformed("a codec of a later version of Kafka"))
    );
}

#[test]
fn malformed_headers_are_refused() {
    let good = hex(V1);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode_header(&bytes)
    };
    assert!(with(0, 0x80).is_err(), "negative offset");
    assert_eq!(with(8, 0x80), Err(SIZE_TOO_SMALL));
    assert_eq!(with(11, 21), Err(SIZE_TOO_SMALL));
    assert!(with(11, 22).is_ok());
    assert!(with(16, 2).is_err(), "magic 2");
    assert!(with(16, 0xff).is_err(), "magic -1");
}

#[test]
fn the_crc_of_an_entry_detects_a_flipped_bit() {
    for text in [
        V0,
        V1,
        V1_GZIP,
        V0_GZIP,
        V0_LZ4,
        V0_SNAPPY,
        V1_SNAPPY,
        V1_LZ4,
        V1_WITH_HOLES,
        V1_APPEND_TIME,
    ] {
        let mut batch = hex(text);
        assert!(crc_is_valid(&batch));
        *batch.last_mut().unwrap() ^= 1;
        assert!(!crc_is_valid(&batch));
    }
    assert!(!crc_is_valid(&[]));
    assert!(!crc_is_valid(&[0; 15]));
}

#[test]
fn an_entry_that_is_not_a_wrapper_has_one_record() {
    assert_eq!(read(&hex(V0)), Ok(vec![record(7, -1, "k1", "v1")]));
    assert_eq!(read(&hex(V1)), Ok(vec![record(7, T, "k1", "v1")]));
    assert_eq!(
        read(&entry(3, 1, 0, -1, Some(b""), None)),
        Ok(vec![(3, -1, Some(vec![]), None)])
    );
    let mut very_null = entry(3, 0, 0, 0, None, None);
    very_null[18..26].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(
        read(&very_null),
        Ok(vec![(3, -1, None, None)]),
        "any negative length is null"
    );
}

#[test]
fn wrappers_that_brokers_wrote_are_accepted() {
    let nulls = |first, timestamps: [i64; 2]| {
        Ok(vec![
            (first, timestamps[0], None, None),
            (first + 1, timestamps[1], Some(vec![]), Some(vec![])),
        ])
    };
    assert_eq!(
        read(&hex(V1_GZIP)),
        Ok(vec![record(7, T, "k1", "v1"), record(8, T + 1, "k2", "v2")])
    );
    assert_eq!(read(&hex(V0_GZIP)), nulls(119, [-1, -1]));
    assert_eq!(read(&hex(V0_LZ4)), nulls(65, [-1, -1]));
    assert_eq!(read(&hex(V0_SNAPPY)), nulls(90, [-1, -1]));
    assert_eq!(read(&hex(V1_SNAPPY)), nulls(86, [T + 9, T + 3]));
    assert_eq!(read(&hex(V1_LZ4)), nulls(79, [T + 9, T + 3]));
    let with_holes = read(&hex(V1_WITH_HOLES)).unwrap();
    assert_eq!(with_holes.len(), 2);
    assert_eq!((with_holes[0].0, with_holes[0].1), (170, T + 34_000));
    assert_eq!(
        with_holes[1],
        record(
            173,
            T + 34_003,
            "key-15",
            "34 seek partition epoch seek leader "
        )
    );
    let append_time = read(&hex(V1_APPEND_TIME)).unwrap();
    let places: Vec<_> = append_time
        .iter()
        .map(|&(offset, timestamp, ..)| (offset, timestamp))
        .collect();
    assert_eq!(
        places,
        [
            (23, 1_795_446_289_469),
            (24, 1_795_446_289_469),
            (25, 1_795_446_289_469)
        ]
    );
}

#[test]
fn a_dump_shows_the_fields_of_each_inner_entry() {
    let batch = hex(V1_APPEND_TIME);
    let header = decode_header(&batch).unwrap();
    let inner = decompressed(&header, &batch, LIMIT).unwrap();
    let found: Vec<_> = records(&header, &batch, inner.as_deref())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for record in &found {
        assert!(record.crc_is_valid());
        assert_eq!((record.magic, record.timestamp), (1, 1_795_446_289_469));
    }
    let crcs: Vec<_> = found
        .iter()
        .map(|record| (record.offset, record.crc, record.key.unwrap()))
        .collect();
    assert_eq!(
        crcs,
        [
            (23, 2_839_942_611, &b"k0"[..]),
            (24, 1_940_906_670, b"k27"),
            (25, 62_507_351, b"k4")
        ]
    );

    let mut plain = hex(V0);
    let header = decode_header(&plain).unwrap();
    plain[29] ^= 1;
    let found: Vec<_> = records(&header, &plain, None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        (found.len(), found[0].crc, found[0].crc_is_valid()),
        (1, 0x57e7_496e, false)
    );
}

#[test]
fn inner_offsets_are_resolved_from_the_last_one_in_v1() {
    let set = [inner(0, T), inner(2, T + 5)].concat();
    let offsets = |batch: &[u8]| {
        Ok(read(batch)?
            .iter()
            .map(|record| record.0)
            .collect::<Vec<_>>())
    };
    assert_eq!(offsets(&wrapper(100, 1, 1, T, &set)), Ok(vec![98, 100]));
    assert_eq!(offsets(&wrapper(2, 1, 1, T, &set)), Ok(vec![0, 2]));
    assert_eq!(
        offsets(&wrapper(0, 1, 1, T, &set)),
        Ok(vec![0, 2]),
        "absolute in a wrapper at offset 0"
    );
    assert_eq!(
        offsets(&wrapper(1, 1, 1, T, &set)),
        Err(Malformed(
            "offset of a compressed message set is below its last message's"
        ))
    );
    assert_eq!(
        offsets(&wrapper(100, 0, 1, T, &set)),
        Ok(vec![0, 2]),
        "absolute in v0"
    );
    let at_the_end = [inner(u64::MAX >> 1, T), inner(0, T)].concat();
    assert_eq!(
        offsets(&wrapper(100, 1, 1, T, &at_the_end)),
        Err(Malformed("offset of a message is too large"))
    );
}

#[test]
fn records_have_the_wrappers_timestamp_under_log_append_time() {
    let set = [inner(0, T - 9), entry(1, 0, 0, 0, None, None)].concat();
    let timestamps = |attributes| {
        read(&wrapper(1, 1, attributes, T, &set))
            .unwrap()
            .iter()
            .map(|r| r.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(timestamps(1), [T - 9, -1]);
    assert_eq!(
        timestamps(1 | LOG_APPEND_TIME),
        [T, -1],
        "v0 records have no timestamp, even in this wrapper"
    );
}

#[test]
fn malformed_inner_sets_are_refused() {
    let good = inner(0, T);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let too_small = [&[0; 8][..], &[0, 0, 0, 13], &[0; 13]].concat();
    let size_too_small = [good.clone(), too_small].concat();
    let negative_offset = entry(1 << 63, 1, 0, T, None, None);
    let compressed_again = wrapper(0, 1, 1, T, &good);
    for (set, why) in [
        (&b""[..], "compressed message set without a message"),
        (
            &good[..good.len() - 1],
            "compressed message set without a message",
        ),
        (
            &damaged,
            "CRC of a message inside a compressed message set does not match",
        ),
        (&size_too_small, "size of a message is too small"),
        (&negative_offset, "negative offset of a message"),
        (
            &compressed_again,
            "compressed message set inside a compressed one",
        ),
        (
            &entry(0, 2, 0, T, None, None),
            "magic of a message set is neither 0 nor 1",
        ),
    ] {
        assert_eq!(read(&wrapper(100, 1, 1, T, set)), Err(Malformed(why)));
    }
    assert_eq!(
        read(&entry(100, 1, 1, T, None, None)),
        Err(Malformed("compressed message set without a value"))
    );
    assert!(read(&entry(100, 1, 1, T, None, Some(b"not gzip"))).is_err());
    let mut zstd = wrapper(100, 1, 1, T, &good);
    zstd[17] = 4;
    assert_eq!(
        read(&zstd),
        Err(Malformed(
            "zstd in a message set older than record batches v2"
        ))
    );
}

#[test]
fn a_cut_entry_at_the_end_of_an_inner_set_is_ignored() {
    for cut in [1, 11, 12, 30] {
        let set = [&inner(0, T)[..], &inner(1, T)[..cut]].concat();
        assert_eq!(
            read(&wrapper(100, 1, 1, T, &set)),
            Ok(vec![record(100, T, "k", "v")])
        );
    }
}

#[test]
fn iteration_ends_after_an_error() {
    let good = inner(0, T);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let batch = wrapper(100, 1, 1, T, &[&good[..], &damaged, &good].concat());
    let header = decode_header(&batch).unwrap();
    let set = decompressed(&header, &batch, LIMIT).unwrap();
    let mut cursor = LegacyCursor::new(&header, &batch, set.as_deref()).unwrap();
    assert!(
        cursor
            .next(&header, &batch, set.as_deref())
            .unwrap()
            .is_ok()
    );
    assert!(
        cursor
            .next(&header, &batch, set.as_deref())
            .unwrap()
            .is_err()
    );
    assert!(cursor.next(&header, &batch, set.as_deref()).is_none());
}

#[test]
fn a_wrapper_without_its_decompressed_set_is_refused() {
    let batch = hex(V1_GZIP);
    let header = decode_header(&batch).unwrap();
    assert!(LegacyCursor::new(&header, &batch, None).is_err());
    assert_eq!(
        decompressed(&header, &batch, 10),
        Err(compression::TOO_LARGE)
    );
}

proptest! {
    #[test]
    fn reading_any_bytes_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in 0_u8..3) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.get_mut(16) {
            *byte = magic;
        }
        if read(&bytes).is_ok() {
            prop_assert!(decode_header(&bytes).is_ok());
        }
        prop_assert!(bytes.len() >= 20 || !crc_is_valid(&bytes));
        let header = decode_header(&hex(V1_GZIP)).unwrap();
        if let Ok(records) = records(&header, &[], Some(&bytes)) {
            prop_assert!(records.count() <= bytes.len());
        }
    }

    #[test]
    fn reading_damaged_entries_does_not_panic(sample in 0_usize..6, at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut batch = hex([V0, V1, V1_GZIP, V0_LZ4, V0_SNAPPY, V1_WITH_HOLES][sample]);
        let at = at.index(batch.len());
        batch[at] = byte;
        if let Ok(records) = read(&batch) {
            prop_assert!(records.len() <= 2);
        }
    }

    #[test]
    fn wrappers_round_trip(
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)), 1..20),
        base in 1_u64..1 << 40,
        codec in 1_u8..4,
    ) {
        let entries: Vec<_> =
            values.iter().zip(0..).map(|(value, n)| entry(n, 1, 0, T, None, value.as_deref())).collect();
        let last = base + u64::try_from(values.len()).unwrap() - 1;
        let expected: Vec<_> = values.into_iter().zip(base..).map(|(value, offset)| (offset, T, None, value)).collect();
        prop_assert_eq!(read(&wrapper(last, 1, codec, T, &entries.concat())), Ok(expected));
    }
}

#[test]
fn an_entry_with_too_small_a_size_is_malformed_and_not_just_cut() {
    let mut entry = entry(0, 0, 0, 0, None, None);
    assert!(matches!(next_entry(&entry, 0), Some(Ok(whole)) if whole == entry));
    assert!(
        next_entry(&entry[..entry.len() - 1], 0).is_none(),
        "the end is missing"
    );
    entry[11] -= 1;
    assert!(matches!(
        next_entry(&entry[..20], 0),
        Some(Err(SIZE_TOO_SMALL))
    ));
}
