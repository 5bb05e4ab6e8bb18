//! A thread of the log, `annals-timer`, that keeps the deadlines of batches which linger or wait
//! for a retry.
//!
//! The first producer starts the thread. It sleeps while no batch is due, and never syncs. A log
//! whose clock is set by hand has no such thread: `maintain` or the next record writes the batches
//! that are due. If the system refuses the thread, the producer does not linger, and the next
//! record, `flush` or `maintain` retries a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::clock::Stopwatch;
use crate::partition::state::waiting::Signal;
use crate::sync::Mutex;
use crate::threads;

pub(super) struct Timer {
    stopwatch: Arc<Stopwatch>,
    /// When the thread wakes up at the latest; with `u64::MAX` it waits for the signal.
    next_us: AtomicU64,
    signal: Arc<Signal>,
    is_stopped: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Timer {
    pub(super) fn new(stopwatch: Stopwatch) -> Self {
        Self {
            stopwatch: Arc::new(stopwatch),
            next_us: AtomicU64::new(u64::MAX),
            signal: Signal::new(),
            is_stopped: AtomicBool::new(false),
            thread: Mutex::default(),
        }
    }

    pub(super) fn stopwatch(&self) -> &Arc<Stopwatch> {
        &self.stopwatch
    }

    /// Starts the thread, unless it runs or was stopped. The thread calls `work`, which returns the
    /// time of the next deadline.
    pub(super) fn start(
        self: &Arc<Self>,
        work: impl Fn() -> u64 + Send + 'static,
    ) -> std::io::Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_none() && !self.is_stopped.load(Ordering::SeqCst) {
            let timer = Arc::clone(self);
            *thread = Some(threads::spawn("annals-timer", move || timer.run(&work))?);
        }
        Ok(())
    }

    /// Notes a deadline that `work` may not have seen. Most of the time an earlier one is known
    /// already, and this is a single load.
    pub(super) fn expect(&self, due_us: u64) {
        if due_us < self.next_us.load(Ordering::SeqCst) {
            self.next_us.fetch_min(due_us, Ordering::SeqCst);
            self.signal.notify();
        }
    }

    /// Ends the thread, and waits until it has ended.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.signal.notify();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has reported a panic of the thread, and closing writes the batches
            // that the thread would have written.
            let _panicked = thread.join();
        }
    }

    fn run(&self, work: &dyn Fn() -> u64) {
        loop {
            self.signal.reset();
            if self.is_stopped.load(Ordering::SeqCst) {
                return;
            }
            // A deadline that is added while `work` runs is earlier than this, so it notifies.
            self.next_us.store(u64::MAX, Ordering::SeqCst);
            let next_us = work();
            self.next_us.fetch_min(next_us, Ordering::SeqCst);
            self.signal
                .wait(self.stopwatch.deadline(self.next_us.load(Ordering::SeqCst)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn the_timer_wakes_for_the_first_deadline_and_ends_when_stopped() {
        let timer = Arc::new(Timer::new(Stopwatch::of(
            &(Arc::new(SystemClock) as Arc<dyn Clock>),
        )));
        let (calls, called) = mpsc::channel();
        let stopwatch = Arc::clone(timer.stopwatch());
        timer
            .start(move || {
                calls.send(stopwatch.now_us()).unwrap();
                u64::MAX
            })
            .unwrap();
        let patience = Duration::from_secs(30);
        called.recv_timeout(patience).unwrap();
        assert!(
            called.recv_timeout(Duration::from_millis(30)).is_err(),
            "no deadline has passed"
        );
        timer.expect(timer.stopwatch().now_us() + 20_000);
        called.recv_timeout(patience).unwrap();
        timer.stop();
        assert!(timer.thread.lock().is_none());
        timer.start(|| unreachable!("it was stopped")).unwrap();
    }
}
