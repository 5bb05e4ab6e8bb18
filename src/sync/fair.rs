//! A lock for threads that take it in loops: a waiting thread gets in after a bounded number of
//! others.
//!
//! A thread that finds the lock taken looks a few times more, and then joins a line. The first
//! thread in line sleeps until it gets the lock; each other one sleeps until the thread before it
//! has got the lock. Threads outside the line may overtake it, because handing the lock to a thread
//! that sleeps takes longer than most threads need the lock for. After [`OVERTAKES`] times, or
//! about [`PATIENCE`], they join the line as well, and the first thread in line is next.
//!
//! * `overtakes` is [`UNLIMITED`] if the line is empty. The first thread to join sets the limit,
//!   and so does each thread that leaves a line in which others wait. Both hold `line` for that.
//! * A thread that overtakes counts down while it holds the lock. No other thread writes
//!   `overtakes` at that time: a thread leaves the line only with the lock, and a thread that joins
//!   writes only if there is no limit yet.
//! * At zero, only a thread that looked at `overtakes` before can still overtake, and each such
//!   thread can do so once.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use super::{LOOKS, Mutex, MutexGuard, OVERTAKES, pause};
use crate::clock::Deadline;

pub(super) const UNLIMITED: u32 = u32::MAX;

/// How long the first thread in line may be overtaken. The clock is read after 1, 2, 4, 8 and so on
/// others, so the time becomes up to twice as long.
const PATIENCE: Duration = Duration::from_micros(200);

/// A [`Mutex`] for threads that take it in loops.
#[derive(Debug)]
pub(crate) struct FairMutex<T> {
    value: Mutex<T>,
    line: Mutex<Line>,
    /// How many threads may still overtake the first thread in line.
    pub(super) overtakes: AtomicU32,
}

#[derive(Debug)]
struct Line {
    /// The place of the thread that joined last. A thread holds its place until it has the lock.
    last: Arc<Mutex<()>>,
    /// The end of the time in which the first thread may be overtaken.
    patience: Deadline,
}

impl<T> FairMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            line: Mutex::new(Line {
                last: Arc::default(),
                patience: Deadline::never(),
            }),
            overtakes: AtomicU32::new(UNLIMITED),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.overtake().unwrap_or_else(|| self.wait())
    }

    /// Takes the lock if it is free and the line may be overtaken.
    #[inline]
    fn overtake(&self) -> Option<MutexGuard<'_, T>> {
        if self.overtakes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let value = self.value.try_lock()?;
        if self.overtakes.load(Ordering::Relaxed) < UNLIMITED {
            self.count_overtake();
        }
        Some(value)
    }

    /// Counts down, or to zero if the first thread in line has waited for long enough. The caller
    /// holds the lock.
    #[cold]
    fn count_overtake(&self) {
        let left = self.overtakes.load(Ordering::Relaxed).saturating_sub(1);
        let is_over =
            (OVERTAKES - left).is_power_of_two() && self.line.lock().patience.has_passed();
        let left = if is_over { 0 } else { left };
        self.overtakes.store(left, Ordering::Relaxed);
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        let overtake = |look| {
            pause(look);
            self.overtake()
        };
        (0..LOOKS)
            .find_map(overtake)
            .unwrap_or_else(|| self.wait_in_line())
    }

    fn wait_in_line(&self) -> MutexGuard<'_, T> {
        let place = Arc::new(Mutex::new(()));
        let held = place.lock();
        let before = {
            let mut line = self.line.lock();
            if self.overtakes.load(Ordering::Relaxed) == UNLIMITED {
                self.limit_overtakes(&mut line);
            }
            mem::replace(&mut line.last, Arc::clone(&place))
        };
        drop(before.lock());
        let value = self.value.lock();
        let mut line = self.line.lock();
        if Arc::ptr_eq(&line.last, &place) {
            self.overtakes.store(UNLIMITED, Ordering::Relaxed);
        } else {
            self.limit_overtakes(&mut line);
        }
        drop(line);
        drop(held);
        value
    }

    fn limit_overtakes(&self, line: &mut Line) {
        line.patience = Deadline::after(PATIENCE);
        self.overtakes.store(OVERTAKES, Ordering::Relaxed);
    }

    /// Returns whether a thread holds the lock, for assertions.
    pub(crate) fn is_locked(&self) -> bool {
        self.value.is_locked()
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::tests::panic_with;
    use super::*;

    /// Waits until a thread is in line.
    fn await_line<T>(mutex: &FairMutex<T>) {
        while mutex.overtakes.load(Ordering::SeqCst) == UNLIMITED {
            thread::yield_now();
        }
    }

    #[test]
    fn a_waiting_thread_gets_in_although_another_takes_the_lock_in_a_loop() {
        let mutex = FairMutex::new(false);
        thread::scope(|scope| {
            let mut value = mutex.lock();
            scope.spawn(|| *mutex.lock() = true);
            await_line(&mutex);
            for _ in 0..=OVERTAKES {
                drop(value);
                value = mutex.lock();
            }
            assert!(*value, "the waiting thread was overtaken too often");
        });
        assert_eq!(mutex.overtakes.load(Ordering::SeqCst), UNLIMITED);
    }

    #[test]
    fn a_thread_that_has_waited_for_long_is_overtaken_once_more() {
        let mutex = FairMutex::new(false);
        thread::scope(|scope| {
            let mut value = mutex.lock();
            scope.spawn(|| *mutex.lock() = true);
            await_line(&mutex);
            while !mutex.line.lock().patience.has_passed() {
                thread::yield_now();
            }
            for _ in 0..2 {
                drop(value);
                value = mutex.lock();
            }
            assert!(*value, "the waiting thread was overtaken twice");
        });
    }

    #[test]
    fn threads_get_in_in_the_order_in_which_they_joined_the_line() {
        const THREADS: usize = 5;
        let mutex = FairMutex::new(Vec::new());
        let mut joined = Arc::clone(&mutex.line.lock().last);
        thread::scope(|scope| {
            let held = mutex.lock();
            for number in 0..THREADS {
                let mutex = &mutex;
                scope.spawn(move || mutex.lock().push(number));
                while Arc::ptr_eq(&joined, &mutex.line.lock().last) {
                    thread::yield_now();
                }
                joined = Arc::clone(&mutex.line.lock().last);
            }
            drop(held);
        });
        assert_eq!(mutex.into_inner(), (0..THREADS).collect::<Vec<_>>());
    }

    #[test]
    fn no_thread_is_in_line_at_the_end_and_no_count_is_lost() {
        const THREADS: u64 = 8;
        const TURNS: u64 = 2_000;
        let mutex = FairMutex::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..TURNS).for_each(|_| *mutex.lock() += 1));
            }
        });
        assert_eq!(mutex.overtakes.load(Ordering::SeqCst), UNLIMITED);
        assert!(!mutex.is_locked());
        assert_eq!(mutex.into_inner(), THREADS * TURNS);
    }

    #[test]
    fn a_panic_under_the_lock_does_not_keep_other_threads_from_it() {
        let mutex = FairMutex::new(1);
        panic_with(|| mutex.lock());
        assert_eq!(*mutex.lock(), 1);
    }
}
