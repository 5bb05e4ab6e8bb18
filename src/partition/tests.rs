//! A partition on a disk that fails at one call, whichever it is: what failed is absent, nothing that was acknowledged is lost,
//! and opening again finds a log without a hole.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::clock::ManualClock;
use crate::config::ReadMode;
use crate::format::record::Record;
use crate::storage::open_files::OpenFiles;
use crate::storage::{Access, DirEntry, FileLock, FileMetadata, FileView, MemoryDisk, Storage, StorageFile, sealed};

const DIR: &str = "/data/t-0";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Any call that changes something fails, once.
    Any,
    /// As `Any`, and so does everything behind it.
    AnyForGood,
    /// What needs room fails, once; a write has put half of its bytes there.
    Full,
    /// As `Full`, until there is room again.
    FullForGood,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Any | Self::AnyForGood => io::Error::other("the device failed"),
            Self::Full | Self::FullForGood => ErrorKind::StorageFull.into(),
        }
    }

    fn is_for_good(self) -> bool {
        matches!(self, Self::AnyForGood | Self::FullForGood)
    }
}

/// Counts the calls that may fail, and fails one of them.
#[derive(Debug)]
struct Plan {
    fault: Mutex<Option<Fault>>,
    calls: AtomicUsize,
    fails_at: usize,
}

impl Plan {
    fn check(&self, needs_room: bool) -> io::Result<()> {
        let Some(fault) = *self.fault.lock() else { return Ok(()) };
        if !needs_room && matches!(fault, Fault::Full | Fault::FullForGood) {
            return Ok(());
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = call == self.fails_at || call > self.fails_at && fault.is_for_good();
        if fails { Err(fault.error()) } else { Ok(()) }
    }

    fn has_failed(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.fails_at
    }
}

#[derive(Clone, Debug)]
struct FaultyDisk {
    inner: MemoryDisk,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn StorageFile>,
    plan: Arc<Plan>,
}

impl sealed::Sealed for FaultyDisk {}
impl sealed::Sealed for FaultyFile {}

impl Storage for FaultyDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        if matches!(access, Access::CreateNew | Access::OpenOrCreate) {
            self.plan.check(true)?;
        }
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(FaultyFile { inner, plan: Arc::clone(&self.plan) }))
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
        self.plan.check(false)?;
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(false)?;
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

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if let Err(error) = self.plan.check(true) {
            self.inner.write_all_at(&bytes[..bytes.len() / 2], position)?;
            return Err(error);
        }
        self.inner.write_all_at(bytes, position)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.plan.check(false)?;
        self.inner.sync_data()
    }
    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.inner.view(bytes)
    }
    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.inner.drop_cache(position)
    }
}

fn context(disk: &FaultyDisk) -> Arc<PartitionContext> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    Arc::new(PartitionContext {
        files: OpenFiles::new(Arc::clone(&storage), 100),
        storage,
        clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000))),
        durability: Durability::Os,
        read_mode: ReadMode::Map,
        max_decompressed_bytes: 1 << 20,
        read_only: false,
        clean_marker: CleanMarker::new(Vec::new()),
        buffers: BufferPool::default(),
    })
}

fn spec(log_start: u64, recovery_point: u64, flush_messages: i64) -> PartitionSpec {
    let settings =
        TopicSettings { segment_bytes: 400, index_interval_bytes: 80, flush_messages, ..TopicSettings::unconfigured() };
    PartitionSpec {
        id: TopicPartition::new("t", 0),
        dir: DIR.into(),
        settings,
        topic_id: None,
        log_start,
        recovery_point,
        clean: false,
        is_dense: true,
        broker_since: false,
    }
}

/// What the log holds, and what it may hold besides.
#[derive(Debug, Default)]
struct Expected {
    /// Record of each offset from 0 on.
    values: Vec<String>,
    start: u64,
    recovery_point: u64,
    /// The shortest that the log may be: less than `values` after a cut that failed.
    least: usize,
    /// A failed deletion may have come as far as this.
    latest_start: u64,
}

fn read(core: &Arc<PartitionCore>) -> Result<Vec<(u64, String)>> {
    let mut reader = Reader::new(core, KeepOpen::new(Arc::new(())), &(..), ReadOptions::new().unsynced(true))?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push((record.offset(), record.text().into_owned()));
    }
    Ok(records)
}

impl Expected {
    fn append(&mut self, core: &PartitionCore, durability: Durability, count: usize, poisoned: bool) {
        let values: Vec<String> = (0..count).map(|n| format!("value {} {n}", self.values.len())).collect();
        let base = self.values.len() as u64;
        match core.append(durability, values.iter().map(|value| Record::new(value.as_str()))) {
            Ok(appended) => {
                assert!(!poisoned, "a poisoned partition took a write");
                assert_eq!(appended.offsets, base..base + count as u64);
                self.values.extend(values);
                self.least = self.values.len();
            }
            Err(Error::SyncFailed { .. }) => {
                // Whether it is there is unknown.
                self.least = self.values.len();
                self.values.extend(values);
            }
            Err(error) => assert!(matches!(error, Error::DiskFull { .. } | Error::Io { .. } | Error::Poisoned { .. }), "{error}"),
        }
    }

    fn delete(&mut self, core: &PartitionCore, before: u64) {
        match core.delete_records_before(before) {
            Ok(start) => (self.start, self.latest_start) = (start, start),
            Err(_) => self.latest_start = before,
        }
    }

    fn truncate(&mut self, core: &PartitionCore, end: u64) {
        self.recovery_point = self.recovery_point.min(end);
        let end = usize::try_from(end).unwrap();
        match core.truncate_to(end as u64) {
            Ok(()) => {
                self.values.truncate(end);
                self.least = self.values.len();
            }
            Err(_) => self.least = self.least.min(end),
        }
    }

    fn flush(&mut self, core: &PartitionCore) {
        if core.flush().is_ok() {
            self.recovery_point = core.recovery_point();
        }
    }

    fn check(&self, records: &[(u64, String)], what: &str) {
        let first = records.first().map_or(self.latest_start.max(self.start), |(offset, _)| *offset);
        assert!(self.start <= first && first <= self.latest_start.max(self.start), "{what}: starts at {first}, {self:?}");
        for (expected, (offset, text)) in (first..).zip(records) {
            assert_eq!(*offset, expected, "{what}");
            assert_eq!(Some(text), self.values.get(usize::try_from(*offset).unwrap()), "{what}");
        }
        let end = usize::try_from(first).unwrap() + records.len();
        assert!(self.least <= end && end <= self.values.len(), "{what}: ends at {end}, {self:?}");
    }
}

fn is_poisoned(core: &PartitionCore) -> bool {
    matches!(&*core.refusal.lock(), Some(Refusal::Poisoned(_)))
}

type Step = fn(&mut Expected, &PartitionCore);

/// One run in which call `fails_at` fails. Gives whether it came to that.
fn run(fault: Fault, fails_at: usize, flush_messages: i64) -> bool {
    let plan = Arc::new(Plan { fault: Mutex::new(None), calls: AtomicUsize::new(0), fails_at });
    let disk = FaultyDisk { inner: MemoryDisk::new(), plan: Arc::clone(&plan) };
    let what = format!("{fault:?} at call {fails_at}, flush.messages {flush_messages}");
    let core = PartitionCore::create(&context(&disk), &spec(0, 0, flush_messages)).unwrap();
    *plan.fault.lock() = Some(fault);
    let mut expected = Expected::default();
    let steps: [Step; 14] = [
        |e, core| (0..7).for_each(|_| e.append(core, Durability::Os, 1, is_poisoned(core))),
        |e, core| e.append(core, Durability::Synced, 3, is_poisoned(core)),
        |e, core| e.flush(core),
        |e, core| (0..5).for_each(|_| e.append(core, Durability::Os, 2, is_poisoned(core))),
        |e, core| e.delete(core, 6),
        |e, core| e.truncate(core, e.values.len() as u64 - 1),
        |e, core| (0..4).for_each(|_| e.append(core, Durability::Os, 2, is_poisoned(core))),
        |e, core| e.flush(core),
        |e, core| e.append(core, Durability::Os, 1, is_poisoned(core)),
        // Some segments, and part of a batch.
        |e, core| e.truncate(core, e.values.len() as u64 - 8),
        |e, core| e.append(core, Durability::Os, 3, is_poisoned(core)),
        |e, core| e.flush(core),
        |e, core| e.delete(core, e.values.len() as u64 - 1),
        |e, core| e.append(core, Durability::Os, 1, is_poisoned(core)),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        if expected.values.len() < 12 && matches!(number, 4 | 5 | 9 | 12) || is_poisoned(&core) && number == 12 {
            continue;
        }
        step(&mut expected, &core);
        let records = read(&core).unwrap_or_else(|error| panic!("{what}, step {number}: {error}"));
        expected.check(&records, &format!("{what}, step {number}"));
    }
    if !plan.has_failed() {
        return false;
    }
    let was_poisoned = is_poisoned(&core);
    *plan.fault.lock() = None;
    expected.append(&core, Durability::Os, 1, was_poisoned);
    expected.check(&read(&core).unwrap(), &what);
    // Killed, or closed as well as it goes.
    if fails_at.is_multiple_of(2) && core.close(true).is_ok() {
        assert!(!was_poisoned, "{what}: a poisoned partition is not clean");
        expected.recovery_point = core.recovery_point();
    }
    drop(core);
    let (core, recovery) = PartitionCore::open(&context(&disk), &spec(expected.start, expected.recovery_point, i64::MAX))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(recovery.damage.is_none(), "{what}: {recovery:?}, {expected:?}");
    let records = read(&core).unwrap_or_else(|error| panic!("{what}, opened again: {error}"));
    expected.check(&records, &format!("{what}, opened again"));
    true
}

#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged() {
    for fault in [Fault::Full, Fault::FullForGood, Fault::Any, Fault::AnyForGood] {
        for flush_messages in [i64::MAX, 2] {
            let runs = (0..10_000).take_while(|fails_at| run(fault, *fails_at, flush_messages)).count();
            assert!(runs > 20, "{fault:?}: {runs} runs");
        }
    }
}
