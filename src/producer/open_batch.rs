//! The batch of a lane that takes records.

use std::sync::Arc;

use super::outcome::BatchOutcome;
use super::pace::Pace;
use crate::clock::Timestamp;
use crate::config::{Compression, Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::BatchBuilder;
use crate::format::record::Record;
use crate::partition::{PlainLimit, check_record, check_size};

/// A batch that records are added to.
pub(super) struct OpenBatch {
    pub(super) settings: Arc<TopicSettings>,
    pub(super) builder: BatchBuilder,
    pub(super) outcome: Arc<BatchOutcome>,
    /// The greatest size before compression. A batch of one record may exceed it.
    pub(super) limit: usize,
    /// The greatest size before compression that even a batch of one record may not exceed.
    pub(super) plain_limit: PlainLimit,
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
        let invalid = |reason| Error::InvalidRecord { index: 0, reason };
        check_record(&self.settings, record, self.now).map_err(invalid)?;
        self.builder
            .push(record, self.now)
            .map_err(|malformed| invalid(malformed.0))?;
        if self.builder.record_count() == 1 {
            // A record that is too large even alone is refused now, by the call that sends it.
            self.plain_limit.check(self.builder.len_bytes())?;
            if self.builder.compression() == Compression::None {
                check_size(&self.settings, self.builder.len_bytes())?;
            }
        }
        self.durability = self.durability.max(durability);
        Ok(record.timestamp.map_or(self.now, Timestamp::as_millis))
    }
}
