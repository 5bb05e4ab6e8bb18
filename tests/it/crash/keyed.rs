//! Compactions until the power goes: of each key the latest record is there afterwards, and nothing
//! that was not appended.

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

/// What stands for a tombstone among the texts.
const TOMBSTONE: &str = "";

fn key(offset: u64) -> String {
    format!("key {}", offset * offset % 5)
}

/// The record at an offset.
pub(super) fn record(offset: u64, text: &str) -> Record<'_> {
    if text == TOMBSTONE {
        Record::tombstone(key(offset))
    } else {
        Record::new(text).key(key(offset))
    }
}

/// In a topic whose tombstones go in the second pass that sees them.
fn create(log: &Log, model: &mut Model) -> Result<Topic> {
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .delete_retention(Duration::ZERO);
    model.of(NAME).configs.push(SEGMENT);
    let topic = log.open_topic(
        NAME,
        1,
        config.segment_bytes(SEGMENT).index_interval_bytes(64),
    )?;
    model.of(NAME).exists = true;
    Ok(topic)
}

/// Appends records of these sizes, in one batch; an empty one is a tombstone.
fn append(topic: &Topic, model: &mut Model, durability: Durability, sizes: &[usize]) -> Result<()> {
    let lines = model.of(NAME);
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
    model.of(NAME).configs.push(4 * SEGMENT);
    topic.update_config(TopicConfig::new().segment_bytes(4 * SEGMENT))?;
    // All that was in the way of the tombstones is gone, and they go as well.
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
    model.of(NAME).configs.push(SEGMENT);
    let topic = log.open_topic(
        NAME,
        1,
        TopicConfig::new().segment_bytes(SEGMENT).retention(None),
    )?;
    model.of(NAME).exists = true;
    append(&topic, model, Durability::Os, &[30, 40, 20])?;
    append(&topic, model, Durability::Os, &[50, 0, 60])?;
    topic.update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))?;
    append(&topic, model, Durability::Os, &[40, 50, 10])
}

/// The end is cut in front of a batch that made those before it go: no batch tells where the log
/// ends then.
fn cut_in_a_gap(log: &Log, model: &mut Model) -> Result<()> {
    let topic = create(log, model)?;
    for sizes in [&[30, 30, 30, 0, 0][..], &[1], &[0, 0], &[0, 0], &[150]] {
        append(&topic, model, Durability::Os, sizes)?;
    }
    flush(log, model)?;
    topic.partition(0)?.compact()?;
    flush(log, model)?;
    // As long as it is not done, the log may end where the gap begins.
    model.of(NAME).durable = 6;
    topic.partition(0)?.truncate_to(8)?;
    let lines = model.of(NAME);
    lines.tried.truncate(8);
    lines.durable = 8;
    append(&topic, model, Durability::Synced, &[10])
}

/// Of all that the log came to, the latest record of each key is there; a tombstone may be gone
/// with all that it deleted.
pub(super) fn check(what: &str, partition: &Partition, lines: &Lines) {
    let end = partition.log_end_offset();
    let mut expected: BTreeMap<_, _> = (0..end).map(|offset| (key(offset), offset)).collect();
    expected.retain(|_, offset| lines.tried[usize::try_from(*offset).unwrap()] != TOMBSTONE);
    let mut found = BTreeMap::new();
    let mut reader = partition
        .read(..)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut next = 0;
    while let Some(read) = reader
        .next_record()
        .unwrap_or_else(|error| panic!("{what}, at {next}: {error}"))
    {
        let offset = read.offset();
        assert!(
            next <= offset && offset < end,
            "{what}: offset {offset}, between {next} and {end}"
        );
        let text = &lines.tried[usize::try_from(offset).unwrap()];
        let is_it = read.key() == Some(key(offset).as_bytes())
            && read.value().unwrap_or_default() == text.as_bytes();
        assert!(
            is_it && read.value().is_none() == (text == TOMBSTONE),
            "{what}: a wrong record at {offset}"
        );
        if text == TOMBSTONE {
            found.remove(&key(offset))
        } else {
            found.insert(key(offset), offset)
        };
        next = offset + 1;
    }
    assert_eq!(found, expected, "{what}: {lines:?}");
}
