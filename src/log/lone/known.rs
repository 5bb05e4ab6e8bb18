//! What the files around a partition say of it, for who copies it out of its log.

use std::path::Path;

use super::identify;
use super::note::Note;
use crate::catalog::checkpoints::Checkpoints;
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::partition::own_line;
use crate::storage::Storage;
use crate::topic::stored::{Found, read_topic_file};
use crate::topic_partition::TopicPartition;

/// Facts that stand in no `.log`.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: TopicPartition,
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
    /// 0 where nobody says.
    pub(crate) log_start: u64,
    /// The log went at least as far; 0 where nobody says.
    pub(crate) recovery_point: u64,
}

/// Reads what stands in the directory and in the log around it, if there is one. What is damaged
/// says nothing.
pub(crate) fn known(storage: &dyn Storage, dir: &Path) -> Result<Known> {
    let dir = storage
        .canonical(dir)
        .map_err(|error| Error::io("find", dir, error))?;
    let id = identify(&dir);
    let alone = Checkpoints::read(storage, &dir).lines();
    let note = Note::read(storage, &dir)?;
    let mut known = Known {
        is_dense: note.is_dense(),
        log_start: note
            .log_start()
            .or_else(|| alone.log_starts.get(&own_line()).copied())
            .unwrap_or(0),
        recovery_point: alone.recovery_points.get(&own_line()).copied().unwrap_or(0),
        id,
    };
    let Some(root) = super::log_around(storage, &dir) else {
        return Ok(known);
    };
    let lines = Checkpoints::read(storage, root).lines();
    known.recovery_point = known
        .recovery_point
        .max(lines.recovery_points.get(&known.id).copied().unwrap_or(0));
    known.log_start = lines
        .log_starts
        .get(&known.id)
        .copied()
        .unwrap_or(known.log_start);
    known.is_dense = false;
    let has_broker = storage
        .metadata(&root.join(file_name::HIGH_WATERMARKS))
        .is_ok();
    if !has_broker
        && let Ok(Found::Sound(file, _)) = read_topic_file(storage, root, &known.id.topic)
    {
        known.is_dense = file.is_dense;
        let start = file
            .log_starts
            .iter()
            .find(|(number, _)| *number == known.id.partition);
        known.log_start = start.map_or(0, |(_, start)| *start);
    }
    Ok(known)
}
