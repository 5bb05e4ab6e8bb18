//! What stands in the directory of a log, told apart by name; nothing is opened or changed.
//!
//! Every subdirectory of a log is a partition, or one on its way out: a broker does not start on anything else, and what else
//! there is was not meant for a log. Plain files with other names are none of our business.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::file_name;
use crate::storage::Storage;

/// Where tiered storage keeps index files; brokers pass it over.
const REMOTE_INDEXES: &str = "remote-log-index-cache";

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
    /// What a killed writer of a small file left.
    pub(crate) temporary: Vec<String>,
    /// All other files.
    pub(crate) files: BTreeSet<String>,
    has_other_partition_dirs: bool,
}

impl Contents {
    /// Reads a directory. `NotALog` where it holds a directory that a log does not, or is none.
    pub(crate) fn read(storage: &dyn Storage, root: &Path) -> Result<Self> {
        let entries = storage.list(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_a_log(root, "there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_log(root, "it is a file, not a directory"),
            _ => Error::io("list", root, error),
        })?;
        let mut contents = Self::default();
        for entry in entries {
            let path = root.join(&entry.name);
            let name = entry.name;
            match (entry.is_dir, file_name::parse_partition_dir(&name)) {
                (true, Some(id)) => drop(contents.partitions.entry(id.topic.to_string()).or_default().insert(id.partition)),
                (true, None) => contents.add_dir(name).map_err(|reason| not_a_log(&path, reason))?,
                (false, Some(_)) => return Err(not_a_log(&path, "it is a file where a partition's directory belongs")),
                (false, None) => contents.add_file(name),
            }
        }
        contents.check_strangers(storage, root)?;
        Ok(contents)
    }

    fn add_dir(&mut self, name: String) -> std::result::Result<(), &'static str> {
        match file_name::parse_leaving_dir(&name) {
            Some(file_name::DELETED_DIR) => self.deleted_dirs.push(name),
            Some(_) => {}
            None if name == REMOTE_INDEXES => {}
            None => return Err("it is a directory that no log has"),
        }
        self.has_other_partition_dirs = true;
        Ok(())
    }

    fn add_file(&mut self, name: String) {
        if let Some(topic) = file_name::parse_topic_file(&name) {
            self.topic_files.insert(topic.to_owned());
        } else if let Some(topic) = file_name::parse_gone_file(&name) {
            self.gone.insert(topic.to_owned());
        } else if file_name::is_temporary(&name) {
            self.temporary.push(name);
        } else {
            self.files.insert(name);
        }
    }

    /// A directory that is named as a partition, of a topic without a topic file, must look like one inside.
    fn check_strangers(&self, storage: &dyn Storage, root: &Path) -> Result<()> {
        let strangers =
            self.partitions.iter().filter(|(topic, _)| !self.topic_files.contains(*topic) && !self.gone.contains(*topic));
        for (topic, numbers) in strangers {
            for number in numbers {
                let dir = root.join(format!("{topic}-{number}"));
                let inside = storage.list(&dir).map_err(|error| Error::io("list", &dir, error))?;
                let is_known = |name: &str| {
                    [file_name::PARTITION_METADATA, file_name::LEADER_EPOCHS].contains(&name)
                        || file_name::parse_segment_file(name).is_some()
                };
                if !inside.is_empty() && !inside.iter().any(|entry| !entry.is_dir && is_known(&entry.name)) {
                    return Err(not_a_log(&dir, "it is named as a partition and holds something else"));
                }
            }
        }
        Ok(())
    }

    /// Topics that have directories and no topic file: a broker's, or one in the midst of a change.
    pub(crate) fn without_file(&self) -> BTreeSet<&String> {
        let has_file = |topic: &&String| self.topic_files.contains(*topic) || self.gone.contains(*topic);
        self.partitions.keys().filter(|topic| !has_file(topic)).collect()
    }

    /// Whether the directory is a log, or empty but for hidden files, so that it can become one.
    pub(crate) fn check_is_log(&self, root: &Path) -> Result<()> {
        if self.is_log() || self.files.iter().all(|name| name.starts_with('.')) {
            return Ok(());
        }
        Err(not_a_log(root, "it holds other files and nothing of a log"))
    }

    /// Whether anything here is a log's.
    pub(crate) fn is_log(&self) -> bool {
        const MARKS: [&str; 7] = [
            file_name::META_PROPERTIES,
            file_name::LOCK,
            file_name::CLEAN_SHUTDOWN,
            file_name::RECOVERY_POINTS,
            file_name::LOG_STARTS,
            file_name::HIGH_WATERMARKS,
            file_name::CLEANER_OFFSETS,
        ];
        let has_topics = !(self.partitions.is_empty() && self.topic_files.is_empty() && self.gone.is_empty());
        has_topics || self.has_other_partition_dirs || MARKS.iter().any(|mark| self.files.contains(*mark))
    }
}

fn not_a_log(path: &Path, reason: &'static str) -> Error {
    Error::NotALog { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, MemoryDisk};

    fn disk(dirs: &[&str], files: &[&str]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.create_dir_all(Path::new("/data")).unwrap();
        for dir in dirs {
            disk.create_dir_all(&Path::new("/data").join(dir)).unwrap();
        }
        for file in files {
            drop(disk.open(&Path::new("/data").join(file), Access::CreateNew).unwrap());
        }
        disk
    }

    fn read(dirs: &[&str], files: &[&str]) -> Result<Contents> {
        Contents::read(&disk(dirs, files), Path::new("/data"))
    }

    #[test]
    fn names_are_told_apart() {
        let deleted = "orders-1.0123456789abcdef0123456789abcdef-delete";
        let stray = "orders-2.0123456789abcdef0123456789abcdef-stray";
        let contents = read(
            &["orders-0", "orders-10", "a-b-3", deleted, stray, "remote-log-index-cache"],
            &["orders.topic", "old.gone", ".lock", "meta.properties", "0123456789abcdef.tmp", "notes.txt"],
        )
        .unwrap();
        let partitions = [("a-b".to_owned(), BTreeSet::from([3])), ("orders".to_owned(), BTreeSet::from([0, 10]))];
        assert_eq!(contents.partitions, BTreeMap::from(partitions));
        assert_eq!(contents.topic_files, BTreeSet::from(["orders".to_owned()]));
        assert_eq!(contents.gone, BTreeSet::from(["old".to_owned()]));
        assert_eq!(contents.deleted_dirs, [deleted]);
        assert_eq!(contents.temporary, ["0123456789abcdef.tmp"]);
        let files = [".lock", "meta.properties", "notes.txt"].map(str::to_owned);
        assert_eq!(contents.files, BTreeSet::from(files));
        assert!(contents.is_log());
    }

    #[test]
    fn foreign_directories_are_refused() {
        for dir in ["lost+found", "src", ".cache", "orders", "orders-01", "orders.topic"] {
            let refused = read(&["orders-0", dir], &["meta.properties"]);
            assert!(matches!(&refused, Err(Error::NotALog { path, .. }) if path.ends_with(dir)), "{dir}: {refused:?}");
        }
        assert!(matches!(read(&[], &["orders-0"]), Err(Error::NotALog { .. })), "a file where a directory belongs");
    }

    #[test]
    fn a_partition_of_nobody_must_look_like_one() {
        let inside = |file| {
            let disk = disk(&["backup-2024"], &[file]);
            Contents::read(&disk, Path::new("/data"))
        };
        assert!(matches!(inside("backup-2024/photo.jpg"), Err(Error::NotALog { .. })));
        assert!(inside("backup-2024/00000000000000000000.log").is_ok());
        assert!(inside("backup-2024/partition.metadata").is_ok());
        assert!(read(&["backup-2024"], &[]).is_ok(), "a broker that was killed leaves it empty");
        assert!(inside("backup.topic").is_ok());
    }

    #[test]
    fn only_an_empty_directory_can_become_a_log() {
        let check = |files: &[&str]| read(&[], files).unwrap().check_is_log(Path::new("/data"));
        assert!(check(&[]).is_ok());
        assert!(check(&[".gitkeep"]).is_ok());
        assert!(check(&[".lock", "notes.txt"]).is_ok());
        assert!(matches!(check(&["notes.txt"]), Err(Error::NotALog { .. })));
    }

    #[test]
    fn what_is_not_there_or_no_directory_is_no_log() {
        let disk = disk(&[], &["file"]);
        for path in ["/nowhere", "/data/file"] {
            assert!(matches!(Contents::read(&disk, Path::new(path)), Err(Error::NotALog { .. })), "{path}");
        }
    }
}
