//! The small files at the root of a log that cover all its partitions.
//!
//! | file | written | if damaged or missing |
//! | --- | --- | --- |
//! | `recovery-point-offset-checkpoint` | when a recovery point has moved | all segments are scanned |
//! | `log-start-offset-checkpoint` | when a log start inside a segment has moved | the log starts at the first segment |
//! | `cleaner-offset-checkpoint` | after a compaction, before a cut | everything is compacted again |
//! | `replication-offset-checkpoint` | never; removed before the first write of a run | a broker did not use the log since annals last wrote to it |
//! | `.kafka_cleanshutdown` | when the log is closed completely; removed before the first write of a run | the log was not closed cleanly |
//! | `meta.properties` | once, if it is missing | the log has no cluster id |
//!
//! The offsets in a checkpoint may be too low, and are never too high. They are gathered under the
//! lock of the checkpoints, so that an older state never replaces a newer one. A file is written
//! only if its lines have changed. After the log was closed no file is written, because another
//! process may own the directory.

use std::path::{Path, PathBuf};

use crate::error::{At, Error, Result};
use crate::format::checkpoint::encode_offsets;
use crate::format::file_name;
use crate::format::metadata_file::{
    CLEAN_SHUTDOWN_TEXT, MetaProperties, TopicId, decode_meta_properties, encode_meta_properties,
};
use crate::partition::stated::{Lines, Offsets};
use crate::storage::{IfExists, Storage, read_file, replace_file};
use crate::sync::Mutex;

/// The greatest size of `meta.properties`.
const MAX_BYTES: u64 = 1 << 20;

/// The checkpoints of a directory.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    on_disk: Mutex<OnDisk>,
}

#[derive(Debug)]
struct OnDisk {
    lines: Lines,
    is_closed: bool,
}

impl Checkpoints {
    /// Reads the checkpoints in `dir`. A missing or damaged file has no lines; one that cannot be
    /// read is an error.
    pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            on_disk: Mutex::new(OnDisk {
                lines: Lines::read(storage, dir)?,
                is_closed: false,
            }),
        })
    }

    /// Returns the lines as they are on disk.
    pub(crate) fn lines(&self) -> Lines {
        self.on_disk.lock().lines.clone()
    }

    /// Closes the checkpoints. A later write that would change a line returns `Closed`.
    pub(crate) fn close(&self) {
        self.on_disk.lock().is_closed = true;
    }

    /// Replaces the lines by those that `gather` computes from the current ones. Durable on return.
    pub(crate) fn write(
        &self,
        storage: &dyn Storage,
        gather: impl FnOnce(&Lines) -> Lines,
    ) -> Result<()> {
        self.write_then(storage, gather, || Ok(()))
    }

    /// Writes as [`write`](Self::write) does, then runs `step` before another thread may write.
    pub(crate) fn write_then<T>(
        &self,
        storage: &dyn Storage,
        gather: impl FnOnce(&Lines) -> Lines,
        step: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut on_disk = self.on_disk.lock();
        let lines = gather(&on_disk.lines);
        if on_disk.is_closed && lines != on_disk.lines {
            return Err(Error::Closed);
        }
        let on_disk = &mut on_disk.lines;
        if lines.log_starts != on_disk.log_starts {
            self.replace(storage, file_name::LOG_STARTS, &lines.log_starts)?;
            on_disk.log_starts = lines.log_starts;
        }
        if lines.recovery_points != on_disk.recovery_points {
            self.replace(storage, file_name::RECOVERY_POINTS, &lines.recovery_points)?;
            on_disk.recovery_points = lines.recovery_points;
        }
        if lines.cleaned != on_disk.cleaned {
            self.replace(storage, file_name::CLEANER_OFFSETS, &lines.cleaned)?;
            on_disk.cleaned = lines.cleaned;
        }
        step()
    }

    fn replace(&self, storage: &dyn Storage, name: &str, offsets: &Offsets) -> Result<()> {
        debug_assert!(
            self.on_disk.is_locked(),
            "lines are gathered and written under one lock"
        );
        debug_assert!(
            offsets
                .keys()
                .all(|id| !id.topic.contains(char::is_whitespace)),
            "white space in a name would split its line"
        );
        write(storage, &self.dir.join(name), &text_of(offsets))
    }
}

/// Returns the names and the contents of the checkpoints that state these lines.
pub(crate) fn files_of(lines: &Lines) -> [(&'static str, String); 3] {
    [
        (file_name::RECOVERY_POINTS, &lines.recovery_points),
        (file_name::LOG_STARTS, &lines.log_starts),
        (file_name::CLEANER_OFFSETS, &lines.cleaned),
    ]
    .map(|(name, offsets)| (name, text_of(offsets)))
}

fn text_of(offsets: &Offsets) -> String {
    encode_offsets(
        offsets
            .iter()
            .map(|(id, offset)| (&*id.topic, id.partition, *offset)),
    )
}

fn write(storage: &dyn Storage, path: &Path, text: &str) -> Result<()> {
    replace_file(storage, path, text.as_bytes()).at("write", path)
}

/// Writes the marker which states that everything in the directory is complete and durable. The
/// next run removes it before its first write.
pub(crate) fn write_clean_shutdown(storage: &dyn Storage, dir: &Path) -> Result<()> {
    write(
        storage,
        &dir.join(file_name::CLEAN_SHUTDOWN),
        CLEAN_SHUTDOWN_TEXT,
    )
}

/// Writes a `meta.properties` with a new identity if there is none, so that a broker can be
/// formatted with it.
pub(crate) fn ensure_meta_properties(
    storage: &dyn Storage,
    dir: &Path,
    new_id: impl Fn() -> TopicId,
) -> Result<()> {
    let path = dir.join(file_name::META_PROPERTIES);
    let found = storage.metadata(&path).if_exists();
    if found.at("look at", &path)?.is_some() {
        return Ok(());
    }
    let properties = MetaProperties {
        cluster_id: new_id().to_text(),
        node_id: 1,
        directory_id: Some(new_id()),
    };
    write(storage, &path, &encode_meta_properties(&properties))
}

/// Returns the cluster id in `meta.properties`. `None` if the file is missing or has none.
pub(crate) fn cluster_id(storage: &dyn Storage, dir: &Path) -> Option<String> {
    let bytes = read_file(storage, &dir.join(file_name::META_PROPERTIES), MAX_BYTES).ok()?;
    decode_meta_properties(&bytes)
        .ok()
        .map(|properties| properties.cluster_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, MemoryDisk};
    use crate::topic_partition::TopicPartition;

    fn disk_with(files: &[(&str, &str)]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.create_dir_all(Path::new("/data")).unwrap();
        for (name, text) in files {
            replace_file(&disk, &Path::new("/data").join(name), text.as_bytes()).unwrap();
        }
        disk
    }

    fn text(disk: &MemoryDisk, name: &str) -> String {
        String::from_utf8(read_file(disk, &Path::new("/data").join(name), 1_000).unwrap()).unwrap()
    }

    fn offsets(lines: &[(&str, u32, u64)]) -> Offsets {
        lines
            .iter()
            .map(|(topic, partition, offset)| (TopicPartition::new(*topic, *partition), *offset))
            .collect()
    }

    #[test]
    fn lines_that_were_written_are_read_again() {
        let disk = disk_with(&[]);
        let checkpoints = Checkpoints::read(&disk, Path::new("/data")).unwrap();
        assert_eq!(checkpoints.lines(), Lines::default());
        let recovery_points = offsets(&[("b", 0, 7), ("a", 1, 0)]);
        let lines = Lines {
            recovery_points,
            log_starts: offsets(&[("b", 0, 3)]),
            cleaned: offsets(&[("a", 1, 9)]),
        };
        checkpoints.write(&disk, |_| lines.clone()).unwrap();
        assert_eq!(
            text(&disk, file_name::RECOVERY_POINTS),
            "0\n2\na 1 0\nb 0 7\n"
        );
        assert_eq!(text(&disk, file_name::LOG_STARTS), "0\n1\nb 0 3\n");
        assert_eq!(text(&disk, file_name::CLEANER_OFFSETS), "0\n1\na 1 9\n");
        assert_eq!(
            Checkpoints::read(&disk, Path::new("/data"))
                .unwrap()
                .lines(),
            lines
        );
    }

    #[test]
    fn unchanged_files_are_not_written_again() {
        let disk = disk_with(&[
            (file_name::RECOVERY_POINTS, "0\n1\na  0\t5\n"),
            (file_name::LOG_STARTS, ""),
        ]);
        let checkpoints = Checkpoints::read(&disk, Path::new("/data")).unwrap();
        checkpoints.write(&disk, Lines::clone).unwrap();
        assert_eq!(text(&disk, file_name::RECOVERY_POINTS), "0\n1\na  0\t5\n");
        assert_eq!(text(&disk, file_name::LOG_STARTS), "");
    }

    #[test]
    fn a_damaged_file_has_no_lines() {
        for damaged in [
            "0\n2\na 0 5\n",
            "1\n1\na 0 5\n",
            "0\n1\na 0 5",
            "\u{0}\u{0}",
        ] {
            let disk = disk_with(&[
                (file_name::RECOVERY_POINTS, damaged),
                (file_name::LOG_STARTS, "0\n1\na 0 2\n"),
            ]);
            let lines = Checkpoints::read(&disk, Path::new("/data"))
                .unwrap()
                .lines();
            assert_eq!(
                lines,
                Lines {
                    log_starts: offsets(&[("a", 0, 2)]),
                    ..Lines::default()
                },
                "{damaged:?}"
            );
        }
    }

    /// Regression: such a file counted as missing, and the next write replaced it.
    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        for name in [
            file_name::RECOVERY_POINTS,
            file_name::LOG_STARTS,
            file_name::CLEANER_OFFSETS,
        ] {
            let disk = disk_with(&[]);
            let path = Path::new("/data").join(name);
            disk.create_dir_all(&path).unwrap();
            let error = Checkpoints::read(&disk, Path::new("/data")).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("cannot read {}", path.display())),
                "{text}"
            );
        }
    }

    #[test]
    fn meta_properties_is_written_once() {
        let disk = disk_with(&[]);
        let id = || TopicId([7; 16]);
        ensure_meta_properties(&disk, Path::new("/data"), id).unwrap();
        let first = text(&disk, file_name::META_PROPERTIES);
        assert!(
            cluster_id(&disk, Path::new("/data"))
                .is_some_and(|id| first.contains(&format!("cluster.id={id}")))
        );
        assert!(first.contains("node.id=1"), "{first}");
        assert!(first.contains("cluster.id="), "{first}");
        ensure_meta_properties(&disk, Path::new("/data"), || TopicId([9; 16])).unwrap();
        assert_eq!(text(&disk, file_name::META_PROPERTIES), first);
    }

    #[test]
    fn the_clean_shutdown_marker_equals_that_of_a_broker() {
        let disk = disk_with(&[]);
        write_clean_shutdown(&disk, Path::new("/data")).unwrap();
        assert_eq!(
            text(&disk, file_name::CLEAN_SHUTDOWN),
            "{\"version\":0,\"brokerEpoch\":-1}"
        );
        assert!(
            disk.open(
                &Path::new("/data").join(file_name::CLEAN_SHUTDOWN),
                Access::Read
            )
            .is_ok()
        );
    }
}
