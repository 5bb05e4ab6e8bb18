//! Transactions, compared with the raw writes and syncs that they need, and with the same work
//! without transactions.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annals::{
    ConsumerConfig, Durability, Isolation, Log, LogConfig, MemoryDisk, Partition, ReadOptions,
    Topic, TopicConfig,
};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw::RawFile;
use crate::workload::{self, Shape, TYPICAL};

const SHAPE: Shape = Shape::new(100, 10);
const THREADS: usize = 8;
/// Commits before the measurement: enough that the files are extended ahead of their batches.
const WARM_UP: usize = 300;

/// Measures commits, which wait for the device.
pub(crate) fn measure_commits() {
    let commits = workload::sized(2, 500, 3_000);
    let raw = || time_raw(commits);
    measure_pair(
        &format!("commit, {}", SHAPE.name()),
        Aim::AtLeast(0.8),
        9,
        raw,
        || time_commits(1, commits),
    );
    // The same number of commits on both sides.
    measure_pair(
        &format!("commit, {THREADS} threads, against one"),
        Aim::AtLeast(4.0),
        9,
        || time_commits(1, commits),
        || time_commits(THREADS, commits / THREADS),
    );
}

/// Measures consuming, transforming and producing, by the number of records in a transaction.
pub(crate) fn measure_pipeline() {
    for (records, aim) in [(1, 0.5), (10, 0.5), (100, 0.5), (500, 0.5), (5_000, 0.9)] {
        let transactions = workload::sized(2, 200, 1_000);
        let of = |is_transactional| move || time_pipeline(records, transactions, is_transactional);
        measure_pair(
            &format!("copy {records} in a transaction, against synced"),
            Aim::AtLeast(aim),
            5,
            of(false),
            of(true),
        );
    }
}

/// Measures sending in a transaction, with its commit, compared with a producer and its flush.
pub(crate) fn measure_send() {
    let (rounds, records) = (workload::sized(1, 50, 200), 10_000);
    let value = Shape::new(100, 1).values().remove(0);
    measure_pair(
        "send in a transaction, against a producer",
        Aim::AtLeast(0.9),
        15,
        || {
            let (log, topic) = in_memory();
            let producer = log.producer().expect("a producer starts");
            time(|| {
                for _ in 0..rounds {
                    for _ in 0..records {
                        producer.send(&topic, &value).expect("a send works");
                    }
                    producer.flush().expect("a flush works");
                }
            })
        },
        || {
            let (log, topic) = in_memory();
            let mut producer = log.transactional_producer("id").expect("the id is free");
            time(|| {
                for _ in 0..rounds {
                    let mut transaction = producer.begin().expect("a transaction begins");
                    for _ in 0..records {
                        transaction.send(&topic, &value).expect("a send works");
                    }
                    transaction.commit().expect("a commit works");
                }
            })
        },
    );
}

/// Measures reading committed records of a topic that has no transactions.
pub(crate) fn measure_read() {
    let scratch = workload::scratch();
    let partition = workload::filled(scratch.path(), TYPICAL, workload::sized(8, 2_000, 10_000));
    let of = |isolation| {
        let partition = &partition;
        move || time(|| visit(partition, isolation))
    };
    measure_pair(
        "read committed, against uncommitted",
        Aim::AtLeast(0.97),
        15,
        of(Isolation::ReadUncommitted),
        of(Isolation::ReadCommitted),
    );
}

/// Writes the batch of records and the batch of the commit point to a file each, and syncs both.
fn time_raw(commits: usize) -> Duration {
    let scratch = workload::scratch();
    let data = workload::batch_of(SHAPE);
    let state = workload::batch_of(Shape::new(80, 1));
    let mut files = [("data", data), ("state", state)].map(|(name, batch)| {
        let path = scratch.path().join(name);
        let zeros = vec![0; batch.len() * (WARM_UP + commits)];
        std::fs::write(&path, zeros).expect("zeros can be written");
        let file = RawFile::open_or_create(&path);
        file.sync();
        (file, batch)
    });
    let mut commit = || {
        for (file, batch) in &mut files {
            file.append(batch);
            file.sync();
        }
    };
    (0..WARM_UP).for_each(|_| commit());
    time(|| (0..commits).for_each(|_| commit()))
}

/// Returns the time in which each thread makes this many commits, with a producer of its own.
fn time_commits(threads: usize, each: usize) -> Duration {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created");
    let values = SHAPE.values();
    let start = Barrier::new(threads);
    let work = |thread: usize| {
        let id = format!("id-{thread}");
        let mut producer = log.transactional_producer(&id).expect("the id is free");
        let mut commit = || {
            let mut transaction = producer.begin().expect("a transaction begins");
            transaction
                .send_batch(&topic, &values)
                .expect("a send works");
            transaction.commit().expect("a commit works");
        };
        (0..WARM_UP / threads).for_each(|_| commit());
        start.wait();
        let begun = Instant::now();
        (0..each).for_each(|_| commit());
        begun
    };
    let time = thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let begun = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        begun.min().expect("a thread works").elapsed()
    });
    log.close().expect("the log closes");
    time
}

/// Copies records in upper case, with a commit of the positions after each poll.
fn time_pipeline(records: usize, transactions: usize, is_transactional: bool) -> Duration {
    let scratch = workload::scratch();
    let durability = if is_transactional {
        Durability::Os
    } else {
        Durability::Synced
    };
    let log = Log::builder(scratch.path())
        .config(LogConfig::new().durability(durability))
        .open()
        .expect("a new log opens");
    let input = log
        .open_topic("in", 1, TopicConfig::new().durability(Durability::Os))
        .expect("a topic is created");
    let output = log
        .open_topic("out", 1, TopicConfig::new())
        .expect("a topic is created");
    let values = Shape::new(100, 500.min(records)).values();
    for _ in 0..(transactions + 10) * records / values.len() {
        workload::append(&input.partition(0).expect("partition 0 exists"), &values);
    }
    log.flush().expect("a flush works");
    let config =
        ConsumerConfig::new().max_poll_records(u32::try_from(records).expect("a count fits"));
    let mut consumer = log
        .consumer_group("bench")
        .and_then(|group| group.join_with("in", config))
        .expect("a member joins");
    let plain = log.producer().expect("a producer starts");
    let mut producer = log.transactional_producer("id").expect("the id is free");
    let mut copy = || -> annals::Result<()> {
        let polled = consumer.poll(Duration::from_secs(60))?;
        let mut count = 0;
        if is_transactional {
            let mut transaction = producer.begin()?;
            for record in &polled {
                let value = record?.value().unwrap_or_default().to_ascii_uppercase();
                transaction.send(&output, value)?;
                count += 1;
            }
            transaction.commit_offsets(&mut consumer)?;
            transaction.commit()?;
        } else {
            for record in &polled {
                let value = record?.value().unwrap_or_default().to_ascii_uppercase();
                plain.send(&output, value)?;
                count += 1;
            }
            plain.flush()?;
            consumer.commit()?;
        }
        assert_eq!(count, records, "each poll returns as many records");
        Ok(())
    };
    (0..10).for_each(|_| copy().expect("a copy works"));
    time(|| (0..transactions).for_each(|_| copy().expect("a copy works")))
}

fn in_memory() -> (Log, Topic) {
    let log = Log::builder("log").storage(MemoryDisk::new()).open();
    let log = log.expect("a new log opens");
    let topic = log
        .open_topic("bench", 1, TopicConfig::new())
        .expect("a topic is created");
    (log, topic)
}

fn visit(partition: &Partition, isolation: Isolation) {
    let options = ReadOptions::new().isolation(isolation);
    let reader = partition.read_with(.., options);
    for batch in reader.expect("the range can be read") {
        for record in &batch.expect("the batch is sound") {
            black_box(record.expect("the record is sound").value());
        }
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
