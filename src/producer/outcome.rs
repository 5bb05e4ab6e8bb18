//! The outcome of each batch, shared by the deliveries of its records.
//!
//! A failure is reported once: by the deliveries that wait for it, or else by the producer's next
//! call, through [`Failures`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::partition::{Appended, PartitionCore};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

/// A batch that is in its partition.
pub(super) struct Written {
    pub(super) appended: Appended,
    /// The one timestamp of all its records, in a topic that stamps records itself.
    pub(super) append_time: Option<i64>,
    /// Whether the batch is acknowledged only once it is on the device.
    pub(super) is_to_be_synced: bool,
}

/// The producer of a batch, as a thread that waits for the outcome needs it.
pub(super) trait Settle: Send + Sync {
    /// Writes the batch, unless that is done, and waits until its outcome is known.
    fn settle(&self, outcome: &BatchOutcome);
}

/// The outcome of one batch, once it is known.
pub(super) struct BatchOutcome {
    producer: Arc<dyn Settle>,
    pub(super) partition: Arc<PartitionCore>,
    result: OnceLock<Result<Written>>,
    /// How many of the batch's deliveries have been waited for, or are being waited for.
    waited: AtomicU32,
}

impl BatchOutcome {
    pub(super) fn new(producer: Arc<dyn Settle>, partition: Arc<PartitionCore>) -> Self {
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

    /// Returns the outcome; `None` until it is known.
    pub(super) fn result(&self) -> Option<&Result<Written>> {
        self.result.get()
    }

    /// Waits until the outcome is known, and writes the batch if no other thread does.
    pub(super) fn settle(&self) {
        if !self.is_known() {
            self.producer.settle(self);
        }
    }

    /// Returns whether a wait would end at once: the batch failed, or is as durable as requested.
    pub(super) fn is_settled(&self) -> bool {
        match self.result.get() {
            Some(Ok(written)) => {
                !written.is_to_be_synced || self.partition.is_sync_settled(&written.appended)
            }
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Sets the outcome. Called once for each batch.
    pub(super) fn set(&self, result: Result<Written>) {
        let is_first = self.result.set(result).is_ok();
        debug_assert!(is_first, "the outcome of a batch is set once");
    }

    /// Waits until the batch is on the device, if it was written and is to be synced.
    pub(super) fn sync(&self) -> Result<()> {
        match self.result.get() {
            Some(Ok(written)) if written.is_to_be_synced => {
                self.partition.sync_appended(&written.appended)
            }
            _ => Ok(()),
        }
    }

    /// Counts one more delivery that is waited for.
    pub(super) fn count_waited(&self) {
        self.waited.fetch_add(1, Ordering::SeqCst);
    }
}

/// Failed batches with deliveries that may not have been waited for.
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

    /// Returns how many records of the batch were not waited for.
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

    /// Reports the failures of one partition since the last call, if some of their deliveries were
    /// not waited for. Later calls report the failures of other partitions.
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
