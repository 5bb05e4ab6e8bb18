//! Measures how the cost of one operation changes with the number of partitions, topics, groups,
//! members, segments or threads.
//!
//! `cargo bench --bench scale` takes a few minutes. `-- poll` runs only that part, and
//! `-- --chart scale.svg` also draws the results as an SVG chart in `benches`. Each line shows the
//! cost at each size, and the cost at the largest size as a multiple of the cost at the smallest.
//! Costs are printed but not asserted, because the machine may be busy.
//!
//! Each part runs in a process of its own, so that it finds neither the memory nor the open files
//! of another one.

#[path = "../workload/mod.rs"]
mod workload;

mod append;
mod chart;
mod commit;
mod figure;
mod memory;
mod poll;
mod segments;
mod threads;
mod world;

use std::env;
use std::fs::{self, OpenOptions};
use std::process::Command;

use figure::Figures;

type Measure = fn(&mut Figures);

const PARTS: [(&str, Measure); 10] = [
    ("raw", append::measure_raw),
    ("append", append::measure_partitions),
    ("topics", append::measure_topics),
    ("send", append::measure_send),
    ("poll", poll::measure),
    ("commit", commit::measure),
    ("groups", commit::measure_groups),
    ("segments", segments::measure),
    ("threads", threads::measure),
    ("memory", memory::measure),
];

/// Names the part that a process measures.
const PART: &str = "ANNALS_BENCH_SCALE_PART";
const CHART: &str = "--chart";

fn main() {
    if let Ok(part) = env::var(PART) {
        let found = PARTS.iter().find(|(name, _)| *name == part);
        let (_, measure) = found.expect("the part exists");
        return measure(&mut Figures);
    }
    if workload::is_quick() {
        println!("a quick run: the costs are not meaningful");
    }
    let chart = env::args().skip_while(|argument| argument != CHART).nth(1);
    if let Some(path) = &chart {
        // A path that cannot be written is reported before the long run. The chart of before stays.
        let opened = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = opened {
            panic!("cannot write {path} in the directory of the benches: {error}");
        }
    }
    let wanted: Vec<String> = workload::names()
        .into_iter()
        .filter(|name| Some(name) != chart.as_ref())
        .collect();
    let mut lines = Vec::new();
    for (name, _) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let part = Command::new(env::current_exe().expect("the path of this program is known"))
            .args(env::args().skip(1))
            .env(PART, name)
            .output()
            .expect("this program starts");
        let output = String::from_utf8_lossy(&part.stdout);
        for line in output.lines().filter_map(figure::Line::parse) {
            line.print();
            lines.push(line);
        }
        assert!(
            part.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&part.stderr)
        );
    }
    if let Some(path) = chart {
        fs::write(&path, chart::draw(&lines)).expect("the chart can be written");
    }
}
