//! Lets readers and consumers wait for more records, and wakes them.

use std::fmt;
use std::hint;
use std::sync::Arc;

use super::ready::Mark;
use crate::clock::Deadline;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, SPIN};

/// One waiter: a reader or a consumer. It may be registered with many partitions.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Something may have changed since the waiter last looked.
    pending: AtomicBool,
    /// A thread called `wake` since the waiter last took the call.
    woken: AtomicBool,
    /// The last wait was short. The next one may be short too, and then spinning costs both sides
    /// less than to sleep and to be woken.
    was_short: AtomicBool,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Signal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Prepares a look at the condition that the waiter waits for: `wait` notices every change
    /// after this call.
    pub(crate) fn reset(&self) {
        // A swap, not a store: the waiter sees every change that came before the notification it
        // clears.
        self.pending.swap(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Notifies the waiter that something changed.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            drop(self.lock.lock());
            self.condvar.notify_all();
        }
    }

    /// Ends the current or the next wait, even without new data.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Returns whether something changed since `reset`.
    pub(crate) fn is_notified(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// Returns whether a thread called `wake` since the last call of this function.
    #[inline]
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::SeqCst)
    }

    /// Waits until the signal is notified or the deadline passes. Returns whether it was notified
    /// since `reset`.
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
        /// Reading the clock is slower than a look at the flag, so it happens less often.
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
            if deadline.has_passed() {
                return false;
            }
            guard = self.condvar.wait_until(guard, deadline);
        }
        true
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    registered: AtomicUsize,
    waiters: Mutex<Vec<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    signal: Arc<Signal>,
    /// Set before the signal is notified, for a waiter that must know which partition has changed.
    mark: Option<Arc<Mark>>,
}

impl WaitList {
    /// Adds a waiter. Afterwards the waiter must look once more at the condition that it waits for.
    pub(crate) fn register(&self, signal: &Arc<Signal>) {
        self.add(signal, None);
    }

    /// Adds a waiter with a mark, as [`register`](Self::register) does.
    pub(crate) fn register_marked(&self, signal: &Arc<Signal>, mark: &Arc<Mark>) {
        self.add(signal, Some(Arc::clone(mark)));
    }

    fn add(&self, signal: &Arc<Signal>, mark: Option<Arc<Mark>>) {
        let signal = Arc::clone(signal);
        let mut waiters = self.waiters.lock();
        waiters.push(Waiter { signal, mark });
        self.registered.store(waiters.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Removes a waiter.
    pub(crate) fn unregister(&self, signal: &Arc<Signal>) {
        let mut waiters = self.waiters.lock();
        let is_same = |waiter: &Waiter| Arc::ptr_eq(&waiter.signal, signal);
        if let Some(place) = waiters.iter().position(is_same) {
            waiters.swap_remove(place);
        }
        self.registered.store(waiters.len(), Ordering::SeqCst);
    }

    /// Notifies every waiter that there is more to read. The caller has stored the new end, and
    /// does not hold the writer lock.
    pub(crate) fn notify(&self) {
        // Without the fence, the load below may pass the store of the new end, and a waiter that
        // registered in between sleeps on.
        fence(Ordering::SeqCst);
        if self.registered.load(Ordering::Relaxed) > 0 {
            for Waiter { signal, mark } in self.waiters.lock().iter() {
                if let Some(mark) = mark {
                    mark.set();
                }
                signal.notify();
            }
        }
    }
}

/// Wakes a reader or a consumer from any thread. All clones wake the same one.
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

    /// Makes the current or next call of the reader or consumer return at once and empty, even if
    /// there is data.
    pub fn wake(&self) {
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Returns a signal whose last wait was short.
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
    fn a_spinning_waiter_notices_a_notification_and_keeps_its_deadline() {
        let signal = busy();
        assert!(!signal.wait(Deadline::after(Duration::ZERO)));
        assert!(
            !signal.was_short.load(Ordering::Relaxed),
            "no notification came"
        );
        let signal = busy();
        assert!(
            !signal.wait(Deadline::after(2 * SPIN)),
            "it spins for less time than this"
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
        assert!(signal.is_notified());
        assert!(
            signal.wait(Deadline::never()),
            "the wait is over before it begins"
        );
        signal.reset();
        assert!(!signal.is_notified());
        assert!(!signal.take_woken());
        signal.wake();
        assert!(signal.is_notified());
        assert!(signal.take_woken());
        assert!(!signal.take_woken(), "a call is taken once");
    }

    #[test]
    fn an_unregistered_waiter_is_not_notified_and_the_others_are() {
        let (list, stays, leaves) = (WaitList::default(), Signal::new(), Signal::new());
        list.notify();
        list.register(&stays);
        list.register(&leaves);
        list.unregister(&leaves);
        list.notify();
        assert_eq!((stays.is_notified(), leaves.is_notified()), (true, false));
        assert_eq!(
            Arc::strong_count(&leaves),
            1,
            "the list keeps no reference to it"
        );
    }

    #[test]
    fn a_notification_sets_the_mark_of_a_waiter() {
        let (list, signal) = (WaitList::default(), Signal::new());
        let ready = Arc::default();
        let mark = Mark::new(&ready);
        mark.move_to(3);
        list.register_marked(&signal, &mark);
        list.notify();
        let (mut spare, mut places) = (Vec::new(), Vec::new());
        ready.take(&mut spare, |place| places.push(place));
        assert_eq!((places, signal.is_notified()), (vec![3], true));
    }
}
