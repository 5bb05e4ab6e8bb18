//! `--reset-offsets`: where to, and from a file of an earlier `--export`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::{ConsumerGroup, Log, Seek, Timestamp, TopicPartition};
use anyhow::{Context, Result, ensure};
use clap::Args;

use super::table::Table;
use super::{Options, chosen, scope};

/// One of them says where to.
pub(crate) const TARGETS: [&str; 8] =
    ["to_earliest", "to_latest", "to_current", "to_offset", "shift_by", "to_timestamp", "by_duration", "from_file"];

#[derive(Args)]
pub(crate) struct Target {
    /// To the log start
    #[arg(long)]
    to_earliest: bool,
    /// To the log end
    #[arg(long)]
    to_latest: bool,
    /// To where it is; the log end where it is nowhere
    #[arg(long)]
    to_current: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
    /// Forward, or back if negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To the first record at or after this time, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    to_timestamp: Option<i64>,
    /// To the first record that is not older, as in P1DT2H3M4S
    #[arg(long, value_name = "DURATION")]
    by_duration: Option<String>,
    /// To what an --export of one group says: topic,partition,offset
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

impl Target {
    fn seek(&self) -> Result<Seek> {
        let seek = match self {
            Self { to_earliest: true, .. } => Some(Seek::Earliest),
            Self { to_latest: true, .. } => Some(Seek::Latest),
            Self { to_current: true, .. } => Some(Seek::Committed),
            Self { to_offset: Some(offset), .. } => Some(Seek::Offset(*offset)),
            Self { shift_by: Some(offsets), .. } => Some(Seek::ShiftBy(*offsets)),
            Self { to_timestamp: Some(millis), .. } => Some(Seek::Timestamp(Timestamp::from_millis(*millis))),
            Self { by_duration: Some(text), .. } => Some(Seek::Ago(parse_duration(text)?)),
            _ => None,
        };
        seek.context("where to? one of --to-earliest, --to-latest, --to-offset, --shift-by …")
    }
}

/// What is wanted of which partitions.
type Wish = (Vec<TopicPartition>, Seek);

pub(crate) fn run(log: &Log, options: &Options) -> Result<()> {
    let mut table = Table::new(["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]);
    for group in groups(log, options)? {
        let wishes = match &options.target.from_file {
            Some(file) => read_plan(file)?,
            None => vec![(scope(log, &group, options)?, options.target.seek()?)],
        };
        for (partitions, seek) in wishes {
            // A plan that is not carried out takes nothing and asks nobody.
            let plan = if options.execute { group.reset(partitions, seek)? } else { group.reset_plan(partitions, seek)? };
            for (TopicPartition { topic, partition }, offset) in plan {
                if options.export {
                    println!("{topic},{partition},{offset}");
                }
                table.row([group.id().to_owned(), topic.to_string(), partition.to_string(), offset.to_string()]);
            }
        }
    }
    if !options.export {
        table.print();
    }
    Ok(())
}

/// A group that never committed can be given its first positions.
fn groups(log: &Log, options: &Options) -> Result<Vec<ConsumerGroup>> {
    if options.all_groups || options.group.is_empty() {
        return chosen(log, options);
    }
    Ok(options.group.iter().map(|name| log.consumer_group(name)).collect::<annals::Result<_>>()?)
}

fn read_plan(file: &Path) -> Result<Vec<Wish>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let wish = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let &[topic, partition, offset] = cells.as_slice() else { anyhow::bail!("no topic,partition,offset: {line}") };
        Ok((vec![TopicPartition::new(topic, partition.parse()?)], Seek::Offset(offset.parse()?)))
    };
    text.lines().map(wish).collect()
}

/// `PnDTnHnMnS`
fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || format!("no duration like P1DT2H3M4S: {text}");
    let rest = text.strip_prefix('P').with_context(wrong)?;
    let mut seconds = 0;
    let mut number = String::new();
    for sign in rest.chars() {
        let unit = match sign {
            'T' if number.is_empty() => continue,
            'D' => 86_400,
            'H' => 3_600,
            'M' => 60,
            'S' => 1,
            digit => {
                number.push(digit);
                continue;
            }
        };
        seconds += number.parse::<u64>().with_context(wrong)? * unit;
        number.clear();
    }
    ensure!(number.is_empty(), wrong());
    Ok(Duration::from_secs(seconds))
}
