//! Makes each line of its input a record, as `kafka-console-producer` does, in a directory.
//!
//! `cargo run --example console_producer -- --dir data --topic orders --reader-property parse.key=true`

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use annals::{Compression, Log, ProducerConfig, Record, TopicConfig};
use anyhow::{Context, Result, bail};
use clap::Parser;

/// Sends each line of standard input as a record.
#[derive(Parser)]
struct Options {
    /// Directory of the log; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    /// Topic to write to; created with one partition if it does not exist
    #[arg(long)]
    topic: String,
    /// Wait for each record before reading the next line
    #[arg(long)]
    sync: bool,
    /// Largest size of a batch
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    batch_size: u32,
    /// Time that a batch waits for more records before it is full
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    timeout: u64,
    /// none, gzip, snappy, lz4 or zstd; gzip if no codec follows
    #[arg(long, value_name = "CODEC", num_args = 0..=1, default_value = "none", default_missing_value = "gzip")]
    compression_codec: String,
    /// parse.key, parse.headers, ignore.error = true or false; key.separator, headers.delimiter,
    /// headers.separator, headers.key.separator, null.marker
    #[arg(long, value_name = "NAME=VALUE", alias = "property")]
    reader_property: Vec<String>,
}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let reader = LineReader::new(&options.reader_property)?;
    let config = ProducerConfig::new()
        .batch_size(options.batch_size)
        .linger(Duration::from_millis(options.timeout))
        .compression(codec(&options.compression_codec)?);
    let log = Log::open(&options.dir)?;
    let topic = log.open_topic(&options.topic, 1, TopicConfig::new())?;
    let producer = log.producer_with(config)?;
    let prompts = io::stdin().is_terminal();
    let mut lines = io::stdin().lock().split(b'\n');
    for number in 1_u64.. {
        if prompts {
            print!(">");
            io::stdout().flush()?;
        }
        let Some(line) = lines.next() else { break };
        let mut line = line?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let record = reader
            .record(&line)
            .with_context(|| format!("line {number}: {}", String::from_utf8_lossy(&line)))?;
        let delivery = producer.send(&topic, record)?;
        if options.sync {
            delivery.wait()?;
        }
    }
    producer.close()?;
    Ok(log.close()?)
}

fn codec(name: &str) -> Result<Compression> {
    Ok(match name {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => bail!("unknown codec: {other}"),
    })
}

/// Splits lines into headers, key and value, in this order, at their separators.
#[derive(Debug)]
struct LineReader {
    parses_key: bool,
    parses_headers: bool,
    ignores_errors: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    /// A key, a value or the value of a header is null if it is equal to this.
    null_marker: Option<String>,
}

impl LineReader {
    fn new(properties: &[String]) -> Result<Self> {
        let mut reader = Self {
            parses_key: false,
            parses_headers: false,
            ignores_errors: false,
            key_separator: "\t".to_owned(),
            headers_delimiter: "\t".to_owned(),
            headers_separator: ",".to_owned(),
            headers_key_separator: ":".to_owned(),
            null_marker: None,
        };
        for property in properties {
            let (name, value) = property
                .split_once('=')
                .with_context(|| format!("unknown property: {property}"))?;
            match name {
                "parse.key" => reader.parses_key = value.parse()?,
                "parse.headers" => reader.parses_headers = value.parse()?,
                "ignore.error" => reader.ignores_errors = value.parse()?,
                "key.separator" => value.clone_into(&mut reader.key_separator),
                "headers.delimiter" => value.clone_into(&mut reader.headers_delimiter),
                "headers.separator" => value.clone_into(&mut reader.headers_separator),
                "headers.key.separator" => value.clone_into(&mut reader.headers_key_separator),
                "null.marker" => reader.null_marker = Some(value.to_owned()),
                other => bail!("unknown property: {other}"),
            }
        }
        Ok(reader)
    }

    /// Returns the record of a line. Lines are bytes, because a record may hold text in any
    /// encoding.
    fn record<'a>(&self, line: &'a [u8]) -> Result<Record<'a>> {
        let (headers, rest) = self.split(
            line,
            self.parses_headers,
            &self.headers_delimiter,
            "headers.delimiter",
        )?;
        let (key, value) =
            self.split(rest, self.parses_key, &self.key_separator, "key.separator")?;
        let mut record =
            Record::new(self.unless_null(value)).key(key.and_then(|key| self.unless_null(key)));
        let mut rest = headers.filter(|headers| !headers.is_empty());
        while let Some(headers) = rest {
            let (header, others) = match split_once(headers, &self.headers_separator) {
                Some((header, others)) => (header, Some(others)),
                None => (headers, None),
            };
            record = match split_once(header, &self.headers_key_separator) {
                Some((name, value)) => record.header_bytes(name, self.unless_null(value)),
                None if self.ignores_errors => record.header_bytes(header, None::<&[u8]>),
                None => bail!(
                    "no headers.key.separator in the header {}",
                    String::from_utf8_lossy(header)
                ),
            };
            rest = others;
        }
        Ok(record)
    }

    /// Returns the part before the first separator, if it is to be parsed, and the part after it.
    fn split<'a>(
        &self,
        line: &'a [u8],
        parses: bool,
        separator: &str,
        name: &str,
    ) -> Result<(Option<&'a [u8]>, &'a [u8])> {
        if !parses {
            return Ok((None, line));
        }
        match split_once(line, separator) {
            Some((first, rest)) => Ok((Some(first), rest)),
            None if self.ignores_errors => Ok((None, line)),
            None => bail!("no {name}"),
        }
    }

    fn unless_null<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        Some(bytes).filter(|bytes| self.null_marker.as_deref().map(str::as_bytes) != Some(bytes))
    }
}

/// Splits bytes as `str::split_once` splits text.
fn split_once<'a>(bytes: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    let at = bytes
        .windows(separator.len().max(1))
        .position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}
