//! Damages the files of a whole partition: reading it returns no wrong record, and reports every
//! gap.
//!
//! The input selects changes to the files of a small partition: flipped bits, ranges that are
//! zeroed, copied or cut, and files that are extended, replaced or removed. It is not written into
//! the files, because a fuzzer that sees comparisons learns to forge checksums.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::disk_image::{self, DIR, Image};
use crate::clock::{ManualClock, Timestamp};
use crate::config::{Compression, TopicConfig};
use crate::error::Error;
use crate::format::file_name::{LOG, parse_segment_file};
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::Partition;
use crate::storage::{MemoryDisk, Storage};

const RECORDS: u64 = 26;
const START_MS: i64 = 1_700_000_000_000;
/// Limit for the number of edits. Further edits find no other faults.
const MAX_EDITS: usize = 12;
/// End of the base offset and the length of a batch.
const LENGTH_ENDS_AT: usize = 12;
/// End of the checksum: the first byte that it covers.
const COVERED_FROM: usize = 21;

fn value(offset: u64) -> String {
    format!(
        "value {offset} {}",
        "x".repeat(usize::try_from(offset % 5).unwrap_or(0))
    )
}

fn time(offset: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + i64::try_from(offset).expect("a small number"))
}

fn open(disk: &MemoryDisk, codec: Compression) -> Result<Partition, Error> {
    let clock = ManualClock::at(Timestamp::from_millis(START_MS));
    let config = TopicConfig::new()
        .segment_bytes(600)
        .index_interval_bytes(100)
        .compression(codec);
    Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock)
        .open_partition(config)
}

/// Returns the files of the same partition twice: after a close and after a kill.
fn images() -> &'static [Image; 2] {
    static IMAGES: OnceLock<[Image; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let disk = MemoryDisk::new();
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        for (number, base) in (0..RECORDS - 2).step_by(2).enumerate() {
            let codec = codecs
                .get(number % codecs.len())
                .copied()
                .unwrap_or_default();
            append(&open(&disk, codec).expect("a sound partition opens"), base);
        }
        let killed = open(&disk, Compression::None).expect("a sound partition opens");
        killed.flush().expect("a disk in memory does not fail");
        append(&killed, RECORDS - 2);
        let image = disk_image::take(&disk);
        drop(killed);
        [disk_image::take(&disk), image]
    })
}

fn append(partition: &Partition, base: u64) {
    let record = |offset: u64| {
        Record::new(value(offset))
            .key(offset.to_string())
            .timestamp(time(offset))
    };
    let appended = partition
        .append_batch([record(base), record(base + 1)])
        .expect("a sound partition accepts records");
    assert_eq!(appended, base..base + 2);
}

/// The changes that were made.
#[derive(Debug, Default)]
struct Harm {
    names: BTreeSet<String>,
    /// File, action, position and number of each edit, for the report of a finding.
    edits: Vec<(String, u8, usize, u8)>,
}

impl Harm {
    fn touches(&self, name: &str) -> bool {
        self.names.iter().any(|harmed| harmed == name)
    }
}

/// Applies one edit to the image.
fn harm(image: &mut Image, edit: [u8; 6], done: &mut Harm) {
    let [file, action, high, low, count, other] = edit;
    let other = image
        .get(usize::from(other) % image.len().max(1))
        .map(|(_, bytes)| bytes.clone())
        .unwrap_or_default();
    let number = usize::from(file) % image.len().max(1);
    let Some((name, bytes)) = image.get_mut(number) else {
        return;
    };
    done.names.insert(name.clone());
    let at = usize::from(u16::from_be_bytes([high, low])) % bytes.len().max(1);
    done.edits.push((name.clone(), action % 8, at, count));
    let run = at..(at + usize::from(count) + 1).min(bytes.len());
    match action % 8 {
        0 | 1 => bytes
            .get_mut(at)
            .into_iter()
            .for_each(|byte| *byte ^= 1 << (count % 8)),
        2 => bytes.truncate(at),
        3 => bytes.get_mut(run).into_iter().for_each(|run| run.fill(0)),
        4 => {
            let copy = bytes.get(run).map(<[u8]>::to_vec).unwrap_or_default();
            bytes.extend(copy);
        }
        5 => bytes.extend(vec![0; usize::from(count)]),
        6 => *bytes = other,
        _ => drop(image.remove(number)),
    }
}

/// Damages the files of a partition as `bytes` select, opens it, reads it, writes to it, and opens
/// it again.
pub fn partition_dir(bytes: &[u8]) {
    let [kind, action, at, edits @ ..] = bytes else {
        return;
    };
    let Some(sound) = images().get(usize::from(*kind) % 2) else {
        return;
    };
    let mut image = sound.clone();
    let mut done = Harm::default();
    for edit in edits.as_chunks::<6>().0.iter().take(MAX_EDITS) {
        harm(&mut image, *edit, &mut done);
    }
    let disk = disk_image::put(&image);
    let Ok(partition) = open(&disk, Compression::None) else {
        return;
    };
    let durable_end = if kind % 2 == 0 { RECORDS } else { RECORDS - 2 };
    if !check(&disk, &partition, &done, durable_end) {
        assert!(has_forged_batch(sound, &image), "wrong record: {done:?}");
        return;
    }
    let to = u64::from(*at) % (RECORDS + 2);
    let _may_fail = match action % 4 {
        0 => partition.truncate_to(to),
        1 => partition.delete_records_before(to).map(|_| ()),
        2 => partition.offset_for(time(to)).map(|_| ()),
        _ => Ok(()),
    };
    let end = partition.log_end_offset();
    let appended = partition
        .append(value(end).as_str())
        .map(|appended| appended.offset);
    if let Ok(offset) = appended {
        assert_eq!(offset, end, "the next record follows the last one");
        read_last(&partition, end);
    }
    drop(partition);
    let again = open(&disk, Compression::None).expect("a partition that opened once opens again");
    if appended.is_ok() {
        assert_eq!(
            again.log_end_offset(),
            end + 1,
            "an acknowledged record is in the log"
        );
        read_last(&again, end);
    }
}

fn read_last(partition: &Partition, offset: u64) {
    let mut reader = partition.read(offset..).expect("the offset is in the log");
    let record = reader
        .next_record()
        .expect("an appended record is sound")
        .expect("the appended record is in the log");
    assert_eq!(
        (record.offset(), record.text().into_owned()),
        (offset, value(offset))
    );
}

/// A batch of the sound log.
struct StoredBatch<'a> {
    file: &'a str,
    at: usize,
    base_offset: &'a [u8],
    /// The bytes that its checksum covers.
    covered: &'a [u8],
}

/// Returns the batches of the sound log in one file.
fn batches<'a>(file: &'a str, log: &'a [u8]) -> impl Iterator<Item = StoredBatch<'a>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (base_offset, rest) = log.get(at..)?.split_at_checked(size_of::<u64>())?;
        let length = u32::from_be_bytes(*rest.first_chunk()?);
        let end = at + LENGTH_ENDS_AT + usize::try_from(length).ok()?;
        let batch = StoredBatch {
            file,
            at,
            base_offset,
            covered: log.get(at + COVERED_FROM..end)?,
        };
        at = end;
        Some(batch)
    })
}

/// Returns whether a batch was both moved and given another base offset. Its neighbours reveal
/// either change alone. Kafka's format cannot reveal both together.
fn has_forged_batch(sound: &Image, harmed: &Image) -> bool {
    let is_forged = |batch: &StoredBatch, file: &str, at: usize, bytes: &[u8]| {
        let starts_with =
            |at: usize, part: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(part));
        let is_moved = (file, at) != (batch.file, batch.at);
        is_moved
            && starts_with(at + COVERED_FROM, batch.covered)
            && !starts_with(at, batch.base_offset)
    };
    let logs = sound
        .iter()
        .filter(|(name, _)| matches!(parse_segment_file(name), Some((_, LOG))));
    logs.flat_map(|(file, log)| batches(file, log))
        .any(|batch| {
            let found = |(file, bytes): &(String, Vec<u8>)| {
                (0..bytes.len()).any(|at| is_forged(&batch, file, at, bytes))
            };
            harmed.iter().any(found)
        })
}

/// Reads everything that can be read. Returns `false` at a record that was not written at its
/// offset.
fn check(disk: &MemoryDisk, partition: &Partition, harm: &Harm, durable_end: u64) -> bool {
    // Without its note, a partition may have gaps, and then no neighbour confirms a base offset.
    let is_dense = !harm.touches("lone-partition");
    let (mut next, mut reported) = (partition.log_start_offset(), 0);
    let mut reader = partition
        .read(..)
        .expect("a partition that opens can be read");
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                assert!(record.offset() >= next, "offsets rise");
                if is_dense {
                    assert_eq!(record.offset(), next, "unreported gap: {harm:?}");
                    if record.text() != value(next) {
                        return false;
                    }
                }
                next = record.offset() + 1;
            }
            Ok(None) => break,
            Err(Error::Corrupt(damage)) => {
                assert!(
                    damage.offsets.end > next,
                    "reading continues: {damage} at {next}"
                );
                assert!(
                    !is_dense || damage.offsets.contains(&next),
                    "{damage} at {next}"
                );
                reported += 1;
                next = damage.offsets.end;
                if next > partition.log_end_offset() {
                    break;
                }
                reader = partition
                    .read(next..)
                    .expect("reading can continue after the reported offsets");
            }
            Err(Error::BatchTooLarge(batch)) => {
                assert!(
                    batch.offsets.end > next,
                    "reading continues: {batch} at {next}"
                );
                next = batch.offsets.end;
                reader = partition
                    .read(next..)
                    .expect("reading can continue after the reported offsets");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        !is_dense || next >= partition.log_end_offset(),
        "reading reaches the end"
    );
    let is_known = !harm.touches("recovery-point-offset-checkpoint");
    if is_known && next < durable_end && reported == 0 {
        let kept = disk.list(DIR.as_ref()).expect("the directory exists");
        let has_torn = kept.iter().any(|entry| entry.name.contains(".torn"));
        assert!(
            has_torn || partition.append("x").is_err(),
            "the end is lost without a report: {harm:?}"
        );
    }
    true
}
