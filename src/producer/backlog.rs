//! The batches of one partition that are closed and not in the partition yet, oldest first.
//!
//! A batch that fails for a reason that may pass, such as a full disk, stays first and is tried
//! again after a pause, until the producer's delivery timeout is over; the batches after it wait,
//! so that records keep their order. The batch keeps its sequence between the tries: should an
//! earlier try have reached the file, the partition recognises the batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::delivery::{BatchOutcome, Written};
use super::lane::{OpenBatch, Writer};
use super::producer_id;
use crate::clock::Deadline;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{BatchBuilder, ProducerStamp, sequence_after};
use crate::partition::EncodedBatch;

/// Time between two tries: Kafka's `retry.backoff.ms`.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);
pub(super) const RETRY_US: u64 = 100_000;

/// Whether a batch is tried again at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    Now,
    /// Only after the pause since the last try.
    IfDue,
}

/// The stamp of the next batch.
pub(super) struct Sequences {
    next: ProducerStamp,
    /// The partition may or may not hold a batch that was given up: the next one must not be taken
    /// for it.
    is_unsure: bool,
}

impl Sequences {
    pub(super) fn new(producer_id: i64) -> Self {
        Self {
            next: ProducerStamp {
                id: producer_id,
                epoch: 0,
                sequence: 0,
            },
            is_unsure: false,
        }
    }

    /// Jumps to an epoch. Returns the producer's id and the epoch before.
    #[cfg(test)]
    pub(super) fn set_epoch(&mut self, epoch: i16) -> (i64, i16) {
        (self.next.id, std::mem::replace(&mut self.next.epoch, epoch))
    }

    /// Starts a new epoch, whose sequences begin at 0 whatever the partition remembers of older
    /// ones.
    fn begin_epoch(&mut self) {
        self.next = match self.next.epoch.checked_add(1) {
            Some(epoch) => ProducerStamp {
                epoch,
                sequence: 0,
                ..self.next
            },
            None => ProducerStamp {
                id: producer_id(),
                epoch: 0,
                sequence: 0,
            },
        };
        self.is_unsure = false;
    }
}

/// A batch that takes no more records.
pub(super) struct ClosedBatch {
    pub(super) number: u64,
    pub(super) outcome: Arc<BatchOutcome>,
    pub(super) record_count: u32,
    /// Bytes of the producer's memory.
    pub(super) reserved: u64,
    settings: Arc<TopicSettings>,
    durability: Durability,
    body: Body,
    /// When to stop trying: set by the first failure.
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
    pub(super) fn new(number: u64, batch: OpenBatch) -> Self {
        let OpenBatch {
            settings,
            builder,
            outcome,
            reserved,
            durability,
            ..
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
            // It was truncated, or knows this producer from a time that we have lost: it is ours to
            // say what comes next.
            Err(Error::OutOfOrderSequence { .. } | Error::ProducerFenced { .. }) => {
                sequences.begin_epoch();
                encoded.set_producer(sequences.next);
                partition.append_encoded(&mut encoded)
            }
            appended => appended,
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                sequences.is_unsure |= matches!(error, Error::Io { .. });
                self.body = Body::Encoded(encoded);
                return Err(error);
            }
        };
        let append_time = encoded.append_time();
        partition.context().buffers.give_back(encoded.bytes);
        sequences.is_unsure = false;
        sequences.next.sequence = sequence_after(sequences.next.sequence, self.record_count);
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
        if sequences.is_unsure {
            sequences.begin_epoch();
        }
        builder.set_producer(sequences.next);
        let max_timestamp = builder.max_timestamp();
        let bytes = builder
            .finish(&self.settings)
            .map_err(|malformed| self.outcome.partition.cannot_encode(malformed))?;
        Ok(EncodedBatch {
            bytes,
            record_count: self.record_count,
            max_timestamp,
            producer: Some(sequences.next),
        })
    }

    /// Whether the batch is kept after this error, to be tried again for as long as the delivery
    /// timeout allows.
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
    /// While the first batch waits to be tried again: not before this.
    retry_at: Option<Deadline>,
}

impl Backlog {
    pub(super) fn extend(&mut self, batch: Option<ClosedBatch>) {
        self.batches.extend(batch);
    }

    pub(super) fn front(&mut self) -> Option<&mut ClosedBatch> {
        self.batches.front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<ClosedBatch> {
        self.batches.pop_front()
    }

    /// Whether the first batch, which failed with this error, is kept to be tried again.
    pub(super) fn keeps_first(&mut self, error: &Error, delivery_timeout: Duration) -> bool {
        self.batches
            .front_mut()
            .is_some_and(|first| first.is_kept(error, delivery_timeout))
    }

    /// Puts the next try off. Returns whether this is the first one that failed.
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

    /// Why the first batch is still here; `None` if there is none.
    pub(super) fn cause(&self) -> Option<Error> {
        self.batches
            .front()
            .map(|batch| batch.cause.clone().unwrap_or(Error::Closed))
    }
}

/// The retries that are under way in all lanes of a producer.
#[derive(Default)]
pub(super) struct Retries(Mutex<(usize, Option<Error>)>);

impl Retries {
    /// A lane begins to try again because of this error.
    pub(super) fn begin(&self, error: &Error) {
        let mut retries = self.0.lock();
        retries.0 += 1;
        retries.1 = Some(error.clone());
    }

    /// A lane has written, or given up, all that it tried again.
    pub(super) fn end(&self) {
        let mut retries = self.0.lock();
        retries.0 -= 1;
    }

    /// The last error that a lane tries again for, while any does.
    pub(super) fn cause(&self) -> Option<Error> {
        let retries = self.0.lock();
        retries.1.clone().filter(|_| retries.0 > 0)
    }
}
