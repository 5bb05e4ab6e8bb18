//! Commits positions of one partition each, compared with appends of the same bytes to one
//! partition.
//!
//! `cargo bench --bench commit`

use std::time::{Duration, Instant};

use annals::{Log, Partition, Record, TopicConfig, TopicPartition};

mod workload;

/// Size of the key in the record of a commit; `VALUE_BYTES` is that of the value.
const KEY_BYTES: usize = 26;
const VALUE_BYTES: usize = 42;
/// Target, in commits a second.
const AIM: f64 = 500_000.0;

fn main() {
    let commits = workload::sized(1_000, 500_000, 5_000_000) as u64;
    let dir = tempfile::tempdir().expect("a directory can be created");
    let log = Log::open(dir.path()).expect("a new log opens");
    let topic = log
        .open_topic("work", 8, TopicConfig::new())
        .expect("a topic is created");
    for partition in topic.partitions() {
        partition
            .append_batch((0..1_000).map(|number| number.to_string()))
            .expect("an append works");
    }
    println!(
        "{commits} commits of one position, Durability::Os, and as many appends of records of their size"
    );

    let appended = append(
        &topic.partition(0).expect("the topic has eight partitions"),
        commits,
    );
    print_rate("append", commits, appended, None);
    let group = log.consumer_group("outside").expect("the name is valid");
    let partitions: Vec<TopicPartition> = topic
        .partitions()
        .iter()
        .map(|partition| partition.id().clone())
        .collect();
    let started = Instant::now();
    for (number, partition) in (0..commits).zip(partitions.iter().cycle()) {
        group
            .commit([(partition.clone(), (number % 1_000).into())])
            .expect("a commit works");
    }
    print_rate(
        "group without members",
        commits,
        started.elapsed(),
        Some(AIM),
    );

    let mut member = log
        .consumer_group("inside")
        .and_then(|group| group.join("work"))
        .expect("a member joins");
    let started = Instant::now();
    for (number, partition) in (0..commits).zip(partitions.iter().cycle()) {
        member
            .commit_offsets([(partition.clone(), (number % 1_000).into())])
            .expect("a commit works");
    }
    print_rate("member", commits, started.elapsed(), Some(AIM));
    log.close().expect("the log closes");
}

fn append(partition: &Partition, count: u64) -> Duration {
    let (key, value) = ([b'k'; KEY_BYTES], [b'v'; VALUE_BYTES]);
    let started = Instant::now();
    for _ in 0..count {
        partition
            .append(Record::new(&value[..]).key(&key[..]))
            .expect("an append works");
    }
    started.elapsed()
}

fn print_rate(name: &str, count: u64, time: Duration, aim: Option<f64>) {
    #[expect(clippy::cast_precision_loss, reason = "the figure is only printed")]
    let rate = count as f64 / time.as_secs_f64();
    let aim = aim
        .map(|aim| format!("  >= {aim}  {}", workload::verdict(rate >= aim)))
        .unwrap_or_default();
    println!("{name:<24}{rate:>12.0} a second{aim}");
}
