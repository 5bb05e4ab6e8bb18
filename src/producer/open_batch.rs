//! The batch of a lane that takes records.

use std::sync::Arc;

use super::memory::Memory;
use super::outcome::BatchOutcome;
use super::pace::Pace;
use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::Result;
use crate::format::batch::HEADER_BYTES;
use crate::format::record::Record;
use crate::partition::{BatchLimits, GrowingBatch};

/// The room that a batch takes when it begins, unless its first record needs more.
const FIRST_BYTES: usize = 1 << 10;

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

/// Returns the room that a batch takes when it begins, for a record of at most `bound` bytes.
pub(super) fn first_room(limits: &BatchLimits, bound: usize) -> u64 {
    limits.bytes().min(FIRST_BYTES).max(HEADER_BYTES + bound) as u64
}

impl OpenBatch {
    /// Takes room for a record of at most `bound` bytes if the batch has not enough: as much as it
    /// has, so that a batch of any size takes it in few steps. Returns `false` if there is none.
    #[inline]
    pub(super) fn has_memory(&mut self, memory: &Memory, bound: usize) -> bool {
        let needed = (self.batch.builder.len_bytes() + bound) as u64;
        needed <= self.reserved || self.take_memory(memory, needed)
    }

    fn take_memory(&mut self, memory: &Memory, needed: u64) -> bool {
        let limit = (self.batch.limit_bytes() as u64).max(needed);
        let wanted = (2 * self.reserved).clamp(needed, limit);
        self.reserved += memory.take_part(needed - self.reserved, wanted - self.reserved);
        needed <= self.reserved
    }

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
