//! Ends the transaction of a producer with a marker.

use std::sync::atomic::Ordering;

use super::append::Appended;
use super::encode::EncodedBatch;
use crate::config::Compression;
use crate::error::Result;
use crate::format::batch::{BatchBuilder, ProducerStamp};
use crate::format::control::ControlRecord;
use crate::format::record::Record;
use crate::partition::{PartitionCore, Writer};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
}

/// The marker that ends a transaction of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) outcome: Outcome,
    /// The leader epoch of the partition that stores the state of the transaction.
    pub(crate) coordinator_epoch: i32,
}

/// A transaction that has records in a partition and no marker yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// The offset of its first record.
    pub(crate) first_offset: u64,
    /// The greatest timestamp of its last batch, in milliseconds.
    pub(crate) last_timestamp: i64,
}

impl PartitionCore {
    /// Appends a marker if the producer has an open transaction that began below `end`. Returns
    /// `None`, and appends nothing, if it has none: the marker is already there, or the
    /// producer wrote nothing here.
    ///
    /// Takes no lock but the writer's, so that a caller may hold locks of the groups. Does not
    /// sync.
    pub(crate) fn append_marker(&self, marker: &Marker, end: u64) -> Result<Option<Appended>> {
        let appended = {
            let mut writer = self.lock_to_append();
            self.check_writable()?;
            match writer.producers.open_transaction_of(marker.producer_id) {
                Some(first) if first < end => {
                    let mut encoded = self.encode_marker(marker)?;
                    let appended = self.write_at_end(&mut writer, &mut encoded);
                    self.context.buffers.give_back(encoded.bytes);
                    Some(appended?)
                }
                _ => None,
            }
        };
        if !self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        Ok(appended)
    }

    /// Encodes markers as the batches from `end` on.
    pub(in crate::partition) fn encode_markers(
        &self,
        writer: &Writer,
        markers: &[Marker],
        end: u64,
    ) -> Result<Vec<EncodedBatch>> {
        let encoded = markers.iter().zip(end..).map(|(marker, offset)| {
            let mut encoded = self.encode_marker(marker)?;
            self.stamp_time(writer, &mut encoded);
            encoded.stamp(offset, writer.leader_epoch);
            Ok(encoded)
        });
        encoded.collect()
    }

    fn encode_marker(&self, marker: &Marker) -> Result<EncodedBatch> {
        let settings = self.settings();
        let now = self.context.clock.now();
        let control = match marker.outcome {
            Outcome::Committed => ControlRecord::Commit {
                coordinator_epoch: marker.coordinator_epoch,
            },
            Outcome::Aborted => ControlRecord::Abort {
                coordinator_epoch: marker.coordinator_epoch,
            },
        };
        let Some((key, value)) = control.encode() else {
            unreachable!("the end of a transaction has a marker")
        };
        let producer = ProducerStamp {
            id: marker.producer_id,
            epoch: marker.producer_epoch,
            sequence: -1,
        };
        let mut builder = BatchBuilder::new(self.context.buffers.take(), Compression::None);
        builder.set_producer(producer);
        builder.set_marker();
        builder
            .push(&Record::new(value).key(key), now.as_millis().max(0))
            .map_err(|malformed| self.cannot_encode(malformed))?;
        let (bytes, header) = builder
            .finish_with_header(&settings)
            .map_err(|malformed| self.cannot_encode(malformed))?;
        Ok(EncodedBatch {
            bytes,
            header,
            producer: Some(producer),
        })
    }

    /// Returns whether the producer has an open transaction that began below `end`.
    pub(crate) fn has_open_transaction_below(&self, producer_id: i64, end: u64) -> bool {
        self.writer
            .lock()
            .producers
            .open_transaction_of(producer_id)
            .is_some_and(|first| first < end)
    }

    /// Returns the transactions that have no marker yet, by their first offset.
    pub(crate) fn unended_transactions(&self) -> Vec<OpenTransaction> {
        if !self.bounds.has_open_transaction() {
            return Vec::new();
        }
        let writer = self.writer.lock();
        let entries = writer.producers.with_open_transaction();
        entries
            .filter_map(|entry| {
                Some(OpenTransaction {
                    producer_id: entry.producer_id,
                    producer_epoch: entry.producer_epoch,
                    first_offset: entry.current_transaction_first_offset?,
                    last_timestamp: entry.timestamp,
                })
            })
            .collect()
    }
}
