//! The models, in a module of the same name as in the crate, because the files that they include
//! are visible only in `crate::partition`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::atomic::AtomicU64;
use loom::thread;

#[path = "../../../src/partition/state/group_commit.rs"]
mod group_commit;
#[path = "../../../src/partition/state/ready.rs"]
mod ready;
#[path = "../../../src/partition/state/waiting.rs"]
mod waiting;

use crate::clock::Deadline;
use group_commit::GroupCommit;
use ready::{Mark, ReadyList};
use waiting::{Signal, WaitList};

/// Runs all models and prints the number of orders of each.
pub(crate) fn check() {
    model("group commit, two threads", || commit_together(2));
    model("group commit, three threads", || commit_together(3));
    model("group commit, the leader fails", leader_fails);
    model("publication, one follower", || {
        follow_one_after_the_other(1)
    });
    model("publication, two followers", || {
        follow_one_after_the_other(2)
    });
    model("wake between a check and a wait", wake);
    model("poll of two partitions", || poll_what_is_ready([0, 1]));
    model("poll of one partition with two writers", || {
        poll_what_is_ready([0, 0])
    });
    model(
        "poll of a thread after its own append",
        poll_after_an_append,
    );
}

pub(crate) fn model(name: &str, run: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        run();
    });
    println!("{name}: {} orders", orders.load(Ordering::Relaxed));
}

/// Each thread publishes an end and waits until it is synced. The leader syncs everything published
/// by then.
fn commit_together(threads: u64) {
    let commit = Arc::new(GroupCommit::at(0));
    let published = Arc::new(AtomicU64::new(0));
    let append = |commit: &GroupCommit, published: &AtomicU64| {
        let end = published.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(turn) = commit.wait_for(end) {
            commit.raise(published.load(Ordering::SeqCst));
            drop(turn);
        }
        assert!(
            commit.synced_end() >= end,
            "an append was acknowledged before it was synced"
        );
    };
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (commit, published) = (Arc::clone(&commit), Arc::clone(&published));
            thread::spawn(move || append(&commit, &published))
        })
        .collect();
    append(&commit, &published);
    for other in others {
        other.join().expect("no thread of a model panics");
    }
    assert_eq!(commit.synced_end(), threads);
}

/// The first leader gives up its turn without a sync; the waiting thread takes the turn.
fn leader_fails() {
    let commit = Arc::new(GroupCommit::at(0));
    let failures = Arc::new(AtomicU64::new(0));
    let append = |commit: &GroupCommit, failures: &AtomicU64| {
        if let Some(turn) = commit.wait_for(1) {
            if failures.fetch_add(1, Ordering::SeqCst) > 0 {
                commit.raise(1);
            }
            drop(turn);
        }
    };
    let (shared, counted) = (Arc::clone(&commit), Arc::clone(&failures));
    let other = thread::spawn(move || append(&shared, &counted));
    append(&commit, &failures);
    other.join().expect("no thread of a model panics");
    assert_eq!(failures.load(Ordering::SeqCst), 2, "each thread led once");
}

/// A writer publishes twice. Each follower registers, checks the end, and waits until it has seen
/// both.
fn follow_one_after_the_other(followers: usize) {
    let (waiters, end) = (Arc::new(WaitList::default()), Arc::new(AtomicU64::new(0)));
    let following: Vec<_> = (0..followers)
        .map(|_| {
            let (waiters, end) = (Arc::clone(&waiters), Arc::clone(&end));
            thread::spawn(move || {
                let signal = Signal::new();
                waiters.register(&signal);
                loop {
                    signal.reset();
                    if end.load(Ordering::SeqCst) == 2 {
                        break;
                    }
                    signal.wait(Deadline::never());
                }
                waiters.unregister(&signal);
            })
        })
        .collect();
    for published in 1..=2 {
        end.store(published, Ordering::SeqCst);
        waiters.notify();
    }
    for follower in following {
        follower.join().expect("no thread of a model panics");
    }
}

/// A wake ends the wait although no end is ever published.
fn wake() {
    let signal = Signal::new();
    let waker = Arc::clone(&signal);
    let other = thread::spawn(move || waker.wake());
    while !signal.take_woken() {
        signal.reset();
        if signal.take_woken() {
            break;
        }
        signal.wait(Deadline::never());
    }
    other.join().expect("no thread of a model panics");
}

/// The partitions of one consumer.
struct Polled {
    partitions: Vec<(WaitList, AtomicU64)>,
}

impl Polled {
    fn append(&self, partition: usize) {
        let (waiters, end) = &self.partitions[partition];
        end.fetch_add(1, Ordering::SeqCst);
        waiters.notify();
    }
}

/// A consumer that looks only at partitions whose mark was set.
struct Poller {
    polled: Arc<Polled>,
    signal: Arc<Signal>,
    list: Arc<ReadyList>,
    seen: Vec<u64>,
}

impl Poller {
    fn new(partitions: usize) -> Self {
        let (signal, list) = (Signal::new(), Arc::default());
        let partitions = (0..partitions).map(|place| {
            let (waiters, mark) = (WaitList::default(), Mark::new(&list));
            mark.move_to(place);
            waiters.register_marked(&signal, &mark);
            (waiters, AtomicU64::new(0))
        });
        let partitions: Vec<_> = partitions.collect();
        Self {
            seen: vec![0; partitions.len()],
            polled: Arc::new(Polled { partitions }),
            signal,
            list,
        }
    }

    fn look(&mut self) {
        let Self {
            polled, list, seen, ..
        } = self;
        let mut places = Vec::new();
        list.take(&mut Vec::new(), |place| places.push(place));
        for place in places {
            seen[place] = polled.partitions[place].1.load(Ordering::SeqCst);
        }
    }
}

/// Each writer appends once, in its partition. The consumer polls until it has seen both records.
fn poll_what_is_ready(writers: [usize; 2]) {
    let mut poller = Poller::new(2);
    let writing = writers.map(|partition| {
        let polled = Arc::clone(&poller.polled);
        thread::spawn(move || polled.append(partition))
    });
    loop {
        poller.signal.reset();
        poller.look();
        if poller.seen.iter().sum::<u64>() == 2 {
            break;
        }
        poller.signal.wait(Deadline::never());
    }
    for writer in writing {
        writer.join().expect("no thread of a model panics");
    }
}

/// A thread that appends and then polls without waiting sees its record, whatever another writer
/// of the partition does.
fn poll_after_an_append() {
    let mut poller = Poller::new(1);
    let polled = Arc::clone(&poller.polled);
    let other = thread::spawn(move || polled.append(0));
    poller.look();
    let seen = poller.seen[0];
    poller.polled.append(0);
    poller.look();
    assert!(poller.seen[0] > seen, "a poll missed a record");
    other.join().expect("no thread of a model panics");
}
