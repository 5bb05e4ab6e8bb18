//! Topic files: reading them, and changing one fact in them.
//!
//! `stored` changes the topic of an open log. The functions here work on the file alone, also for a
//! partition that is opened without its log.

use std::io;
use std::path::Path;

use crate::config::{CleanupPolicy, TopicConfig, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{
    NEWER_VERSION, TopicFile, decode_topic_file, encode_topic_file,
};
use crate::partition::stated::Covered;
use crate::storage::{IfExists, Storage, read_file, replace_file};
use crate::topic_partition::TopicPartition;

/// The greatest size of a topic file. Its longest part has one line for each partition.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Returns the config of a topic without a topic file. All settings that keep its records are
/// explicit, so they also apply after other settings are changed, with any defaults.
pub(crate) fn unconfigured() -> TopicConfig {
    TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Delete)
        .retention(None)
        .retention_bytes(None)
        .timestamp_after_max(None)
}

/// Returns whether a gap between two offsets can only be damage.
pub(crate) fn is_never_compacted(settings: &TopicSettings) -> bool {
    settings.cleanup_policy == CleanupPolicy::Delete
}

/// The result of reading a topic file.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(crate) enum Found {
    Nothing,
    /// The file, and the config in it.
    Sound(TopicFile, TopicConfig),
    /// The bytes are damaged, or this version does not know a setting.
    Damaged(Error),
}

/// Reads a topic file. Returns `Unsupported` if a later version wrote it.
pub(crate) fn read_topic_file(storage: &dyn Storage, root: &Path, topic: &str) -> Result<Found> {
    let path = root.join(file_name::topic_file(topic));
    let bytes = match read_file(storage, &path, MAX_FILE_BYTES).if_exists() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Found::Nothing),
        Err(error) => return Ok(Found::Damaged(Error::io("read", &path, error))),
    };
    let file = match decode_topic_file(&bytes) {
        Ok(file) => file,
        Err(NEWER_VERSION) => {
            return Err(Error::Unsupported {
                path,
                what: "a later version of topic files",
            });
        }
        Err(malformed) => {
            let source = io::Error::new(io::ErrorKind::InvalidData, malformed);
            return Ok(Found::Damaged(Error::io("read", &path, source)));
        }
    };
    let config = config_of(&file.config)
        .and_then(|config| config.over(&TopicSettings::default()).map(|_| config));
    Ok(config.map_or_else(Found::Damaged, |config| Found::Sound(file, config)))
}

/// Reads what a topic file states about the partition in `dir`, for the log in `root`. Returns
/// `None` if the file is missing or damaged, or belongs to an earlier topic of the same name.
pub(crate) fn read_covered(
    storage: &dyn Storage,
    root: &Path,
    dir: &Path,
    id: &TopicPartition,
    broker_since: bool,
) -> Result<Option<Covered>> {
    let Found::Sound(file, _) = read_topic_file(storage, root, &id.topic)? else {
        return Ok(None);
    };
    Ok(Covered::of_topic_in(&file, id, storage, dir, broker_since))
}

/// Returns how many partitions a topic has that is being deleted, if its `.gone` file contains the
/// number. For a broker's topic the file is empty.
pub(crate) fn partitions_of_deleted(
    storage: &dyn Storage,
    root: &Path,
    topic: &str,
) -> Option<u32> {
    let bytes = read_file(
        storage,
        &root.join(file_name::gone_file(topic)),
        MAX_FILE_BYTES,
    )
    .ok()?;
    decode_topic_file(&bytes).ok().map(|file| file.partitions)
}

fn config_of(entries: &[(String, String)]) -> Result<TopicConfig> {
    entries
        .iter()
        .try_fold(TopicConfig::new(), |config, (key, value)| {
            config.set(key, value)
        })
}

pub(super) fn entries_of(config: &TopicConfig) -> Vec<(String, String)> {
    config
        .entries()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Writes the log start of partition `id` to its topic file. Does nothing if the file is missing or
/// damaged.
pub(crate) fn store_log_start(
    storage: &dyn Storage,
    root: &Path,
    id: &TopicPartition,
    log_start: Option<u64>,
) -> Result<()> {
    let Found::Sound(mut file, _) = read_topic_file(storage, root, &id.topic)? else {
        return Ok(());
    };
    let before = file.log_starts.clone();
    file.log_starts
        .retain(|(number, _)| *number != id.partition);
    file.log_starts
        .extend(log_start.map(|offset| (id.partition, offset)));
    file.log_starts.sort_unstable();
    if file.log_starts == before {
        return Ok(());
    }
    let path = root.join(file_name::topic_file(&id.topic));
    replace_file(storage, &path, encode_topic_file(&file).as_bytes()).at("write", &path)
}

/// Notes in the topic file that partitions may have gaps, so that a gap is not damage. Does nothing
/// if the file is missing or damaged.
pub(crate) fn store_gaps(storage: &dyn Storage, root: &Path, topic: &str) -> Result<()> {
    let Found::Sound(file, _) = read_topic_file(storage, root, topic)? else {
        return Ok(());
    };
    if !file.is_dense {
        return Ok(());
    }
    let path = root.join(file_name::topic_file(topic));
    let text = encode_topic_file(&TopicFile {
        is_dense: false,
        ..file
    });
    replace_file(storage, &path, text.as_bytes()).at("write", &path)
}
