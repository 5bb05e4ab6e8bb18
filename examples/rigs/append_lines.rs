//! Appends lines to a log, and acknowledges each once it is on the device. Tests kill this process,
//! cut its power or fill its disk.
//!
//! Prints `READY <next offset>`. For each line of standard input it then prints `ACK <offset>`, or
//! `ERR <text>` if the log refused the line, for example at a limit of the size of files
//! (`ulimit -f`). If it cannot continue, it prints `ERROR <text>` and ends with status 1.

mod rig;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;

use annals::{Log, Partition, TopicConfig};
use clap::Parser;

/// Appends each line of standard input to the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Directory of the log; created if it does not exist
    dir: PathBuf,
    /// Size at which a new segment starts
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
    let topic = log.open_topic("lines", 1, rig::lines_config(options.segment_bytes))?;
    let segments = TopicConfig::new().segment_bytes(options.segment_bytes);
    if topic.config().get("segment.bytes") != segments.get("segment.bytes") {
        topic.update_config(segments)?; // a topic that existed before keeps its own settings
    }
    append_all(&topic.partition(0)?)?;
    Ok(log.close()?)
}

fn append_all(partition: &Partition) -> anyhow::Result<()> {
    rig::answer("READY", &partition.log_end_offset())?;
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let value = line.strip_suffix(b"\n").unwrap_or(&line);
        match partition.append(value) {
            Ok(written) => rig::answer("ACK", &written.offset)?,
            // The outcome may be unknown, and `ERR` promises that the line was not written.
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => rig::answer("ERR", &error)?,
        }
        line.clear();
    }
    Ok(())
}
