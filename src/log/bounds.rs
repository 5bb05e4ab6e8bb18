//! Moving the bounds of a partition, where the checkpoints have to know at once.
//!
//! A cut lowers the stored recovery point first: a stop in between must find a log that is longer than the checkpoint claims,
//! never one that is shorter, which would look like a loss. A raised log start is stored before the call returns: what was
//! deleted does not come back.
//!
//! A partition's handle leads here by the guard that it keeps: of a log, or of a lone partition.

use std::sync::Arc;

use super::checkpoints::Lines;
use super::lone::Lone;
use super::{Guard, LogCore};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::partition::{Partition, PartitionCore, PartitionRecovery, Truncation};
use crate::topic_partition::TopicPartition;

impl Partition {
    /// Raises the log start to `offset`, and returns the log start from now on. An offset below the log start changes nothing.
    ///
    /// Segments that lie below `offset` as a whole are unlinked before this returns (or `file.delete.delay.ms` later), also on a
    /// full disk. A segment that holds `offset` stays whole, so room comes back segment by segment.
    ///
    /// A call writes the log start to a checkpoint, syncs it, and syncs the directory once more for each segment that goes: a few
    /// milliseconds on a disk. A program that works records off one by one should call it once for many of them, for example
    /// each time a segment is done ([`Partition::segments`]), or leave it to retention.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] above the high watermark; [`Error::PolicyViolation`] if the topic is only compacted.
    pub fn delete_records_before(&self, offset: u64) -> Result<u64> {
        let log_start = self.core().delete_records_before(offset)?;
        let stored = if let Some(guard) = self.keep().guard::<Guard>() {
            guard.core.write_checkpoints()
        } else if let Some(lone) = self.keep().guard::<Lone>() {
            lone.checkpoint()
        } else {
            Ok(())
        };
        match stored {
            // The start is stored as soon as there is room for it again.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(log_start),
            Err(error) => Err(error),
        }
    }

    /// Cuts the log so that `end` is the next offset to be written; records at and above it are gone, for good once this
    /// returns. An `end` at or above the log end changes nothing. Readers go on in what is left, and members of groups at the
    /// cut; what was committed above it is lowered to it. If the partition of a log is [opened alone](Partition::open), that
    /// happens when the log is opened next. If the program is killed before the partition is closed, only what then lies above
    /// its end is lowered.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start.
    pub fn truncate_to(&self, end: u64) -> Result<()> {
        let cut = self.core().truncation(end);
        // Before anything is lowered. Appends go on: of what they add from now on nothing is cut here without that either.
        if !cut.is_due()? {
            return Ok(());
        }
        if let Some(guard) = self.keep().guard::<Guard>() {
            guard.core.truncate(self.core(), end, cut)
        } else if let Some(lone) = self.keep().guard::<Lone>() {
            lone.truncate(end, cut)
        } else {
            cut.make()
        }
    }

    /// Reads the partition anew from the disk and, where it is sound, takes writes again: the way on after
    /// [`Error::Poisoned`], and after what damaged or filled the disk was put right. All above the recovery point is synced, read
    /// back past the cache and checked, as after an unclean stop: a torn end is cut, kept beside and reported. Handles and
    /// readers go on with what was found. An append that waits for a sync in the meantime succeeds if its records were found, and
    /// returns [`Error::SyncFailed`] otherwise.
    ///
    /// Blocks appends, and on the device. Damage below the recovery point is in the report, and appends stay refused.
    ///
    /// # Errors
    /// `Io` and `DiskFull` where the disk still refuses: nothing is lost by that, and it can be tried again; `ReadOnly`,
    /// `Closed`, `UnknownTopic`.
    pub fn reopen(&self) -> Result<PartitionRecovery> {
        let reopened = self.core().reopen()?;
        let Some(guard) = self.keep().guard::<Guard>() else { return Ok(reopened.take_writes()) };
        if file_name::is_internal_topic(&self.id().topic) {
            // What is lowered is written there.
            let report = reopened.take_writes();
            guard.core.lower_commits_of(self.id());
            return Ok(report);
        }
        // Before anything else is appended: records that take these offsets would be passed over. Whether any are gone is not
        // asked: another thread may have appended, and committed, up to the moment at which appends had to wait.
        guard.core.lower_commits_of(self.id());
        Ok(reopened.take_writes())
    }

    /// Makes everything appended so far durable, indexes included. Blocks on the device.
    pub fn flush(&self) -> Result<()> {
        self.core().flush()?;
        // A log has a thread, or `Log::flush`, to write one checkpoint for all its partitions.
        self.keep().guard::<Lone>().map_or(Ok(()), Lone::store_bounds)
    }
}

impl LogCore {
    /// Lowers the commits above the end of a partition that was recovered or cut. Where it is the one that holds the commits,
    /// those that are left are read anew first: they are older ones, and may lie above a cut that a lost one knew of.
    fn lower_commits_of(&self, id: &TopicPartition) {
        if file_name::is_internal_topic(&id.topic) {
            self.groups.offsets_were_cut();
        }
        self.groups.lower_commits(|_| u64::MAX);
    }

    /// Cuts a partition, after what was committed and stored of it.
    fn truncate(&self, partition: &Arc<PartitionCore>, end: u64, cut: Truncation<'_>) -> Result<()> {
        let id = partition.id();
        if file_name::is_internal_topic(&id.topic) {
            let done = self.store_and_cut(id, end, cut);
            self.lower_commits_of(id);
            return done;
        }
        self.groups.lower_commits_then(partition, end, || self.store_and_cut(id, end, cut))
    }

    fn store_and_cut(&self, id: &TopicPartition, end: u64, cut: Truncation<'_>) -> Result<()> {
        self.context().clean_marker.clear(self.storage())?;
        let recovery_point = cut.recovery_point();
        self.checkpoints.write_then(self.storage(), |before| lowered(before, id, end, recovery_point), || cut.make())
    }
}

/// The lines with `recovery_point` for `id` at most, and what of it is compacted up to `end`.
pub(super) fn lowered(before: &Lines, id: &TopicPartition, end: u64, recovery_point: u64) -> Lines {
    let mut lines = before.clone();
    if let Some(point) = lines.recovery_points.get_mut(id) {
        *point = recovery_point.min(*point);
    }
    if let Some(cleaned) = lines.cleaned.get_mut(id) {
        *cleaned = end.min(*cleaned);
    }
    lines
}
