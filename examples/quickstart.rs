//! The first screen: append, read by two groups, open again, look up by time.
//!
//! `cargo run --example quickstart` works in a fresh temporary directory and removes it; with a
//! directory, it stays there, and a second run goes on where the first one stopped.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use annals::{Log, Record, Result, Timestamp, TopicConfig};
use clap::Parser;

/// Shows topics, groups and a second opening.
#[derive(Parser)]
struct Options {
    /// Where the log is; without it, in a temporary directory that is removed at the end
    dir: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    if let Some(dir) = Options::parse().dir {
        return Ok(show(&dir)?);
    }
    let dir = std::env::temp_dir().join(format!("annals-quickstart-{}", std::process::id()));
    let shown = show(&dir);
    std::fs::remove_dir_all(&dir)?;
    Ok(shown?)
}

fn show(dir: &Path) -> Result<()> {
    let log = Log::open(dir)?; // creates the directory, or recovers what a crash left; locks it
    let orders = log.open_topic("orders", 2, TopicConfig::new())?; // the stored topic as it is, or else a new one
    println!(
        "opened a log: its topic orders has {} partitions",
        orders.partitions().len()
    );

    // Records of one key go to one partition and stay in order.
    for state in ["paid", "packed", "sent"] {
        let written = orders.append(Record::new(state).key("order-42").header("source", "web"))?;
        println!(
            "appended {state:?} to orders-{}, where it is record {}",
            written.partition, written.offset
        );
    }

    read_on(&log, "billing")?;
    read_on(&log, "shipping")?; // another group has a position of its own, and sees the same records
    log.close()?;

    let log = Log::open(dir)?;
    println!("opened it again");
    read_on(&log, "billing")?; // its position was kept

    let an_hour_ago = Timestamp::from(SystemTime::now() - Duration::from_secs(3600));
    let partition = log.topic("orders")?.partition_for(b"order-42");
    if let Some(found) = partition.offset_for(an_hour_ago)? {
        println!(
            "the first record of the last hour in {} is {}",
            partition.id(),
            found.offset
        );
    }
    log.close()
}

/// Reads what the group has not read yet, and commits it: the next time it goes on behind that.
fn read_on(log: &Log, group: &str) -> Result<()> {
    let mut consumer = log.consumer_group(group)?.join("orders")?;
    let records = consumer.poll(Duration::from_millis(100))?;
    if records.is_empty() {
        println!("{group} has nothing left to read");
    }
    for record in &records {
        let record = record?;
        println!(
            "{group} reads {} from {}-{}",
            record.text(),
            record.topic(),
            record.partition()
        );
    }
    consumer.commit()?;
    consumer.close()
}
