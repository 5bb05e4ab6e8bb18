//! The log itself, shared by all handles: catalog, checkpoints and services, and closing them in
//! the right order.

use crate::catalog::Catalog;
use crate::catalog::checkpoints::{self, Checkpoints, Lines};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::group::GroupService;
use crate::partition::PartitionContext;
use crate::partition::state::waiting::Signal;
use crate::producer::ProducerService;
use crate::storage::{FileLock, Storage};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::recovery::Recovery;

/// The log itself.
pub(super) struct LogCore {
    pub(super) dir: PathBuf,
    pub(super) catalog: Arc<Catalog>,
    pub(super) groups: Arc<GroupService>,
    pub(super) producers: Arc<ProducerService>,
    pub(super) checkpoints: Checkpoints,
    pub(super) recovery: Recovery,
    /// Memory for the keys of a partition that is compacted.
    pub(super) cleaner_buffer_bytes: usize,
    /// Held by the one who compacts.
    pub(super) cleaning: Mutex<()>,
    /// Held by the one who finishes deletions. Taken before any lock of a topic, the catalog, the
    /// groups or the checkpoints.
    pub(super) finishing: Mutex<()>,
    /// Something is to be done in the background, at once.
    pub(super) wake: Arc<Signal>,
    /// Ends the background thread.
    pub(super) is_stopping: AtomicBool,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    /// `None`: read-only, or closed.
    pub(super) lock: Mutex<Option<Box<dyn FileLock>>>,
    /// How closing went. Held while it is under way.
    pub(super) closed: Mutex<Option<Result<()>>>,
}

impl LogCore {
    /// Ends the maintenance thread and waits for it.
    fn stop_thread(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.wake.notify();
        if let Some(thread) = self.thread.lock().take() {
            // Its panic hook has reported a panic. Closing does what the thread would have done.
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

    /// Whether the directory differs from what it was when it was found clean.
    pub(super) fn is_touched(&self) -> bool {
        !self.context().read_only
            && (!self.recovery.clean || self.context().clean_marker.is_cleared())
    }

    /// Makes everything durable, then says so in the checkpoints.
    pub(super) fn flush(&self) -> Result<()> {
        let flushed = self.catalog.flush();
        flushed.and(self.write_checkpoints())
    }

    /// Brings topic files and checkpoints up to date. `Closed` if the log was closed before that,
    /// and could not do it either.
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

    /// A line for every partition; those that could not be opened keep theirs.
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
                    // That its directory was there must not be forgotten, or the next opening would
                    // create an empty one.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => (
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
        let now = self.context().clock.now();
        self.catalog.begin_delete(name)?;
        // The topic is gone. What cannot be tidied now is tidied before its name is used again, at
        // the next pass or opening. Room first: on a full disk no checkpoint can be written.
        let _tried_again_later = self
            .catalog
            .vacate(name, now)
            .and_then(|()| self.catalog.unlink_due(now));
        let _tried_again_later = self.finish_deletion(name);
        self.groups.topic_deleted();
        Ok(())
    }

    /// Ends all deletions that are under way. What does not work is tried again at the next pass.
    pub(super) fn finish_deletions(&self) {
        for name in self.catalog.gone() {
            let _tried_again_later = self.finish_deletion(&name);
        }
    }

    /// Forgets the deleted topic `name` for good, so that the name is free.
    pub(super) fn finish_deletion(&self, name: &str) -> Result<()> {
        if self.context().read_only || !self.catalog.is_gone(name) {
            return Ok(());
        }
        // For two at once the second might forget what is known of the next topic of this name.
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
        // Those without a topic's id would be taken for commits to the next topic of this name.
        self.groups.forget_topic(name)?;
        self.catalog.end_delete(name)
    }

    /// Closes everything, once; later calls wait for the first and give what it gave.
    pub(super) fn close(&self) -> Result<()> {
        self.context().opener.check()?;
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        self.stop_thread();
        let sent = self.producers.close();
        let closed_partitions = self.close_partitions();
        // Lost records come before files that the next opening repairs.
        let result = sent.and(closed_partitions);
        drop(self.lock.lock().take());
        *closed = Some(result.clone());
        result
    }

    /// Whether anything is in a state that must not be called clean: damaged now, or not open at
    /// all because of damage.
    pub(super) fn has_damage(&self) -> bool {
        let partitions = self.catalog.partitions();
        let is_open = |id: &TopicPartition| partitions.iter().any(|partition| partition.id() == id);
        let mut found = self.recovery.partitions.iter();
        partitions.iter().any(|partition| partition.is_damaged())
            || found.any(|(id, recovery)| recovery.damage.is_some() && !is_open(id))
    }

    pub(super) fn close_partitions(&self) -> Result<()> {
        let writable = !self.context().read_only;
        let closed = self.catalog.close(writable);
        self.groups.close();
        let stored =
            closed.and_then(|()| self.write_checkpoints_after(TopicCore::store_last_state));
        self.checkpoints.close();
        stored?;
        if !self.is_touched() || self.has_damage() {
            // As clean as it was, or to be looked at again next time.
            return Ok(());
        }
        checkpoints::write_clean_shutdown(self.storage(), &self.dir)
    }
}
