//! Keeps the deadlines of batches that linger, or wait to be tried again: a thread of the log,
//! `annals-timer`.
//!
//! The first producer starts it. It sleeps while no batch is due, and never syncs. A log whose
//! clock is set by hand has no such thread: there `maintain` or the next record writes the batches
//! that are due. Where the system refuses the thread, the producer does not linger, and the next
//! record, `flush` or `maintain` tries a batch again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::partition::state::waiting::Signal;
use crate::threads;

pub(super) struct Timer {
    stopwatch: Arc<Stopwatch>,
    /// When the thread wakes up next, at the latest; `u64::MAX`: when it is told to.
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

    /// Starts the thread, if it is not there. It calls `work`, which gives the time of the next
    /// deadline.
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

    /// There is a deadline that `work` may not have seen. While another comes first, which is so
    /// most times, this is one load.
    pub(super) fn expect(&self, due_us: u64) {
        if due_us < self.next_us.load(Ordering::SeqCst) {
            self.next_us.fetch_min(due_us, Ordering::SeqCst);
            self.signal.notify();
        }
    }

    /// Ends the thread, and waits until it has.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.signal.notify();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic in it has been reported by its hook; what it would have done, closing does.
            let _panicked = thread.join();
        }
    }

    fn run(&self, work: &dyn Fn() -> u64) {
        loop {
            self.signal.reset();
            if self.is_stopped.load(Ordering::SeqCst) {
                return;
            }
            // A deadline that comes while `work` looks elsewhere is earlier than this, and
            // notifies.
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
    fn it_wakes_for_what_comes_first_and_ends_when_told() {
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
            "nothing is due"
        );
        timer.expect(timer.stopwatch().now_us() + 20_000);
        called.recv_timeout(patience).unwrap();
        timer.stop();
        assert!(timer.thread.lock().is_none());
        timer.start(|| unreachable!("it was stopped")).unwrap();
    }
}
