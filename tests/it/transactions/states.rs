//! The calls that a transaction allows in each of its states, and the epochs of its producer.

use std::io;

use annals::{Error, Result, SimulatedDisk, Transaction, TransactionalProducer};

use super::*;

/// The state of a transaction when a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Held,
    Spilled,
    /// A record was too large.
    Refused,
    /// The disk was full when records were spilled.
    Failed,
    FencedHeld,
    FencedSpilled,
    /// The time-out has passed, and the log was maintained.
    TimedOut,
    ClosedHeld,
    ClosedSpilled,
    /// The topic of a held record was deleted.
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Send,
    /// A send that is larger than the memory.
    SendLarge,
    Offsets,
    Commit,
    Abort,
}

/// The calls, in the order of the columns.
const CALLS: [Call; 5] = [
    Call::Send,
    Call::SendLarge,
    Call::Offsets,
    Call::Commit,
    Call::Abort,
];

/// The result of each call, and of the next `begin`.
#[rustfmt::skip]
const TABLE: [(State, [&str; 5], &str); 11] = [
    //                      send      large     offsets   commit    abort     begin
    (State::New,           ["ok",     "ok",     "ok",     "ok",     "ok"],     "ok"),
    (State::Held,          ["ok",     "ok",     "ok",     "ok",     "ok"],     "ok"),
    (State::Spilled,       ["ok",     "ok",     "ok",     "ok",     "ok"],     "ok"),
    (State::Refused,       ["ok",     "ok",     "ok",     "ok",     "ok"],     "ok"),
    (State::Failed,        ["full",   "full",   "full",   "full",   "ok"],     "ok"),
    (State::FencedHeld,    ["ok",     "fenced", "ok",     "fenced", "fenced"], "fenced"),
    (State::FencedSpilled, ["ok",     "fenced", "ok",     "fenced", "fenced"], "fenced"),
    (State::TimedOut,      ["ok",     "fenced", "ok",     "fenced", "fenced"], "fenced"),
    (State::ClosedHeld,    ["closed", "closed", "closed", "closed", "closed"], "closed"),
    (State::ClosedSpilled, ["closed", "closed", "closed", "closed", "closed"], "closed"),
    (State::Deleted,       ["gone",   "gone",   "ok",     "gone",   "ok"],     "ok"),
];

fn name<T>(done: &Result<T>) -> String {
    match done {
        Ok(_) => "ok".into(),
        Err(Error::TransactionalIdFenced { .. }) => "fenced".into(),
        Err(Error::DiskFull { .. }) => "full".into(),
        Err(Error::Closed) => "closed".into(),
        Err(Error::UnknownTopic(_)) => "gone".into(),
        Err(error) => format!("{error:?}"),
    }
}

/// A log with a producer, which may have a transaction.
struct World {
    disk: SimulatedDisk,
    log: Log,
    output: Partition,
    consumer: Consumer,
}

impl World {
    fn new() -> Self {
        let disk = SimulatedDisk::new(1);
        let log = Log::builder("log").storage(disk.clone()).open().unwrap();
        let (input, output) = topics_of(&log);
        fill(&input, 0, 3);
        let mut consumer = log.consumer_group("g").unwrap().join("in").unwrap();
        poll(&mut consumer, 3);
        let output = part(&output, 0);
        Self {
            disk,
            log,
            output,
            consumer,
        }
    }

    fn producer(&self, state: State) -> TransactionalProducer {
        let config = match state {
            State::TimedOut => small().transaction_timeout(Duration::from_nanos(1)),
            _ => small(),
        };
        self.log.transactional_producer_with("id", config).unwrap()
    }

    /// Brings a new transaction into a state.
    fn enter(&self, state: State, transaction: &mut Transaction<'_>) {
        let (log, output) = (&self.log, &self.output);
        match state {
            State::New => {}
            State::Refused => {
                let refused = transaction.send_to(output, "x".repeat(2_000_000));
                assert!(matches!(refused, Err(Error::RecordTooLarge { .. })));
            }
            State::Failed => {
                self.disk.set_capacity(0);
                let failed = transaction.send_to(output, large("x"));
                assert!(matches!(failed, Err(Error::DiskFull { .. })), "{failed:?}");
                self.disk.heal();
            }
            State::Held | State::FencedHeld | State::ClosedHeld | State::Deleted => {
                transaction.send_to(output, "held").unwrap();
                assert!(written(output).is_empty());
            }
            State::Spilled | State::FencedSpilled | State::ClosedSpilled | State::TimedOut => {
                transaction.send_to(output, large("spilled")).unwrap();
                assert_eq!(written(output).len(), 1);
            }
        }
        match state {
            State::FencedHeld | State::FencedSpilled => {
                drop(log.transactional_producer("id").unwrap());
            }
            State::TimedOut => drop(log.maintain().unwrap()),
            State::ClosedHeld | State::ClosedSpilled => log.clone().close().unwrap(),
            State::Deleted => log.delete_topic("out").unwrap(),
            _ => {}
        }
    }
}

/// Tries a call in a state. Returns its result and that of the next `begin`.
fn outcome(state: State, call: Call) -> (String, String) {
    let mut world = World::new();
    let mut producer = world.producer(state);
    let mut transaction = producer.begin().unwrap();
    world.enter(state, &mut transaction);
    let done = match call {
        Call::Commit => transaction.commit(),
        Call::Abort => transaction.abort(),
        call => {
            let done = match call {
                Call::Send => transaction.send_to(&world.output, "more"),
                Call::SendLarge => transaction.send_to(&world.output, large("more")),
                _ => transaction.commit_offsets(&mut world.consumer),
            };
            drop(transaction);
            done
        }
    };
    let next = producer.begin();
    (name(&done), name(&next))
}

#[test]
fn each_call_is_allowed_or_refused_in_each_state() {
    let mut differences = Vec::new();
    for (state, results, begin) in TABLE {
        for (call, expected) in CALLS.into_iter().zip(results) {
            let (done, next) = outcome(state, call);
            if done != expected || next != begin {
                differences.push(format!("{state:?}, {call:?}: {done}, then {next}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn an_empty_transaction_writes_nothing_in_any_form() {
    let world = World::new();
    let mut producer = world.producer(State::New);
    let before = world.disk.fingerprint();
    producer.begin().unwrap().commit().unwrap();
    producer.begin().unwrap().abort().unwrap();
    drop(producer.begin().unwrap());
    let mut transaction = producer.begin().unwrap();
    let topic = world.log.topic("out").unwrap();
    transaction.send_batch(&topic, [""; 0]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(world.disk.fingerprint(), before);
}

#[test]
fn positions_of_a_fenced_producer_are_not_committed() {
    for state in [State::FencedHeld, State::FencedSpilled, State::TimedOut] {
        let mut world = World::new();
        let mut producer = world.producer(state);
        let mut transaction = producer.begin().unwrap();
        transaction.commit_offsets(&mut world.consumer).unwrap();
        world.enter(state, &mut transaction);
        let fenced = transaction.commit();
        assert_eq!(name(&fenced), "fenced");
        let group = world.log.consumer_group("g").unwrap();
        assert_eq!(group.committed(&id("in", 0)).unwrap(), None);
        assert!(committed(&world.output).is_empty());
        let mut next = world.producer(State::New);
        let mut transaction = next.begin().unwrap();
        transaction.commit_offsets(&mut world.consumer).unwrap();
        transaction.commit().unwrap();
        let position = group.committed(&id("in", 0)).unwrap();
        assert_eq!(position.map(|next| next.offset), Some(3));
    }
}

#[test]
fn a_fenced_producer_does_not_end_the_transaction_of_the_next_one() {
    for call in [Call::Commit, Call::Abort] {
        let world = World::new();
        let mut first = world.producer(State::New);
        let mut second;
        let mut zombie = first.begin().unwrap();
        world.enter(State::Spilled, &mut zombie);
        second = world.producer(State::New);
        let mut transaction = second.begin().unwrap();
        transaction.send_to(&world.output, large("next")).unwrap();
        let open = world.log.open_transactions().unwrap();
        assert_eq!(open.len(), 1);
        let ended = match call {
            Call::Commit => zombie.commit(),
            _ => zombie.abort(),
        };
        assert_eq!(name(&ended), "fenced", "{call:?}");
        drop(first);
        assert_eq!(world.log.open_transactions().unwrap(), open, "{call:?}");
        assert!(committed(&world.output).is_empty());
        transaction.commit().unwrap();
        assert_eq!(committed(&world.output), [large("next")]);
    }
}

#[test]
fn the_epoch_rises_with_each_holder_and_after_a_failure() {
    let world = World::new();
    let identity = |log: &Log| {
        let state = log.transactions().unwrap().remove(0);
        (state.producer_id, state.producer_epoch)
    };
    let mut producer = world.producer(State::New);
    let (id, first) = identity(&world.log);
    for is_committed in [true, false, true] {
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&world.output, large("x")).unwrap();
        if is_committed {
            transaction.commit().unwrap();
        } else {
            transaction.abort().unwrap();
        }
        drop(producer.begin().unwrap());
        assert_eq!(identity(&world.log), (id, first), "no failure");
    }
    let mut transaction = producer.begin().unwrap();
    world.enter(State::Failed, &mut transaction);
    transaction.abort().unwrap();
    drop(producer.begin().unwrap());
    assert_eq!(identity(&world.log), (id, first + 1));
    let mut next = world.producer(State::New);
    assert_eq!(identity(&world.log), (id, first + 2));
    assert_eq!(name(&producer.begin()), "fenced");
    let mut transaction = next.begin().unwrap();
    transaction.send_to(&world.output, "last").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&world.output).last().unwrap(), "last");
}

#[test]
fn a_fence_that_failed_can_be_tried_again() {
    let mut retried = 0;
    for call in 0..40 {
        let world = World::new();
        let mut first = world.producer(State::New);
        let mut transaction = first.begin().unwrap();
        world.enter(State::Spilled, &mut transaction);
        let before = world.disk.calls();
        let full = io::Error::from_raw_os_error(28);
        world.disk.fail_call(before + call, full);
        let taken = world.log.transactional_producer("id");
        let is_unharmed = world.disk.calls() - before <= call;
        world.disk.heal();
        let mut second = match taken {
            Ok(producer) => producer,
            Err(Error::DiskFull { .. }) => {
                retried += 1;
                world.log.transactional_producer("id").unwrap()
            }
            // The partition must be opened again.
            Err(Error::SyncFailed { .. }) => continue,
            Err(error) => panic!("call {call}: {error}"),
        };
        assert_eq!(name(&transaction.commit()), "fenced", "call {call}");
        let mut transaction = second.begin().unwrap();
        transaction.send_to(&world.output, "second").unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed(&world.output), ["second"], "call {call}");
        if is_unharmed {
            break;
        }
    }
    assert!(retried > 0);
}
