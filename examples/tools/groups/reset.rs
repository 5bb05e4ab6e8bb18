//! Resets positions: `--reset-offsets`, to a target or from a file that `--export` printed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use annals::{ConsumerGroup, Log, Seek, Timestamp, TopicPartition};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::table::Table;
use super::{Options, chosen, scope, time};

/// The options that set a target; a reset needs one of them.
pub(crate) const TARGETS: [&str; 9] = [
    "to_earliest",
    "to_latest",
    "to_current",
    "to_offset",
    "shift_by",
    "to_timestamp",
    "to_datetime",
    "by_duration",
    "from_file",
];

#[derive(Args)]
pub(crate) struct Target {
    /// To the log start
    #[arg(long)]
    to_earliest: bool,
    /// To the log end
    #[arg(long)]
    to_latest: bool,
    /// To the committed position, or to the log end if none is committed
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
    /// The same for a time such as 2026-02-03T04:05:06.789; UTC, or followed by Z or +01:00
    #[arg(long, value_name = "TIME")]
    to_datetime: Option<String>,
    /// To the first record that is not older than a duration such as P1DT2H3M4S
    #[arg(long, value_name = "DURATION")]
    by_duration: Option<String>,
    /// To the positions that --export printed: topic,partition,offset or
    /// group,topic,partition,offset
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

impl Target {
    fn seek(&self) -> Result<Seek> {
        let seek = match self {
            Self {
                to_earliest: true, ..
            } => Some(Seek::Earliest),
            Self {
                to_latest: true, ..
            } => Some(Seek::Latest),
            Self {
                to_current: true, ..
            } => Some(Seek::Committed),
            Self {
                to_offset: Some(offset),
                ..
            } => Some(Seek::Offset(*offset)),
            Self {
                shift_by: Some(offsets),
                ..
            } => Some(Seek::ShiftBy(*offsets)),
            Self {
                to_timestamp: Some(millis),
                ..
            } => Some(Seek::Timestamp(Timestamp::from_millis(*millis))),
            Self {
                to_datetime: Some(text),
                ..
            } => Some(Seek::Timestamp(time::parse_datetime(text)?)),
            Self {
                by_duration: Some(text),
                ..
            } => Some(Seek::Ago(time::parse_duration(text)?)),
            _ => None,
        };
        seek.context("name a target: --to-earliest, --to-latest, --to-offset, --shift-by …")
    }
}

/// Partitions, and the position to reset them to.
type Wish = (Vec<TopicPartition>, Seek);

/// The new positions of a group.
type Plan = (ConsumerGroup, Vec<(TopicPartition, u64)>);

pub(crate) fn run(log: &Log, options: &Options) -> Result<()> {
    // All plans come first, so that an error in the last one changes no group.
    let plans: Vec<Plan> = groups(log, options)?
        .into_iter()
        .map(|group| plan(log, group, options))
        .collect::<Result<_>>()?;
    if options.execute {
        for (group, next) in &plans {
            group.commit(
                next.iter()
                    .map(|(partition, offset)| (partition.clone(), (*offset).into())),
            )?;
        }
    }
    // As in Kafka, the group is a column unless the options name exactly one.
    let is_of_one = options.group.len() == 1 && !options.all_groups;
    let mut table = Table::new(["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]);
    for (group, next) in &plans {
        for (TopicPartition { topic, partition }, offset) in next {
            match options.export {
                true if is_of_one => println!("{topic},{partition},{offset}"),
                true => println!("{},{topic},{partition},{offset}", group.id()),
                false => table.row([
                    group.id().to_owned(),
                    topic.to_string(),
                    partition.to_string(),
                    offset.to_string(),
                ]),
            }
        }
    }
    if !options.export {
        table.print();
    }
    Ok(())
}

/// Returns the positions that a group would have. Changes nothing.
fn plan(log: &Log, group: ConsumerGroup, options: &Options) -> Result<Plan> {
    let wishes = match &options.target.from_file {
        Some(file) => read_wishes(file, group.id())?,
        None => vec![(scope(log, &group, options)?, options.target.seek()?)],
    };
    let mut all = Vec::new();
    for (partitions, seek) in wishes {
        for (partition, offset) in group.reset_plan(partitions, seek)? {
            warn_if_moved(&group, &partition, seek, offset)?;
            all.push((partition, offset));
        }
    }
    Ok((group, all))
}

/// Warns if the requested offset is not in the log.
fn warn_if_moved(
    group: &ConsumerGroup,
    partition: &TopicPartition,
    seek: Seek,
    offset: u64,
) -> Result<()> {
    let asked = match seek {
        Seek::Offset(asked) => i128::from(asked),
        Seek::ShiftBy(by) => {
            group
                .committed(partition)?
                .map_or(0, |next| i128::from(next.offset))
                + i128::from(by)
        }
        _ => return Ok(()),
    };
    let how = match asked.cmp(&offset.into()) {
        Ordering::Equal => return Ok(()),
        Ordering::Greater => "higher than latest",
        Ordering::Less => "lower than earliest",
    };
    eprintln!(
        "New offset ({asked}) is {how} offset for topic partition {partition}. Value will be set to {offset}"
    );
    Ok(())
}

/// Returns the groups to reset. A named group does not have to exist: a reset can create it.
fn groups(log: &Log, options: &Options) -> Result<Vec<ConsumerGroup>> {
    if options.all_groups || options.group.is_empty() {
        return chosen(log, options);
    }
    Ok(options
        .group
        .iter()
        .map(|name| log.consumer_group(name))
        .collect::<annals::Result<_>>()?)
}

/// Returns the resets of the lines for a group: those that name it, and those that name no group.
fn read_wishes(file: &Path, group: &str) -> Result<Vec<Wish>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut wishes = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(',').collect();
        let (named, topic, partition, offset) = match *cells.as_slice() {
            [topic, partition, offset] => (group, topic, partition, offset),
            [named, topic, partition, offset] => (named, topic, partition, offset),
            _ => bail!("neither topic,partition,offset nor group,topic,partition,offset: {line}"),
        };
        let wrong = || format!("the partition and the offset must be numbers: {line}");
        let partition = TopicPartition::new(topic, partition.parse().with_context(wrong)?);
        let wish = (
            vec![partition],
            Seek::Offset(offset.parse().with_context(wrong)?),
        );
        if named == group {
            wishes.push(wish);
        }
    }
    ensure!(
        !wishes.is_empty(),
        "no line of {} is for the group '{group}'",
        file.display()
    );
    Ok(wishes)
}
