//! Copies the readable records of a damaged partition to a new directory, and reports the lost
//! ones.

mod progress;

use std::path::PathBuf;

use annals::inspect;
use clap::Parser;

/// Copies the readable records of a damaged partition. Close its log first.
#[derive(Parser)]
struct Options {
    /// Directory of the damaged partition, for example `data/orders-0`; it is not changed
    from: PathBuf,
    /// Directory for the copy; it must be empty or not exist
    to: PathBuf,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let spinner = progress::bar(None, "partitions");
    let salvage = inspect::salvage(&options.from, &options.to)?;
    spinner.finish_and_clear();
    println!(
        "{} records in {} batches, {} bytes",
        salvage.records, salvage.batches, salvage.bytes
    );
    for lost in &salvage.lost {
        println!(
            "lost {} to {}: {}",
            lost.offsets.start,
            lost.offsets.end - 1,
            lost.reason
        );
    }
    Ok(())
}
