//! What a log does from time to time: flushing, checkpoints, retention, compaction, removing what
//! is due.
//!
//! [`Log::maintain`](super::Log::maintain) does all of it at once. A thread, `annals-maintain`,
//! does it in the background: every `flush_interval` it flushes what is dirty, brings the
//! checkpoints up to date and keeps the log within its bound; every `maintenance_interval` it runs
//! retention and then compaction, during which it goes on flushing. Topics with a shorter
//! `flush.ms` are flushed by that, and what a producer wrote that is to be on the device is synced
//! at once. It does nothing else, starts no other thread, and ends at close, at once when it waits,
//! and between two batches when it compacts. What fails in the background is tried again next time;
//! a failed fsync has told its partition, which tells its callers.
//!
//! There is no thread for a log that is read-only, has its clock set by hand, or has no
//! `maintenance_interval`.
//!
//! A system may refuse the thread. Then nothing flushes a second after an append, so every append
//! through the log waits for the device itself, and retention and compaction wait for `maintain`.
//! This is decided before anything is opened, since it is part of what the partitions share, and
//! holds until the log is opened again.

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

/// The first pass comes no later than this, so that programs which run briefly delete too.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// So often the thread looks whether a topic has got a `flush.ms` of its own.
const LOOK: Duration = Duration::from_secs(1);

/// The thread of a log that is being opened. It ends if this is dropped.
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

    /// Lets the thread work on a log that is open. Its reference to the core keeps nothing open:
    /// that is for the guard.
    pub(super) fn begin(self, core: &Arc<LogCore>) {
        let sent = self.log.send(Arc::clone(core));
        debug_assert!(sent.is_ok(), "the thread waits for it");
        *core.thread.lock() = Some(self.thread);
    }
}

fn run(core: &LogCore, flush_interval: Duration, interval: Duration) {
    let now = || core.context().clock.now();
    let mut time = SteadyTime::new(now(), interval);
    let mut flush_at = Deadline::after(flush_interval);
    let mut flush_some_at = Deadline::never();
    let mut pass_at = Deadline::after(interval.min(FIRST_PASS));
    // Asked before each wait as well: a compaction takes away the notification, and ends.
    while !core.is_stopping.load(Ordering::SeqCst) {
        let shortest = core
            .catalog
            .shortest_flush_time()
            .filter(|time| *time < flush_interval);
        flush_some_at = flush_some_at.earlier(shortest.map_or(Deadline::never(), Deadline::after));
        core.wake.wait(
            flush_at
                .earlier(flush_some_at)
                .earlier(pass_at)
                .earlier(Deadline::after(LOOK)),
        );
        if core.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let mut flush_if_due = || {
            if core.wake.is_notified() {
                core.wake.reset();
                // What fails is told by those who wrote it.
                let _told_to_their_callers = core.producers.sync_written();
            }
            if flush_some_at.has_passed() {
                let _tried_again_next_time = core.catalog.flush_within(flush_interval);
                flush_some_at = Deadline::after(shortest.unwrap_or(Duration::MAX));
            }
            if flush_at.has_passed() {
                let _tried_again_next_time = core.flush_and_bound(now());
                flush_at = Deadline::after(flush_interval);
            }
            true
        };
        flush_if_due();
        if pass_at.has_passed() {
            let now = time.believe(now());
            let _tried_again_next_time = core.run_retention(now);
            let _tried_again_next_time = core.run_compaction(now, &mut flush_if_due);
            pass_at = Deadline::after(interval);
        }
    }
}

impl LogCore {
    /// Everything that is due now.
    pub(super) fn maintain(&self) -> Result<Maintenance> {
        if self.context().read_only {
            return Err(Error::ReadOnly);
        }
        let now = self.context().clock.now();
        let mut sum = Sum::default();
        sum.add(self.run_retention(now));
        sum.add(self.run_compaction(now, &mut || true));
        let done = sum.result();
        match self.flush() {
            // It was full before, and what retention freed is the news.
            Ok(()) | Err(Error::DiskFull { .. }) => done,
            Err(error) => done.and(Err(error)),
        }
    }

    /// Flushes, and keeps the log within its bound: also where a partition cannot be flushed. Gives
    /// the first error.
    fn flush_and_bound(&self, now: Timestamp) -> Result<()> {
        let flushed = self.flush();
        flushed.and(self.keep_within_bound(now).map(drop))
    }

    /// Retention in every partition, the bound of the whole, and removing what is due. Gives the
    /// first error, after all was tried.
    fn run_retention(&self, now: Timestamp) -> Result<Maintenance> {
        let mut sum = Sum::default();
        for partition in self.catalog.partitions() {
            sum.add(partition.apply_retention(now));
            sum.add(partition.unlink_due());
        }
        sum.add(self.keep_within_bound(now));
        sum.add(self.catalog.unlink_due(now));
        sum.add(self.groups.maintain(now).map(|()| Maintenance::default()));
        self.finish_deletions();
        sum.result()
    }

    /// Deletes the oldest segments of all while the log is larger than `max_bytes`.
    fn keep_within_bound(&self, now: Timestamp) -> Result<Maintenance> {
        match &self.context().bound {
            Some(bound) => bound_total(bound.limit(), &self.bounded(), now),
            None => Ok(Maintenance::default()),
        }
    }

    /// The partitions that count towards the bound, and whether their segments may be deleted for
    /// it.
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
            return;
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

    /// A log that is not over its bound yet: its appends do not look before a test does.
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

    /// A partition that is larger than the whole log may be.
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
    fn a_partition_that_cannot_be_flushed_does_not_let_the_log_grow() {
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
    fn a_partition_that_cannot_be_looked_at_keeps_what_it_has_and_the_others_go() {
        let disk = SimulatedDisk::new(1);
        let (clock, log) = open(disk.clone());
        // The file is asked how old a segment is whose records are of a time to come.
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
