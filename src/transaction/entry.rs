//! One transactional id: its state, its holder, and the markers that are due.

use std::sync::Arc;

use super::lanes::Identity;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::transaction_state::{TransactionState, TransactionStatus};
use crate::group::LateOffsets;
use crate::partition::{Appended, Outcome, PartitionCore};
use crate::producer::{is_own, producer_id};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

/// The last epoch that a producer uses, as in Kafka.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// A transactional id of an open log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Arc<str>,
    /// Locked for the whole of a commit.
    pub(super) progress: Mutex<Progress>,
}

/// The number of a handle. None has the number 0.
pub(super) type Holder = u64;

/// The progress of the transactions of one id.
#[derive(Debug)]
pub(super) struct Progress {
    /// The last state that was stored, or one that is stored later.
    pub(super) state: TransactionState,
    /// Whether the last record of the id has this status.
    pub(super) is_stored: bool,
    /// The handle that may write; 0 if none may.
    pub(super) holder: Holder,
    /// The transaction that has records in the log and is not decided.
    pub(super) open: Option<Open>,
    /// The markers that are missing after the last decision.
    pub(super) due: Option<Due>,
    /// Markers that may not be on the device yet.
    pub(super) unsynced: Vec<(Arc<PartitionCore>, Appended)>,
    /// Set while it is unknown whether the transaction in `state` is committed.
    pub(super) undecided: Option<Undecided>,
}

/// The failure after which it is unknown whether a transaction is committed.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) cause: Error,
    /// The positions of the transaction.
    pub(super) late: Option<LateOffsets>,
}

/// A transaction that has records in the log and is not decided.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) partitions: Vec<Arc<PartitionCore>>,
    /// When the log aborts it; `None` for one that is being committed.
    pub(super) deadline: Option<Deadline>,
}

/// The markers that are missing in a transaction that is decided.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) outcome: Outcome,
    pub(super) producer: Identity,
    /// The partitions without a marker. An open transaction that begins at or above the offset is
    /// another one.
    pub(super) places: Vec<(TopicPartition, u64)>,
    /// Positions that are in force once all markers are written.
    pub(super) late: Option<LateOffsets>,
    /// Whether all positions of all groups are kept back until then.
    pub(super) holds_positions: bool,
}

impl Entry {
    /// Creates the entry of an id that has no record yet.
    pub(super) fn new(id: &str, now: i64) -> Self {
        Self {
            id: id.into(),
            progress: Mutex::new(Progress::new(TransactionState::empty(id, (-1, -1), 0, now))),
        }
    }

    /// Creates the entry of an id from its last record.
    pub(super) fn of(id: &Arc<str>, state: TransactionState) -> Self {
        Self {
            id: Arc::clone(id),
            progress: Mutex::new(Progress::of(state)),
        }
    }

    /// Returns the error for a handle that does not hold the id any more.
    pub(super) fn fenced(&self) -> Error {
        Error::TransactionalIdFenced {
            id: Arc::clone(&self.id),
        }
    }
}

impl Open {
    /// Adds a partition, before a record is written to it.
    pub(super) fn add(&mut self, core: &Arc<PartitionCore>) -> bool {
        let is_new = !self.partitions.iter().any(|known| Arc::ptr_eq(known, core));
        if is_new {
            self.partitions.push(Arc::clone(core));
        }
        is_new
    }
}

impl Progress {
    fn new(state: TransactionState) -> Self {
        Self {
            state,
            is_stored: true,
            holder: 0,
            open: None,
            due: None,
            unsynced: Vec::new(),
            undecided: None,
        }
    }

    /// Takes the last record of the id. A process that has ended wrote it, so a transaction that it
    /// left prepared is decided, and one that it left open is aborted if its producer is ours.
    fn of(state: TransactionState) -> Self {
        let mut progress = Self::new(state);
        progress.due = progress.decision().map(|outcome| progress.due_of(outcome));
        progress
    }

    /// Returns how the transaction in the state ends, if that is decided: by a commit point, or
    /// because the process of one of our own producers has ended.
    fn decision(&self) -> Option<Outcome> {
        match self.state.status {
            TransactionStatus::PrepareCommit => Some(Outcome::Committed),
            TransactionStatus::PrepareAbort => Some(Outcome::Aborted),
            TransactionStatus::Ongoing if is_own(self.state.producer_id) => Some(Outcome::Aborted),
            _ => None,
        }
    }

    /// Returns the markers of the transaction in the state.
    pub(super) fn due_of(&self, outcome: Outcome) -> Due {
        let state = &self.state;
        let ends = state.partition_ends.iter().copied();
        let ends = ends.chain(std::iter::repeat(u64::MAX));
        Due {
            outcome,
            producer: self.identity(),
            places: state.partitions.iter().cloned().zip(ends).collect(),
            late: None,
            holds_positions: false,
        }
    }

    /// Returns whether the id has a record.
    pub(super) fn is_known(&self) -> bool {
        self.state.producer_id >= 0
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            id: self.state.producer_id,
            epoch: self.state.producer_epoch,
        }
    }

    /// Returns whether a stored state is the commit point of the transaction in the state. Version
    /// 0 does not store all fields.
    pub(super) fn is_this_commit(&self, stored: &TransactionState) -> bool {
        let key = |state: &TransactionState| {
            (
                state.status,
                state.producer_id,
                state.producer_epoch,
                state.start_ms,
                state.last_update_ms,
            )
        };
        let has_ends = !stored.partition_ends.is_empty();
        key(stored) == key(&self.state)
            && stored.partitions == self.state.partitions
            && (!has_ends || stored.partition_ends == self.state.partition_ends)
    }

    /// Forgets the markers in partitions that were deleted.
    pub(super) fn forget_deleted(&mut self) {
        self.unsynced
            .retain(|(core, _)| !matches!(core.check_readable(), Err(Error::UnknownTopic(_))));
    }

    /// Forgets the markers that a truncation of the partition has cut off. It has written those
    /// again that are still needed, and synced them.
    pub(super) fn forget_cut_off(&mut self, partition: &Arc<PartitionCore>) {
        self.unsynced
            .retain(|(core, marker)| !Arc::ptr_eq(core, partition) || !core.is_cut_off(marker));
    }

    /// Returns whether the last decision is about a transaction that is open in a partition, and
    /// how it ended. Its marker becomes due: it may have been written and lost since.
    pub(super) fn decided(&mut self, core: &PartitionCore, first_offset: u64) -> Option<Outcome> {
        let outcome = self.decision()?;
        let decided = self.due_of(outcome);
        let place = decided
            .places
            .iter()
            .find(|(id, end)| id == core.id() && first_offset < *end)?
            .clone();
        let due = self.due.get_or_insert(Due {
            places: Vec::new(),
            ..decided
        });
        if !due.places.contains(&place) {
            due.places.push(place);
        }
        self.unsynced.retain(|(other, _)| other.id() != core.id());
        Some(outcome)
    }

    /// Returns an error unless this handle holds the id.
    pub(super) fn check_holder(&self, holder: Holder, entry: &Entry) -> Result<()> {
        if self.holder == holder {
            Ok(())
        } else {
            Err(entry.fenced())
        }
    }

    /// Returns the state of the next holder: the next epoch, or a new producer after the last one.
    /// A broker's producer is replaced, so that its id says who ends its transactions.
    pub(super) fn next_holder(&self, timeout_ms: i32, now: i64) -> TransactionState {
        let Identity { id, epoch } = self.identity();
        let empty = |producer| {
            TransactionState::empty(&*self.state.transactional_id, producer, timeout_ms, now)
        };
        if is_own(id) && epoch < LAST_EPOCH {
            return empty((id, epoch + 1));
        }
        TransactionState {
            previous_producer_id: id,
            ..empty((producer_id(), 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(id: i64, epoch: i16) -> Progress {
        Progress::new(TransactionState::empty("id", (id, epoch), 60_000, 7))
    }

    #[test]
    fn each_holder_has_the_next_epoch_and_the_last_is_followed_by_a_new_producer() {
        let id = (1 << 62) + 5;
        for epoch in [0, 1, 32_764, 32_765] {
            let next = progress(id, epoch).next_holder(60_000, 8);
            assert_eq!((next.producer_id, next.producer_epoch), (id, epoch + 1));
            assert_eq!(next.previous_producer_id, -1);
        }
        for epoch in [32_766, 32_767] {
            let next = progress(id, epoch).next_holder(60_000, 8);
            assert_ne!(next.producer_id, id);
            assert!(is_own(next.producer_id));
            assert_eq!(next.producer_epoch, 0);
            assert_eq!(next.previous_producer_id, id);
        }
    }

    #[test]
    fn a_new_id_and_the_id_of_a_brokers_producer_get_a_producer_of_our_own() {
        for id in [-1, 0, 4_000, (1 << 62) - 1] {
            let next = progress(id, 3).next_holder(60_000, 8);
            assert!(is_own(next.producer_id), "{id}");
            assert_eq!(next.producer_epoch, 0);
            assert_eq!(next.previous_producer_id, id);
            assert_eq!(next.status, TransactionStatus::Empty);
        }
    }
}
