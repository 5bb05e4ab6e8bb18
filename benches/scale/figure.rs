//! The time of one operation at several sizes.

use std::time::{Duration, Instant};

use crate::workload;

/// The number of rounds at each size, of which the median counts.
const ROUNDS: usize = 5;
/// The time of a round.
const ROUND: Duration = Duration::from_millis(25);

/// The results of a run.
#[derive(Default)]
pub(crate) struct Figures {
    lines: Vec<Line>,
}

/// The cost of an operation at each size.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// The things of which there are several.
    pub(crate) of: &'static str,
    pub(crate) unit: Unit,
    pub(crate) points: Vec<(usize, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
}

impl Figures {
    /// Measures one operation at each of these sizes, and prints the line. `cost` returns the
    /// cost of one operation.
    pub(crate) fn measure(
        &mut self,
        (name, of): (&'static str, &'static str),
        unit: Unit,
        sizes: &[usize],
        cost: impl FnMut(usize) -> f64,
    ) {
        let points = sizes.iter().copied().zip(sizes.iter().copied().map(cost));
        let line = Line {
            name,
            of,
            unit,
            points: points.collect(),
        };
        line.print();
        self.lines.push(line);
    }
}

impl Line {
    /// Returns the cost at the largest size as a multiple of that at the smallest.
    pub(crate) fn factor(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some((_, first)), Some((_, last))) => last / first,
            _ => 1.0,
        }
    }

    fn print(&self) {
        print!("{:<40}", self.name);
        for (size, cost) in &self.points {
            print!("{size:>7}: {:<9}", self.unit.show(*cost));
        }
        println!(" x {:.2} ({})", self.factor(), self.of);
    }
}

impl Unit {
    /// Returns a cost as a text with its unit.
    pub(crate) fn show(self, cost: f64) -> String {
        match self {
            Self::Nanoseconds if cost < 1e3 => format!("{cost:.0} ns"),
            Self::Nanoseconds if cost < 1e6 => format!("{:.2} µs", cost / 1e3),
            Self::Nanoseconds => format!("{:.2} ms", cost / 1e6),
        }
    }
}

/// Returns the time of one call in nanoseconds: the median of several rounds. A call returns how
/// many operations it did and how long they took.
pub(crate) fn time_of(mut call: impl FnMut() -> (usize, Duration)) -> f64 {
    if workload::is_quick() {
        let (count, time) = call();
        return nanos(time, count);
    }
    let mut round = || {
        let start = Instant::now();
        let (mut count, mut time) = (0, Duration::ZERO);
        while start.elapsed() < ROUND {
            let done = call();
            count += done.0;
            time += done.1;
        }
        nanos(time, count)
    };
    round();
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Returns the time of one call in nanoseconds. Sixteen calls are timed at once.
pub(crate) fn time_each(mut call: impl FnMut()) -> f64 {
    time_of(|| {
        let start = Instant::now();
        (0..16).for_each(|_| call());
        (16, start.elapsed())
    })
}

fn nanos(time: Duration, count: usize) -> f64 {
    let count = u32::try_from(count).expect("a round does fewer operations");
    time.as_secs_f64() * 1e9 / f64::from(count)
}
