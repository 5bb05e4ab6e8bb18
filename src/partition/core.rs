//! One partition: ordered segments and the offsets that bound them.
//!
//! `append` goes encode, lock, stamp, roll, write, publish, unlock, wake, sync; `reader` goes seek
//! once, then batch by batch. Readers meet the writer only in atomics and in the segment list. What
//! opening repairs is in `recovery`.
//!
//! # Who may touch the directory
//!
//! A thread writes, renames or removes a file of the partition only while it holds one of five
//! locks, and only after it has found, under that lock, that the partition is open. `mark_deleted`
//! and `close` change the state first and then take each lock once
//! ([`PartitionCore::wait_for_writers`]). So no thread touches the directory after that: it may be
//! renamed, another topic may take its name, another process may open it. A thread that takes
//! several of the locks takes them in this order, and `reopening`, which only makes appends wait,
//! before all of them:
//!
//! | lock | held to | what its holder compares again |
//! | --- | --- | --- |
//! | `cleaning` | compact | state; for each exchange the segments and the count of cuts, under `replacing` |
//! | `flush` | raise the recovery point, cut, re-open | state |
//! | `replacing` | take segments out of the list and remove their files | state; the count of cuts, or the segments themselves |
//! | `writer` | append, roll, change the list of segments | state, refusal |
//! | the turn of `commit` | sync | that the topic was not deleted, refusal |
//!
//! Readers hold none of them. A reader opens a file by its name only while the segment is
//! [named](Segment::is_named), and a deletion takes the names away ([`PartitionCore::vacate`])
//! before it renames the directory. Whatever a reader fails at, it first asks whether the partition
//! was deleted or closed in the meantime ([`PartitionCore::or_gone`]), and then whether the
//! segments or the count of cuts have changed since it looked.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::clock::{Deadline, Timestamp};
use crate::config::{CleanupPolicy, Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::metadata_file::TopicId;
use crate::segment::{Segment, SegmentHome};
use crate::topic_partition::TopicPartition;

use super::state::cuts::Cuts;
use super::state::group_commit::GroupCommit;
use super::state::health::Health;
use super::state::leader_epoch::LeaderEpochs;
use super::state::leaving::{Leaving, Trash};
use super::state::origin::Origin;
use super::state::producers::ProducerStates;
use super::state::seen::Seen;
use super::state::segment_list::{self, SegmentList};
use super::state::waiting::{Signal, WaitList};
use super::{LOOK_INTERVAL, PartitionContext, PartitionRecovery};

/// No offset.
pub(super) const NEVER: u64 = u64::MAX;

/// The partition itself; handles share it.
#[derive(Debug)]
pub(crate) struct PartitionCore {
    pub(super) context: Arc<PartitionContext>,
    /// Among the topics and partitions of the log, while it is open.
    pub(super) number: u32,
    pub(super) home: SegmentHome,
    pub(super) origin: Arc<Origin>,
    pub(super) topic_id: Option<TopicId>,
    pub(super) settings: RwLock<Arc<TopicSettings>>,
    /// Whether readers end at the synced end: the topic's durability.
    pub(super) is_synced_topic: AtomicBool,
    pub(super) segments: SegmentList,
    pub(super) writer: Mutex<Writer>,
    pub(super) log_start: AtomicU64,
    /// Next offset to be written. Stored after the batch is in the file and its segment has
    /// published it.
    pub(super) log_end: AtomicU64,
    pub(super) commit: GroupCommit,
    /// Of this run. Moved under the writer lock.
    pub(super) appended_bytes: AtomicU64,
    /// All below is on the device, indexes and snapshots included.
    pub(super) recovery_point: AtomicU64,
    /// First offset of the earliest open transaction; `u64::MAX` where there is none.
    pub(super) first_unstable: AtomicU64,
    /// After each one readers must look for their place again.
    pub(super) cuts: Cuts,
    /// Rises with every `reopen`: what was appended before and not synced may be gone.
    pub(super) reopens: AtomicU64,
    /// Held by the one who re-opens, until appends may go on. Taken before every other lock of the
    /// partition.
    pub(super) reopening: Mutex<()>,
    /// Whether appends have to wait for that. Set under the writer lock.
    pub(super) is_reopening: AtomicBool,
    /// Whether a gap between two offsets can only be damage.
    pub(super) is_dense: AtomicBool,
    /// All below was compacted; [`NEVER`] where nothing was.
    pub(super) cleaned_end: AtomicU64,
    /// Offset of the first batch that the last pass of compaction could not look into; [`NEVER`] if
    /// there was none.
    pub(super) first_left_alone: AtomicU64,
    pub(super) waiters: WaitList,
    pub(super) health: Health,
    /// What opening it found.
    pub(super) recovery: PartitionRecovery,
    /// Held by the one who compacts.
    pub(super) cleaning: Mutex<()>,
    /// Held by the one who takes segments out of the list, until their files are gone.
    pub(super) replacing: Mutex<()>,
    /// Held by the one who moves the recovery point.
    pub(super) flush: Mutex<()>,
    /// Whether anything of the partition was written or repaired in this run: otherwise closing it
    /// writes nothing.
    pub(super) is_touched: AtomicBool,
    /// Whether `index-digests` no longer says what the sealed indexes are.
    pub(super) has_new_digests: AtomicBool,
    pub(super) leaving: Leaving,
    pub(super) trash: Trash,
}

/// What only the one who writes may touch.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) active: Arc<Segment>,
    pub(super) epochs: LeaderEpochs,
    /// Stamped on every batch.
    pub(super) leader_epoch: i32,
    pub(super) producers: ProducerStates,
    /// Whether the directory has producer snapshots, so that new ones are owed.
    pub(super) has_snapshots: bool,
    /// Largest timestamp of the active segment's first batch; `None` where it was not looked at
    /// yet.
    pub(super) first_timestamp: Option<i64>,
    /// When the active segment was created or opened.
    pub(super) opened: Timestamp,
    /// By how much earlier the active segment rolls.
    pub(super) jitter_ms: i64,
    /// Records appended since the last flush that `flush.messages` asked for.
    pub(super) unflushed: u64,
    /// In a read-only log: what the active file was when it was looked at last.
    pub(super) seen: Seen,
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
        &self.recovery
    }

    /// From `partition.metadata`.
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
        if may_sync
            && durability == Durability::Synced
            && !self.is_synced_topic.load(Ordering::SeqCst)
        {
            // What readers have seen so far must not vanish again behind a synced end that lags.
            let _reported_by_the_next_sync = self.sync_published();
        }
        if settings.cleanup_policy != CleanupPolicy::Delete {
            // The topic's file says so already.
            self.allow_gaps();
        }
        *self.settings.write() = Arc::new(settings);
        self.is_synced_topic
            .store(durability == Durability::Synced, Ordering::SeqCst);
        self.waiters.notify();
    }

    pub(crate) fn log_start_offset(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    pub(crate) fn log_end_offset(&self) -> u64 {
        self.log_end.load(Ordering::SeqCst)
    }

    /// Where readers end: the log end, in a `Synced` topic what of it is on the device.
    #[inline]
    pub(crate) fn high_watermark(&self) -> u64 {
        if self.is_synced_topic.load(Ordering::Relaxed) {
            self.commit.synced_end()
        } else {
            self.log_end_offset()
        }
    }

    /// Where `read_committed` readers end: the high watermark, or the earliest open transaction.
    pub(crate) fn last_stable_offset(&self) -> u64 {
        self.stable_end(self.high_watermark())
    }

    /// Returns `end`, or the first offset of the earliest open transaction if that comes first.
    pub(super) fn stable_end(&self, end: u64) -> u64 {
        end.min(
            self.first_unstable
                .load(Ordering::Acquire)
                .max(self.log_start_offset()),
        )
    }

    /// What the checkpoint may say: all below is on the device, with its indexes.
    pub(crate) fn recovery_point(&self) -> u64 {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// Base offset of the first segment.
    pub(super) fn first_base_offset(&self) -> u64 {
        self.segments
            .snapshot()
            .first()
            .map_or(0, |segment| segment.base_offset)
    }

    /// Total size of the `.log` files in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.segments
            .snapshot()
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// As `log_bytes`, in a read-only log by what the writer has done by now.
    pub(crate) fn refreshed_bytes(&self) -> u64 {
        self.try_refresh();
        self.log_bytes()
    }

    /// Waiters that are notified whenever more can be read, and at close.
    pub(crate) fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    pub(super) fn segments(&self) -> &SegmentList {
        &self.segments
    }

    /// Changes whenever a segment comes, goes or is replaced, and with every cut.
    pub(crate) fn segments_version(&self) -> segment_list::Version {
        let truncations = self.truncations();
        segment_list::Version::new(self.segments.snapshot(), truncations)
    }

    /// Rises with every truncation, and whenever the directory was read anew.
    pub(crate) fn truncations(&self) -> u64 {
        self.cuts.count()
    }

    /// The lowest end that the log was cut to since there were so many truncations; from there on
    /// it holds other records.
    pub(crate) fn lowest_cut_since(&self, truncations: u64) -> Option<u64> {
        self.cuts.lowest_since(truncations)
    }

    /// Whether a gap between two offsets can only be damage.
    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense.load(Ordering::Acquire)
    }

    /// Before the topic's file says that the partition may have gaps: from then on nothing but the
    /// order in which segments become durable shows whether one has lost its end.
    pub(crate) fn prepare_for_gaps(&self) -> Result<()> {
        // No roll is under way that has not heard of it.
        let writer = self.writer.lock();
        self.allow_gaps();
        drop(writer);
        self.sync_published()
    }

    /// The partition may be compacted from now on. What is on the disk of its topic must say so
    /// before.
    pub(crate) fn allow_gaps(&self) {
        self.is_dense.store(false, Ordering::Release);
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

    /// Blocks until the signal was notified since its last reset, and no longer than until `until`
    /// or until it is time to look what another process did.
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

    /// Returns an error unless the partition takes writes. The answer stays right only while the
    /// writer lock is held.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_readable()?;
        if self.context.read_only {
            return Err(Error::ReadOnly);
        }
        self.health.check_takes_writes()
    }

    /// Returns the state in a word, without waiting for a lock.
    pub(super) fn state_name(&self) -> fmt::Arguments<'static> {
        self.health.name(self.context.read_only)
    }

    /// The writer lock, or that of the one who replaces segments, is held, and a file is about to
    /// change: the log is not clean any more, and the partition has something to flush.
    pub(super) fn begin_change(&self) -> Result<()> {
        self.context.clean_marker.clear(&*self.context.storage)?;
        self.is_touched.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether writes are refused because opening found damage.
    pub(crate) fn is_damaged(&self) -> bool {
        self.health.damage().is_some()
    }

    pub(super) fn io(&self, action: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| Error::io(action, self.dir(), error)
    }

    /// For good: waits end with `Closed`, appends and reads are refused. Flushes unless `flush` is
    /// false. Idempotent. On return no thread writes to the directory any more. After an error no
    /// clean marker may be written.
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

    /// The topic was deleted: from now on reads and appends return `UnknownTopic`, and waits end.
    /// Threads that write to the directory may still do so until [`vacate`](Self::vacate) returns.
    pub(crate) fn mark_deleted(&self) {
        self.health.mark_deleted();
        self.waiters.notify();
    }

    /// After [`mark_deleted`](Self::mark_deleted): waits for the threads that write to the
    /// directory, and takes the names of its files away from the segments. On return the directory
    /// may be renamed and its name used again. Readers keep what they hold. The caller holds no
    /// lock that such a thread may wait for: none of a topic, of the catalog or of the checkpoints.
    pub(crate) fn vacate(&self) {
        self.wait_for_writers();
        for segment in self.segments.snapshot().iter() {
            segment.give_up();
        }
        self.give_up_leaving();
    }

    /// The state is no longer `OPEN`: each thread that saw it open under one of these locks is done
    /// when they were all taken.
    pub(super) fn wait_for_writers(&self) {
        drop(self.cleaning.lock());
        drop(self.flush.lock());
        drop(self.replacing.lock());
        drop(self.writer.lock());
        drop(self.commit.take_turn());
    }
}
