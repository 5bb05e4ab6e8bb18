//! The cost of one operation at several sizes.

use std::time::{Duration, Instant};

use crate::workload;

/// The number of rounds at each size, of which the median counts.
const ROUNDS: usize = 5;
/// The time of a round.
const ROUND: Duration = Duration::from_millis(25);
/// Separates the fields of a line between the two processes.
const FIELD: char = '|';

/// The results of one part.
#[derive(Debug)]
pub(crate) struct Figures;

/// The cost of an operation at each size.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The things of which there are several.
    pub(crate) of: String,
    pub(crate) unit: Unit,
    pub(crate) points: Vec<(usize, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
}

impl Figures {
    /// Measures the time of an operation at each of these sizes. `time` returns nanoseconds.
    pub(crate) fn time(
        &mut self,
        (name, of): (&str, &str),
        sizes: &[usize],
        time: impl FnMut(usize) -> f64,
    ) {
        self.add(name, of, Unit::Nanoseconds, sizes, time);
    }

    /// Measures the memory of each thing at each of these sizes. `bytes` returns bytes.
    pub(crate) fn memory(
        &mut self,
        (name, of): (&str, &str),
        sizes: &[usize],
        bytes: impl FnMut(usize) -> f64,
    ) {
        self.add(name, of, Unit::Bytes, sizes, bytes);
    }

    #[expect(clippy::unused_self, reason = "a part adds its lines in order")]
    fn add(
        &mut self,
        name: &str,
        of: &str,
        unit: Unit,
        sizes: &[usize],
        cost: impl FnMut(usize) -> f64,
    ) {
        let points = sizes.iter().copied().zip(sizes.iter().copied().map(cost));
        let line = Line {
            name: name.to_owned(),
            of: of.to_owned(),
            unit,
            points: points.collect(),
        };
        println!("{}", line.encode());
    }
}

impl Line {
    fn encode(&self) -> String {
        let points: Vec<String> = self
            .points
            .iter()
            .map(|(size, cost)| format!("{FIELD}{size}{FIELD}{cost}"))
            .collect();
        let Self { name, of, unit, .. } = self;
        format!("{name}{FIELD}{of}{FIELD}{unit:?}{}", points.concat())
    }

    /// Returns the line that another process has encoded.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(FIELD);
        let (name, of) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let unit = match fields.next()? {
            "Bytes" => Unit::Bytes,
            _ => Unit::Nanoseconds,
        };
        let mut points = Vec::new();
        while let (Some(size), Some(cost)) = (fields.next(), fields.next()) {
            points.push((size.parse().ok()?, cost.parse().ok()?));
        }
        Some(Self {
            name,
            of,
            unit,
            points,
        })
    }

    /// Returns the cost at the largest size as a multiple of that at the smallest.
    pub(crate) fn factor(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some((_, first)), Some((_, last))) => last / first,
            _ => 1.0,
        }
    }

    pub(crate) fn print(&self) {
        print!("{:<38}", self.name);
        for (size, cost) in &self.points {
            print!("{size:>6}: {:<8}", self.unit.show(*cost));
        }
        println!(" x {:.2} ({})", self.factor(), self.of);
    }
}

impl Unit {
    /// Returns a cost as a text with its unit.
    pub(crate) fn show(self, cost: f64) -> String {
        match self {
            Self::Bytes => format!("{cost:.0} B"),
            Self::Nanoseconds if cost < 1e3 => format!("{cost:.0} ns"),
            Self::Nanoseconds if cost < 1e5 => format!("{:.1} µs", cost / 1e3),
            Self::Nanoseconds if cost < 1e6 => format!("{:.0} µs", cost / 1e3),
            Self::Nanoseconds => format!("{:.1} ms", cost / 1e6),
        }
    }
}

/// Returns the time of one operation in nanoseconds: the median of several rounds. A call returns
/// how many operations it did and how long they took.
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
    time.as_secs_f64() * 1e9 / float(count)
}

/// Returns a number of operations or bytes as a float.
pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("the number is small"))
}
