//! Prints a partition, and what comes in, as `tail -f` does; the log may be written by another
//! process meanwhile.
//!
//! `cargo run --example tail -- data orders --follow`

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

use annals::{Log, Partition, ReadOptions, Timestamp};
use clap::Parser;

/// Prints the values of records, one a line. Ctrl-C ends it, and it says where to go on.
#[derive(Parser)]
struct Options {
    /// Where the log is
    dir: PathBuf,
    /// Which topic
    topic: String,
    /// Which of its partitions
    #[arg(long, default_value_t = 0)]
    partition: u32,
    /// Where to begin: beginning, end, an offset, or @ and milliseconds since 1970
    #[arg(long, default_value_t = From::Beginning)]
    from: From,
    /// End after as many records
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    max: u64,
    /// Wait for more
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
    // Read-only takes no lock, so whoever writes is not disturbed.
    let partition = Log::open_read_only(&options.dir)?
        .topic(&options.topic)?
        .partition(options.partition)?;
    print(&options, &partition)
}

fn print(options: &Options, partition: &Partition) -> anyhow::Result<()> {
    let reading = ReadOptions::new().wait(options.follow);
    let mut reader = match options.from {
        From::Beginning => partition.read_with(.., reading)?, // wherever that is by now
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
    ctrlc::set_handler(move || waker.wake())?; // a woken reader gives `None`

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
