//! The models of the lock that lets a waiting thread in.

use std::sync::Arc;

use loom::thread;

use crate::partition::model;
use crate::sync::{FairMutex, has_no_limit};

/// Runs all models and prints the number of orders of each.
pub(crate) fn check() {
    model("fair lock, two threads, three turns each", || {
        take_turns(2, 3)
    });
    model("fair lock, three threads, one turn each", || {
        take_turns(3, 1)
    });
}

/// Each thread takes the lock some times and counts under it. No thread sleeps for ever, no count
/// is lost, and in the end the line is empty.
fn take_turns(threads: u64, turns: u64) {
    let mutex = Arc::new(FairMutex::new(0));
    let count = |mutex: &FairMutex<u64>| (0..turns).for_each(|_| *mutex.lock() += 1);
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || (0..turns).for_each(|_| *mutex.lock() += 1))
        })
        .collect();
    count(&mutex);
    for other in others {
        other.join().expect("no thread of a model panics");
    }
    assert!(has_no_limit(&mutex), "a limit remains although the line is empty");
    assert_eq!(*mutex.lock(), threads * turns);
}
