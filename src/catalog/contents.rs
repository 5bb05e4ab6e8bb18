//! What stands in the directory of a log, told apart by name; nothing is opened or changed.
//!
//! A directory that holds anything of a log is one, and whatever else it holds is foreign: it is left alone and reported. A
//! directory without anything of a log can only become one while it is empty, since a broker takes every subdirectory of a log
//! for a partition. The directory of a single partition is neither.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::file_name;
use crate::storage::Storage;
use crate::topic_partition::TopicPartition;

/// Where tiered storage keeps index files; brokers pass it over.
const REMOTE_INDEXES: &str = "remote-log-index-cache";
/// What a broker that keeps its own metadata log beside its topics was formatted with.
const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// Files of which one says that a directory is a log.
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
    /// By topic: numbers of the partitions that have a directory.
    pub(crate) partitions: BTreeMap<String, BTreeSet<u32>>,
    /// Topics that have a topic file.
    pub(crate) topic_files: BTreeSet<String>,
    /// Topics whose deletion is under way.
    pub(crate) gone: BTreeSet<String>,
    /// Directories of partitions that were deleted.
    pub(crate) deleted_dirs: Vec<String>,
    /// Directories that a broker set aside because it did not know their topic, by the partition that they were.
    pub(crate) stray: BTreeMap<TopicPartition, BTreeSet<String>>,
    /// Those of which the name of the topic was cut to fit.
    pub(crate) cut_stray: BTreeMap<String, TopicPartition>,
    /// What a killed writer of a small file left.
    pub(crate) temporary: Vec<String>,
    /// Other files of a log.
    pub(crate) files: BTreeSet<String>,
    /// What no log has, and whether it is a directory.
    pub(crate) foreign: BTreeMap<String, bool>,
    /// Whether there is a partition that was opened alone and belongs to no log.
    has_single_partition: bool,
    has_other_partition_dirs: bool,
}

impl Contents {
    /// Reads a directory. `NotALog` where there is none.
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
                (true, Some(id)) => drop(contents.partitions.entry(id.topic.to_string()).or_default().insert(id.partition)),
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
            // A link to what was deleted already.
            self.deleted_dirs.push(name);
        } else if MARKS.contains(&name.strip_suffix(".tmp").unwrap_or(&name)) || name == BOOTSTRAP {
            self.files.insert(name);
        } else {
            self.foreign.insert(name, false);
        }
    }

    /// A directory that is named as a partition, of a topic without a topic file, must look like one inside. An empty one is a
    /// partition if another one of its topic is: a broker that was killed leaves it so.
    fn set_strangers_aside(&mut self, storage: &dyn Storage, root: &Path) -> Result<()> {
        let strangers: BTreeSet<String> = self.without_file().into_iter().cloned().collect();
        for topic in strangers {
            let Some(numbers) = self.partitions.remove(&topic) else { continue };
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
                self.foreign.extend(empty.iter().map(|number| (format!("{topic}-{number}"), true)));
            } else {
                ours.extend(empty);
                self.partitions.insert(topic, ours);
            }
        }
        Ok(())
    }

    /// Topics that have directories and no topic file: a broker's, or one in the midst of a change.
    pub(crate) fn without_file(&self) -> BTreeSet<&String> {
        let has_file = |topic: &&String| self.topic_files.contains(*topic) || self.gone.contains(*topic);
        self.partitions.keys().filter(|topic| !has_file(topic)).collect()
    }

    /// The directory that a broker made of this partition's when it did not know its topic.
    pub(crate) fn stray_of(&self, id: &TopicPartition) -> Option<&str> {
        let is_cut_of =
            |(_, stray): &(&String, &TopicPartition)| stray.partition == id.partition && id.topic.starts_with(&*stray.topic);
        let whole = self.stray.get(id).and_then(|names| names.first());
        whole.or_else(|| self.cut_stray.iter().find(is_cut_of).map(|(name, _)| name)).map(String::as_str)
    }

    /// Whether the directory is a log, or can become one. `NotALog` says what is in the way.
    pub(crate) fn check_is_log(&self, root: &Path) -> Result<()> {
        self.check_not_a_partition(root)?;
        let others = self.in_the_way();
        if self.is_log() || others.is_empty() {
            return Ok(());
        }
        let reason = format!("it holds {} and nothing of a log: choose an empty or a new directory", listed(&others));
        Err(Error::NotALog { path: root.to_owned(), reason: reason.into() })
    }

    /// Whether the directory is a log, also one in the making.
    pub(crate) fn check_is_log_already(&self, root: &Path) -> Result<()> {
        self.check_not_a_partition(root)?;
        if self.is_log() { Ok(()) } else { Err(not_a_log(root, "it holds nothing of a log")) }
    }

    /// Whether the directory is that of one partition, or can become one. `NotALog` says what is in the way.
    pub(crate) fn check_is_partition(&self, dir: &Path) -> Result<()> {
        if self.is_partition() {
            return Ok(());
        }
        let of_logs = [file_name::META_PROPERTIES, file_name::HIGH_WATERMARKS];
        if self.has_topics() || of_logs.iter().any(|mark| self.files.contains(*mark)) {
            return Err(not_a_log(dir, "this is a whole log, not one of its partitions: use `Log::open`"));
        }
        let others = self.in_the_way();
        if others.is_empty() {
            return Ok(());
        }
        let reason = format!("it holds {} and nothing of a partition: choose an empty or a new directory", listed(&others));
        Err(Error::NotALog { path: dir.to_owned(), reason: reason.into() })
    }

    fn check_not_a_partition(&self, root: &Path) -> Result<()> {
        if self.is_partition() { Err(not_a_log(root, "this is a single partition: use `Partition::open`")) } else { Ok(()) }
    }

    /// Whether the names are those of one partition's directory. A `meta.properties` says nothing against it: annals once wrote
    /// one into such directories.
    fn is_partition(&self) -> bool {
        const STATE: [&str; 3] = [file_name::LONE_PARTITION, file_name::LEADER_EPOCHS, file_name::PARTITION_METADATA];
        let has_state = STATE.iter().any(|name| self.foreign.contains_key(*name));
        let is_segment = |name: &String| file_name::parse_segment_file(name).is_some_and(|(_, suffix)| suffix == file_name::LOG);
        let has_files = self.topic_files.is_empty() && self.gone.is_empty() && self.deleted_dirs.is_empty();
        if self.files.contains(file_name::META_PROPERTIES) {
            return has_files && has_state && self.partitions.is_empty();
        }
        has_files && (has_state || self.foreign.keys().any(is_segment))
    }

    fn has_topics(&self) -> bool {
        !(self.partitions.is_empty() && self.topic_files.is_empty() && self.gone.is_empty())
    }

    /// Whether anything here is a log's. A partition that was opened alone is not.
    fn is_log(&self) -> bool {
        let has_files = !(self.topic_files.is_empty() && self.gone.is_empty());
        let has_partitions = !self.partitions.is_empty() && !self.has_single_partition;
        has_files || has_partitions || self.has_other_partition_dirs || MARKS.iter().any(|mark| self.files.contains(*mark))
    }

    /// Names of what would be in a new log: all but hidden files.
    fn in_the_way(&self) -> Vec<String> {
        let foreign = self.foreign.iter().filter(|(name, is_dir)| **is_dir || !name.starts_with('.'));
        let partitions =
            self.partitions.iter().flat_map(|(topic, numbers)| numbers.iter().map(move |number| format!("{topic}-{number}")));
        foreign.map(|(name, _)| name.clone()).chain(partitions).collect()
    }
}

/// What the directory of a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Nothing,
    /// Files of a partition; of one that was opened alone, if it `is_single`.
    Partition {
        is_single: bool,
    },
    Other,
}

pub(super) fn look_inside(storage: &dyn Storage, dir: &Path) -> Result<Inside> {
    let entries = storage.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let has = |name: &str| entries.iter().any(|entry| !entry.is_dir && entry.name == name);
    let has_segments = entries.iter().any(|entry| !entry.is_dir && file_name::parse_segment_file(&entry.name).is_some());
    let is_single = has(file_name::LONE_PARTITION);
    Ok(if entries.is_empty() {
        Inside::Nothing
    } else if is_single || has_segments || has(file_name::PARTITION_METADATA) || has(file_name::LEADER_EPOCHS) {
        Inside::Partition { is_single }
    } else {
        Inside::Other
    })
}

/// The first names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn not_a_log(path: &Path, reason: &'static str) -> Error {
    Error::NotALog { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, MemoryDisk};

    fn disk(dirs: &[&str], files: &[impl AsRef<str>]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.create_dir_all(Path::new("/data")).unwrap();
        for dir in dirs {
            disk.create_dir_all(&Path::new("/data").join(dir)).unwrap();
        }
        for file in files.iter().map(AsRef::as_ref).filter(|file| !file.is_empty()) {
            drop(disk.open(&Path::new("/data").join(file), Access::CreateNew).unwrap());
        }
        disk
    }

    fn read(dirs: &[&str], files: &[impl AsRef<str>]) -> Result<Contents> {
        Contents::read(&disk(dirs, files), Path::new("/data"))
    }

    #[test]
    fn names_are_told_apart() {
        let deleted = "orders-1.0123456789abcdef0123456789abcdef-delete";
        let stray = "orders-2.0123456789abcdef0123456789abcdef-stray";
        let contents = read(
            &["orders-0", "orders-10", "a-b-3", deleted, stray, "remote-log-index-cache"],
            &[
                "a-b-3/partition.metadata",
                "orders.topic",
                "old.gone",
                ".lock",
                "meta.properties",
                "0123456789abcdef.tmp",
                "notes.txt",
            ],
        )
        .unwrap();
        let partitions = [("a-b".to_owned(), BTreeSet::from([3])), ("orders".to_owned(), BTreeSet::from([0, 10]))];
        assert_eq!(contents.partitions, BTreeMap::from(partitions));
        assert_eq!(contents.topic_files, BTreeSet::from(["orders".to_owned()]));
        assert_eq!(contents.gone, BTreeSet::from(["old".to_owned()]));
        assert_eq!(contents.deleted_dirs, [deleted]);
        assert_eq!(contents.temporary, ["0123456789abcdef.tmp"]);
        assert_eq!(contents.stray_of(&TopicPartition::new("orders", 2)), Some(stray));
        assert_eq!(contents.files, BTreeSet::from([".lock", "meta.properties"].map(str::to_owned)));
        assert_eq!(contents.foreign, BTreeMap::from([("notes.txt".to_owned(), false)]));
        assert!(contents.is_log());
    }

    #[test]
    fn what_no_log_has_is_foreign() {
        let dirs = ["lost+found", "src", ".cache", "orders", "orders-01", "orders.topic", "backup"];
        for dir in dirs {
            let topic_file = if dir == "orders.topic" { "orders-0/partition.metadata" } else { "orders.topic" };
            let contents = read(&["orders-0", dir], &[topic_file, "meta.properties"]).unwrap();
            assert_eq!(contents.foreign, BTreeMap::from([(dir.to_owned(), true)]));
            assert!(contents.check_is_log(Path::new("/data")).is_ok());
        }
    }

    #[test]
    fn a_partition_without_a_topic_must_look_like_one() {
        let inside = |file| {
            let disk = disk(&["backup-2024"], &[file]);
            Contents::read(&disk, Path::new("/data")).unwrap()
        };
        let is_foreign = |contents: &Contents| contents.partitions.is_empty() && contents.foreign.contains_key("backup-2024");
        assert!(is_foreign(&inside("backup-2024/photo.jpg")));
        assert!(!is_foreign(&inside("backup-2024/00000000000000000000.log")));
        assert!(!is_foreign(&inside("backup-2024/partition.metadata")));
        assert!(!is_foreign(&inside("backup.topic")));
        assert!(is_foreign(&read(&["backup-2024"], &[] as &[&str]).unwrap()), "an empty one is nothing");
        let beside = read(&["backup-0", "backup-1"], &["backup-0/partition.metadata"]).unwrap();
        assert_eq!(beside.partitions["backup"], BTreeSet::from([0, 1]), "a broker that was killed leaves it empty");
    }

    #[test]
    fn only_an_empty_directory_can_become_a_log() {
        let check = |dirs: &[&str], files: &[&str]| read(dirs, files).unwrap().check_is_log(Path::new("/data"));
        assert!(check(&[], &[]).is_ok());
        assert!(check(&[], &[".gitkeep"]).is_ok());
        assert!(check(&[], &[".lock", "notes.txt"]).is_ok());
        let reason = |dirs: &[&str], files: &[&str]| match check(dirs, files) {
            Err(Error::NotALog { path, reason }) if path == Path::new("/data") => reason.into_owned(),
            other => panic!("{other:?}"),
        };
        assert!(reason(&[], &["notes.txt"]).starts_with("it holds \"notes.txt\" and nothing of a log"));
        assert!(
            reason(&[".git", "b", "c"], &["backup-20240131", ".x"]).contains("\".git\", \"b\", \"backup-20240131\" and 1 more")
        );
        assert!(reason(&["lost+found"], &[]).contains("lost+found"));
        assert!(reason(&["wal-0"], &["wal-0/lone-partition"]).contains("wal-0"));
    }

    #[test]
    fn a_single_partition_is_not_a_log() {
        let segment = "00000000000000000000.log";
        let single: [&[&str]; 6] = [
            &["lone-partition", ".lock", ".kafka_cleanshutdown", "recovery-point-offset-checkpoint"],
            &["leader-epoch-checkpoint", segment, "partition.metadata"],
            &[segment, "00000000000000000000.index"],
            &[segment, ".lock"],
            &["lone-partition", segment, "meta.properties"],
            &["partition.metadata"],
        ];
        for files in single {
            let contents = read(&[], files).unwrap();
            for check in [contents.check_is_log(Path::new("/data")), contents.check_is_log_already(Path::new("/data"))] {
                assert!(check.is_err_and(|error| error.to_string().contains("use `Partition::open`")), "{files:?}");
            }
            assert!(contents.check_is_partition(Path::new("/data")).is_ok(), "{files:?}");
        }
        let logs: [(&[&str], &[&str]); 5] = [
            (&[], &["meta.properties", segment]),
            (&["t-0"], &["t.topic", "lone-partition", segment]),
            (&["t-0"], &["t-0/partition.metadata", "recovery-point-offset-checkpoint"]),
            (&[], &["old.gone", ".lock"]),
            (&[], &["meta.properties"]),
        ];
        for (dirs, files) in logs {
            let contents = read(dirs, files).unwrap();
            assert!(contents.check_is_log(Path::new("/data")).is_ok(), "{files:?}");
            assert!(
                contents.check_is_partition(Path::new("/data")).is_err_and(|error| error.to_string().contains("`Log::open`"))
            );
        }
        let new = read(&[], &[".lock", ".gitkeep"]).unwrap();
        assert!(new.check_is_partition(Path::new("/data")).is_ok());
        let other = read(&["photos"], &["notes.txt"]).unwrap().check_is_partition(Path::new("/data")).unwrap_err();
        assert!(other.to_string().contains("\"notes.txt\", \"photos\" and nothing of a partition"), "{other}");
    }

    #[test]
    fn a_stray_directory_is_found_by_its_partition() {
        let long = "x".repeat(249);
        let (stray, cut) = ("t-1.0123456789abcdef0123456789abcdef-stray", format!("{}-0.{:032x}-stray", "x".repeat(214), 7));
        let contents = read(&[stray, &cut], &[] as &[&str]).unwrap();
        assert_eq!(contents.stray_of(&TopicPartition::new("t", 1)), Some(stray));
        assert_eq!(contents.stray_of(&TopicPartition::new("t", 0)), None);
        assert_eq!(contents.stray_of(&TopicPartition::new(long, 0)), Some(&*cut));
        assert!(contents.check_is_log(Path::new("/data")).is_ok());
    }

    #[test]
    fn what_is_not_there_or_no_directory_is_no_log() {
        let disk = disk(&[], &["file"]);
        for path in ["/nowhere", "/data/file"] {
            assert!(matches!(Contents::read(&disk, Path::new(path)), Err(Error::NotALog { .. })), "{path}");
        }
    }
}
