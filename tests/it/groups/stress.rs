//! Members that join, leave, stall and panic while records are appended: no partition has two owners, nothing is lost, and
//! nothing comes again after its commit.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annals::{Consumer, ConsumerConfig, ConsumerGroup, Error, Log, Rebalance, Topic};

use super::{fill, log_with, t};

const PARTITIONS: u32 = 6;
const RECORDS: u64 = 400;
const WORKERS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// A small generator: the same steps every run, as far as threads allow.
struct Steps(u64);

impl Steps {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a worker panics with that is to panic.
struct OnPurpose;

/// What was done, by committed records: how far each partition is.
type Done = Mutex<HashMap<u32, u64>>;

/// One life of a member: some polls, then it leaves or panics, with or without having done what it polled last.
fn live(group: &ConsumerGroup, done: &Done, stop: &AtomicBool, steps: &mut Steps) {
    let config = ConsumerConfig::new()
        .max_poll_records(1 + u32::try_from(steps.below(20)).unwrap())
        .max_poll_interval(Duration::from_millis(15));
    let mut consumer = group.join_with("t", config).unwrap();
    for _ in 0..=steps.below(40) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let records = consumer.poll(Duration::from_millis(20)).unwrap();
        for change in records.rebalance() {
            if let Rebalance::Assigned(partitions) = change {
                assert!(partitions.iter().all(|partition| consumer.assignment().contains(partition)));
            }
        }
        assert!(records.skipped().is_empty());
        if steps.below(30) == 0 {
            thread::sleep(Duration::from_millis(30)); // Too long: others take over.
        }
        for record in &records {
            let record = record.unwrap();
            if steps.below(150) == 0 {
                resume_unwind(Box::new(OnPurpose));
            }
            // One lock around both: who commits first, counts first.
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match consumer.commit_record(&record) {
                Ok(()) => {
                    let before = done.insert(record.partition(), record.offset() + 1).unwrap_or(0);
                    assert_eq!(before, record.offset(), "partition {} was read out of turn", record.partition());
                }
                Err(Error::MemberFenced { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        if steps.below(25) == 0 {
            return;
        }
    }
}

/// At no moment a partition is assigned to two members.
fn check_owners(group: &ConsumerGroup) {
    let members = group.describe().unwrap().members;
    let owned: Vec<_> = members.iter().flat_map(|member| &member.assignment).collect();
    let distinct: HashSet<_> = owned.iter().collect();
    assert_eq!(distinct.len(), owned.len(), "{members:?}");
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
    (0..PARTITIONS).all(|number| group.committed(&t(number)).unwrap().is_some_and(|next| next.offset == RECORDS))
}

#[test]
fn members_that_come_go_stall_and_panic_lose_and_repeat_nothing() {
    let (log, topic): (Log, Topic) = log_with(PARTITIONS);
    let group = log.consumer_group("g").unwrap();
    let (done, stop) = (Done::default(), AtomicBool::new(false));
    let panics = AtomicU32::new(0);
    let (done, stop, panics) = (&done, &stop, &panics);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| produce(&topic));
        for seed in 0..WORKERS {
            let group = &group;
            scope.spawn(move || {
                let mut steps = Steps(seed);
                while !stop.load(Ordering::Relaxed) {
                    let lived = catch_unwind(AssertUnwindSafe(|| live(group, done, stop, &mut steps)));
                    if let Err(panic) = lived {
                        assert!(panic.is::<OnPurpose>(), "a worker failed");
                        panics.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while !is_done(&group) && started.elapsed() < LIMIT {
            check_owners(&group);
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(is_done(&group), "{:?}", done.lock());
    assert!(panics.load(Ordering::Relaxed) > 0, "nobody panicked");
    let mut last: Consumer = group.join("t").unwrap();
    assert_eq!(last.assignment().len(), PARTITIONS as usize);
    assert_eq!(last.lag(), 0);
    assert!(last.poll(Duration::ZERO).unwrap().is_empty());
}
