//! The closed batches of one lane that are not in the partition yet, oldest first.
//!
//! If a batch fails for a reason that may pass, such as a full disk, it stays first and is retried
//! after a pause, until the producer's delivery timeout is over. The batches after it wait, so that
//! records keep their order. A batch keeps its sequence between tries: if an earlier try did reach
//! the file, the partition recognises the batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::open_batch::OpenBatch;
use super::outcome::{BatchOutcome, Written};
use super::sequences::Sequences;
use crate::clock::Deadline;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::BatchBuilder;
use crate::partition::{EncodedBatch, GrowingBatch};

/// Microseconds between two tries: Kafka's `retry.backoff.ms`.
pub(super) const RETRY_US: u64 = 100_000;
/// The same pause as a duration.
pub(super) const RETRY_PAUSE: Duration = Duration::from_micros(RETRY_US);

/// When a batch is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// At once, even if the last try was a moment ago.
    Now,
    /// Only if the pause since the last try is over.
    IfDue,
}

/// The thread that writes a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// A thread of the program. It also flushes if `flush.messages` requires that.
    Caller,
    /// The thread that keeps deadlines. It never waits for the device.
    Timer,
}

/// A batch that takes no more records.
pub(super) struct ClosedBatch {
    pub(super) number: u64,
    pub(super) outcome: Arc<BatchOutcome>,
    pub(super) record_count: u32,
    /// Bytes that the batch takes of the producer's memory.
    pub(super) reserved: u64,
    settings: Arc<TopicSettings>,
    durability: Durability,
    body: Body,
    /// When retries end. Set by the first failure.
    give_up_at: Option<Deadline>,
    cause: Option<Error>,
}

enum Body {
    Built(BatchBuilder),
    /// Encoded and stamped by the first try.
    Encoded(EncodedBatch),
    /// In the partition, or failed while it was encoded.
    Spent,
}

impl ClosedBatch {
    pub(super) fn new(number: u64, open: OpenBatch) -> Self {
        let OpenBatch {
            batch,
            outcome,
            reserved,
            durability,
            ..
        } = open;
        let GrowingBatch {
            settings, builder, ..
        } = batch;
        let record_count = builder.record_count();
        let (body, give_up_at, cause) = (Body::Built(builder), None, None);
        Self {
            number,
            outcome,
            record_count,
            reserved,
            settings,
            durability,
            body,
            give_up_at,
            cause,
        }
    }

    /// Tries to write the batch.
    pub(super) fn append(&mut self, sequences: &mut Sequences, writer: Writer) -> Result<Written> {
        let mut encoded = match std::mem::replace(&mut self.body, Body::Spent) {
            Body::Built(builder) => self.encode(builder, sequences)?,
            Body::Encoded(encoded) => encoded,
            Body::Spent => {
                unreachable!("a batch that was written or failed for good is not tried again")
            }
        };
        let partition = &self.outcome.partition;
        let appended = match partition.append_encoded(&mut encoded) {
            // The partition was truncated, or remembers this producer from a time that we have
            // lost. The lane is the only user of its id, so it decides what comes next.
            Err(Error::OutOfOrderSequence { .. } | Error::ProducerFenced { .. }) => {
                encoded.set_producer(sequences.begin_epoch());
                partition.append_encoded(&mut encoded)
            }
            appended => appended,
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                if matches!(error, Error::Io { .. }) {
                    sequences.note_unsure();
                }
                self.body = Body::Encoded(encoded);
                return Err(error);
            }
        };
        let append_time = encoded.append_time();
        partition.context().buffers.give_back(encoded.bytes);
        sequences.note_written(self.record_count);
        if writer == Writer::Caller {
            partition.flush_if_due(&appended)?;
        }
        let is_to_be_synced = partition.is_to_be_synced(self.durability);
        Ok(Written {
            appended,
            append_time,
            is_to_be_synced,
        })
    }

    fn encode(&self, mut builder: BatchBuilder, sequences: &mut Sequences) -> Result<EncodedBatch> {
        let stamp = sequences.stamp();
        builder.set_producer(stamp);
        let (bytes, header) = builder
            .finish_with_header(&self.settings)
            .map_err(|malformed| self.outcome.partition.cannot_encode(malformed))?;
        Ok(EncodedBatch {
            bytes,
            header,
            producer: Some(stamp),
        })
    }

    /// Returns whether the batch is kept after this error, to be retried for as long as the
    /// delivery timeout allows.
    fn is_kept(&mut self, error: &Error, delivery_timeout: Duration) -> bool {
        if !matches!(self.body, Body::Encoded(_)) || !error.is_retriable() {
            return false;
        }
        self.cause = Some(error.clone());
        !self
            .give_up_at
            .get_or_insert_with(|| Deadline::after(delivery_timeout))
            .has_passed()
    }
}

/// The closed batches of a lane.
#[derive(Default)]
pub(super) struct Backlog {
    batches: VecDeque<ClosedBatch>,
    /// The earliest time of the next retry. Set while the first batch waits for it.
    retry_at: Option<Deadline>,
}

impl Backlog {
    pub(super) fn extend(&mut self, batch: Option<ClosedBatch>) {
        self.batches.extend(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn front(&mut self) -> Option<&mut ClosedBatch> {
        self.batches.front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<ClosedBatch> {
        self.batches.pop_front()
    }

    /// Returns whether the first batch, which failed with this error, is kept to be retried.
    pub(super) fn keeps_first(&mut self, error: &Error, delivery_timeout: Duration) -> bool {
        self.batches
            .front_mut()
            .is_some_and(|first| first.is_kept(error, delivery_timeout))
    }

    /// Starts the pause before the next retry. Returns whether this is the first failure since the
    /// lane last wrote everything.
    pub(super) fn pause(&mut self) -> bool {
        self.retry_at
            .replace(Deadline::after(RETRY_PAUSE))
            .is_none()
    }

    /// Ends the retries. Returns whether there were any.
    pub(super) fn resume(&mut self) -> bool {
        self.retry_at.take().is_some()
    }

    pub(super) fn is_retrying(&self) -> bool {
        self.retry_at.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.retry_at.is_some_and(|at| !at.has_passed())
    }

    /// Returns the reason why the first batch is still here; `None` if the backlog is empty.
    pub(super) fn cause(&self) -> Option<Error> {
        self.batches
            .front()
            .map(|batch| batch.cause.clone().unwrap_or(Error::Closed))
    }
}
