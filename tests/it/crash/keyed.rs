//! Compactions interrupted by a power cut: afterwards the latest record of each key is there, and
//! no record that was not appended.

use std::collections::BTreeMap;
use std::time::Duration;

use annals::{CleanupPolicy, Durability, Log, Partition, Record, Result, Topic, TopicConfig};

use super::workload::{Lines, Model, Workload, flush, positions_compacted};

pub(super) const COMPACTIONS: &[Workload] = &[
    Workload {
        name: "segments compacted one by one",
        run: one_by_one,
    },
    Workload {
        name: "segments compacted into one",
        run: into_one,
    },
    Workload {
        name: "unflushed segments compacted",
        run: unflushed,
    },
    Workload {
        name: "a policy changed to compact",
        run: policy_changed,
    },
    Workload {
        name: "committed positions compacted",
        run: positions_compacted,
    },
    Workload {
        name: "the end cut off in a gap",
        run: cut_in_a_gap,
    },
];

/// The topic whose records have keys.
pub(super) const NAME: &str = "keyed";
const SEGMENT: u32 = 260;

/// The text of a tombstone in the model.
const TOMBSTONE: &str = "";

fn key(offset: u64) -> String {
    format!("key {}", offset * offset % 5)
}

/// Returns the record at an offset.
pub(super) fn record(offset: u64, text: &str) -> Record<'_> {
    if text == TOMBSTONE {
        Record::tombstone(key(offset))
    } else {
        Record::new(text).key(key(offset))
    }
}

/// Creates a topic in which the second compaction that sees a tombstone removes it.
fn create(log: &Log, model: &mut Model) -> Result<Topic> {
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .delete_retention(Duration::ZERO);
    model.lines(NAME).configs.push(SEGMENT);
    let topic = log.open_topic(
        NAME,
        1,
        config.segment_bytes(SEGMENT).index_interval_bytes(64),
    )?;
    model.lines(NAME).exists = true;
    Ok(topic)
}

/// Appends records of these sizes in one batch. Size 0 is a tombstone.
fn append(topic: &Topic, model: &mut Model, durability: Durability, sizes: &[usize]) -> Result<()> {
    let lines = model.lines(NAME);
    let first = lines.tried.len() as u64;
    let text = |(offset, size): (u64, &usize)| {
        if *size == 0 {
            String::new()
        } else {
            format!("{offset}-{}", "z".repeat(*size))
        }
    };
    lines.tried.extend((first..).zip(sizes).map(text));
    let batch: Vec<_> = (first..)
        .zip(&lines.tried[usize::try_from(first).unwrap()..])
        .collect();
    let records = batch.iter().map(|(offset, text)| record(*offset, text));
    let appended = topic
        .partition(0)?
        .with_durability(durability)
        .append_batch(records)?;
    if durability == Durability::Synced {
        lines.durable = appended.end;
    }
    Ok(())
}

fn one_by_one(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model)?;
    append(&topic, model, Durability::Synced, &[30, 40, 20])?;
    append(&topic, model, Durability::Synced, &[0, 60, 0])?;
    topic.partition(0)?.compact()?;
    append(&topic, model, Durability::Synced, &[10, 10, 70])?;
    append(&topic, model, Durability::Synced, &[10])?;
    topic.partition(0)?.compact()?;
    Ok(())
}

fn into_one(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model)?;
    for sizes in [&[30, 40, 50][..], &[0, 60, 0], &[0, 0, 0], &[10]] {
        append(&topic, model, Durability::Os, sizes)?;
    }
    flush(log, model)?;
    topic.partition(0)?.compact()?;
    model.lines(NAME).configs.push(4 * SEGMENT);
    topic.update_config(TopicConfig::new().segment_bytes(4 * SEGMENT))?;
    // No older record needs the tombstones any more, so this compaction removes them.
    topic.partition(0)?.compact()?;
    Ok(())
}

fn unflushed(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model)?;
    append(&topic, model, Durability::Synced, &[30, 40, 20])?;
    append(&topic, model, Durability::Os, &[50, 0, 60])?;
    append(&topic, model, Durability::Os, &[40, 50, 10])?;
    topic.partition(0)?.compact()?;
    append(&topic, model, Durability::Os, &[10])
}

fn policy_changed(log: &Log, model: &mut Model) -> Result<()> {
    model.lines(NAME).configs.push(SEGMENT);
    let topic = log.open_topic(
        NAME,
        1,
        TopicConfig::new().segment_bytes(SEGMENT).retention(None),
    )?;
    model.lines(NAME).exists = true;
    append(&topic, model, Durability::Os, &[30, 40, 20])?;
    append(&topic, model, Durability::Os, &[50, 0, 60])?;
    topic.update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))?;
    append(&topic, model, Durability::Os, &[40, 50, 10])
}

/// Truncates the log before a batch whose keys made compaction remove the batches before it. No
/// batch then shows where the log ends.
fn cut_in_a_gap(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model)?;
    for sizes in [&[30, 30, 30, 0, 0][..], &[1], &[0, 0], &[0, 0], &[150]] {
        append(&topic, model, Durability::Os, sizes)?;
    }
    flush(log, model)?;
    topic.partition(0)?.compact()?;
    flush(log, model)?;
    // Until the truncation is complete, the log may end where the gap begins.
    model.lines(NAME).durable = 6;
    topic.partition(0)?.truncate_to(8)?;
    let lines = model.lines(NAME);
    lines.tried.truncate(8);
    lines.durable = 8;
    append(&topic, model, Durability::Synced, &[10])
}

/// Checks that the latest record of each key is there. A tombstone may be gone together with the
/// records that it deleted.
pub(super) fn check(label: &str, partition: &Partition, lines: &Lines) {
    let end = partition.log_end_offset();
    let mut expected: BTreeMap<_, _> = (0..end).map(|offset| (key(offset), offset)).collect();
    expected.retain(|_, offset| lines.tried[usize::try_from(*offset).unwrap()] != TOMBSTONE);
    let mut found = BTreeMap::new();
    let mut reader = partition
        .read(..)
        .unwrap_or_else(|error| panic!("{label}: {error}"));
    let mut next = 0;
    while let Some(read) = reader
        .next_record()
        .unwrap_or_else(|error| panic!("{label}, at {next}: {error}"))
    {
        let offset = read.offset();
        assert!(
            next <= offset && offset < end,
            "{label}: offset {offset}, between {next} and {end}"
        );
        let text = &lines.tried[usize::try_from(offset).unwrap()];
        let value = (text != TOMBSTONE).then_some(text.as_bytes());
        assert_eq!(
            read.key(),
            Some(key(offset).as_bytes()),
            "{label}: at {offset}"
        );
        assert_eq!(read.value(), value, "{label}: at {offset}");
        if text == TOMBSTONE {
            found.remove(&key(offset))
        } else {
            found.insert(key(offset), offset)
        };
        next = offset + 1;
    }
    assert_eq!(found, expected, "{label}: {lines:?}");
}
