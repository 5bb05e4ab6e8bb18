//! Prints each record of a topic as one line of JSON.
//!
//! `export DIR TOPIC [--partition P] [--read-committed]` opens the log read-only. It works next to
//! a writer and on the directory of a stopped broker, also for internal topics. If a partition
//! cannot be read completely, `export` reports it on standard error and ends with status 1.
//! `import` reads the lines that it prints:
//!
//! ```json
//! {"offset":3,"timestamp":1700000001000,"timestamp_type":"CreateTime","key":"azE=","value":null,"headers":[["a","MQ=="]]}
//! ```
//!
//! Keys, values and header values are base64 or `null`. The name of a header is text; a name that
//! is not UTF-8 is an object with the base64 of its bytes: `[{"base64":"Y2Fm6Q=="},"MQ=="]`.

mod progress;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annals::{Isolation, Log, Partition, ReadOptions, RecordView, TimestampType};
use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use indicatif::ProgressBar;

/// Prints each record of a topic as one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// Directory of the log.
    dir: PathBuf,
    topic: String,
    /// Print this partition only; by default all, one after the other.
    #[arg(long)]
    partition: Option<u32>,
    /// Leave out the records of open and aborted transactions.
    #[arg(long)]
    read_committed: bool,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let arguments = Arguments::parse();
    let topic = Log::open_read_only(&arguments.dir)?.topic(&arguments.topic)?;
    let partitions = match arguments.partition {
        Some(number) => vec![topic.partition(number)?],
        None => topic.partitions(),
    };
    let isolation = if arguments.read_committed {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let options = ReadOptions::new().isolation(isolation);
    let total = partitions
        .iter()
        .map(|partition| partition.high_watermark() - partition.log_start_offset())
        .sum();
    let bar = progress::bar(Some(total), "records");
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = 0;
    for partition in &partitions {
        // The other partitions are exported too, and the failure is reported.
        if let Err(error) = export(partition, options.clone(), &mut out, &bar) {
            bar.suspend(|| eprintln!("{} is not whole in the output: {error:#}", partition.id()));
            failed += 1;
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    ensure!(
        failed == 0,
        "{failed} of {} partitions could not be exported whole",
        partitions.len()
    );
    Ok(())
}

fn export(
    partition: &Partition,
    options: ReadOptions,
    out: &mut impl Write,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut reader = partition.read_with(.., options)?;
    while let Some(record) = reader.next_record()? {
        print(out, &record)?;
        bar.inc(1);
    }
    Ok(())
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
    write!(
        out,
        ",\"timestamp_type\":{timestamp_type},\"key\":{}",
        base64(record.key())
    )?;
    write!(out, ",\"value\":{},\"headers\":[", base64(record.value()))?;
    for (number, header) in record.headers().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(
            out,
            "{comma}[{},{}]",
            name(header.name_bytes()),
            base64(header.value())
        )?;
    }
    out.write_all(b"]}\n")
}

/// Returns bytes as JSON: base64 in quotes, or null.
fn base64(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| {
        format!("\"{}\"", STANDARD.encode(bytes))
    })
}

/// Returns the name of a header as JSON: text, or `{"base64":"..."}` if it is not UTF-8.
fn name(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => quoted(text),
        Err(_) => format!("{{\"base64\":{}}}", base64(Some(bytes))),
    }
}

/// Returns text as JSON. Only the characters that JSON does not allow in text are escaped.
fn quoted(text: &str) -> String {
    let escaped = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        control if u32::from(control) < 0x20 => format!("\\u{:04x}", u32::from(control)),
        other => other.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}
