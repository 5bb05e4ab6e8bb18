//! The work that a log does at intervals: flushing, checkpoints, retention, compaction, removing
//! files.
//!
//! [`Log::maintain`](super::Log::maintain) does all of it in one call. A background thread,
//! `annals-maintain`, does it at intervals:
//!
//! | when | work |
//! | --- | --- |
//! | every `flush_interval` | flushes, updates the checkpoints, keeps the log within its bound |
//! | every `flush.ms` of a topic, if that is shorter | flushes the topics that are due |
//! | when a producer has written records that must be durable | syncs them immediately |
//! | every `maintenance_interval` | applies retention, then compacts; flushes continue in the meantime |
//!
//! The thread starts no other thread. It ends when the log is closed: immediately if it waits, and
//! between two batches if it compacts. An error in the background is ignored, and the work is tried
//! again at the next interval. A failed fsync also marks its partition, which then reports it to
//! its callers.
//!
//! A log has no thread if it is read-only, its clock is set by hand, or it has no
//! `maintenance_interval`.
//!
//! The system may refuse the thread. Then appends would not be flushed within a second, so every
//! append through the log waits for the device, and retention and compaction wait for `maintain`.
//! This is decided before any partition is opened, because the partitions share it. It holds until
//! the log is opened again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::core::LogCore;
use crate::clock::{Deadline, Timestamp};
use crate::config::LogSettings;
use crate::error::{Error, Result};
use crate::partition::{Maintenance, RoomKeeper};
use crate::retention::{Bounded, SteadyTime, Sum, allows_deletion, bound_total, total_bytes};
use crate::threads;

/// The latest time of the first pass, so that programs which run briefly also delete old records.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// The interval at which the thread checks whether a topic has a new `flush.ms`.
const LOOK: Duration = Duration::from_secs(1);

/// The thread of a log that is being opened. The thread ends if this value is dropped.
pub(super) struct Idle {
    thread: JoinHandle<()>,
    log: Sender<Arc<LogCore>>,
}

impl Idle {
    /// Starts the thread, if the settings ask for one.
    pub(super) fn start(settings: &LogSettings) -> io::Result<Option<Self>> {
        let Some(interval) = settings.maintenance_interval else {
            return Ok(None);
        };
        let flush_interval = settings.flush_interval;
        let (log, opened) = channel::<Arc<LogCore>>();
        let work = move || {
            if let Ok(core) = opened.recv() {
                run(&core, flush_interval, interval);
            }
        };
        Ok(Some(Self {
            thread: threads::spawn("annals-maintain", work)?,
            log,
        }))
    }

    /// Sets the thread to work on an open log. Its reference to the core does not keep the log
    /// open; only the guard does.
    pub(super) fn begin(self, core: &Arc<LogCore>) {
        let sent = self.log.send(Arc::clone(core));
        debug_assert!(sent.is_ok(), "the thread is waiting for the log");
        let former = core.thread.lock().replace(self.thread);
        debug_assert!(former.is_none(), "a log has one background thread");
    }
}

fn run(core: &LogCore, flush_interval: Duration, interval: Duration) {
    debug_assert!(
        !core.context().read_only,
        "a read-only log has no background thread"
    );
    debug_assert!(
        !core.context().clock.is_manual(),
        "with a clock that is set by hand, the caller does the work of the thread"
    );
    let now = || core.context().clock.now();
    let mut time = SteadyTime::new(now(), interval);
    let mut schedule = Schedule::new(flush_interval, interval);
    // Checked before each wait too: a compaction that is stopped consumes the notification.
    while !core.is_stopping.load(Ordering::SeqCst) {
        schedule.look_at_topics(core);
        core.wake
            .wait(schedule.next().earlier(Deadline::after(LOOK)));
        if core.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        schedule.flush_if_due(core);
        if schedule.pass_at.has_passed() {
            let now = time.believe(now());
            let _tried_again_next_time = core.run_retention(now);
            let _tried_again_next_time = core.run_compaction(now, &mut || {
                schedule.flush_if_due(core);
                true
            });
            schedule.pass_at = Deadline::after(interval);
        }
    }
}

/// The times at which the background thread has work.
struct Schedule {
    flush_interval: Duration,
    /// The shortest `flush.ms` of a topic, if it is shorter than `flush_interval`.
    shortest: Option<Duration>,
    /// The next flush of everything.
    flush_at: Deadline,
    /// The next flush of the topics with a shorter `flush.ms`.
    flush_some_at: Deadline,
    /// The next retention and compaction.
    pass_at: Deadline,
}

impl Schedule {
    fn new(flush_interval: Duration, interval: Duration) -> Self {
        debug_assert!(
            !flush_interval.is_zero(),
            "the config refuses a flush interval of zero"
        );
        debug_assert!(
            !interval.is_zero(),
            "the config refuses a maintenance interval of zero"
        );
        Self {
            flush_interval,
            shortest: None,
            flush_at: Deadline::after(flush_interval),
            flush_some_at: Deadline::never(),
            pass_at: Deadline::after(interval.min(FIRST_PASS)),
        }
    }

    /// Looks for a topic that must be flushed more often than the others.
    fn look_at_topics(&mut self, core: &LogCore) {
        let shortest = core.catalog.shortest_flush_time();
        self.shortest = shortest.filter(|time| *time < self.flush_interval);
        let due = self.shortest.map_or(Deadline::never(), Deadline::after);
        self.flush_some_at = self.flush_some_at.earlier(due);
    }

    /// Returns the time of the next step.
    fn next(&self) -> Deadline {
        self.flush_at
            .earlier(self.flush_some_at)
            .earlier(self.pass_at)
    }

    /// Syncs what a producer waits for, and flushes what is due. A compaction calls this too, so
    /// that flushes do not wait for its end.
    fn flush_if_due(&mut self, core: &LogCore) {
        if core.wake.is_notified() {
            core.wake.reset();
            // The producers report an error to their callers.
            let _reported_by_producers = core.producers.sync_written();
        }
        if self.flush_some_at.has_passed() {
            let _tried_again_next_time = core.catalog.flush_within(self.flush_interval);
            self.flush_some_at = Deadline::after(self.shortest.unwrap_or(Duration::MAX));
        }
        if self.flush_at.has_passed() {
            let _tried_again_next_time = core.flush_and_bound(core.context().clock.now());
            self.flush_at = Deadline::after(self.flush_interval);
        }
    }
}

impl LogCore {
    /// Does all work that is due now.
    pub(super) fn maintain(&self) -> Result<Maintenance> {
        self.context().check_not_read_only()?;
        let now = self.context().clock.now();
        let mut sum = Sum::default();
        sum.add(self.run_retention(now));
        sum.add(self.run_compaction(now, &mut || true));
        let done = sum.result();
        match self.flush() {
            // The disk was full before. The caller needs the report of what retention freed.
            Ok(()) | Err(Error::DiskFull { .. }) => done,
            Err(error) => done.and(Err(error)),
        }
    }

    /// Flushes, and keeps the log within its bound, even if a partition cannot be flushed. Returns
    /// the first error.
    fn flush_and_bound(&self, now: Timestamp) -> Result<()> {
        let flushed = self.flush();
        flushed.and(self.keep_within_bound(now).map(drop))
    }

    /// Applies retention to every partition, keeps the log within its bound, and removes files
    /// whose delay has passed. Tries everything, and returns the first error.
    fn run_retention(&self, now: Timestamp) -> Result<Maintenance> {
        debug_assert!(
            !self.context().read_only,
            "a read-only log deletes no records"
        );
        let mut sum = Sum::default();
        for partition in self.catalog.partitions() {
            sum.add(partition.apply_retention(now));
            sum.add(partition.unlink_due());
        }
        sum.add(self.keep_within_bound(now));
        sum.add(self.catalog.unlink_due(now));
        sum.add(
            self.transactions
                .maintain()
                .map(|()| Maintenance::default()),
        );
        sum.add(self.groups.maintain(now).map(|()| Maintenance::default()));
        self.finish_deletions();
        sum.result()
    }

    /// Deletes the oldest segments of the whole log while it is larger than `max_bytes`.
    fn keep_within_bound(&self, now: Timestamp) -> Result<Maintenance> {
        match &self.context().bound {
            Some(bound) => bound_total(bound.limit(), &self.bounded(), now),
            None => Ok(Maintenance::default()),
        }
    }

    /// Returns the partitions that count towards the bound, and whether their segments may be
    /// deleted to keep it.
    fn bounded(&self) -> Vec<Bounded> {
        let mut partitions = Vec::new();
        for topic in self.catalog.topics() {
            let is_configured = topic.is_configured();
            partitions.extend(topic.partitions().into_iter().map(|partition| {
                let may_delete =
                    is_configured && allows_deletion(partition.settings().cleanup_policy);
                (partition, may_delete)
            }));
        }
        partitions
    }
}

impl RoomKeeper for LogCore {
    fn keep_within_bound(&self) {
        let Some(bound) = &self.context().bound else {
            unreachable!("the bound itself asks for room");
        };
        let partitions = self.bounded();
        let now = self.context().clock.now();
        let _tried_again_after_the_next_step =
            bound_total(bound.limit() - bound.step(), &partitions, now);
        bound.set_room(total_bytes(&partitions));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config::{Durability, LogConfig, TopicConfig};
    use crate::format::record::Record;
    use crate::log::Log;
    use crate::partition::Partition;
    use crate::storage::faulty::{Fault, FaultyDisk};
    use crate::storage::{SimulatedDisk, Storage};

    const LIMIT: u64 = 2_000;

    /// A log that believes it is below its bound, so that an append does not check the bound before
    /// the test does.
    fn open(disk: impl Storage) -> (ManualClock, Log) {
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
        let builder = Log::builder("data").storage(disk).clock(clock.clone());
        let config = LogConfig::new()
            .max_bytes(LIMIT)
            .topic_defaults(TopicConfig::new().max_message_bytes(1_000));
        let log = builder.config(config).open().unwrap();
        log.core()
            .context()
            .bound
            .as_ref()
            .unwrap()
            .set_room_for_tests(i64::MAX);
        (clock, log)
    }

    /// A partition that is larger than the bound of the log.
    fn filled(log: &Log, topic: &str, at: Timestamp) -> Partition {
        let topic = log
            .create_topic(topic, 1, TopicConfig::new().segment_bytes(400))
            .unwrap();
        let partition = topic.partition(0).unwrap();
        for _ in 0..40 {
            partition
                .append(Record::new("a value").timestamp(at))
                .unwrap();
        }
        partition
    }

    #[test]
    fn the_log_stays_within_its_bound_if_a_partition_cannot_be_flushed() {
        let disk = FaultyDisk::failing_at(0);
        let (clock, log) = open(disk.clone());
        let poisoned = log
            .create_topic("poisoned", 1, TopicConfig::new())
            .unwrap()
            .partition(0)
            .unwrap();
        let good = filled(&log, "t", clock.now());
        poisoned.append("to be lost").unwrap();
        disk.set_fault(Some(Fault::AnyForGood));
        assert!(
            poisoned
                .with_durability(Durability::Synced)
                .append("to be lost")
                .is_err()
        );
        disk.set_fault(None);
        assert!(good.core().log_bytes() > LIMIT);
        let done = log.core().flush_and_bound(clock.now());
        assert!(matches!(done, Err(Error::Poisoned { .. })), "{done:?}");
        assert!(
            good.core().log_bytes() <= LIMIT,
            "{} bytes",
            good.core().log_bytes()
        );
    }

    #[test]
    fn retention_continues_after_a_partition_that_cannot_be_read() {
        let disk = SimulatedDisk::new(1);
        let (clock, log) = open(disk.clone());
        // The age of a segment with timestamps in the future is the age of its file, which is
        // missing below.
        let broken = filled(&log, "broken", clock.now() + Duration::from_secs(60));
        let good = filled(&log, "t", clock.now());
        let before = broken.core().log_bytes();
        disk.remove_file(&broken.segments()[1].path).unwrap();
        let done = log.core().keep_within_bound(clock.now());
        assert!(matches!(done, Err(Error::Io { .. })), "{done:?}");
        assert_eq!(broken.core().log_bytes(), before);
        assert!(good.segments().len() <= 2, "{:?}", good.segments());
    }
}
