//! The log that all handles share: catalog, checkpoints and services, and closing them in the right
//! order.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::recovery::Recovery;
use crate::catalog::Catalog;
use crate::catalog::checkpoints::{self, Checkpoints};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::group::GroupService;
use crate::partition::PartitionContext;
use crate::partition::state::waiting::Signal;
use crate::partition::stated::Lines;
use crate::producer::ProducerService;
use crate::storage::{FileLock, Storage};
use crate::sync::{Mutex, TimedMutex};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;
use crate::transaction::TransactionService;

/// The log that all handles share.
pub(super) struct LogCore {
    pub(super) dir: PathBuf,
    pub(super) catalog: Arc<Catalog>,
    pub(super) groups: Arc<GroupService>,
    pub(super) producers: Arc<ProducerService>,
    pub(super) transactions: Arc<TransactionService>,
    pub(super) checkpoints: Checkpoints,
    pub(super) recovery: Recovery,
    /// The memory for keys during a compaction, in bytes.
    pub(super) cleaner_buffer_bytes: usize,
    /// Locked while a partition is compacted, so that only one key map is in memory.
    pub(super) cleaning: TimedMutex<()>,
    /// Locked while a deletion is finished. Taken before any lock of a topic, the catalog, the
    /// groups or the checkpoints.
    pub(super) finishing: Mutex<()>,
    /// Wakes the background thread to work immediately.
    pub(super) wake: Arc<Signal>,
    /// Set to stop the background thread.
    pub(super) is_stopping: AtomicBool,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    /// `None` if the log is read-only or closed.
    pub(super) lock: Mutex<Option<Box<dyn FileLock>>>,
    /// The result of closing. Locked while the log is being closed.
    pub(super) closed: Mutex<Option<Result<()>>>,
}

impl LogCore {
    /// Stops the maintenance thread, and waits until it has ended.
    fn stop_thread(&self) {
        debug_assert!(
            self.closed.is_locked(),
            "only the thread that closes the log stops the background thread"
        );
        self.is_stopping.store(true, Ordering::SeqCst);
        self.wake.notify();
        if let Some(thread) = self.thread.lock().take() {
            debug_assert_ne!(
                thread.thread().id(),
                thread::current().id(),
                "the background thread does not close the log, because it would wait for itself"
            );
            // The panic hook has reported a panic. Closing then does the work of the thread.
            let _panicked = thread.join();
        }
    }

    pub(super) fn context(&self) -> &Arc<PartitionContext> {
        self.catalog.context()
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.context().storage
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.context().opener.check()?;
        if self.catalog.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Returns whether the checkpoints may need an update: the log was not clean when it was
    /// opened, or was written to since.
    pub(super) fn is_touched(&self) -> bool {
        !self.context().read_only
            && (!self.recovery.clean || self.context().clean_marker.is_cleared())
    }

    /// Makes everything durable, then updates the checkpoints.
    pub(super) fn flush(&self) -> Result<()> {
        let flushed = self.catalog.flush();
        flushed.and(self.write_checkpoints())
    }

    /// Updates topic files and checkpoints. Returns `Closed` if the log was closed in the meantime,
    /// and closing could not update them either.
    pub(super) fn write_checkpoints(&self) -> Result<()> {
        self.write_checkpoints_after(TopicCore::store_state)
    }

    pub(super) fn write_checkpoints_after(
        &self,
        store: impl Fn(&TopicCore) -> Result<()>,
    ) -> Result<()> {
        if !self.is_touched() {
            return Ok(());
        }
        for topic in self.catalog.topics() {
            store(&topic)?;
        }
        self.checkpoints
            .write(self.storage(), |before| self.checkpoint_lines(before))
    }

    /// Returns a line for every partition. Partitions that could not be opened keep their lines in
    /// `before`.
    pub(super) fn checkpoint_lines(&self, before: &Lines) -> Lines {
        let mut lines = Lines::default();
        for topic in self.catalog.topics() {
            for (number, slot) in topic.slots().iter() {
                let id = topic.partition_id(number);
                let cleaned = match slot {
                    Ok(partition) => partition.cleaned_line(),
                    Err(_) => before.cleaned.get(&id).copied(),
                };
                let (recovery_point, log_start) = match slot {
                    Ok(partition) => (Some(partition.recovery_point()), partition.log_start_line()),
                    // The line records that the directory existed. Without it the next opening
                    // would create an empty one.
                    Err(error) if error.is_not_found() => (
                        before.recovery_points.get(&id).copied().or(Some(0)),
                        before.log_starts.get(&id).copied(),
                    ),
                    Err(_) => (
                        before.recovery_points.get(&id).copied(),
                        before.log_starts.get(&id).copied(),
                    ),
                };
                lines
                    .cleaned
                    .extend(cleaned.map(|offset| (id.clone(), offset)));
                lines
                    .log_starts
                    .extend(log_start.map(|offset| (id.clone(), offset)));
                lines
                    .recovery_points
                    .extend(recovery_point.map(|offset| (id, offset)));
            }
        }
        lines
    }

    pub(super) fn delete_topic(&self, name: &str) -> Result<()> {
        debug_assert!(
            !file_name::is_internal_topic(name),
            "the caller has refused the names of internal topics"
        );
        let now = self.context().clock.now();
        self.catalog.begin_delete(name)?;
        debug_assert!(
            self.context().clean_marker.is_cleared(),
            "a deletion removes the mark of a clean close first"
        );
        // The topic is deleted. If a later step fails, it is done before the name is used again, at
        // the next maintenance pass, or at the next opening. Free space comes first: on a full disk
        // the checkpoints cannot be written.
        let _tried_again_later = self
            .catalog
            .vacate(name, now)
            .and_then(|()| self.catalog.unlink_due(now));
        let _tried_again_later = self.finish_deletion(name);
        self.groups.topic_deleted();
        Ok(())
    }

    /// Finishes all deletions in progress. A step that fails is tried again at the next pass.
    pub(super) fn finish_deletions(&self) {
        for name in self.catalog.gone() {
            let _tried_again_later = self.finish_deletion(&name);
        }
    }

    /// Removes the last traces of the deleted topic `name`, so that the name is free.
    pub(super) fn finish_deletion(&self, name: &str) -> Result<()> {
        if self.context().read_only || !self.catalog.is_gone(name) {
            return Ok(());
        }
        // One thread at a time: a second one might remove the state of the next topic of this name.
        let _one_at_a_time = self.finishing.lock();
        if !self.catalog.is_gone(name) {
            return Ok(());
        }
        self.catalog.vacate(name, self.context().clock.now())?;
        self.checkpoints.write(self.storage(), |before| {
            let mut lines = before.clone();
            lines.recovery_points.retain(|id, _| *id.topic != *name);
            lines.log_starts.retain(|id, _| *id.topic != *name);
            lines.cleaned.retain(|id, _| *id.topic != *name);
            lines
        })?;
        // Commits without a topic id would count as commits of the next topic of this name.
        self.groups.forget_topic(name)?;
        self.catalog.end_delete(name)
    }

    /// Closes everything once. Later calls wait for the first, and return its result.
    pub(super) fn close(&self) -> Result<()> {
        self.context().opener.check()?;
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        self.stop_thread();
        let sent = self.producers.close();
        let ended = self.transactions.close();
        let closed_partitions = self.close_partitions();
        // An error that loses records is reported before one that the next opening repairs.
        let result = sent.and(closed_partitions).and(ended);
        debug_assert!(
            self.catalog.is_closed(),
            "every call finds the log closed before another process can lock it"
        );
        drop(self.lock.lock().take());
        *closed = Some(result.clone());
        result
    }

    /// Returns whether a partition must not be marked clean: it is damaged, or could not be opened
    /// because of damage.
    pub(super) fn has_damage(&self) -> bool {
        let partitions = self.catalog.partitions();
        let is_open = |id: &TopicPartition| partitions.iter().any(|partition| partition.id() == id);
        let mut found = self.recovery.partitions.iter();
        partitions.iter().any(|partition| partition.is_damaged())
            || found.any(|(id, recovery)| recovery.damage.is_some() && !is_open(id))
    }

    pub(super) fn close_partitions(&self) -> Result<()> {
        debug_assert!(
            self.thread.lock().is_none(),
            "the background thread has ended before the partitions are closed"
        );
        let writable = !self.context().read_only;
        debug_assert_eq!(
            self.lock.lock().is_some(),
            writable,
            "the directory is locked until all its files are written"
        );
        let has_unended = self.transactions.has_unended();
        let closed = self.catalog.close(writable);
        self.groups.close();
        let stored =
            closed.and_then(|()| self.write_checkpoints_after(TopicCore::store_last_state));
        self.checkpoints.close();
        stored?;
        if !self.is_touched() || self.has_damage() || has_unended {
            // Either the marker is unchanged, or the next opening must check the log again.
            return Ok(());
        }
        for partition in self.catalog.partitions() {
            debug_assert!(
                !partition.is_dirty(),
                "{}: everything is durable before the log is marked clean",
                partition.id()
            );
            debug_assert!(
                partition.recovery_point() <= partition.log_end_offset(),
                "{}: the stored recovery point is not above the log end",
                partition.id()
            );
        }
        checkpoints::write_clean_shutdown(self.storage(), &self.dir)
    }
}
