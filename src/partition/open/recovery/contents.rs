//! The files of a partition's directory, and whether they are still the same ones later.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::partition::PartitionContext;
use crate::partition::remove::unfinished;
use crate::segment::SegmentHome;
use crate::storage::FileMetadata;

/// The files of a partition's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::partition) struct Contents {
    /// Base offsets of the segments, rising, without those that a cut removes.
    pub(in crate::partition) logs: Vec<u64>,
    /// Base offsets, rising, of complete compaction output that does not have its final names yet.
    pub(in crate::partition) swaps: Vec<u64>,
    /// Base offset of the last segment of a log that is being cut, which does not have its final
    /// name yet.
    pub(in crate::partition) cut: Option<u64>,
    pub(in crate::partition) snapshots: Vec<u64>,
    /// Files that an interrupted step left.
    pub(super) leftovers: Vec<String>,
}

impl Contents {
    pub(in crate::partition) fn list(context: &PartitionContext, dir: &Path) -> Result<Self> {
        let entries = context.storage.list(dir).at("list", dir)?;
        let mut contents = Self {
            swaps: unfinished::whole_outputs(&entries),
            cut: unfinished::promised_cut(&entries),
            ..Self::default()
        };
        for entry in entries {
            match file_name::parse_segment_file(&entry.name) {
                _ if entry.is_dir => {}
                Some((base, file_name::LOG)) => contents.logs.push(base),
                Some((offset, file_name::SNAPSHOT)) => contents.snapshots.push(offset),
                Some((_, suffix))
                    if suffix.ends_with(file_name::DELETED)
                        || suffix.ends_with(file_name::CLEANED) =>
                {
                    contents.leftovers.push(entry.name);
                }
                _ if file_name::is_temporary(&entry.name) => contents.leftovers.push(entry.name),
                _ => {}
            }
        }
        contents.logs.extend(contents.cut);
        let last = contents.cut.unwrap_or(u64::MAX);
        contents.logs.retain(|base| *base <= last);
        contents.logs.sort_unstable();
        contents.logs.dedup();
        contents.snapshots.sort_unstable();
        Ok(contents)
    }

    /// Returns the base offsets of the segments. Complete output replaces the originals in its
    /// range.
    pub(in crate::partition) fn segments(&self, home: &SegmentHome) -> Result<Vec<u64>> {
        if self.swaps.is_empty() {
            return Ok(self.logs.clone());
        }
        let replaced = unfinished::replaced(home, &self.swaps)?;
        Ok(self.segments_without(|base| replaced.contains(&base)))
    }

    /// Returns the base offsets of the segments that do not have their final names yet.
    pub(in crate::partition) fn unnamed(&self) -> impl Iterator<Item = u64> {
        self.swaps.iter().copied().chain(self.cut)
    }

    /// Returns the same as `segments`, for a caller that knows which segments are replaced.
    pub(in crate::partition) fn segments_without(
        &self,
        is_replaced: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let kept = self.logs.iter().copied().filter(|base| !is_replaced(*base));
        let mut segments: Vec<u64> = kept.chain(self.unnamed()).collect();
        segments.sort_unstable();
        segments.dedup();
        segments
    }
}

/// The `.log` files that an opening has looked at.
#[derive(Debug, Default)]
pub(in crate::partition) struct Looked {
    contents: Contents,
    logs: BTreeMap<u64, (PathBuf, u64)>,
}

impl Looked {
    pub(super) fn new(contents: Contents) -> Self {
        Self {
            contents,
            logs: BTreeMap::new(),
        }
    }

    /// Returns the metadata of the `.log` of a segment. Fails with `NotFound` if it is another file
    /// than at the first look.
    pub(super) fn look_at(&mut self, home: &SegmentHome, base: u64) -> Result<FileMetadata> {
        let path = home.path(base, file_name::LOG);
        let found = home.storage().metadata(&path).at("look at", &path)?;
        match self.logs.get(&base) {
            Some((_, id)) if *id != found.id => {
                return Err(Error::io("look at", &path, io::ErrorKind::NotFound.into()));
            }
            Some(_) => {}
            // The writer does not compare files: no other process replaces them.
            None if !home.read_only => {}
            None => drop(self.logs.insert(base, (path, found.id))),
        }
        Ok(found)
    }

    /// Returns the file id of the `.log` of a segment, if it was looked at.
    pub(super) fn id(&self, base: u64) -> Option<u64> {
        self.logs.get(&base).map(|(_, id)| *id)
    }

    /// Returns whether the directory still holds the same segments in the same files. New segments
    /// at the end do not count.
    ///
    /// A file that loses its name does not get it back. So everything that was read by name in
    /// between came from these files.
    pub(in crate::partition) fn is_still_there(
        &self,
        context: &PartitionContext,
        dir: &Path,
    ) -> Result<bool> {
        let now = Contents::list(context, dir)?;
        let (before, last) = (&self.contents, self.contents.logs.last());
        let is_same = before.unnamed().eq(now.unnamed())
            && now
                .logs
                .iter()
                .filter(|base| Some(*base) <= last)
                .eq(&before.logs);
        let is_named = |path: &Path, id| {
            context
                .storage
                .metadata(path)
                .is_ok_and(|found| found.id == id)
        };
        Ok(is_same && self.logs.values().all(|(path, id)| is_named(path, *id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::format::record::Record;
    use crate::partition::tests::{context, put, written};
    use crate::storage::{MemoryDisk, Storage as _};

    const DIR: &str = "/p";

    /// Returns a log of one record at each offset from `base` to `end`.
    fn log(base: u64, end: u64) -> Vec<u8> {
        let disk = MemoryDisk::new();
        let core = written(&disk, base, 0);
        let settings = crate::config::TopicSettings {
            segment_bytes: 1 << 20,
            ..crate::config::TopicSettings::clone(&core.settings())
        };
        core.set_settings(settings);
        for _ in base..end {
            core.append(Durability::Os, [Record::new("a value")])
                .unwrap();
        }
        let path = core.segments().snapshot()[0].log_path().to_owned();
        crate::storage::read_file(&disk, &path, 1 << 20).unwrap()
    }

    /// Returns the base offsets of the segments in a directory that holds these files: base offset,
    /// suffix, and the end of a `.log`.
    fn segments(files: &[(u64, &str, u64)]) -> Vec<u64> {
        let disk = MemoryDisk::new();
        disk.create_dir_all(DIR.as_ref()).unwrap();
        for (base, suffix, end) in files {
            put(
                &disk,
                Path::new(DIR).join(file_name::segment_file(*base, suffix)),
                &log(*base, *end),
            );
        }
        let (context, dir) = (context(&disk), DIR.as_ref());
        let contents = Contents::list(&context, dir).unwrap();
        contents.segments(&context.home(dir)).unwrap()
    }

    #[test]
    fn complete_output_is_listed_instead_of_its_originals() {
        let next = (6, "log", 8);
        let list = |files: &[(u64, &str, u64)]| segments(&[files, &[next]].concat());
        assert_eq!(list(&[(0, "log", 3), (3, "log", 6)]), [0, 3, 6]);
        // Each step of an exchange.
        assert_eq!(
            list(&[(0, "log", 3), (3, "log", 6), (0, "log.cleaned", 6)]),
            [0, 3, 6],
            "written"
        );
        assert_eq!(
            list(&[
                (0, "log", 3),
                (3, "log", 6),
                (0, "log.swap", 6),
                (0, "index.cleaned", 0)
            ]),
            [0, 3, 6],
            "half renamed"
        );
        let promised = [(0, "log.swap", 6), (0, "index.swap", 0)];
        assert_eq!(
            list(&[&[(0, "log", 3), (3, "log", 6)], &promised[..]].concat()),
            [0, 6],
            "promised"
        );
        assert_eq!(
            list(&[&[(3, "log", 6), (3, "index", 0)], &promised[..]].concat()),
            [0, 6],
            "the first original is removed"
        );
        assert_eq!(list(&promised), [0, 6], "all originals are removed");
        assert_eq!(
            list(&[(0, "log", 6), (0, "index.swap", 0)]),
            [0, 6],
            "the log has its final name"
        );
        // Output of several segments.
        let split = [(0, "log.swap", 2), (2, "log.swap", 6)];
        assert_eq!(
            list(&[&[(0, "log", 3), (3, "log", 6)], &split[..]].concat()),
            [0, 2, 6]
        );
        assert_eq!(list(&[(0, "log", 2), (2, "log.swap", 6)]), [0, 2, 6]);
        // An empty output replaces the original of its name.
        assert_eq!(
            list(&[(0, "log", 3), (3, "log", 6), (0, "log.swap", 0)]),
            [0, 3, 6]
        );
        assert_eq!(list(&[(3, "log", 6), (0, "log.swap", 0)]), [0, 3, 6]);
    }

    #[test]
    fn only_a_reader_compares_a_log_file_with_the_one_it_looked_at_first() {
        for read_only in [false, true] {
            let disk = MemoryDisk::new();
            disk.create_dir_all(DIR.as_ref()).unwrap();
            let context = context(&disk);
            let home = SegmentHome {
                read_only,
                ..context.home(DIR.as_ref())
            };
            let path = home.path(0, file_name::LOG);
            put(&disk, &path, b"a log");
            let mut looked = Looked::default();
            let first = looked.look_at(&home, 0).unwrap();
            assert_eq!(looked.id(0), read_only.then_some(first.id));
            assert_eq!(looked.look_at(&home, 0).unwrap().id, first.id);

            disk.remove_file(&path).unwrap();
            put(&disk, &path, b"another log");
            match looked.look_at(&home, 0) {
                Ok(found) => assert!(!read_only && found.id != first.id),
                Err(error) => assert!(read_only && error.is_not_found(), "{error}"),
            }
        }
    }
}
