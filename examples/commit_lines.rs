//! Commits positions of groups and acknowledges each once it is on the device: for test rigs that
//! kill it or cut its power.
//!
//! Each line of standard input is `<group> <offset>`, a position in the topic `lines`. Prints
//! `ACK 0` for each, or `ERR <text>` when it was refused, also by a limit of the size of files
//! (`ulimit -f`). Where it cannot go on it prints `ERROR <text>` and ends with status 1.

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use annals::{
    ConsumerConfig, Durability, Error, Log, OffsetAndMetadata, TopicConfig, TopicPartition,
};
use anyhow::Context;
use clap::Parser;

/// Commits a position for each line of standard input.
#[derive(Parser)]
struct Options {
    /// Where the log is; created when absent
    dir: PathBuf,
    /// For a new topic, as of `append_lines`
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    ignore_file_size_signal();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody listens any more, the status says it.
            let _unheard = answer("ERROR", &error);
            ExitCode::FAILURE
        }
    }
}

/// A file that may not grow is then an error of the call that writes, and not the end of the
/// process.
#[expect(
    unsafe_code,
    reason = "how a signal is met is said by a call of the system"
)]
fn ignore_file_size_signal() {
    // SAFETY: to ignore a signal installs no handler, so that no code runs in its context.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn run(options: &Options) -> anyhow::Result<()> {
    let log = Log::open(&options.dir)?;
    let config = TopicConfig::new()
        .segment_bytes(options.segment_bytes)
        .durability(Durability::Synced)
        .retention(None);
    log.open_topic("lines", 1, config)?;
    for line in io::stdin().lock().lines() {
        match commit(&log, &line?) {
            Ok(()) => answer("ACK", &0)?,
            Err(error) if error.downcast_ref::<Error>().is_some_and(Error::is_fatal) => {
                return Err(error);
            }
            Err(error) => answer("ERR", &error)?,
        }
    }
    Ok(log.close()?)
}

fn commit(log: &Log, line: &str) -> anyhow::Result<()> {
    let (group, offset) = line
        .split_once(' ')
        .context("a line is a group and an offset")?;
    let next: OffsetAndMetadata = offset
        .parse::<u64>()
        .context("the offset is a number")?
        .into();
    // A member of the moment: what a group commits from outside is as durable as the log, and no
    // more.
    let config = ConsumerConfig::new().durability(Durability::Synced);
    let mut member = log.consumer_group(group)?.join_with("lines", config)?;
    member.commit_offsets([(TopicPartition::new("lines", 0), next)])?;
    Ok(member.close()?)
}

fn answer(word: &str, what: &dyn Display) -> io::Result<()> {
    let text = what.to_string().replace('\n', " ");
    let mut output = io::stdout().lock();
    writeln!(output, "{word} {text}")?;
    output.flush()
}
