//! Values that can be appended, their encoding, and bytes that are not a record.
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "the tests pass each type that callers may pass"
)]

use std::time::{Duration, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;

use super::decode::LOOK_AHEAD_BYTES;
use super::encode::{MAX_BYTES, encode_any, encode_plain};
use super::*;
use crate::format::varint;

fn value_of<'a>(record: impl Into<Record<'a>>) -> Option<Vec<u8>> {
    let record = record.into();
    assert_eq!(record.key, None);
    record.value.map(Cow::into_owned)
}

fn pair_of<'a>(record: impl Into<Record<'a>>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let record = record.into();
    (
        record.key.map(Cow::into_owned),
        record.value.map(Cow::into_owned),
    )
}

fn count<'a, R: Into<Record<'a>>>(records: impl IntoIterator<Item = R>) -> usize {
    records
        .into_iter()
        .map(Into::into)
        .filter(|record: &Record<'_>| record.value.is_some())
        .count()
}

#[test]
fn every_byte_type_and_option_converts_to_a_record() {
    let (text, bytes) = (String::from("abc"), b"abc".to_vec());
    let (slice, three): (&[u8], &&str) = (&bytes, &"abc");
    for value in [
        value_of("abc"),
        value_of(three),
        value_of(&text),
        value_of(text.clone()),
        value_of(slice),
        value_of(&slice),
        value_of(b"abc"),
        value_of(*b"abc"),
        value_of(&bytes),
        value_of(bytes.clone()),
        value_of(Cow::Borrowed("abc")),
        value_of(Cow::from(text.clone())),
        value_of(Cow::Borrowed(slice)),
        value_of(&Cow::Borrowed(slice)),
        value_of(&Cow::Borrowed("abc")),
        value_of(Box::<str>::from("abc")),
        value_of(&Box::<[u8]>::from(slice)),
        value_of(Some("abc")),
        value_of(Some(&bytes)),
    ] {
        assert_eq!(value.as_deref(), Some(slice));
    }
    assert_eq!(value_of(None::<&str>), None);
    assert_eq!(value_of(None::<Vec<u8>>), None);
    assert_eq!(value_of(""), Some(Vec::new()), "empty is not null");
}

#[test]
fn a_pair_converts_to_a_record_with_key_and_value() {
    let (text, bytes) = (String::from("v"), b"v".to_vec());
    let slice: &[u8] = &bytes;
    let both = (Some(b"k".to_vec()), Some(b"v".to_vec()));
    assert_eq!(pair_of(("k", &text)), both);
    assert_eq!(pair_of((Some("k"), slice)), both);
    assert_eq!(pair_of((String::from("k"), bytes.clone())), both);
    assert_eq!(pair_of((b"k", slice)), both);
    assert_eq!(pair_of(&("k", text.clone())), both);
    assert_eq!(pair_of((None::<&str>, "v")), (None, Some(b"v".to_vec())));
    assert_eq!(pair_of(("k", None::<&[u8]>)), (Some(b"k".to_vec()), None));
}

#[test]
fn iterators_of_many_kinds_yield_records() {
    let lines: &[&str] = &["a", "b"];
    let pairs = vec![(b"k".to_vec(), b"v".to_vec()); 2];
    let records = [Record::new("a"), Record::new("b")];
    assert_eq!(count(lines), 2);
    assert_eq!(count(&["x"; 2]), 2);
    assert_eq!(count(["x"; 2]), 2);
    assert_eq!(count("x\ny".lines()), 2);
    assert_eq!(count(pairs.iter().map(|(k, v)| (k, v))), 2);
    assert_eq!(count(&pairs), 2);
    assert_eq!(count(&records), 2);
    assert_eq!(
        count(records.iter().filter(|record| record.key.is_none())),
        2
    );
    assert_eq!(count(records), 2);
}

#[test]
fn a_callers_own_types_convert_to_records() {
    struct Reading(u8);
    impl<'a> IntoBytes<'a> for Reading {
        fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
            Some(vec![self.0].into())
        }
    }
    struct Order<'a>(&'a str);
    impl<'a> From<Order<'a>> for Record<'a> {
        fn from(order: Order<'a>) -> Self {
            Record::new(order.0).header("type", "order")
        }
    }
    assert_eq!(
        pair_of(("sensor", Reading(7))),
        (Some(b"sensor".to_vec()), Some(vec![7]))
    );
    assert_eq!(value_of(Reading(7)), Some(vec![7]));
    assert_eq!(
        Record::from(Order("paid")),
        Record::new("paid").header("type", "order")
    );
}

#[test]
fn a_borrowed_and_an_owned_copy_equal_the_record() {
    let value = String::from("v");
    let record = Record::new(&value)
        .key(Some("k"))
        .header("a", None::<&str>)
        .header(String::from("a"), b"2")
        .timestamp(UNIX_EPOCH + Duration::from_millis(7));
    let again = Record::from(&record);
    assert_eq!(again, record);
    assert!(matches!(
        (&again.value, &again.headers[1].1),
        (Some(Cow::Borrowed(_)), Some(Cow::Borrowed(_)))
    ));
    assert_eq!(record.timestamp, Some(Timestamp::from_millis(7)));
    let owned: Record<'static> = record.clone().into_owned();
    assert_eq!(owned, record);
    assert_eq!(Record::tombstone("k"), Record::new(None::<&str>).key("k"));
}

/// The example comes from the head of `record/mod.rs`.
#[test]
fn the_documented_example_encodes_and_decodes() {
    let bytes = [0x14, 0, 0, 0, 0x04, b'k', b'1', 0x04, b'v', b'1', 0];
    let mut out = Vec::new();
    encode(&mut out, 0, 0, Record::from(("k1", "v1")).parts()).unwrap();
    assert_eq!(out, bytes);
    let (record, size) = split_first(&bytes).unwrap();
    let fields = decode(record).unwrap();
    assert_eq!(
        (size, fields.key, fields.value),
        (bytes.len(), Some(&b"k1"[..]), Some(&b"v1"[..]))
    );
}

#[test]
fn malformed_records_are_refused() {
    let cases: [(&str, &[u8]); 13] = [
        ("no bytes", &[]),
        ("no deltas", &[0]),
        (
            "a timestamp delta of 11 groups",
            &[
                0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 1, 1, 0,
            ],
        ),
        (
            "an offset delta of 6 groups",
            &[0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 1, 0],
        ),
        ("no length of the key", &[0, 0, 0]),
        ("a key longer than the record", &[0, 0, 0, 8, b'k', 1, 0]),
        (
            "a key of 2^31 - 1 bytes",
            &[0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0],
        ),
        ("a value longer than the record", &[0, 0, 0, 1, 6, b'v', 0]),
        ("no count of headers", &[0, 0, 0, 1, 1]),
        ("-1 headers", &[0, 0, 0, 1, 1, 1]),
        (
            "a count of 2^31 - 1 headers without headers",
            &[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
        ),
        ("a header with a null name", &[0, 0, 0, 1, 1, 2, 1, 1]),
        ("a byte after the last header", &[0, 0, 0, 1, 1, 0, 0]),
    ];
    for (fault, record) in cases {
        assert!(decode(record).is_err(), "{fault}");
    }
    for (fault, records) in [
        ("no length", &[][..]),
        ("a negative length", &[1, 0, 0, 0, 1, 1, 0]),
        ("a length beyond the end", &[14, 0, 0, 0, 1, 1, 0]),
        ("a length of 2^31 - 1", &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0]),
    ] {
        assert!(split_first(records).is_err(), "{fault}");
    }
}

#[test]
fn the_decoder_accepts_the_odd_records_that_kafka_accepts() {
    let fields = decode(&[0x7f, 0, 0, 3, 5, 0]).unwrap();
    assert_eq!(
        (fields.key, fields.value),
        (None, None),
        "lengths below -1 are null, attributes are ignored"
    );
    let fields = decode(&[
        0, 0x82, 0x00, 0x82, 0x80, 0x00, 0x82, 0x00, b'k', 0x81, 0x80, 0x00, 0x80, 0x00,
    ])
    .unwrap();
    assert_eq!(
        (fields.timestamp_delta, fields.offset_delta),
        (1, 1),
        "varints need not be minimal"
    );
    assert_eq!(
        (fields.key, fields.value, fields.headers.count()),
        (Some(&b"k"[..]), None, 0)
    );
}

#[test]
fn headers_keep_their_order_and_repeated_names() {
    let record = Record::new("")
        .header("b", "1")
        .header("a", None::<&str>)
        .header("b", "")
        .header("", "4");
    let mut out = Vec::new();
    encode(&mut out, 0, 0, record.parts()).unwrap();
    let headers = decode(split_first(&out).unwrap().0).unwrap().headers;
    assert_eq!(headers.len(), 4);
    let shown: Vec<_> = headers
        .map(|header| (header.name(), header.value()))
        .collect();
    let expected: [(&str, Option<&[u8]>); 4] = [
        ("b", Some(b"1")),
        ("a", None),
        ("b", Some(b"")),
        ("", Some(b"4")),
    ];
    assert_eq!(
        shown,
        expected.map(|(name, value)| (Cow::Borrowed(name), value))
    );
}

#[test]
fn get_returns_the_last_header_with_the_name() {
    let record = Record::new("")
        .header("b", "1")
        .header("a", None::<&str>)
        .header("b", "2")
        .header_bytes(b"\xff", "3");
    let mut out = Vec::new();
    encode(&mut out, 0, 0, record.parts()).unwrap();
    let headers = decode(split_first(&out).unwrap().0).unwrap().headers;
    assert_eq!(headers.get("b").unwrap().value(), Some(&b"2"[..]));
    assert_eq!(headers.get("a").unwrap().value(), None);
    assert_eq!(headers.get(b"\xff").unwrap().value(), Some(&b"3"[..]));
    assert_eq!(headers.get("c"), None);
}

#[test]
fn a_header_name_may_be_any_bytes() {
    let latin1: &[u8] = b"caf\xe9";
    let record = Record::new("v").header_bytes(latin1, "1").into_owned();
    let mut out = Vec::new();
    encode(&mut out, 0, 0, record.parts()).unwrap();
    let header = decode(split_first(&out).unwrap().0)
        .unwrap()
        .headers
        .next()
        .unwrap();
    assert_eq!(
        (header.name_bytes(), header.name().as_ref()),
        (latin1, "caf\u{fffd}")
    );
    assert_eq!(
        format!("{header:?}"),
        r#"Header { name: b"caf\xe9", value: "1" }"#
    );
}

proptest! {
    /// The quick decoder may decline a record, but must not decode it differently.
    #[test]
    fn the_quick_decoder_agrees_with_the_full_one(
        front in vec(prop_oneof![0..4_u8, 0x7c..0x84_u8, any::<u8>()], 3..8),
        key in prop_oneof![0..4_u8, any::<u8>()],
        lengths in (0..80_usize, 0..300_usize),
        cut in -2..3_isize,
    ) {
        let mut record = front;
        record.push(key);
        record.resize(record.len() + lengths.0, b'k');
        varint::write_length(&mut record, lengths.1);
        record.resize(record.len() + lengths.1, b'v');
        record.push(0);
        record.resize(record.len().saturating_add_signed(cut), 0);
        let mut records = Vec::new();
        varint::write_length(&mut records, record.len());
        records.extend(&record);
        records.extend(&record);
        let slow = split_first(&records).and_then(|(record, size)| Ok((decode(record)?, size)));
        match (decode_first_plain(&records), slow) {
            (None, _) => {}
            (Some((quick, quick_size)), Ok((slow, size))) => {
                prop_assert_eq!((quick.timestamp_delta, quick.offset_delta), (slow.timestamp_delta, slow.offset_delta));
                prop_assert_eq!((quick.key, quick.value, quick_size), (slow.key, slow.value, size));
                prop_assert_eq!(slow.headers.len(), 0);
            }
            (Some(_), Err(malformed)) => prop_assert!(false, "{}", malformed),
        }
    }
}

/// Tries deltas of one to three bytes, and null keys and values.
#[test]
fn the_quick_decoder_accepts_the_common_records() {
    for delta in [0, 1, -1, 63, -64, 64, 8_191, -8_192, 8_192, 1_000_000] {
        for offset_delta in [0, 63, 64, 8_191] {
            for record in [
                ("key", "v").into(),
                Record::new("v"),
                Record::tombstone("k"),
                ("k", vec![7; 20_000]).into(),
            ] {
                let mut out = Vec::new();
                encode(&mut out, delta, offset_delta, record.parts()).unwrap();
                let size_bytes = out.len();
                out.resize(size_bytes + LOOK_AHEAD_BYTES, 1);
                let (fields, size) = decode_first_plain(&out).unwrap();
                assert_eq!(
                    (fields.timestamp_delta, fields.offset_delta),
                    (delta, offset_delta.into())
                );
                assert_eq!(
                    (fields.key, fields.value, size),
                    (record.key.as_deref(), record.value.as_deref(), size_bytes)
                );
            }
        }
    }
}

proptest! {
    /// The quick encoder may decline a record, but must not encode it differently.
    #[test]
    fn the_quick_encoder_agrees_with_the_full_one(
        delta in prop_oneof![-70..70_i64, -10_000..10_000_i64, -2_000_000..2_000_000_i64, any::<i64>()],
        offset_delta in prop_oneof![0..70_u32, 0..10_000_u32, any::<u32>()],
        key in proptest::option::of(0..9_000_usize),
        value in proptest::option::of(prop_oneof![0..70_usize, 0..9_000_usize]),
    ) {
        let (key, value) = (key.map(|length| vec![b'k'; length]), value.map(|length| vec![b'v'; length]));
        let record = Record { key: key.map(Cow::Owned), value: value.map(Cow::Owned), ..Record::default() };
        let (mut quick, mut any) = (b"before".to_vec(), b"before".to_vec());
        encode_any(&mut any, delta, offset_delta, record.parts()).unwrap();
        let is_plain = encode_plain(&mut quick, delta, offset_delta, record.parts()).is_some();
        prop_assert_eq!(&*quick, if is_plain { &*any } else { &b"before"[..] });
        let is_key_short = record.key.as_ref().is_none_or(|key| key.len() < 64);
        let is_common = (-8_192..8_192).contains(&delta) && offset_delta < 8_192 && is_key_short;
        prop_assert!(is_plain || !is_common || any.len() > 8_192);
    }
}

proptest! {
    /// The bound exceeds the size by at most what the variable-length numbers can take.
    #[test]
    fn the_size_bound_is_close_to_the_encoded_size(
        delta in any::<i64>(),
        offset_delta in any::<u32>(),
        key in proptest::option::of(0..9_000_usize),
        value in proptest::option::of(0..9_000_usize),
        headers in vec((0..200_usize, proptest::option::of(0..200_usize)), 0..5),
    ) {
        let bytes = |length: usize| Cow::Owned(vec![b'b'; length]);
        let mut record = Record { key: key.map(bytes), value: value.map(bytes), ..Record::default() };
        record.headers = headers.iter().map(|(name, value)| (bytes(*name), value.map(bytes))).collect();
        let mut encoded = Vec::new();
        encode_any(&mut encoded, delta, offset_delta, record.parts()).unwrap();
        let slack = size_bound(&record).checked_sub(encoded.len());
        prop_assert!(slack.is_some_and(|slack| slack <= 32 + 10 * headers.len()), "{slack:?} beyond {}", encoded.len());
    }
}

/// The record is large in every part, so that the bound must count each of them.
#[test]
fn the_size_bound_counts_keys_values_and_headers() {
    let (name, bytes) = ("n".repeat(200), vec![7; 300]);
    let record = Record::new(&bytes)
        .key(&bytes)
        .header(&*name, &bytes)
        .header(&*name, None::<&str>);
    let mut encoded = Vec::new();
    encode(&mut encoded, i64::MAX, u32::MAX, record.parts()).unwrap();
    let slack = size_bound(&record).checked_sub(encoded.len());
    assert!(
        slack.is_some_and(|slack| slack <= 32 + 10 * 2),
        "{slack:?} beyond {}",
        encoded.len()
    );
}

#[test]
fn only_a_record_that_owns_nothing_becomes_its_parts() {
    let time = Timestamp::from_millis(7);
    let borrowed = Record::new("v").key("k").timestamp(time);
    let parts = borrowed.try_into_parts().unwrap();
    assert_eq!((parts.key, parts.value), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!((parts.headers.len(), parts.timestamp), (0, Some(time)));
    let parts = Record::tombstone("k").try_into_parts().unwrap();
    assert_eq!((parts.value, parts.timestamp), (None, None));

    let with_room = Record {
        headers: Vec::with_capacity(1),
        ..Record::new("v")
    };
    for owning in [
        Record::new("v").key("k".to_owned()),
        Record::new(b"v".to_vec()),
        Record::new("v").header("name", "value"),
        with_room,
    ] {
        let expected = owning.clone();
        assert_eq!(owning.try_into_parts().unwrap_err(), expected);
    }
}

/// The size of the record's own length field counts too.
#[test]
#[cfg_attr(miri, ignore = "2 GiB are too much for an interpreter")]
fn a_record_that_passes_the_largest_batch_by_a_byte_is_refused() {
    let record = Record::new("value").header("name", "x");
    let mut encoded = Vec::new();
    encode(&mut encoded, 0, 0, record.parts()).unwrap();
    let most = usize::try_from(MAX_BYTES).unwrap();
    let mut out = vec![0; most - encoded.len() + 1];
    assert!(
        encode(&mut out, 0, 0, record.parts()).is_err(),
        "one byte too many"
    );
    assert_eq!(out.len(), most - encoded.len() + 1);
}

#[test]
fn record_returns_and_shows_what_was_set() {
    let empty = Record::default();
    assert_eq!((empty.get_key(), empty.get_value()), (None, None));
    assert_eq!(empty.get_timestamp(), None);
    assert_eq!(
        format!("{empty:?}"),
        "Record { key: null, value: null }",
        "headers and a timestamp are shown only if they are set"
    );
    let time = Timestamp::from_millis(7);
    let record = Record::new("a value")
        .key("a key")
        .header("source", "shop")
        .timestamp(time);
    assert_eq!(record.get_key(), Some(&b"a key"[..]));
    assert_eq!(record.get_value(), Some(&b"a value"[..]));
    assert_eq!(record.get_timestamp(), Some(time));
    let shown = format!("{record:?}");
    for part in ["\"a key\"", "\"a value\"", "source", "shop", "timestamp"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
