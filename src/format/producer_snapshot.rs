//! `.snapshot` files: the state of a partition's producers at the offset in the file's name.
//!
//! | at | field | type |
//! | --- | --- | --- |
//! | 0 | version, 1 | int16 |
//! | 2 | CRC-32C of everything from 6 on | uint32 |
//! | 6 | number of entries | int32 |
//! | 10 | entries | 46 bytes each |
//!
//! | in an entry at | field | type |
//! | --- | --- | --- |
//! | 0 | producer id | int64 |
//! | 8 | producer epoch | int16 |
//! | 10 | last sequence of its last batch | int32 |
//! | 14 | last offset of that batch | int64 |
//! | 22 | offset delta: last sequence minus first sequence | int32 |
//! | 26 | timestamp | int64 |
//! | 34 | coordinator epoch | int32 |
//! | 38 | first offset of the open transaction, -1 if there is none | int64 |
//!
//! Numbers are big-endian. Entries are in any order. A snapshot without producers is
//! `0001 48674bc7 00000000`.
//!
//! A malformed snapshot is ignored. An older snapshot and the log after it contain the same state.

use super::Malformed;
use super::checksum::crc32c;
use super::fixed::{field, set_field};

const VERSION: i16 = 1;
const CHECKED_FROM: usize = 6;
const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;

/// The state of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    /// The id of the producer.
    pub(crate) producer_id: i64,
    /// The epoch of the producer. Writers with a lower epoch are fenced.
    pub(crate) producer_epoch: i16,
    /// The sequence number of the last record of its last batch; -1 if no batch is known.
    pub(crate) last_sequence: i32,
    /// The last offset of its last batch; -1 if no batch is known.
    pub(crate) last_offset: i64,
    /// Last sequence minus first sequence of that batch; 0 if no batch is known.
    pub(crate) offset_delta: i32,
    /// The time of its last write, in milliseconds.
    pub(crate) timestamp: i64,
    /// The epoch of the transaction coordinator that wrote its last marker; -1 before the first.
    pub(crate) coordinator_epoch: i32,
    /// The first offset of its open transaction, if there is one.
    pub(crate) current_transaction_first_offset: Option<u64>,
}

/// Returns the bytes of a snapshot file.
pub(crate) fn encode(entries: &[ProducerEntry]) -> Vec<u8> {
    // More than `i32::MAX` entries do not fit into memory.
    let count = i32::try_from(entries.len()).unwrap_or(i32::MAX);
    let mut checked = Vec::with_capacity(HEADER_BYTES - CHECKED_FROM + entries.len() * ENTRY_BYTES);
    checked.extend_from_slice(&count.to_be_bytes());
    checked.extend(entries.iter().flat_map(encode_entry));
    [
        &VERSION.to_be_bytes()[..],
        &crc32c(&checked).to_be_bytes(),
        &checked,
    ]
    .concat()
}

/// The reason why a snapshot is malformed, with the details that a dump prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its version is this one, and not 1.
    Version(i16),
    /// Its header is incomplete, or it has fewer entries than its count.
    CutShort,
    /// Its checksum does not match its bytes.
    Checksum { stored: u32, computed: u32 },
    /// It has bytes after its last entry.
    LeftOver,
}

/// Decodes a snapshot file, and returns its entries in the order of the file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<ProducerEntry>, Malformed> {
    decode_or_fault(bytes).map_err(|fault| match fault {
        Fault::Version(_) => Malformed("the version of the snapshot is not 1"),
        Fault::CutShort => Malformed("the snapshot is cut short"),
        Fault::Checksum { .. } => Malformed("the checksum of the snapshot does not match"),
        Fault::LeftOver => Malformed("the snapshot has bytes after its last entry"),
    })
}

/// Decodes a snapshot file like [`decode`], and returns the fault that Kafka would find first.
pub(crate) fn decode_or_fault(bytes: &[u8]) -> Result<Vec<ProducerEntry>, Fault> {
    let version = i16::from_be_bytes(*bytes.first_chunk().ok_or(Fault::CutShort)?);
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let (header, entries) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(Fault::CutShort)?;
    let (entries, rest) = entries.as_chunks();
    let count = usize::try_from(i32::from_be_bytes(field::<CHECKED_FROM, _, _>(header)))
        .map_err(|_| Fault::CutShort)?;
    if count > entries.len() {
        return Err(Fault::CutShort);
    }
    let stored = u32::from_be_bytes(field::<2, _, _>(header));
    let computed = crc32c(bytes.get(CHECKED_FROM..).unwrap_or_default());
    if stored != computed {
        return Err(Fault::Checksum { stored, computed });
    }
    if count < entries.len() || !rest.is_empty() {
        return Err(Fault::LeftOver);
    }
    Ok(entries.iter().map(decode_entry).collect())
}

fn encode_entry(entry: &ProducerEntry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    set_field::<0, _, _>(&mut bytes, entry.producer_id.to_be_bytes());
    set_field::<8, _, _>(&mut bytes, entry.producer_epoch.to_be_bytes());
    set_field::<10, _, _>(&mut bytes, entry.last_sequence.to_be_bytes());
    set_field::<14, _, _>(&mut bytes, entry.last_offset.to_be_bytes());
    set_field::<22, _, _>(&mut bytes, entry.offset_delta.to_be_bytes());
    set_field::<26, _, _>(&mut bytes, entry.timestamp.to_be_bytes());
    set_field::<34, _, _>(&mut bytes, entry.coordinator_epoch.to_be_bytes());
    let first_offset = entry.current_transaction_first_offset.unwrap_or(u64::MAX);
    set_field::<38, _, _>(&mut bytes, first_offset.to_be_bytes());
    bytes
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> ProducerEntry {
    let first_offset = i64::from_be_bytes(field::<38, _, _>(bytes));
    ProducerEntry {
        producer_id: i64::from_be_bytes(field::<0, _, _>(bytes)),
        producer_epoch: i16::from_be_bytes(field::<8, _, _>(bytes)),
        last_sequence: i32::from_be_bytes(field::<10, _, _>(bytes)),
        last_offset: i64::from_be_bytes(field::<14, _, _>(bytes)),
        offset_delta: i32::from_be_bytes(field::<22, _, _>(bytes)),
        timestamp: i64::from_be_bytes(field::<26, _, _>(bytes)),
        coordinator_epoch: i32::from_be_bytes(field::<34, _, _>(bytes)),
        current_transaction_first_offset: u64::try_from(first_offset).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &[u8] = b"\0\x01\x17\x43\x0d\xfa\0\0\0\x01\0\0\0\0\0\0\x0f\xa0\0\x02\0\0\0\x11\0\0\0\0\0\0\x03\xeb\0\0\0\x02\
        \0\0\x01\x8b\xcf\xe5\x68\0\0\0\0\x03\0\0\0\0\0\0\x03\xe8";
    const NONE: &[u8] = b"\0\x01\x48\x67\x4b\xc7\0\0\0\0";

    fn entry() -> ProducerEntry {
        ProducerEntry {
            producer_id: 4000,
            producer_epoch: 2,
            last_sequence: 17,
            last_offset: 1003,
            offset_delta: 2,
            timestamp: 1_700_000_000_000,
            coordinator_epoch: 3,
            current_transaction_first_offset: Some(1000),
        }
    }

    #[test]
    fn snapshots_have_kafkas_bytes() {
        assert_eq!(encode(&[entry()]), ONE);
        assert_eq!(decode(ONE), Ok(vec![entry()]));
        assert_eq!(encode(&[]), NONE);
        assert_eq!(decode(NONE), Ok(vec![]));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        for position in 0..ONE.len() {
            for bit in 0..8 {
                let mut bytes = ONE.to_vec();
                bytes[position] ^= 1 << bit;
                assert!(decode(&bytes).is_err(), "bit {bit} of byte {position}");
            }
            assert!(decode(&ONE[..position]).is_err(), "cut to {position} bytes");
        }
        assert!(decode(&[ONE, b"\0"].concat()).is_err(), "an extra byte");
    }

    #[test]
    fn bytes_after_the_last_entry_are_refused_despite_a_right_checksum() {
        let count = |entries: i32| entries.to_be_bytes();
        let entries = &ONE[HEADER_BYTES..];
        for (extra, checked) in [
            ("a byte", [&count(1)[..], entries, &[0]].concat()),
            (
                "an entry that is not counted",
                [&count(1)[..], entries, entries].concat(),
            ),
        ] {
            let bytes = [
                &VERSION.to_be_bytes()[..],
                &crc32c(&checked).to_be_bytes(),
                &checked,
            ]
            .concat();
            assert!(
                matches!(decode_or_fault(&bytes), Err(Fault::LeftOver)),
                "{extra}"
            );
        }
    }

    #[test]
    fn a_count_without_entries_is_refused_before_it_takes_memory() {
        for count in [1, i32::MAX, -1, i32::MIN] {
            let checked = count.to_be_bytes();
            let bytes = [
                &VERSION.to_be_bytes()[..],
                &crc32c(&checked).to_be_bytes(),
                &checked,
            ]
            .concat();
            assert!(decode(&bytes).is_err(), "count {count}");
        }
    }

    proptest! {
        #[test]
        fn entries_round_trip(
            ids in prop::collection::vec(any::<(i64, i16, i32, i64)>(), 0..20),
            transaction in prop::option::of(0..=i64::MAX.unsigned_abs()),
        ) {
            let entries: Vec<_> = ids
                .into_iter()
                .map(|(producer_id, producer_epoch, last_sequence, last_offset)| ProducerEntry {
                    producer_id,
                    producer_epoch,
                    last_sequence,
                    last_offset,
                    current_transaction_first_offset: transaction,
                    ..entry()
                })
                .collect();
            prop_assert_eq!(decode(&encode(&entries)), Ok(entries));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes));
            // With a right checksum, so that the decoder reads further.
            drop(decode(&[&VERSION.to_be_bytes()[..], &crc32c(&bytes).to_be_bytes(), &bytes].concat()));
        }
    }
}
