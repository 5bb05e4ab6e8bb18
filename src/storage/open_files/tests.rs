//! The pool over a disk that counts open files and fails on demand.

use std::io::ErrorKind;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::storage::{DirEntry, FileLock, FileMetadata, FileView, MemoryDisk, sealed};

/// The out-of-descriptors error of Linux and macOS.
const EMFILE: i32 = 24;

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    most_open: AtomicUsize,
    opens: AtomicUsize,
    syncs: AtomicUsize,
    fail_syncs: AtomicBool,
    /// Whether errors can be kept without a descriptor.
    remembers: AtomicBool,
    /// The number of files whose errors are kept now.
    remembered: AtomicUsize,
    /// The largest number of descriptors; 0 for no limit.
    limit: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
struct CountingDisk {
    inner: MemoryDisk,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn StorageFile>,
    counts: Arc<Counts>,
}

impl sealed::Sealed for CountingDisk {}
impl sealed::Sealed for CountingFile {}

impl Storage for CountingDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let counts = &self.counts;
        let limit = counts.limit.load(Ordering::SeqCst);
        if limit != 0 && counts.open.load(Ordering::SeqCst) >= limit {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let inner = self.inner.open(path, access)?;
        counts.opens.fetch_add(1, Ordering::SeqCst);
        let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most_open.fetch_max(open, Ordering::SeqCst);
        Ok(Arc::new(CountingFile {
            inner,
            counts: Arc::clone(counts),
        }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.inner.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.inner.lock_holder(path)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonical(path)
    }
}

impl StorageFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, position)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::SeqCst);
        if self.counts.fail_syncs.load(Ordering::SeqCst) {
            Err(io::Error::other("bad sector"))
        } else {
            Ok(())
        }
    }
    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.inner.view(bytes)
    }
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.inner.drop_cache(position)
    }
    fn remember_errors(&self) -> io::Result<Box<dyn ErrorMemory>> {
        if !self.counts.remembers.load(Ordering::SeqCst) {
            return Err(ErrorKind::Unsupported.into());
        }
        self.counts.remembered.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(CountingMemory(Arc::clone(&self.counts))))
    }
}

#[derive(Debug)]
struct CountingMemory(Arc<Counts>);

impl ErrorMemory for CountingMemory {}

impl Drop for CountingMemory {
    fn drop(&mut self) {
        self.0.remembered.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for CountingFile {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns a pool of at most `max_open` files, and `count` new files `0`, `1`, ... in it.
fn pool(max_open: usize, count: usize) -> (Arc<Counts>, Arc<OpenFiles>, Vec<PooledFile>) {
    let disk = CountingDisk::default();
    let files = OpenFiles::new(Arc::new(disk.clone()), max_open);
    let pooled = (0..count)
        .map(|i| PooledFile::create(&files, i.to_string().into()).unwrap())
        .collect();
    (disk.counts, files, pooled)
}

fn count(count: &AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}

#[test]
fn fifty_files_need_eight_descriptors() {
    let (counts, _files, pooled) = pool(8, 50);
    for round in 0..3_u8 {
        for file in &pooled {
            file.get()
                .unwrap()
                .write_all_at(&[round], u64::from(round))
                .unwrap();
        }
    }
    for file in &pooled {
        let mut read = [9; 4];
        assert_eq!(file.get().unwrap().read_at(&mut read, 0).unwrap(), 3);
        assert_eq!(read, [0, 1, 2, 9]);
    }
    assert_eq!(
        (
            count(&counts.most_open),
            count(&counts.open),
            count(&counts.syncs)
        ),
        (8, 8, 0)
    );
    drop(pooled);
    assert_eq!(count(&counts.open), 0);
}

#[test]
fn a_file_that_is_used_often_stays_open() {
    let (counts, _files, pooled) = pool(4, 20);
    drop(pooled[0].get().unwrap());
    let opens = count(&counts.opens);
    for file in &pooled[1..] {
        drop(pooled[0].get().unwrap());
        drop(file.get().unwrap());
    }
    // Files 16 to 19 may still be open since they were created.
    assert!(count(&counts.opens) - opens <= 19);
    let opens = count(&counts.opens);
    drop(pooled[0].get().unwrap());
    assert_eq!(count(&counts.opens), opens);
}

#[test]
fn a_file_opens_on_first_use_with_its_access() {
    let (counts, files, pooled) = pool(8, 1);
    pooled[0].get().unwrap().write_all_at(b"abc", 0).unwrap();
    let reader = PooledFile::new(&files, "0".into(), true);
    let absent = PooledFile::new(&files, "absent".into(), false);
    assert_eq!(count(&counts.opens), 1);
    assert!(reader.get().unwrap().write_all_at(b"x", 0).is_err());
    assert_eq!(absent.get().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        PooledFile::create(&files, "0".into()).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!((reader.path(), count(&counts.open)), (Path::new("0"), 2));
    reader.close();
    reader.close();
    assert_eq!(count(&counts.open), 1);
    assert_eq!(reader.get().unwrap().bytes().unwrap(), 3);
    // Failed opens released their places.
    let list = files.list.lock();
    assert_eq!((list.opening, list.open.len()), (0, 2));
    drop(list);
}

#[test]
fn a_file_that_was_written_is_synced_before_it_is_closed() {
    let (counts, _files, pooled) = pool(2, 2);
    pooled[0].mark_dirty();
    let more: Vec<_> = (2..4)
        .map(|i| PooledFile::create(&pooled[0].files, i.to_string().into()).unwrap())
        .collect();
    assert_eq!((count(&counts.syncs), count(&counts.open)), (1, 2));
    assert!(pooled[0].take_sync_error().is_none());
    // The file is clean now, so closing it again needs no sync.
    drop(pooled[0].get().unwrap());
    for file in &more {
        drop(file.get().unwrap());
    }
    assert_eq!(count(&counts.syncs), 1);
}

#[test]
fn a_file_that_is_kept_between_writes_is_closed_to_make_room() {
    let (counts, files, pooled) = pool(1, 1);
    for position in 0..2 {
        let mut turn = pooled[0].write_turn();
        turn.file().unwrap().write_all_at(b"a", position).unwrap();
    }
    assert_eq!(count(&counts.opens), 1, "the second write opens nothing");
    let other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!((count(&counts.open), count(&counts.syncs)), (1, 1));
    let mut turn = pooled[0].write_turn();
    turn.file().unwrap().write_all_at(b"a", 2).unwrap();
    assert_eq!(count(&counts.opens), 3, "the next write opens it again");
    drop(other.get().unwrap());
    assert_eq!(
        count(&counts.open),
        2,
        "a file that is being written stays open"
    );
    drop(turn);
    pooled[0].close();
    assert_eq!(count(&counts.open), 1, "closing it does not keep it");
    assert_eq!(pooled[0].get().unwrap().bytes().unwrap(), 3);
}

#[test]
fn a_turn_to_write_that_cannot_open_the_file_is_given_back() {
    let (_counts, files, _pooled) = pool(1, 1);
    let absent = PooledFile::new(&files, "absent".into(), false);
    let error = absent.write_turn().file().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        absent.write_turn().file().is_err(),
        "the turn is free again"
    );
}

#[test]
fn a_file_whose_errors_are_remembered_is_closed_without_a_sync() {
    let (counts, _files, pooled) = pool(1, 2);
    counts.remembers.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        for file in &pooled {
            let open = file.get().unwrap();
            open.write_all_at(b"abc", 0).unwrap();
            file.mark_dirty();
        }
    }
    assert_eq!((count(&counts.syncs), count(&counts.open)), (0, 1));
    assert_eq!(count(&counts.remembered), 2, "one for each file");
    pooled[0].sync_data().unwrap();
    assert_eq!(count(&counts.remembered), 1, "the sync has reported them");
    counts.fail_syncs.store(true, Ordering::SeqCst);
    let failed = pooled[1].sync_data().unwrap_err();
    assert_eq!(failed.to_string(), "bad sector");
    assert_eq!(count(&counts.remembered), 0);
    drop(pooled[0].get().unwrap());
    pooled[0].mark_dirty();
    drop(pooled[1].get().unwrap());
    assert_eq!(count(&counts.remembered), 1);
    drop(pooled);
    assert_eq!((count(&counts.remembered), count(&counts.open)), (0, 0));
}

#[test]
fn the_default_bound_leaves_descriptors_for_the_rest_of_the_program() {
    let limit = disk::descriptor_limit().expect("the system states the limit");
    assert!((1..limit).contains(&default_max_open()));
}

#[test]
fn a_sync_failure_while_making_room_is_reported_once_and_fails_later_syncs() {
    let (counts, files, pooled) = pool(1, 1);
    pooled[0].mark_dirty();
    counts.fail_syncs.store(true, Ordering::SeqCst);
    let other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 1);
    assert!(other.take_sync_error().is_none());
    assert_eq!(
        pooled[0].take_sync_error().unwrap().to_string(),
        "bad sector"
    );
    assert!(pooled[0].take_sync_error().is_none());

    // Reads continue to work, but a later sync fails even if the disk would accept it.
    counts.fail_syncs.store(false, Ordering::SeqCst);
    assert_eq!(pooled[0].get().unwrap().bytes().unwrap(), 0);
    assert_eq!(
        pooled[0].sync_data().unwrap_err().to_string(),
        "an earlier sync of this file failed"
    );
    other.sync_data().unwrap();
    assert_eq!(count(&counts.syncs), 2);
}

#[test]
fn a_sync_marks_the_file_clean_and_a_failed_sync_is_permanent() {
    let (counts, files, pooled) = pool(1, 1);
    pooled[0].mark_dirty();
    pooled[0].sync_data().unwrap();
    let other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.syncs), 1);
    counts.fail_syncs.store(true, Ordering::SeqCst);
    assert_eq!(other.sync_data().unwrap_err().to_string(), "bad sector");
    counts.fail_syncs.store(false, Ordering::SeqCst);
    assert!(other.sync_data().is_err());
}

#[test]
fn a_file_in_use_is_not_closed_to_make_room() {
    let (counts, files, pooled) = pool(2, 4);
    let held: Vec<_> = pooled.iter().map(|file| file.get().unwrap()).collect();
    assert_eq!(count(&counts.open), 4);
    let opens = count(&counts.opens);
    assert!(Arc::ptr_eq(&held[0], &pooled[0].get().unwrap()));
    assert_eq!(count(&counts.opens), opens);
    drop(held);
    // The next open closes files until the pool is within its bound.
    let _other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 2);
}

#[test]
fn the_only_file_that_is_not_in_use_is_closed() {
    let (counts, files, pooled) = pool(5, 5);
    let held: Vec<_> = pooled[..4].iter().map(|file| file.get().unwrap()).collect();
    drop(pooled[4].get().unwrap());
    let _other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 5);
    drop(held);
}

#[test]
fn close_if_clean_keeps_a_file_with_unsynced_writes_open() {
    let (counts, _files, pooled) = pool(8, 1);
    pooled[0].mark_dirty();
    pooled[0].close_if_clean();
    assert_eq!(count(&counts.open), 1);
    pooled[0].sync_data().unwrap();
    pooled[0].close_if_clean();
    assert_eq!(count(&counts.open), 0);
}

#[test]
fn without_free_descriptors_other_files_are_closed_before_an_open_fails() {
    let (counts, files, pooled) = pool(8, 8);
    counts.limit.store(5, Ordering::SeqCst);
    let other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 5);
    drop(other);
    let held: Vec<_> = pooled
        .iter()
        .take(5)
        .map(|file| file.get().unwrap())
        .collect();
    assert_eq!(pooled[6].get().unwrap_err().raw_os_error(), Some(EMFILE));
    drop(held);
    drop(pooled[6].get().unwrap());
    assert_eq!(files.list.lock().opening, 0);
}

#[test]
fn threads_share_the_pool_within_its_bound() {
    const THREADS: usize = 4;
    let (counts, files, pooled) = pool(3, 12);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let pooled = &pooled;
            scope.spawn(move || {
                for round in 0..500_usize {
                    let pooled = &pooled[(round * (thread + 1) + thread) % pooled.len()];
                    let file = pooled.get().unwrap();
                    file.write_all_at(&[1], thread as u64).unwrap();
                    pooled.mark_dirty();
                    drop(file);
                    match round % 7 {
                        0 => pooled.sync_data().unwrap(),
                        3 => pooled.close(),
                        _ => {}
                    }
                }
            });
        }
    });
    assert!(
        count(&counts.most_open) <= 3 + THREADS,
        "{} were open",
        count(&counts.most_open)
    );
    // The list has each open file once, and no other file.
    let list = files.list.lock();
    assert_eq!((list.opening, list.open.len()), (0, count(&counts.open)));
    assert!(
        list.open
            .iter()
            .all(|slot| slot.state.lock().file.is_some())
    );
    drop(list);
    assert!(pooled.iter().all(|file| file.take_sync_error().is_none()));
    assert!(
        pooled
            .iter()
            .all(|file| file.get().unwrap().bytes().unwrap() > 0)
    );
}

#[test]
fn a_file_that_was_never_used_needs_little_memory() {
    assert!(
        size_of::<PooledFile>() + size_of::<Slot>() <= 152,
        "{}",
        size_of::<PooledFile>() + size_of::<Slot>()
    );
}

/// A file with writes that are not synced is not closed: the system may forget a write-back error.
#[test]
fn a_write_during_a_sync_leaves_the_file_dirty() {
    let files = OpenFiles::new(Arc::new(MemoryDisk::new()), 8);
    let file = PooledFile::create(&files, "/f".into()).unwrap();
    let mut turn = file.write_turn();
    let open = turn.file().unwrap();
    file.sync_data().unwrap();
    open.write_all_at(b"x", 0).unwrap();
    drop(turn);
    assert!(file.slot.is_dirty.load(Ordering::Acquire));
}
