//! The transactional ids of a log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::entry::{Entry, Holder, Open, Progress};
use super::prepare::Preparation;
use super::state_topic::StateTopic;
use crate::catalog::Catalog;
use crate::clock::{Deadline, Timestamp};
use crate::config::{Durability, LogSettings};
use crate::error::{Error, Result};
use crate::format::transaction_state::{TransactionStatus, ValueVersion};
use crate::group::GroupService;
use crate::partition::{Marker, Outcome, PartitionContext, PartitionCore};
use crate::producer::is_own;
use crate::sync::{Mutex, RwLock, RwLockWriteGuard};
use crate::topic_partition::TopicPartition;

/// The most characters of a transactional id.
const MAX_ID_CHARS: usize = 249;
/// Kafka's `transactional.id.expiration.ms`: an id that was not used for so long is forgotten.
const EXPIRATION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The transactional ids of a log.
#[derive(Debug)]
pub(crate) struct TransactionService {
    pub(super) catalog: Arc<Catalog>,
    pub(super) groups: Arc<GroupService>,
    pub(super) topic: StateTopic,
    pub(super) preparation: Preparation,
    /// `None` until first use.
    ids: Mutex<Option<Ids>>,
    /// ABORT markers that could not be written, of transactions without a record of their id.
    pub(super) orphans: Mutex<Vec<(TopicPartition, Marker)>>,
    last_holder: AtomicU64,
    is_closed: AtomicBool,
    /// Held shared by a commit, and exclusively by a thread that copies the log.
    pub(super) committing: RwLock<()>,
}

#[derive(Debug)]
pub(super) struct Ids {
    pub(super) entries: BTreeMap<Arc<str>, Arc<Entry>>,
    pub(super) version: ValueVersion,
}

impl TransactionService {
    /// Creates the service. It reads the states of the ids on first use.
    pub(crate) fn new(
        catalog: &Arc<Catalog>,
        groups: &Arc<GroupService>,
        settings: &LogSettings,
    ) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            groups: Arc::clone(groups),
            topic: StateTopic::new(catalog, settings.internal_partitions),
            preparation: Preparation::new(catalog.context().clock.is_manual()),
            ids: Mutex::new(None),
            orphans: Mutex::default(),
            last_holder: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            committing: RwLock::default(),
        }
    }

    pub(super) fn context(&self) -> &Arc<PartitionContext> {
        self.catalog.context()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.context().clock.now()
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::SeqCst) || self.catalog.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Runs `with` on the ids, and reads them first if that has not been done.
    pub(super) fn with_ids<T>(&self, with: impl FnOnce(&mut Ids) -> T) -> Result<T> {
        let mut ids = self.ids.lock();
        if ids.is_none() {
            let stored = self.topic.load()?;
            let entry = |(id, state)| {
                let entry = Arc::new(Entry::of(&id, state));
                (id, entry)
            };
            *ids = Some(Ids {
                entries: stored.states.into_iter().map(entry).collect(),
                version: stored.version,
            });
        }
        let Some(ids) = &mut *ids else {
            unreachable!("the ids were read just now")
        };
        Ok(with(ids))
    }

    /// Returns the ids that are known in memory.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let ids = self.ids.lock();
        let entries = ids.iter().flat_map(|ids| ids.entries.values());
        entries.map(Arc::clone).collect()
    }

    pub(super) fn version(&self) -> Result<ValueVersion> {
        self.with_ids(|ids| ids.version)
    }

    /// Waits for the commits in progress, and lets none begin as long as the guard lives.
    pub(crate) fn pause_commits(&self) -> RwLockWriteGuard<'_, ()> {
        self.committing.write()
    }

    /// Fences the present holder of an id, durably, and returns the number of the new one.
    pub(super) fn take(&self, id: &str, timeout: Option<Duration>) -> Result<(Arc<Entry>, Holder)> {
        self.check_open()?;
        if self.context().read_only {
            return Err(Error::ReadOnly);
        }
        if id.is_empty() || id.chars().count() > MAX_ID_CHARS {
            return Err(Error::InvalidTransactionalId);
        }
        let now = self.now().as_millis();
        let entry = self.with_ids(|ids| {
            let new = || Arc::new(Entry::new(id, now));
            Arc::clone(ids.entries.entry(id.into()).or_insert_with(new))
        })?;
        let holder = self.last_holder.fetch_add(1, Ordering::Relaxed) + 1;
        let mut progress = entry.progress.lock();
        // Before anything else: a commit of the former holder that has not begun fails.
        progress.holder = 0;
        self.become_holder(&mut progress, holder, timeout)?;
        drop(progress);
        Ok((entry, holder))
    }

    /// Ends what the last holder left, and stores a new epoch for the next one, durably.
    pub(super) fn become_holder(
        &self,
        progress: &mut Progress,
        holder: Holder,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.check_open()?;
        self.finish(progress)?;
        if progress.is_left_to_broker() {
            // Like a coordinator that is asked for a new epoch.
            progress.due = Some(progress.due_of(Outcome::Aborted));
            self.finish(progress)?;
        }
        self.sync_markers(progress)?;
        let timeout_ms = timeout.map_or(i32::MAX, |timeout| {
            i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
        });
        let state = progress.next_holder(timeout_ms, self.now().as_millis());
        let (home, appended) = self.topic.append(&state, self.version()?)?;
        home.sync_appended(&appended)?;
        (progress.state, progress.is_stored) = (state, true);
        progress.holder = holder;
        Ok(())
    }

    /// Ends what is open and writes the markers that are due, so that the id can go on.
    pub(super) fn finish(&self, progress: &mut Progress) -> Result<()> {
        self.decide(progress)?;
        if progress.open.is_some() {
            self.end_open(progress, Outcome::Aborted);
        }
        self.write_markers(progress)
    }

    /// Does the work that is due: aborts transactions that took too long, retries markers, and
    /// completes what is committed. Tries everything, and returns the first error.
    pub(crate) fn maintain(&self) -> Result<()> {
        let mut result = self.retry_orphans();
        let expired = self.now() - EXPIRATION;
        for entry in self.entries() {
            // A commit in progress needs no help.
            let Some(mut progress) = entry.progress.try_lock() else {
                continue;
            };
            let is_late = |open: &Open| open.deadline.is_some_and(Deadline::has_passed);
            if progress.open.as_ref().is_some_and(is_late) {
                progress.holder = 0;
                self.end_open(&mut progress, Outcome::Aborted);
            }
            result = result.and(self.complete(&mut progress, Durability::Os));
            // The ids of a broker have its settings, which are unknown here.
            let is_forgotten = is_own(progress.state.producer_id)
                && progress.is_stored
                && progress.is_settled()
                && progress.state.last_update_ms < expired.as_millis();
            if is_forgotten {
                result = result.and(self.forget(&entry));
            }
        }
        result
    }

    /// Removes an id, unless another thread has asked for it in the meantime. The caller holds its
    /// lock.
    fn forget(&self, entry: &Arc<Entry>) -> Result<()> {
        self.with_ids(|ids| {
            // This function and the map hold the entry; a thread that asked for it would too.
            if Arc::strong_count(entry) > 2 {
                return Ok(());
            }
            self.topic.remove(&entry.id)?;
            ids.entries.remove(&entry.id);
            Ok(())
        })?
    }

    /// Writes the markers that are due, and then the completed state. Nothing is written if the
    /// state is complete.
    pub(super) fn complete(&self, progress: &mut Progress, durability: Durability) -> Result<()> {
        if progress.undecided.is_some() || progress.due.is_some() {
            self.decide(progress)?;
            self.write_markers(progress)?;
        }
        if progress.open.is_some()
            || progress.is_left_to_broker()
            || progress.is_settled() && progress.is_stored
        {
            return Ok(());
        }
        self.sync_markers(progress)?;
        let status = match progress.state.status {
            TransactionStatus::PrepareCommit => TransactionStatus::CompleteCommit,
            TransactionStatus::PrepareAbort | TransactionStatus::Ongoing => {
                TransactionStatus::CompleteAbort
            }
            status => status,
        };
        progress.state.status = status;
        progress.state.partitions.clear();
        progress.state.partition_ends.clear();
        progress.state.last_update_ms = self.now().as_millis();
        progress.is_stored = false;
        let (home, appended) = self.topic.append(&progress.state, self.version()?)?;
        progress.is_stored = true;
        if home.is_to_be_synced(durability) {
            home.sync_appended(&appended)?;
        }
        Ok(())
    }

    /// Ends all transactions, because the log closes. From now on no handle writes. Returns the
    /// first error; the next opening then ends what is left.
    pub(crate) fn close(&self) -> Result<()> {
        if self.context().read_only {
            return Ok(());
        }
        // A handle looks at this under the lock of its id, which is taken below.
        self.is_closed.store(true, Ordering::SeqCst);
        let mut result = self.retry_orphans();
        for entry in self.entries() {
            let mut progress = entry.progress.lock();
            progress.holder = 0;
            if progress.open.is_some() {
                self.end_open(&mut progress, Outcome::Aborted);
            }
            result = result.and(self.complete(&mut progress, Durability::Os));
        }
        result
    }

    /// Returns whether a transaction of ours has no marker in a partition. A log in this state is
    /// not marked as cleanly closed.
    pub(crate) fn has_unended(&self) -> bool {
        let is_unended = |partition: &Arc<PartitionCore>| {
            let open = partition.unended_transactions();
            open.iter().any(|open| is_own(open.producer_id))
        };
        self.catalog.partitions().iter().any(is_unended)
    }

    /// Returns whether states are stored in the version that cannot tell a transaction from the
    /// next one. Each commit is then completed before it returns.
    pub(super) fn completes_at_once(&self) -> Result<bool> {
        Ok(self.version()? == ValueVersion::V0)
    }
}

impl Progress {
    /// Returns whether a producer of a broker may continue the transaction, so that its state stays
    /// as it is.
    fn is_left_to_broker(&self) -> bool {
        self.state.status == TransactionStatus::Ongoing && !is_own(self.state.producer_id)
    }

    /// Returns whether the transaction is over: no marker is due, and the state says so.
    fn is_settled(&self) -> bool {
        let is_over = matches!(
            self.state.status,
            TransactionStatus::Empty
                | TransactionStatus::CompleteCommit
                | TransactionStatus::CompleteAbort
        );
        is_over && self.due.is_none() && self.undecided.is_none()
    }
}
