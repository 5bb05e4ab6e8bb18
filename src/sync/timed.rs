//! A lock that a thread can wait for until a deadline.

use std::ops::{Deref, DerefMut};

use super::{Condvar, Mutex, MutexGuard};
use crate::clock::Deadline;

/// A lock for work that may take long, so that a thread can give up waiting for it.
#[derive(Debug, Default)]
pub(crate) struct TimedMutex<T> {
    is_held: Mutex<bool>,
    given_back: Condvar,
    /// Free unless the lock is held.
    value: Mutex<T>,
}

/// A held [`TimedMutex`].
#[derive(Debug)]
pub(crate) struct TimedGuard<'a, T> {
    // The fields are dropped in this order.
    value: MutexGuard<'a, T>,
    _turn: Turn<'a>,
}

#[derive(Debug)]
struct Turn<'a> {
    is_held: &'a Mutex<bool>,
    given_back: &'a Condvar,
}

impl<T> TimedMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            is_held: Mutex::new(false),
            given_back: Condvar::new(),
            value: Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> TimedGuard<'_, T> {
        match self.lock_until(Deadline::never()) {
            Some(guard) => guard,
            None => unreachable!("the deadline never passes"),
        }
    }

    /// Returns `None` if another thread holds the lock.
    pub(crate) fn try_lock(&self) -> Option<TimedGuard<'_, T>> {
        self.take(self.is_held.lock())
    }

    /// Returns `None` if other threads hold the lock until the deadline.
    pub(crate) fn lock_until(&self, deadline: Deadline) -> Option<TimedGuard<'_, T>> {
        let mut is_held = self.is_held.lock();
        while *is_held && !deadline.has_passed() {
            is_held = self.given_back.wait_until(is_held, deadline);
        }
        self.take(is_held)
    }

    fn take(&self, mut is_held: MutexGuard<'_, bool>) -> Option<TimedGuard<'_, T>> {
        if std::mem::replace(&mut *is_held, true) {
            return None;
        }
        drop(is_held);
        Some(TimedGuard {
            value: self.value.lock(),
            _turn: Turn {
                is_held: &self.is_held,
                given_back: &self.given_back,
            },
        })
    }
}

impl<T> Deref for TimedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for TimedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.is_held.lock() = false;
        self.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::tests::panic_with;
    use super::*;

    #[test]
    fn a_thread_gives_up_at_its_deadline() {
        let mutex = TimedMutex::new(0);
        let mut held = mutex.lock();
        *held += 1;
        assert!(mutex.try_lock().is_none());
        assert!(mutex.lock_until(Deadline::after(Duration::ZERO)).is_none());
        let soon = Deadline::after(Duration::from_millis(1));
        assert!(mutex.lock_until(soon).is_none());
        drop(held);
        assert_eq!(mutex.try_lock().as_deref(), Some(&1));
    }

    #[test]
    fn every_waiting_thread_gets_the_lock() {
        const THREADS: usize = 8;
        const TURNS: usize = 500;
        let mutex = TimedMutex::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..TURNS).for_each(|_| *mutex.lock() += 1));
            }
        });
        assert_eq!(*mutex.lock(), THREADS * TURNS);
    }

    #[test]
    fn a_panic_under_the_lock_gives_it_back() {
        let mutex = TimedMutex::new(1);
        panic_with(|| mutex.lock());
        assert_eq!(*mutex.lock(), 1);
    }
}
