//! The public face of a partition.

use std::fmt;
use std::ops::{Range, RangeBounds};
use std::path::PathBuf;
use std::sync::Arc;

use super::PartitionCore;
use super::keeper::KeepOpen;
use super::read::options::ReadOptions;
use super::read::reader::Reader;
use super::read::{last, lookup};
use super::state::report::Maintenance;
use super::state::report::PartitionRecovery;
use super::write::append::RecordMetadata;
use crate::clock::Timestamp;
use crate::config::{CleanupPolicy, Durability};
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::topic_partition::TopicPartition;

/// A handle on one partition: an ordered, append-only sequence of records, each known by its
/// offset. Clones share it, and keep the log open.
#[derive(Clone)]
pub struct Partition {
    core: Arc<PartitionCore>,
    /// What appends through this handle survive at least.
    durability: Durability,
    keep: KeepOpen,
}

/// A segment of a partition, as its files stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Base offset, which names the files.
    pub base_offset: u64,
    /// Base offset of the next segment; of the active one the log end offset.
    pub next_offset: u64,
    /// Size of the `.log` in bytes.
    pub bytes: u64,
    /// Largest timestamp of its records, by its index; `None` if none has a timestamp.
    pub max_timestamp: Option<Timestamp>,
    /// Whether it is the one that is appended to.
    pub is_active: bool,
    /// The `.log` file.
    pub path: PathBuf,
}

impl Partition {
    pub(crate) fn new(core: Arc<PartitionCore>, durability: Durability, keep: KeepOpen) -> Self {
        Self {
            core,
            durability,
            keep,
        }
    }

    pub(crate) fn core(&self) -> &Arc<PartitionCore> {
        &self.core
    }

    /// What appends through this handle survive at least.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Its topic and number.
    pub fn id(&self) -> &TopicPartition {
        self.core.id()
    }

    /// Appends one record and answers where it stands.
    ///
    /// | | process killed | machine loses power |
    /// | --- | --- | --- |
    /// | [`Durability::Os`] (default) | kept | may be lost until the next flush (every second by default) |
    /// | [`Durability::Synced`] | kept | kept |
    ///
    /// Blocks on other appends to this partition for the time of one write, with `Synced` until the
    /// device has answered.
    ///
    /// # Errors
    /// `InvalidRecord` and [`RecordTooLarge`](crate::Error::RecordTooLarge) before anything is
    /// written; `DiskFull` and `Io` with the log as it was before; `SyncFailed`, after which the
    /// outcome is unknown and the partition refuses writes with `Poisoned`; `Corrupt` where damage
    /// was found when the partition was opened; `ReadOnly`, `Closed`, `UnknownTopic` once the topic
    /// was deleted.
    pub fn append<'a>(&self, record: impl Into<Record<'a>>) -> Result<RecordMetadata> {
        let appended = self.core.append(self.durability, [record.into()])?;
        let timestamp = Timestamp::from_millis(appended.max_timestamp);
        Ok(RecordMetadata {
            partition: self.id().partition,
            offset: appended.offsets.start,
            timestamp,
        })
    }

    /// Appends records as one batch: all of them or, after an error, none. Gives their offsets; no
    /// records, an empty range at the log end. Durability and errors are those of
    /// [`append`](Self::append).
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// assert_eq!(lines.append_batch(["a", "b", "c"])?, 0..3);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn append_batch<'a, R: Into<Record<'a>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Range<u64>> {
        Ok(self.core.append(self.durability, records)?.offsets)
    }

    /// The same partition; appends through the new handle survive at least what `durability` says,
    /// never less than the topic's.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability: self.durability.max(durability),
            ..self.clone()
        }
    }

    /// Reads the records at `offsets`, up to the high watermark of the moment. The reader stops at
    /// the end; [`follow`](Self::follow) waits.
    ///
    /// `..` is all there is: it begins wherever the log starts when the first batch is returned,
    /// and never fails because of where that is. `n..` begins at offset `n`, or at the next offset
    /// that is left after compaction. If records are deleted while the reader is open, it reports
    /// those that it can no longer return: see [`Reader`].
    ///
    /// # Errors
    /// [`OffsetOutOfRange`](crate::Error::OffsetOutOfRange) if the range starts below the log start
    /// or above the log end; [`Closed`](crate::Error::Closed);
    /// [`UnknownTopic`](crate::Error::UnknownTopic) once the topic was deleted.
    pub fn read(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        self.read_with(offsets, ReadOptions::new())
    }

    /// Reads as [`read`](Self::read) does and then waits for more: it blocks at the end and goes on
    /// as soon as there is something. It gives `None` when it is [woken](super::Waker::wake) or at
    /// the end of a bounded range, and the error `Closed` when the log closes.
    pub fn follow(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        self.read_with(offsets, ReadOptions::new().wait(true))
    }

    /// Reads with options: isolation, waiting, unsynced records. Errors as of [`read`](Self::read).
    pub fn read_with(
        &self,
        offsets: impl RangeBounds<u64>,
        options: ReadOptions,
    ) -> Result<Reader> {
        Reader::new(&self.core, self.keep.clone(), &offsets, options)
    }

    /// Reads the last `records` records that there are now, or all if there are fewer. To follow
    /// from there, pass its [`next_offset`](Reader::next_offset) to [`follow`](Self::follow).
    ///
    /// The call reads the batches of these records once to count them. If offsets have no record,
    /// because the topic is compacted or has transactions, it goes further back in steps that
    /// double, until it has found enough: in a partition of which compaction left one record in a
    /// hundred, it reads up to about two hundred times as many offsets.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) if a batch among them is damaged; otherwise as
    /// [`read`](Self::read) of `..`.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// let mut reader = lines.read_last(2)?;
    /// assert_eq!(reader.next_record()?.map(|record| record.offset()), Some(1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn read_last(&self, records: u64) -> Result<Reader> {
        last::read_last(&self.core, &self.keep, records)
    }

    /// Looks an offset up: the log start, the end for readers, the record with the largest
    /// timestamp, or the first record with a timestamp at or after a given one (the earliest
    /// *offset* of those, as Kafka's `offsetsForTimes`). `None` where there is no such record.
    /// Reads at most one index and a few batches of a segment.
    pub fn offset_for(
        &self,
        spec: impl Into<lookup::OffsetSpec>,
    ) -> Result<Option<lookup::OffsetAndTimestamp>> {
        self.core.offset_for(spec.into())
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.log_start_offset()
    }

    /// Offset that the next record gets.
    pub fn log_end_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.log_end_offset()
    }

    /// Where readers end: the log end offset, or in a `Synced` topic the end of what is on the
    /// device.
    pub fn high_watermark(&self) -> u64 {
        self.core.try_refresh();
        self.core.high_watermark()
    }

    /// Where readers with [`Isolation::ReadCommitted`](super::Isolation::ReadCommitted) end: the
    /// high watermark, or the first record of the earliest transaction that is still open.
    pub fn last_stable_offset(&self) -> u64 {
        self.core.try_refresh();
        self.core.last_stable_offset()
    }

    /// Seals the active segment and begins the next one, as an append does when the segment is full
    /// or old. Retention deletes and compaction goes through sealed segments only. Does nothing if
    /// the active segment is empty.
    ///
    /// Waits for an append that is under way.
    ///
    /// # Errors
    /// [`Error::DiskFull`](crate::Error::DiskFull) and [`Error::Io`](crate::Error::Io), which leave
    /// the partition as it was, and those of a partition that refuses writes, as
    /// [`append`](Self::append) has them.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append("a")?;
    /// lines.roll()?;
    /// assert_eq!(lines.segments().len(), 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn roll(&self) -> Result<()> {
        self.core.roll_now()
    }

    /// Returns what opening this partition cut, rebuilt or found damaged: nothing, if it had been
    /// closed in good order. For a partition of a log, [`Log::recovery`](crate::Log::recovery) has
    /// the same.
    pub fn recovery(&self) -> &PartitionRecovery {
        self.core.recovery()
    }

    /// Its segments, in order; the last is the active one.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.core.try_refresh();
        self.core
            .retry_after_reread(|| self.core.segment_infos())
            .unwrap_or_default()
    }

    /// Raises the log start to `offset`, and returns the log start from now on. An offset below the
    /// log start changes nothing.
    ///
    /// Segments that lie below `offset` as a whole are unlinked before this returns (or
    /// `file.delete.delay.ms` later), also on a full disk. A segment that holds `offset` stays
    /// whole, so room comes back segment by segment.
    ///
    /// A call writes the log start to a checkpoint, syncs it, and syncs the directory once more for
    /// each segment that goes: a few milliseconds on a disk. A program that works records off one
    /// by one should call it once for many of them, for example each time a segment is done
    /// ([`Partition::segments`]), or leave it to retention.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] above the high watermark; [`Error::PolicyViolation`] if the
    /// topic is only compacted.
    pub fn delete_records_before(&self, offset: u64) -> Result<u64> {
        let log_start = self.core.delete_records_before(offset)?;
        match self.keep.keeper().store_log_start() {
            // The start is stored as soon as there is room for it again.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(log_start),
            Err(error) => Err(error),
        }
    }

    /// Cuts the log so that `end` is the next offset to be written; records at and above it are
    /// gone, for good once this returns. An `end` at or above the log end changes nothing. Readers
    /// go on in what is left, and members of groups at the cut; what was committed above it is
    /// lowered to it. If the partition of a log is [opened alone](Partition::open), that happens
    /// when the log is opened next. If the program is killed before the partition is closed, only
    /// what then lies above its end is lowered.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start.
    pub fn truncate_to(&self, end: u64) -> Result<()> {
        let cut = self.core.truncation(end);
        // Before anything is lowered. Appends go on: of what they add from now on nothing is cut
        // here without that either.
        if !cut.is_due()? {
            return Ok(());
        }
        self.keep.keeper().truncate(&self.core, cut)
    }

    /// Reads the partition anew from the disk and, where it is sound, takes writes again: the way
    /// on after [`Error::Poisoned`], and after what damaged or filled the disk was put right. All
    /// above the recovery point is synced, read back past the cache and checked, as after an
    /// unclean stop: a torn end is cut, kept beside and reported. Handles and readers go on with
    /// what was found. An append that waits for a sync in the meantime succeeds if its records were
    /// found, and returns [`Error::SyncFailed`] otherwise.
    ///
    /// Blocks appends, and on the device. Damage below the recovery point is in the report, and
    /// appends stay refused.
    ///
    /// # Errors
    /// `Io` and `DiskFull` where the disk still refuses: nothing is lost by that, and it can be
    /// tried again; `ReadOnly`, `Closed`, `UnknownTopic`.
    pub fn reopen(&self) -> Result<PartitionRecovery> {
        let reopened = self.core.reopen()?;
        Ok(self.keep.keeper().finish_reopen(&self.core, reopened))
    }

    /// Makes everything appended so far durable, indexes included. Blocks on the device.
    pub fn flush(&self) -> Result<()> {
        self.core.flush()?;
        // A log has a thread, or `Log::flush`, to write one checkpoint for all its partitions.
        self.keep.keeper().store_flushed()
    }

    /// Compacts now: of every key the latest record stays, and all earlier ones go, however few
    /// they are. Says what it did.
    ///
    /// Offsets stay what they were, with gaps between them: reading from an offset that is gone
    /// gives the next one. A tombstone stays for `delete.retention.ms` after the first pass that
    /// saw it, so that who reads from the start meanwhile learns of it. Appends and readers go on.
    /// As in Kafka some things are left alone: the active segment, what lies above the [last stable
    /// offset](Self::last_stable_offset), and segments with a record younger than
    /// `min.compaction.lag.ms`.
    ///
    /// Without this call a log compacts by itself, in [`maintain`](crate::Log::maintain) and in the
    /// background, what is dirty enough for `min.cleanable.dirty.ratio` or has waited for
    /// `max.compaction.lag.ms`. A partition that is opened alone is only compacted on demand.
    /// Blocks for as long as it takes, also on the compaction of another partition.
    ///
    /// Nothing is compacted in a partition that is so young that all of it is in the active
    /// segment: [`Maintenance::bytes_not_compacted`] says how much was left for later. A batch that
    /// decompresses to more than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes), or whose
    /// codec this build lacks, stays as it is, with the tombstones after it, and is counted in
    /// [`Maintenance::batches_left_alone`].
    ///
    /// # Errors
    /// `InvalidConfig` where the topic's `cleanup.policy` lacks `compact`; `Corrupt` where a
    /// segment is damaged: it stays as it is. `DiskFull` leaves everything as it was: a group of
    /// segments is written anew before the old ones go.
    ///
    /// ```
    /// # use annals::{CleanupPolicy, Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(100);
    /// let colours = log.create_topic("colours", 1, config)?.partition(0)?;
    /// for colour in ["red", "green", "blue"] {
    ///     colours.append(("sky", colour))?;
    /// }
    /// assert_eq!(colours.compact()?.records_removed, 1); // "blue" is in the active segment
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn compact(&self) -> Result<Maintenance> {
        if self.core.settings().cleanup_policy == CleanupPolicy::Delete {
            let reason = "the records of a topic that only deletes are not compacted".to_owned();
            return Err(Error::InvalidConfig {
                key: "cleanup.policy".to_owned(),
                reason,
            });
        }
        self.keep.keeper().compact(&self.core)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets = self.core.log_start_offset()..self.core.log_end_offset();
        let mut shown = f.debug_struct("Partition");
        shown
            .field("id", self.id())
            .field("offsets", &offsets)
            .field("state", &self.core.state_name());
        shown.finish_non_exhaustive()
    }
}

impl PartitionCore {
    /// Segments in order; the last is the active one. Loads each index once, for the largest
    /// timestamp.
    pub(crate) fn segment_infos(&self) -> Result<Vec<SegmentInfo>> {
        let segments = self.segments().snapshot();
        let mut infos: Vec<SegmentInfo> = Vec::with_capacity(segments.len());
        for (number, segment) in segments.iter().enumerate() {
            let next = segments.get(number + 1);
            let max_timestamp = self.max_timestamp_of(segment)?;
            infos.push(SegmentInfo {
                base_offset: segment.base_offset,
                next_offset: next.map_or_else(|| segment.next_offset(), |next| next.base_offset),
                bytes: u64::from(segment.size()),
                max_timestamp: (max_timestamp >= 0)
                    .then_some(Timestamp::from_millis(max_timestamp)),
                is_active: next.is_none(),
                path: segment.log_path().to_owned(),
            });
        }
        Ok(infos)
    }
}
