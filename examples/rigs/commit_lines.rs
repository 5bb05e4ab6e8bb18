//! Commits positions of groups, and acknowledges each once it is on the device. Tests kill this
//! process or cut its power.
//!
//! Each line of standard input is `<group> <offset>`, a position in the topic `lines`. For each it
//! prints `ACK 0`, or `ERR <text>` if the commit was refused, for example at a limit of the size of
//! files (`ulimit -f`). If it cannot continue, it prints `ERROR <text>` and ends with status 1.

mod rig;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;

use annals::{ConsumerConfig, Durability, Error, Log, OffsetAndMetadata, TopicPartition};
use anyhow::Context;
use clap::Parser;

/// Commits a position for each line of standard input.
#[derive(Parser)]
struct Options {
    /// Directory of the log; created if it does not exist
    dir: PathBuf,
    /// Segment size of a new topic, as for `append_lines`
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> ExitCode {
    sigpipe::reset(); // `| head` ends the program without an error
    rig::end_writer(run(&Options::parse()))
}

fn run(options: &Options) -> anyhow::Result<()> {
    rig::survive_file_size_limit()?;
    let log = Log::open(&options.dir)?;
    log.open_topic("lines", 1, rig::lines_config(options.segment_bytes))?;
    for line in io::stdin().lock().lines() {
        match commit(&log, &line?) {
            Ok(()) => rig::answer("ACK", &0)?,
            Err(error) if error.downcast_ref::<Error>().is_some_and(Error::is_fatal) => {
                return Err(error);
            }
            Err(error) => rig::answer("ERR", &error)?,
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
    // A member can commit with its own durability. `ConsumerGroup::commit` uses that of the log.
    let config = ConsumerConfig::new().durability(Durability::Synced);
    let mut member = log.consumer_group(group)?.join_with("lines", config)?;
    member.commit_offsets([(TopicPartition::new("lines", 0), next)])?;
    Ok(member.close()?)
}
