//! What became of a record that was sent.
//!
//! All records of a batch share one [`BatchOutcome`]; a [`Delivery`] is a place in it. It costs a count, and dropping it costs as
//! much: nobody needs to be told that a delivery is not waited for.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::accumulator::ProducerCore;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::partition::{Appended, PartitionCore, RecordMetadata};

/// A batch that is in its partition.
pub(super) struct Written {
    pub(super) partition: Arc<PartitionCore>,
    pub(super) appended: Appended,
    /// The one timestamp of all its records, in a topic that stamps them.
    pub(super) append_time: Option<i64>,
    /// Whether it is acknowledged only once it is on the device.
    pub(super) is_to_be_synced: bool,
}

/// What became of a batch, once it is known.
pub(super) struct BatchOutcome {
    producer: Arc<ProducerCore>,
    /// Where the batch is, or was.
    pub(super) lane: u32,
    result: OnceLock<Result<Written>>,
    /// How many of its deliveries somebody waited on, or is waiting on.
    waited: AtomicU32,
}

impl BatchOutcome {
    pub(super) fn new(producer: Arc<ProducerCore>, lane: u32) -> Self {
        Self { producer, lane, result: OnceLock::new(), waited: AtomicU32::new(0) }
    }

    pub(super) fn is_known(&self) -> bool {
        self.result.get().is_some()
    }

    /// Once.
    pub(super) fn set(&self, result: Result<Written>) {
        let is_first = self.result.set(result).is_ok();
        debug_assert!(is_first, "a batch is written once");
    }

    /// Waits until the batch is on the device, if it was written and that is asked for.
    pub(super) fn sync(&self) -> Result<()> {
        match self.result.get() {
            Some(Ok(written)) if written.is_to_be_synced => written.partition.sync_appended(&written.appended),
            _ => Ok(()),
        }
    }
}

/// Failures of batches that nobody may have waited for.
#[derive(Default)]
pub(super) struct Failures {
    are_there: AtomicBool,
    /// The outcome, how many records share it, and what went wrong.
    outcomes: Mutex<Vec<(Arc<BatchOutcome>, u32, Error)>>,
}

impl Failures {
    pub(super) fn add(&self, outcome: Arc<BatchOutcome>, record_count: u32, error: Error) {
        self.outcomes.lock().push((outcome, record_count, error));
        self.are_there.store(true, Ordering::Release);
    }

    /// The first failure since the last call that not all of its deliveries were waited for.
    #[inline]
    pub(super) fn report(&self) -> Result<()> {
        if self.are_there.load(Ordering::Acquire) { self.report_first() } else { Ok(()) }
    }

    #[cold]
    fn report_first(&self) -> Result<()> {
        let outcomes = {
            let mut outcomes = self.outcomes.lock();
            self.are_there.store(false, Ordering::Release);
            std::mem::take(&mut *outcomes)
        };
        let unheard = outcomes.into_iter().find(|(outcome, count, _)| outcome.waited.load(Ordering::SeqCst) < *count);
        unheard.map_or(Ok(()), |(_, _, error)| Err(error))
    }
}

/// A record on its way. Wait for it, or drop it: what fails and nobody waited for comes out of the next call on the producer.
pub struct Delivery {
    outcome: Arc<BatchOutcome>,
    /// Place in the batch.
    index: u32,
    timestamp: i64,
}

impl Delivery {
    pub(super) fn new(outcome: Arc<BatchOutcome>, index: u32, timestamp: i64) -> Self {
        Self { outcome, index, timestamp }
    }

    /// Waits until the record is written, and in a topic or through a handle that is
    /// [`Synced`](crate::Durability::Synced) until it is on the device. Says where it stands.
    ///
    /// A batch that still lingers is written now, by this thread: those who send meanwhile begin the next one.
    ///
    /// # Errors
    /// As of [`Partition::append`](crate::Partition::append), for the whole batch.
    pub fn wait(self) -> Result<RecordMetadata> {
        let outcome = &self.outcome;
        // Before the outcome is looked at: who reports failures meanwhile knows that this one is heard of.
        outcome.waited.fetch_add(1, Ordering::SeqCst);
        if !outcome.is_known() {
            outcome.producer.settle(outcome);
        }
        let written = match outcome.result.get() {
            Some(Ok(written)) => written,
            Some(Err(error)) => return Err(error.clone()),
            None => return Err(Error::Closed),
        };
        outcome.sync()?;
        Ok(RecordMetadata {
            partition: written.partition.id().partition,
            offset: written.appended.offsets.start + u64::from(self.index),
            timestamp: Timestamp::from_millis(written.append_time.unwrap_or(self.timestamp)),
        })
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("is_known", &self.outcome.is_known()).finish_non_exhaustive()
    }
}
