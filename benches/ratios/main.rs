//! How near annals comes to what the machine can do: each figure beside its raw limit, measured in
//! turn, as a median of ratios.
//!
//! `cargo bench --bench ratios` takes about a minute; `-- --full` takes the sizes for which the
//! aims are written, and `-- read` only that part. A figure in time is printed, not asserted, since
//! a machine may have other things to do. What can be counted, allocations and calls, is asserted.

#[path = "../raw/mod.rs"]
mod raw;
#[path = "../workload/mod.rs"]
mod workload;

mod append;
mod compact;
mod counts;
mod figure;
mod memory;
mod open;
mod producer;
mod read;
mod synced;

const PARTS: [(&str, fn()); 11] = [
    ("append", append::measure),
    ("synced", synced::measure),
    ("producer", producer::measure),
    ("together", producer::measure_together),
    ("read", read::measure_sequential),
    ("poll", read::measure_poll),
    ("point", read::measure_point),
    ("open", open::measure),
    ("compact", compact::measure),
    ("counts", counts::check),
    ("memory", memory::check),
];

fn main() {
    if workload::is_quick() {
        println!("a quick run: the ratios mean nothing");
    }
    figure::print_heading();
    let wanted = workload::names();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
