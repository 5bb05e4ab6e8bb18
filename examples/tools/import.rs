//! Appends the records that `export` printed: one for each line of standard input, with its
//! timestamp and headers.
//!
//! `import DIR TOPIC [--partition P] [--batch N] [--codec none|gzip|snappy|lz4|zstd]` creates the
//! topic if it does not exist. A new topic keeps its records for ever, because imported records may
//! be old. `import` appends to a broker's directory as well. A record without a timestamp gets the
//! current time. So does a record with a negative timestamp: old brokers may have stored one, but
//! it can no longer be written.

mod progress;

use std::io::{self, BufRead};
use std::path::PathBuf;

use annals::{Compression, Log, Record, Timestamp, TopicConfig};
use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value};

/// Appends the records that `export` printed, from standard input.
#[derive(Parser)]
struct Arguments {
    /// Directory of the log.
    dir: PathBuf,
    topic: String,
    /// Partition to append to.
    #[arg(long, default_value_t = 0)]
    partition: u32,
    /// Number of records in a batch.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Codec of the topic from now on; by default the topic keeps its codec.
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

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let arguments = Arguments::parse();
    let log = Log::open(&arguments.dir)?;
    // Imported records may be old, and their timestamps may be in the future.
    let config = TopicConfig::new().retention(None).timestamp_after_max(None);
    let topic = log.open_topic(&arguments.topic, arguments.partition + 1, config)?;
    if let Some(codec) = arguments.codec {
        topic.update_config(TopicConfig::new().compression(codec.into()))?;
    }
    let partition = topic.partition(arguments.partition)?;
    let (mut batch, mut count) = (Vec::new(), 0_u64);
    let spinner = progress::bar(None, "records");
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let record = parse(&line?).with_context(|| format!("line {}", number + 1))?;
        batch.push(record);
        count += 1;
        if batch.len() as u64 == arguments.batch {
            partition.append_batch(batch.drain(..))?;
            spinner.set_position(count);
        }
    }
    partition.append_batch(batch)?;
    log.close()?;
    spinner.finish_and_clear();
    eprintln!(
        "{count} records imported to {}-{}",
        arguments.topic, arguments.partition
    );
    Ok(())
}

/// The fields that `export` prints. The offset and the timestamp type belong to the old record, and
/// are not imported.
const FIELDS: [&str; 6] = [
    "offset",
    "timestamp",
    "timestamp_type",
    "key",
    "value",
    "headers",
];

fn parse(line: &str) -> Result<Record<'static>> {
    let line: Map<String, Value> = serde_json::from_str(line)?;
    if let Some(unknown) = line.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        bail!(
            "{unknown:?} is not a field of a record: {}",
            FIELDS.join(", ")
        );
    }
    let field = |name: &str| {
        line.get(name)
            .with_context(|| format!("the field {name:?} is missing"))
    };
    let mut record = Record::new(bytes(field("value")?).context("value")?)
        .key(bytes(field("key")?).context("key")?);
    match field("timestamp")? {
        Value::Null => {}
        time => {
            let millis = time
                .as_i64()
                .with_context(|| format!("the timestamp {time} is not a whole number"))?;
            if millis >= 0 {
                record = record.timestamp(Timestamp::from_millis(millis));
            }
        }
    }
    let headers = field("headers")?
        .as_array()
        .context("the headers are not a list")?;
    for header in headers {
        let pair = header.as_array().filter(|pair| pair.len() == 2);
        let Some([name, value]) = pair.map(Vec::as_slice) else {
            bail!("{header} is not a header: [name, value]")
        };
        record = record.header_bytes(header_name(name)?, bytes(value).context("header")?);
    }
    Ok(record)
}

/// Returns the bytes of a name: text, or `{"base64":"..."}` if it is not UTF-8.
fn header_name(name: &Value) -> Result<Vec<u8>> {
    match (name.as_str(), name.get("base64").and_then(Value::as_str)) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).context("the name of a header"),
        (None, None) => Err(anyhow!("{name} is not the name of a header")),
    }
}

/// Returns the bytes of base64, or `None` for null.
fn bytes(value: &Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(STANDARD.decode(text)?)),
        other => Err(anyhow!("{other} is neither base64 nor null")),
    }
}
