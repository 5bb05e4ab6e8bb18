//! Copies the files of one directory from one disk in memory to another.

use std::path::Path;
use std::sync::Arc;

use crate::storage::{Access, MemoryDisk, Storage, StorageFile, read_file};

/// Directory of the partition.
pub(super) const DIR: &str = "/lone";
const LIMIT_BYTES: u64 = 1 << 20;

/// Names and contents of files, in the order of the names.
pub(super) type Image = Vec<(String, Vec<u8>)>;

/// Returns all files except the lock.
pub(super) fn take(disk: &MemoryDisk) -> Image {
    let entries = disk.list(Path::new(DIR)).expect("the directory exists");
    let files = entries
        .into_iter()
        .filter(|entry| !entry.is_dir && entry.name != ".lock");
    let content = |name: &str| {
        read_file(disk, &Path::new(DIR).join(name), LIMIT_BYTES).expect("a small file can be read")
    };
    let mut image: Image = files
        .map(|entry| (entry.name.clone(), content(&entry.name)))
        .collect();
    image.sort();
    image
}

/// Returns a disk with only these files.
pub(super) fn put(image: &Image) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new(DIR))
        .expect("a disk in memory accepts a directory");
    for (name, bytes) in image {
        let file: Arc<dyn StorageFile> = disk
            .open(&Path::new(DIR).join(name), Access::CreateNew)
            .expect("the names differ");
        file.write_all_at(bytes, 0)
            .expect("a disk in memory accepts bytes");
    }
    disk
}
