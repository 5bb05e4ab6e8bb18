//! What a partition knows of the producers that wrote into it: the last batch of each, and its open
//! transaction.
//!
//! The state is what a `.snapshot` file stores, and what replaying the batches behind a snapshot
//! makes of it: the same as replaying the whole log. A transaction is open from its first batch to
//! its marker; the earliest open one bounds what readers of committed data see. Where the state
//! comes from and when it is stored is left to the partition. Replaying refuses nothing: a batch
//! that lies in the log has been taken. What is yet to be appended is held against the state in
//! [`sequence`].

use std::collections::{BTreeMap, BTreeSet};

use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::index_entry::AbortedTransaction;
use crate::format::producer_snapshot::ProducerEntry;

mod sequence;
#[cfg(test)]
pub(in crate::partition) mod tests;

use sequence::RecentBatches;
pub(in crate::partition) use sequence::SequenceFault;

/// The producers of one partition, as of some offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerStates {
    by_id: BTreeMap<i64, ProducerEntry>,
    /// Of those in `by_id`: what may come again.
    recent: BTreeMap<i64, RecentBatches>,
    /// First offset and producer of every open transaction: exactly those in `by_id`.
    open_transactions: BTreeSet<(u64, i64)>,
}

impl ProducerStates {
    /// The state that a snapshot stores.
    pub(crate) fn from_snapshot(entries: Vec<ProducerEntry>) -> Self {
        let by_id: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (entry.producer_id, entry))
            .collect();
        let first_offset = |entry: &ProducerEntry| {
            Some((entry.current_transaction_first_offset?, entry.producer_id))
        };
        let open_transactions = by_id.values().filter_map(first_offset).collect();
        let recent = by_id
            .iter()
            .map(|(id, entry)| (*id, RecentBatches::of(entry)))
            .collect();
        Self {
            by_id,
            recent,
            open_transactions,
        }
    }

    /// Takes in the next batch of the log. `control` is what the record of a control batch says;
    /// `None` there, for one that is empty (compacted) or unknown, is no marker.
    ///
    /// Gives the transaction that an ABORT marker ended, for the transaction index.
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Option<AbortedTransaction> {
        // A group coordinator of Kafka writes a sequence without a producer: no state.
        if !header.has_producer() {
            return None;
        }
        if !header.is_control() {
            self.take_data(header);
            return None;
        }
        match control? {
            ControlRecord::Abort { coordinator_epoch } => {
                let first_offset = self.take_marker(header, coordinator_epoch)?;
                let last_stable_offset = self
                    .first_unstable_offset()
                    .unwrap_or(header.base_offset + 1);
                let (producer_id, last_offset) = (header.producer_id, header.base_offset);
                Some(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset,
                })
            }
            ControlRecord::Commit { coordinator_epoch } => {
                self.take_marker(header, coordinator_epoch);
                None
            }
            ControlRecord::Other(_) => None,
        }
    }

    /// The open transactions, with an end behind everything.
    pub(crate) fn open_transactions(&self) -> impl Iterator<Item = AbortedTransaction> {
        self.open_transactions
            .iter()
            .map(|(first_offset, producer_id)| AbortedTransaction {
                producer_id: *producer_id,
                first_offset: *first_offset,
                last_offset: u64::MAX,
                last_stable_offset: *first_offset,
            })
    }

    /// First offset of the earliest open transaction. It may lie below the log start offset, if
    /// records of the transaction were deleted.
    pub(crate) fn first_unstable_offset(&self) -> Option<u64> {
        self.open_transactions
            .first()
            .map(|(first_offset, _)| *first_offset)
    }

    /// Whether no producer is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What a snapshot is to store, by producer id.
    pub(crate) fn entries(&self) -> Vec<ProducerEntry> {
        self.by_id.values().copied().collect()
    }

    fn take_data(&mut self, header: &BatchHeader) {
        let recent = self.recent.entry(header.producer_id).or_default();
        recent.take(header);
        let entry = entry_of_epoch(&mut self.by_id, header);
        entry.last_sequence = header.last_sequence();
        entry.last_offset = header.last_offset.cast_signed();
        entry.offset_delta =
            i32::try_from(header.last_offset - header.base_offset).unwrap_or(i32::MAX);
        if header.is_transactional() && entry.current_transaction_first_offset.is_none() {
            entry.current_transaction_first_offset = Some(header.base_offset);
            self.open_transactions
                .insert((header.base_offset, header.producer_id));
        }
    }

    /// Ends the producer's transaction and gives its first offset. The marker matches by producer
    /// id alone: it may come with an epoch one higher than that of the data.
    fn take_marker(&mut self, header: &BatchHeader, coordinator_epoch: i32) -> Option<u64> {
        let entry = entry_of_epoch(&mut self.by_id, header);
        entry.coordinator_epoch = coordinator_epoch;
        let first_offset = entry.current_transaction_first_offset.take()?;
        self.open_transactions
            .remove(&(first_offset, header.producer_id));
        Some(first_offset)
    }
}

/// The entry of the batch's producer, brought to the batch's epoch and time. In a new epoch no
/// batch is known; a transaction stays open.
fn entry_of_epoch<'a>(
    by_id: &'a mut BTreeMap<i64, ProducerEntry>,
    header: &BatchHeader,
) -> &'a mut ProducerEntry {
    let unknown = ProducerEntry {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        last_sequence: -1,
        last_offset: -1,
        offset_delta: 0,
        timestamp: header.max_timestamp,
        coordinator_epoch: -1,
        current_transaction_first_offset: None,
    };
    let entry = by_id.entry(header.producer_id).or_insert(unknown);
    if entry.producer_epoch != header.producer_epoch {
        *entry = ProducerEntry {
            coordinator_epoch: entry.coordinator_epoch,
            current_transaction_first_offset: entry.current_transaction_first_offset,
            ..unknown
        };
    }
    entry.timestamp = header.max_timestamp;
    entry
}
