//! Ends the transactions that a crash left open, before any record is appended.
//!
//! The last record of a transactional id decides: a transaction after its commit point is
//! completed, and any other one of our own producers is aborted. A broker's producers may be alive
//! and continue, so their open transactions stay, and are reported.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::{Due, Entry};
use super::service::TransactionService;
use crate::config::Durability;
use crate::error::{Error, Result, keep_failed};
use crate::format::file_name;
use crate::partition::{Appended, Marker, OpenTransaction, Outcome, PartitionCore};
use crate::producer::is_own;
use crate::topic_partition::TopicPartition;

/// A transaction that had no marker in a partition when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveredTransaction {
    /// The partition.
    pub partition: TopicPartition,
    /// The id of the producer, which its batches state.
    pub producer_id: i64,
    /// The transactional id of the producer, if `__transaction_state` has it.
    pub transactional_id: Option<Arc<str>>,
    /// The offset of the first record of the transaction.
    pub first_offset: u64,
    /// The end of the transaction in this partition.
    pub outcome: RecoveredOutcome,
}

/// The end that opening a log gave to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveredOutcome {
    /// The transaction was committed before the crash, and its records are visible now.
    Committed,
    /// The transaction was not committed. Readers of committed records pass over its records.
    Aborted,
    /// The transaction is still open, and readers of committed records end before it. Its producer
    /// belongs to a broker, its end could not be written yet, or `__transaction_state` cannot be
    /// read. In the last case, [`Log::transactions`](crate::Log::transactions) returns the reason.
    /// [`Log::abort_transaction`](crate::Log::abort_transaction) aborts it.
    Open,
}

type Unended = (Arc<PartitionCore>, OpenTransaction);

/// The treatment of an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Its id decided to commit it.
    Commit,
    /// Its id decided to abort it.
    Abort,
    /// It is one of our own, and no decision is about it.
    AbortOrphan,
    /// Its producer may continue it.
    Leave,
}

impl TransactionService {
    /// Ends the open transactions of all partitions, and returns a report of each.
    ///
    /// A partition that refuses the marker holds back only itself: the log tries again during
    /// maintenance, and when the partition is re-opened.
    pub(crate) fn recover(&self) -> Vec<RecoveredTransaction> {
        let open: Vec<Unended> = self
            .catalog
            .partitions()
            .into_iter()
            .flat_map(|core| {
                let open = core.unended_transactions().into_iter();
                open.map(move |transaction| (Arc::clone(&core), transaction))
            })
            .collect();
        self.end_all(open)
    }

    /// Ends the open transactions of a partition that was re-opened.
    pub(crate) fn recover_partition(&self, partition: &TopicPartition) {
        let core = self
            .catalog
            .topic(&partition.topic)
            .and_then(|topic| topic.partition(partition.partition));
        let Ok(core) = core else {
            return;
        };
        let open = core.unended_transactions().into_iter();
        self.end_all(open.map(|open| (Arc::clone(&core), open)).collect());
    }

    fn end_all(&self, open: Vec<Unended>) -> Vec<RecoveredTransaction> {
        if open.is_empty() {
            return Vec::new();
        }
        // If the states cannot be read, the decisions are unknown, and the transactions stay open.
        let producers = self.producers();
        let are_known = producers.is_ok();
        let producers = producers.unwrap_or_default();
        let entry_of = |open: &OpenTransaction| producers.get(&open.producer_id);
        let plans: Vec<Plan> = open
            .iter()
            .map(|(core, open)| match entry_of(open) {
                Some(entry) => self.plan(entry, core, open),
                None if are_known && is_own(open.producer_id) => Plan::AbortOrphan,
                None => Plan::Leave,
            })
            .collect();
        for entry in producers.values() {
            self.write_due(entry);
        }
        let report = |((core, open), plan): (Unended, Plan)| {
            if plan == Plan::AbortOrphan {
                self.abort_orphan(&core, &open);
            }
            let is_open = core.has_open_transaction_below(open.producer_id, open.first_offset + 1);
            RecoveredTransaction {
                partition: core.id().clone(),
                producer_id: open.producer_id,
                transactional_id: entry_of(&open).map(|entry| Arc::clone(&entry.id)),
                first_offset: open.first_offset,
                outcome: match plan {
                    Plan::Commit if !is_open => RecoveredOutcome::Committed,
                    Plan::Abort | Plan::AbortOrphan if !is_open => RecoveredOutcome::Aborted,
                    _ => RecoveredOutcome::Open,
                },
            }
        };
        open.into_iter().zip(plans).map(report).collect()
    }

    /// Returns the ids of the producers that write for the transactional ids of this log. If the
    /// states are damaged, none is known.
    pub(crate) fn producer_ids(&self) -> Result<Vec<i64>> {
        match self.producers() {
            Err(Error::Corrupt(_)) => Ok(Vec::new()),
            producers => Ok(producers?.into_keys().collect()),
        }
    }

    /// Notes that a partition was truncated. Waits for the commits in progress.
    pub(crate) fn partition_was_cut(&self, partition: &Arc<PartitionCore>) {
        for entry in self.entries() {
            entry.progress.lock().forget_cut_off(partition);
        }
    }

    /// Returns the entry of the id for which a producer writes.
    pub(super) fn entry_of(&self, producer_id: i64) -> Result<Option<Arc<Entry>>> {
        Ok(self.producers()?.remove(&producer_id))
    }

    /// Returns what the last decision of an id says about a transaction of its producer.
    fn plan(&self, entry: &Entry, core: &PartitionCore, open: &OpenTransaction) -> Plan {
        let mut progress = entry.progress.lock();
        // As long as this fails, the transaction stays undecided.
        let _decided_later = self.decide(&mut progress);
        if progress.undecided.is_some() || progress.open.is_some() {
            // A live producer, or the next attempt to decide, ends it.
            return Plan::Leave;
        }
        match progress.decided(core, open.first_offset) {
            Some(Outcome::Committed) => Plan::Commit,
            Some(Outcome::Aborted) => Plan::Abort,
            // It began after the decision, and was not committed.
            None if is_own(open.producer_id) => Plan::AbortOrphan,
            None => Plan::Leave,
        }
    }

    /// Writes the markers that are due for an id.
    fn write_due(&self, entry: &Entry) {
        let mut progress = entry.progress.lock();
        if progress.open.is_none()
            && let Err(reason) = self.write_markers(&mut progress)
            && let Some(due) = &mut progress.due
        {
            self.hold_positions_back(due, &reason);
        }
    }

    /// Returns the entries of all ids by the producers that write for them.
    fn producers(&self) -> Result<HashMap<i64, Arc<Entry>>> {
        let entries: Vec<Arc<Entry>> =
            self.with_ids(|ids| ids.entries.values().map(Arc::clone).collect())?;
        let by_producer = |entry: Arc<Entry>| {
            let producer = entry.progress.lock().identity().id;
            (producer, entry)
        };
        Ok(entries.into_iter().map(by_producer).collect())
    }

    /// Appends an ABORT marker for a transaction that no record of its id decides.
    fn abort_orphan(&self, core: &Arc<PartitionCore>, transaction: &OpenTransaction) {
        let marker = Marker {
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            outcome: Outcome::Aborted,
            coordinator_epoch: 0,
        };
        let appended = core.append_marker(&marker, u64::MAX);
        let done = appended.and_then(|appended| match appended {
            Some(appended) => sync_marker(core, &appended),
            None => Ok(()),
        });
        if done.is_err() {
            self.orphans.lock().push((core.id().clone(), marker));
        }
    }

    /// Tries again to append the ABORT markers that could not be written.
    pub(super) fn retry_orphans(&self) -> Result<()> {
        keep_failed(&mut self.orphans.lock(), |(partition, marker)| {
            match self.mark(partition, marker, u64::MAX)? {
                Some((core, appended)) => sync_marker(&core, &appended),
                None => Ok(()),
            }
        })
    }

    /// Keeps the positions of all groups back while a committed transaction has no marker in the
    /// partition that stores them: otherwise a group would repeat work that is committed.
    fn hold_positions_back(&self, due: &mut Due, reason: &Error) {
        let is_positions =
            |(id, _): &(TopicPartition, u64)| *id.topic == *file_name::COMMITTED_OFFSETS;
        let has_positions =
            due.outcome == Outcome::Committed && due.places.iter().any(is_positions);
        if has_positions && !due.holds_positions {
            due.holds_positions = true;
            self.groups.hold_back_all(reason);
        }
    }
}

/// Syncs a marker if readers of its topic wait until it is on the device.
pub(super) fn sync_marker(core: &PartitionCore, appended: &Appended) -> Result<()> {
    if core.is_to_be_synced(Durability::Os) {
        core.sync_appended(appended)
    } else {
        Ok(())
    }
}
