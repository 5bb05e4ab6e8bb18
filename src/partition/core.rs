//! The core of a partition: the parts it owns, its invariants and its locks.
//!
//! # Invariants
//!
//! Debug builds check them under the writer lock after each write, roll, cut, deletion, exchange
//! and re-opening ([`PartitionCore::assert_bounds`], [`PartitionCore::assert_segments`]):
//!
//! * `log_start <= log_end`, `recovery_point <= log_end`,
//!   `last_stable <= high_watermark <= log_end`.
//! * The list of segments is never empty, base offsets rise, and only the last segment is active.
//! * A sealed segment ends at or below the base offset of the next one; exactly there if the
//!   partition is dense and undamaged. The last segment ends at the log end.
//! * What readers can see was written before it was published: first the bytes, then
//!   [`Segment::size`], then the log end. Readers use only these atomics and the segment list.
//!
//! # Locks
//!
//! A thread writes, renames or removes a file of the partition only while it holds one of five
//! locks, and only after it has found, under that lock, that the partition is open. `mark_deleted`
//! and `close` change the state first and then take each lock once
//! ([`PartitionCore::wait_for_writers`]). After that no thread touches the directory: it may be
//! renamed, another topic may take its name, and another process may open it.
//!
//! A thread that takes several locks takes them in this order. `reopening`, which only makes
//! appends wait, comes before all of them. The locks inside the parts (`health`, `leaving`,
//! `settings`, the segment list) come last and are held for a moment.
//!
//! | lock | held to | the holder compares again |
//! | --- | --- | --- |
//! | `cleaning` | compact | state; for each exchange the segments and the count of cuts, under `replacing` |
//! | `flush` | raise the recovery point, cut, re-open | state |
//! | `replacing` | take segments out of the list and remove their files | state; the count of cuts, or the segments |
//! | `writer` | append, roll, change the list of segments | state, refusal |
//! | the turn of `commit` | sync | that the topic was not deleted, refusal |
//!
//! A log that cuts a partition holds `flush` and `replacing` of it
//! ([`Truncation`](super::Truncation)) and then takes the lock of the committed positions, the
//! writer lock of the partition that stores them, and the lock of the checkpoints, before `writer`
//! of the partition that is cut. A log that empties a partition ([`Restart`](super::Restart)) holds
//! `reopening`, `flush` and `replacing` of it while it takes the locks of topic files and
//! checkpoints. No append waits for the device while it holds a lock, except when
//! a partition that may have gaps rolls.
//!
//! A snapshot of the log holds the writer locks of all its partitions at once: those of
//! `__consumer_offsets` first, then those of the other internal topics, then the rest. It takes no
//! lock of a partition while it holds them. Every other thread holds at most one writer lock.
//!
//! Readers hold no lock. A reader opens a file by its name only while the segment is
//! [named](Segment::is_named). A deletion takes the names away ([`PartitionCore::vacate`]) before
//! it renames the directory. If a reader fails, it first asks whether the partition was deleted or
//! closed in the meantime ([`PartitionCore::or_gone`]), and then whether the segments or the count
//! of cuts have changed since it looked.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::{Deadline, Timestamp};
use crate::config::{CleanupPolicy, Durability, TopicSettings};
use crate::error::{Corruption, Error, Result};
use crate::format::Malformed;
use crate::format::metadata_file::TopicId;
use crate::segment::{Segment, SegmentHome};
use crate::sync::{FairMutex, Mutex, RwLock};
use crate::topic_partition::TopicPartition;

use super::state::bounds::Bounds;
use super::state::compacted::Compacted;
use super::state::cuts::Cuts;
use super::state::group_commit::GroupCommit;
use super::state::health::Health;
use super::state::leader_epoch::LeaderEpochs;
use super::state::leaving::{Leaving, Trash};
use super::state::origin::Origin;
use super::state::producers::ProducerStates;
use super::state::reopening::Reopening;
use super::state::seen::Seen;
use super::state::segment_list::{self, SegmentList};
use super::state::waiting::{Signal, WaitList};
use super::{LOOK_INTERVAL, PartitionContext, PartitionRecovery};

/// A partition. All its handles and readers share it.
#[derive(Debug)]
pub(crate) struct PartitionCore {
    /// The parts that all partitions of the log share.
    pub(super) context: Arc<PartitionContext>,
    /// Unique among the topics and partitions of the log while it is open.
    pub(super) number: u32,
    pub(super) home: SegmentHome,
    /// Shared by all batches that are read from the partition.
    pub(super) origin: Arc<Origin>,
    pub(super) topic_id: Option<TopicId>,
    pub(super) settings: RwLock<Arc<TopicSettings>>,
    /// Whether readers end at the synced end, because of the durability of the topic.
    pub(super) is_synced_topic: AtomicBool,
    /// Whether a gap between two offsets can only be damage: the partition was never compacted.
    pub(super) is_dense: AtomicBool,
    pub(super) health: Health,
    pub(super) bounds: Bounds,
    pub(super) segments: SegmentList,
    pub(super) writer: FairMutex<Writer>,
    pub(super) commit: GroupCommit,
    /// Bytes appended since the partition was opened. Changed under the writer lock.
    pub(super) appended_bytes: AtomicU64,
    /// Counts truncations. After each one a reader looks for its place again.
    pub(super) cuts: Cuts,
    pub(super) reopening: Reopening,
    pub(super) compacted: Compacted,
    pub(super) waiters: WaitList,
    /// The report of opening the partition, unless it is empty.
    pub(super) recovery: Option<Box<PartitionRecovery>>,
    /// Held while the partition is compacted.
    pub(super) cleaning: Mutex<()>,
    /// Held from taking segments out of the list until their files are removed.
    pub(super) replacing: Mutex<()>,
    /// Held while the recovery point is moved.
    pub(super) flush: Mutex<()>,
    /// Whether a file of the partition was written or repaired since it was opened. If not, closing
    /// it writes nothing.
    pub(super) is_touched: AtomicBool,
    /// Whether `index-digests` is out of date.
    pub(super) has_new_digests: AtomicBool,
    pub(super) leaving: Leaving,
    pub(super) trash: Trash,
}

/// The state that only the holder of the writer lock may touch.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) active: Arc<Segment>,
    /// The settings of the topic, so that an append need not take their lock.
    pub(super) settings: Arc<TopicSettings>,
    pub(super) epochs: LeaderEpochs,
    /// The epoch that is stamped on every batch.
    pub(super) leader_epoch: i32,
    pub(super) producers: ProducerStates,
    /// Whether `producers` was not empty earlier, or the directory has snapshots of them. Then new
    /// snapshots must be written, and transactions may have been aborted.
    pub(super) had_producers: bool,
    /// Largest timestamp of the first batch in the active segment; `None` until it was looked up.
    pub(super) first_timestamp: Option<i64>,
    /// The time at which the active segment was created or opened.
    pub(super) opened: Timestamp,
    /// The active segment rolls earlier by this much.
    pub(super) jitter_ms: i64,
    /// Records appended since the last flush because of `flush.messages`.
    pub(super) unflushed: u64,
    /// In a read-only log: the part of the active file that was read so far.
    pub(super) seen: Option<Box<Seen>>,
}

impl Writer {
    pub(super) fn seen(&mut self) -> &mut Seen {
        self.seen.get_or_insert_default()
    }

    /// Forgets producers that have not written for a day. Their batches stay in the log.
    pub(super) fn forget_expired_producers(&mut self, now: Timestamp) {
        self.had_producers |= !self.producers.is_empty();
        self.producers.forget_expired(now.as_millis());
    }
}

impl PartitionCore {
    pub(crate) fn id(&self) -> &TopicPartition {
        &self.origin.id
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn context(&self) -> &Arc<PartitionContext> {
        &self.context
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.home.dir
    }

    pub(crate) fn recovery(&self) -> &PartitionRecovery {
        self.recovery
            .as_deref()
            .unwrap_or(PartitionRecovery::nothing())
    }

    /// Returns the id of the topic, from `partition.metadata`.
    pub(crate) fn topic_id(&self) -> Option<TopicId> {
        self.topic_id
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.settings.read())
    }

    pub(crate) fn set_settings(&self, settings: TopicSettings) {
        let durability = settings.durability.unwrap_or(self.context.durability);
        let may_sync = !self.context.read_only;
        if settings.cleanup_policy != CleanupPolicy::Delete {
            // The file of the topic already says that there may be gaps.
            self.allow_gaps();
        }
        let settings = self.context.settings.share(settings);
        let mut writer = self.writer.lock();
        if may_sync
            && durability == Durability::Synced
            && !self.is_synced_topic.load(Ordering::SeqCst)
        {
            // Records that readers have seen must not disappear because the synced end is lower.
            // The lock keeps others from appearing in the meantime.
            let _reported_by_the_next_sync = self.sync_published();
        }
        *self.settings.write() = Arc::clone(&settings);
        writer.settings = settings;
        self.is_synced_topic
            .store(durability == Durability::Synced, Ordering::SeqCst);
        drop(writer);
        self.waiters.notify();
    }

    pub(crate) fn log_start_offset(&self) -> u64 {
        self.bounds.log_start()
    }

    pub(crate) fn log_end_offset(&self) -> u64 {
        self.bounds.log_end()
    }

    /// Returns the offset at which readers stop: the log end, or in a `Synced` topic the synced
    /// end.
    #[inline]
    pub(crate) fn high_watermark(&self) -> u64 {
        if self.is_synced_topic.load(Ordering::Relaxed) {
            self.commit.synced_end()
        } else {
            self.log_end_offset()
        }
    }

    /// Returns the offset at which `read_committed` readers stop: the high watermark, or the first
    /// offset of the earliest open transaction.
    pub(crate) fn last_stable_offset(&self) -> u64 {
        self.stable_end(self.high_watermark())
    }

    /// Returns `end`, or the first offset of the earliest open transaction if that comes first.
    pub(super) fn stable_end(&self, end: u64) -> u64 {
        end.min(self.bounds.first_unstable().max(self.log_start_offset()))
    }

    /// Returns the offset that the checkpoint may state: all records below it are on the device,
    /// with their indexes.
    pub(crate) fn recovery_point(&self) -> u64 {
        self.bounds.recovery_point()
    }

    /// Returns the base offset of the first segment.
    pub(super) fn first_base_offset(&self) -> u64 {
        let segments = self.segments.snapshot();
        debug_assert!(!segments.is_empty(), "a partition has at least one segment");
        segments.first().map_or(0, |segment| segment.base_offset)
    }

    /// Returns the total size of the `.log` files in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.segments
            .snapshot()
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// Returns [`log_bytes`](Self::log_bytes). In a read-only log, it first reads what the writer
    /// has changed.
    pub(crate) fn refreshed_bytes(&self) -> u64 {
        self.try_refresh();
        self.log_bytes()
    }

    /// Returns the waiters that are notified whenever more can be read, and at close.
    pub(crate) fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    pub(super) fn segments(&self) -> &SegmentList {
        &self.segments
    }

    /// Returns a version that changes whenever a segment is added, removed or replaced, and with
    /// every cut.
    pub(crate) fn segments_version(&self) -> segment_list::Version {
        let truncations = self.truncations();
        segment_list::Version::new(self.segments.snapshot(), truncations)
    }

    /// Returns the number of truncations. It also rises when the directory was read again.
    pub(crate) fn truncations(&self) -> u64 {
        self.cuts.count()
    }

    /// Returns the lowest end to which the log was cut since the count of truncations was
    /// `truncations`. At and above this end the log may hold other records than before.
    pub(crate) fn lowest_cut_since(&self, truncations: u64) -> Option<u64> {
        self.cuts.lowest_since(truncations)
    }

    /// Returns whether a gap between two offsets can only be damage.
    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense.load(Ordering::Acquire)
    }

    /// Prepares the partition for gaps. Called before the file of the topic says that it may have
    /// them.
    ///
    /// From then on, a segment that lost its end in a power cut looks like one that was compacted.
    /// Only the order in which segments become durable prevents that, so this call syncs.
    pub(crate) fn prepare_for_gaps(&self) -> Result<()> {
        // The lock is taken so that no roll is in progress that still counts on a dense log.
        let writer = self.writer.lock();
        self.allow_gaps();
        drop(writer);
        self.sync_published()
    }

    /// Allows gaps from now on, so the partition may be compacted. The file of the topic must say
    /// so first.
    pub(crate) fn allow_gaps(&self) {
        self.is_dense.store(false, Ordering::Release);
    }

    /// Returns the leader epoch of the next batch.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.writer.lock().leader_epoch
    }

    pub(super) fn out_of_range(&self, requested: u64) -> Error {
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        Error::OffsetOutOfRange {
            partition: self.id().clone(),
            requested,
            log_start,
            log_end,
        }
    }

    /// Returns the error for a record of an internal topic that is malformed.
    pub(crate) fn corrupt_record(&self, offset: u64, malformed: Malformed) -> Error {
        Error::Corrupt(Box::new(Corruption {
            partition: self.id().clone(),
            path: self.dir().to_owned(),
            position: 0,
            offsets: offset..offset + 1,
            reason: malformed.to_string(),
        }))
    }

    /// Blocks until the signal is notified (or was, since its last reset), but not after `until`.
    /// In a read-only log it also returns when it is time to look for changes by the writer.
    pub(super) fn wait(&self, signal: &Signal, until: Deadline) {
        signal.wait(if self.context.read_only {
            until.earlier(Deadline::after(LOOK_INTERVAL))
        } else {
            until
        });
    }

    /// Returns the error because of which the partition could not be opened.
    pub(crate) fn unavailable_because(&self) -> Option<&Error> {
        self.health.unavailable_because()
    }

    /// Returns an error unless the partition is open.
    pub(crate) fn check_readable(&self) -> Result<()> {
        self.health.check_open()
    }

    /// Returns `UnknownTopic` or `Closed` if the partition was deleted or closed in the meantime,
    /// and `error` otherwise. Callers pass the error of a file that may have been removed for that
    /// reason.
    pub(crate) fn or_gone(&self, error: Error) -> Error {
        self.check_readable().err().unwrap_or(error)
    }

    /// Returns an error unless the partition takes writes. The result stays valid only while the
    /// writer lock is held.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_readable()?;
        self.context.check_not_read_only()?;
        self.health.check_takes_writes()
    }

    /// Returns the state in a word, without waiting for a lock.
    pub(super) fn state_name(&self) -> fmt::Arguments<'static> {
        self.health.name(self.context.read_only)
    }

    /// Notes that a file is about to change: the log loses its clean mark, and the partition needs
    /// a flush. The caller holds `writer` or `replacing`.
    pub(super) fn begin_change(&self) -> Result<()> {
        debug_assert!(
            self.writer.is_locked() || self.replacing.is_locked(),
            "a change needs a lock"
        );
        self.context.clean_marker.clear(&*self.context.storage)?;
        self.is_touched.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether writes are refused because opening found damage.
    pub(crate) fn is_damaged(&self) -> bool {
        self.health.damage().is_some()
    }

    /// Closes the partition, and flushes it if `flush` is set. From then on waits end with
    /// `Closed`, and appends and reads are refused. On return no thread writes to the directory any
    /// more.
    ///
    /// Idempotent. After an error no clean marker may be written.
    pub(crate) fn close(&self, flush: bool) -> Result<()> {
        let was_open = self.health.close();
        self.waiters.notify();
        self.wait_for_writers();
        if !was_open || self.context.read_only {
            return Ok(());
        }
        let done = if flush && self.is_touched.load(Ordering::SeqCst) {
            self.flush_at_close()
        } else {
            Ok(())
        };
        for segment in self.segments.snapshot().iter() {
            segment.end_writes();
            segment.close_file();
        }
        done
    }

    /// Marks the partition as deleted with its topic: from now on reads and appends return
    /// `UnknownTopic`, and waits end. Threads that write to the directory may still do so until
    /// [`vacate`](Self::vacate) returns.
    pub(crate) fn mark_deleted(&self) {
        self.health.mark_deleted();
        self.waiters.notify();
    }

    /// Waits for the threads that write to the directory, and takes the names of their files away
    /// from the segments. Called after [`mark_deleted`](Self::mark_deleted).
    ///
    /// On return the directory may be renamed and its name used again. Readers keep the files that
    /// they hold. The caller must not hold a lock that such a thread may wait for: none of a topic,
    /// of the catalog or of the checkpoints.
    pub(crate) fn vacate(&self) {
        self.wait_for_writers();
        for segment in self.segments.snapshot().iter() {
            segment.give_up();
        }
        self.give_up_leaving();
    }

    /// Checks the invariants of the bounds. The caller holds the writer lock.
    pub(super) fn assert_bounds(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        debug_assert!(self.writer.is_locked(), "only the writer moves the bounds");
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        debug_assert!(
            start <= end,
            "{}: starts at {start}, ends at {end}",
            self.id()
        );
        let recovery_point = self.recovery_point();
        debug_assert!(
            recovery_point <= end,
            "{}: recovery point {recovery_point}, ends at {end}",
            self.id()
        );
        let high_watermark = self.high_watermark();
        debug_assert!(
            self.last_stable_offset() <= end,
            "{}: last stable offset {}, ends at {end}",
            self.id(),
            self.last_stable_offset()
        );
        debug_assert!(
            high_watermark <= end,
            "{}: high watermark {high_watermark}, ends at {end}",
            self.id()
        );
    }

    /// Checks the invariants of the segment list and of the bounds. The caller holds the writer
    /// lock.
    pub(super) fn assert_segments(&self, writer: &Writer) {
        if !cfg!(debug_assertions) {
            return;
        }
        self.assert_bounds();
        let segments = self.segments.snapshot();
        let Some(last) = segments.last() else {
            unreachable!("a partition has at least one segment")
        };
        debug_assert!(
            Arc::ptr_eq(last, &writer.active),
            "the last segment is the active one"
        );
        debug_assert!(
            last.next_offset() <= self.log_end_offset(),
            "{}: the last segment ends at {}, the log at {}",
            self.id(),
            last.next_offset(),
            self.log_end_offset()
        );
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            let (end, base) = (segment.next_offset(), next.base_offset);
            debug_assert!(segment.base_offset < base, "base offsets rise");
            debug_assert!(segment.is_sealed(), "only the last segment is active");
            // Recovery begins a segment at the log start if records below it are lost.
            let is_above_start = base > self.log_start_offset();
            let is_exact = self.is_dense() && !self.is_damaged() && is_above_start;
            debug_assert!(
                end == base || end < base && !is_exact,
                "{end} is followed by {base}"
            );
        }
    }

    /// Waits for each thread that saw the partition open under one of its locks. The state was
    /// changed before, so once each lock was taken here, no such thread is left.
    pub(super) fn wait_for_writers(&self) {
        debug_assert!(
            self.health.check_open().is_err(),
            "an open partition gets new writers"
        );
        drop(self.cleaning.lock());
        drop(self.flush.lock());
        drop(self.replacing.lock());
        drop(self.writer.lock());
        drop(self.commit.take_turn());
    }
}
