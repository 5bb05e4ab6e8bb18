//! Readers of both isolations follow a log while transactions commit, spill and abort: in the
//! process of the writer, in a read-only log of the same process, and in another process.

use std::path::Path;
use std::process::Stdio;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::*;
use crate::rerun::command_of;

/// Names the directory that the reader process reads.
const READER: &str = "ANNALS_TEST_TRANSACTIONS_READER";
/// The last committed record.
const END: &str = "end";
const PRODUCERS: u32 = 3;
const TRANSACTIONS: u32 = 60;

/// Follows a partition up to the last committed record, and returns the values.
fn follow(partition: &Partition, isolation: Isolation) -> Vec<String> {
    let options = ReadOptions::new().isolation(isolation).wait(true);
    let mut reader = partition.read_with(.., options).unwrap();
    let mut values = Vec::new();
    loop {
        let record = reader.next_record().unwrap().unwrap();
        if record.text() == END {
            return values;
        }
        values.push(record.text().into_owned());
    }
}

/// The values of one reader.
type Following<'scope> = ScopedJoinHandle<'scope, (Isolation, u32, Vec<String>)>;

/// Starts a reader of each isolation for each partition of `out`.
fn start<'scope>(scope: &'scope Scope<'scope, '_>, log: &Log) -> Vec<Following<'scope>> {
    let topic = log.topic("out").unwrap();
    let partitions = topic.partitions().into_iter();
    let readers = partitions.flat_map(|partition| {
        [Isolation::ReadCommitted, Isolation::ReadUncommitted].map(|isolation| {
            let partition = partition.clone();
            scope.spawn(move || {
                let number = partition.id().partition;
                (isolation, number, follow(&partition, isolation))
            })
        })
    });
    readers.collect()
}

/// Runs transactions of one producer. Every second one is larger than its memory, and every third
/// one is aborted. Returns the committed values.
fn work(log: &Log, number: u32) -> Vec<String> {
    let output = log.topic("out").unwrap().partitions();
    let mut producer = log
        .transactional_producer_with(&format!("id-{number}"), small())
        .unwrap();
    let mut values = Vec::new();
    for round in 0..TRANSACTIONS {
        let mut transaction = producer.begin().unwrap();
        let mut sent = Vec::new();
        for record in 0..3 {
            let value = format!("{number} {round} {record}");
            let value = if round % 2 == 0 { large(&value) } else { value };
            for partition in &output {
                transaction.send_to(partition, value.clone()).unwrap();
            }
            sent.push(value);
        }
        if round % 3 == 1 {
            transaction.abort().unwrap();
        } else {
            transaction.commit().unwrap();
            values.extend(sent);
        }
    }
    values
}

/// Checks the values of a reader against the committed ones of each producer.
fn check(log: &Log, isolation: Isolation, partition: u32, values: &[String], sent: &[Vec<String>]) {
    let partition = part(&log.topic("out").unwrap(), partition);
    let again = match isolation {
        Isolation::ReadCommitted => committed(&partition),
        _ => written(&partition),
    };
    assert_eq!(values, &again[..again.len() - 1], "{isolation:?}");
    if isolation == Isolation::ReadCommitted {
        for (number, sent) in sent.iter().enumerate() {
            let start = format!("{number} ");
            let of_producer = values.iter().filter(|value| value.starts_with(&start));
            assert!(of_producer.eq(sent), "producer {number}");
        }
    } else {
        assert!(values.len() > committed(&partition).len());
    }
}

#[test]
fn readers_of_both_isolations_follow_running_transactions_in_two_processes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let config = TopicConfig::new().segment_bytes(20_000);
    log.create_topic("out", 2, config).unwrap();
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let other = command_of("transactions::readers::the_reader")
        .env(READER, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sent, read) = thread::scope(|scope| {
        let mut readers = start(scope, &log);
        readers.extend(start(scope, &read_only));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let log = &log;
                scope.spawn(move || work(log, number))
            })
            .collect();
        let sent: Vec<_> = producers
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        for partition in log.topic("out").unwrap().partitions() {
            partition.append(END).unwrap();
        }
        let read: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        (sent, read)
    });
    for (isolation, partition, values) in &read {
        check(&log, *isolation, *partition, values, &sent);
    }
    assert_eq!(read.len(), 8);

    let output = other.wait_with_output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = 0;
    for (isolation, partition, values) in &read[..4] {
        let start = format!("read {isolation:?} {partition}: ");
        let of_reader = printed
            .lines()
            .filter_map(|line| line.strip_prefix(&*start));
        assert!(of_reader.eq(values), "{start}");
        lines += values.len();
    }
    let all = printed.lines().filter(|line| line.starts_with("read "));
    assert_eq!(all.count(), lines);
}

#[test]
#[ignore = "runs in the process that another test starts"]
fn the_reader() {
    let Some(dir) = std::env::var_os(READER) else {
        return;
    };
    let log = Log::open_read_only(Path::new(&dir)).unwrap();
    println!();
    thread::scope(|scope| {
        for reader in start(scope, &log) {
            let (isolation, partition, values) = reader.join().unwrap();
            for value in values {
                println!("read {isolation:?} {partition}: {value}");
            }
        }
    });
}
