//! The models of the lock that lets a waiting thread in.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::partition::model;
use crate::sync::{FairMutex, has_no_limit};

/// Runs all models and prints the number of orders of each.
pub(crate) fn check() {
    model("fair lock, two threads, three turns each", || {
        take_turns(2, 3)
    });
    model("fair lock, three threads, two turns each", || {
        take_turns(3, 2)
    });
}

/// Each thread takes the lock some times and counts under it. No thread sleeps for ever, no count
/// is lost, and in the end the line is empty.
fn take_turns(threads: u64, turns: u64) {
    let shared = Arc::new((FairMutex::new(0), AtomicU64::new(0)));
    let count = move |(mutex, meetings): &(FairMutex<u64>, AtomicU64)| {
        for _ in 0..turns {
            // The model checker lets threads meet where they change the same atomic, but not where
            // one releases a lock: so it must find one before the lock and one under it.
            meetings.fetch_add(1, Ordering::SeqCst);
            let mut counted = mutex.lock();
            meetings.fetch_add(1, Ordering::SeqCst);
            *counted += 1;
        }
    };
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || count(&shared))
        })
        .collect();
    count(&shared);
    for other in others {
        other.join().expect("no thread of a model panics");
    }
    assert!(
        has_no_limit(&shared.0),
        "a limit remains although the line is empty"
    );
    assert_eq!(*shared.0.lock(), threads * turns);
}
