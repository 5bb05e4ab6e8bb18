//! Prints what `append_lines` wrote, also while it runs or after it was killed; changes nothing.
//!
//! Prints `<offset><TAB><value>` for each record, then `END <next offset>` and ends with status 0.
//! On damage it prints the good records before it, then `CORRUPT <text>`: status 2. On any other
//! error, `ERROR <text>`: status 3.

use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annals::{Error, Log};
use clap::Parser;

/// Prints the records of the topic `lines`, with their offsets.
#[derive(Parser)]
struct Options {
    /// Where the log is
    dir: PathBuf,
    /// As of `append_lines`; reading does not depend on it
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let mut output = BufWriter::new(io::stdout().lock());
    let (last, status) = match print_records(&options.dir, &mut output) {
        Ok(next_offset) => (format!("END {next_offset}"), 0),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::Corrupt(damage)) => (format!("CORRUPT {damage}"), 2),
            _ => (format!("ERROR {error}"), 3),
        },
    };
    let written = writeln!(output, "{}", last.replace('\n', " ")).and_then(|()| output.flush());
    match written {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::from(3),
    }
}

/// Gives the next offset.
fn print_records(dir: &Path, output: &mut impl Write) -> anyhow::Result<u64> {
    let log = match Log::open_read_only(dir) {
        Err(Error::NotALog { .. }) if holds_nothing(dir) => return Ok(0), // nothing was written yet
        opened => opened?,
    };
    let topic = match log.topic("lines") {
        Err(Error::UnknownTopic(_)) => return Ok(0), // likewise
        found => found?,
    };
    let partition = match topic.partition(0) {
        Err(Error::UnknownPartition(_)) => return Ok(0), // likewise: the topic is made before its partitions
        found => found?,
    };
    let mut reader = partition.read(..)?;
    while let Some(record) = reader.next_record()? {
        write!(output, "{}\t", record.offset())?;
        output.write_all(record.value().unwrap_or_default())?;
        output.write_all(b"\n")?;
    }
    Ok(reader.next_offset())
}

/// Whether the directory is absent or empty, but for what is hidden.
fn holds_nothing(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .flatten()
            .all(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
