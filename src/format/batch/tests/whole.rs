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

/// Returns the reason why the batch is refused, or the number of its records.
fn checked_whole(bytes: &[u8]) -> Result<u32, &'static str> {
    let (header, batch) = first_whole(bytes).map_err(|malformed| malformed.0)?;
    let mut count = 0;
    check_records::<Malformed>(&header, batch, 1 << 20, |number, _| {
        assert_eq!(number, count, "records are numbered from 0");
        count += 1;
        Ok(())
    })
    .map_err(|malformed| malformed.0)?;
    Ok(count)
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

#[test]
fn records_that_do_not_fill_their_batch_are_refused() {
    /// Two records with value `a`, at these offset deltas.
    fn two(first: u8, second: u8) -> [u8; 16] {
        [
            14,
            0,
            0,
            2 * first,
            1,
            2,
            b'a',
            0,
            14,
            0,
            0,
            2 * second,
            1,
            2,
            b'a',
            0,
        ]
    }
    assert_eq!(checked_whole(&batch_of(2, &two(0, 1))), Ok(2));
    for (case, batch) in [
        ("equal offsets", batch_of(2, &two(0, 0))),
        ("falling offsets", batch_of(2, &two(1, 0))),
        ("an offset above the last", batch_of(2, &two(0, 2))),
        ("a record less", batch_of(3, &two(0, 1))),
        ("a record more", batch_of(1, &two(0, 1))),
        ("a malformed record", batch_of(2, &[99; 16])),
    ] {
        assert!(checked_whole(&batch).is_err(), "{case}");
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
    let max = check_records::<Malformed>(&header, &batch, 1 << 20, |_, _| Ok(())).unwrap();
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
    let max = check_records::<Malformed>(&header, &stamped, 1 << 20, |_, _| Ok(())).unwrap();
    assert_eq!(max, T + 5);
    assert!(!settle(&mut header, max));
}
