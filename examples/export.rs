//! Prints every record of a topic as one line of JSON, and nothing else.
//!
//! `export DIR TOPIC [--partition P] [--read-committed]` opens read-only, so that it works beside a writer and on the directory
//! of a stopped broker, internal topics included. `import` reads the lines that it prints:
//!
//! ```json
//! {"offset":3,"timestamp":1700000001000,"timestamp_type":"CreateTime","key":"azE=","value":null,"headers":[["a","MQ=="]]}
//! ```
//!
//! Keys, values and header values are base64 or `null`. The name of a header is text; a name that is not UTF-8 is an object
//! with the base64 of its bytes: `[{"base64":"Y2Fm6Q=="},"MQ=="]`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::{Isolation, Log, ReadOptions, RecordView, TimestampType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;

/// Prints every record of a topic as one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// Directory of the log.
    dir: PathBuf,
    topic: String,
    /// Only this partition; otherwise all, one after the other.
    #[arg(long)]
    partition: Option<u32>,
    /// Leave out what belongs to open and aborted transactions.
    #[arg(long)]
    read_committed: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let topic = Log::open_read_only(&arguments.dir)?.topic(&arguments.topic)?;
    let partitions = match arguments.partition {
        Some(number) => vec![topic.partition(number)?],
        None => topic.partitions(),
    };
    let isolation = if arguments.read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let mut out = BufWriter::new(io::stdout().lock());
    for partition in partitions {
        let mut reader = partition.read_with(.., ReadOptions::new().isolation(isolation))?;
        while let Some(record) = reader.next_record()? {
            match print(&mut out, &record) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                printed => printed?,
            }
        }
    }
    Ok(out.flush()?)
}

fn print(out: &mut impl Write, record: &RecordView<'_>) -> io::Result<()> {
    write!(out, "{{\"offset\":{},\"timestamp\":", record.offset())?;
    match record.timestamp() {
        Some(at) => write!(out, "{}", at.as_millis())?,
        None => out.write_all(b"null")?,
    }
    let timestamp_type = match record.timestamp_type() {
        Some(TimestampType::CreateTime) => "\"CreateTime\"",
        Some(TimestampType::LogAppendTime) => "\"LogAppendTime\"",
        _ => "null",
    };
    write!(out, ",\"timestamp_type\":{timestamp_type},\"key\":{}", base64(record.key()))?;
    write!(out, ",\"value\":{},\"headers\":[", base64(record.value()))?;
    for (number, header) in record.headers().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}[{},{}]", name(header.name_bytes()), base64(header.value()))?;
    }
    out.write_all(b"]}\n")
}

/// Bytes as JSON: base64 in quotes, or null.
fn base64(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", STANDARD.encode(bytes)))
}

/// The name of a header as JSON: text, or `{"base64":"..."}` if it is not UTF-8.
fn name(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => quoted(text),
        Err(_) => format!("{{\"base64\":{}}}", base64(Some(bytes))),
    }
}

/// Text as JSON: only the signs that JSON does not allow as they are become escapes.
fn quoted(text: &str) -> String {
    let escaped = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        control if u32::from(control) < 0x20 => format!("\\u{:04x}", u32::from(control)),
        other => other.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}
