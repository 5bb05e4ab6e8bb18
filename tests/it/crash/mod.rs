//! Power cuts and kills: at every call to the disk of a workload, and during the recovery from
//! that, whatever the disk then holds.
//!
//! From each stop all disks that the cut can leave are visited up to a bound, and a sample drawn
//! from a seed beyond it; each distinct one is opened and held against what was acknowledged.
//! `cargo test` visits some ten thousands; all of it, a million and more, is
//! `cargo test --release --test it crash::crash_full -- --ignored --nocapture`.

mod beside;
mod keyed;
mod workload;

use std::collections::HashSet;

use annals::{ManualClock, SimulatedDisk, Storage, Timestamp};
use keyed::COMPACTIONS;
use workload::{ADDITIONS, Model, PRODUCERS, REMOVALS, WORKLOADS, Workload, ZEROS, check, open};

/// How much is visited.
#[derive(Clone, Copy)]
struct Bounds {
    /// Disks from each stop, in order, and as many again drawn at random.
    states: usize,
    /// Every which state has its recovery cut off as well, and disks from each stop of that.
    recoveries: (usize, usize),
}

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

/// The workload until the power goes at `call`; `None` once it ends before that.
fn run_until(workload: &Workload, call: u64) -> Option<(SimulatedDisk, Model)> {
    let disk = SimulatedDisk::with_clock(call, clock());
    disk.cut_power_at(call);
    let mut model = Model::default();
    let done = open(&disk, &clock()).and_then(|log| (workload.run)(&log, &mut model));
    assert!(
        done.is_ok() || disk.has_lost_power(),
        "{}: failed with power on: {done:?}",
        workload.name
    );
    disk.has_lost_power().then_some((disk, model))
}

/// The disk that a kill leaves, and those that a power cut can: in order up to a bound, then at
/// random.
fn states_of(disk: &SimulatedDisk, bound: usize) -> impl Iterator<Item = SimulatedDisk> {
    let mut in_order = disk.crash_states();
    let first: Vec<_> = in_order.by_ref().take(bound).collect();
    let more = if in_order.next().is_some() { bound } else { 0 };
    let (disk, killed) = (disk.clone(), disk.fork());
    std::iter::once(killed)
        .chain(first)
        .chain((0..more).map(move |_| disk.crash()))
}

/// Opens what is left and checks it, appends, and loses power again at each call of that.
fn visit(
    what: &str,
    left: &SimulatedDisk,
    model: &Model,
    deeper: Option<usize>,
    seen: &mut HashSet<(u64, u64)>,
) {
    if let Some(bound) = deeper {
        for call in (0..).step_by(3) {
            let again = left.fork();
            again.cut_power_at(call);
            let reopened = open(&again, &clock());
            let has_ended = !again.has_lost_power();
            drop(reopened);
            if has_ended {
                break;
            }
            for state in states_of(&again, bound) {
                if seen.insert((model.stamp(), state.fingerprint())) {
                    visit(
                        &format!("{what}, recovery cut at {call}"),
                        &state,
                        model,
                        None,
                        seen,
                    );
                }
            }
        }
    }
    let log = open(left, &clock()).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(what, &log, model);
    let grown = workload::append_more(what, &log, model);
    let left = left.crash();
    drop(log);
    let log = open(&left, &clock()).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    check(&format!("{what}, again"), &log, &grown);
}

fn visit_all(workloads: &[Workload], bounds: Bounds) -> usize {
    let mut states = 0;
    for workload in workloads {
        let mut seen = HashSet::new();
        for call in 0.. {
            let Some((disk, model)) = run_until(workload, call) else {
                break;
            };
            for (number, left) in states_of(&disk, bounds.states).enumerate() {
                if !seen.insert((model.stamp(), left.fingerprint())) {
                    continue;
                }
                let what = format!("{}, seed and call {call}, state {number}", workload.name);
                let deeper = seen
                    .len()
                    .is_multiple_of(bounds.recoveries.0)
                    .then_some(bounds.recoveries.1);
                visit(&what, &left, &model, deeper, &mut seen);
            }
        }
        println!("{}: {} distinct states", workload.name, seen.len());
        states += seen.len();
    }
    states
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let states = visit_all(
        WORKLOADS,
        Bounds {
            states: 48,
            recoveries: (40, 4),
        },
    );
    println!("{states} distinct states after power cuts");
    assert!(states >= 20_000, "only {states} states");
}

#[test]
#[ignore = "a million states take long"]
fn crash_full() {
    let bounds = Bounds {
        states: 3_000,
        recoveries: (20, 30),
    };
    let all = [
        WORKLOADS,
        ADDITIONS,
        ZEROS,
        REMOVALS,
        COMPACTIONS,
        PRODUCERS,
    ];
    let states = all
        .map(|workloads| visit_all(workloads, bounds))
        .iter()
        .sum::<usize>();
    println!("{states} distinct states after power cuts");
    assert!(states >= 1_000_000, "only {states} states");
}

#[test]
fn no_power_cut_loses_what_a_producer_was_promised() {
    let states = visit_all(
        PRODUCERS,
        Bounds {
            states: 24,
            recoveries: (80, 2),
        },
    );
    assert!(states >= 1_000, "only {states} states");
}

#[test]
fn no_power_cut_over_zeros_ahead_loses_what_was_acknowledged() {
    let first = "data/lines-0/00000000000000000000.log".as_ref();
    let disks = (0..).map_while(|call| run_until(&ZEROS[0], call));
    // As long as a segment may be, which its records alone never are.
    let with_zeros = disks
        .filter(|(disk, _)| {
            disk.fork()
                .metadata(first)
                .is_ok_and(|file| file.bytes == 80_000)
        })
        .count();
    assert!(with_zeros >= 5, "only {with_zeros} calls with zeros ahead");
    let states = visit_all(
        ZEROS,
        Bounds {
            states: 12,
            recoveries: (100, 2),
        },
    );
    println!("{states} distinct states after power cuts");
    assert!(states >= 500, "only {states} states");
}

#[test]
fn no_power_cut_while_records_go_leaves_a_hole() {
    let states = visit_all(
        REMOVALS,
        Bounds {
            states: 24,
            recoveries: (40, 4),
        },
    );
    assert!(states >= 2_000, "only {states} states");
}

#[test]
fn no_power_cut_leaves_a_hole_in_a_partition_that_was_added() {
    let states = visit_all(
        ADDITIONS,
        Bounds {
            states: 24,
            recoveries: (40, 2),
        },
    );
    assert!(states >= 2_000, "only {states} states");
}

#[test]
fn no_power_cut_while_a_partition_is_compacted_costs_the_latest_record_of_a_key() {
    let states = visit_all(
        COMPACTIONS,
        Bounds {
            states: 16,
            recoveries: (40, 4),
        },
    );
    assert!(states >= 2_000, "only {states} states");
}
