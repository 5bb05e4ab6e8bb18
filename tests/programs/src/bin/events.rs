//! An event-sourced service.
use annals::{CleanupPolicy, Log, Reader, Record, Topic, TopicConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Serialize, Deserialize)]
enum Event {
    Opened { owner: String },
    Deposited { cents: i64 },
}

#[derive(Default, Serialize, Deserialize)]
struct Account {
    owner: String,
    cents: i64,
}

impl Account {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Opened { owner } => self.owner = owner,
            Event::Deposited { cents } => self.cents += cents,
        }
    }
}

fn emit(events: &Topic, id: &str, event: &Event) -> anyhow::Result<u64> {
    let record = Record::new(serde_json::to_vec(event)?)
        .key(id)
        .header("type", "event");
    Ok(events.append(record)?.offset)
}

fn fold(mut reader: Reader, only: Option<&str>) -> anyhow::Result<HashMap<String, Account>> {
    let mut accounts: HashMap<String, Account> = HashMap::new();
    while let Some(record) = reader.next_record()? {
        let (Some(key), Some(value)) = (record.key(), record.value()) else {
            continue;
        };
        let id = std::str::from_utf8(key)?;
        if only.is_none_or(|only| only == id) {
            accounts
                .entry(id.to_owned())
                .or_default()
                .apply(serde_json::from_slice(value)?);
        }
    }
    Ok(accounts)
}

fn main() -> anyhow::Result<()> {
    let log = Log::open("bank")?;
    let events = log.open_topic("account-events", 8, TopicConfig::new().retention(None))?;
    let views = log.open_topic(
        "accounts",
        8,
        TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
    )?;

    emit(
        &events,
        "a-1",
        &Event::Opened {
            owner: "Kim".into(),
        },
    )?;
    emit(&events, "a-1", &Event::Deposited { cents: 500 })?;

    let one = fold(events.partition_for(b"a-1").read(..)?, Some("a-1"))?; // one partition, not eight
    println!("{}", one["a-1"].cents);
    for partition in events.partitions() {
        for (id, account) in fold(partition.read(..)?, None)? {
            views.append((id, serde_json::to_vec(&account)?))?;
        }
    }
    for partition in views.partitions() {
        partition.compact()?;
    }
    Ok(())
}
