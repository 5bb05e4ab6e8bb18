//! Lists, describes, deletes and resets the consumer groups of a directory, with the columns of
//! `kafka-consumer-groups`.
//!
//! Members exist only in the program that writes the log. This tool sees the positions of a group,
//! and no members.
//!
//! `cargo run --example groups -- --dir data --describe --group billing`

mod reset;
mod table;
mod time;

use std::path::PathBuf;

use annals::{ConsumerGroup, GroupDescription, GroupState, Log, TopicPartition};
use anyhow::{Result, bail, ensure};
use clap::{ArgGroup, Parser};

use table::Table;

/// Shows and changes the consumer groups of a log. Options that change a group need the log to be
/// closed in other programs.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "the options of Kafka's tool")]
#[command(group(ArgGroup::new("action").required(true).args(["list", "describe", "delete", "delete_offsets", "reset_offsets"])))]
#[command(group(ArgGroup::new("to").args(reset::TARGETS)))]
struct Options {
    /// Directory of the log
    #[arg(long)]
    dir: PathBuf,
    /// List the names of all groups
    #[arg(long)]
    list: bool,
    /// Show the positions of groups
    #[arg(long)]
    describe: bool,
    /// Delete groups
    #[arg(long)]
    delete: bool,
    /// Delete positions of a group in topics
    #[arg(long)]
    delete_offsets: bool,
    /// Reset positions; without --execute, only show the result
    #[arg(long)]
    reset_offsets: bool,
    /// Group; can be repeated
    #[arg(long)]
    group: Vec<String>,
    /// All groups
    #[arg(long)]
    all_groups: bool,
    /// With --describe: show members instead of positions
    #[arg(long, conflicts_with = "state")]
    members: bool,
    /// With --describe or --list: show the state
    #[arg(long)]
    state: bool,
    /// Show more columns
    #[arg(long)]
    verbose: bool,
    /// Topic, or partitions as in TOPIC:0,2; can be repeated
    #[arg(long)]
    topic: Vec<String>,
    /// All topics in which the group has positions
    #[arg(long)]
    all_topics: bool,
    #[command(flatten)]
    target: reset::Target,
    /// Execute the reset
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show the result of the reset
    #[arg(long)]
    dry_run: bool,
    /// Print the plan as CSV, for --from-file
    #[arg(long)]
    export: bool,
}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let options = Options::parse();
    let changes =
        options.delete || options.delete_offsets || (options.reset_offsets && options.execute);
    // A read-only log takes no lock, so it works while the program that writes is running.
    let log = if changes {
        Log::open(&options.dir)?
    } else {
        Log::open_read_only(&options.dir)?
    };
    match &options {
        Options { list: true, .. } => list(&log, options.state),
        Options { describe: true, .. } => describe(&log, &options),
        Options { delete: true, .. } => delete(&log, &options),
        Options {
            delete_offsets: true,
            ..
        } => delete_offsets(&log, &options),
        _ => reset::run(&log, &options),
    }?;
    if changes { Ok(log.close()?) } else { Ok(()) }
}

/// Returns the groups of the options; each must exist.
fn chosen(log: &Log, options: &Options) -> Result<Vec<ConsumerGroup>> {
    let known = log.consumer_groups()?;
    if options.all_groups {
        return Ok(known);
    }
    ensure!(
        !options.group.is_empty(),
        "name a group: --group or --all-groups"
    );
    let find = |name: &String| match known.iter().find(|group| group.id() == name) {
        Some(group) => Ok(group.clone()),
        None => bail!("Consumer group '{name}' does not exist."),
    };
    options.group.iter().map(find).collect()
}

/// Returns the partitions that `--topic` and `--all-topics` name.
fn scope(log: &Log, group: &ConsumerGroup, options: &Options) -> Result<Vec<TopicPartition>> {
    if options.all_topics {
        let positions = group.describe()?.positions.into_iter();
        return Ok(positions
            .filter(|position| position.committed.is_some())
            .map(|position| position.partition)
            .collect());
    }
    ensure!(
        !options.topic.is_empty(),
        "name a topic: --topic or --all-topics"
    );
    let mut partitions = Vec::new();
    for topic in &options.topic {
        match topic.split_once(':') {
            Some((name, numbers)) => {
                for number in numbers.split(',') {
                    partitions.push(TopicPartition::new(name, number.parse()?));
                }
            }
            None => partitions.extend(
                log.topic(topic)?
                    .partitions()
                    .iter()
                    .map(|partition| partition.id().clone()),
            ),
        }
    }
    Ok(partitions)
}

fn list(log: &Log, with_state: bool) -> Result<()> {
    if !with_state {
        log.consumer_groups()?
            .iter()
            .for_each(|group| println!("{}", group.id()));
        return Ok(());
    }
    let mut table = Table::new(["GROUP", "STATE"]);
    for group in log.consumer_groups()? {
        table.row([group.id().to_owned(), state_name(group.describe()?.state)]);
    }
    table.print();
    Ok(())
}

fn describe(log: &Log, options: &Options) -> Result<()> {
    let groups = chosen(log, options)?;
    let mut failed = 0;
    for group in &groups {
        let group = match group.describe() {
            Ok(group) => group,
            Err(error) => {
                // The other groups are described too.
                eprintln!(
                    "\nConsumer group '{}' cannot be described: {error}",
                    group.id()
                );
                failed += 1;
                continue;
            }
        };
        if group.state == GroupState::Empty {
            eprintln!(
                "\nConsumer group '{}': only the program that writes the log knows whether it has members.",
                group.group
            );
        }
        println!();
        match options {
            Options { members: true, .. } => table::members(&group, options.verbose).print(),
            Options { state: true, .. } => table::state(&group, options.verbose).print(),
            _ => table::positions(&group, options.verbose).print(),
        }
        failed += usize::from(report_errors(&group));
    }
    ensure!(
        failed == 0,
        "{failed} of {} groups could not be described completely",
        groups.len()
    );
    Ok(())
}

/// Prints the errors of partitions, and returns whether there are any.
fn report_errors(group: &GroupDescription) -> bool {
    let mut has_errors = false;
    for position in &group.positions {
        if let Some(error) = &position.error {
            eprintln!(
                "\nConsumer group '{}', {}: {error}",
                group.group, position.partition
            );
            has_errors = true;
        }
    }
    has_errors
}

fn delete(log: &Log, options: &Options) -> Result<()> {
    let groups = chosen(log, options)?;
    groups.iter().try_for_each(ConsumerGroup::delete)?;
    let names: Vec<String> = groups
        .iter()
        .map(|group| format!("'{}'", group.id()))
        .collect();
    println!(
        "Deletion of requested consumer groups ({}) was successful.",
        names.join(", ")
    );
    Ok(())
}

fn delete_offsets(log: &Log, options: &Options) -> Result<()> {
    for group in chosen(log, options)? {
        let partitions = scope(log, &group, options)?;
        group.delete_offsets(partitions.clone())?;
        println!(
            "Request succeeded for deleting offsets from group {}.",
            group.id()
        );
        let mut table = Table::new(["TOPIC", "PARTITION", "STATUS"]);
        for TopicPartition { topic, partition } in partitions {
            table.row([
                topic.to_string(),
                partition.to_string(),
                "Successful".to_owned(),
            ]);
        }
        table.print();
    }
    Ok(())
}

fn state_name(state: GroupState) -> String {
    format!("{state:?}")
}
