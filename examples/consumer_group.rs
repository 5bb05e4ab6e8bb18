//! Three members share a topic; one leaves, one crashes. Nothing is lost, and nothing is read again
//! after its commit.
//!
//! `cargo run --example consumer_group`

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use annals::{Consumer, Error, Log, Record, TopicConfig};
use clap::Parser;

const RECORDS: u64 = 600;

/// Shows how the members of a consumer group share a topic.
#[derive(Parser)]
struct Options {}

/// How often each record was committed, by partition and offset.
type Done = Mutex<BTreeMap<(u32, u64), u32>>;

/// Works until there is nothing left to do, or until it has done `limit` records.
fn work(consumer: &mut Consumer, done: &Done, limit: u64) -> annals::Result<u64> {
    let mut count = 0;
    loop {
        let records = consumer.poll(Duration::from_millis(200))?;
        if records.is_empty() && records.rebalance().is_empty() {
            return Ok(count); // for as long as a poll waits, nothing came
        }
        for record in &records {
            let record = record?;
            match consumer.commit_record(&record) {
                Err(Error::MemberFenced { .. }) => break, // the group gave it to another member
                committed => committed?,
            }
            *done
                .lock()
                .expect("nobody panics with it")
                .entry((record.partition(), record.offset()))
                .or_default() += 1;
            count += 1;
            if count == limit {
                return Ok(count);
            }
        }
    }
}

/// Polls and dies before it has committed anything of it.
fn crash(mut consumer: Consumer) -> annals::Result<()> {
    loop {
        let records = consumer.poll(Duration::from_secs(1))?;
        assert!(records.is_empty(), "a bug in a worker"); // dropped while it panics, so it commits nothing
    }
}

fn main() -> annals::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    Options::parse();
    std::panic::set_hook(Box::new(|panic| eprintln!("a worker died: {panic}")));
    let log = Log::in_memory();
    let jobs = log.open_topic("jobs", 6, TopicConfig::new())?;
    for number in 0..RECORDS {
        jobs.append(Record::new(format!("job {number}")).key(number.to_string()))?;
    }
    let (group, done) = (log.consumer_group("workers")?, Done::default());
    // All join before one of them works: each has its share, however the threads come to run.
    let (mut staying, mut leaving, crashing) = (
        group.join("jobs")?,
        group.join("jobs")?,
        group.join("jobs")?,
    );
    thread::scope(|scope| {
        let stays = scope.spawn(|| work(&mut staying, &done, u64::MAX));
        let leaves = scope.spawn(|| {
            let count = work(&mut leaving, &done, 50)?;
            leaving.close()?; // what it polled beyond that goes to the others
            annals::Result::Ok(count)
        });
        let crashes = scope.spawn(|| crash(crashing));
        assert!(crashes.join().is_err() || group.committed(&("jobs", 0).into())?.is_some());
        let _at_most = leaves.join().expect("it leaves well")?;
        stays.join().expect("it stays")?;
        annals::Result::Ok(())
    })?;
    staying.close()?;
    work(&mut group.join("jobs")?, &done, u64::MAX)?; // if the last poll ended just before a member died

    let done = done.into_inner().expect("nobody panics with it");
    println!(
        "{} of {RECORDS} jobs done, {} more than once",
        done.len(),
        done.values().filter(|count| **count > 1).count()
    );
    let description = group.describe()?;
    let lag: u64 = description
        .positions
        .iter()
        .filter_map(|position| position.lag)
        .sum();
    println!(
        "group {} is {:?}, {lag} jobs behind",
        description.group, description.state
    );
    log.close()
}
