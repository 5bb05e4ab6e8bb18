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

use byteorder::{BigEndian, ByteOrder};

use super::Malformed;
use super::checksum::crc32c;

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
    let version = BigEndian::read_i16(bytes.first_chunk::<2>().ok_or(Fault::CutShort)?);
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let (header, entries) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(Fault::CutShort)?;
    let (entries, rest) = entries.as_chunks();
    let count = usize::try_from(BigEndian::read_i32(&header[CHECKED_FROM..]))
        .map_err(|_| Fault::CutShort)?;
    if count > entries.len() {
        return Err(Fault::CutShort);
    }
    let stored = BigEndian::read_u32(&header[2..CHECKED_FROM]);
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
    BigEndian::write_i64(&mut bytes[..8], entry.producer_id);
    BigEndian::write_i16(&mut bytes[8..10], entry.producer_epoch);
    BigEndian::write_i32(&mut bytes[10..14], entry.last_sequence);
    BigEndian::write_i64(&mut bytes[14..22], entry.last_offset);
    BigEndian::write_i32(&mut bytes[22..26], entry.offset_delta);
    BigEndian::write_i64(&mut bytes[26..34], entry.timestamp);
    BigEndian::write_i32(&mut bytes[34..38], entry.coordinator_epoch);
    BigEndian::write_u64(
        &mut bytes[38..],
        entry.current_transaction_first_offset.unwrap_or(u64::MAX),
    );
    bytes
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> ProducerEntry {
    ProducerEntry {
        producer_id: BigEndian::read_i64(&bytes[..8]),
        producer_epoch: BigEndian::read_i16(&bytes[8..10]),
        last_sequence: BigEndian::read_i32(&bytes[10..14]),
        last_offset: BigEndian::read_i64(&bytes[14..22]),
        offset_delta: BigEndian::read_i32(&bytes[22..26]),
        timestamp: BigEndian::read_i64(&bytes[26..34]),
        coordinator_epoch: BigEndian::read_i32(&bytes[34..38]),
        current_transaction_first_offset: u64::try_from(BigEndian::read_i64(&bytes[38..])).ok(),
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
