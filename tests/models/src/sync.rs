//! The model checker's locks, condition variables and atomics, with the API that the crate uses.

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic;

#[path = "../../../src/sync/fair.rs"]
mod fair;

pub(crate) use fair::FairMutex;

use crate::clock::Deadline;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model panics")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("no thread of a model panics")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("no thread of a model panics")
    }

    /// Waits for a notification: a model has no time.
    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _deadline: Deadline,
    ) -> MutexGuard<'a, T> {
        self.wait(guard)
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A thread that looks again sees no more than one that joins the line at once.
pub(crate) const LOOKS: u32 = 0;

pub(crate) const OVERTAKES: u32 = 1;

/// Returns whether a fair lock may be overtaken without a limit, as it is while the line is empty.
pub(crate) fn has_no_limit<T>(mutex: &FairMutex<T>) -> bool {
    mutex.overtakes.load(atomic::Ordering::SeqCst) == fair::UNLIMITED
}

pub(crate) fn pause(_look: u32) {}

/// Time to spin before a sleep. A thread that spins sees no more than one that sleeps at once.
pub(crate) const SPIN: std::time::Duration = std::time::Duration::ZERO;
