//! A key-value store in a compacted topic. At start it rebuilds its map from the topic, and
//! compaction keeps the topic about as large as the map.
//!
//! `cargo run --example compacted_topic -- data set colour blue`

use std::collections::BTreeMap;
use std::{env, process};

use annals::{CleanupPolicy, Log, Partition, Record, Result, TopicConfig};

const TOPIC: &str = "settings";

const USAGE: &str = "\
Keeps the latest value of each key in a compacted topic.

Usage: compacted_topic DIR set KEY VALUE
       compacted_topic DIR remove KEY
       compacted_topic DIR list
       compacted_topic DIR compact

DIR is the directory of the log; `set` and `remove` create it.";

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [dir, "set", key, value] => append(dir, Record::new(value).key(key)),
        [dir, "remove", key] => append(dir, Record::tombstone(key)),
        [dir, "list"] => list(dir),
        [dir, "compact"] => compact(dir),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            process::exit(2)
        }
    }
}

fn open(log: &Log) -> Result<Partition> {
    // Compaction leaves the active segment alone, so small segments suit a small store.
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(1_000);
    log.open_topic(TOPIC, 1, config)?.partition(0)
}

fn append(dir: &str, record: Record<'_>) -> Result<()> {
    let log = Log::open(dir)?;
    open(&log)?.append(record)?;
    log.close()
}

fn list(dir: &str) -> Result<()> {
    let log = Log::open_read_only(dir)?; // creates nothing, and works next to a writer
    for (key, value) in latest_values(&log.topic(TOPIC)?.partition(0)?)? {
        println!("{key} = {value}");
    }
    Ok(())
}

/// Reads the topic from its start, and keeps the latest value of each key.
fn latest_values(topic: &Partition) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let mut reader = topic.read(..)?;
    while let Some(record) = reader.next_record()? {
        let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
        match record.value() {
            Some(_) => drop(values.insert(key, record.text().into_owned())),
            None => drop(values.remove(&key)),
        }
    }
    Ok(values)
}

/// Removes the records that later records have replaced. The background thread of an open log does
/// this too, once half of the topic is new.
fn compact(dir: &str) -> Result<()> {
    let log = Log::open(dir)?;
    let topic = open(&log)?;
    let done = topic.compact()?;
    let bytes: u64 = topic.segments().iter().map(|segment| segment.bytes).sum();
    println!(
        "{} records removed, {bytes} bytes are left",
        done.records_removed
    );
    if done.bytes_not_compacted == bytes {
        println!("all of it is in the active segment, which is not compacted yet");
    }
    log.close()
}
