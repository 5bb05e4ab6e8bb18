//! Batches that are to be appended as they are.

use super::*;
use crate::format::compression::codecs;

/// Returns a batch of two records, changed by `change`, with the right checksum.
fn changed(change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut batch = built(&[Record::from(("k", "a")), Record::from(("k", "b"))]);
    let mut header = BatchHeader::decode(&batch).unwrap();
    change(&mut header);
    header.write(&mut batch);
    batch
}

/// Accepts every record without a closer look.
const ALL: Accepted = Accepted {
    needs_keys: false,
    timestamps: i64::MIN..=i64::MAX,
};

/// Accepts no record without a closer look.
#[expect(clippy::reversed_empty_ranges, reason = "no timestamp is in the range")]
const NONE: Accepted = Accepted {
    needs_keys: false,
    timestamps: 0..=-1,
};

/// Returns the reason why the batch is refused, or the number of its records.
fn checked_whole(bytes: &[u8]) -> Result<u32, &'static str> {
    let (header, batch) = first_whole(bytes).map_err(|malformed| malformed.0)?;
    let (max_timestamp, count) = checked_records(&header, batch, &NONE);
    let surveyed = checked_records(&header, batch, &ALL).0;
    assert_eq!(surveyed, max_timestamp, "a survey finds the same");
    max_timestamp.map(|_| count)
}

/// Returns the greatest timestamp, or the reason why a record is refused, and the number of the
/// records that were looked at closely.
fn checked_records(
    header: &BatchHeader,
    batch: &[u8],
    accepted: &Accepted,
) -> (Result<i64, &'static str>, u32) {
    let (mut next, mut count) = (0, 0);
    let max_timestamp =
        check_records::<Malformed>(header, batch, 1 << 20, accepted, |number, _| {
            assert!(number >= next, "records are numbered in their order");
            (next, count) = (number + 1, count + 1);
            Ok(())
        });
    (max_timestamp.map_err(|malformed| malformed.0), count)
}

#[test]
fn a_batch_of_a_client_is_whole() {
    for codec in codecs() {
        let mut builder = BatchBuilder::new(Vec::new(), codec);
        for key in ["a", "b", "c"] {
            let record = Record::from((key, "value".repeat(30))).header("h", "v");
            builder.push(&record, T).unwrap();
        }
        let batch = builder.finish(&TopicSettings::default()).unwrap();
        let twice = [batch.clone(), batch].concat();
        assert_eq!(checked_whole(&twice), Ok(3), "{codec:?}");
    }
    assert_eq!(checked_whole(&bytes(PLAIN)), Ok(3));
}

#[test]
fn bytes_that_are_no_batch_of_a_client_are_refused() {
    let whole = changed(|_| ());
    let with = |at: usize, byte: u8| {
        let mut batch = whole.clone();
        batch[at] = byte;
        batch
    };
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("no bytes", Vec::new(), "cut short"),
        ("half a header", whole[..30].to_vec(), "cut short"),
        (
            "half a record",
            whole[..whole.len() - 1].to_vec(),
            "cut short",
        ),
        ("magic 1", with(16, 1), "before v2"),
        ("magic 3", with(16, 3), "no batch of format v2"),
        ("a flipped bit", with(65, 99), "checksum"),
        (
            "a length below the header",
            with(11, 20),
            "smaller than its header",
        ),
        (
            "a marker",
            changed(|header| header.attributes |= CONTROL),
            "control batch",
        ),
        (
            "a transaction",
            changed(|header| header.attributes |= TRANSACTIONAL),
            "transaction",
        ),
        ("no record", bytes(EMPTY), "no records"),
        (
            "too few offsets",
            changed(|header| header.last_offset = 0),
            "fewer offsets",
        ),
        (
            "no sequence",
            changed(|header| header.producer_id = 7),
            "without an epoch",
        ),
    ];
    for (case, bytes, reason) in cases {
        let refused = checked_whole(&bytes).unwrap_err();
        assert!(refused.contains(reason), "{case}: {refused}");
    }
}

/// Returns two records with this value, at these offset deltas.
fn two(value: &[u8], deltas: [i8; 2]) -> Vec<u8> {
    let zigzag = |number: i8| (number << 1 ^ number >> 7).cast_unsigned();
    let length = i8::try_from(value.len()).unwrap();
    let records = deltas.map(|delta| {
        let front = [zigzag(6 + length), 0, 0, zigzag(delta), 1, zigzag(length)];
        [&front, value, &[0]].concat()
    });
    records.concat()
}

#[test]
fn records_that_do_not_fill_their_batch_are_refused() {
    // Only the longer one leaves enough bytes to compare the layouts of two records.
    for value in [&b"a"[..], b"value"] {
        let of = |count, deltas| batch_of(count, &two(value, deltas));
        assert_eq!(checked_whole(&of(2, [0, 1])), Ok(2));
        for (case, batch) in [
            ("equal offsets", of(2, [0, 0])),
            ("falling offsets", of(2, [1, 0])),
            ("an offset above the last", of(2, [0, 2])),
            ("an offset below the first", of(2, [0, -2])),
            ("a record less", of(3, [0, 1])),
            ("a record more", of(1, [0, 1])),
            ("a malformed record", batch_of(2, &[99; 16])),
        ] {
            assert!(checked_whole(&batch).is_err(), "{case}, {value:?}");
        }
    }
}

/// The first record has a timestamp delta of two bytes, and the second one has one of three bytes.
#[test]
fn record_of_the_same_size_with_a_longer_timestamp_has_another_layout() {
    let first = [20, 0, 0x82, 1, 0, 2, b'k', 4, b'v', b'v', 0];
    let second = [20, 0, 0x80, 0x80, 2, 2, 0, 4, b'v', b'v', 0];
    let batch = batch_of(2, &[first, second].concat());
    let header = BatchHeader::decode(&batch).unwrap();
    for accepted in [NONE, ALL] {
        let (max_timestamp, _) = checked_records(&header, &batch, &accepted);
        assert_eq!(max_timestamp, Ok(T + 16_384), "{accepted:?}");
    }
}

#[test]
fn gaps_between_records_are_whole() {
    let mut batch = built(&[Record::new("a"), Record::new("b")]);
    let mut header = BatchHeader::decode(&batch).unwrap();
    header.last_offset = 9;
    header.write(&mut batch);
    assert_eq!(checked_whole(&batch), Ok(2));
    let mut kept = Vec::new();
    let header = BatchHeader::decode(&batch).unwrap();
    let settings = TopicSettings::default();
    let kept_records = [false, true];
    retained(
        &header,
        &batch,
        None,
        &kept_records,
        None,
        packing(&settings),
        &mut kept,
    )
    .unwrap();
    assert_eq!(checked_whole(&kept), Ok(1));
}

#[test]
fn the_greatest_timestamp_and_the_delete_horizon_are_settled() {
    let mut batch = changed(|header| {
        header.attributes |= DELETE_HORIZON;
        header.max_timestamp = i64::MAX;
    });
    let mut header = BatchHeader::decode(&batch).unwrap();
    let max = checked_records(&header, &batch, &ALL).0.unwrap();
    assert_eq!(max, T);
    assert!(settle(&mut header, max));
    let (front, rest) = batch.split_at_mut(70);
    write_times(&header, front, rest);
    let settled = BatchHeader::decode(&batch).unwrap();
    assert!(settled.crc_is_valid(&batch));
    assert_eq!((settled.delete_horizon(), settled.max_timestamp), (None, T));
    assert_eq!((header.attributes, header.max_timestamp), (0, T));
    assert_eq!(batch, changed(|_| ()), "nothing else changes");

    assert!(!settle(&mut header, max), "it is settled now");
    // The timestamp of an append counts for all records.
    let mut stamped = changed(|_| ());
    stamp_append_time(&mut stamped, T + 5);
    settle_append_time(&mut header, T + 5);
    write_times(&header, &mut batch, &[]);
    assert_eq!(batch, stamped);
    let max = checked_records(&header, &stamped, &ALL).0.unwrap();
    assert_eq!(max, T + 5);
    assert!(!settle(&mut header, max));
}

/// Returns a batch of plain records. The numbers of each say how many milliseconds after [`T`] it
/// is, how many bytes its key has (0: no key), and how many its value has.
fn plain(records: &[(i64, usize, usize)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    for (time, key, value) in records {
        let mut record = Record::new("v".repeat(*value));
        if *key > 0 {
            record = record.key("k".repeat(*key));
        }
        builder.push(&record, T + time).unwrap();
    }
    builder.finish(&TopicSettings::default()).unwrap()
}

#[test]
fn plain_records_need_no_closer_look() {
    let times = (0..300_i64).map(|number| number * 7);
    let records: Vec<_> = times
        .zip(0_usize..)
        .map(|(time, number)| (time, 40 - number % 40, number * 9))
        .collect();
    let batch = plain(&records);
    let header = BatchHeader::decode(&batch).unwrap();
    let (max_timestamp, looked_at) = checked_records(&header, &batch, &ALL);
    assert_eq!(max_timestamp, Ok(T + 299 * 7));
    assert!(looked_at < 3, "only those at the end: {looked_at}");
    assert_eq!(
        checked_records(&header, &batch, &NONE),
        (max_timestamp, 300)
    );
}

#[test]
fn records_that_are_not_accepted_get_a_closer_look() {
    let batch = plain(&[(0, 2, 90), (5, 0, 90), (9, 2, 90), (7, 2, 90)]);
    let header = BatchHeader::decode(&batch).unwrap();
    let looked_at = |needs_keys, timestamps| {
        let accepted = Accepted {
            needs_keys,
            timestamps,
        };
        let (max_timestamp, looked_at) = checked_records(&header, &batch, &accepted);
        assert_eq!(max_timestamp, Ok(T + 9));
        looked_at
    };
    assert_eq!(looked_at(false, T..=T + 9), 0);
    assert_eq!(looked_at(true, T..=T + 9), 4);
    assert_eq!(looked_at(false, T + 1..=T + 9), 4);
    assert_eq!(looked_at(false, T..=T + 8), 4);
}

proptest! {
    #[test]
    fn a_survey_finds_what_a_closer_look_finds(
        runs in vec(((-70_000_i64..70_000, 0_usize..90, 0_usize..400), 0..3_i64, 1_usize..6), 1..20),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        // Some records have the layout of the one before them.
        let mut records = Vec::new();
        for ((time, key, value), step, count) in runs {
            records.extend((0..).map(|number| (time + number * step, key, value)).take(count));
        }
        let mut batch = plain(&records);
        if let Some((at, byte)) = damage {
            let at = HEADER_BYTES + at.index(batch.len() - HEADER_BYTES);
            batch[at] = byte;
        }
        let header = BatchHeader::decode(&batch).unwrap();
        let (found, _) = checked_records(&header, &batch, &ALL);
        prop_assert_eq!(found, checked_records(&header, &batch, &NONE).0);
    }
}
