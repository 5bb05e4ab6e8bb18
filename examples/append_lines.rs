//! Appends lines to a log and acknowledges each once it is on the device: for test rigs that kill
//! it, cut its power or fill its disk.
//!
//! Prints `READY <next offset>`, then for each line of standard input `ACK <offset>`, or
//! `ERR <text>` when it was refused. Where it cannot go on it prints `ERROR <text>` and ends with
//! status 1. A limit of the size of files (`ulimit -f`) is one more reason to refuse, and no signal
//! that ends it.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use annals::{Durability, Log, Partition, TopicConfig};
use clap::Parser;

/// Appends each line of standard input to the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Where the log is; created when absent
    dir: PathBuf,
    /// When to go on in a new segment
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
    let segments = TopicConfig::new().segment_bytes(options.segment_bytes);
    let topic = log.open_topic(
        "lines",
        1,
        segments
            .clone()
            .durability(Durability::Synced)
            .retention(None),
    )?;
    if topic.config().get("segment.bytes") != segments.get("segment.bytes") {
        topic.update_config(segments)?; // a topic that was there keeps its settings
    }
    append_all(&topic.partition(0)?)?;
    Ok(log.close()?)
}

/// Answers line by line, each at once: whoever waits for the acknowledgement has not sent the next
/// line yet.
fn append_all(partition: &Partition) -> anyhow::Result<()> {
    answer("READY", &partition.log_end_offset())?;
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let value = line.strip_suffix(b"\n").unwrap_or(&line);
        match partition.append(value) {
            Ok(written) => answer("ACK", &written.offset)?,
            // The outcome is unknown, or the partition takes no more: refusing would promise too
            // much.
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => answer("ERR", &error)?,
        }
        line.clear();
    }
    Ok(())
}

fn answer(word: &str, what: &dyn std::fmt::Display) -> io::Result<()> {
    let text = what.to_string().replace('\n', " ");
    let mut output = io::stdout().lock();
    writeln!(output, "{word} {text}")?;
    output.flush()
}
