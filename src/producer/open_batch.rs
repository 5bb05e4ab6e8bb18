//! The batch of a lane that takes records.

use std::sync::Arc;

use super::outcome::BatchOutcome;
use super::pace::Pace;
use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::Result;
use crate::format::record::Record;
use crate::partition::GrowingBatch;

/// A batch that records are added to.
pub(super) struct OpenBatch {
    pub(super) batch: GrowingBatch,
    pub(super) outcome: Arc<BatchOutcome>,
    /// Bytes that the batch takes of the producer's memory.
    pub(super) reserved: u64,
    /// When the batch has lingered long enough, in microseconds of the producer's stopwatch.
    pub(super) due_us: u64,
    /// The time that the clock showed when it was last read.
    pub(super) now: i64,
    /// How many more records may use that time.
    pub(super) looks_away: u32,
    /// The greatest durability that a sender asked for.
    pub(super) durability: Durability,
    /// Whether the thread that holds `progress` is to write the batch.
    pub(super) is_left: bool,
}

impl OpenBatch {
    /// Adds a record, and returns its timestamp.
    #[inline]
    pub(super) fn push(
        &mut self,
        pace: &Pace,
        record: &Record<'_>,
        durability: Durability,
    ) -> Result<i64> {
        if self.looks_away == 0 {
            self.now = pace.now();
            self.looks_away = pace.records_per_look;
        }
        self.looks_away -= 1;
        self.batch.push(record, self.now)?;
        self.durability = self.durability.max(durability);
        Ok(record.timestamp.map_or(self.now, Timestamp::as_millis))
    }
}
