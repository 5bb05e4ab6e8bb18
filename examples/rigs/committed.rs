//! Prints the positions that `commit_lines` committed, also while it runs or after it was killed.
//! Changes nothing.
//!
//! Prints `<group><TAB><offset>` for each group, then `END 0`, and ends with status 0. On damage it
//! prints `CORRUPT <text>` (status 2); on any other error, `ERROR <text>` (status 3).

mod rig;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annals::{Log, TopicPartition};
use clap::Parser;

/// Prints the position of each group in the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Directory of the log
    dir: PathBuf,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    let mut output = io::stdout().lock();
    let printed = print_positions(&Options::parse().dir, &mut output);
    rig::end_reader(&mut output, printed.map(|()| 0))
}

fn print_positions(dir: &Path, output: &mut impl Write) -> anyhow::Result<()> {
    let log = Log::open_read_only(dir)?;
    let lines = TopicPartition::new("lines", 0);
    for group in log.consumer_groups()? {
        if let Some(next) = group.committed(&lines)? {
            writeln!(output, "{}\t{}", group.id(), next.offset)?;
        }
    }
    Ok(())
}
