//! Waiting for more to read, and being woken.

use std::fmt;
use std::hint;
use std::sync::Arc;

use crate::clock::Deadline;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, SPIN};

/// One waiter: a reader or a consumer. It may be registered with many partitions.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Something may have changed since the waiter last looked.
    pending: AtomicBool,
    /// Somebody called `wake` since the waiter last took it.
    woken: AtomicBool,
    /// The last wait was short. So may be the next, and then to spin costs both sides less than to
    /// sleep and to wake.
    was_short: AtomicBool,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Signal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The waiter is about to look at what it waits for: what comes after this call will be noticed
    /// by `wait`.
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
        let long = Deadline::after(2 * SPIN);
        if self.was_short.load(Ordering::Relaxed)
            && self.spin(deadline.earlier(Deadline::after(SPIN)))
        {
            return true;
        }
        let is_notified = self.sleep(deadline);
        self.was_short
            .store(is_notified && !long.has_passed(), Ordering::Relaxed);
        is_notified
    }

    fn spin(&self, deadline: Deadline) -> bool {
        /// The time is looked at less often.
        const ROUNDS: u32 = 32;
        while !deadline.has_passed() {
            for _ in 0..ROUNDS {
                if self.is_notified() {
                    return true;
                }
                hint::spin_loop();
            }
        }
        false
    }

    fn sleep(&self, deadline: Deadline) -> bool {
        let mut guard = self.lock.lock();
        while !self.is_notified() {
            match deadline.instant() {
                None => self.condvar.wait(&mut guard),
                Some(at) => {
                    if self.condvar.wait_until(&mut guard, at).timed_out() {
                        return self.is_notified();
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

    /// Tells every waiter that there is more. Call it after the new end was stored and without
    /// holding the writer lock.
    pub(crate) fn notify(&self) {
        // Without the fence the load below may pass the store of the new end, and a waiter that
        // registered in between sleeps on.
        fence(Ordering::SeqCst);
        if self.registered.load(Ordering::Relaxed) > 0 {
            for signal in self.signals.lock().iter() {
                signal.notify();
            }
        }
    }
}

/// Wakes a reader or a consumer from any thread. Clones wake the same one.
#[derive(Clone)]
pub struct Waker(Arc<Signal>);

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

impl Waker {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self(signal)
    }

    /// The reader's current or next call returns at once, with nothing, data or not.
    pub fn wake(&self) {
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What was waited for each time was there at once, and one wait was as short as it may be.
    fn busy() -> Arc<Signal> {
        let signal = Signal::new();
        signal.notify();
        while !signal.was_short.load(Ordering::Relaxed) {
            assert!(signal.wait(Deadline::never()));
        }
        signal.reset();
        signal
    }

    #[test]
    fn who_spins_is_told_and_keeps_the_deadline() {
        let signal = busy();
        assert!(!signal.wait(Deadline::after(Duration::ZERO)));
        assert!(!signal.was_short.load(Ordering::Relaxed), "nothing came");
        let signal = busy();
        assert!(
            !signal.wait(Deadline::after(2 * SPIN)),
            "longer than it spins"
        );
        let signal = busy();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| signal.wait(Deadline::never()));
            signal.notify();
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_signal_is_notified_until_it_is_reset() {
        let signal = Signal::new();
        assert!(!signal.is_notified());
        signal.notify();
        assert!(
            signal.is_notified() && signal.wait(Deadline::never()),
            "the wait is over before it begins"
        );
        signal.reset();
        assert!(!signal.is_notified() && !signal.take_woken());
        signal.wake();
        assert!(signal.is_notified() && signal.take_woken());
        assert!(!signal.take_woken(), "once");
    }

    #[test]
    fn who_has_gone_is_not_notified_and_the_others_are() {
        let (list, stays, goes) = (WaitList::default(), Signal::new(), Signal::new());
        list.notify();
        list.register(&stays);
        list.register(&goes);
        list.unregister(&goes);
        list.notify();
        assert_eq!((stays.is_notified(), goes.is_notified()), (true, false));
        assert_eq!(Arc::strong_count(&goes), 1, "nothing of it is kept");
    }
}
