//! The outcomes of all runs, and the figures of the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use harness::{Measure, Outcome, Size, Workload};

use crate::peers;

/// Separates the lines of an outcome in a file of results.
const SEPARATOR: &str = "\u{1f}";
/// The word in place of a workload for what a peer promises.
const ABOUT: &str = "about";

/// All outcomes.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) machine: String,
    pub(crate) size: Size,
    pub(crate) seconds: u64,
    pub(crate) rows: Vec<Row>,
}

/// The outcomes of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) about: Outcome,
    outcomes: BTreeMap<Workload, BTreeMap<usize, Outcome>>,
}

/// A cell of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// The peer cannot do this, or was not asked to.
    Empty,
    /// The peer failed, or returned the wrong records.
    Fault(String),
    /// All records were right. In a test there are no figures.
    Sound,
    /// The median, and the median ratio to the limit of the same round.
    Figure { value: f64, ratio: Option<f64> },
    /// Three percentiles, in nanoseconds.
    Latency([f64; 3]),
}

impl Comparison {
    pub(crate) fn new(machine: String, size: Size) -> Self {
        Self {
            machine,
            size,
            seconds: 0,
            rows: Vec::new(),
        }
    }

    /// Returns the number of rounds.
    pub(crate) fn rounds(&self) -> usize {
        let rounds = self.rows.iter().flat_map(|row| row.outcomes.values());
        rounds.map(BTreeMap::len).max().unwrap_or_default()
    }

    /// Returns the workloads that ran.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let ran = |workload: &Workload| {
            self.rows
                .iter()
                .any(|row| row.outcomes.contains_key(workload))
        };
        Workload::ALL.into_iter().filter(ran).collect()
    }

    pub(crate) fn cell(&self, row: &Row, workload: Workload) -> Cell {
        let Some(outcomes) = row.outcomes.get(&workload) else {
            return Cell::Empty;
        };
        if let Some(fault) = outcomes.values().find_map(fault) {
            return Cell::Fault(fault);
        }
        if outcomes
            .values()
            .any(|outcome| outcome.text(Outcome::UNSUPPORTED).is_some())
        {
            return Cell::Empty;
        }
        if self.size == Size::Test {
            return Cell::Sound;
        }
        let all = |key: &str| -> Vec<f64> {
            outcomes
                .values()
                .filter_map(|outcome| outcome.number(key))
                .collect()
        };
        match workload.measure() {
            Measure::Latency => Cell::Latency(["p50", "p99", "p999"].map(|key| median(all(key)))),
            Measure::Time => Cell::Figure {
                value: median(all("time")),
                ratio: None,
            },
            Measure::Rate => Cell::Figure {
                value: median(all("rate")),
                ratio: self.ratio(row, workload),
            },
        }
    }

    /// Returns the median of the ratios to the limit of the same round.
    fn ratio(&self, row: &Row, workload: Workload) -> Option<f64> {
        let limit = self.rows.iter().find(|row| row.name == peers::LIMIT)?;
        let limit = limit.outcomes.get(&workload)?;
        let outcomes = row.outcomes.get(&workload)?.iter();
        let ratios: Vec<_> = outcomes
            .filter_map(|(round, outcome)| {
                Some(outcome.number("rate")? / limit.get(round)?.number("rate")?)
            })
            .collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// Returns the bytes on disk for each byte of the values, and the peak of the memory in bytes,
    /// of the process that wrote a log and closed it.
    pub(crate) fn disk_and_memory(&self, row: &Row) -> Option<(f64, f64)> {
        if self.size == Size::Test {
            return None;
        }
        let outcomes = row.outcomes.get(&Workload::OpenClean)?;
        let all = |key: &str| -> Vec<f64> {
            outcomes
                .values()
                .filter_map(|outcome| outcome.number(key))
                .collect()
        };
        let (disk, memory, records) = (all("disk"), all("memory"), all("records"));
        if disk.is_empty() || memory.is_empty() || records.is_empty() {
            return None;
        }
        Some((median(disk) / (median(records) * 100.0), median(memory)))
    }

    /// Returns an error if annals or the limit failed, whose figures all others refer to. A machine
    /// that is too slow or too busy is not a failure.
    pub(crate) fn check(&self) -> Result<(), String> {
        let essential = [peers::ANNALS, peers::LIMIT];
        for row in self
            .rows
            .iter()
            .filter(|row| essential.contains(&row.name.as_str()))
        {
            let outcomes = row.outcomes.values().flat_map(BTreeMap::values);
            if let Some(failure) = [&row.about].into_iter().chain(outcomes).find_map(failure) {
                return Err(format!("{}: {failure}", row.name));
            }
        }
        Ok(())
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        let mut text = format!("{}\t{}\t{}\n", self.machine, self.size.name(), self.seconds);
        for row in &self.rows {
            let about = Some((ABOUT.to_owned(), 0, &row.about));
            let outcomes = row.outcomes.iter().flat_map(|(workload, rounds)| {
                rounds
                    .iter()
                    .map(|(round, outcome)| (workload.name(), *round, outcome))
            });
            for (what, round, outcome) in about.into_iter().chain(outcomes) {
                let outcome = outcome.to_string().replace('\n', SEPARATOR);
                writeln!(text, "{}\t{what}\t{round}\t{outcome}", row.name).expect("a text grows");
            }
        }
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).ok_or_else(|| format!("{} has no results", path.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut head = lines.next()?.split('\t');
        let (machine, size, seconds) = (head.next()?, head.next()?, head.next()?);
        let mut comparison = Self::new(machine.to_owned(), Size::named(size)?);
        comparison.seconds = seconds.parse().ok()?;
        for line in lines {
            let [name, what, round, outcome] =
                line.splitn(4, '\t').collect::<Vec<_>>().try_into().ok()?;
            let outcome = Outcome::parse(&outcome.replace(SEPARATOR, "\n"))?;
            if what == ABOUT {
                comparison.rows.push(Row::new(name, outcome));
            } else {
                let row = comparison.rows.last_mut()?;
                row.add(Workload::named(what)?, round.parse().ok()?, outcome);
            }
        }
        Some(comparison)
    }
}

impl Row {
    pub(crate) fn new(name: &str, about: Outcome) -> Self {
        Self {
            name: name.to_owned(),
            about,
            outcomes: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, workload: Workload, round: usize, outcome: Outcome) {
        self.outcomes
            .entry(workload)
            .or_default()
            .insert(round, outcome);
    }

    /// Returns whether another run of a workload may have a figure: no earlier run failed.
    pub(crate) fn is_worth_running(&self, workload: Workload) -> bool {
        let earlier = self
            .outcomes
            .get(&workload)
            .into_iter()
            .flat_map(BTreeMap::values);
        let useless = [Outcome::FAILED, Outcome::UNSUPPORTED];
        [&self.about]
            .into_iter()
            .chain(earlier)
            .all(|outcome| useless.iter().all(|key| outcome.text(key).is_none()))
    }
}

/// Returns what is wrong with an outcome.
pub(crate) fn fault(outcome: &Outcome) -> Option<String> {
    failure(outcome).or_else(|| {
        let rate = outcome.number("too_slow")?;
        Some(format!("too slow: {rate:.0}/s"))
    })
}

/// Returns the records that were wrong, or the error of the peer.
fn failure(outcome: &Outcome) -> Option<String> {
    let wrong = outcome.text(Outcome::WRONG);
    wrong
        .or_else(|| outcome.text(Outcome::FAILED))
        .map(str::to_owned)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: f64) -> Outcome {
        Outcome::default().with("rate", rate)
    }

    fn comparison() -> Comparison {
        let mut comparison = Comparison::new("a machine".to_owned(), Size::Full);
        let mut limit = Row::new(peers::LIMIT, Outcome::default());
        let mut peer = Row::new("peer", Outcome::default().with("version", "peer 1.0.0"));
        for (round, (of_limit, of_peer)) in [(100.0, 50.0), (10.0, 4.0), (200.0, 120.0)]
            .into_iter()
            .enumerate()
        {
            limit.add(Workload::Scan, round, rate(of_limit));
            peer.add(Workload::Scan, round, rate(of_peer));
        }
        comparison.rows = vec![limit, peer];
        comparison
    }

    #[test]
    fn a_ratio_is_to_the_limit_of_the_same_round() {
        let comparison = comparison();
        let cell = comparison.cell(&comparison.rows[1], Workload::Scan);
        let expected = Cell::Figure {
            value: 50.0,
            ratio: Some(0.5),
        };
        assert_eq!(cell, expected);
    }

    #[test]
    fn one_wrong_round_hides_the_figures_of_all() {
        let mut comparison = comparison();
        let wrong = rate(9.0).with_verdict(Some("lost 1 of 9".to_owned()));
        comparison.rows[1].add(Workload::Scan, 1, wrong);
        let cell = comparison.cell(&comparison.rows[1], Workload::Scan);
        assert_eq!(cell, Cell::Fault("lost 1 of 9".to_owned()));
    }

    #[test]
    fn results_are_the_same_after_they_were_stored() {
        let comparison = comparison();
        let file = tempfile::NamedTempFile::new().unwrap();
        comparison.save(file.path()).unwrap();
        let loaded = Comparison::load(file.path()).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{comparison:?}"));
    }

    #[test]
    fn a_peer_that_failed_is_not_run_again() {
        let mut row = Row::new("peer", Outcome::default());
        assert!(row.is_worth_running(Workload::Scan));
        row.add(
            Workload::Scan,
            0,
            Outcome::default().with(Outcome::FAILED, "hung"),
        );
        assert!(!row.is_worth_running(Workload::Scan));
        assert!(row.is_worth_running(Workload::Beside));
    }
}
