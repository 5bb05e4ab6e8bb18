//! Moving the bounds of a partition, where the checkpoints have to know at once.
//!
//! A cut lowers the stored recovery point first: a stop in between must find a log that is longer than the checkpoint claims,
//! never one that is shorter, which would look like a loss. A raised log start is stored before the call returns: what was
//! deleted does not come back.
//!
//! A partition's handle leads here by the guard that it keeps: of a log, or of a lone partition.

use super::checkpoints::Lines;
use super::lone::Lone;
use super::{Guard, LogCore};
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::topic_partition::TopicPartition;

impl Partition {
    /// Raises the log start to `offset`, and answers the log start from now on; an offset below it changes nothing. Segments
    /// that lie below as a whole are unlinked before it returns (or `file.delete.delay.ms` later), which works on a full disk.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the high watermark; `InvalidConfig` where the topic's `cleanup.policy` lacks `delete`.
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
    /// returns. An `end` at or above the log end changes nothing. Readers go on in what is left.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start.
    pub fn truncate_to(&self, end: u64) -> Result<()> {
        let cut = || self.core().truncate_to(end);
        if end >= self.log_end_offset() {
            return cut();
        }
        if let Some(guard) = self.keep().guard::<Guard>() {
            guard.core.lower_recovery_point(self.id(), end, cut)
        } else if let Some(lone) = self.keep().guard::<Lone>() {
            lone.lower_recovery_point(end, cut)
        } else {
            cut()
        }
    }

    /// Makes everything appended so far durable, indexes included. Blocks on the device.
    pub fn flush(&self) -> Result<()> {
        self.core().flush()?;
        // A log has a thread, or `Log::flush`, to write one checkpoint for all its partitions.
        self.keep().guard::<Lone>().map_or(Ok(()), Lone::store_bounds)
    }
}

impl LogCore {
    fn lower_recovery_point(&self, id: &TopicPartition, end: u64, cut: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.context().read_only {
            return cut();
        }
        self.context().clean_marker.clear(self.storage())?;
        self.checkpoints.write_then(self.storage(), |before| lowered(before, id, end), cut)
    }
}

/// The lines with the recovery point of `id` at `end` at most.
pub(super) fn lowered(before: &Lines, id: &TopicPartition, end: u64) -> Lines {
    let mut lines = before.clone();
    if let Some(recovery_point) = lines.recovery_points.get_mut(id) {
        *recovery_point = end.min(*recovery_point);
    }
    lines
}
