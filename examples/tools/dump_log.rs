//! Prints the contents of log files, damaged ones too, as `kafka-dump-log` does.
//!
//! `cargo run --example dump_log -- --print-data-log --files data/orders-0/00000000000000000000.log`

mod progress;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use annals::inspect;
use clap::Parser;
use indicatif::ProgressBar;

/// Prints the contents of log files by their suffix: .log, .index, .timeindex, .txnindex,
/// .snapshot, .checkpoint.
///
/// Ends with status 0 even if a file is damaged, as Kafka's tool does, and reports the damage in
/// the lines and on standard error. A file that cannot be read is an error.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
struct Options {
    /// The files, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print keys and values, as text (includes --deep-iteration)
    #[arg(long)]
    print_data_log: bool,
    /// Print keys and values as committed positions and groups (includes --print-data-log)
    #[arg(long)]
    offsets_decoder: bool,
    /// Print keys and values as states of transactions (includes --print-data-log)
    #[arg(long)]
    transaction_log_decoder: bool,
    /// Print each record in addition to the batches
    #[arg(long)]
    deep_iteration: bool,
    /// Print only the keys and values of records
    #[arg(long)]
    skip_record_metadata: bool,
    /// Check indexes against their logs without printing them
    #[arg(long)]
    verify_index_only: bool,
    /// Check indexes without their logs, as a broker does
    #[arg(long)]
    index_sanity_check: bool,
    /// Read at most this much of each log
    #[arg(long, value_name = "BYTES", default_value_t = u64::MAX, hide_default_value = true)]
    max_bytes: u64,
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let dump = inspect::DumpOptions::new()
        .print_data_log(options.print_data_log)
        .deep_iteration(options.deep_iteration)
        .offsets_decoder(options.offsets_decoder)
        .transaction_log_decoder(options.transaction_log_decoder)
        .skip_record_metadata(options.skip_record_metadata)
        .verify_index_only(options.verify_index_only)
        .index_sanity_check(options.index_sanity_check)
        .max_bytes(options.max_bytes);
    // On a terminal, the output itself shows the progress.
    let bar = if io::stdout().is_terminal() {
        ProgressBar::hidden()
    } else {
        progress::bar(None, "bytes")
    };
    let mut output = bar.wrap_write(io::stdout().lock());
    inspect::dump(&options.files, &dump, &mut output, &mut io::stderr())?;
    bar.finish_and_clear();
    Ok(())
}
