//! Members join, leave, stall and panic while records are appended. No two members may work on a
//! partition at once, no record may be lost, and no record may be delivered again after its commit.
//!
//! The members themselves note the partitions that they work on, between their polls, so the test
//! does not rely on what the group reports. A partition may have two holders only if one of them
//! stayed away for so long that the group may have fenced it. Then only one of the two can still
//! commit.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annals::{Consumer, ConsumerConfig, ConsumerGroup, Error, Log, Rebalance, RecordView, Topic};

use super::{fill, log_with, t};

const PARTITIONS: u32 = 6;
const RECORDS: u64 = 400;
const WORKERS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);
/// The longest allowed time between two polls of a member.
const INTERVAL: Duration = Duration::from_millis(15);

/// A small random generator. Its steps are the same in every run, as far as threads allow.
struct Steps(u64);

impl Steps {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The payload of an intended panic.
struct OnPurpose;

/// The shared notes of the workers.
#[derive(Default)]
struct Work {
    /// The committed position of each partition.
    done: HashMap<u32, u64>,
    /// The members that work on each partition.
    holders: HashMap<u32, Vec<Holder>>,
    /// The number of holders so far.
    holders_count: u64,
}

/// A member that works on a partition after one of its polls.
struct Holder {
    id: u64,
    /// The start of the poll. The group can fence the member one [`INTERVAL`] later at the
    /// earliest.
    since: Instant,
    /// Whether another member has committed since. The partition then no longer belonged to this
    /// holder.
    is_beaten: bool,
}

impl Holder {
    fn may_be_fenced(&self) -> bool {
        self.since.elapsed() >= INTERVAL
    }
}

/// The note of a worker since its last poll. It is dropped before the consumer, so the note is
/// removed before the partitions are released.
struct Claim<'a> {
    work: &'a Mutex<Work>,
    /// The id of the holder, or `None` during a poll.
    holder: Option<u64>,
    since: Instant,
}

impl<'a> Claim<'a> {
    fn new(work: &'a Mutex<Work>) -> Self {
        Self {
            work,
            holder: None,
            since: Instant::now(),
        }
    }

    fn work(&self) -> MutexGuard<'a, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the note. From now on other members may own the partitions.
    fn withdraw(&mut self) {
        if let Some(id) = self.holder.take() {
            self.work()
                .holders
                .values_mut()
                .for_each(|holders| holders.retain(|holder| holder.id != id));
        }
        self.since = Instant::now();
    }

    /// Notes the partitions that the consumer owns according to its assignment. If a partition has
    /// another holder, one of the two must have stayed away.
    fn publish(&mut self, consumer: &Consumer) {
        let mut work = self.work();
        work.holders_count += 1;
        let id = work.holders_count;
        for partition in consumer.assignment() {
            let holders = work.holders.entry(partition.partition).or_default();
            let holder = Holder {
                id,
                since: self.since,
                is_beaten: false,
            };
            let is_allowed = |other: &Holder| other.may_be_fenced() || holder.may_be_fenced();
            assert!(
                holders.iter().all(is_allowed),
                "partition {} has two owners",
                partition.partition
            );
            holders.push(holder);
        }
        self.holder = Some(id);
    }

    /// Commits a processed record. Returns whether the partition still belonged to this worker.
    fn commit(&self, consumer: &mut Consumer, record: &RecordView<'_>) -> bool {
        // One lock covers the commit and the note, so notes are in the order of commits, and every
        // holder in the list polled before this commit.
        let mut work = self.work();
        match consumer.commit_record(record) {
            Ok(()) => {}
            Err(Error::MemberFenced { .. }) => {
                assert!(
                    self.since.elapsed() >= INTERVAL,
                    "fenced, although the member polled in time"
                );
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        let number = record.partition();
        let before = work.done.insert(number, record.offset() + 1).unwrap_or(0);
        assert_eq!(
            before,
            record.offset(),
            "partition {number} was read out of turn"
        );
        for holder in work.holders.entry(number).or_default() {
            if Some(holder.id) == self.holder {
                assert!(
                    !holder.is_beaten,
                    "two members committed in partition {number}"
                );
            } else {
                holder.is_beaten = true;
            }
        }
        true
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Runs one member: it polls some times, then leaves or panics, with or without having processed
/// its last records.
fn live(group: &ConsumerGroup, work: &Mutex<Work>, stop: &AtomicBool, steps: &mut Steps) {
    let config = ConsumerConfig::new()
        .max_poll_records(1 + u32::try_from(steps.below(20)).unwrap())
        .max_poll_interval(INTERVAL);
    let mut consumer = group.join_with("t", config).unwrap();
    let mut claim = Claim::new(work);
    for _ in 0..=steps.below(40) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        claim.withdraw();
        let records = consumer.poll(Duration::from_millis(20)).unwrap();
        claim.publish(&consumer);
        for change in records.rebalance() {
            if let Rebalance::Assigned(partitions) = change {
                assert!(
                    partitions
                        .iter()
                        .all(|partition| consumer.assignment().contains(partition))
                );
            }
        }
        assert!(records.skipped().is_empty());
        if steps.below(30) == 0 {
            // Stay away for too long, so that other members take over.
            thread::sleep(Duration::from_millis(30));
        }
        for record in &records {
            let record = record.unwrap();
            if steps.below(150) == 0 {
                resume_unwind(Box::new(OnPurpose));
            }
            if !claim.commit(&mut consumer, &record) {
                break;
            }
        }
        if steps.below(25) == 0 {
            return;
        }
    }
}

fn produce(topic: &Topic) {
    for round in 0..RECORDS {
        for number in 0..PARTITIONS {
            fill(topic, number, 1);
        }
        if round % 16 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_done(group: &ConsumerGroup) -> bool {
    (0..PARTITIONS).all(|number| {
        group
            .committed(&t(number))
            .unwrap()
            .is_some_and(|next| next.offset == RECORDS)
    })
}

#[test]
fn members_that_join_leave_stall_and_panic_lose_no_record_and_repeat_none() {
    let (log, topic): (Log, Topic) = log_with(PARTITIONS);
    let group = log.consumer_group("g").unwrap();
    let (work, stop) = (Mutex::<Work>::default(), AtomicBool::new(false));
    let panics = AtomicU32::new(0);
    let (work, stop, panics) = (&work, &stop, &panics);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| produce(&topic));
        for seed in 0..WORKERS {
            let group = &group;
            scope.spawn(move || {
                let mut steps = Steps(seed);
                while !stop.load(Ordering::Relaxed) {
                    let lived =
                        catch_unwind(AssertUnwindSafe(|| live(group, work, stop, &mut steps)));
                    if let Err(panic) = lived {
                        assert!(panic.is::<OnPurpose>(), "a worker failed");
                        panics.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while !is_done(&group) && started.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        is_done(&group),
        "{:?}",
        work.lock().map(|work| work.done.clone())
    );
    assert!(panics.load(Ordering::Relaxed) > 0, "no worker panicked");
    let mut last: Consumer = group.join("t").unwrap();
    assert_eq!(last.assignment().len(), PARTITIONS as usize);
    assert_eq!(last.lag(), Some(0));
    assert!(last.poll(Duration::ZERO).unwrap().is_empty());
}
