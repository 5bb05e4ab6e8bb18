//! Truncating logs that a broker wrote, at many offsets: the records below stay exactly as they
//! were, whatever the batches contain.

use std::path::Path;

use annals::{Error, Isolation, Log, Partition, ReadOptions, Record, Timestamp};

use crate::kafka::{copy_dir, fixture};

/// Returns the offset, timestamp and content of every record.
fn records(partition: &Partition) -> Vec<(u64, Option<i64>, Record<'static>)> {
    let mut records = Vec::new();
    let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    let mut reader = partition.read_with(.., options).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        let timestamp = record.timestamp().map(Timestamp::as_millis);
        records.push((
            record.offset(),
            timestamp,
            Record::from(record).into_owned(),
        ));
    }
    records
}

fn open(root: &Path, topic: &str, number: u32) -> (Log, Partition) {
    let log = Log::open(root).unwrap();
    let partition = log.topic(topic).unwrap().partition(number).unwrap();
    (log, partition)
}

/// Copies one partition of a fixture, and what the root says about it.
fn copy_partition(set: &str, topic: &str, number: u32, master: &Path) {
    let name = format!("{topic}-{number}");
    std::fs::create_dir_all(master).unwrap();
    for file in ["meta.properties", ".kafka_cleanshutdown"] {
        let from = fixture(set).join(file);
        if from.exists() {
            std::fs::copy(from, master.join(file)).unwrap();
        }
    }
    for checkpoint in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
    ] {
        let Ok(text) = std::fs::read_to_string(fixture(set).join(checkpoint)) else {
            continue;
        };
        // Recovery would report the lines of partitions that are not copied as losses.
        let own: Vec<_> = text
            .lines()
            .skip(2)
            .filter(|line| line.starts_with(&format!("{topic} {number} ")))
            .collect();
        std::fs::write(
            master.join(checkpoint),
            format!("0\n{}\n{}\n", own.len(), own.join("\n")),
        )
        .unwrap();
    }
    copy_dir(&fixture(set).join(&name), &master.join(&name));
}

/// Copies one partition of a fixture about `ends` times, and truncates each copy at another offset.
fn check(set: &str, topic: &str, number: u32, ends: u64) {
    let name = format!("{topic}-{number}");
    let dir = tempfile::tempdir().unwrap();
    let master = dir.path().join("master");
    copy_partition(set, topic, number, &master);
    let (start, end, all) = {
        let log = Log::open_read_only(&master).unwrap();
        let partition = log.topic(topic).unwrap().partition(number).unwrap();
        (
            partition.log_start_offset(),
            partition.log_end_offset(),
            records(&partition),
        )
    };
    let step = ((end - start) / ends).max(1);
    for cut in (start..end).step_by(usize::try_from(step).unwrap()) {
        let place = format!("{set} {name} at {cut}");
        let root = dir.path().join(cut.to_string());
        copy_dir(&master, &root);
        let expected: Vec<_> = all
            .iter()
            .filter(|(offset, _, _)| *offset < cut)
            .cloned()
            .collect();
        let (log, partition) = open(&root, topic, number);
        partition
            .truncate_to(cut)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(partition.log_end_offset(), cut, "{place}");
        assert!(
            records(&partition) == expected,
            "{place}: the last record is {:?} instead of {:?}",
            records(&partition).last(),
            expected.last()
        );
        assert_eq!(partition.append("after").unwrap().offset, cut, "{place}");
        log.close().unwrap();
        let (log, partition) = open(&root, topic, number);
        assert!(log.recovery().clean, "{place}");
        assert!(
            !log.recovery().has_losses(),
            "{place}: {:?}",
            log.recovery()
        );
        let mut again = records(&partition);
        let after = again.pop().unwrap();
        let appended = Record::new("after").timestamp(Timestamp::from_millis(after.1.unwrap()));
        assert_eq!((after.0, after.2), (cut, appended), "{place}");
        assert!(
            again == expected,
            "{place}: the records differ after opening again"
        );
        log.close().unwrap();
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn truncation_keeps_the_records_below_in_plain_and_compressed_batches() {
    for topic in [
        "plain",
        "codec-gzip",
        "codec-snappy",
        "codec-lz4",
        "codec-zstd",
        "mixed-codecs",
        "shapes",
        "append-time",
    ] {
        check("clean/root", topic, 0, 8);
    }
}

#[test]
fn truncation_keeps_the_records_below_in_compacted_batches() {
    check("clean/root", "compacted", 0, 40);
    check("clean/root", "compacted-gone", 0, 12);
}

#[test]
fn truncation_keeps_the_records_below_in_producer_batches() {
    for number in 0..2 {
        check("clean/root", "idempotent", number, 12);
        check("clean/root", "transactions", number, 12);
    }
}

#[test]
fn truncation_keeps_the_records_below_in_old_formats() {
    let topics = [
        "v0-none",
        "v0-gzip",
        "v0-snappy",
        "v0-lz4",
        "v0-compacted",
        "v1-none",
        "v1-gzip",
        "v1-compacted",
    ];
    for topic in topics.into_iter().chain(["v1-append-time", "upgraded"]) {
        check("legacy/root", topic, 0, 9);
    }
}

#[test]
fn truncation_is_refused_below_the_log_start_and_ignored_above_the_end() {
    let log = Log::in_memory();
    let partition = log
        .create_topic("t", 1, annals::TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append_batch(["a", "b", "c"]).unwrap();
    partition.delete_records_before(2).unwrap();
    assert!(matches!(
        partition.truncate_to(1),
        Err(Error::OffsetOutOfRange {
            requested: 1,
            log_start: 2,
            log_end: 3,
            ..
        })
    ));
    partition.truncate_to(3).unwrap();
    partition.truncate_to(30).unwrap();
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (2, 3)
    );
    partition.truncate_to(2).unwrap();
    assert_eq!(partition.read(..).unwrap().count(), 0);
    assert_eq!(partition.append("d").unwrap().offset, 2);
}
