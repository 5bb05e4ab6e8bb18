//! A step that threads take together: one of them leads, and takes it for all that wait.
//!
//! 1. A thread enters a line with its job, and waits at its seat.
//! 2. If no thread leads the line, the thread of the job is called to lead. It takes all jobs of
//!    the line and does them. Jobs that come in during that time wait.
//! 3. When the leader gives its turn back, it calls the thread of the first waiting job to lead.
//! 4. The leader calls the threads of its jobs with the results.
//!
//! # Gathering
//!
//! Threads that commit in a loop would fall into two groups that wait for each other: one group
//! comes back just after the other has begun. So a leader waits for the threads that were in the
//! line when the last turn ended, and for those that left it then, because they may be about to
//! come back. It waits at most half the time that the last turn took, from the end of that turn. A
//! thread that is alone in its line never waits.
//!
//! This file does not know the steps: the caller does the work.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Deadline;
use crate::sync::{Condvar, Mutex};

/// The lines of a step. Jobs of different lines are independent of each other.
#[derive(Debug)]
pub(super) struct Stage<K: Ord, J> {
    lines: Mutex<BTreeMap<K, Line<J>>>,
    /// Notified when a line has as many jobs as its leader waits for.
    gathered: Condvar,
    /// Calls the thread of a job to lead the line that the job is in.
    call_to_lead: fn(&J),
    max_gathering: Duration,
}

#[derive(Debug)]
struct Line<J> {
    waiting: Vec<J>,
    /// Whether a thread leads, or is called to lead.
    is_led: bool,
    /// The number of jobs for which the next leader waits, and until when.
    expected: usize,
    until: Deadline,
}

/// The turn to do the jobs of a line; given back on drop.
#[derive(Debug)]
pub(super) struct Turn<'a, K: Ord, J> {
    stage: &'a Stage<K, J>,
    line: K,
    jobs: usize,
    begun: Deadline,
}

/// The place at which a thread waits for a call.
#[derive(Debug)]
pub(super) struct Seat<C> {
    call: Mutex<Option<C>>,
    called: Condvar,
}

impl<C> Seat<C> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            call: Mutex::new(None),
            called: Condvar::new(),
        })
    }

    /// Calls the thread. It has answered every earlier call.
    pub(super) fn call(&self, call: C) {
        let earlier = self.call.lock().replace(call);
        debug_assert!(earlier.is_none(), "a job is in one place at a time");
        self.called.notify_all();
    }

    /// Waits for the next call.
    pub(super) fn wait(&self) -> C {
        let mut call = self.call.lock();
        loop {
            match call.take() {
                Some(call) => return call,
                None => call = self.called.wait(call),
            }
        }
    }
}

impl<K: Ord + Clone, J> Stage<K, J> {
    /// Creates the stage. A leader waits for other threads for at most `max_gathering`.
    pub(super) fn new(call_to_lead: fn(&J), max_gathering: Duration) -> Self {
        Self {
            max_gathering,
            lines: Mutex::new(BTreeMap::new()),
            gathered: Condvar::new(),
            call_to_lead,
        }
    }

    /// Enters a line with some jobs. If no thread leads it, the thread of the first job is called.
    pub(super) fn enter(&self, key: &K, jobs: Vec<J>) {
        debug_assert!(!jobs.is_empty(), "the first job calls its thread");
        let mut lines = self.lines.lock();
        if !lines.contains_key(key) {
            lines.retain(|_, line| line.is_led || !line.until.has_passed());
        }
        let line = lines.entry(key.clone()).or_insert_with(|| Line {
            waiting: Vec::new(),
            is_led: false,
            expected: 0,
            until: Deadline::after(Duration::ZERO),
        });
        let before = line.waiting.len();
        line.waiting.extend(jobs);
        if !mem::replace(&mut line.is_led, true) {
            // Under the lock, so that no other thread takes the job first.
            if let Some(first) = line.waiting.first() {
                (self.call_to_lead)(first);
            }
        } else if (before + 1..=line.waiting.len()).contains(&line.expected) {
            drop(lines);
            self.gathered.notify_all();
        }
    }

    /// Takes the turn, and all jobs that are in the line. The caller was called to lead it.
    pub(super) fn take(&self, key: &K) -> (Turn<'_, K, J>, Vec<J>) {
        let mut lines = self.lines.lock();
        let mut jobs = Vec::new();
        while let Some(line) = lines.get_mut(key) {
            debug_assert!(line.is_led, "this thread leads");
            if line.waiting.len() < line.expected && !line.until.has_passed() {
                let until = line.until;
                lines = self.gathered.wait_until(lines, until);
                continue;
            }
            if let Some(line) = lines.get_mut(key) {
                line.expected = 0;
                jobs = mem::take(&mut line.waiting);
            }
            break;
        }
        let turn = Turn {
            stage: self,
            line: key.clone(),
            jobs: jobs.len(),
            begun: Deadline::after(Duration::ZERO),
        };
        (turn, jobs)
    }
}

impl<K: Ord, J> Drop for Turn<'_, K, J> {
    fn drop(&mut self) {
        let time = elapsed_since(self.begun);
        let gathering = (time / 2).min(self.stage.max_gathering);
        let mut lines = self.stage.lines.lock();
        let Some(line) = lines.get_mut(&self.line) else {
            return;
        };
        line.expected = self.jobs + line.waiting.len();
        line.until = Deadline::after(gathering);
        match line.waiting.first() {
            Some(next) => (self.stage.call_to_lead)(next),
            None => line.is_led = false,
        }
    }
}

fn elapsed_since(begun: Deadline) -> Duration {
    begun
        .instant()
        .map_or(Duration::ZERO, |begun| begun.elapsed())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Call {
        Lead,
        Done(u32),
    }

    /// A number, and the thread that waits for it.
    type Job = (u32, Arc<Seat<Call>>);

    /// The time of each turn. A leader waits at most half of it for other threads.
    const TURN: Duration = Duration::from_millis(8);

    fn now() -> Deadline {
        Deadline::after(Duration::ZERO)
    }

    fn stage() -> Stage<&'static str, Job> {
        Stage::new(|(_, seat)| seat.call(Call::Lead), TURN)
    }

    fn enter(stage: &Stage<&'static str, Job>, line: &'static str, number: u32) -> Arc<Seat<Call>> {
        let seat = Seat::new();
        stage.enter(&line, vec![(number, Arc::clone(&seat))]);
        seat
    }

    fn numbers(jobs: &[Job]) -> Vec<u32> {
        jobs.iter().map(|(number, _)| *number).collect()
    }

    /// Takes the turn, and asserts that the leader does not wait for other threads, which it may do
    /// for a minute.
    fn take_at_once<'a>(
        stage: &'a Stage<&'static str, Job>,
        number: u32,
    ) -> Turn<'a, &'static str, Job> {
        let minute = Duration::from_secs(60);
        if let Some(line) = stage.lines.lock().get_mut("a") {
            line.until = Deadline::after(minute);
        }
        let begun = now();
        let (turn, jobs) = stage.take(&"a");
        assert_eq!(numbers(&jobs), [number]);
        assert!(elapsed_since(begun) < minute / 2, "the leader waited");
        turn
    }

    #[test]
    fn a_thread_that_is_alone_leads_at_once() {
        let stage = stage();
        for number in 0..5 {
            let seat = enter(&stage, "a", number);
            assert_eq!(seat.wait(), Call::Lead);
            drop(take_at_once(&stage, number));
        }
    }

    #[test]
    fn jobs_that_come_in_during_a_turn_are_done_in_the_next() {
        let stage = stage();
        let _first = enter(&stage, "a", 1);
        let (turn, jobs) = stage.take(&"a");
        assert_eq!(numbers(&jobs), [1]);
        let second = enter(&stage, "a", 2);
        let third = enter(&stage, "a", 3);
        assert_eq!(*second.call.lock(), None, "another thread leads");
        drop(turn);
        assert_eq!(second.wait(), Call::Lead);
        assert_eq!(*third.call.lock(), None, "one thread leads");
        let (_turn, jobs) = stage.take(&"a");
        assert_eq!(numbers(&jobs), [2, 3]);
    }

    #[test]
    fn lines_are_independent_and_forgotten_once_no_thread_is_expected() {
        let stage = stage();
        let (one, two) = (enter(&stage, "a", 1), enter(&stage, "b", 2));
        assert_eq!((one.wait(), two.wait()), (Call::Lead, Call::Lead));
        let (turn, jobs) = stage.take(&"b");
        assert_eq!(numbers(&jobs), [2]);
        drop(turn);
        thread::sleep(TURN);
        let _three = enter(&stage, "c", 3);
        let known: Vec<_> = stage.lines.lock().keys().copied().collect();
        assert_eq!(known, ["a", "c"]);
    }

    /// Returns a stage whose last turn did two jobs.
    fn after_a_turn_of_two() -> Stage<&'static str, Job> {
        let stage = stage();
        let _seats = [enter(&stage, "a", 1), enter(&stage, "a", 2)];
        let (turn, jobs) = stage.take(&"a");
        assert_eq!(numbers(&jobs), [1, 2]);
        thread::sleep(TURN);
        drop(turn);
        stage
    }

    #[test]
    fn a_leader_waits_for_the_threads_of_the_last_turn() {
        let stage = after_a_turn_of_two();
        let _first = enter(&stage, "a", 3);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(TURN / 16);
                enter(&stage, "a", 4)
            });
            let (_turn, jobs) = stage.take(&"a");
            // A busy machine may run the other thread too late.
            assert!([&[3][..], &[3, 4]].contains(&&*numbers(&jobs)));
        });
    }

    #[test]
    fn a_leader_waits_for_half_of_the_last_turn_at_most() {
        let stage = after_a_turn_of_two();
        let begun = now();
        let _first = enter(&stage, "a", 3);
        let (turn, jobs) = stage.take(&"a");
        let waited = elapsed_since(begun);
        assert_eq!(numbers(&jobs), [3]);
        assert!(waited >= TURN / 4, "{waited:?}");
        drop(turn);
        // Nobody else was in the last turn.
        let _second = enter(&stage, "a", 4);
        drop(take_at_once(&stage, 4));
    }

    #[test]
    fn each_thread_gets_the_result_of_its_own_job() {
        const THREADS: u32 = 8;
        const JOBS: u32 = 300;
        let (stage, turns) = (stage(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (stage, turns) = (&stage, &turns);
                scope.spawn(move || {
                    for number in (0..JOBS).map(|job| thread * JOBS + job) {
                        let seat = enter(stage, "a", number);
                        loop {
                            match seat.wait() {
                                Call::Lead => {
                                    let (turn, jobs) = stage.take(&"a");
                                    turns.fetch_add(1, Ordering::Relaxed);
                                    drop(turn);
                                    for (number, seat) in jobs {
                                        seat.call(Call::Done(number));
                                    }
                                }
                                Call::Done(done) => {
                                    assert_eq!(done, number);
                                    break;
                                }
                            }
                        }
                    }
                });
            }
        });
        let turns = turns.into_inner();
        assert!((1..=(THREADS * JOBS) as usize).contains(&turns));
    }
}
