//! The models, in a module of the same name as in the crate, because the files that they include
//! are visible only in `crate::partition`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::atomic::AtomicU64;
use loom::thread;

#[path = "../../../src/partition/state/group_commit.rs"]
mod group_commit;
#[path = "../../../src/partition/state/waiting.rs"]
mod waiting;

use crate::clock::Deadline;
use group_commit::GroupCommit;
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
}

fn model(name: &str, run: impl Fn() + Send + Sync + 'static) {
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
