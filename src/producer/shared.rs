//! The state that all lanes of a producer share.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use super::config::ProducerConfig;
use super::memory::Memory;
use super::outcome::Failures;
use super::pace::Pace;
use super::timer::Timer;
use crate::error::{Error, Result};
use crate::partition::PartitionContext;
use crate::partition::state::waiting::Signal;
use crate::sync::Mutex;

/// The state that all lanes of a producer share.
pub(super) struct Shared {
    pub(super) pace: Pace,
    pub(super) memory: Memory,
    pub(super) failures: Failures,
    pub(super) retries: Retries,
    pub(super) delivery_timeout: Duration,
    /// Whether the thread that writes a batch syncs it, because no other thread will.
    pub(super) syncs_at_once: bool,
    /// When to look at which lane, earliest first. A lane that is in here is marked as timed, and
    /// is in here once.
    deadlines: Mutex<BinaryHeap<Reverse<(u64, u32)>>>,
    /// The numbers of the lanes that are marked as busy. Other lanes have no batch, and a flush
    /// passes over them.
    busy: Mutex<BTreeSet<u32>>,
    timer: Arc<Timer>,
    /// Notified when there is something to sync.
    syncing: Arc<Signal>,
    is_closed: AtomicBool,
}

/// The next step with a producer's deadlines.
pub(super) enum Due {
    /// Look at the lane of this number now.
    Lane(u32),
    /// Wait until this time; `u64::MAX` if there is no deadline.
    At(u64),
}

impl Shared {
    pub(super) fn new(
        context: &PartitionContext,
        timer: &Arc<Timer>,
        syncing: &Arc<Signal>,
        config: &ProducerConfig,
    ) -> Self {
        Self {
            pace: Pace::new(&context.clock, timer.stopwatch(), config.linger),
            memory: Memory::new(config.buffer_memory),
            failures: Failures::default(),
            retries: Retries::default(),
            delivery_timeout: config.delivery_timeout,
            syncs_at_once: context.syncs_at_once,
            deadlines: Mutex::default(),
            busy: Mutex::default(),
            timer: Arc::clone(timer),
            syncing: Arc::clone(syncing),
            is_closed: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Closes the producer: every lane refuses records from now on.
    ///
    /// A thread that is creating a lane has it in the table before it checks whether the producer
    /// is closed, and a thread that begins a batch has its lane among the busy ones before that. So
    /// either a later walk over the busy lanes sees that lane, or the thread sees that the producer
    /// is closed. A record that is added before the walk visits its lane is sent; after the visit,
    /// its sender finds the producer closed.
    pub(super) fn refuse(&self) {
        self.is_closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Adds a lane that has just been marked as busy.
    pub(super) fn note_busy(&self, lane: u32) {
        self.busy.lock().insert(lane);
    }

    /// Removes a lane that is no longer marked as busy.
    pub(super) fn note_idle(&self, lane: u32) {
        self.busy.lock().remove(&lane);
    }

    /// Returns the numbers of the busy lanes in order: each lane that has a batch is among them.
    pub(super) fn busy(&self) -> Vec<u32> {
        self.busy.lock().iter().copied().collect()
    }

    /// Adds a deadline of a lane that has just been marked as timed, and wakes the timer if needed.
    pub(super) fn expect(&self, lane: u32, due_us: u64) {
        self.expect_again(lane, due_us);
        self.timer.expect(due_us);
    }

    /// Adds a deadline while the timer's thread, or `maintain`, goes through them: it sees the
    /// deadline without a wake-up.
    pub(super) fn expect_again(&self, lane: u32, due_us: u64) {
        self.deadlines.lock().push(Reverse((due_us, lane)));
    }

    /// Returns the lane whose deadline has passed, and takes that deadline out; the next deadline
    /// if none has passed.
    pub(super) fn take_due(&self, now_us: u64) -> Due {
        let mut deadlines = self.deadlines.lock();
        match deadlines.peek() {
            Some(Reverse((due_us, _))) if *due_us > now_us => Due::At(*due_us),
            Some(Reverse((_, lane))) => {
                let lane = *lane;
                deadlines.pop();
                Due::Lane(lane)
            }
            None => Due::At(u64::MAX),
        }
    }

    /// Asks the log's background thread to sync, because no other thread is known to wait for it.
    pub(super) fn ask_for_sync(&self) {
        self.syncing.notify();
    }
}

/// The retries that are in progress in all lanes of a producer: their number, and the last error.
#[derive(Default)]
pub(super) struct Retries(Mutex<(usize, Option<Error>)>);

impl Retries {
    /// Notes that a lane begins to retry because of this error.
    pub(super) fn begin(&self, error: &Error) {
        let mut retries = self.0.lock();
        retries.0 += 1;
        retries.1 = Some(error.clone());
    }

    /// Notes that a lane has written, or given up, every batch that it retried.
    pub(super) fn end(&self) {
        let mut retries = self.0.lock();
        retries.0 -= 1;
    }

    /// Returns the last error for which a lane began to retry; `None` while no lane retries.
    pub(super) fn cause(&self) -> Option<Error> {
        let retries = self.0.lock();
        retries.1.clone().filter(|_| retries.0 > 0)
    }
}
