//! Prints the records that `append_lines` wrote, also while it runs or after it was killed. Changes
//! nothing.
//!
//! Prints `<offset><TAB><value>` for each record, then `END <next offset>`, and ends with status 0.
//! On damage it prints the records before the damage, then `CORRUPT <text>` (status 2); on any
//! other error, `ERROR <text>` (status 3).

mod rig;

use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annals::{Error, Log};
use clap::Parser;

/// Prints the records of the topic `lines`, with their offsets.
#[derive(Parser)]
struct Options {
    /// Directory of the log
    dir: PathBuf,
    /// As for `append_lines`; has no effect on reading
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let mut output = BufWriter::new(io::stdout().lock());
    let printed = print_records(&options.dir, &mut output);
    rig::end_reader(&mut output, printed)
}

/// Returns the next offset.
fn print_records(dir: &Path, output: &mut impl Write) -> anyhow::Result<u64> {
    // A writer that was killed early leaves no log, no topic or no partition: there is nothing to
    // read yet. The topic is created before its partitions.
    let log = match Log::open_read_only(dir) {
        Err(Error::NotALog { .. }) if is_empty(dir) => return Ok(0),
        opened => opened?,
    };
    let topic = match log.topic("lines") {
        Err(Error::UnknownTopic(_)) => return Ok(0),
        found => found?,
    };
    let partition = match topic.partition(0) {
        Err(Error::UnknownPartition(_)) => return Ok(0),
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

/// Returns whether the directory does not exist, or has only hidden entries.
fn is_empty(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .flatten()
            .all(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
