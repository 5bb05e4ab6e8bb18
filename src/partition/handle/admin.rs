//! Administration of a partition: removing its records, compaction, and recovery.

use super::Partition;
use crate::config::CleanupPolicy;
use crate::error::{Error, Result};
use crate::partition::state::report::{Maintenance, PartitionRecovery};

/// # Removing records
impl Partition {
    /// Raises the log start to `offset`, and returns the log start from then on. An offset below
    /// the log start changes nothing. Kafka's `deleteRecords`.
    ///
    /// Segments that are entirely below `offset` are deleted before the call returns, or
    /// `file.delete.delay.ms` later. This also works on a full disk. The segment that contains
    /// `offset` keeps all its bytes, so space is freed one segment at a time.
    ///
    /// Each call writes the log start to a checkpoint and syncs it, and it syncs the directory once
    /// more for each segment that it removes. If the records of these segments are not on the
    /// device yet, it syncs them first, because files that cannot be removed must stay whole. On a
    /// disk this takes a few milliseconds. A program that handles records one by one should call
    /// this once for many of them, for example after each segment ([`segments`](Self::segments)),
    /// or leave the deletion to retention.
    ///
    /// The new log start survives a crash once the call has returned. The exception is a full disk:
    /// then the log start is stored as soon as there is space again.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::OffsetOutOfRange`] if `offset` is above the high watermark.
    /// * Returns [`Error::PolicyViolation`] if the topic is only compacted.
    /// * Returns [`Error::Io`] if a file could not be removed or the log start could not be stored.
    /// * Returns the errors of [`append`](Self::append) to a partition that refuses writes.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// assert_eq!(lines.delete_records_before(2)?, 2);
    /// assert_eq!(lines.read(..)?.next_offset(), 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn delete_records_before(&self, offset: u64) -> Result<u64> {
        let log_start = self.core.delete_records_before(offset)?;
        match self.keep.keeper().store_log_start() {
            // The start is stored as soon as there is room for it again.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(log_start),
            Err(error) => Err(error),
        }
    }

    /// Cuts the log at `end`: removes all records at and above it, so that `end` is the next offset
    /// to be written. An `end` at or above the log end changes nothing.
    ///
    /// The removed records stay removed after a crash once the call has returned. If the machine or
    /// the program stops during the call, the next opening finds all of them or none. Blocks on the
    /// device.
    ///
    /// Readers continue with the records that are left. Positions that groups committed above `end`
    /// are lowered to it, and members continue there.
    ///
    /// If the cut removes the marker that ended a transaction, and leaves records of it, the marker
    /// is written again: the transaction stays committed or aborted. Then the next offset to be
    /// written is above `end`. This applies to the transactions of
    /// [producers](crate::TransactionalProducer) of the log. A transaction that was copied with
    /// [`append_raw`](Self::append_raw) is open until its marker is copied again.
    ///
    /// If the partition belongs to a log and was [opened alone](Partition::open), the markers of
    /// the producers of every log are written again, because the next opening of the log would
    /// abort their open transactions. The positions are lowered by that opening. If the program is
    /// killed before it closes the partition, only the positions above the log end of that time are
    /// lowered.
    ///
    /// If opening found damage, a cut at or below the damage makes the partition take writes again.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::OffsetOutOfRange`] if `end` is below the log start.
    /// * Returns [`Error::Corrupt`] if damage below `end` leaves open which batches are below it.
    ///   Nothing is cut then; a cut at the damage works.
    /// * Returns [`Error::DiskFull`] or [`Error::Io`] if the disk refuses.
    /// * Returns [`Error::Poisoned`] if an earlier write or sync failed.
    /// * Returns [`Error::ReadOnly`] in a read-only log, [`Error::Closed`] after the log was
    ///   closed, and [`Error::UnknownTopic`] after the topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// lines.truncate_to(1)?;
    /// assert_eq!(lines.append("d")?.offset, 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn truncate_to(&self, end: u64) -> Result<()> {
        // Before the locks of the cut: a commit in progress may wait for one of them.
        let producers = if self.core.has_producers() {
            self.keep.keeper().transactional_producers()?
        } else {
            Vec::new()
        };
        let cut = self.core.truncation(end).keeping(producers);
        // Checked before the committed positions are lowered. If the cut is not due now, records
        // that are appended after this check stay, even above `end`.
        if !cut.is_due()? {
            return Ok(());
        }
        self.keep.keeper().truncate(&self.core, cut)
    }

    /// Removes all records, and lets the partition continue at `offset`: any offset, above or below
    /// those of the records. Kafka's `truncateFullyAndStartAt`.
    ///
    /// A mirror calls this if its source no longer has the records after those that were copied,
    /// and a replica when it has installed a snapshot. On return log start, high watermark and log
    /// end are `offset`, no producer is known, and all of it survives a crash. Blocks on the
    /// device. Appends wait until the call is done.
    ///
    /// If the machine or the program stops during the call, the partition is as before, or it is
    /// empty and continues at its former end or at `offset`. Old records are never followed by new
    /// ones. A program that finds another offset than it expects calls this again. The same holds
    /// after an error.
    ///
    /// A reader that is below `offset` gets [`Error::OffsetOutOfRange`], unless it reads from the
    /// log start on. A reader that is above `offset` continues as after
    /// [`truncate_to`](Self::truncate_to). Positions that groups committed above `offset` are
    /// lowered to it. The call also mends a damaged partition.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::OffsetOutOfRange`] if `offset` is above `i64::MAX`, which Kafka cannot
    ///   store.
    /// * Returns [`Error::DiskFull`] or [`Error::Io`] if the disk refuses. On a full disk,
    ///   [delete](Self::delete_records_before) the records first.
    /// * Returns [`Error::SyncFailed`] if it is unknown whether the new offset is durable. From
    ///   then on the partition refuses writes.
    /// * Returns [`Error::Poisoned`] if an earlier write or sync failed.
    /// * Returns [`Error::ReadOnly`] in a read-only log, [`Error::Closed`] after the log was
    ///   closed, and [`Error::UnknownTopic`] after the topic was deleted.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b", "c"])?;
    /// lines.restart_at(1_000)?;
    /// assert_eq!(lines.log_start_offset(), 1_000);
    /// assert_eq!(lines.append("d")?.offset, 1_000);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn restart_at(&self, offset: u64) -> Result<()> {
        let restart = self.core.restart(offset)?;
        self.keep.keeper().restart(&self.core, restart)
    }

    /// Compacts the partition now: keeps the latest record of each key and removes the earlier
    /// ones, however few they are. Returns a report.
    ///
    /// The records that are left keep their offsets, with gaps between them. A reader that starts
    /// at a removed offset continues with the next record. A tombstone stays for
    /// `delete.retention.ms` after the first pass that saw it. In that time a reader from the start
    /// still learns of the deletion. Appends and readers continue during the compaction.
    ///
    /// As in Kafka, a pass does not touch:
    ///
    /// * the active segment: call [`roll`](Self::roll) before, to compact its records too;
    /// * records above the [last stable offset](Self::last_stable_offset);
    /// * segments with a record younger than `min.compaction.lag.ms`.
    ///
    /// [`Maintenance::bytes_not_compacted`] counts their bytes. In a young partition this can be
    /// everything.
    ///
    /// A batch is kept unchanged, with the tombstones after it, if it decompresses to more than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes) or if this
    /// build lacks its codec. [`Maintenance::batches_left_alone`] counts such batches.
    ///
    /// Without this call a log compacts in the background and in
    /// [`maintain`](crate::Log::maintain). It selects the partitions that are dirty enough for
    /// `min.cleanable.dirty.ratio` or have waited for `max.compaction.lag.ms`. A partition that is
    /// [opened alone](Partition::open) is compacted only by this call.
    ///
    /// Blocks until the compaction is done. If another partition is being compacted, it waits for
    /// that first.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::InvalidConfig`] if the topic's `cleanup.policy` lacks `compact`.
    /// * Returns [`Error::Corrupt`] if a segment is damaged. The segment stays as it is.
    /// * Returns [`Error::DiskFull`] if the disk lacks room for the compacted segments, which are
    ///   written before the old ones are removed. The partition is as it was before.
    ///
    /// ```
    /// # use annals::{CleanupPolicy, Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    /// let colours = log.create_topic("colours", 1, config)?.partition(0)?;
    /// for colour in ["red", "green", "blue"] {
    ///     colours.append(("sky", colour))?;
    /// }
    /// colours.roll()?;
    /// assert_eq!(colours.compact()?.records_removed, 2); // "blue" is left
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

/// # Recovery
impl Partition {
    /// Returns the report of opening this partition: the repairs, and the damage that was found.
    ///
    /// Both are empty if the partition had been closed properly. For a partition of a log,
    /// [`Log::recovery`](crate::Log::recovery) contains the same report.
    pub fn recovery(&self) -> &PartitionRecovery {
        self.core.recovery()
    }

    /// Reads the partition from the disk again and, if it is sound, takes writes again. Returns the
    /// repairs.
    ///
    /// Call it after [`Error::Poisoned`], or after the cause of a damaged or full disk was removed.
    ///
    /// Recovery works as after an unclean stop. Everything above the recovery point is written over
    /// itself, synced, read past the page cache, and checked. So later records do not depend on
    /// bytes that a failed sync left in memory only. A torn end is cut, kept in `.torn` files, and
    /// reported. Damage below the recovery point is reported too, and appends are still refused.
    ///
    /// Handles and readers continue with the records that were found. An append that waits for its
    /// sync in the meantime succeeds if its records were found, and returns [`Error::SyncFailed`]
    /// otherwise.
    ///
    /// Appends wait until the call is done. The call blocks on the device.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Io`] or [`Error::DiskFull`] if the disk still refuses. No record is lost
    ///   by that, and the call can be repeated.
    /// * Returns [`Error::ReadOnly`] in a read-only log, [`Error::Closed`] after the log was
    ///   closed, and [`Error::UnknownTopic`] after the topic was deleted.
    pub fn reopen(&self) -> Result<PartitionRecovery> {
        let reopened = self.core.reopen()?;
        Ok(self.keep.keeper().finish_reopen(&self.core, reopened))
    }
}
