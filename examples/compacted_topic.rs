//! A key-value store whose state is a compacted topic: the map in memory is rebuilt from it at start, and the topic stays about
//! as large as what is in the map. `compacted_topic DIR set KEY VALUE`, `remove KEY`, `list`, `compact`.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use annals::{CleanupPolicy, Log, Partition, Record, Result, TopicConfig};

/// The latest value of each key.
struct Store {
    topic: Partition,
    values: BTreeMap<String, String>,
}

impl Store {
    fn open(log: &Log) -> Result<Self> {
        // Only sealed segments are compacted: small ones, since there is little in it.
        let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(1_000);
        let topic = log.open_topic("settings", 1, config)?.partition(0)?;
        let mut values = BTreeMap::new();
        let mut reader = topic.read(..)?;
        while let Some(record) = reader.next_record()? {
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            match record.value() {
                Some(_) => drop(values.insert(key, record.text().into_owned())),
                None => drop(values.remove(&key)),
            }
        }
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

fn run(log: &Log, arguments: &[&str]) -> Result<bool> {
    let mut store = Store::open(log)?;
    match arguments {
        ["set", key, value] => store.set(key, value)?,
        ["remove", key] => store.remove(key)?,
        ["list"] => store.values.iter().for_each(|(key, value)| println!("{key} = {value}")),
        ["compact"] => {
            // A log that is open for a while does this by itself, once half of a topic is new.
            let done = store.topic.compact()?;
            let bytes: u64 = store.topic.segments().iter().map(|segment| segment.bytes).sum();
            println!("{} records removed, {bytes} bytes are left", done.records_removed);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some((dir, command)) = arguments.split_first() {
        let log = Log::open(dir)?;
        let is_known = run(&log, command)?;
        log.close()?;
        if is_known {
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("usage: compacted_topic DIR set KEY VALUE | remove KEY | list | compact");
    Ok(ExitCode::from(2))
}
