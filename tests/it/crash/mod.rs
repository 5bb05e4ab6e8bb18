//! Power cuts and kills at every disk call of a workload, and at every call of the recovery after
//! them.
//!
//! A power cut can leave many disks. Each test visits them in order up to a bound, and then a
//! sample drawn from a seed. Each distinct disk is opened and compared with the acknowledged
//! operations. `cargo test` visits some tens of thousands of disks. The full run visits more than a
//! million: `cargo test --release --test it crash::crash_full -- --ignored --nocapture`.

mod keyed;
mod read_only;
mod workload;

use std::collections::HashSet;

use annals::{ManualClock, SimulatedDisk, Storage, Timestamp};
use keyed::COMPACTIONS;
use workload::{ADDITIONS, Model, PRODUCERS, REMOVALS, WORKLOADS, Workload, ZEROS, check, open};

/// The number of disks to visit.
#[derive(Clone, Copy)]
struct Bounds {
    /// Disks for each power cut in order, and as many again at random.
    states: usize,
    /// A pair `(n, disks)`: after one state in `n`, power is also cut during the recovery, and that
    /// many disks are visited for each cut.
    recoveries: (usize, usize),
}

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

/// Runs the workload until power is cut at `call`. Returns `None` if the workload ends before that.
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

/// Returns the disk that a kill leaves, and the disks that a power cut can leave: in order up to a
/// bound, and then at random.
fn states_of(disk: &SimulatedDisk, bound: usize) -> impl Iterator<Item = SimulatedDisk> {
    let mut in_order = disk.crash_states();
    let first: Vec<_> = in_order.by_ref().take(bound).collect();
    let more = if in_order.next().is_some() { bound } else { 0 };
    let (disk, killed) = (disk.clone(), disk.fork());
    std::iter::once(killed)
        .chain(first)
        .chain((0..more).map(move |_| disk.crash()))
}

/// Opens a disk, checks it, appends, and checks again after another power cut. With `deeper`, also
/// cuts power at every third call of the recovery.
fn visit(
    label: &str,
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
                        &format!("{label}, recovery cut at {call}"),
                        &state,
                        model,
                        None,
                        seen,
                    );
                }
            }
        }
    }
    let log = open(left, &clock()).unwrap_or_else(|error| panic!("{label}: {error}"));
    check(label, &log, model);
    let grown = workload::append_more(label, &log, model);
    let left = left.crash();
    drop(log);
    let log = open(&left, &clock()).unwrap_or_else(|error| panic!("{label}, again: {error}"));
    check(&format!("{label}, again"), &log, &grown);
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
                let label = format!("{}, seed and call {call}, state {number}", workload.name);
                let deeper = seen
                    .len()
                    .is_multiple_of(bounds.recoveries.0)
                    .then_some(bounds.recoveries.1);
                visit(&label, &left, &model, deeper, &mut seen);
            }
        }
        println!("{}: {} distinct states", workload.name, seen.len());
        states += seen.len();
    }
    states
}

#[test]
fn no_power_cut_loses_an_acknowledged_record() {
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
#[ignore = "a million states take a long time"]
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
fn no_power_cut_loses_an_acknowledged_record_of_a_producer() {
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
fn no_power_cut_over_zeros_ahead_loses_an_acknowledged_record() {
    let first = "data/lines-0/00000000000000000000.log".as_ref();
    let disks = (0..).map_while(|call| run_until(&ZEROS[0], call));
    // With zeros ahead the file is as long as a segment may be. The records alone never fill it.
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
fn no_power_cut_during_a_removal_leaves_a_hole() {
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
fn no_power_cut_leaves_a_hole_in_an_added_partition() {
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
fn no_power_cut_during_a_compaction_loses_the_latest_record_of_a_key() {
    let states = visit_all(
        COMPACTIONS,
        Bounds {
            states: 16,
            recoveries: (40, 4),
        },
    );
    assert!(states >= 2_000, "only {states} states");
}
