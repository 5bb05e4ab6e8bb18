//! The delivery of one record that was sent.
//!
//! All records of a batch share one [`BatchOutcome`]; a [`Delivery`] is an index into it. Creating
//! or dropping a delivery costs no more than counting a reference, because the batch counts only
//! the deliveries that are waited for.

use std::sync::Arc;

use super::outcome::BatchOutcome;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::partition::RecordMetadata;

/// A record on its way to its partition.
///
/// Wait for it to learn where the record was written, or drop it. If the write of a batch fails,
/// the producer's next call reports how many of its records were lost and not waited for.
pub struct Delivery {
    outcome: Arc<BatchOutcome>,
    /// Index of the record in its batch.
    index: u32,
    timestamp: i64,
    /// Whether the batch counts this delivery as waited for.
    is_waited_for: bool,
}

impl Delivery {
    pub(super) fn new(outcome: Arc<BatchOutcome>, index: u32, timestamp: i64) -> Self {
        Self {
            outcome,
            index,
            timestamp,
            is_waited_for: false,
        }
    }

    /// Waits until the record is written, and returns its partition, offset and timestamp.
    ///
    /// If the record was sent to a topic or through a handle that is
    /// [`Synced`](crate::Durability::Synced), this also waits until it is on the device.
    ///
    /// A batch that still lingers is written now, by this thread; threads that send in the meantime
    /// begin the next one. While the disk is full, this waits for room, at most for the producer's
    /// [`delivery_timeout`](crate::ProducerConfig::delivery_timeout).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Partition::append`](crate::Partition::append), for the whole batch.
    pub fn wait(mut self) -> Result<RecordMetadata> {
        self.count();
        self.outcome.settle();
        self.outcome.sync()?;
        self.metadata().unwrap_or(Err(Error::Closed))
    }

    /// Returns the result of [`wait`](Self::wait), or `None` if that would have to wait. Never
    /// blocks, and writes no batch.
    ///
    /// ```
    /// # use annals::{Log, ProducerConfig, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// let clicks = log.open_topic("clicks", 1, TopicConfig::new())?;
    /// let producer = log.producer()?;
    /// let mut delivery = producer.send(&clicks, "/cart")?;
    /// producer.flush()?;
    /// let written = delivery.try_wait()?.expect("a flush writes it");
    /// assert_eq!(written.offset, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<RecordMetadata>> {
        if !self.outcome.is_settled() {
            return Ok(None);
        }
        self.count();
        self.outcome.sync()?;
        self.metadata().transpose()
    }

    /// Counts this delivery as waited for, once. Must happen before the outcome is read, so that a
    /// thread that reports failures does not report this record a second time.
    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_waited_for, true) {
            self.outcome.count_waited();
        }
    }

    fn metadata(&self) -> Option<Result<RecordMetadata>> {
        let written = self.outcome.result()?;
        Some(
            written
                .as_ref()
                .map_err(Error::clone)
                .map(|written| RecordMetadata {
                    partition: self.outcome.partition.id().partition,
                    offset: written.appended.offsets.start + u64::from(self.index),
                    timestamp: Timestamp::from_millis(
                        written.append_time.unwrap_or(self.timestamp),
                    ),
                }),
        )
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("is_known", &self.outcome.is_known())
            .finish_non_exhaustive()
    }
}
