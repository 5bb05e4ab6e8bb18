//! Appending a batch that was encoded before it got here, perhaps with a producer that vouches for it.
//!
//! The batch is written as an append writes its own. What is different: a batch of a producer is held against what the partition
//! knows of it, so that one that comes twice is written once; and syncing is left to whoever waits for it.

use std::sync::atomic::Ordering;

use super::append::{Appended, check_size};
use super::producer_state::{ProducerStates, SequenceFault};
use super::{PartitionCore, Writer};
use crate::config::{Durability, TimestampType};
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, ProducerStamp, stamp_producer};

/// A batch that was encoded and is yet to get its offsets.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) record_count: u32,
    pub(crate) max_timestamp: i64,
    /// As its header says.
    pub(crate) producer: Option<ProducerStamp>,
}

impl EncodedBatch {
    /// Gives it another epoch or sequence.
    pub(crate) fn set_producer(&mut self, producer: ProducerStamp) {
        stamp_producer(&mut self.bytes, producer);
        self.producer = Some(producer);
    }

    /// The time that the log stamped it with, if its topic is set to that.
    pub(crate) fn append_time(&self) -> Option<i64> {
        let header = BatchHeader::decode(&self.bytes).ok()?;
        (header.timestamp_type() == Some(TimestampType::LogAppendTime)).then_some(header.max_timestamp)
    }

    /// Takes the batch, which has its offsets and is in the file, into the state.
    pub(super) fn note_producer(&self, states: &mut ProducerStates) {
        if self.producer.is_some()
            && let Ok(header) = BatchHeader::decode(&self.bytes)
        {
            let _data_ends_no_transaction = states.replay(&header, None);
        }
    }
}

impl PartitionCore {
    /// Writes the batch, all or nothing, and wakes readers that need not wait for a sync. A batch that its producer has written
    /// already is answered with where it stands, and is not written again.
    ///
    /// # Errors
    /// As of an append; `OutOfOrderSequence` and `ProducerFenced` where the batch does not follow on its producer's last.
    pub(crate) fn append_encoded(&self, encoded: &mut EncodedBatch) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        check_size(&settings, encoded.bytes.len())?;
        let appended = self.write(&settings, encoded)?;
        if !self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        self.note_append(encoded.bytes.len());
        Ok(appended)
    }

    /// Whether what is appended with `durability` is acknowledged only once it is on the device: see
    /// [`sync_appended`](Self::sync_appended).
    pub(crate) fn is_to_be_synced(&self, durability: Durability) -> bool {
        durability == Durability::Synced || self.is_synced_topic.load(Ordering::Relaxed)
    }

    /// Flushes if as many records were appended as `flush.messages` says.
    pub(crate) fn flush_if_due(&self, appended: &Appended) -> Result<()> {
        self.flush_if_many(&self.settings(), appended)
    }

    /// The writer lock is held. Gives where the batch stands, if it is in the log already.
    pub(super) fn check_producer(&self, writer: &mut Writer, encoded: &EncodedBatch) -> Result<Option<Appended>> {
        let Some(producer) = encoded.producer else { return Ok(None) };
        if !writer.producers.knows(producer.id) {
            // Before there is one more.
            writer.producers.forget_expired(self.context.clock.now().as_millis());
            return Ok(None);
        }
        let partition = || self.id().clone();
        match writer.producers.check(&producer, encoded.record_count) {
            Ok(None) => Ok(None),
            Ok(Some(batch)) => {
                let (reopens, truncations) = (self.reopens.load(Ordering::Relaxed), self.truncations());
                Ok(Some(Appended { offsets: batch.offsets, max_timestamp: batch.timestamp, reopens, truncations }))
            }
            Err(SequenceFault::Fenced) => {
                Err(Error::ProducerFenced { partition: partition(), producer_id: producer.id, epoch: producer.epoch })
            }
            Err(SequenceFault::Expected(expected)) => Err(Error::OutOfOrderSequence {
                partition: partition(),
                producer_id: producer.id,
                expected,
                found: producer.sequence,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
