//! Entry points for the fuzz targets in `fuzz/`. Built only with `--cfg fuzzing`, and not a part of
//! the public API.
//!
//! Each function decodes untrusted bytes and asserts what must hold for any input. No input causes
//! a panic or more output than the limit. Decoded data is written and then read back unchanged.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a fuzzer looks for broken expectations"
)]
#![allow(clippy::panic, reason = "an unexpected error is a finding, too")]

mod append_raw;
mod disk_image;
mod operations;
mod partition_dir;

pub use append_raw::append_raw;
pub use operations::operations;
pub use partition_dir::partition_dir;

use crate::config::{Compression, TopicSettings};
use crate::format::Malformed;
use crate::format::batch::{self, BatchBuilder, BatchHeader, Frame, RecordCursor};
use crate::format::checkpoint;
use crate::format::compression;
use crate::format::index_entry::{
    AbortedTransaction, OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry,
};
use crate::format::metadata_file;
use crate::format::offset_commit::{GroupKey, OffsetCommitValue};
use crate::format::producer_snapshot;
use crate::format::record::Record;
use crate::format::transaction_state::{TransactionKey, TransactionState, ValueVersion};

/// Limit for the output of a decompression. It is small, so that a decompression bomb fails an
/// assertion instead of only being slow.
const LIMIT_BYTES: usize = 1 << 20;

/// Decodes any bytes as the content of a `.log`, batch by batch as a reader does.
pub fn batches(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(frame) = Frame::decode(rest) {
        let Some(batch) = usize::try_from(frame.size_bytes)
            .ok()
            .and_then(|size| rest.get(..size))
        else {
            return;
        };
        assert!(!batch.is_empty(), "a batch is not empty");
        records_of(batch);
        rest = rest.get(batch.len()..).unwrap_or_default();
    }
}

/// Decodes any bytes as a message set of format v0 or v1, by setting the magic byte.
pub fn legacy_sets(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some(magic) = bytes.get_mut(16) {
        *magic &= 1;
    }
    batches(&bytes);
}

/// Decodes every record of one batch, whatever its checksum is, and encodes the decoded records
/// again.
fn records_of(batch: &[u8]) {
    let Ok(header) = BatchHeader::decode(batch) else {
        return;
    };
    header.crc_is_valid(batch);
    assert!(
        header.base_offset <= header.last_offset,
        "a batch does not end before it starts"
    );
    let Ok(decompressed) = batch::decompressed(&header, batch, LIMIT_BYTES) else {
        return;
    };
    let decompressed = decompressed.as_deref();
    assert!(
        decompressed.is_none_or(|bytes| bytes.len() <= LIMIT_BYTES),
        "the output is within the limit"
    );
    let Ok(mut cursor) = RecordCursor::new(&header, batch, decompressed) else {
        return;
    };
    let mut records = Vec::new();
    let mut malformed_count = 0;
    while let Some(record) = cursor.next(&header, batch, decompressed) {
        let Ok(record) = record else {
            malformed_count += 1;
            assert!(
                malformed_count <= batch.len() + LIMIT_BYTES,
                "the walk ends, because each step consumes bytes"
            );
            continue;
        };
        let is_inside = (header.base_offset..=header.last_offset).contains(&record.offset);
        assert!(
            is_inside || header.magic < 2,
            "records are inside their batch"
        );
        records.push(Record {
            timestamp: None,
            ..Record::from_raw(&record)
        });
    }
    round_trip(&records);
}

fn round_trip(records: &[Record<'_>]) {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    if records.is_empty()
        || records
            .iter()
            .any(|record| builder.push(record, 0).is_err())
    {
        return;
    }
    let Ok(bytes) = builder.finish(&TopicSettings::default()) else {
        return;
    };
    let header = BatchHeader::decode(&bytes).expect("an encoded batch decodes");
    assert!(
        header.crc_is_valid(&bytes),
        "an encoded batch has its checksum"
    );
    let mut cursor = RecordCursor::new(&header, &bytes, None).expect("an encoded batch decodes");
    for record in records {
        let read = cursor
            .next(&header, &bytes, None)
            .expect("every record is in the batch")
            .expect("an encoded record decodes");
        assert_eq!(
            (read.key, read.value),
            (record.key.as_deref(), record.value.as_deref())
        );
        assert!(
            read.headers
                .map(|header| header.name_bytes())
                .eq(record.headers.iter().map(|(name, _)| &**name))
        );
    }
    assert!(
        cursor.next(&header, &bytes, None).is_none(),
        "the batch has no further record"
    );
}

/// Decompresses any bytes with a codec in each batch format, and compresses them.
pub fn codec(codec: Compression, bytes: &[u8]) {
    for magic in 0..=2 {
        if let Ok(plain) = compression::decompress(codec, magic, bytes, LIMIT_BYTES) {
            assert!(plain.len() <= LIMIT_BYTES, "the output is within the limit");
        }
    }
    let mut compressed = Vec::new();
    compression::compress(codec, &TopicSettings::default(), bytes, &mut compressed)
        .expect("any bytes can be compressed");
    let plain = compression::decompress(codec, 2, &compressed, bytes.len())
        .expect("compressed data can be read");
    assert_eq!(plain, bytes);
}

/// Decodes any bytes as each of the three kinds of index file.
pub fn index_files(bytes: &[u8]) {
    let count = OffsetEntry::count(bytes);
    assert!(
        count <= bytes.len() / OFFSET_ENTRY_BYTES,
        "only whole entries count"
    );
    for (number, entry) in bytes
        .chunks_exact(OFFSET_ENTRY_BYTES)
        .take(count)
        .enumerate()
    {
        assert_eq!(OffsetEntry::at(bytes, number).encode(), *entry);
    }
    let count = TimeEntry::count(bytes);
    assert!(
        count <= bytes.len() / TIME_ENTRY_BYTES,
        "only whole entries count"
    );
    for (number, entry) in bytes.chunks_exact(TIME_ENTRY_BYTES).take(count).enumerate() {
        assert_eq!(TimeEntry::at(bytes, number).encode(), *entry);
    }
    if let Ok(transactions) = AbortedTransaction::decode_all(bytes) {
        let encoded: Vec<u8> = transactions
            .into_iter()
            .flat_map(AbortedTransaction::encode)
            .collect();
        assert!(
            bytes.starts_with(&encoded),
            "entries are encoded as they were decoded"
        );
    }
}

/// Decodes any bytes as a checkpoint file.
pub fn checkpoints(bytes: &[u8]) {
    if let Ok(offsets) = checkpoint::decode_offsets(bytes) {
        let entries = offsets
            .iter()
            .map(|(topic, partition, offset)| (topic.as_str(), *partition, *offset));
        reads_back(
            &offsets,
            checkpoint::decode_offsets(checkpoint::encode_offsets(entries).as_bytes()),
        );
    }
    if let Ok(epochs) = checkpoint::decode_epochs(bytes) {
        reads_back(
            &epochs,
            checkpoint::decode_epochs(checkpoint::encode_epochs(&epochs).as_bytes()),
        );
    }
}

/// Decodes any bytes as each of the small text files: topic file, index digests,
/// `partition.metadata` and `meta.properties`.
pub fn text_files(bytes: &[u8]) {
    if let Ok(file) = metadata_file::decode_topic_file(bytes) {
        reads_back(
            &file,
            metadata_file::decode_topic_file(metadata_file::encode_topic_file(&file).as_bytes()),
        );
    }
    if let Ok(digests) = metadata_file::decode_index_digests(bytes) {
        reads_back(
            &digests,
            metadata_file::decode_index_digests(
                metadata_file::encode_index_digests(&digests).as_bytes(),
            ),
        );
    }
    if let Ok(id) = metadata_file::decode_partition_metadata(bytes) {
        reads_back(
            &id,
            metadata_file::decode_partition_metadata(
                metadata_file::encode_partition_metadata(id).as_bytes(),
            ),
        );
    }
    if let Ok(properties) = metadata_file::decode_meta_properties(bytes) {
        let encoded = metadata_file::encode_meta_properties(&properties);
        reads_back(
            &properties,
            metadata_file::decode_meta_properties(encoded.as_bytes()),
        );
    }
}

/// Decodes any bytes as a producer snapshot.
pub fn snapshot(bytes: &[u8]) {
    if let Ok(entries) = producer_snapshot::decode(bytes) {
        reads_back(
            &entries,
            producer_snapshot::decode(&producer_snapshot::encode(&entries)),
        );
    }
}

/// Decodes any bytes as the key and as the value of a record in `__consumer_offsets`.
pub fn offset_commits(bytes: &[u8]) {
    if let Ok(GroupKey::OffsetCommit(key)) = GroupKey::decode(bytes) {
        let encoded = key.encode();
        reads_back(&GroupKey::OffsetCommit(key), GroupKey::decode(&encoded));
    }
    if let Ok(value) = OffsetCommitValue::decode(bytes) {
        let encoded = value.encode();
        let again = OffsetCommitValue::decode(&encoded).expect("encoded data decodes");
        assert_eq!(
            (again.offset, &again.metadata),
            (value.offset, &value.metadata)
        );
    }
}

/// Decodes any bytes as a key and as a value of `__transaction_state`.
pub fn transaction_states(bytes: &[u8]) {
    if let Ok(TransactionKey::State(id)) = TransactionKey::decode(bytes) {
        let encoded = TransactionKey::encode(id);
        reads_back(&TransactionKey::State(id), TransactionKey::decode(&encoded));
    }
    if let (Ok(version), Ok(value)) = (
        ValueVersion::of(bytes),
        TransactionState::decode_value("id", bytes),
    ) {
        let encoded = value.encode_value(version);
        let again = TransactionState::decode_value("id", &encoded).expect("encoded data decodes");
        assert_eq!(again.partitions.len(), value.partitions.len());
        assert_eq!(
            again.encode_value(version),
            encoded,
            "a second round is the same"
        );
    }
}

fn reads_back<T: PartialEq + std::fmt::Debug>(value: &T, again: Result<T, Malformed>) {
    let again = again.expect("encoded data decodes");
    assert_eq!(&again, value, "encoded data decodes to the same value");
}
