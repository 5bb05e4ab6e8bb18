//! Appends any bytes as batches. What a partition accepts can be read, now and after it was opened
//! again; what it refuses leaves no trace.

use super::disk_image::DIR;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{CleanupPolicy, TimestampType, TopicConfig};
use crate::format::batch::{BatchHeader, Frame};
use crate::log::Log;
use crate::partition::Partition;
use crate::storage::MemoryDisk;

/// Appends the bytes, once as they are and once with corrected checksums, to partitions of several
/// kinds.
pub fn append_raw(bytes: &[u8]) {
    let corrected = with_checksums(bytes);
    let compacted = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    for config in [
        TopicConfig::new(),
        TopicConfig::new().timestamp_type(TimestampType::LogAppendTime),
        compacted,
    ] {
        run(&config, bytes);
        if corrected != bytes {
            run(&config, &corrected);
        }
    }
}

/// Returns the bytes with the right checksum in each batch of format v2.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut position = 0;
    while let Some(rest) = bytes.get_mut(position..)
        && let Ok(frame) = Frame::decode(rest)
    {
        let size = frame.size_bytes as usize;
        position += size;
        let Some(batch) = rest.get_mut(..size) else {
            break;
        };
        if let Ok(header) = BatchHeader::decode(batch)
            && header.magic >= 2
            && header.stated_last_offset == header.last_offset
        {
            header.write(batch);
        }
    }
    bytes
}

fn open(disk: &MemoryDisk, config: &TopicConfig) -> Partition {
    // The clock of the brokers that wrote the seeds may be anywhere before that.
    let clock = ManualClock::at(Timestamp::from_millis(1_900_000_000_000));
    Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock)
        .open_partition(config.clone())
        .expect("a sound partition opens")
}

/// Reads all records, and returns their offsets.
fn offsets(partition: &Partition) -> Vec<u64> {
    let mut offsets = Vec::new();
    for batch in partition.read(..).expect("an open partition can be read") {
        for record in &batch.expect("an accepted batch can be read") {
            offsets.push(record.expect("an accepted record decodes").offset());
        }
    }
    assert!(offsets.is_sorted_by(|a, b| a < b), "offsets rise");
    offsets
}

fn run(config: &TopicConfig, bytes: &[u8]) {
    let disk = MemoryDisk::new();
    let partition = open(&disk, config);
    let first = partition.append(("key", "value"));
    assert_eq!(first.expect("a record is accepted").offset, 0);
    let appended = partition.append_raw(bytes);
    let end = match &appended {
        Ok(range) => {
            assert!(!range.is_empty(), "a batch has offsets");
            assert_eq!(range.start, 1, "batches are at the log end");
            range.end
        }
        Err(_) => 1,
    };
    assert_eq!(partition.log_end_offset(), end);
    let before = offsets(&partition);
    assert_eq!(before.len() > 1, appended.is_ok(), "a batch has records");
    assert!(before.iter().all(|offset| *offset < end));
    drop(partition);
    let partition = open(&disk, config);
    let report = partition.recovery();
    assert!(report.damage.is_none(), "{report:?}");
    assert_eq!(offsets(&partition), before);
    if end < i64::MAX.unsigned_abs() - 1 {
        let last = partition.append(("key", "value"));
        assert_eq!(last.expect("a record is accepted").offset, end);
    }
}
