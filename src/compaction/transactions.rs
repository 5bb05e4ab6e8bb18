//! Decides which batches of transactions compaction may drop, while it reads a log in order.
//!
//! Data of an aborted transaction is dropped at once. A marker is kept as long as a batch of its
//! transaction is in the log, even if only its header is left. In the first pass that finds no such
//! batch, the marker gets its delete horizon; it is dropped after that time. The entry of an
//! aborted transaction stays in the transaction index as long as its marker is needed.
//!
//! Follows Kafka's `CleanedTransactionMetadata`, rule by rule.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::index_entry::AbortedTransaction;

/// An aborted transaction that has begun, and whose marker the walk has not reached yet.
#[derive(Debug)]
struct Ongoing {
    transaction: AbortedTransaction,
    /// Whether the walk has seen a batch of it.
    has_data: bool,
}

/// The transactions that a walk over the log has seen so far.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted transactions that have not begun yet, by first offset.
    to_come: VecDeque<AbortedTransaction>,
    /// Aborted transactions that have begun, by producer.
    aborted: HashMap<i64, Ongoing>,
    /// Producers with data in a transaction that is not aborted.
    committed: HashSet<i64>,
}

impl Transactions {
    /// Creates the state at the start of a log with these aborted transactions.
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        Self {
            to_come: aborted.into(),
            ..Self::default()
        }
    }

    /// Takes the next data batch. Returns whether it belongs to an aborted transaction.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset);
        if !header.is_transactional() {
            return false;
        }
        let Some(ongoing) = self.aborted.get_mut(&header.producer_id) else {
            self.committed.insert(header.producer_id);
            return false;
        };
        ongoing.has_data = true;
        true
    }

    /// Takes the next control batch. Returns whether no batch of its transaction is left, and the
    /// entry that the transaction index still needs.
    pub(super) fn is_obsolete(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> (bool, Option<AbortedTransaction>) {
        self.begin_up_to(header.last_offset);
        match control {
            Some(ControlRecord::Abort { .. }) => {
                let with_data = self
                    .aborted
                    .remove(&header.producer_id)
                    .filter(|ongoing| ongoing.has_data);
                (
                    with_data.is_none(),
                    with_data.map(|ongoing| ongoing.transaction),
                )
            }
            Some(ControlRecord::Commit { .. }) => {
                (!self.committed.remove(&header.producer_id), None)
            }
            Some(ControlRecord::Other(_)) => (false, None),
            // An earlier pass removed its records.
            None => (header.record_count == 0, None),
        }
    }

    fn begin_up_to(&mut self, offset: u64) {
        while self
            .to_come
            .front()
            .is_some_and(|next| next.first_offset <= offset)
        {
            let Some(transaction) = self.to_come.pop_front() else {
                return;
            };
            self.aborted
                .entry(transaction.producer_id)
                .or_insert(Ongoing {
                    transaction,
                    has_data: false,
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT: Option<ControlRecord> = Some(ControlRecord::Abort {
        coordinator_epoch: 0,
    });
    const COMMIT: Option<ControlRecord> = Some(ControlRecord::Commit {
        coordinator_epoch: 0,
    });

    fn header(producer_id: i64, offset: u64, attributes: u16) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            last_offset: offset,
            stated_last_offset: offset,
            size_bytes: 100,
            magic: 2,
            leader_epoch: 0,
            crc: 0,
            attributes,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 1,
        }
    }

    fn data(producer_id: i64, offset: u64) -> BatchHeader {
        header(producer_id, offset, 1 << 4)
    }

    fn marker(producer_id: i64, offset: u64) -> BatchHeader {
        header(producer_id, offset, 0b11 << 4)
    }

    fn aborted(producer_id: i64, first_offset: u64, last_offset: u64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        }
    }

    #[test]
    fn only_data_of_aborted_transactions_is_dropped() {
        let (first, second) = (aborted(1, 0, 4), aborted(1, 6, 8));
        let mut seen = Transactions::new(vec![second, first]);
        assert!(seen.is_aborted(&data(1, 0)));
        assert!(!seen.is_aborted(&data(2, 1)));
        assert!(!seen.is_aborted(&header(1, 2, 0)), "not in a transaction");
        assert_eq!(seen.is_obsolete(&marker(2, 3), COMMIT), (false, None));
        assert_eq!(seen.is_obsolete(&marker(1, 4), ABORT), (false, Some(first)));
        assert!(
            !seen.is_aborted(&data(1, 5)),
            "between the two transactions"
        );
        assert!(seen.is_aborted(&data(1, 7)));
        assert_eq!(
            seen.is_obsolete(&marker(1, 8), ABORT),
            (false, Some(second))
        );
    }

    #[test]
    fn marker_without_data_is_obsolete() {
        let mut seen = Transactions::new(vec![aborted(1, 0, 4)]);
        assert_eq!(seen.is_obsolete(&marker(2, 3), COMMIT), (true, None));
        assert_eq!(seen.is_obsolete(&marker(1, 4), ABORT), (true, None));
        assert_eq!(seen.is_obsolete(&marker(1, 5), ABORT), (true, None));
        assert_eq!(
            seen.is_obsolete(
                &BatchHeader {
                    record_count: 0,
                    ..marker(1, 6)
                },
                None
            ),
            (true, None)
        );
        assert_eq!(
            seen.is_obsolete(&marker(1, 7), Some(ControlRecord::Other(9))),
            (false, None)
        );
        assert_eq!(
            seen.is_obsolete(&marker(1, 8), None),
            (false, None),
            "a marker that cannot be read is kept"
        );
    }
}
