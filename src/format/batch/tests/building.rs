//! Building batches, numbering them, and random batches.

use std::borrow::Cow;

use proptest::option;

use super::*;

#[test]
fn stamping_offset_and_epoch_keeps_the_checksum() {
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
fn records_that_a_codec_makes_larger_stay_uncompressed() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new(Vec::new(), codec);
        builder.push(&("k", "v").into(), T).unwrap();
        // A codec that is not part of the build is refused.
        let Ok(batch) = builder.finish(&TopicSettings::default()) else {
            continue;
        };
        assert_eq!(batch, built(&[("k", "v").into()]), "{codec:?}");
    }
}

#[test]
fn batch_of_a_transaction_is_marked_as_part_of_it() {
    let producer = ProducerStamp {
        id: 7,
        epoch: 1,
        sequence: 4,
    };
    let built = |set: fn(&mut BatchBuilder)| {
        let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
        builder.push(&Record::from(("k", "v")), T).unwrap();
        builder.set_producer(producer);
        set(&mut builder);
        builder.finish(&TopicSettings::default()).unwrap()
    };
    let kinds = |batch: &[u8]| {
        let header = BatchHeader::decode(batch).unwrap();
        assert!(header.crc_is_valid(batch));
        (header.is_transactional(), header.is_control())
    };
    let mut plain = built(|_| {});
    assert_eq!(kinds(&plain), (false, false));
    let transactional = built(BatchBuilder::set_transactional);
    assert_eq!(kinds(&transactional), (true, false));
    assert_eq!(kinds(&built(BatchBuilder::set_marker)), (true, true));

    for _ in 0..2 {
        stamp_transactional(&mut plain);
        stamp_producer(&mut plain, producer);
        assert_eq!(plain, transactional, "stamped after it was built");
    }
}

#[test]
fn the_builder_returns_its_codec() {
    for codec in [Compression::None, Compression::Zstd] {
        assert_eq!(BatchBuilder::new(Vec::new(), codec).compression(), codec);
    }
}

#[test]
fn a_refused_record_leaves_the_batch_unchanged() {
    let mut builder = BatchBuilder::new(vec![1; 100], Compression::None);
    assert_eq!(
        (builder.record_count(), builder.len_bytes()),
        (0, HEADER_BYTES)
    );
    builder.push(&("k1", "v1").into(), T).unwrap();
    let before = (builder.record_count(), builder.len_bytes());
    assert_eq!(before, (1, HEADER_BYTES + 11));
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
    assert_eq!((builder.record_count(), builder.len_bytes()), before);
    assert_eq!(
        builder.finish(&TopicSettings::default()).unwrap(),
        built(&[("k1", "v1").into()])
    );
    assert!(
        BatchBuilder::new(Vec::new(), Compression::None)
            .finish(&TopicSettings::default())
            .is_err(),
        "a batch without records"
    );
}

#[test]
fn a_buffer_with_enough_capacity_is_reused() {
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
    fn built_batches_round_trip(appended in vec(any_record(), 1..100), base in 0..=i64::MAX.cast_unsigned() - 100) {
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
