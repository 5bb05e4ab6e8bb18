//! Prints what `commit_lines` committed, also while it runs or after it was killed; changes
//! nothing.
//!
//! Prints `<group><TAB><offset>` for each group, then `END 0` and ends with status 0. On damage it
//! prints `CORRUPT <text>`: status 2. On any other error, `ERROR <text>`: status 3.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annals::{Error, Log, TopicPartition};
use clap::Parser;

/// Prints where each group is in the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Where the log is
    dir: PathBuf,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    let mut output = io::stdout().lock();
    let (last, status) = match print_positions(&Options::parse().dir, &mut output) {
        Ok(()) => ("END 0".to_owned(), 0),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::Corrupt(damage)) => (format!("CORRUPT {damage}"), 2),
            _ => (format!("ERROR {error}"), 3),
        },
    };
    match writeln!(output, "{}", last.replace('\n', " ")) {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::from(3),
    }
}

fn print_positions(dir: &Path, output: &mut impl Write) -> anyhow::Result<()> {
    let log = Log::open_read_only(dir)?;
    let lines = TopicPartition::new("lines", 0);
    // Asked first: a list of groups is empty where it cannot be read.
    log.consumer_group("any")?.committed(&lines)?;
    for group in log.consumer_groups() {
        if let Some(next) = group.committed(&lines)? {
            writeln!(output, "{}\t{}", group.id(), next.offset)?;
        }
    }
    Ok(())
}
