//! Directories that a failed creation of partitions could not remove again, because the disk
//! refused that too. They contain no record. They are removed before the next creation, and by
//! maintenance.

use std::path::{Path, PathBuf};

use crate::error::{At, Result, keep_failed};
use crate::format::file_name;
use crate::storage::{IfExists, Storage};
use crate::sync::Mutex;

/// The directories that are left.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<Vec<PathBuf>>);

impl Leftovers {
    /// Removes directories that a failed creation has made. Those that cannot be removed now are
    /// tried again later.
    pub(super) fn add(&self, storage: &dyn Storage, dirs: impl IntoIterator<Item = PathBuf>) {
        self.0.lock().extend(dirs);
        let _tried_again_later = self.remove(storage);
    }

    /// Removes the directories that are left. Returns the first error.
    pub(crate) fn remove(&self, storage: &dyn Storage) -> Result<()> {
        keep_failed(&mut self.0.lock(), |dir| remove(storage, dir))
    }
}

/// Removes a directory, unless it has records: then it took the place of the one that was left.
fn remove(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let Some(entries) = storage.list(dir).if_exists().at("list", dir)? else {
        return Ok(());
    };
    let logs = entries.iter().filter(|entry| {
        file_name::parse_segment_file(&entry.name)
            .is_some_and(|(_, suffix)| suffix == file_name::LOG)
    });
    for log in logs {
        let path = dir.join(&log.name);
        let metadata = storage.metadata(&path).if_exists().at("look at", &path)?;
        if metadata.is_some_and(|metadata| metadata.bytes > 0) {
            return Ok(());
        }
    }
    storage
        .remove_dir_all(dir)
        .if_exists()
        .at("remove", dir)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, MemoryDisk};

    #[test]
    fn a_directory_with_records_is_not_removed() {
        let disk = MemoryDisk::new();
        let [empty, full, gone] = ["/data/empty-0", "/data/full-0", "/data/gone-0"].map(Path::new);
        for (dir, bytes) in [(empty, &b""[..]), (full, b"records")] {
            disk.create_dir_all(dir).unwrap();
            let path = dir.join(file_name::segment_file(0, file_name::LOG));
            let file = disk.open(&path, Access::CreateNew).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
        let leftovers = Leftovers::default();
        leftovers.add(&disk, [empty, full, gone].map(Path::to_owned));
        assert!(disk.metadata(empty).is_err());
        assert!(disk.metadata(full).is_ok());
        assert!(leftovers.0.lock().is_empty());
    }
}
