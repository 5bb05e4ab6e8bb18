//! Readers of an active segment that is larger than a unit of its map, on the disk of the machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::{Batch, Log, Partition, TopicConfig};

/// Four records have more than the 64 KiB that are mapped together.
const VALUE_BYTES: usize = 20_000;

fn open(dir: &tempfile::TempDir) -> (Log, Partition) {
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
    (log, topic.partition(0).unwrap())
}

fn value(offset: u64) -> Vec<u8> {
    let mut value = offset.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, u8::try_from(offset % 251).unwrap());
    value
}

fn append_up_to(partition: &Partition, end: u64) {
    for offset in partition.log_end_offset()..end {
        partition.append(value(offset)).unwrap();
    }
}

fn batches(partition: &Partition) -> Vec<Batch> {
    partition.read(..).unwrap().map(Result::unwrap).collect()
}

fn assert_values(batches: &[Batch], offsets: std::ops::Range<u64>) {
    let records: Vec<_> = batches.iter().flatten().map(Result::unwrap).collect();
    assert!(records.iter().map(annals::RecordView::offset).eq(offsets));
    for record in records {
        assert_eq!(record.value(), Some(&value(record.offset())[..]));
    }
}

#[test]
fn each_reader_sees_all_records_while_the_segment_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = open(&dir);
    for end in 1..60 {
        append_up_to(&partition, end);
        assert_values(&batches(&partition), 0..end);
        let mut last = partition.read(end - 1..).unwrap();
        let last = last.next_record().unwrap().unwrap();
        assert_eq!(last.value(), Some(&value(end - 1)[..]));
    }
    partition.roll().unwrap();
    assert_values(&batches(&partition), 0..59);
    log.close().unwrap();
}

#[test]
fn batches_keep_their_bytes_when_the_active_segment_is_cut_and_grows_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = open(&dir);
    append_up_to(&partition, 30);
    let before = batches(&partition);
    for cut in [29, 17, 3, 0] {
        partition.truncate_to(cut).unwrap();
        for _ in 0..30 {
            partition.append(vec![255; VALUE_BYTES]).unwrap();
        }
        assert_eq!(batches(&partition).len() as u64, cut + 30);
        assert_values(&before, 0..30);
        partition.truncate_to(cut).unwrap();
    }
    log.close().unwrap();
    drop(dir);
    assert_values(&before, 0..30);
}

#[test]
fn batches_keep_their_bytes_when_another_opening_cuts_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = open(&dir);
    append_up_to(&partition, 30);
    let before = batches(&partition);
    drop(partition);
    log.close().unwrap();
    for end in [20, 10, 0] {
        let (log, partition) = open(&dir);
        partition.truncate_to(end).unwrap();
        assert_values(&batches(&partition), 0..end);
        assert_values(&before, 0..30);
        drop(partition);
        log.close().unwrap();
    }
}

#[test]
fn readers_and_a_writer_of_one_segment_run_at_once() {
    const END: u64 = 1_500;
    let dir = tempfile::tempdir().unwrap();
    let (log, partition) = open(&dir);
    append_up_to(&partition, 1);
    let is_done = AtomicBool::new(false);
    thread::scope(|threads| {
        for stride in [1, 7, 31] {
            let (partition, is_done) = (&partition, &is_done);
            threads.spawn(move || {
                let mut from = 0;
                while !is_done.load(Ordering::SeqCst) {
                    let read = partition.read(from..).unwrap().map(Result::unwrap);
                    let some: Vec<Batch> = read.take(40).collect();
                    assert_values(&some, from..from + some.len() as u64);
                    from = (from + stride) % partition.log_end_offset();
                }
            });
        }
        append_up_to(&partition, END);
        is_done.store(true, Ordering::SeqCst);
    });
    assert_eq!(partition.segments().len(), 1);
    assert_values(&batches(&partition), 0..END);
    log.close().unwrap();
}
