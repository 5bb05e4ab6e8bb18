//! Appends the lines of text files to a topic. Each line is a record with the file's name as its
//! key.
//!
//! `ingest DIR TOPIC FILE...` reads standard input if no file is named. On a terminal it shows its
//! progress.

mod progress;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Instant;

use annals::{Log, Partition, Record, TopicConfig};
use anyhow::Context as _;
use clap::Parser;
use indicatif::ProgressBar;

/// A batch is appended when it has this number of lines or bytes.
const BATCH_LINES: usize = 1_000;
const BATCH_BYTES: usize = 256 << 10;

/// Appends each line of each file to a topic.
#[derive(Parser)]
struct Arguments {
    /// Directory of the log; created if it does not exist.
    dir: PathBuf,
    /// Topic to append to; created if it does not exist.
    topic: String,
    /// Files to read; standard input by default.
    files: Vec<PathBuf>,
}

/// The number and size of the records appended so far.
#[derive(Default)]
struct Totals {
    records: u64,
    bytes: u64,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let arguments = Arguments::parse();
    let log = Log::open(&arguments.dir)?;
    let topic = log.open_topic(&arguments.topic, 1, TopicConfig::new())?;
    let progress = progress(&arguments.files)?;
    let (start, mut totals) = (Instant::now(), Totals::default());
    if arguments.files.is_empty() {
        ingest(
            &topic.partition(0)?,
            "stdin",
            io::stdin().lock(),
            &mut totals,
            &progress,
        )?;
    }
    for path in &arguments.files {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // All lines of a file have the same key, so one partition has them in their order.
        ingest(
            &topic.partition_for(name.as_bytes()),
            &name,
            BufReader::new(file),
            &mut totals,
            &progress,
        )?;
    }
    log.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    log.close()?;
    progress.finish_and_clear();
    let Totals { records, bytes } = totals;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate of three digits is exact enough"
    )]
    let rate = records as f64 / seconds;
    println!(
        "{records} records, {bytes} bytes, {seconds:.3} seconds, {rate:.0} records per second"
    );
    Ok(())
}

fn ingest(
    partition: &Partition,
    key: &str,
    mut lines: impl BufRead,
    totals: &mut Totals,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let read = lines.read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        bytes += line.len();
        if read > 0 {
            batch.push(line);
        }
        if read == 0 || batch.len() == BATCH_LINES || bytes >= BATCH_BYTES {
            partition.append_batch(batch.iter().map(|line| Record::new(line).key(key)))?;
            totals.records += batch.len() as u64;
            totals.bytes += bytes as u64;
            progress.set_position(totals.bytes);
            batch.clear();
            bytes = 0;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Returns a bar over the bytes of all files, or a spinner for standard input.
fn progress(files: &[PathBuf]) -> anyhow::Result<ProgressBar> {
    let sizes = files
        .iter()
        .map(|path| path.metadata().map(|metadata| metadata.len()));
    let total = sizes
        .sum::<io::Result<u64>>()
        .context("cannot look at the files")?;
    Ok(progress::bar(
        Some(total).filter(|_| !files.is_empty()),
        "bytes",
    ))
}
