//! Descriptions of transactions, and aborting one from outside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::recovery::sync_marker;
use super::service::TransactionService;
use crate::brief::Few;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::transaction_state::{self, TransactionState};
use crate::partition::{Marker, Outcome, PartitionCore};
use crate::topic_partition::TopicPartition;

/// The state of a transactional id. From [`Log::transactions`](crate::Log::transactions).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionDescription {
    /// The transactional id.
    pub transactional_id: String,
    /// The status of its last transaction.
    pub status: TransactionStatus,
    /// The id of the producer, which its batches state.
    pub producer_id: i64,
    /// The epoch of the producer. It rises with each new holder of the transactional id.
    pub producer_epoch: i16,
    /// The time after which an open transaction is aborted; `None` if it is never aborted.
    pub timeout: Option<Duration>,
    /// The time at which the transaction began, if one is open or was decided last.
    pub started: Option<Timestamp>,
    /// The time of the last change.
    pub changed: Timestamp,
    /// The partitions of the transaction. Empty once it is complete.
    pub partitions: Vec<TopicPartition>,
}

/// The status of the last transaction of a transactional id, as in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionStatus {
    /// No transaction has begun since the producer took the id.
    Empty,
    /// A transaction is open and has records in the log.
    Ongoing,
    /// The transaction is committed. Markers may be missing.
    PrepareCommit,
    /// The transaction is aborted. Markers may be missing.
    PrepareAbort,
    /// The transaction is committed, and all partitions have their markers.
    CompleteCommit,
    /// The transaction is aborted, and all partitions have their markers.
    CompleteAbort,
}

/// A transaction that has records in a partition and no marker. From
/// [`Log::open_transactions`](crate::Log::open_transactions).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenTransactionDescription {
    /// The partition.
    pub partition: TopicPartition,
    /// The id of the producer, which its batches state.
    pub producer_id: i64,
    /// The epoch of the producer.
    pub producer_epoch: i16,
    /// The offset of the first record. Readers of committed records end before it.
    pub first_offset: u64,
    /// The greatest timestamp of the last batch.
    pub last_timestamp: Timestamp,
}

impl fmt::Debug for TransactionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transactional_id,
            status,
            producer_id,
            producer_epoch,
            timeout,
            started,
            changed,
            partitions,
        } = self;
        f.debug_struct("TransactionDescription")
            .field("transactional_id", transactional_id)
            .field("status", status)
            .field("producer_id", producer_id)
            .field("producer_epoch", producer_epoch)
            .field("timeout", timeout)
            .field("started", started)
            .field("changed", changed)
            .field("partitions", &Few(partitions))
            .finish()
    }
}

impl TransactionService {
    /// Returns the state of every transactional id.
    pub(crate) fn describe(&self) -> Result<Vec<TransactionDescription>> {
        self.check_open()?;
        if self.context().read_only {
            // The writing process may have changed them.
            let stored = self.topic.load()?;
            return Ok(stored.states.into_values().map(describe).collect());
        }
        let entries: Vec<_> =
            self.with_ids(|ids| ids.entries.values().map(Arc::clone).collect())?;
        let known = entries.into_iter().filter_map(|entry| {
            let progress = entry.progress.lock();
            progress
                .is_known()
                .then(|| describe(progress.state.clone()))
        });
        Ok(known.collect())
    }

    /// Returns the transactions without a marker, of all partitions.
    pub(crate) fn open_transactions(&self) -> Result<Vec<OpenTransactionDescription>> {
        self.check_open()?;
        let mut found = Vec::new();
        for core in self.catalog.partitions() {
            core.refresh()?;
            found.extend(core.unended_transactions().into_iter().map(|open| {
                OpenTransactionDescription {
                    partition: core.id().clone(),
                    producer_id: open.producer_id,
                    producer_epoch: open.producer_epoch,
                    first_offset: open.first_offset,
                    last_timestamp: Timestamp::from_millis(open.last_timestamp),
                }
            }));
        }
        Ok(found)
    }

    /// Aborts the transaction of a producer in one partition. Returns whether it was open.
    pub(crate) fn abort_in(&self, partition: &TopicPartition, producer_id: i64) -> Result<bool> {
        self.check_open()?;
        let core = self
            .catalog
            .topic(&partition.topic)?
            .partition(partition.partition)?;
        core.check_writable()?;
        let find = |core: &PartitionCore| {
            let mut all = core.unended_transactions().into_iter();
            all.find(|open| open.producer_id == producer_id)
        };
        if find(&core).is_none() {
            return Ok(false);
        }
        if let Some(entry) = self.entry_of(producer_id)? {
            let mut progress = entry.progress.lock();
            if progress.open.is_some() {
                // A live transaction of this log: all of it is aborted, and its producer fenced.
                progress.holder = 0;
                self.end_open(&mut progress, Outcome::Aborted);
                return Ok(true);
            }
            // A transaction that is decided gets the marker of the decision.
            self.finish(&mut progress)?;
        }
        let Some(open) = find(&core) else {
            return Ok(false);
        };
        let marker = Marker {
            producer_id,
            producer_epoch: open.producer_epoch,
            outcome: Outcome::Aborted,
            coordinator_epoch: 0,
        };
        let appended = core.append_marker(&marker, u64::MAX)?;
        if let Some(appended) = &appended {
            sync_marker(&core, appended)?;
        }
        Ok(appended.is_some())
    }
}

fn describe(state: TransactionState) -> TransactionDescription {
    let started = Some(state.start_ms).filter(|start| *start >= 0);
    let timeout = u64::try_from(state.timeout_ms)
        .ok()
        .filter(|_| state.timeout_ms < i32::MAX);
    TransactionDescription {
        transactional_id: state.transactional_id,
        status: state.status.into(),
        producer_id: state.producer_id,
        producer_epoch: state.producer_epoch,
        timeout: timeout.map(Duration::from_millis),
        started: started.map(Timestamp::from_millis),
        changed: Timestamp::from_millis(state.last_update_ms),
        partitions: state.partitions,
    }
}

impl From<transaction_state::TransactionStatus> for TransactionStatus {
    fn from(status: transaction_state::TransactionStatus) -> Self {
        use transaction_state::TransactionStatus as Stored;
        match status {
            Stored::Empty => Self::Empty,
            Stored::Ongoing => Self::Ongoing,
            Stored::PrepareCommit => Self::PrepareCommit,
            Stored::PrepareAbort => Self::PrepareAbort,
            Stored::CompleteCommit => Self::CompleteCommit,
            Stored::CompleteAbort => Self::CompleteAbort,
        }
    }
}
