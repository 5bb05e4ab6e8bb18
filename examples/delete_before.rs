//! Deletes the records before an offset from what `append_lines` wrote: whole segments are gone
//! from the disk when it ends.

use std::path::PathBuf;

use annals::{Durability, Log, TopicConfig};
use clap::Parser;

/// Moves the log start offset of the topic `lines`.
#[derive(Parser)]
struct Options {
    /// Where the log is; created when absent
    dir: PathBuf,
    /// The first record to keep
    offset: u64,
    /// For a new topic, as of `append_lines`
    #[arg(long, value_name = "N", default_value_t = 64 * 1024)]
    segment_bytes: u32,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let log = Log::open(&options.dir)?;
    let config = TopicConfig::new()
        .segment_bytes(options.segment_bytes)
        .durability(Durability::Synced)
        .retention(None);
    let start = log
        .open_topic("lines", 1, config)?
        .partition(0)?
        .delete_records_before(options.offset)?;
    println!("the log starts at {start}");
    Ok(log.close()?)
}
