//! The models of the steps that commits share.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

#[path = "../../../src/transaction/stage.rs"]
mod stage;

use crate::partition::model;
use stage::{Seat, Stage};

/// Runs all models and prints the number of orders of each.
pub(crate) fn check() {
    model("a shared step, two threads", || take_together(2));
    model("a shared step, three threads", || take_together(3));
    model("two shared steps, two threads", || take_both_steps(2));
}

enum Call {
    Lead,
    LeadSecond,
    Done(u32),
}

type Job = (u32, Arc<Seat<Call>>);

/// Each thread enters one job, and gets its result.
fn take_together(threads: u32) {
    let stage = Arc::new(Stage::new(
        |(_, seat): &Job| seat.call(Call::Lead),
        Duration::ZERO,
    ));
    in_threads(threads, move |number| {
        let seat = Seat::new();
        stage.enter(&(), vec![(number, Arc::clone(&seat))]);
        loop {
            match seat.wait() {
                Call::Done(done) => return done,
                _ => {
                    let (turn, jobs) = stage.take(&());
                    drop(turn);
                    finish(jobs);
                }
            }
        }
    });
}

/// The leader of the first step enters its jobs for the second, and keeps its turn until then.
fn take_both_steps(threads: u32) {
    let first = Arc::new(Stage::new(
        |(_, seat): &Job| seat.call(Call::Lead),
        Duration::ZERO,
    ));
    let second = Arc::new(Stage::new(
        |(_, seat): &Job| seat.call(Call::LeadSecond),
        Duration::ZERO,
    ));
    in_threads(threads, move |number| {
        let seat = Seat::new();
        first.enter(&number, vec![(number, Arc::clone(&seat))]);
        let mut turn = None;
        loop {
            match seat.wait() {
                Call::Done(done) => return done,
                Call::Lead => {
                    let (taken, jobs) = first.take(&number);
                    turn = Some(taken);
                    second.enter(&0, jobs);
                }
                Call::LeadSecond => {
                    let (decision, jobs) = second.take(&0);
                    drop(decision);
                    drop(turn.take());
                    finish(jobs);
                }
            }
        }
    });
}

fn finish(jobs: Vec<Job>) {
    for (number, seat) in jobs {
        seat.call(Call::Done(number));
    }
}

fn in_threads(threads: u32, work: impl Fn(u32) -> u32 + Send + Sync + 'static) {
    let work = Arc::new(work);
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let work = Arc::clone(&work);
            thread::spawn(move || assert_eq!(work(number), number))
        })
        .collect();
    assert_eq!(work(0), 0);
    for other in others {
        other.join().expect("no thread of a model panics");
    }
}
