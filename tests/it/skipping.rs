//! Reading past damage: every offset is either read or reported as lost.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of ranges may have one element"
)]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use crate::CODECS;
use annals::{Compression, Partition, ReadOptions, Reader, Record, TopicConfig};

const RECORDS: u64 = 24;

fn value(offset: u64) -> String {
    format!("value {offset} {}", "x".repeat(40))
}

/// Writes batches of two records, in at least three segments.
fn filled(dir: &Path, codec: Compression) -> Partition {
    let partition = Partition::open(
        dir,
        TopicConfig::new().segment_bytes(450).compression(codec),
    )
    .unwrap();
    for offset in (0..RECORDS).step_by(2) {
        partition
            .append_batch([value(offset), value(offset + 1)].map(Record::new))
            .unwrap();
    }
    partition.flush().unwrap();
    assert!(
        partition.segments().len() >= 3,
        "{:?}",
        partition.segments()
    );
    partition
}

fn harm(path: &Path, harm: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    harm(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Returns the position of each batch in a `.log` file.
fn batches(path: &Path) -> Vec<usize> {
    crate::damage::batches(&fs::read(path).unwrap())
}

fn skipping() -> ReadOptions {
    ReadOptions::new().skip_corrupt(true)
}

/// Reads the records of `range` one by one. Returns the offsets that the reader skipped, after
/// checking that they include every record that was not read.
fn read_to(reader: &mut Reader, range: Range<u64>) -> Vec<Range<u64>> {
    let (mut next, mut lost) = (range.start, Vec::<Range<u64>>::new());
    while next < range.end {
        let offset = reader.next_record().unwrap().map(|record| {
            assert_eq!(record.text(), value(record.offset()));
            record.offset()
        });
        lost.extend(
            reader
                .take_skipped()
                .into_iter()
                .map(|damage| damage.offsets),
        );
        assert!(
            reader.take_skipped().is_empty(),
            "each damage is reported once"
        );
        while let Some(gap) = lost.iter().find(|gap| gap.contains(&next)) {
            next = gap.end;
        }
        assert_eq!(
            offset.unwrap_or(range.end),
            next,
            "the gap was not reported"
        );
        next += u64::from(offset.is_some());
    }
    lost
}

/// Reads batch by batch. Returns the offsets that the reader skipped, after checking that they
/// include every record that was not read.
fn lost_of_batches(partition: &Partition) -> Vec<Range<u64>> {
    let mut reader = partition.read_with(.., skipping()).unwrap();
    let mut read = vec![false; usize::try_from(RECORDS).unwrap()];
    for batch in &mut reader {
        for record in &batch.unwrap() {
            let record = record.unwrap();
            assert_eq!(record.text(), value(record.offset()));
            read[usize::try_from(record.offset()).unwrap()] = true;
        }
    }
    let lost: Vec<_> = reader
        .take_skipped()
        .into_iter()
        .map(|damage| damage.offsets)
        .collect();
    for (offset, is_read) in (0..).zip(read) {
        assert_eq!(
            is_read,
            !lost.iter().any(|lost| lost.contains(&offset)),
            "{offset}"
        );
    }
    lost
}

/// Damages a partition in one way and reads it record by record and batch by batch. The reader
/// skips exactly the offsets in `expected`.
fn check(
    codec: Compression,
    damage: impl FnOnce(&[PathBuf]),
    expected: impl FnOnce(&[Range<u64>]) -> Vec<Range<u64>>,
) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("p");
    let partition = filled(&root, codec);
    let segments = partition.segments();
    let spans: Vec<_> = segments
        .iter()
        .map(|segment| segment.base_offset..segment.next_offset)
        .collect();
    let expected = expected(&spans);
    drop(partition);
    damage(
        &segments
            .iter()
            .map(|segment| segment.path.clone())
            .collect::<Vec<_>>(),
    );
    let partition = Partition::open(&root, TopicConfig::new()).unwrap();
    assert_eq!(
        read_to(
            &mut partition.read_with(.., skipping()).unwrap(),
            0..RECORDS
        ),
        expected
    );
    assert_eq!(lost_of_batches(&partition), expected);
    assert!(
        partition.read(..).unwrap().any(|batch| batch.is_err()),
        "a reader that does not skip gets the error"
    );
}

#[test]
fn a_damaged_batch_in_the_middle_is_skipped() {
    for codec in CODECS {
        let second =
            |paths: &[PathBuf]| harm(&paths[1], |bytes| bytes[batches(&paths[1])[1] + 70] ^= 1);
        check(codec, second, |spans| {
            vec![spans[1].start + 2..spans[1].start + 4]
        });
    }
}

#[test]
fn a_wrong_length_costs_one_batch() {
    let second =
        |paths: &[PathBuf]| harm(&paths[1], |bytes| bytes[batches(&paths[1])[1] + 9] ^= 0x40);
    check(Compression::None, second, |spans| {
        vec![spans[1].start + 2..spans[1].start + 4]
    });
}

#[test]
fn reading_continues_in_the_next_segment_after_damage_at_the_end() {
    let last = |paths: &[PathBuf]| harm(&paths[0], |bytes| *bytes.last_mut().unwrap() ^= 1);
    check(Compression::None, last, |spans| {
        vec![spans[0].end - 2..spans[0].end]
    });
}

#[test]
fn a_zeroed_file_costs_its_segment_alone() {
    check(
        Compression::Lz4,
        |paths| harm(&paths[1], |bytes| bytes.fill(0)),
        |spans| vec![spans[1].clone()],
    );
}

#[test]
fn each_damaged_place_is_reported_separately() {
    let all = |paths: &[PathBuf]| {
        for path in paths {
            harm(path, |bytes| bytes[70] ^= 1);
        }
    };
    check(Compression::None, all, |spans| {
        spans
            .iter()
            .map(|span| span.start..span.start + 2)
            .collect()
    });
}

#[test]
fn a_missing_segment_is_reported() {
    check(
        Compression::None,
        |paths| fs::remove_file(&paths[1]).unwrap(),
        |spans| vec![spans[1].clone()],
    );
}

#[test]
fn a_reader_ends_when_its_range_ends_in_damage() {
    let dir = tempfile::tempdir().unwrap();
    let partition = filled(&dir.path().join("p"), Compression::None);
    let first = partition.segments()[0].path.clone();
    harm(&first, |bytes| bytes[batches(&first)[1] + 70] ^= 1);
    let mut reader = partition.read_with(1..3, skipping()).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 1);
    assert!(reader.next_record().unwrap().is_none());
    let skipped = reader.take_skipped();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].offsets, 2..4);
    // A reader can also start inside the damage.
    let mut reader = partition.read_with(3.., skipping()).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 4);
    assert_eq!(reader.take_skipped()[0].offsets, 2..4);
}

#[test]
fn a_skipping_follower_receives_records_appended_later() {
    let dir = tempfile::tempdir().unwrap();
    let partition = filled(&dir.path().join("p"), Compression::None);
    let first = partition.segments()[0].path.clone();
    harm(&first, |bytes| bytes[batches(&first)[1] + 70] ^= 1);
    let mut reader = partition.read_with(.., skipping().wait(true)).unwrap();
    let expected = 2..4;
    assert_eq!(read_to(&mut reader, 0..RECORDS), [expected]);
    thread::scope(|scope| {
        scope.spawn(|| partition.append(value(RECORDS).as_str()).unwrap());
        assert_eq!(read_to(&mut reader, RECORDS..RECORDS + 1), []);
    });
}

/// The batch was malformed before its writer computed the checksum. The records before the
/// malformed one are read.
#[test]
fn a_malformed_record_costs_the_rest_of_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("p");
    let partition = filled(&root, Compression::None);
    let first = partition.segments()[0].path.clone();
    drop(partition);
    let start = batches(&first)[1];
    harm(&first, |bytes| {
        let size =
            12 + u32::from_be_bytes(bytes[start + 8..start + 12].try_into().unwrap()) as usize;
        let batch = &mut bytes[start..start + size];
        // The length of the second record.
        let second = 61 + (size - 61) / 2;
        batch[second] ^= 2;
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    });
    let partition = Partition::open(&root, TopicConfig::new()).unwrap();
    let expected = vec![3..4];
    assert_eq!(
        read_to(
            &mut partition.read_with(.., skipping()).unwrap(),
            0..RECORDS
        ),
        expected
    );
    assert_eq!(lost_of_batches(&partition), expected);
}

/// The batch after the good one is damaged too, so it does not confirm the good batch. The damaged
/// batch before it does: it has the length that its header states.
#[test]
fn a_good_batch_between_two_damaged_ones_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let partition = Partition::open(dir.path().join("t-0"), TopicConfig::new()).unwrap();
    for offset in (0..10).step_by(2) {
        partition
            .append_batch([value(offset), value(offset + 1)].map(Record::new))
            .unwrap();
    }
    let log = partition.segments()[0].path.clone();
    let starts = batches(&log);
    harm(&log, |bytes| {
        bytes[starts[2] - 5] ^= 1;
        bytes[starts[3] + 7] ^= 0x10;
    });
    let mut reader = partition.read_with(.., skipping()).unwrap();
    assert_eq!(read_to(&mut reader, 0..10), [2..4, 6..8]);
}
