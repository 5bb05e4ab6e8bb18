//! Waiting for more to read, and being woken.

use std::sync::Arc;

use crate::clock::Deadline;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex};

/// One waiter: a reader or a consumer. It may be registered with many partitions.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Something may have changed since the waiter last looked.
    pending: AtomicBool,
    /// Somebody called `wake` since the waiter last took it.
    woken: AtomicBool,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Signal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The waiter is about to look at what it waits for: what comes after this call will be noticed by `wait`.
    pub(crate) fn reset(&self) {
        // A swap: what came before the notification that it takes away is seen by the look.
        self.pending.swap(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Something changed.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            drop(self.lock.lock());
            self.condvar.notify_all();
        }
    }

    /// Ends the current or the next wait, data or not.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Whether something changed since `reset`.
    pub(crate) fn is_notified(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// Whether somebody called `wake`; once.
    #[inline]
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::SeqCst)
    }

    /// Waits until notified since `reset`, or until the deadline. Gives whether it was notified.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut guard = self.lock.lock();
        while !self.pending.load(Ordering::SeqCst) {
            match deadline.instant() {
                None => self.condvar.wait(&mut guard),
                Some(at) => {
                    if self.condvar.wait_until(&mut guard, at).timed_out() {
                        return self.pending.load(Ordering::SeqCst);
                    }
                }
            }
        }
        true
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    registered: AtomicUsize,
    signals: Mutex<Vec<Arc<Signal>>>,
}

impl WaitList {
    /// Adds a waiter. After it, the waiter must look once more at what it waits for.
    pub(crate) fn register(&self, signal: &Arc<Signal>) {
        let mut signals = self.signals.lock();
        signals.push(Arc::clone(signal));
        self.registered.store(signals.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes a waiter out again.
    pub(crate) fn unregister(&self, signal: &Arc<Signal>) {
        let mut signals = self.signals.lock();
        if let Some(place) = signals.iter().position(|other| Arc::ptr_eq(other, signal)) {
            signals.swap_remove(place);
        }
        self.registered.store(signals.len(), Ordering::SeqCst);
    }

    /// Tells every waiter that there is more. Call it after the new end was stored and without holding the writer lock.
    pub(crate) fn notify(&self) {
        // Without the fence the load below may pass the store of the new end, and a waiter that registered in between sleeps on.
        fence(Ordering::SeqCst);
        if self.registered.load(Ordering::Relaxed) > 0 {
            for signal in self.signals.lock().iter() {
                signal.notify();
            }
        }
    }
}

/// Wakes a reader or a consumer from any thread. Clones wake the same one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Signal>);

impl Waker {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self(signal)
    }

    /// The reader's current or next call returns at once, with nothing, data or not.
    pub fn wake(&self) {
        self.0.wake();
    }
}
