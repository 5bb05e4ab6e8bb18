//! Takes lines from one topic, turns each into another, appends it to a second topic, and only then
//! commits: at least once. Killed at any moment and started again, it loses nothing.
//!
//! `cargo run --example work_pipeline -- data --crash-after 10`, then
//! `cargo run --example work_pipeline -- data`

use std::collections::HashSet;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use annals::{ConsumerConfig, Log, Partition, Record, RecordView, TopicConfig};
use clap::Parser;

/// Makes the lines of the topic `raw` the upper-case lines of the topic `clean`.
#[derive(Parser)]
struct Options {
    /// Where the log is; created when absent, with some lines
    dir: PathBuf,
    /// How many lines a new log gets
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: u32,
    /// Die without any farewell after so many lines
    #[arg(long, value_name = "N")]
    crash_after: Option<u32>,
}

fn transform<'a>(line: &RecordView<'a>) -> Option<Record<'a>> {
    Some(Record::new(line.value()?.to_ascii_uppercase()).key(line.key()))
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let log = Log::open(&options.dir)?;
    let is_new = log.topic("raw").is_err();
    let raw = log.open_topic("raw", 3, TopicConfig::new())?;
    for number in (0..options.lines).filter(|_| is_new) {
        raw.append((number.to_string(), format!("line {number}")))?;
    }
    let clean = log.open_topic("clean", 3, TopicConfig::new())?;
    let mut consumer = log
        .consumer_group("pipeline")?
        .join_with("raw", ConsumerConfig::new().max_poll_records(8))?;
    let mut count = 0;
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            break; // it has caught up
        }
        for line in &records {
            if let Some(line) = transform(&line?) {
                clean.append(line)?;
            }
            count += 1;
            if options.crash_after == Some(count) {
                println!("dies after {count} lines");
                process::abort(); // nothing is dropped, closed or flushed
            }
        }
        consumer.commit()?; // after the appends: what a crash comes between is done again
    }
    consumer.close()?;

    let (mut all, mut distinct) = (0, HashSet::new());
    for partition in clean.partitions() {
        let mut reader = partition.read(..)?;
        while let Some(line) = reader.next_record()? {
            all += 1;
            distinct.insert(line.text().into_owned());
        }
    }
    let waiting: u64 = raw.partitions().iter().map(Partition::log_end_offset).sum();
    println!(
        "{} of {waiting} lines are there, {} of them twice",
        distinct.len(),
        all - distinct.len()
    );
    Ok(log.close()?)
}
