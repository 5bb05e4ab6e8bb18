//! The table, in Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use harness::{Outcome, Size};

use crate::results::{Cell, Comparison, Row, fault};

/// The most characters of a fault in a cell.
const LONGEST_FAULT: usize = 70;

/// Returns the table, and the lines that explain it.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let workloads = comparison.workloads();
    let mut text = String::from("| | acknowledged in | checks reads |");
    let mut rule = String::from("\n| --- | --- | --- |");
    for workload in &workloads {
        write!(text, " {} |", workload.title()).expect("a text grows");
        rule.push_str(" --- |");
    }
    text.push_str(" disk per value byte | peak memory |");
    rule.push_str(" --- | --- |");
    text.push_str(&rule);
    for row in &comparison.rows {
        let about = |key: &str| row.about.text(key).unwrap_or("–").to_owned();
        let name = name(row);
        write!(
            text,
            "\n| {name} | {} | {} |",
            about("acknowledged"),
            about("checked")
        )
        .expect("a text grows");
        for &workload in &workloads {
            write!(text, " {} |", cell(&comparison.cell(row, workload))).expect("a text grows");
        }
        match comparison.disk_and_memory(row) {
            Some((disk, memory)) => write!(text, " {disk:.2} | {:.0} MB |", memory / 1e6),
            None => write!(text, " – | – |"),
        }
        .expect("a text grows");
    }
    text.push_str("\n\n");
    text.push_str(&legend(comparison));
    text
}

fn name(row: &Row) -> String {
    let name = match row.about.text("version") {
        Some(version) if version.starts_with(&row.name) => version.to_owned(),
        Some(version) => format!("{} ({version})", row.name),
        None => row.name.clone(),
    };
    match row
        .about
        .text(Outcome::FAILED)
        .or(row.about.text(Outcome::UNSUPPORTED))
    {
        Some(error) => format!("{name}: {}", short(error)),
        None => name,
    }
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Empty => "–".to_owned(),
        Cell::Fault(fault) => format!("**{}**", short(fault)),
        Cell::Sound => "sound".to_owned(),
        Cell::Figure {
            value,
            ratio: Some(ratio),
        } => format!("{} · {}", rate(*value), plain(*ratio)),
        Cell::Figure { value, ratio: None } => duration(*value),
        Cell::Latency(percentiles) => percentiles.map(duration).join(" · "),
    }
}

/// Returns a fault that fits in a cell.
pub(crate) fn short(fault: &str) -> String {
    let fault = fault.replace('|', "/").replace('`', "'");
    match fault.char_indices().nth(LONGEST_FAULT) {
        Some((at, _)) => format!("{}…", &fault[..at]),
        None => fault,
    }
}

/// Returns a rate with three digits.
pub(crate) fn rate(value: f64) -> String {
    match value {
        1e6.. => format!("{} M/s", three_digits(value / 1e6)),
        1e3.. => format!("{} k/s", three_digits(value / 1e3)),
        _ => format!("{}/s", three_digits(value)),
    }
}

/// Returns a ratio with two digits.
pub(crate) fn plain(ratio: f64) -> String {
    match ratio {
        10.0.. => format!("{ratio:.0}"),
        0.095.. => format!("{ratio:.2}"),
        0.001.. => format!("{ratio:.3}"),
        _ => "< 0.001".to_owned(),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Returns a time with three digits.
pub(crate) fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        1e9.. => format!("{} s", three_digits(nanoseconds / 1e9)),
        1e6.. => format!("{} ms", three_digits(nanoseconds / 1e6)),
        _ => format!("{} µs", three_digits(nanoseconds / 1e3)),
    }
}

/// Returns the lines after the table: machine, how to read it, and what each peer promises.
fn legend(comparison: &Comparison) -> String {
    let (rounds, seconds) = (
        comparison.rounds(),
        Duration::from_secs(comparison.seconds).as_secs(),
    );
    let mut text = format!("{}. ", comparison.machine);
    if comparison.size == Size::Test {
        text.push_str("A test: all records were checked, and no figures are kept.\n\n");
    } else {
        let plural = if rounds == 1 { "" } else { "s" };
        writeln!(
            text,
            "Medians of {rounds} round{plural} in {seconds} s. The second number of a cell is the ratio to the raw \
             limit of the same round. – means that the peer cannot do it.\n"
        )
        .expect("a text grows");
    }
    for row in &comparison.rows {
        let line = match (row.about.text("meaning"), fault(&row.about)) {
            (_, Some(fault)) => fault,
            (Some(meaning), None) => format!(
                "acknowledged {meaning}. {}.",
                row.about.text("notes").unwrap_or_default()
            ),
            (None, None) => continue,
        };
        writeln!(text, "- **{}**: {line}", row.name).expect("a text grows");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(rate(12_345_678.0), "12.3 M/s");
        assert_eq!(rate(987_654.0), "988 k/s");
        assert_eq!(rate(9.876), "9.88/s");
        assert_eq!(duration(1_234.0), "1.23 µs");
        assert_eq!(duration(45_678_901.0), "45.7 ms");
        assert_eq!(plain(0.4567), "0.46");
        assert_eq!(plain(0.0123), "0.012");
    }

    #[test]
    fn a_fault_does_not_break_the_table() {
        assert_eq!(short("a | b"), "a / b");
        assert_eq!(short(&"x".repeat(100)).chars().count(), LONGEST_FAULT + 1);
    }
}
