//! The steps of a commit and of an abort. The head of the [module](super) says why they come in
//! this order.

use std::sync::Arc;

use super::entry::{Due, Open, Progress, Undecided};
use super::lanes::Lanes;
use super::prepare::{Failed, Prepared};
use super::service::TransactionService;
use super::state_topic::StateRecord;
use crate::clock::{Deadline, Timestamp};
use crate::config::Durability;
use crate::error::{Error, Result, keep_failed};
use crate::format::transaction_state::{TransactionState, TransactionStatus};
use crate::group::{MemberOffsets, PendingOffsets};
use crate::partition::{Appended, Marker, Outcome, PartitionCore};
use crate::topic_partition::TopicPartition;

/// The records of a transaction, the positions that it commits, and its times.
pub(super) struct Work<'a> {
    pub(super) lanes: &'a mut Lanes,
    pub(super) offsets: &'a [MemberOffsets],
    pub(super) begun: Timestamp,
    /// When the log aborts the transaction if it has records in the log.
    pub(super) deadline: Option<Deadline>,
}

impl TransactionService {
    /// Writes the records that a transaction holds before it commits, because its memory is full.
    /// From then on the transaction is open in the log, and readers of committed records wait for
    /// its end.
    pub(super) fn spill(&self, progress: &mut Progress, work: Work<'_>) -> Result<()> {
        let Work {
            lanes,
            begun,
            deadline,
            ..
        } = work;
        self.settle_last(progress, lanes)?;
        let open = progress.open.get_or_insert_with(Open::default);
        open.deadline = deadline;
        let mut is_new = false;
        for core in lanes.used() {
            is_new |= open.add(core);
        }
        if is_new {
            let partitions = ids_of(&open.partitions);
            // The next record of the id follows the markers of its last transaction.
            self.sync_markers(progress)?;
            let state = TransactionState {
                status: TransactionStatus::Ongoing,
                partitions,
                start_ms: begun.as_millis(),
                ..self.next_state(progress)
            };
            self.topic.append(&state, self.version()?)?;
            (progress.state, progress.is_stored) = (state, true);
        }
        lanes.write(progress.identity())
    }

    /// Commits a transaction. After an error it is aborted, or, if the sync of the commit point
    /// failed, undecided until the log is opened again.
    pub(super) fn commit(&self, progress: &mut Progress, work: Work<'_>) -> Result<()> {
        let _not_during_a_copy = self.committing.read();
        let Work {
            lanes,
            offsets,
            begun,
            ..
        } = work;
        let mut pending = None;
        let prepared = self.write_all(progress, lanes, offsets, &mut pending);
        let prepared = prepared
            .map_err(Failed::from)
            .and_then(|()| self.prepare(progress, lanes, begun));
        match prepared {
            Ok(()) => {}
            Err(Failed::Before(error)) => {
                drop(pending);
                self.end_open(progress, Outcome::Aborted);
                return Err(error);
            }
            Err(Failed::At { cause, .. }) => {
                let late = pending.map(|pending| pending.hold_back(&cause));
                progress.holder = 0;
                progress.undecided = Some(Undecided {
                    cause: cause.clone(),
                    late,
                });
                return Err(cause);
            }
        }
        // Committed. Later steps that fail are retried.
        progress.open = None;
        progress.due = Some(progress.due_of(Outcome::Committed));
        let marked = self.write_markers(progress);
        match (marked, pending) {
            (Ok(()), Some(pending)) => {
                // If the store cannot be read now, it reads these positions with the others later.
                let _read_later = pending.commit();
            }
            (Err(reason), Some(pending)) => {
                let late = pending.hold_back(&reason);
                if let Some(due) = &mut progress.due {
                    due.late = Some(late);
                }
            }
            (_, None) => {}
        }
        if self.completes_at_once()? {
            let _done_later = self.complete(progress, Durability::Synced);
        }
        Ok(())
    }

    /// Step 1: appends the records and the positions.
    fn write_all<'a>(
        &'a self,
        progress: &mut Progress,
        lanes: &mut Lanes,
        offsets: &[MemberOffsets],
        pending: &mut Option<PendingOffsets<'a>>,
    ) -> Result<()> {
        // Before anything is written.
        for offsets in offsets {
            offsets.check_member()?;
        }
        self.settle_last(progress, lanes)?;
        let identity = progress.identity();
        let open = progress.open.get_or_insert_with(Open::default);
        open.deadline = None;
        for core in lanes.used() {
            open.add(core);
        }
        lanes.write(identity)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let pending = pending.insert(self.groups.begin_transactional(offsets)?);
        for batch in &mut pending.batches {
            let home = Arc::clone(batch.home());
            open.add(&home);
            let first = lanes.write_records(&home, batch.records(), identity)?;
            batch.set_written(first);
        }
        Ok(())
    }

    /// Ends the work for the last transaction before this one writes anything. Its markers must not
    /// be forgotten. If a partition ends below the end that its commit point states, because it was
    /// cut, or deleted and created again, an opening would take the first batches of this
    /// transaction for those of the last one, and commit them. So it is noted as completed.
    fn settle_last(&self, progress: &mut Progress, lanes: &Lanes) -> Result<()> {
        if progress.open.is_some() {
            return Ok(());
        }
        self.write_markers(progress)?;
        let state = &progress.state;
        let is_below = |core: &Arc<PartitionCore>| {
            let mut ends = state.partitions.iter().zip(&state.partition_ends);
            ends.any(|(id, end)| id == core.id() && core.log_end_offset() < *end)
        };
        if state.status == TransactionStatus::PrepareCommit && lanes.used().any(is_below) {
            self.complete(progress, Durability::Synced)?;
        }
        Ok(())
    }

    /// Steps 2 and 3: syncs what was written, and writes the commit point.
    fn prepare(&self, progress: &mut Progress, lanes: &Lanes, begun: Timestamp) -> Prepared {
        let mut written: Vec<_> = lanes
            .written()
            .map(|(core, appended)| (Arc::clone(core), appended.clone()))
            .collect();
        written.sort_by(|(one, _), (other, _)| one.id().cmp(other.id()));
        let state = TransactionState {
            status: TransactionStatus::PrepareCommit,
            partitions: written.iter().map(|(core, _)| core.id().clone()).collect(),
            partition_ends: written
                .iter()
                .map(|(_, appended)| appended.offsets.end)
                .collect(),
            start_ms: begun.as_millis(),
            ..self.next_state(progress)
        };
        progress.forget_deleted();
        // The batches of this transaction come after the markers in the same partitions.
        let mut markers = progress.unsynced.clone();
        markers.retain(|(core, marker)| {
            let mut batches = written.iter();
            !batches.any(|(other, batch)| Arc::ptr_eq(core, other) && batch.covers(marker))
        });
        written.append(&mut markers);
        let home = self.topic.home_of(&state.transactional_id)?;
        let record = StateRecord::new(&state, self.version()?);
        let prepared = self.preparation.prepare(written, home, record);
        let is_stored = match &prepared {
            Err(Failed::Before(_)) => return prepared,
            Err(Failed::At { is_appended, .. }) => *is_appended,
            Ok(()) => true,
        };
        (progress.state, progress.is_stored) = (state, is_stored);
        progress.unsynced.clear();
        prepared
    }

    /// Returns the state from which the next record of the id is made.
    fn next_state(&self, progress: &Progress) -> TransactionState {
        let state = &progress.state;
        TransactionState {
            previous_producer_id: state.previous_producer_id,
            ..TransactionState::empty(
                &*state.transactional_id,
                (state.producer_id, state.producer_epoch),
                state.timeout_ms,
                self.now().as_millis(),
            )
        }
    }

    /// Ends a transaction that has records in the log and is not decided. A marker that cannot be
    /// written now stays due.
    pub(super) fn end_open(&self, progress: &mut Progress, outcome: Outcome) {
        let Some(open) = progress.open.take() else {
            return;
        };
        let places = ids_of(&open.partitions).into_iter();
        progress.due = Some(Due {
            outcome,
            producer: progress.identity(),
            places: places.map(|id| (id, u64::MAX)).collect(),
            late: None,
            holds_positions: false,
        });
        let _retried_later = self.write_markers(progress);
    }

    /// Step 4: writes the markers that are due. Tries every partition, and returns the first error.
    pub(super) fn write_markers(&self, progress: &mut Progress) -> Result<()> {
        let Some(due) = &mut progress.due else {
            return Ok(());
        };
        let marker = Marker {
            producer_id: due.producer.id,
            producer_epoch: due.producer.epoch,
            outcome: due.outcome,
            coordinator_epoch: self
                .topic
                .coordinator_epoch(&progress.state.transactional_id),
        };
        let mut written = Vec::new();
        let result = keep_failed(&mut due.places, |(partition, end)| {
            written.extend(self.mark(partition, &marker, *end)?);
            Ok(())
        });
        // Readers of some topics wait until a marker is on the device.
        let (awaited, others): (Vec<_>, Vec<_>) = written
            .into_iter()
            .partition(|(core, _)| core.is_to_be_synced(Durability::Os));
        progress.unsynced.extend(others);
        // The decision stands. The next use of the partition returns the error.
        let _reported_by_the_partition = self.preparation.sync_all(&awaited);
        result?;
        let Some(due) = progress.due.take() else {
            unreachable!("the markers were due")
        };
        if due.holds_positions {
            // Only a decision of an earlier process does that, so this thread commits no positions.
            self.groups.release_all();
        }
        if let Some(late) = due.late {
            // If the store cannot be read now, it reads these positions with the others later.
            let _read_later = self.groups.settle_transactional(late);
        }
        Ok(())
    }

    /// Appends a marker to a partition. Returns `None` if the partition has no such transaction, or
    /// no longer exists. Fails if it cannot be written, or is in another directory.
    pub(super) fn mark(
        &self,
        partition: &TopicPartition,
        marker: &Marker,
        end: u64,
    ) -> Result<Option<(Arc<PartitionCore>, Appended)>> {
        let core = self
            .catalog
            .topic(&partition.topic)
            .and_then(|topic| topic.partition(partition.partition));
        let done = core.and_then(|core| Ok((core.append_marker(marker, end)?, core)));
        match done {
            Ok((appended, core)) => Ok(appended.map(|appended| (core, appended))),
            Err(Error::UnknownTopic(_)) => Ok(None),
            Err(Error::UnknownPartition(_)) if !self.is_elsewhere(partition) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a partition that is not here has a number below others of its topic: a
    /// broker keeps it in another directory.
    fn is_elsewhere(&self, partition: &TopicPartition) -> bool {
        let topic = self.catalog.topic(&partition.topic);
        topic.is_ok_and(|topic| partition.partition < topic.partition_count())
    }

    /// Waits until the markers of the last transaction are on the device.
    pub(super) fn sync_markers(&self, progress: &mut Progress) -> Result<()> {
        progress.forget_deleted();
        self.preparation.sync_all(&progress.unsynced)?;
        progress.unsynced.clear();
        Ok(())
    }

    /// Finds out whether a transaction is committed whose commit point could not be synced. Returns
    /// the cause as long as its partition refuses writes.
    pub(super) fn decide(&self, progress: &mut Progress) -> Result<()> {
        let Some(undecided) = &progress.undecided else {
            return Ok(());
        };
        let id = &progress.state.transactional_id;
        let home = self.topic.home_of(id)?;
        if home.check_writable().is_err() {
            return Err(undecided.cause.clone());
        }
        let stored = self.topic.load()?;
        let is_committed = stored
            .states
            .get(&**id)
            .is_some_and(|stored| progress.is_this_commit(stored));
        let late = progress
            .undecided
            .take()
            .and_then(|undecided| undecided.late);
        progress.open = None;
        let outcome = if is_committed {
            Outcome::Committed
        } else {
            progress.state.status = TransactionStatus::PrepareAbort;
            Outcome::Aborted
        };
        progress.is_stored = is_committed;
        let mut due = progress.due_of(outcome);
        match late {
            Some(late) if is_committed => due.late = Some(late),
            Some(late) => self.groups.drop_transactional(&late),
            None => {}
        }
        progress.due = Some(due);
        Ok(())
    }
}

fn ids_of(partitions: &[Arc<PartitionCore>]) -> Vec<TopicPartition> {
    partitions.iter().map(|core| core.id().clone()).collect()
}
