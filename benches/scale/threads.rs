//! Appends of many threads.

use std::thread;
use std::time::Instant;

use annals::Partition;

use crate::append::{touch, warm_up};
use crate::figure::{Figures, time_of};
use crate::workload::{self, TYPICAL};
use crate::world::World;

/// Appends of each thread.
const APPENDS: usize = 200;

pub(crate) fn measure(figures: &mut Figures) {
    let sizes: &[usize] = if workload::is_quick() {
        &[1, 2]
    } else {
        &[1, 2, 4, 8, 16, 32, 64]
    };
    let most = sizes.last().copied().unwrap_or(1);
    let world = World::of_partitions(&[1, most]);
    let (one, many) = (world.topic(1), world.topic(most));
    warm_up(&one);
    touch(&many);
    let single = one.partition(0).expect("the topic has a partition");
    figures.time(
        ("append of many to one partition", "threads"),
        sizes,
        |size| time_of(|| append(&vec![single.clone(); size])),
    );
    let partitions = many.partitions();
    figures.time(
        ("append, each to its own partition", "threads"),
        sizes,
        |size| time_of(|| append(&partitions[..size])),
    );
}

/// Appends to each partition in a thread of its own. Returns the number of appends and the time.
fn append(partitions: &[Partition]) -> (usize, std::time::Duration) {
    let value = &TYPICAL.values()[0];
    let start = Instant::now();
    thread::scope(|scope| {
        for partition in partitions {
            scope.spawn(move || {
                for _ in 0..APPENDS {
                    partition.append(value.as_slice()).expect("an append works");
                }
            });
        }
    });
    (APPENDS * partitions.len(), start.elapsed())
}
