//! Consume, transform, produce: no record is lost if the program is killed at any point and
//! restarted.
//!
//! `cdc ROW…` first appends the rows, and processes each exactly once. `cdc --at-least-once ROW…`
//! may process a row again after a kill. `cdc --list`, run at the same time, prints the output.
use annals::{
    Consumer, Log, Rebalance, Record, RecordView, Seek, Topic, TopicConfig, TopicPartition,
    TransactionalProducer,
};
use std::collections::HashMap;
use std::env;
use std::time::Duration;

fn transform<'a>(row: &RecordView<'a>) -> Option<Record<'a>> {
    let mut out = Record::new(row.value()?.to_ascii_uppercase()).key(row.key()); // a null key stays null
    for header in row.headers() {
        out = out.header_bytes(header.name_bytes(), header.value()); // a name need not be text
    }
    Some(match row.timestamp() {
        Some(at) => out.timestamp(at),
        None => out,
    })
}

/// At least once: `append` has written the record when it returns. If a process is killed, it is
/// enough to append first and commit after that.
fn at_least_once(log: &Log, clean: &Topic, consumer: &mut Consumer) -> anyhow::Result<()> {
    let mut seen: HashMap<TopicPartition, u64> = HashMap::new();
    loop {
        let records = consumer.poll(Duration::from_secs(1))?;
        for change in records.rebalance() {
            match change {
                // `seen` can be borrowed mutably; Revoking is still ours until the next poll
                Rebalance::Revoking(gone) | Rebalance::Lost(gone) => gone.iter().for_each(|p| {
                    seen.remove(p);
                }),
                Rebalance::Assigned(new) => seen.extend(new.iter().map(|p| (p.clone(), 0))),
                _ => {}
            }
        }
        for row in &records {
            let row = row?;
            if let Some(out) = transform(&row) {
                clean.append(out)?;
            }
            *seen
                .entry((row.topic(), row.partition()).into())
                .or_default() += 1;
        }
        log.flush()?; // only for power cuts: the output must be on the device before the commit
        consumer.commit()?;
    }
}

/// Exactly once: the output and the positions become visible together.
fn exactly_once(
    producer: &mut TransactionalProducer,
    clean: &Topic,
    consumer: &mut Consumer,
) -> anyhow::Result<()> {
    loop {
        let records = consumer.poll(Duration::from_secs(1))?;
        let mut txn = producer.begin()?;
        for row in &records {
            if let Some(out) = transform(&row?) {
                txn.send(clean, out)?;
            }
        }
        txn.commit_offsets(consumer)?;
        if txn.commit().is_err() {
            consumer.seek_all(Seek::Committed)?;
        }
    }
}

fn list() -> anyhow::Result<()> {
    for partition in Log::open_read_only("cdc")?
        .topic("rows-clean")?
        .partitions()
    {
        for batch in partition.read(..)? {
            for row in &batch? {
                println!("{}", row?.text());
            }
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut rows: Vec<String> = env::args().skip(1).collect();
    if rows == ["--list"] {
        return list();
    }
    let may_repeat = rows.first().is_some_and(|row| row == "--at-least-once");
    rows.drain(..usize::from(may_repeat));
    let log = Log::open("cdc")?;
    let topic = log.open_topic("rows", 4, TopicConfig::new())?;
    let clean = log.open_topic("rows-clean", 4, TopicConfig::new())?;
    for row in rows {
        topic.append((row.clone(), row))?;
    }
    let mut consumer = log.consumer_group("cdc")?.join("rows")?;
    if may_repeat {
        at_least_once(&log, &clean, &mut consumer)
    } else {
        let mut producer = log.transactional_producer("cdc-1")?;
        exactly_once(&mut producer, &clean, &mut consumer)
    }
}
