//! The facts that the files around a partition state about it, for a tool that copies it out of its
//! log.

use std::path::Path;

use super::identify;
use super::note::Note;
use crate::error::{At, Result};
use crate::format::file_name;
use crate::partition::stated::{Lines, Stated, own_line};
use crate::storage::Storage;
use crate::topic::topic_file::read_covered;
use crate::topic_partition::TopicPartition;

/// The facts about a partition that its `.log` files do not contain.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: TopicPartition,
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
    /// 0 if no file states it.
    pub(crate) log_start: u64,
    /// An offset that the end of the partition once reached. 0 if no file states it.
    pub(crate) recovery_point: u64,
}

/// Reads the files in the directory, and in the log around it, if there is one. Damaged and
/// unreadable files count as missing.
pub(crate) fn known(storage: &dyn Storage, dir: &Path) -> Result<Known> {
    let dir = storage.canonical(dir).at("find", dir)?;
    let id = identify(&dir);
    let note = Note::read(storage, &dir)?;
    let own_lines = Lines::read(storage, &dir).unwrap_or_default();
    let alone = Stated::of(&own_line(), &own_lines, note.covered(), false);
    let Some(root) = super::log_around(storage, &dir) else {
        return Ok(Known {
            id,
            is_dense: alone.is_dense,
            log_start: alone.log_start.unwrap_or(0),
            recovery_point: alone.recovery_point.unwrap_or(0),
        });
    };
    let lines = Lines::read(storage, root).unwrap_or_default();
    let broker_since = storage
        .metadata(&root.join(file_name::HIGH_WATERMARKS))
        .is_ok();
    // An unreadable topic file, such as one of a later version, states no facts either.
    let file = read_covered(storage, root, &dir, &id, broker_since).unwrap_or_default();
    let in_log = Stated::of(&id, &lines, file, broker_since);
    Ok(Known {
        id,
        is_dense: in_log.is_dense,
        log_start: in_log.log_start.or(alone.log_start).unwrap_or(0),
        recovery_point: in_log.recovery_point.max(alone.recovery_point).unwrap_or(0),
    })
}
