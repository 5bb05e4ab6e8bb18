//! Prints the records of a partition, and new ones as they arrive, as `tail -f` does. Another
//! process may write the log at the same time.
//!
//! `cargo run --example tail -- data orders --follow`

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

use annals::{Log, Partition, ReadOptions, Timestamp};
use clap::Parser;

/// Prints the values of records, one on each line. Ctrl-C ends it, and it reports the next offset.
#[derive(Parser)]
struct Options {
    /// Directory of the log
    dir: PathBuf,
    /// Topic to read
    topic: String,
    /// Partition to read
    #[arg(long, default_value_t = 0)]
    partition: u32,
    /// First record: beginning, end, an offset, or @ and milliseconds since 1970
    #[arg(long, default_value_t = From::Beginning)]
    from: From,
    /// End after this number of records
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    max: u64,
    /// Wait for new records
    #[arg(long, short)]
    follow: bool,
}

#[derive(Clone, Copy)]
enum From {
    Beginning,
    End,
    Offset(u64),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.strip_prefix('@')) {
            ("beginning", _) => Self::Beginning,
            ("end", _) => Self::End,
            (_, Some(millis)) => Self::Time(Timestamp::from_millis(millis.parse()?)),
            (offset, None) => Self::Offset(offset.parse()?),
        })
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(at) => write!(f, "@{}", at.as_millis()),
        }
    }
}

fn main() -> anyhow::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    // A read-only log takes no lock, so it works next to a writer.
    let partition = Log::open_read_only(&options.dir)?
        .topic(&options.topic)?
        .partition(options.partition)?;
    print(&options, &partition)
}

fn print(options: &Options, partition: &Partition) -> anyhow::Result<()> {
    let reading = ReadOptions::new().wait(options.follow);
    let mut reader = match options.from {
        From::Beginning => partition.read_with(.., reading)?, // the log start at the time of the first batch
        From::End => partition.read_with(partition.high_watermark().., reading)?,
        From::Offset(offset) => partition.read_with(offset.., reading)?,
        From::Time(at) => {
            let first = partition
                .offset_for(at)?
                .map_or(partition.high_watermark(), |found| found.offset);
            partition.read_with(first.., reading)?
        }
    };
    let waker = reader.waker();
    ctrlc::set_handler(move || waker.wake())?; // a reader that is woken returns `None`

    let mut output = BufWriter::new(io::stdout().lock());
    for _ in 0..options.max {
        let Some(record) = reader.next_record()? else {
            break;
        };
        output.write_all(record.value().unwrap_or_default())?;
        output.write_all(b"\n")?;
        if options.follow {
            output.flush()?;
        }
    }
    output.flush()?;
    eprintln!("next time from {}", reader.next_offset());
    Ok(())
}
