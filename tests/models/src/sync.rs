//! The model checker's locks, condition variables and atomics, with the API that the crate uses.

use std::time::Instant;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().expect("no thread of a model panics")))
    }
}

/// A held lock, which a wait can release and take again.
pub(crate) struct Guard<'a, T>(Option<MutexGuard<'a, T>>);

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("only a wait releases the lock")
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only a wait releases the lock")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// The result of a wait. Only a notification ends it, because a model has no time.
pub(crate) struct Waited;

impl Waited {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        let held = guard.0.take().expect("only a wait releases the lock");
        guard.0 = Some(self.0.wait(held).expect("no thread of a model panics"));
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _at: Instant) -> Waited {
        self.wait(guard);
        Waited
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Time to spin before a sleep. A thread that spins sees no more than one that sleeps at once.
pub(crate) const SPIN: std::time::Duration = std::time::Duration::ZERO;
