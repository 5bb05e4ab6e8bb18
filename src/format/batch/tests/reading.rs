//! Reading records and headers of sound batches.

use super::*;

#[test]
fn uncompressed_and_missing_records_are_not_copied() {
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
        "there are no records to decompress"
    );
}

#[test]
fn the_quick_path_reads_and_skips_common_records() {
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
    assert_eq!(next(&mut cursor, 2..4), None, "offset 0 is not wanted");
    cursor.skip_quickly(&header, payload, 2);
    assert_eq!(next(&mut cursor, 2..4), Some(2));
    let mut whole = RecordCursor::new(&header, &batch, None).unwrap();
    while whole.next(&header, &batch, None).is_some() {}
    assert!(!whole.current.has_records());
}

#[test]
fn sequence_numbers_continue_at_zero_after_the_greatest() {
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

#[test]
fn the_last_offset_may_be_the_greatest_possible_one() {
    let mut batch = bytes(PLAIN);
    stamp(&mut batch, MAX_OFFSET - 2, 0);
    assert_eq!(BatchHeader::decode(&batch).unwrap().last_offset, MAX_OFFSET);
    batch[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(
        BatchHeader::decode(&batch).is_err(),
        "a batch beyond the greatest offset"
    );
    stamp(&mut batch, 5, 0);
    let header = BatchHeader::decode(&batch).unwrap();
    assert_eq!(
        header.last_offset,
        5 + u64::from(i32::MAX.unsigned_abs()),
        "a batch of 2^31 offsets"
    );
}
