//! Tests of batches, by subject. This file has the batches and functions that they share.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::config::TopicSettings;
use crate::format::record::{RawRecord, Record};

mod building;
mod kafka;
mod malformed;
mod odd;
mod parts;
mod reading;
mod whole;

const T: i64 = 1_700_000_000_000;

/// Three records without a codec, made by Kafka's own classes.
const PLAIN: &str = "0000000000000000000000510000000002e8f37d980000000000020000018bcfe568000000018bcfe56805ffffffffffff\
    ffffffffffffffff0000000314000000046b31047631001a000a0201000402680278026e010c000504000100";
/// A batch that compaction emptied, made by Kafka's own classes.
const EMPTY: &str = "00000000000000640000003100000000029b7a1ee9000000000002ffffffffffffffff0000018bcfe568050000000000000f\
    a000020000001100000000";

/// A decoded record that owns its bytes: offset, timestamp, key, value, headers.
type Owned = (
    u64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn owned(record: &RawRecord<'_>) -> Owned {
    let headers = record
        .headers
        .map(|header| {
            (
                header.name_bytes().to_vec(),
                header.value().map(<[u8]>::to_vec),
            )
        })
        .collect();
    (
        record.offset,
        record.timestamp,
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
        headers,
    )
}

/// Returns everything that a cursor returns for a batch, up to the end.
fn visit(batch: &[u8]) -> Vec<Result<Owned, Malformed>> {
    let header = BatchHeader::decode(batch).unwrap();
    let decompressed = decompressed(&header, batch, 1 << 20).unwrap();
    let mut cursor = RecordCursor::new(&header, batch, decompressed.as_deref()).unwrap();
    let mut out = Vec::new();
    while let Some(record) = cursor.next(&header, batch, decompressed.as_deref()) {
        out.push(record.map(|record| owned(&record)));
    }
    assert!(
        cursor
            .next(&header, batch, decompressed.as_deref())
            .is_none(),
        "the cursor stays at the end"
    );
    out
}

fn records(batch: &[u8]) -> Result<Vec<Owned>, Malformed> {
    visit(batch).into_iter().collect()
}

/// Decodes a batch whose checksum is right.
fn checked(hex: &str) -> (BatchHeader, Vec<Owned>) {
    let batch = bytes(hex);
    let frame = Frame::decode(&batch).unwrap();
    let header = BatchHeader::decode(&batch[..BatchHeader::bytes_needed(&frame)]).unwrap();
    assert_eq!(
        (frame.size_bytes as usize, frame.magic, frame.offset),
        (batch.len(), 2, header.base_offset)
    );
    assert!(header.crc_is_valid(&batch));
    (header, records(&batch).unwrap())
}

fn simple(offset: u64, timestamp: i64, key: &str, value: &str) -> Owned {
    (
        offset,
        timestamp,
        Some(key.into()),
        Some(value.into()),
        Vec::new(),
    )
}

fn built(records: &[Record<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    for record in records {
        builder.push(record, T).unwrap();
    }
    builder.finish(&TopicSettings::default()).unwrap()
}

fn packing(settings: &TopicSettings) -> Packing<'_> {
    Packing {
        settings,
        max_decompressed_bytes: 1 << 20,
        must_shrink: false,
    }
}

/// Returns a batch with this record count, these bytes as records, and the right checksum.
fn batch_of(record_count: u32, records: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(records);
    let header = BatchHeader {
        base_offset: 10,
        last_offset: 10 + u64::from(record_count.max(1)) - 1,
        stated_last_offset: 10 + u64::from(record_count.max(1)) - 1,
        size_bytes: batch.len().try_into().unwrap(),
        magic: 2,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        base_timestamp: T,
        max_timestamp: T,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count,
    };
    header.write(&mut batch);
    batch
}
