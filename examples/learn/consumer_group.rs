//! Three members of a group share a topic. One leaves and one panics. The group loses no record,
//! and processes no record again once it is committed.
//!
//! `cargo run --example consumer_group`

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use annals::{Consumer, Error, Log, Record, TopicConfig};

const RECORDS: u64 = 600;

/// The number of commits of each record, by partition and offset.
type Done = Mutex<BTreeMap<(u32, u64), u32>>;

/// Processes records until none arrive, or until `limit` records are done. Returns their number.
fn work(consumer: &mut Consumer, done: &Done, limit: u64) -> annals::Result<u64> {
    let mut count = 0;
    loop {
        let records = consumer.poll(Duration::from_millis(200))?;
        if records.is_empty() && records.rebalance().is_empty() {
            return Ok(count); // nothing arrived during the whole poll
        }
        for record in &records {
            let record = record?;
            match consumer.commit_record(&record) {
                Err(Error::MemberFenced { .. }) => break, // another member owns the partition now
                committed => committed?,
            }
            *done
                .lock()
                .expect("no thread panics while it holds the lock")
                .entry((record.partition(), record.offset()))
                .or_default() += 1;
            count += 1;
            if count == limit {
                return Ok(count);
            }
        }
    }
}

/// Panics after the first poll that returns records, before any of them is committed.
fn crash(mut consumer: Consumer) -> annals::Result<()> {
    loop {
        let records = consumer.poll(Duration::from_secs(1))?;
        // A consumer that is dropped during a panic commits nothing.
        assert!(records.is_empty(), "a bug in a worker");
    }
}

fn main() -> annals::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    std::panic::set_hook(Box::new(|panic| eprintln!("a worker died: {panic}")));
    let log = Log::in_memory();
    let jobs = log.open_topic("jobs", 6, TopicConfig::new())?;
    for number in 0..RECORDS {
        jobs.append(Record::new(format!("job {number}")).key(number.to_string()))?;
    }
    let (group, done) = (log.consumer_group("workers")?, Done::default());
    // All members join before the first one polls, so each has a share of the partitions.
    let mut staying = group.join("jobs")?;
    let mut leaving = group.join("jobs")?;
    let crashing = group.join("jobs")?;
    thread::scope(|scope| {
        let stays = scope.spawn(|| work(&mut staying, &done, u64::MAX));
        let leaves = scope.spawn(|| {
            let count = work(&mut leaving, &done, 50)?;
            leaving.close()?; // the other members get the records that it polled and did not commit
            annals::Result::Ok(count)
        });
        let crashes = scope.spawn(|| crash(crashing));
        assert!(crashes.join().is_err() || group.committed(&("jobs", 0).into())?.is_some());
        let _at_most_50 = leaves.join().expect("this member does not panic")?;
        stays.join().expect("this member does not panic")?;
        annals::Result::Ok(())
    })?;
    staying.close()?;
    // The last poll may have ended just before the member panicked: process what is left.
    work(&mut group.join("jobs")?, &done, u64::MAX)?;

    let done = done
        .into_inner()
        .expect("no thread panicked while it held the lock");
    println!(
        "{} of {RECORDS} jobs done, {} more than once",
        done.len(),
        done.values().filter(|count| **count > 1).count()
    );
    let state = group.describe()?.state;
    let lag = group
        .lag()?
        .expect("the group has committed in every partition");
    println!("group {} is {state:?}, {lag} jobs behind", group.id());
    log.close()
}
