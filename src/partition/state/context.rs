//! The settings and services that all partitions of a log share, and the specification of one
//! before it is opened.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::bound::LogBound;
use crate::clock::Clock;
use crate::config::{Durability, ReadMode, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::metadata_file::TopicId;
use crate::segment::SegmentHome;
use crate::storage::open_files::OpenFiles;
use crate::storage::{Storage, directory_of, remove_if_exists};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

/// The settings and services that all partitions of a log share.
#[derive(Debug)]
pub(crate) struct PartitionContext {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: Arc<OpenFiles>,
    /// Durability of the log; a setting of the topic overrides it.
    pub(crate) durability: Durability,
    /// Whether the thread that writes also syncs each write, because the system refused to start
    /// the background thread that would flush.
    pub(crate) syncs_at_once: bool,
    /// The bound of the log; `None` if it may grow without limit.
    pub(crate) bound: Option<LogBound>,
    pub(crate) read_mode: ReadMode,
    /// Most bytes that one batch may decompress to.
    pub(crate) max_decompressed_bytes: usize,
    pub(crate) read_only: bool,
    pub(crate) clean_marker: CleanMarker,
    pub(crate) buffers: BufferPool,
    pub(crate) numbers: Numbers,
    pub(crate) settings: SharedSettings,
    pub(crate) opener: Opener,
}

impl PartitionContext {
    /// Returns [`Error::ReadOnly`] if the log is read-only.
    pub(crate) fn check_not_read_only(&self) -> Result<()> {
        if self.read_only {
            Err(Error::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.storage.sync_dir(dir).at("sync", dir)
    }

    /// Returns what the segments in `dir` need of the log.
    pub(in crate::partition) fn home(&self, dir: &Path) -> SegmentHome {
        SegmentHome {
            files: Arc::clone(&self.files),
            dir: dir.into(),
            ending: "",
            maps: self.read_mode == ReadMode::Map && !self.read_only,
            read_only: self.read_only,
        }
    }
}

/// The process that opened the log.
///
/// A process that is forked from it has a copy of every handle and shares the files and the lock.
/// It has none of the threads, so a lock that one of them held stays held for ever. Code that
/// closes or leaves something therefore checks the process first, and a child releases everything
/// without touching it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opener(u32);

impl Opener {
    pub(crate) fn this_process() -> Self {
        Self(process::id())
    }

    pub(crate) fn is_this_process(self) -> bool {
        self.0 == process::id()
    }

    /// Returns [`Error::Forked`] in another process.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_this_process() {
            Ok(())
        } else {
            Err(Error::Forked { opener: self.0 })
        }
    }
}

#[cfg(test)]
impl PartitionContext {
    /// Returns a context for partitions that a test opens on its own: a clock that does not
    /// advance, and the defaults of a log.
    pub(crate) fn for_tests(storage: impl Storage) -> Self {
        let storage: Arc<dyn Storage> = Arc::new(storage);
        Self {
            files: OpenFiles::new(Arc::clone(&storage), 100),
            storage,
            clock: Arc::new(crate::clock::ManualClock::at(
                crate::clock::Timestamp::from_millis(1_700_000_000_000),
            )),
            durability: Durability::Os,
            syncs_at_once: false,
            bound: None,
            read_mode: ReadMode::Map,
            max_decompressed_bytes: 1 << 20,
            read_only: false,
            clean_marker: CleanMarker::new(Vec::new()),
            buffers: BufferPool::default(),
            numbers: Numbers::default(),
            settings: SharedSettings::default(),
            opener: Opener::this_process(),
        }
    }
}

/// Keeps the settings of the partition that was opened or configured last. Most partitions of a log
/// have the same, and then share one copy.
#[derive(Debug, Default)]
pub(crate) struct SharedSettings(Mutex<Arc<TopicSettings>>);

impl SharedSettings {
    /// Returns these settings, as the copy that was returned last if that is equal.
    pub(in crate::partition) fn share(&self, settings: TopicSettings) -> Arc<TopicSettings> {
        let mut last = self.0.lock();
        if **last != settings {
            *last = Arc::new(settings);
        }
        Arc::clone(&last)
    }
}

/// Numbers the topics and partitions of a log. Each gets a new number whenever it is opened: a
/// short name for code that keeps something for each.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicU32);

impl Numbers {
    /// Returns a number that no other topic or partition of this log has.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Buffers in which appends encode batches. An idle partition has none: large buffers belong to the
/// log, and each thread that appends small batches keeps one small buffer.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(Mutex<Vec<Vec<u8>>>);

thread_local! {
    /// The small buffer of this thread. Getting it takes no lock.
    static SMALL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl BufferPool {
    /// If more threads than this append at the same time, the others allocate.
    const MAX_BUFFERS: usize = 16;
    /// A buffer that a huge batch has grown beyond this size is not kept.
    const MAX_BUFFER_BYTES: usize = 4 << 20;

    /// The largest capacity of a small buffer.
    const SMALL_BYTES: usize = 16 << 10;

    #[inline]
    pub(crate) fn take(&self) -> Vec<u8> {
        let small = SMALL.try_with(Cell::take).unwrap_or_default();
        if small.capacity() > 0 {
            return small;
        }
        self.0.lock().pop().unwrap_or_default()
    }

    /// Keeps the buffer, which contains the batch that was appended.
    #[inline]
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= Self::SMALL_BYTES {
            // A thread that ends drops its buffer.
            let _kept = SMALL.try_with(|small| small.set(buffer));
        } else {
            self.keep_large(buffer);
        }
    }

    #[cold]
    fn keep_large(&self, buffer: Vec<u8>) {
        if buffer.len() <= Self::SMALL_BYTES / 4 {
            // This thread appends small batches, so the next one needs no large buffer.
            let small = Vec::with_capacity(buffer.len());
            let _kept = SMALL.try_with(|kept| kept.set(small));
        }
        let mut buffers = self.0.lock();
        if buffers.len() < Self::MAX_BUFFERS && buffer.capacity() <= Self::MAX_BUFFER_BYTES {
            buffers.push(buffer);
        }
    }
}

/// The clean-shutdown marker, and other files to be removed before the first write of a run.
///
/// They are removed once, before any partition is written. So opening a clean log and closing it
/// again does not write.
#[derive(Debug)]
pub(crate) struct CleanMarker {
    is_cleared: AtomicBool,
    paths: Mutex<Vec<PathBuf>>,
}

impl CleanMarker {
    /// Creates a marker that removes `paths` at the first `clear`, and then syncs their directory.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            is_cleared: AtomicBool::new(false),
            paths: Mutex::new(paths),
        }
    }

    /// Removes the files. Calls after the first one are cheap.
    pub(crate) fn clear(&self, storage: &dyn Storage) -> Result<()> {
        if self.is_cleared.load(Ordering::Acquire) {
            return Ok(());
        }
        let paths = self.paths.lock();
        let mut directory = None;
        for path in paths.iter() {
            if remove_if_exists(storage, path).at("remove", path)? {
                directory = Some(directory_of(path));
            }
        }
        if let Some(directory) = directory {
            storage.sync_dir(directory).at("sync", directory)?;
        }
        self.is_cleared.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns whether this run has written anything.
    pub(crate) fn is_cleared(&self) -> bool {
        self.is_cleared.load(Ordering::Acquire)
    }
}

/// The parameters with which a partition is opened.
#[derive(Clone, Debug)]
pub(crate) struct PartitionSpec {
    pub(crate) id: TopicPartition,
    pub(crate) dir: PathBuf,
    pub(crate) settings: TopicSettings,
    /// The id that `partition.metadata` must hold; `None` if it is unknown (in a broker's
    /// directory).
    pub(crate) topic_id: Option<TopicId>,
    /// Log start offset from the checkpoint or the topic file; 0 without an entry there.
    pub(crate) log_start: u64,
    /// Recovery point from the checkpoint; 0 without an entry there.
    pub(crate) recovery_point: u64,
    /// Whether the log was closed cleanly: recovery then neither scans nor repairs, except for
    /// indexes.
    pub(crate) clean: bool,
    /// Whether every offset from the first segment's base to the end has its record, because no
    /// segment was ever compacted. In such a partition a gap is damage.
    pub(crate) is_dense: bool,
    /// Whether a broker used the directory since annals last wrote to it.
    pub(crate) broker_since: bool,
}

#[cfg(test)]
impl PartitionSpec {
    /// Returns the parameters of a new partition of topic `t`, under `/data`.
    pub(crate) fn for_tests(partition: u32, settings: TopicSettings) -> Self {
        Self {
            id: TopicPartition::new("t", partition),
            dir: format!("/data/t-{partition}").into(),
            settings,
            topic_id: None,
            log_start: 0,
            recovery_point: 0,
            clean: false,
            is_dense: true,
            broker_since: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_reused() {
        let pool = BufferPool::default();
        assert_eq!(pool.take(), []);
        for bytes in [100, BufferPool::SMALL_BYTES + 1] {
            pool.give_back(filled(bytes));
            assert!(pool.take().capacity() >= bytes);
            assert_eq!(pool.take().capacity(), 0, "it was the only one");
        }
    }

    #[test]
    fn a_large_buffer_is_left_to_large_batches() {
        let pool = BufferPool::default();
        pool.give_back(filled(BufferPool::MAX_BUFFER_BYTES));
        let mut buffer = pool.take();
        buffer.clear();
        buffer.extend([7; 100]);
        pool.give_back(buffer);
        let small = pool.take();
        assert!((100..=BufferPool::SMALL_BYTES).contains(&small.capacity()));
        assert!(pool.take().capacity() > BufferPool::SMALL_BYTES);
    }

    #[test]
    fn the_pool_does_not_keep_huge_buffers_or_too_many() {
        let pool = BufferPool::default();
        let kept = |pool: &BufferPool| pool.0.lock().len();
        pool.give_back(filled(BufferPool::MAX_BUFFER_BYTES + 1));
        assert_eq!(kept(&pool), 0);
        for _ in 0..=BufferPool::MAX_BUFFERS {
            pool.give_back(filled(BufferPool::SMALL_BYTES + 1));
        }
        assert_eq!(kept(&pool), BufferPool::MAX_BUFFERS);
    }

    /// Returns a buffer that is full.
    fn filled(bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    #[test]
    fn partitions_with_equal_settings_share_them() {
        let settings = SharedSettings::default();
        let other = TopicSettings {
            segment_bytes: 1 << 20,
            ..TopicSettings::default()
        };
        let first = settings.share(other.clone());
        assert!(Arc::ptr_eq(&first, &settings.share(other.clone())));
        let changed = settings.share(TopicSettings::default());
        assert_eq!((&*first, &*changed), (&other, &TopicSettings::default()));
    }

    #[test]
    fn another_process_than_the_opener_is_forked() {
        let parent = Opener(process::id().wrapping_add(1));
        assert!(!parent.is_this_process());
        assert!(matches!(
            parent.check(),
            Err(Error::Forked { opener }) if opener == parent.0
        ));
        assert!(Opener::this_process().check().is_ok());
    }
}
