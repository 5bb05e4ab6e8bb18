//! Compares annals with the raw limits of the machine. Each figure is the median of several ratios
//! between annals and the same work done without it.
//!
//! `cargo bench --bench ratios` takes about a minute. `-- --full` uses the sizes for which the
//! targets were set, and `-- read` runs only that part. Times are printed but not asserted, because
//! the machine may be busy. Counts of allocations and system calls are asserted.

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
mod raw_batches;
mod read;
mod snapshot;
mod synced;
mod transaction;

const PARTS: [(&str, fn()); 18] = [
    ("append", append::measure),
    ("raw", raw_batches::measure),
    ("synced", synced::measure),
    ("producer", producer::measure),
    ("together", producer::measure_together),
    ("commits", transaction::measure_commits),
    ("pipeline", transaction::measure_pipeline),
    ("transaction", transaction::measure_send),
    ("isolation", transaction::measure_read),
    ("read", read::measure_sequential),
    ("poll", read::measure_poll),
    ("point", read::measure_point),
    ("beside", read::measure_beside),
    ("open", open::measure),
    ("snapshot", snapshot::measure),
    ("compact", compact::measure),
    ("counts", counts::check),
    ("memory", memory::check),
];

fn main() {
    if workload::is_quick() {
        println!("a quick run: the ratios are not meaningful");
    }
    figure::print_heading();
    let wanted = workload::names();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
