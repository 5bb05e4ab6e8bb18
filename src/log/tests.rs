//! A disk that fills up, seen from the whole engine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Log;
use crate::config::TopicConfig;
use crate::error::Error;
use crate::storage::{Access, DirEntry, FileLock, FileMetadata, FileView, MemoryDisk, Storage, StorageFile, sealed};

/// A disk in memory that has no room once it is told so: files can be created and removed, and nothing grows.
#[derive(Clone, Debug)]
struct FullDisk {
    disk: MemoryDisk,
    is_full: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FullFile {
    file: Arc<dyn StorageFile>,
    is_full: Arc<AtomicBool>,
}

impl sealed::Sealed for FullDisk {}
impl sealed::Sealed for FullFile {}

impl Storage for FullDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.disk.open(path, access)?;
        Ok(Arc::new(FullFile { file, is_full: Arc::clone(&self.is_full) }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.disk.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.disk.lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.disk.lock_holder(path)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.canonical(path)
    }
}

impl StorageFile for FullFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if !self.is_full.load(Ordering::SeqCst) {
            return self.file.write_all_at(bytes, position);
        }
        // Some of it still fits, as on a real disk.
        self.file.write_all_at(bytes.get(..bytes.len() / 2).unwrap_or_default(), position)?;
        Err(io::ErrorKind::StorageFull.into())
    }
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.file.view(bytes)
    }
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.file.drop_cache(position)
    }
}

fn full_disk() -> FullDisk {
    FullDisk { disk: MemoryDisk::new(), is_full: Arc::default() }
}

fn open(disk: &FullDisk) -> Log {
    Log::builder("data").storage(disk.clone()).open().unwrap()
}

fn append(log: &Log, count: u64) {
    let config = TopicConfig::new().segment_bytes(400).retention(None);
    let partition = log.open_topic("t", 1, config).unwrap().partition(0).unwrap();
    for _ in 0..count {
        partition.append(format!("value {}", partition.log_end_offset())).unwrap();
    }
}

fn check(log: &Log, start: u64, end: u64) {
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (start, end));
    let mut reader = partition.read(..).unwrap();
    for offset in start..end {
        assert_eq!(reader.next_record().unwrap().unwrap().text(), format!("value {offset}"));
    }
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let disk = full_disk();
    let log = open(&disk);
    append(&log, 30);
    disk.is_full.store(true, Ordering::SeqCst);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    for _ in 0..3 {
        assert!(matches!(partition.append("value 30"), Err(Error::DiskFull { .. })));
    }
    check(&log, 0, 30);
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    check(&log, 12, 30);
    disk.is_full.store(false, Ordering::SeqCst);
    append(&log, 3);
    check(&log, 12, 33);
    log.close().unwrap();
    check(&open(&disk), 12, 33);
}

/// What was broken: recovery wanted room for the indexes it had built, and a log on a full disk could not even be opened to
/// make room in it.
#[test]
fn a_killed_log_on_a_full_disk_opens_reads_and_deletes() {
    let disk = full_disk();
    let log = open(&disk);
    append(&log, 30);
    disk.is_full.store(true, Ordering::SeqCst);
    assert!(log.close().is_err(), "what is not flushed is told");
    let log = open(&disk);
    assert!(!log.recovery().clean);
    check(&log, 0, 30);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    disk.is_full.store(false, Ordering::SeqCst);
    append(&log, 1);
    log.close().unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    check(&log, 12, 31);
}
