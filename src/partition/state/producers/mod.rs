//! The producers that wrote into a partition: the last batch of each, and its open transaction.
//!
//! A `.snapshot` file stores this state. Replaying the batches after a snapshot leads to the same
//! state as replaying the whole log. A transaction is open from its first batch to its marker; the
//! earliest open one bounds what readers of committed data see. The partition decides where the
//! state comes from and when it is stored. Replaying refuses no batch: a batch in the log has been
//! accepted. Batches that are yet to be appended are checked against the state in [`sequence`].

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
    /// The batches of each producer in `by_id` that may be sent again.
    recent: BTreeMap<i64, RecentBatches>,
    /// First offset and producer of every open transaction: exactly those in `by_id`.
    open_transactions: BTreeSet<(u64, i64)>,
}

impl ProducerStates {
    /// Creates the state that a snapshot stores.
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

    /// Returns the state of these producers, without the others.
    pub(in crate::partition) fn only(&self, ids: &[i64]) -> Self {
        let mut only = Self::default();
        for id in ids {
            if let Some(entry) = self.by_id.get(id) {
                only.by_id.insert(*id, *entry);
            }
            if let Some(recent) = self.recent.get(id) {
                only.recent.insert(*id, recent.clone());
            }
        }
        let first_offset =
            |(first, id): &&(u64, i64)| only.by_id.contains_key(id).then_some((*first, *id));
        only.open_transactions = self
            .open_transactions
            .iter()
            .filter_map(|open| first_offset(&open))
            .collect();
        only
    }

    /// Takes in the next batch of the log. `control` is the content of a control batch's record. It
    /// is `None` if the batch is empty (compacted) or unknown; such a batch is not a marker.
    ///
    /// Returns the transaction that an ABORT marker ended, for the transaction index.
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Option<AbortedTransaction> {
        // A group coordinator of Kafka writes a sequence without a producer. Such a batch has no
        // state.
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

    /// Returns the open transactions, each with an end after every batch.
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

    /// Returns the entry of each producer that has an open transaction.
    pub(in crate::partition) fn with_open_transaction(
        &self,
    ) -> impl Iterator<Item = &ProducerEntry> {
        self.open_transactions
            .iter()
            .filter_map(|(_, producer_id)| self.by_id.get(producer_id))
    }

    /// Returns the first offset of the producer's open transaction, if it has one.
    pub(in crate::partition) fn open_transaction_of(&self, producer_id: i64) -> Option<u64> {
        self.by_id
            .get(&producer_id)?
            .current_transaction_first_offset
    }

    /// Returns the first offset of the earliest open transaction. It may be below the log start
    /// offset, if records of the transaction were deleted.
    pub(crate) fn first_unstable_offset(&self) -> Option<u64> {
        self.open_transactions
            .first()
            .map(|(first_offset, _)| *first_offset)
    }

    /// Returns whether no producer is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the entries for a snapshot, by producer id.
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

    /// Ends the producer's transaction and returns its first offset. The marker matches by producer
    /// id alone: its epoch may be one higher than that of the data.
    fn take_marker(&mut self, header: &BatchHeader, coordinator_epoch: i32) -> Option<u64> {
        let entry = entry_of_epoch(&mut self.by_id, header);
        entry.coordinator_epoch = coordinator_epoch;
        let first_offset = entry.current_transaction_first_offset.take()?;
        self.open_transactions
            .remove(&(first_offset, header.producer_id));
        Some(first_offset)
    }
}

/// Returns the entry of the batch's producer, brought to the batch's epoch and time. In a new epoch
/// no batch is known, but an open transaction stays open.
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
