//! Prints records as `kafka-console-consumer` does, from a directory and with the same properties.
//!
//! `cargo run --example console_consumer -- --dir data --topic orders --from-beginning --property print.key=true`

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use annals::{
    Consumer, ConsumerConfig, Isolation, Log, OffsetReset, RecordView, Seek, Subscription, Topic,
    TopicPartition,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

/// Prints records of a topic, one on each line. Ctrl-C ends it, and it reports how many it printed.
#[derive(Parser)]
struct Options {
    /// Directory of the log
    #[arg(long)]
    dir: PathBuf,
    /// Topic to read
    #[arg(long, required_unless_present = "include", conflicts_with = "include")]
    topic: Option<String>,
    /// Read all topics whose names match
    #[arg(long, value_name = "REGEX")]
    include: Option<String>,
    /// Read this partition only
    #[arg(long, requires = "topic", conflicts_with = "group")]
    partition: Option<u32>,
    /// Offset to begin at: earliest, latest or a number
    #[arg(long, requires = "partition")]
    offset: Option<String>,
    /// Begin at the first record if no position is committed
    #[arg(long)]
    from_beginning: bool,
    /// Read as a member of this group, and commit; by default as a reader without a group
    #[arg(long)]
    group: Option<String>,
    /// End after this number of records
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    max_messages: u64,
    /// End when no record has arrived for this time
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// `read_uncommitted` or `read_committed`
    #[arg(long, default_value = "read_uncommitted")]
    isolation_level: String,
    /// print.timestamp, print.partition, print.offset, print.headers, print.key, print.value = true
    /// or false
    #[arg(long, value_name = "NAME=VALUE", alias = "formatter-property")]
    property: Vec<String>,
}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let columns = columns(&options.property)?;
    // Only a group commits. A read-only log works next to the program that writes it.
    let log = if options.group.is_some() {
        Log::open(&options.dir)?
    } else {
        Log::open_read_only(&options.dir)?
    };
    let mut consumer = consumer(&log, &options)?;
    let waker = consumer.waker();
    ctrlc::set_handler(move || waker.wake())?; // a poll that is woken returns no records
    let count = print(&mut consumer, &options, &columns)?;
    eprintln!("Processed a total of {count} messages");
    Ok(consumer.close()?)
}

fn consumer(log: &Log, options: &Options) -> Result<Consumer> {
    let isolation = match &*options.isolation_level {
        "read_uncommitted" => Isolation::ReadUncommitted,
        "read_committed" => Isolation::ReadCommitted,
        other => bail!("unknown isolation level: {other}"),
    };
    let reset = if options.from_beginning {
        OffsetReset::Earliest
    } else {
        OffsetReset::Latest
    };
    let config = ConsumerConfig::new()
        .isolation(isolation)
        .auto_offset_reset(reset);
    let subscription = match (&options.topic, &options.include) {
        (Some(topic), _) => Subscription::from(topic),
        (None, Some(pattern)) => Subscription::pattern(pattern)?,
        (None, None) => bail!("name a topic: --topic or --include"),
    };
    if let Some(group) = &options.group {
        let config = config.auto_commit(Duration::from_secs(5));
        return Ok(log.consumer_group(group)?.join_with(subscription, config)?);
    }
    let Some(partition) = options.partition else {
        // A reader without a group reads all partitions that exist now.
        let topics: Vec<Topic> = log
            .topics()
            .into_iter()
            .filter(|topic| subscription.contains(topic.name()))
            .collect();
        ensure!(!topics.is_empty(), "the topic does not exist");
        let partitions = topics
            .iter()
            .flat_map(Topic::partitions)
            .map(|partition| partition.id().clone());
        return Ok(log.assign_with(partitions, config)?);
    };
    let id = TopicPartition::new(
        options
            .topic
            .as_deref()
            .context("--partition needs --topic")?,
        partition,
    );
    let mut consumer = log.assign_with([id.clone()], config)?;
    match options.offset.as_deref() {
        None => {}
        Some("earliest") => consumer.seek(&id, Seek::Earliest)?,
        Some("latest") => consumer.seek(&id, Seek::Latest)?,
        Some(number) => consumer.seek(
            &id,
            number
                .parse::<u64>()
                .context("earliest, latest or a number")?,
        )?,
    }
    Ok(consumer)
}

/// Prints records up to the limits in `options`, and returns their number.
fn print(consumer: &mut Consumer, options: &Options, columns: &BTreeSet<String>) -> Result<u64> {
    let patience = options
        .timeout_ms
        .map_or(Duration::MAX, Duration::from_millis);
    let mut output = BufWriter::new(io::stdout().lock());
    let mut count = 0;
    while count < options.max_messages {
        let asked = Instant::now();
        let records = consumer.poll(patience)?;
        if records.is_empty() && records.rebalance().is_empty() && records.skipped().is_empty() {
            if asked.elapsed() >= patience {
                eprintln!("No record arrived for {} ms", patience.as_millis());
            }
            break;
        }
        for record in &records {
            let record = record?;
            writeln!(output, "{}", line(&record, columns))?;
            count += 1;
            if count == options.max_messages {
                // The poll returned more records. They are not printed, so they must not be
                // committed.
                consumer.seek(
                    &(record.topic(), record.partition()).into(),
                    record.offset() + 1,
                )?;
                rewind(consumer, &records, &record)?;
                break;
            }
        }
        output.flush()?;
    }
    Ok(count)
}

/// Moves the positions of the partitions that come after the last printed record, in the order of
/// the poll, back to their first records: none of these was printed.
fn rewind(consumer: &mut Consumer, records: &annals::Records, last: &RecordView<'_>) -> Result<()> {
    let is_last =
        |partition: &&TopicPartition| **partition == (last.topic(), last.partition()).into();
    let unprinted = records
        .partitions()
        .iter()
        .skip_while(|partition| !is_last(partition))
        .skip(1);
    for partition in unprinted {
        if let Some(first) = records.of(partition).next() {
            consumer.seek(partition, first?.offset())?;
        }
    }
    Ok(())
}

fn columns(properties: &[String]) -> Result<BTreeSet<String>> {
    let mut columns = BTreeSet::from(["value".to_owned()]);
    for property in properties {
        let Some((name, value)) = property.split_once('=') else {
            bail!("unknown property: {property}")
        };
        let column = name.trim_start_matches("print.");
        match value {
            "true" => _ = columns.insert(column.to_owned()),
            "false" => _ = columns.remove(column),
            _ => bail!("unknown property: {property}"),
        }
    }
    Ok(columns)
}

/// Returns the columns of a record in Kafka's order, separated by tabs.
fn line(record: &RecordView<'_>, columns: &BTreeSet<String>) -> String {
    let text = |bytes: Option<&[u8]>| {
        bytes
            .map_or("null".into(), String::from_utf8_lossy)
            .into_owned()
    };
    let headers = || {
        let all: Vec<String> = record
            .headers()
            .map(|header| format!("{}:{}", header.name(), text(header.value())))
            .collect();
        if all.is_empty() {
            "NO_HEADERS".to_owned()
        } else {
            all.join(",")
        }
    };
    let time = || {
        record.timestamp().map_or("NO_TIMESTAMP".to_owned(), |at| {
            format!("CreateTime:{}", at.as_millis())
        })
    };
    let cells: [(&str, &dyn Fn() -> String); 6] = [
        ("timestamp", &time),
        ("partition", &|| format!("Partition:{}", record.partition())),
        ("offset", &|| format!("Offset:{}", record.offset())),
        ("headers", &headers),
        ("key", &|| text(record.key())),
        ("value", &|| text(record.value())),
    ];
    let cells: Vec<String> = cells
        .iter()
        .filter(|(name, _)| columns.contains(*name))
        .map(|(_, cell)| cell())
        .collect();
    cells.join("\t")
}
