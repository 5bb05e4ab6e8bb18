//! Two threads in one log: the first stops at one of its storage calls, the second runs to its end,
//! and the first continues.
//!
//! This is done for every pair of operations. So a step that reads some state, waits for a lock and
//! acts on the state is stopped in between, wherever it makes a storage call. If the second thread
//! needs a lock that the first one holds, the first continues after a moment, and both run at the
//! same time.
//!
//! The log itself defines the right results. The same operations run one after the other, in every
//! order that their steps allow. The results and the final state of a case must be those of one of
//! these orders. An operation with several steps may also return the results that
//! [`operations::may_also_answer`] lists.
//!
//! By default only some of the calls of each pair are tested, selected by number and not at random,
//! so that the test takes seconds. `--ignored` tests all.

mod operations;
mod world;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use operations::{OPERATIONS, Operation, may_also_answer};
use world::{Answer, Left, Steps, Template};

use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::sync::Mutex;

/// The number of calls at which an operation is stopped, for each other operation.
const SOME: usize = 4;
/// A thread that takes longer is in a deadlock.
const DEADLOCK: Duration = Duration::from_secs(60);

/// The results and the final state of one order of the steps.
#[derive(Clone, Debug)]
struct Outcome {
    first: Vec<Answer>,
    second: Vec<Answer>,
    left: Left,
}

/// The outcomes of all orders of the steps, and how long to wait for the second operation.
struct Allowed {
    outcomes: Vec<Outcome>,
    patience: Duration,
}

/// Runs the steps one after the other.
fn run(steps: Steps) -> Vec<Answer> {
    steps.into_iter().map(|step| step()).collect()
}

/// Returns every order of the steps of two operations. `true` is a step of the first.
fn orders(first: usize, second: usize) -> Vec<Vec<bool>> {
    if first == 0 || second == 0 {
        return vec![[vec![true; first], vec![false; second]].concat()];
    }
    let starting = |step: bool, rest: Vec<Vec<bool>>| {
        rest.into_iter()
            .map(move |order| [vec![step], order].concat())
    };
    starting(true, orders(first - 1, second))
        .chain(starting(false, orders(first, second - 1)))
        .collect()
}

fn allowed(template: &Template, first: &Operation, second: &Operation) -> Allowed {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut allowed = Allowed {
        outcomes: Vec::new(),
        patience: Duration::ZERO,
    };
    for order in orders(first.steps_count, second.steps_count) {
        let world = template.world();
        let mut steps = [(first, "a"), (second, "b")]
            .map(|(operation, side)| (operation.prepare)(&world, side).into_iter());
        let mut answers = [Vec::new(), Vec::new()];
        for is_first in order {
            let which = usize::from(!is_first);
            let stopwatch = Stopwatch::of(&clock);
            answers[which].push(steps[which].next().unwrap()());
            allowed.patience = allowed
                .patience
                .max(Duration::from_micros(stopwatch.now_us()));
        }
        drop(steps);
        let left = world.left(template);
        left.check(&format!(
            "{} and {}, one after the other",
            first.name, second.name
        ));
        let [first, second] = answers;
        allowed.outcomes.push(Outcome {
            first,
            second,
            left,
        });
    }
    allowed.patience =
        (4 * allowed.patience).clamp(Duration::from_millis(1), Duration::from_millis(20));
    allowed
}

/// Returns the number of storage calls that the operation makes when it runs alone.
fn calls_of(template: &Template, operation: &Operation) -> usize {
    let world = template.world();
    let steps = (operation.prepare)(&world, "a");
    world.disk_of(operation).take();
    run(steps);
    world.disk_of(operation).take().len()
}

/// Runs the steps in a new thread, which sends the results at the end.
fn begin(steps: Steps) -> Receiver<Vec<Answer>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(run(steps)));
    receive
}

/// Stops the first operation at its storage call number `call`, and runs the second one there.
/// Returns `None` if the first makes fewer calls.
fn stopped_at(
    template: &Template,
    first: &Operation,
    second: &Operation,
    call: usize,
    patience: Duration,
) -> Option<Outcome> {
    let case = || format!("{} at its call {call}, then {}", first.name, second.name);
    let world = template.world();
    let disk = world.disk_of(first);
    let steps = (first.prepare)(&world, "a");
    let others = (second.prepare)(&world, "b");
    disk.take();
    let other = Arc::new(Mutex::new(None));
    let (stopped, recording, is_close) = (
        Arc::clone(&other),
        world.disk.clone(),
        second.name == "close",
    );
    let is_closed = Arc::new(Mutex::new(false));
    let closed = Arc::clone(&is_closed);
    disk.before_call(call, move || {
        let others = begin(others);
        match others.recv_timeout(patience) {
            Ok(answers) => {
                if is_close {
                    recording.take();
                    *closed.lock() = true;
                }
                *stopped.lock() = Some(Ok(answers));
            }
            Err(_) => *stopped.lock() = Some(Err(others)),
        }
    });
    let running = begin(steps);
    // After a cut, a follower may wait for records that never arrive.
    let cuts = |operation: &Operation| ["truncate", "restart"].contains(&operation.name);
    let may_wait = world.has_wakers() && (cuts(first) || cuts(second));
    let until_woken = if may_wait {
        Duration::from_millis(100)
    } else {
        DEADLOCK
    };
    let answered = running.recv_timeout(until_woken);
    let answered = answered.or_else(|_| {
        world.wake();
        running.recv_timeout(DEADLOCK)
    });
    let answers = answered.unwrap_or_else(|_| panic!("{}: the first did not end", case()));
    let other = other.lock().take()?;
    let second = other.unwrap_or_else(|others| {
        others.recv_timeout(until_woken).unwrap_or_else(|_| {
            world.wake();
            others
                .recv_timeout(DEADLOCK)
                .unwrap_or_else(|_| panic!("{}: the second did not end", case()))
        })
    });
    if *is_closed.lock() {
        let late: Vec<_> = world
            .disk
            .take()
            .into_iter()
            .filter(|(call, _)| world::CHANGES.contains(call))
            .collect();
        assert!(
            late.is_empty(),
            "{}: files were written after the log was closed: {late:?}",
            case()
        );
    }
    Some(Outcome {
        first: answers,
        second,
        left: world.left(template),
    })
}

/// Returns whether the outcome is that of one order. An answer may also be one that is listed for
/// its operation.
fn is_allowed(allowed: &[Outcome], got: &Outcome, first: &Operation, second: &Operation) -> bool {
    let fits = |got: &[Answer], wanted: &[Answer], operation: &Operation, other: &Operation| {
        got.len() == wanted.len()
            && got.iter().zip(wanted).all(|(got, wanted)| {
                got == wanted || may_also_answer(operation.name, other.name, got)
            })
    };
    let fits_all = |wanted: &Outcome| {
        fits(&got.first, &wanted.first, first, second)
            && fits(&got.second, &wanted.second, second, first)
    };
    let fitting: Vec<_> = allowed
        .iter()
        .filter(|wanted| fits_all(wanted))
        .map(|wanted| &wanted.left)
        .collect();
    let compacts = [first, second].iter().any(|operation| operation.compacts);
    fitting.iter().any(|left| **left == got.left) || compacts && got.left.is_between(&fitting)
}

/// Returns whether all records that were read belong to the log and are in order. If neither
/// operation removes records, all of them must be read.
fn has_read_right(
    template: &Template,
    allowed: &[Outcome],
    got: &Outcome,
    first: &Operation,
    second: &Operation,
) -> bool {
    let before = template.records();
    let lefts: Vec<_> = allowed
        .iter()
        .map(|outcome| outcome.left.records())
        .collect();
    let stays = lefts
        .iter()
        .all(|left| before.iter().all(|record| left.contains(record)));
    let is_known = |record: &(u64, String)| {
        before.contains(record) || lefts.iter().any(|left| left.contains(record))
    };
    let has_right = |(answer, operation): (&Answer, &Operation)| {
        let Some(found) = answer.found.as_ref().filter(|_| answer.text == "()") else {
            return true;
        };
        // A poll may return fewer records. A member of a group begins at the committed offset.
        let is_poll = operation.name == "poll";
        let is_whole = is_poll || before.iter().all(|record| found.contains(record));
        let is_dense =
            !is_poll || !stays || found.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        let rises = found.windows(2).all(|pair| pair[0].0 < pair[1].0);
        rises && is_dense && found.iter().all(is_known) && (is_whole || !stays)
    };
    let answers = got
        .first
        .iter()
        .map(|answer| (answer, first))
        .chain(got.second.iter().map(|answer| (answer, second)));
    answers.into_iter().all(has_right)
}

fn check(pairs: impl Fn(usize) -> bool, some: usize) {
    let templates = [Template::new(false), Template::new(true)];
    let (mut cases, mut wrong) = (0, String::new());
    let counts = templates
        .each_ref()
        .map(|template| OPERATIONS.map(|operation| calls_of(template, &operation)));
    for (number, (first, second)) in (0..OPERATIONS.len())
        .flat_map(|first| (0..OPERATIONS.len()).map(move |second| (first, second)))
        .enumerate()
    {
        if !pairs(number) {
            continue;
        }
        let (one, other) = (&OPERATIONS[first], &OPERATIONS[second]);
        let which = usize::from(one.compacts || other.compacts);
        let (template, count) = (&templates[which], counts[which][first]);
        let allowed = allowed(template, one, other);
        let tried = count.min(some);
        // The calls are spread evenly, and differ from pair to pair.
        for call in (0..tried)
            .map(|place| (place * count + number % count.max(1)) / tried.max(1) % count.max(1))
        {
            let Some(got) = stopped_at(template, one, other, call, allowed.patience) else {
                continue;
            };
            cases += 1;
            if !is_allowed(&allowed.outcomes, &got, one, other)
                || !has_read_right(template, &allowed.outcomes, &got, one, other)
            {
                writeln!(
                    wrong,
                    "{} at its call {call} of {count}, then {}:",
                    one.name, other.name
                )
                .unwrap();
                writeln!(wrong, "  got     {got:?}").unwrap();
                for outcome in &allowed.outcomes {
                    writeln!(wrong, "  allowed {outcome:?}").unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases > 100, "only {cases} cases");
}

#[test]
fn even_pairs_of_operations_have_the_outcome_of_a_sequence() {
    check(|number| number % 2 == 0, SOME);
}

#[test]
fn odd_pairs_of_operations_have_the_outcome_of_a_sequence() {
    check(|number| number % 2 == 1, SOME);
}

#[test]
#[ignore = "takes minutes"]
fn all_pairs_of_operations_at_every_call_have_the_outcome_of_a_sequence() {
    check(|_| true, usize::MAX);
}
