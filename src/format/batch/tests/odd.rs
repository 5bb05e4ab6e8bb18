//! Batches with a right checksum and unusual fields in the header.

use super::super::checksum::intact_offsets;
use super::*;
use crate::format::compression::codecs;

/// Returns three records at offsets 100 to 102, with some bytes of the header replaced, and the
/// right checksum.
fn odd(at: usize, new: &[u8]) -> Vec<u8> {
    let mut batch = bytes(PLAIN);
    stamp(&mut batch, 100, 0);
    batch[at..at + new.len()].copy_from_slice(new);
    write_crc(&mut batch);
    batch
}

/// If such a header were malformed, recovery would cut the batch off the end of a log.
#[test]
fn a_header_with_unusual_fields_is_accepted_although_records_may_not_be() {
    for (oddity, batch) in [
        ("a negative last offset delta", odd(23, &[0xff])),
        ("a negative record count", odd(57, &[0xff])),
        ("more records than offsets", odd(57, &[0, 0, 0, 4])),
        ("codec 5", odd(22, &[5])),
        ("codec 7", odd(22, &[7])),
    ] {
        let header =
            BatchHeader::decode(&batch).unwrap_or_else(|malformed| panic!("{oddity}: {malformed}"));
        assert!(header.crc_is_valid(&batch), "{oddity}");
        assert!(
            (102..=103).contains(&header.last_offset),
            "{oddity}: {}",
            header.last_offset
        );
    }
    let unreadable = |batch: &[u8]| {
        let header = BatchHeader::decode(batch).unwrap();
        let decompressed = decompressed(&header, batch, 1 << 20);
        decompressed
            .and_then(|decompressed| RecordCursor::new(&header, batch, decompressed.as_deref()))
            .is_err()
    };
    assert!(unreadable(&odd(57, &[0xff])));
    assert!(unreadable(&odd(22, &[5])));
}

#[test]
fn the_record_count_raises_a_last_offset_that_is_too_low() {
    let offsets = |delta: i32, count: u32| {
        let mut batch = odd(23, &delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let header = BatchHeader::decode(&batch).unwrap();
        (header.last_offset, header.next_base_offset())
    };
    assert_eq!(offsets(2, 3), (102, 103), "the count fits");
    assert_eq!(offsets(0, 3), (102, 101));
    assert_eq!(offsets(1, 3), (102, 102));
    assert_eq!(offsets(9, 3), (109, 110), "compaction leaves fewer records");
    assert_eq!(offsets(9, 0), (109, 110), "or none");
    assert_eq!(offsets(-1, 3), (102, 101));
    assert_eq!(offsets(i32::MIN, 0), (100, 101));
    for count in [1_000_000, i32::MAX.unsigned_abs(), u32::MAX] {
        assert_eq!(
            offsets(1, count),
            (101, 102),
            "the batch has no room for {count} records"
        );
    }
}

#[test]
fn all_records_are_read_if_the_stated_last_offset_is_too_low() {
    for codec in codecs() {
        let mut builder = BatchBuilder::new(Vec::new(), codec);
        for key in ["a", "b", "c"] {
            builder.push(&(key, "v".repeat(30)).into(), T).unwrap();
        }
        let mut batch = builder.finish(&TopicSettings::default()).unwrap();
        batch[23..27].fill(0);
        write_crc(&mut batch);
        stamp(&mut batch, 5, 0);
        assert_eq!(
            records(&batch)
                .unwrap()
                .into_iter()
                .map(|record| record.0)
                .collect::<Vec<_>>(),
            [5, 6, 7],
            "{codec:?}"
        );
    }
}

#[test]
fn a_batch_is_intact_if_its_checksum_is_right_whatever_its_fields() {
    let legacy =
        bytes("00000000000000070000001aa5da6a6201000000018bcfe56800000000026b31000000027631");
    for (batch, uncovered) in [(bytes(PLAIN), 0..17), (legacy, 0..12)] {
        assert!(intact_offsets(&batch).is_some());
        for at in 0..batch.len() {
            let mut batch = batch.clone();
            batch[at] ^= 0x80;
            assert_eq!(
                intact_offsets(&batch).is_some(),
                uncovered.contains(&at),
                "byte {at}"
            );
        }
    }
    for batch in [
        odd(57, &[0xff]),
        odd(22, &[5]),
        odd(0, &[0xff; 8]),
        odd(16, &[0x82]),
        odd(23, &[0; 4]),
    ] {
        assert_eq!(intact_offsets(&batch), Some(3));
    }
    for short in [0, 11, 16, 20, 60] {
        assert!(
            intact_offsets(&bytes(PLAIN)[..short]).is_none(),
            "{short} bytes"
        );
    }
}

#[test]
fn batch_of_which_compaction_kept_a_part_is_neither_full_nor_empty() {
    let is_full_or_empty = |magic, record_count, last_offset| {
        let header = BatchHeader::decode(&bytes(PLAIN)).unwrap();
        BatchHeader {
            magic,
            base_offset: 10,
            last_offset,
            record_count,
            ..header
        }
        .is_full_or_empty()
    };
    assert!(is_full_or_empty(2, 3, 12), "every offset has a record");
    assert!(is_full_or_empty(2, 0, 12), "no offset has a record");
    assert!(!is_full_or_empty(2, 2, 12), "one offset has no record");
    assert!(
        is_full_or_empty(1, 1, 12),
        "a legacy wrapper does not state it"
    );
}
