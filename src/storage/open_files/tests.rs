//! The pool over a disk that counts what is open and fails on demand.

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
    /// As a limit on descriptors; 0 for none.
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
}

impl Drop for CountingFile {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pool of at most `max_open`, and `count` new files `0`, `1`, ... in it.
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
fn a_file_that_is_used_again_and_again_stays_open() {
    let (counts, _files, pooled) = pool(4, 20);
    drop(pooled[0].get().unwrap());
    let opens = count(&counts.opens);
    for file in &pooled[1..] {
        drop(pooled[0].get().unwrap());
        drop(file.get().unwrap());
    }
    // 16 to 19 may have been open since they were created.
    assert!(count(&counts.opens) - opens <= 19);
    let opens = count(&counts.opens);
    drop(pooled[0].get().unwrap());
    assert_eq!(count(&counts.opens), opens);
}

#[test]
fn a_file_opens_on_first_use_as_it_was_asked_for() {
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
    // Failed opens gave their places back.
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
    // Clean now: closing it again needs no sync.
    drop(pooled[0].get().unwrap());
    for file in &more {
        drop(file.get().unwrap());
    }
    assert_eq!(count(&counts.syncs), 1);
}

#[test]
fn a_sync_that_fails_while_making_room_reaches_the_owner_once_and_forbids_later_syncs() {
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

    // Reads go on, but no sync is believed any more, not even one that would succeed.
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
fn an_own_sync_marks_clean_and_its_failure_lasts() {
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
    // The next that opens brings the pool back to its bound.
    let _other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 2);
}

#[test]
fn the_one_file_that_is_not_in_use_is_found_behind_those_that_are() {
    let (counts, files, pooled) = pool(5, 5);
    let held: Vec<_> = pooled[..4].iter().map(|file| file.get().unwrap()).collect();
    drop(pooled[4].get().unwrap());
    let _other = PooledFile::create(&files, "other".into()).unwrap();
    assert_eq!(count(&counts.open), 5);
    drop(held);
}

#[test]
fn a_file_is_closed_on_demand_unless_it_is_yet_to_be_synced() {
    let (counts, _files, pooled) = pool(8, 1);
    pooled[0].mark_dirty();
    pooled[0].close_if_clean();
    assert_eq!(count(&counts.open), 1);
    pooled[0].sync_data().unwrap();
    pooled[0].close_if_clean();
    assert_eq!(count(&counts.open), 0);
}

#[test]
fn without_descriptors_others_are_closed_and_only_then_it_is_an_error() {
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
fn threads_share_the_pool() {
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
    // Every file that is open is listed once, and nothing else is.
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
fn a_file_that_was_never_used_is_small() {
    assert!(
        size_of::<PooledFile>() + size_of::<Slot>() <= 96,
        "{}",
        size_of::<PooledFile>() + size_of::<Slot>()
    );
}
