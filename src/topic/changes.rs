//! Announcements of topics and partitions that are added or removed, for threads that wait for
//! them.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::partition::state::waiting::WaitList;

/// The part of a read-only log that finds the changes a writer in another process has made to
/// topics.
pub(crate) trait LooksAgain: fmt::Debug + Send + Sync {
    /// Updates the topics to the current contents of the directory.
    fn look_again(&self) -> Result<()>;
}

/// The announcements of a log: a topic or partition was added or removed, or the log was closed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    version: AtomicU64,
    is_closed: AtomicBool,
    waiters: WaitList,
    /// Set only in a read-only log.
    looks_again: OnceLock<Box<dyn LooksAgain>>,
}

impl Changes {
    /// Makes [`look_again`](Self::look_again) call `looks_again` from now on.
    pub(crate) fn set_looks_again(&self, looks_again: Box<dyn LooksAgain>) {
        let _set_once = self.looks_again.set(looks_again);
    }

    /// Updates the topics of a read-only log to what the writer has written. The caller must hold
    /// no lock of a topic or of the catalog.
    pub(crate) fn look_again(&self) -> Result<()> {
        match self.looks_again.get() {
            Some(looks_again) if !self.is_closed() => looks_again.look_again(),
            _ => Ok(()),
        }
    }

    /// Returns a number that rises whenever a topic or partition is added or removed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the list of waiting threads. Signals in it are notified at every such change, and at
    /// close.
    pub(crate) fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Announces a change, after it was made.
    pub(crate) fn announce(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.waiters.notify();
    }

    /// Announces that the log is closed. No change follows.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.announce();
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}
