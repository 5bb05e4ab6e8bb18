//! The tasks that a partition leaves to the log that opened it, or to the lone partition around it.
//!
//! A partition moves its own bounds, but checkpoints and committed positions belong to the log.
//! Every handle holds a [`Keeper`], which keeps the log open. The handle asks it for what has to
//! happen at the log together with a change here.

use std::fmt;
use std::sync::Arc;

use super::core::PartitionCore;
use super::state::report::{Maintenance, PartitionRecovery};
use crate::error::Result;
use crate::sync::MutexGuard;

/// A log or a lone partition, as its partitions see it. Dropping the last reference closes it.
pub(crate) trait Keeper: Send + Sync {
    /// Stores the raised log start of a partition, so that records which were deleted do not come
    /// back after a crash.
    fn store_log_start(&self) -> Result<()>;

    /// Returns the ids of the producers that write transactions for this log. Waits for the commits
    /// in progress.
    fn transactional_producers(&self) -> Result<Vec<i64>> {
        Ok(Vec::new())
    }

    /// Makes the cut, after the recovery point and the committed positions were lowered on the
    /// disk.
    fn truncate(&self, partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()>;

    /// Empties a partition, and moves it to its new offset. Positions above that offset are lowered
    /// first.
    fn restart(&self, partition: &Arc<PartitionCore>, restart: Restart<'_>) -> Result<()>;

    /// Lets a re-opened partition take writes again, and lowers the positions above its end before
    /// it does.
    fn finish_reopen(&self, partition: &PartitionCore, reopened: Reopened<'_>)
    -> PartitionRecovery;

    /// Stores the bounds of a partition that was flushed, if no thread does so later.
    fn store_flushed(&self) -> Result<()>;

    /// Compacts the partition now.
    fn compact(&self, partition: &PartitionCore) -> Result<Maintenance>;
}

/// A partition without a log: one that is only read, or that a test opened.
struct Unkept;

impl Keeper for Unkept {
    fn store_log_start(&self) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, _partition: &Arc<PartitionCore>, cut: Truncation<'_>) -> Result<()> {
        cut.make()
    }

    fn restart(&self, _partition: &Arc<PartitionCore>, restart: Restart<'_>) -> Result<()> {
        restart.make(|| Ok(()))
    }

    fn finish_reopen(
        &self,
        _partition: &PartitionCore,
        reopened: Reopened<'_>,
    ) -> PartitionRecovery {
        reopened.take_writes()
    }

    fn store_flushed(&self) -> Result<()> {
        Ok(())
    }

    fn compact(&self, _partition: &PartitionCore) -> Result<Maintenance> {
        Ok(Maintenance::default())
    }
}

/// Keeps the log open as long as a handle, a reader or a consumer lives.
#[derive(Clone)]
pub(crate) struct KeepOpen {
    keeper: Arc<dyn Keeper>,
}

impl KeepOpen {
    pub(crate) fn new(keeper: Arc<dyn Keeper>) -> Self {
        Self { keeper }
    }

    /// Returns a token for a partition that has no log, or whose log the caller keeps open.
    pub(crate) fn nothing() -> Self {
        Self {
            keeper: Arc::new(Unkept),
        }
    }

    pub(super) fn keeper(&self) -> &dyn Keeper {
        &*self.keeper
    }
}

impl fmt::Debug for KeepOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeepOpen")
    }
}

/// A cut that is about to be made. Until it is made or dropped, segments are only added at the end
/// and the recovery point stays.
#[derive(Debug)]
pub(crate) struct Truncation<'a> {
    pub(super) core: &'a PartitionCore,
    pub(super) end: u64,
    /// The producers whose transactions stay as they ended, even if the cut removes their markers.
    pub(super) producers: Vec<i64>,
    pub(super) _no_flush: MutexGuard<'a, ()>,
    pub(super) _replaces: MutexGuard<'a, ()>,
}

/// A partition that is about to be emptied, and to continue at another offset. Appends wait as long
/// as this lives, segments stay as they are, and the recovery point stays.
#[derive(Debug)]
pub(crate) struct Restart<'a> {
    pub(super) core: &'a PartitionCore,
    /// Where the partition ends until it moves to `start`.
    pub(super) end: u64,
    pub(super) start: u64,
    pub(super) _appends_wait: MutexGuard<'a, ()>,
    pub(super) _no_flush: MutexGuard<'a, ()>,
    pub(super) _replaces: MutexGuard<'a, ()>,
}

/// A partition that was recovered in place and does not take writes yet: appends wait as long as
/// this lives. If writes were refused before, they are refused until
/// [`take_writes`](Self::take_writes).
#[derive(Debug)]
pub(crate) struct Reopened<'a> {
    pub(super) core: &'a PartitionCore,
    pub(crate) report: PartitionRecovery,
    /// How often the partition had been poisoned before it was recovered.
    pub(super) poisonings: u64,
    pub(super) _appends_wait: MutexGuard<'a, ()>,
}
