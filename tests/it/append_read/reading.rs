//! The promises of a reader, for every start and every way in which the log is read.

use std::fs;
use std::path::Path;

use annals::{Compression, Error, Log, LogConfig, Partition, ReadMode, Record, TopicConfig};

use crate::CODECS;
use crate::kafka::copy_dir;

fn value(offset: u64) -> String {
    format!(
        "value {offset} {}",
        "x".repeat(usize::try_from(offset * 37 % 900).unwrap())
    )
}

/// Appends 300 records in batches of 1 to 5, in many small segments and with every codec.
fn fill(partition: &Partition, set_codec: impl Fn(Compression)) {
    let codecs = CODECS;
    let (mut next, mut round) = (0, 0);
    while next < 300 {
        set_codec(codecs[round % codecs.len()]);
        let count = 1 + next % 5;
        assert_eq!(
            partition
                .append_batch((next..next + count).map(value))
                .unwrap(),
            next..next + count
        );
        next += count;
        round += 1;
    }
}

fn open(root: &Path, mode: ReadMode) -> (Log, Partition) {
    let log = Log::builder(root)
        .config(LogConfig::new().read_mode(mode))
        .open()
        .unwrap();
    let config = TopicConfig::new()
        .segment_bytes(4_000)
        .index_interval_bytes(500)
        .retention(None);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    (log, partition)
}

#[test]
fn a_reader_can_start_at_every_offset() {
    for mode in [ReadMode::Map, ReadMode::Copy] {
        let dir = tempfile::tempdir().unwrap();
        let (log, partition) = open(dir.path(), mode);
        let topic = log.topic("t").unwrap();
        fill(&partition, |codec| {
            topic
                .update_config(TopicConfig::new().compression(codec))
                .unwrap();
        });
        assert!(partition.segments().len() > 5);
        check_starts(&partition);
        log.close().unwrap();
        let (log, partition) = open(dir.path(), mode);
        assert!(log.recovery().clean);
        check_starts(&partition);
    }
}

/// From every offset, reads a few records one by one, and the rest batch by batch.
fn check_starts(partition: &Partition) {
    let end = partition.log_end_offset();
    for start in (0..=end).rev() {
        let mut reader = partition.read(start..).unwrap();
        assert_eq!(reader.next_offset(), start);
        for offset in start..end.min(start + 7) {
            let record = reader.next_record().unwrap().unwrap();
            assert_eq!(
                (record.offset(), record.text().into_owned()),
                (offset, value(offset))
            );
            assert_eq!(reader.next_offset(), offset + 1);
        }
        let batches = reader.try_fold(start.saturating_add(7).min(end), |next, batch| {
            let offsets = batch?.offsets();
            assert_eq!(offsets.start, next);
            Ok::<_, Error>(offsets.end)
        });
        assert_eq!(batches.unwrap(), end);
    }
}

#[test]
fn a_range_ends_inside_a_batch_for_records_and_batches() {
    let log = Log::in_memory();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    for batch in 0..4 {
        partition
            .append_batch((batch * 5..batch * 5 + 5).map(value))
            .unwrap();
    }
    let batches: Vec<_> = partition
        .read(3..12)
        .unwrap()
        .map(|batch| batch.unwrap().offsets())
        .collect();
    assert_eq!(batches, [3..5, 5..10, 10..12]);
    let mut reader = partition.read(3..12).unwrap();
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.next_offset(), 12);
    let (from, to) = (9, 4);
    assert_eq!(partition.read(from..to).unwrap().count(), 0);
}

#[test]
fn a_reader_at_the_end_continues_after_an_append() {
    let log = Log::in_memory();
    let partition = log
        .create_topic("t", 1, TopicConfig::new().segment_bytes(200))
        .unwrap()
        .partition(0)
        .unwrap();
    let mut reader = partition.read(..).unwrap();
    for offset in 0..20 {
        assert!(reader.next_record().unwrap().is_none());
        partition.append(format!("value {offset}")).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}")
        );
    }
}

#[test]
fn a_wake_ends_a_call_in_the_middle_of_a_batch() {
    let log = Log::in_memory();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append_batch(["a", "b", "c", "d"]).unwrap();
    let mut reader = partition.read(..).unwrap();
    let waker = reader.waker();
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "a");
    waker.wake();
    waker.wake();
    assert!(reader.next_record().unwrap().is_none());
    assert_eq!(
        (
            reader.next_offset(),
            reader.next_record().unwrap().unwrap().text().into_owned()
        ),
        (1, "b".to_owned())
    );
    waker.wake();
    assert!(reader.next().is_none());
    assert_eq!(reader.next().unwrap().unwrap().offsets(), 2..4);
    waker.wake();
    assert!(reader.next().is_none());
    assert!(reader.next().is_none());
}

/// Damages the second record of the second batch, and corrects the checksum.
fn with_malformed_record(root: &Path) {
    let path = root.join("t-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let first = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let batch = &mut bytes[first..];
    // The length of a short record is one byte, zigzag-encoded. The record's fourth byte after it
    // is the length of the key.
    let second = 61 + 1 + usize::from(batch[61] / 2);
    batch[second + 4] = 0x7e;
    let size = 12 + u32::from_be_bytes(batch[8..12].try_into().unwrap()) as usize;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..size]);
    batch[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_malformed_record_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let (live, root) = (dir.path().join("live"), dir.path().join("root"));
    let log = Log::open(&live).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    for batch in 0..3 {
        partition
            .append_batch((batch * 3..batch * 3 + 3).map(|n| format!("value {n}")))
            .unwrap();
    }
    log.close().unwrap();
    copy_dir(&live, &root);
    with_malformed_record(&root);
    let log = Log::open(&root).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let mut reader = partition.read(..).unwrap();
    for offset in 0..4 {
        assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    }
    let Err(Error::Corrupt(damage)) = reader.next_record() else {
        panic!("the reader did not report the malformed record")
    };
    assert_eq!(damage.offsets, 3..6);
    assert!(reader.next_record().unwrap().is_none());
    assert!(reader.next().is_none());
    assert_eq!(
        reader.next_offset(),
        6,
        "a new reader can start after the batch"
    );
    assert_eq!(
        partition
            .read(6..)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .text(),
        "value 6"
    );
    let batch = partition.read(3..6).unwrap().next().unwrap().unwrap();
    let results: Vec<_> = batch
        .iter()
        .map(|record| record.map(|record| record.offset()).ok())
        .collect();
    assert_eq!(
        results,
        [Some(3), None, Some(5)],
        "the records around the malformed one are read"
    );
}

#[test]
fn batches_outlive_the_topic_the_log_and_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = open(dir.path(), ReadMode::Map);
    for offset in 0..40 {
        partition
            .append(Record::new(value(offset)).key(offset.to_string()))
            .unwrap();
    }
    let held: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    let detached: Vec<_> = held.iter().map(annals::Batch::detach).collect();
    partition.truncate_to(5).unwrap();
    partition.delete_records_before(5).unwrap();
    log.delete_topic("t").unwrap();
    assert!(matches!(partition.read(..), Err(Error::UnknownTopic(_))));
    log.close().unwrap();
    drop(dir);
    for (offset, (held, detached)) in (0..).zip(held.iter().zip(&detached)) {
        for batch in [held, detached] {
            assert_eq!(batch.iter().next().unwrap().unwrap().text(), value(offset));
        }
    }
}
