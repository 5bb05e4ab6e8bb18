//! What became of a record that was sent.
//!
//! All records of a batch share one [`BatchOutcome`]; a [`Delivery`] is a place in it. It costs a
//! count, and dropping it costs as much: nobody needs to be told that a delivery is not waited for.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::accumulator::ProducerCore;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::partition::{Appended, PartitionCore, RecordMetadata};
use crate::topic_partition::TopicPartition;

/// A batch that is in its partition.
pub(super) struct Written {
    pub(super) appended: Appended,
    /// The one timestamp of all its records, in a topic that stamps them.
    pub(super) append_time: Option<i64>,
    /// Whether it is acknowledged only once it is on the device.
    pub(super) is_to_be_synced: bool,
}

/// What became of a batch, once it is known.
pub(super) struct BatchOutcome {
    producer: Arc<ProducerCore>,
    pub(super) partition: Arc<PartitionCore>,
    result: OnceLock<Result<Written>>,
    /// How many of its deliveries somebody waited on, or is waiting on.
    waited: AtomicU32,
}

impl BatchOutcome {
    pub(super) fn new(producer: Arc<ProducerCore>, partition: Arc<PartitionCore>) -> Self {
        Self {
            producer,
            partition,
            result: OnceLock::new(),
            waited: AtomicU32::new(0),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.result.get().is_some()
    }

    /// Whether nothing is left to wait for: the batch failed, or is as durable as was asked for.
    fn is_settled(&self) -> bool {
        match self.result.get() {
            Some(Ok(written)) => {
                !written.is_to_be_synced || self.partition.is_sync_settled(&written.appended)
            }
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Once.
    pub(super) fn set(&self, result: Result<Written>) {
        let is_first = self.result.set(result).is_ok();
        debug_assert!(is_first, "a batch is written once");
    }

    /// Waits until the batch is on the device, if it was written and that is asked for.
    pub(super) fn sync(&self) -> Result<()> {
        match self.result.get() {
            Some(Ok(written)) if written.is_to_be_synced => {
                self.partition.sync_appended(&written.appended)
            }
            _ => Ok(()),
        }
    }
}

/// Failures of batches that nobody may have waited for.
#[derive(Default)]
pub(super) struct Failures {
    are_there: AtomicBool,
    failures: Mutex<Vec<Failure>>,
}

struct Failure {
    outcome: Arc<BatchOutcome>,
    record_count: u32,
    error: Error,
}

impl Failure {
    fn partition(&self) -> &TopicPartition {
        self.outcome.partition.id()
    }

    /// How many of its records nobody waited for.
    fn unheard(&self) -> u64 {
        self.record_count
            .saturating_sub(self.outcome.waited.load(Ordering::SeqCst))
            .into()
    }
}

impl Failures {
    pub(super) fn add(&self, outcome: Arc<BatchOutcome>, record_count: u32, error: Error) {
        self.failures.lock().push(Failure {
            outcome,
            record_count,
            error,
        });
        self.are_there.store(true, Ordering::Release);
    }

    /// Reports the failures of one partition since the last call, if there are any whose deliveries
    /// were not all waited for. Those of other partitions are left for the next calls.
    #[inline]
    pub(super) fn report(&self) -> Result<()> {
        if self.are_there.load(Ordering::Acquire) {
            self.report_first()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn report_first(&self) -> Result<()> {
        let mut failures = self.failures.lock();
        failures.retain(|failure| failure.unheard() > 0);
        let first = failures
            .first()
            .map(|first| (first.partition().clone(), first.error.clone()));
        let mut records = 0;
        if let Some((partition, _)) = &first {
            failures.retain(|failure| {
                let is_other = failure.partition() != partition;
                records += if is_other { 0 } else { failure.unheard() };
                is_other
            });
        }
        self.are_there
            .store(!failures.is_empty(), Ordering::Release);
        drop(failures);
        first.map_or(Ok(()), |(partition, cause)| {
            Err(Error::NotAcknowledged {
                partition,
                records,
                cause: Arc::new(cause),
            })
        })
    }
}

/// A record on its way. Wait for it or drop it: the producer's next call reports a failure that no
/// delivery was waited for.
pub struct Delivery {
    outcome: Arc<BatchOutcome>,
    /// Place in the batch.
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

    /// Waits until the record is written, and in a topic or through a handle that is
    /// [`Synced`](crate::Durability::Synced) until it is on the device. Returns its partition,
    /// offset and timestamp.
    ///
    /// A batch that still lingers is written now, by this thread: threads that send in the meantime
    /// begin the next one. While the disk is full this waits for room, for the producer's
    /// [`delivery_timeout`](crate::ProducerConfig::delivery_timeout) at most.
    ///
    /// # Errors
    /// As of [`Partition::append`](crate::Partition::append), for the whole batch.
    pub fn wait(mut self) -> Result<RecordMetadata> {
        self.count();
        if !self.outcome.is_known() {
            self.outcome.producer.settle(&self.outcome);
        }
        self.outcome.sync()?;
        self.metadata().unwrap_or(Err(Error::Closed))
    }

    /// Returns what [`wait`](Self::wait) would, or `None` if it would have to wait. Never blocks
    /// and writes nothing.
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
    /// As of [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<RecordMetadata>> {
        if !self.outcome.is_settled() {
            return Ok(None);
        }
        self.count();
        self.outcome.sync()?;
        self.metadata().transpose()
    }

    /// Tells the batch that this delivery hears of its outcome. Comes before the look at the
    /// outcome: a thread that reports failures then knows.
    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_waited_for, true) {
            self.outcome.waited.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn metadata(&self) -> Option<Result<RecordMetadata>> {
        let written = self.outcome.result.get()?;
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
