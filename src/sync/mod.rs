//! The primitives from which the protocols between threads are built: locks, conditions, atomics.
//!
//! The locks are those of the standard library, without poison: a panic under a lock, as in a clock
//! or a storage of the user, does not keep other threads from it.
//!
//! `tests/models` replaces this module with that of a model checker, which runs the protocols that
//! import their primitives from here in every possible order of threads.

mod fair;
mod timed;

use std::hint;
use std::sync::{PoisonError, TryLockError};
use std::thread;

pub(crate) use std::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, atomic};

pub(crate) use fair::FairMutex;
pub(crate) use timed::{TimedGuard, TimedMutex};

use crate::clock::Deadline;
use atomic::{AtomicUsize, Ordering};

/// How long a thread may spin before it sleeps: about the time that it takes to be woken again.
pub(crate) const SPIN: std::time::Duration = std::time::Duration::from_micros(50);

/// How often a thread looks again whether a lock is free, before it sleeps.
const LOOKS: u32 = 10;

/// How many threads may overtake the first thread that waits for a [`FairMutex`].
const OVERTAKES: u32 = 1 << 10;

/// Pauses before the next look at a lock: spins for a moment, later lets another thread run.
fn pause(look: u32) {
    match look {
        0..3 => (0..2 << look).for_each(|_| hint::spin_loop()),
        _ => thread::yield_now(),
    }
}

/// A lock for one thread at a time. Threads that take it in a loop may keep others waiting for
/// long: see [`FairMutex`].
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `None` if a thread holds the lock.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns whether a thread holds the lock, for assertions.
    pub(crate) fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock for one writer or many readers at a time.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a thread may write, for assertions.
    pub(crate) fn is_locked_exclusive(&self) -> bool {
        matches!(self.0.try_read(), Err(TryLockError::WouldBlock))
    }
}

/// A condition that threads wait for. A wait may end for no reason.
///
/// Notifying makes no system call unless a thread waits. So the caller must have held the lock
/// since it changed the condition: a thread that missed the change was counted under the lock.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    waiting: AtomicUsize,
    condvar: std::sync::Condvar,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            condvar: std::sync::Condvar::new(),
        }
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, Deadline::never())
    }

    /// Waits until `deadline` at the latest.
    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = match deadline.remaining() {
            None => self
                .condvar
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let waited = self.condvar.wait_timeout(guard, time);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    pub(crate) fn notify_one(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_one();
        }
    }

    pub(crate) fn notify_all(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Takes locks in another thread, which then panics.
    pub(super) fn panic_with<G>(lock: impl FnOnce() -> G + Send) {
        let panicked = thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = lock();
                panic!("a panic on purpose");
            });
            holder.join().is_err()
        });
        assert!(panicked);
    }

    #[test]
    fn a_panic_under_a_lock_does_not_keep_other_threads_from_it() {
        let (mutex, rwlock) = (Mutex::new(1), RwLock::new(2));
        panic_with(|| (mutex.lock(), rwlock.write()));
        assert!(!mutex.is_locked());
        assert_eq!(mutex.try_lock().as_deref(), Some(&1));
        assert_eq!(*rwlock.read(), 2);
        assert_eq!(mutex.into_inner(), 1);
    }

    #[test]
    fn assertions_learn_whether_a_lock_is_held() {
        let (mutex, rwlock) = (Mutex::new(()), RwLock::new(()));
        let (held, written) = (mutex.lock(), rwlock.write());
        assert!(mutex.is_locked() && rwlock.is_locked_exclusive());
        drop((held, written));
        let _read = rwlock.read();
        assert!(!mutex.is_locked() && !rwlock.is_locked_exclusive());
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_at_each_notification() {
        let (value, changed) = (Mutex::new(0), Condvar::new());
        let guard = changed.wait_until(value.lock(), Deadline::after(Duration::ZERO));
        drop(guard);
        thread::scope(|scope| {
            let wait_for = |wanted| {
                let mut seen = value.lock();
                while *seen != wanted {
                    seen = changed.wait(seen);
                }
            };
            scope.spawn(move || wait_for(1));
            scope.spawn(move || wait_for(1));
            *value.lock() = 1;
            changed.notify_all();
        });
        assert_eq!(changed.waiting.load(Ordering::SeqCst), 0);
    }
}
