//! Reads lines from one topic, appends each in upper case to a second topic, and only then commits.
//! That is at-least-once processing: killed at any moment and started again, the program loses no
//! line.
//!
//! `cargo run --example work_pipeline -- data --crash-after 10`, then
//! `cargo run --example work_pipeline -- data`

use std::collections::HashSet;
use std::time::Duration;
use std::{env, process};

use annals::{ConsumerConfig, Log, Partition, Record, RecordView, Result, TopicConfig};

const USAGE: &str = "\
Copies the lines of the topic `raw` in upper case to the topic `clean`.

Usage: work_pipeline DIR [--lines N] [--crash-after N]

DIR is the directory of the log; a new one is created and filled with lines.
  --lines N        the number of lines in a new log [default: 100]
  --crash-after N  abort without closing anything after N lines";

struct Options {
    dir: String,
    lines: u32,
    crash_after: Option<u32>,
}

/// Returns `None` if the arguments are not those of `USAGE`.
fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (mut dir, mut lines, mut crash_after) = (None, 100, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--lines" => lines = arguments.next()?.parse().ok()?,
            "--crash-after" => crash_after = Some(arguments.next()?.parse().ok()?),
            option if option.starts_with("--") => return None,
            _ if dir.is_some() => return None,
            _ => dir = Some(argument),
        }
    }
    Some(Options {
        dir: dir?,
        lines,
        crash_after,
    })
}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    if env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let Some(options) = parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        process::exit(2)
    };
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
            break; // every line is processed
        }
        for line in &records {
            if let Some(line) = transform(&line?) {
                clean.append(line)?;
            }
            count += 1;
            if options.crash_after == Some(count) {
                println!("dies after {count} lines");
                process::abort(); // drops, closes and flushes nothing
            }
        }
        // After the appends. If the program dies in between, the next run repeats these lines.
        consumer.commit()?;
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
    let expected: u64 = raw.partitions().iter().map(Partition::log_end_offset).sum();
    println!(
        "{} of {expected} lines are there, {} of them twice",
        distinct.len(),
        all - distinct.len()
    );
    log.close()
}

fn transform<'a>(line: &RecordView<'a>) -> Option<Record<'a>> {
    Some(Record::new(line.value()?.to_ascii_uppercase()).key(line.key()))
}
