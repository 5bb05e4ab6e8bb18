//! Selects the batches that a reader of committed data receives: all except control batches and
//! those of aborted transactions.
//!
//! The filter follows the batches in order and takes the aborted transactions from the transaction
//! index. It does not see open transactions: a reader of committed data ends at the last stable
//! offset, before the first of them.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec;

use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::index_entry::AbortedTransaction;

/// Separates the batches of aborted transactions from the others, on one pass through the log.
#[derive(Debug)]
pub(crate) struct TransactionFilter {
    /// Aborted transactions that start after the batches seen so far, by first offset.
    to_come: Peekable<vec::IntoIter<AbortedTransaction>>,
    /// Offset of the ABORT marker that is still to come, by producer id.
    aborting: HashMap<i64, u64>,
}

impl TransactionFilter {
    /// Creates a filter. `aborted` holds all aborted transactions that reach into the part to be
    /// read, in any order.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Self {
            to_come: aborted.into_iter().peekable(),
            aborting: HashMap::new(),
        }
    }

    /// Returns whether the records of the next batch are to be delivered.
    ///
    /// The caller passes every batch in order, control batches included: they are never delivered.
    /// `control` is the content of their record, if the record is there and known.
    pub(crate) fn delivers(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> bool {
        if !header.has_producer() {
            return !header.is_control();
        }
        while let Some(transaction) = self
            .to_come
            .next_if(|transaction| transaction.first_offset <= header.last_offset)
        {
            self.aborting
                .insert(transaction.producer_id, transaction.last_offset);
        }
        if header.is_control() {
            if let Some(ControlRecord::Abort { .. }) = control {
                self.aborting.remove(&header.producer_id);
            }
            return false;
        }
        // A transaction ends at the offset of its marker, even if compaction has removed the
        // marker.
        let is_aborted = self
            .aborting
            .get(&header.producer_id)
            .is_some_and(|marker| header.base_offset < *marker);
        !(header.is_transactional() && is_aborted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::partition::state::producers::ProducerStates;
    use crate::partition::state::producers::tests::{ABORT, COMMIT, control, plain, transactional};

    type Batch = (BatchHeader, Option<ControlRecord>);

    fn aborted(producer_id: i64, first_offset: u64, last_offset: u64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        }
    }

    /// Returns the base offsets of the batches that are delivered.
    fn delivered(aborted: Vec<AbortedTransaction>, batches: &[Batch]) -> Vec<u64> {
        let mut filter = TransactionFilter::new(aborted);
        let delivered = batches
            .iter()
            .filter(|(header, control)| filter.delivers(header, *control));
        delivered.map(|(header, _)| header.base_offset).collect()
    }

    #[test]
    fn overlapping_transactions_are_filtered_independently() {
        let batches = [
            (transactional(1, 0..=4), None),
            (transactional(2, 5..=5), None),
            (plain(-1, 6..=6), None),
            (transactional(3, 7..=8), None),
            (transactional(1, 9..=9), None),
            (control(1, 10), ABORT),
            (transactional(1, 11..=11), None),
            (transactional(2, 12..=14), None),
            (control(3, 15), COMMIT),
            (control(2, 16), ABORT),
            (control(1, 17), COMMIT),
        ];
        assert_eq!(
            delivered(vec![aborted(2, 5, 16), aborted(1, 0, 10)], &batches),
            [6, 7, 11]
        );
        assert_eq!(delivered(vec![], &batches), [0, 5, 6, 7, 9, 11, 12]);
    }

    #[test]
    fn reading_may_start_within_a_transaction() {
        let batches = [
            (transactional(1, 5..=9), None),
            (control(1, 10), ABORT),
            (transactional(1, 11..=12), None),
        ];
        assert_eq!(
            delivered(vec![aborted(1, 0, 10), aborted(1, 13, 20)], &batches),
            [11]
        );
    }

    #[test]
    fn only_transactional_data_of_the_aborted_producer_is_skipped() {
        let batches = [
            (transactional(1, 0..=0), None),
            (plain(1, 1..=1), None),
            (transactional(2, 2..=2), None),
        ];
        assert_eq!(delivered(vec![aborted(1, 0, 9)], &batches), [1, 2]);
    }

    #[test]
    fn a_marker_matches_by_producer_id_alone() {
        let next_epoch = |header| BatchHeader {
            producer_epoch: 1,
            ..header
        };
        let batches = [
            (transactional(1, 0..=1), None),
            (next_epoch(control(1, 2)), ABORT),
            (next_epoch(transactional(1, 3..=3)), None),
            (next_epoch(transactional(1, 4..=4)), None),
        ];
        assert_eq!(delivered(vec![aborted(1, 0, 2)], &batches), [3, 4]);
    }

    #[test]
    fn a_transaction_ends_at_its_markers_offset_even_if_the_marker_is_gone() {
        for end in [
            None,
            Some((
                BatchHeader {
                    record_count: 0,
                    ..control(1, 2)
                },
                None,
            )),
        ] {
            let batches: Vec<Batch> = [(transactional(1, 0..=1), None)]
                .into_iter()
                .chain(end)
                .chain([(transactional(1, 3..=3), None), (control(1, 4), COMMIT)])
                .collect();
            assert_eq!(delivered(vec![aborted(1, 0, 2)], &batches), [3]);
        }
    }

    #[test]
    fn control_batches_are_never_delivered() {
        let batches = [
            (control(-1, 0), Some(ControlRecord::Other(2))),
            (control(1, 1), None),
            (control(1, 2), COMMIT),
            (control(1, 3), ABORT),
        ];
        assert_eq!(delivered(vec![], &batches), [0; 0]);
    }

    /// Builds a log from the steps of producers. A step is plain data (kind 0), the end of the
    /// producer's transaction (1 and 2), or data in a transaction.
    fn log_of(steps: &[(i64, u8, u64)]) -> Vec<Batch> {
        let mut next = 0;
        let batch = |&(producer_id, kind, records): &(i64, u8, u64)| {
            let base = next;
            next += if kind == 1 || kind == 2 { 1 } else { records };
            match kind {
                0 => (plain(-1, base..=next - 1), None),
                1 => (control(producer_id, base), ABORT),
                2 => (control(producer_id, base), COMMIT),
                _ => (transactional(producer_id, base..=next - 1), None),
            }
        };
        steps.iter().map(batch).collect()
    }

    /// Returns how the transaction that holds batch `number` ends, if it does.
    fn end_of(log: &[Batch], number: usize) -> Option<ControlRecord> {
        let producer_id = log[number].0.producer_id;
        log[number..]
            .iter()
            .find(|(header, _)| header.is_control() && header.producer_id == producer_id)?
            .1
    }

    proptest! {
        #[test]
        fn the_filter_agrees_with_a_reader_that_knows_how_each_transaction_ends(
            steps in prop::collection::vec((0..4_i64, 0..6_u8, 1..4_u64), 1..60),
            start: prop::sample::Index,
            snapshot: prop::sample::Index,
        ) {
            let log = log_of(&steps);
            let (start, snapshot) = (start.index(log.len()), snapshot.index(log.len()));
            let mut states = ProducerStates::default();
            let mut transactions = Vec::new();
            for (number, (header, control)) in log.iter().enumerate() {
                if number == snapshot {
                    states = ProducerStates::from_snapshot(states.entries());
                }
                let transaction = states.replay(header, *control);
                let stable = states.first_unstable_offset().unwrap_or(header.last_offset + 1);
                prop_assert!(transaction.is_none_or(|ended| ended.last_stable_offset == stable));
                transactions.extend(transaction);
            }
            let is_open = |number: &usize| log[*number].0.is_transactional() && end_of(&log, *number).is_none();
            let first_open = (0..log.len()).find(is_open);
            prop_assert_eq!(states.first_unstable_offset(), first_open.map(|number| log[number].0.base_offset));

            let end = first_open.unwrap_or(log.len()).max(start);
            transactions.retain(|transaction| transaction.last_offset >= log[start].0.base_offset);
            transactions.reverse();
            let committed = |number: &usize| {
                let header = &log[*number].0;
                !header.is_control() && (!header.is_transactional() || end_of(&log, *number) == COMMIT)
            };
            let expected: Vec<_> = (start..end).filter(committed).map(|number| log[number].0.base_offset).collect();
            prop_assert_eq!(delivered(transactions, &log[start..end]), expected);
        }
    }
}
