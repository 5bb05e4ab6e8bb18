//! The names in the directory of a log, sorted by their meaning. No file is opened or changed.
//!
//! A directory that has a file of a log is a log. Its other files are *foreign*: they are left
//! alone and reported. A directory without a file of a log can become a log only while it is empty,
//! because a broker takes every subdirectory of a log for a partition. The directory of a single
//! partition is not a log, and cannot become one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::storage::Storage;
use crate::topic_partition::TopicPartition;

/// The directory in which tiered storage keeps index files. Brokers ignore it, and so does annals.
const REMOTE_INDEXES: &str = "remote-log-index-cache";
/// The file with which a broker was formatted. It is at the root if the broker keeps its metadata
/// log in the same directory as the topics.
const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// Files of a log. Each of them shows that a directory is a log.
const MARKS: [&str; 7] = [
    file_name::META_PROPERTIES,
    file_name::LOCK,
    file_name::CLEAN_SHUTDOWN,
    file_name::RECOVERY_POINTS,
    file_name::LOG_STARTS,
    file_name::HIGH_WATERMARKS,
    file_name::CLEANER_OFFSETS,
];

/// The names in a log's directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The numbers of the partitions that have a directory, by topic.
    pub(crate) partitions: BTreeMap<String, BTreeSet<u32>>,
    /// The topics that have a topic file.
    pub(crate) topic_files: BTreeSet<String>,
    /// The topics that are being deleted.
    pub(crate) gone: BTreeSet<String>,
    /// The directories of deleted partitions.
    pub(crate) deleted_dirs: Vec<String>,
    /// The directories that a broker set aside because it did not know their topic, by the
    /// partition that they contain.
    pub(crate) stray: BTreeMap<TopicPartition, BTreeSet<String>>,
    /// The directories set aside whose name contains only a prefix of the topic, because the topic
    /// name was too long.
    pub(crate) cut_stray: BTreeMap<String, TopicPartition>,
    /// Temporary files that a killed process left.
    pub(crate) temporary: Vec<String>,
    /// The other files of a log.
    pub(crate) files: BTreeSet<String>,
    /// The names that do not belong to a log, and whether each is a directory.
    pub(crate) foreign: BTreeMap<String, bool>,
    /// Whether there is a partition that was opened alone and does not belong to this log.
    has_single_partition: bool,
    has_other_partition_dirs: bool,
}

impl Contents {
    /// Lists the directory `root`. Returns `NotALog` if it does not exist.
    pub(crate) fn read(storage: &dyn Storage, root: &Path) -> Result<Self> {
        let entries = storage.list(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_a_log(root, "there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_log(root, "it is a file, not a directory"),
            _ => Error::io("list", root, error),
        })?;
        let mut contents = Self::default();
        for entry in entries {
            let name = entry.name;
            match (entry.is_dir, file_name::parse_partition_dir(&name)) {
                (true, Some(id)) => drop(
                    contents
                        .partitions
                        .entry(id.topic.to_string())
                        .or_default()
                        .insert(id.partition),
                ),
                (true, None) => contents.add_dir(name),
                (false, Some(_)) => drop(contents.foreign.insert(name, false)),
                (false, None) => contents.add_file(name),
            }
        }
        contents.set_strangers_aside(storage, root)?;
        Ok(contents)
    }

    fn add_dir(&mut self, name: String) {
        match file_name::parse_leaving_dir(&name) {
            Some(file_name::DELETED_DIR) => self.deleted_dirs.push(name),
            Some(file_name::STRAY_DIR) => match file_name::parse_stray_dir(&name) {
                Some((id, true)) => drop(self.cut_stray.insert(name, id)),
                Some((id, false)) => drop(self.stray.entry(id).or_default().insert(name)),
                None => {}
            },
            Some(_) => {}
            None if name == REMOTE_INDEXES => {}
            None => {
                self.foreign.insert(name, true);
                return;
            }
        }
        self.has_other_partition_dirs = true;
    }

    fn add_file(&mut self, name: String) {
        if let Some(topic) = file_name::parse_topic_file(&name) {
            self.topic_files.insert(topic.to_owned());
        } else if let Some(topic) = file_name::parse_gone_file(&name) {
            self.gone.insert(topic.to_owned());
        } else if file_name::is_temporary(&name) {
            self.temporary.push(name);
        } else if file_name::parse_leaving_dir(&name) == Some(file_name::DELETED_DIR) {
            // A link whose target was deleted already.
            self.deleted_dirs.push(name);
        } else if MARKS.contains(&name.strip_suffix(".tmp").unwrap_or(&name)) || name == BOOTSTRAP {
            self.files.insert(name);
        } else {
            self.foreign.insert(name, false);
        }
    }

    /// Moves directories that only look like partitions to `foreign`. If a topic has no topic file,
    /// the directory of a partition must contain files of a partition. An empty directory counts if
    /// another partition of the topic does: a broker that was killed leaves it empty.
    fn set_strangers_aside(&mut self, storage: &dyn Storage, root: &Path) -> Result<()> {
        let strangers: BTreeSet<String> = self.without_file().into_iter().cloned().collect();
        for topic in strangers {
            let Some(numbers) = self.partitions.remove(&topic) else {
                unreachable!("each of the strangers has a directory");
            };
            let (mut ours, mut empty) = (BTreeSet::new(), BTreeSet::new());
            for number in numbers {
                let name = format!("{topic}-{number}");
                match look_inside(storage, &root.join(&name))? {
                    Inside::Partition { is_single } => {
                        self.has_single_partition |= is_single;
                        ours.insert(number);
                    }
                    Inside::Nothing => drop(empty.insert(number)),
                    Inside::Other => drop(self.foreign.insert(name, true)),
                }
            }
            if ours.is_empty() {
                self.foreign.extend(
                    empty
                        .iter()
                        .map(|number| (format!("{topic}-{number}"), true)),
                );
            } else {
                ours.extend(empty);
                self.partitions.insert(topic, ours);
            }
        }
        Ok(())
    }

    /// Returns the topics that have directories and no topic file. They are a broker's, or a change
    /// is in progress.
    pub(crate) fn without_file(&self) -> BTreeSet<&String> {
        let has_file =
            |topic: &&String| self.topic_files.contains(*topic) || self.gone.contains(*topic);
        self.partitions
            .keys()
            .filter(|topic| !has_file(topic))
            .collect()
    }

    /// Returns the directory to which a broker renamed partition `id` when it did not know the
    /// topic.
    pub(crate) fn stray_of(&self, id: &TopicPartition) -> Option<&str> {
        let is_cut_of = |(_, stray): &(&String, &TopicPartition)| {
            stray.partition == id.partition && id.topic.starts_with(&*stray.topic)
        };
        let whole = self.stray.get(id).and_then(|names| names.first());
        whole
            .or_else(|| self.cut_stray.iter().find(is_cut_of).map(|(name, _)| name))
            .map(String::as_str)
    }

    /// Checks that the directory is a log or can become one. Otherwise returns `NotALog` with the
    /// reason.
    pub(crate) fn check_is_log(&self, root: &Path) -> Result<()> {
        self.check_not_a_partition(root)?;
        let others = self.in_the_way();
        if self.is_log() || others.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "it contains {} and no log: choose an empty or a new directory",
            listed(&others)
        );
        Err(Error::NotALog {
            path: root.to_owned(),
            reason: reason.into(),
        })
    }

    /// Checks that the directory is a log, also one that is still being created.
    pub(crate) fn check_is_log_already(&self, root: &Path) -> Result<()> {
        self.check_not_a_partition(root)?;
        if self.is_log() {
            Ok(())
        } else {
            Err(not_a_log(root, "it contains no file of a log"))
        }
    }

    /// Checks that the directory is that of one partition or can become one. Otherwise returns
    /// `NotALog` with the reason.
    pub(crate) fn check_is_partition(&self, dir: &Path) -> Result<()> {
        if self.is_partition() {
            return Ok(());
        }
        let of_logs = [file_name::META_PROPERTIES, file_name::HIGH_WATERMARKS];
        if self.has_topics() || of_logs.iter().any(|mark| self.files.contains(*mark)) {
            return Err(not_a_log(
                dir,
                "this is a whole log, not one of its partitions: use `Log::open`",
            ));
        }
        let others = self.in_the_way();
        if others.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "it contains {} and no partition: choose an empty or a new directory",
            listed(&others)
        );
        Err(Error::NotALog {
            path: dir.to_owned(),
            reason: reason.into(),
        })
    }

    fn check_not_a_partition(&self, root: &Path) -> Result<()> {
        if self.is_partition() {
            Err(not_a_log(
                root,
                "this is a single partition: use `Partition::open`",
            ))
        } else {
            Ok(())
        }
    }

    /// Returns whether the directory is that of one partition. A `meta.properties` does not exclude
    /// it: early versions of annals wrote one into such directories.
    fn is_partition(&self) -> bool {
        const STATE: [&str; 3] = [
            file_name::LONE_PARTITION,
            file_name::LEADER_EPOCHS,
            file_name::PARTITION_METADATA,
        ];
        let has_state = STATE.iter().any(|name| self.foreign.contains_key(*name));
        let is_segment = |name: &String| {
            file_name::parse_segment_file(name).is_some_and(|(_, suffix)| suffix == file_name::LOG)
        };
        let has_files =
            self.topic_files.is_empty() && self.gone.is_empty() && self.deleted_dirs.is_empty();
        if self.files.contains(file_name::META_PROPERTIES) {
            return has_files && has_state && self.partitions.is_empty();
        }
        has_files && (has_state || self.foreign.keys().any(is_segment))
    }

    fn has_topics(&self) -> bool {
        !(self.partitions.is_empty() && self.topic_files.is_empty() && self.gone.is_empty())
    }

    /// Returns whether the directory has a file of a log. A partition that was opened alone does
    /// not count.
    fn is_log(&self) -> bool {
        let has_files = !(self.topic_files.is_empty() && self.gone.is_empty());
        let has_partitions = !self.partitions.is_empty() && !self.has_single_partition;
        has_files
            || has_partitions
            || self.has_other_partition_dirs
            || MARKS.iter().any(|mark| self.files.contains(*mark))
    }

    /// Returns the names that would end up inside a new log: all except hidden files.
    fn in_the_way(&self) -> Vec<String> {
        let foreign = self
            .foreign
            .iter()
            .filter(|(name, is_dir)| **is_dir || !name.starts_with('.'));
        let partitions = self.partitions.iter().flat_map(|(topic, numbers)| {
            numbers
                .iter()
                .map(move |number| format!("{topic}-{number}"))
        });
        foreign
            .map(|(name, _)| name.clone())
            .chain(partitions)
            .collect()
    }
}

/// The kind of contents of a directory that is named as a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Nothing,
    /// Files of a partition. `is_single` if it was opened alone.
    Partition {
        is_single: bool,
    },
    Other,
}

pub(super) fn look_inside(storage: &dyn Storage, dir: &Path) -> Result<Inside> {
    let entries = storage.list(dir).at("list", dir)?;
    let has = |name: &str| {
        entries
            .iter()
            .any(|entry| !entry.is_dir && entry.name == name)
    };
    let has_segments = entries
        .iter()
        .any(|entry| !entry.is_dir && file_name::parse_segment_file(&entry.name).is_some());
    let is_single = has(file_name::LONE_PARTITION);
    Ok(if entries.is_empty() {
        Inside::Nothing
    } else if is_single
        || has_segments
        || has(file_name::PARTITION_METADATA)
        || has(file_name::LEADER_EPOCHS)
    {
        Inside::Partition { is_single }
    } else {
        Inside::Other
    })
}

/// Returns the first names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    debug_assert!(
        !names.is_empty(),
        "a directory is refused because of a name in it"
    );
    let shown: Vec<_> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn not_a_log(path: &Path, reason: &'static str) -> Error {
    Error::NotALog {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
