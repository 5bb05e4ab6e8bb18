//! Transactions of four producers overlap in small segments. The list of the aborted ones is right
//! from every offset, in the files too, and after the log was opened again.

use std::fs;
use std::path::{Path, PathBuf};

use annals::inspect::{self, DumpOptions};
use annals::{ManualClock, RecoveredOutcome, Timestamp};

use super::*;
use crate::inspect::collect;
use crate::kafka::copy_dir;

/// The name of each producer.
const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// How many transactions each producer ends.
const ROUNDS: usize = 12;

/// The log as a test expects it.
#[derive(Debug, Default)]
struct Model {
    /// The offset of each record, its producer, and whether it is visible.
    records: Vec<(u64, usize, Option<bool>)>,
    /// First offset, offset of the marker, and last stable offset after it.
    aborted: Vec<(u64, u64, u64)>,
}

impl Model {
    /// Decides all records of a producer that are open.
    fn end(&mut self, producer: usize, is_visible: bool, partition: &Partition) {
        let mut first = None;
        for (offset, of, visible) in &mut self.records {
            if *of == producer && visible.is_none() {
                first.get_or_insert(*offset);
                *visible = Some(is_visible);
            }
        }
        if !is_visible {
            let marker = partition.log_end_offset() - 1;
            let stable = partition.last_stable_offset();
            let first = first.expect("the transaction has records");
            self.aborted.push((first, marker, stable));
        }
    }

    /// Returns the offsets that a reader of committed records gets from here on.
    fn visible_from(&self, offset: u64) -> Vec<u64> {
        let open = self.records.iter().find(|record| record.2.is_none());
        let end = open.map_or(u64::MAX, |record| record.0);
        let visible = |record: &&(u64, usize, Option<bool>)| {
            record.2 == Some(true) && (offset..end).contains(&record.0)
        };
        let visible = self.records.iter().filter(visible);
        visible.map(|record| record.0).collect()
    }
}

/// A generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Appends records of four producers and plain ones, in any order, until each has ended its
/// transactions. Adds what they leave to the model. Calls `stop` while transactions are open.
fn fill_with_transactions(log: &Log, seed: u64, model: &mut Model, stop: impl FnOnce(&Model)) {
    let config = TopicConfig::new().segment_bytes(5_000);
    let topic = log.open_topic("t", 1, config).unwrap();
    let partition = part(&topic, 0);
    let mut producers = IDS.map(|id| log.transactional_producer_with(id, small()).unwrap());
    let mut numbers = Numbers(seed);
    for _ in 0..ROUNDS {
        let mut open: Vec<_> = producers
            .iter_mut()
            .map(|producer| Some(producer.begin().unwrap()))
            .collect();
        let mut has_records = [false; 4];
        while open.iter().any(Option::is_some) {
            let producer = numbers.below(5);
            let offset = partition.log_end_offset();
            let Some(slot) = open.get_mut(producer) else {
                partition.append("plain").unwrap();
                model.records.push((offset, producer, Some(true)));
                continue;
            };
            let Some(transaction) = slot else { continue };
            if !has_records[producer] || numbers.below(3) > 0 {
                transaction.send_to(&partition, large("x")).unwrap();
                assert_eq!(partition.log_end_offset(), offset + 1);
                model.records.push((offset, producer, None));
                has_records[producer] = true;
                continue;
            }
            let is_committed = numbers.below(2) == 0;
            let transaction = slot.take().unwrap();
            if is_committed {
                transaction.commit().unwrap();
            } else {
                transaction.abort().unwrap();
            }
            model.end(producer, is_committed, &partition);
        }
    }
    let mut rest: Vec<_> = producers
        .iter_mut()
        .map(|producer| producer.begin().unwrap())
        .collect();
    for (producer, transaction) in rest.iter_mut().enumerate() {
        for _ in 0..3 {
            model
                .records
                .push((partition.log_end_offset(), producer, None));
            transaction.send_to(&partition, large("open")).unwrap();
        }
    }
    stop(model);
    for (producer, transaction) in rest.into_iter().enumerate() {
        transaction.abort().unwrap();
        model.end(producer, false, &partition);
    }
}

/// Checks what a reader gets from every third offset. Begins at the end, so that the first reader
/// of each segment starts in it.
fn check_reads(log: &Log, model: &Model) {
    let partition = part(&log.topic("t").unwrap(), 0);
    for from in (0..=partition.log_end_offset()).rev().step_by(3) {
        let mut reader = partition.read(from..).unwrap();
        let mut offsets = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            offsets.push(record.offset());
        }
        assert_eq!(offsets, model.visible_from(from), "from {from}");
    }
    let all: Vec<_> = model.records.iter().map(|record| record.0).collect();
    assert_eq!(written(&partition).len(), all.len());
}

/// Returns the entries of the transaction indexes of a closed log.
fn entries(dir: &Path) -> Vec<(u64, u64, u64)> {
    let mut files: Vec<PathBuf> = Vec::new();
    collect(&dir.join("t-0"), &["txnindex"], &mut files);
    assert!(files.len() > 3, "{files:?}");
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    inspect::dump(&files, &DumpOptions::new(), &mut out, &mut problems).unwrap();
    assert!(
        problems.is_empty(),
        "{}",
        String::from_utf8_lossy(&problems)
    );
    let printed = String::from_utf8(out).unwrap();
    let lines = printed.lines().filter(|line| line.starts_with("version: "));
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: usize| words[word].parse().unwrap();
        (number(5), number(7), number(9))
    };
    lines.map(entry).collect()
}

#[test]
fn four_producers_leave_the_expected_list_of_aborted_transactions() {
    for seed in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        for opening in 0..3 {
            let log = Log::open(dir.path()).unwrap();
            let read_only = Log::open_read_only(dir.path()).unwrap();
            fill_with_transactions(&log, 3 * seed + opening, &mut model, |_| {});
            check_reads(&log, &model);
            check_reads(&read_only, &model);
            log.close().unwrap();
            assert_eq!(entries(dir.path()), model.aborted);
        }
        check_reads(&Log::open_read_only(dir.path()).unwrap(), &model);
        let log = Log::open(dir.path()).unwrap();
        check_reads(&log, &model);
        assert!(log.open_transactions().unwrap().is_empty());
    }
}

/// Opens a log without a background thread, so that no file changes while the test copies it.
fn open_alone(dir: &Path) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    Log::builder(dir).clock(clock).open().unwrap()
}

#[test]
fn open_transactions_are_found_again_with_and_without_snapshots() {
    for is_without_snapshots in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let [own, copy] = ["own", "copy"].map(|name| dir.path().join(name));
        let log = open_alone(&own);
        fill_with_transactions(&log, 7, &mut Model::default(), |model| {
            copy_dir(&own, &copy);
            if is_without_snapshots {
                let mut files = Vec::new();
                collect(&copy, &["snapshot", "txnindex"], &mut files);
                for file in files {
                    fs::remove_file(file).unwrap();
                }
            }
            let open = log.open_transactions().unwrap();
            assert_eq!(open.len(), IDS.len());
            let read_only = Log::open_read_only(&copy).unwrap();
            assert_eq!(read_only.open_transactions().unwrap(), open);
            check_reads(&read_only, model);
        });
        let log_of_copy = Log::open(&copy).unwrap();
        let recovered = &log_of_copy.recovery().transactions;
        assert_eq!(recovered.len(), IDS.len());
        for transaction in recovered {
            assert_eq!(transaction.outcome, RecoveredOutcome::Aborted);
        }
        let partition = part(&log_of_copy.topic("t").unwrap(), 0);
        let original = part(&log.topic("t").unwrap(), 0);
        assert_eq!(committed(&partition), committed(&original));
        assert_eq!(partition.last_stable_offset(), partition.log_end_offset());
    }
}

/// Regression: a walk over a segment ends where the segment did when it was opened. The producers
/// there were taken for those at the end that the segment has now. So readers got the records of an
/// aborted transaction that began in between and ended in the next segment.
#[test]
fn a_transaction_that_crosses_the_end_of_an_opened_segment_stays_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let [own, killed] = ["own", "killed"].map(|name| dir.path().join(name));
    let log = open_alone(&own);
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    part(&topic, 0).append("before").unwrap();
    copy_dir(&own, &killed);
    drop(topic);
    log.close().unwrap();
    for dir in [own, killed] {
        let log = open_alone(&dir);
        let read_only = Log::open_read_only(&dir).unwrap();
        let partition = part(&log.topic("t").unwrap(), 0);
        let mut producer = log.transactional_producer_with("id", small()).unwrap();
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&partition, large("aborted")).unwrap();
        partition.roll().unwrap();
        transaction.abort().unwrap();
        partition.append("after").unwrap();
        assert_eq!(written(&partition).len(), 3);
        for log in [&log, &read_only] {
            let partition = part(&log.topic("t").unwrap(), 0);
            assert_eq!(committed(&partition), ["before", "after"], "{log:?}");
        }
    }
}

#[test]
fn open_transactions_are_found_again_in_a_compacted_partition() {
    let dir = tempfile::tempdir().unwrap();
    let [own, copy] = ["own", "copy"].map(|name| dir.path().join(name));
    let log = open_alone(&own);
    let config = TopicConfig::new()
        .segment_bytes(3_000)
        .set("cleanup.policy", "compact")
        .unwrap();
    let partition = part(&log.create_topic("t", 1, config).unwrap(), 0);
    let mut producers = IDS.map(|id| log.transactional_producer_with(id, small()).unwrap());
    let record = |id: &str, round: usize| Record::new(large(&format!("{id} {round}"))).key("k");
    for round in 0..12 {
        for (id, producer) in IDS.iter().zip(&mut producers) {
            let mut transaction = producer.begin().unwrap();
            transaction.send_to(&partition, record(id, round)).unwrap();
            if round % 3 == 0 {
                transaction.abort().unwrap();
            } else {
                transaction.commit().unwrap();
            }
        }
    }
    let mut open = producers.iter_mut().map(|producer| {
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&partition, record("open", 0)).unwrap();
        transaction
    });
    let open: [_; 2] = [open.next().unwrap(), open.next().unwrap()];
    partition.roll().unwrap();
    let done = partition.compact().unwrap();
    assert!(done.records_removed > 30, "{done:?}");
    let expected = log.open_transactions().unwrap();
    assert_eq!(expected.len(), open.len());
    copy_dir(&own, &copy);
    let mut files = Vec::new();
    collect(&copy, &["snapshot", "txnindex"], &mut files);
    for file in files {
        fs::remove_file(file).unwrap();
    }
    let read_only = Log::open_read_only(&copy).unwrap();
    assert_eq!(read_only.open_transactions().unwrap(), expected);
    let seen = committed(&part(&read_only.topic("t").unwrap(), 0));
    assert_eq!(seen.last(), Some(&large("d 11")));
    assert_eq!(seen, committed(&partition));
    let log_of_copy = Log::open(&copy).unwrap();
    let mut next = log_of_copy.transactional_producer("a").unwrap();
    let mut transaction = next.begin().unwrap();
    let partition = part(&log_of_copy.topic("t").unwrap(), 0);
    transaction.send_to(&partition, record("next", 0)).unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&partition).last(), Some(&large("next 0")));
    drop(open);
}
