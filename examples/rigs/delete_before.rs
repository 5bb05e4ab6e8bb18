//! Deletes the records before an offset from the log that `append_lines` wrote. The segments that
//! have only deleted records are gone from the disk when it ends.

mod rig;

use std::path::PathBuf;

use annals::Log;
use clap::Parser;

/// Moves the log start offset of the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Directory of the log; created if it does not exist
    dir: PathBuf,
    /// The first record to keep
    offset: u64,
    /// Segment size of a new topic, as for `append_lines`
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let log = Log::open(&options.dir)?;
    let start = log
        .open_topic("lines", 1, rig::lines_config(options.segment_bytes))?
        .partition(0)?
        .delete_records_before(options.offset)?;
    println!("the log starts at {start}");
    Ok(log.close()?)
}
