//! A key-value store whose state is a compacted topic: the map in memory is rebuilt from it at
//! start, and the topic stays about as large as the map.
//!
//! `cargo run --example compacted_topic -- data set colour blue`

#[path = "tool/mod.rs"]
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;

use annals::{CleanupPolicy, Log, Partition, Record, Result, TopicConfig};
use clap::{Parser, Subcommand};

const TOPIC: &str = "settings";

/// Keeps the latest value of each key in a compacted topic.
#[derive(Parser)]
struct Options {
    /// Directory of the log; `set` and `remove` create it
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sets the value of a key
    Set { key: String, value: String },
    /// Removes a key
    Remove { key: String },
    /// Prints all keys with their values
    List,
    /// Removes the records that later ones have replaced
    Compact,
}

/// The latest value of each key.
struct Store {
    topic: Partition,
    values: BTreeMap<String, String>,
}

impl Store {
    fn open(log: &Log) -> Result<Self> {
        // Only sealed segments are compacted: small ones, since there is little in it.
        let config = TopicConfig::new()
            .cleanup_policy(CleanupPolicy::Compact)
            .segment_bytes(1_000);
        let topic = log.open_topic(TOPIC, 1, config)?.partition(0)?;
        let values = latest_values(&topic)?;
        Ok(Self { topic, values })
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.topic.append((key, value))?;
        self.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        self.topic.append(Record::tombstone(key))?;
        self.values.remove(key);
        Ok(())
    }
}

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

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let Options { dir, command } = Options::parse();
    if matches!(command, Command::List) {
        let log = Log::open_read_only(dir)?; // creates nothing, and disturbs no writer
        for (key, value) in latest_values(&log.topic(TOPIC)?.partition(0)?)? {
            println!("{key} = {value}");
        }
        return Ok(());
    }
    let log = Log::open(dir)?;
    let mut store = Store::open(&log)?;
    match command {
        Command::List => {}
        Command::Set { key, value } => store.set(&key, &value)?,
        Command::Remove { key } => store.remove(&key)?,
        Command::Compact => {
            // A log that is open for a while does this by itself, once half of a topic is new.
            let spinner = tool::progress(None, "passes");
            let done = store.topic.compact()?;
            spinner.finish_and_clear();
            let bytes: u64 = store
                .topic
                .segments()
                .iter()
                .map(|segment| segment.bytes)
                .sum();
            println!(
                "{} records removed, {bytes} bytes are left",
                done.records_removed
            );
            if done.bytes_not_compacted == bytes {
                println!("all of it is in the active segment, which is not compacted yet");
            }
        }
    }
    Ok(log.close()?)
}
