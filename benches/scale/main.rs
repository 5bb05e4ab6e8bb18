//! Measures how the time of one operation changes with the number of partitions, topics, groups,
//! members, segments or threads.
//!
//! `cargo bench --bench scale` takes a few minutes. `-- poll` runs only that part, and
//! `-- --chart FILE` draws the results as an SVG chart. Each line shows the time at each size, and
//! the time at the largest size as a multiple of the time at the smallest. Times are printed but
//! not asserted, because the machine may be busy.

#[path = "../workload/mod.rs"]
mod workload;

mod append;
mod figure;
mod poll;
mod world;

use figure::Figures;

type Measure = fn(&mut Figures);

const PARTS: [(&str, Measure); 2] = [("append", append::measure), ("poll", poll::measure)];

fn main() {
    if workload::is_quick() {
        println!("a quick run: the times are not meaningful");
    }
    let mut figures = Figures::default();
    let wanted = workload::names();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run(&mut figures);
        }
    }
}
