//! Damaged and malformed batches.

use super::*;

/// Two records with value `a` and without a key, at offset deltas 0 and 1.
const TWO_RECORDS: [u8; 16] = [14, 0, 0, 0, 1, 2, b'a', 0, 14, 0, 0, 2, 1, 2, b'a', 0];

/// The CRC does not cover the offset, the leader epoch and the magic. All other flips are detected.
#[test]
fn a_flipped_bit_that_the_crc_covers_is_detected() {
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
fn malformed_frames_and_headers_are_refused() {
    let batch = bytes(PLAIN);
    let with = |at: usize, new: &[u8]| {
        let mut batch = batch.clone();
        batch[at..at + new.len()].copy_from_slice(new);
        batch
    };
    assert_eq!(
        Frame::decode(&with(16, &[3])).unwrap().magic,
        2,
        "Kafka reads greater values as 2"
    );
    assert_eq!(
        Frame::decode(&with(16, &[0x7f])).unwrap().magic,
        2,
        "the greatest value"
    );
    assert!(Frame::decode(&with(8, &[0, 0, 0, 14])).is_ok());
    for (fault, front) in [
        ("one byte too short", batch[..16].to_vec()),
        ("zeros", vec![0; 61]),
        ("a negative offset", with(0, &[0x80])),
        ("a length of 13", with(8, &[0, 0, 0, 13])),
        ("a negative length", with(8, &[0xff])),
        ("a negative magic", with(16, &[0x80])),
    ] {
        assert!(Frame::decode(&front).is_err(), "{fault}");
        assert!(BatchHeader::decode(&front).is_err(), "{fault}");
    }
    for (fault, header) in [
        ("one byte too short", batch[..60].to_vec()),
        ("smaller than its header", with(8, &[0, 0, 0, 48])),
        (
            "a last offset over i64::MAX",
            with(0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
    ] {
        assert!(Frame::decode(&header).is_ok(), "{fault}");
        assert!(BatchHeader::decode(&header).is_err(), "{fault}");
    }
}

#[test]
fn a_wrong_record_count_is_an_error_after_the_last_record() {
    assert_eq!(records(&batch_of(2, &TWO_RECORDS)).unwrap().len(), 2);
    for count in [0, 1, 3, 1_000_000, i32::MAX.cast_unsigned()] {
        let out = visit(&batch_of(count, &TWO_RECORDS));
        let (last, good) = out.split_last().unwrap();
        assert!(last.is_err(), "{count}: {out:?}");
        assert!(good.iter().all(Result::is_ok), "{count}: {out:?}");
        assert_eq!(good.len(), count.min(2) as usize);
    }
}

#[test]
fn the_record_after_a_malformed_one_is_read() {
    let mut payload = TWO_RECORDS;
    payload[5] = 4; // The value of the first record now includes its header count.
    let out = visit(&batch_of(2, &payload));
    assert!(matches!(&out[..], [Err(_), Ok((11, ..))]), "{out:?}");
    payload[0] = 0xfc; // The first record now has no end, so the second cannot be found.
    assert!(matches!(&visit(&batch_of(2, &payload))[..], [Err(_)]));
}

#[test]
fn a_record_with_an_offset_outside_its_batch_is_malformed() {
    for delta in [1, 4, 0x7e] {
        let mut payload = TWO_RECORDS;
        payload[11] = delta;
        assert!(records(&batch_of(2, &payload)).is_err(), "{delta}");
    }
}

proptest! {
    #[test]
    fn decoding_any_records_does_not_panic(count in 0..50_u32, payload in vec(prop_oneof![any::<u8>(), 0..16_u8], 0..300)) {
        let out = visit(&batch_of(count, &payload));
        prop_assert!(out.len() <= count as usize + 1);
    }

    #[test]
    fn decoding_a_damaged_payload_does_not_panic(at in 0..32_usize, new in any::<u8>()) {
        let mut batch = bytes(PLAIN);
        batch[HEADER_BYTES + at] = new;
        prop_assert!(visit(&batch).len() <= 4);
    }

    /// A search that steps over batches by their outlines finds what it finds by their headers.
    #[test]
    fn an_outline_states_what_the_header_does(
        count in prop_oneof![0..4_u32, any::<u32>()],
        delta in prop_oneof![0..4_u32, any::<u32>()],
        magic in 0..4_u8,
        at in 0..HEADER_BYTES,
        new in any::<u8>(),
        is_changed in any::<bool>(),
    ) {
        let mut batch = bytes(PLAIN);
        batch[23..27].copy_from_slice(&delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch[16] = magic;
        if is_changed {
            batch[at] = new;
        }
        let whole = BatchHeader::decode(&batch).ok().filter(|header| {
            let has_all = header.is_full_or_empty() && header.record_count > 0;
            // A search decodes the whole header of a batch with a negative distance.
            let is_usual = batch[16] == 2 && batch[23] < 0x80;
            is_usual && has_all && header.stated_last_offset == header.last_offset
        });
        let stated = whole.map(|header| Outline {
            base_offset: header.base_offset,
            last_offset: header.last_offset,
            size_bytes: header.size_bytes,
        });
        prop_assert_eq!(Outline::of(&batch), stated);
        prop_assert_eq!(Outline::of(&batch[..HEADER_BYTES - 1]), None);
    }

    #[test]
    fn an_accepted_header_has_consistent_offsets_and_size(mut front in vec(any::<u8>(), 0..100), small in any::<bool>()) {
        if small && front.len() > 61 {
            (front[0], front[8], front[9], front[16], front[22], front[23], front[57]) = (0, 0, 0, 2, 0, 0x7f, 0);
        }
        if let Ok(header) = BatchHeader::decode(&front) {
            prop_assert!(header.base_offset <= header.last_offset);
            prop_assert!(header.last_offset <= MAX_OFFSET);
            prop_assert!(header.size_bytes as usize >= HEADER_BYTES || header.magic < 2);
            let _ = (header.crc_is_valid(&front), header.last_sequence(), header.delete_horizon());
        }
    }
}
