//! Telemetry on a small disk, uploaded when there is a connection.
use annals::{Durability, Error, Log, LogConfig, Record, Topic, TopicConfig};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn store(log: &Log, topic: &Topic, sample: &str) -> Result<(), Error> {
    let record = Record::new(sample).key("sensor-1");
    // Passed by reference, so that a second attempt can use it.
    match topic.append(&record) {
        Err(Error::DiskFull { .. }) => {}
        other => return other.map(drop),
    }
    if log.maintain()?.bytes_freed == 0 {
        for partition in topic.partitions() {
            let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
            partition.delete_records_before(start + (end - start) / 4)?; // the space is free on return
        }
    }
    topic.append(&record)?;
    Ok(())
}

fn upload(log: &Log) -> anyhow::Result<()> {
    let mut consumer = log.consumer_group("uploader")?.join("telemetry")?;
    loop {
        let records = consumer.poll(Duration::from_millis(10))?;
        for (partition, offsets) in records.skipped() {
            eprintln!(
                "{partition}: {} samples aged out before they were sent",
                offsets.end - offsets.start
            );
        }
        if records.is_empty() {
            return Ok(consumer.close()?);
        }
        let body = records
            .iter()
            .map(|r| Ok(r?.text()))
            .collect::<Result<Vec<_>, Error>>()?
            .join("\n");
        http_post(&body)?;
        consumer.commit()?;
    }
}

/// A placeholder for an HTTP request.
fn http_post(body: &str) -> anyhow::Result<()> {
    println!("uploaded {body:?}");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "/var/lib/telemetry".to_owned());
    let log = Log::builder(dir)
        .config(
            LogConfig::new()
                .max_bytes(256 * MIB)
                .flush_interval(Duration::from_secs(5)),
        )
        .open()?;
    let config = TopicConfig::new()
        .retention(Duration::from_secs(72 * 3600))
        .retention_bytes(64 * MIB);
    let telemetry = log.open_topic("telemetry", 1, config)?;
    let alarms = telemetry.with_durability(Durability::Synced); // the same topic with another handle
    store(&log, &telemetry, "t=21.5")?;
    store(&log, &alarms, "fire")?;
    upload(&log)
}
