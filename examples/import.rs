//! Appends what `export` printed: one record for each line of standard input, with its timestamp and headers.
//!
//! `import DIR TOPIC [--partition P] [--batch N] [--codec none|gzip|snappy|lz4|zstd]` creates the topic if it is not there, to
//! be kept for ever, since what is imported may be old. It appends to a broker's directory as well.

use std::io::{self, BufRead};
use std::path::PathBuf;

use annals::{Compression, Log, Record, Timestamp, TopicConfig};
use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};
use serde_json::Value;

/// Appends records that `export` printed, from standard input.
#[derive(Parser)]
struct Arguments {
    /// Directory of the log.
    dir: PathBuf,
    topic: String,
    /// Partition that the records go to.
    #[arg(long, default_value_t = 0)]
    partition: u32,
    /// Records in a batch.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// How batches are compressed, from now on; otherwise as the topic has it.
    #[arg(long)]
    codec: Option<Codec>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let log = Log::open(&arguments.dir)?;
    // Old records are welcome, and so are times that lie ahead.
    let config = TopicConfig::new().retention(None).timestamp_after_max(None);
    let topic = log.open_topic(&arguments.topic, arguments.partition + 1, config)?;
    if let Some(codec) = arguments.codec {
        topic.update_config(TopicConfig::new().compression(codec.into()))?;
    }
    let partition = topic.partition(arguments.partition)?;
    let (mut batch, mut count) = (Vec::new(), 0_u64);
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let record = parse(&line?).with_context(|| format!("line {}", number + 1))?;
        batch.push(record);
        count += 1;
        if batch.len() as u64 == arguments.batch {
            partition.append_batch(batch.drain(..))?;
        }
    }
    partition.append_batch(batch)?;
    log.close()?;
    eprintln!("{count} records imported to {}-{}", arguments.topic, arguments.partition);
    Ok(())
}

fn parse(line: &str) -> anyhow::Result<Record<'static>> {
    let line: Value = serde_json::from_str(line)?;
    let mut record = Record::new(bytes(&line["value"]).context("value")?).key(bytes(&line["key"]).context("key")?);
    if let Some(millis) = line["timestamp"].as_i64() {
        record = record.timestamp(Timestamp::from_millis(millis));
    }
    for header in line["headers"].as_array().into_iter().flatten() {
        record = record.header_bytes(name(&header[0])?, bytes(&header[1]).context("header")?);
    }
    Ok(record)
}

/// Text, or `{"base64":"..."}` if it is not UTF-8.
fn name(name: &Value) -> anyhow::Result<Vec<u8>> {
    match (name.as_str(), name["base64"].as_str()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).context("the name of a header"),
        (None, None) => Err(anyhow!("a header without a name")),
    }
}

/// Base64 or null.
fn bytes(value: &Value) -> anyhow::Result<Option<Vec<u8>>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(STANDARD.decode(text)?)),
        other => Err(anyhow!("{other} is neither base64 nor null")),
    }
}
