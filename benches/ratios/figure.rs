//! A figure: annals and its raw limit do the same work and are timed alternately.

use std::time::Duration;

use crate::workload;

/// The target for a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// At least this share of the raw limit's speed.
    AtLeast(f64),
    /// Less than this multiple of the raw limit's time.
    Under(f64),
}

/// Runs both sides once without measuring, then alternately, changing which one is first. Prints
/// the median of their ratios.
///
/// Each side does all the work of one round and returns the time of the measured part.
pub(crate) fn measure(
    name: &str,
    aim: Aim,
    rounds: usize,
    mut raw: impl FnMut() -> Duration,
    mut annals: impl FnMut() -> Duration,
) {
    let rounds = if workload::is_quick() { 1 } else { rounds };
    raw();
    annals();
    let mut pairs = Vec::new();
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            let first = raw();
            (first, annals())
        } else {
            let first = annals();
            (raw(), first)
        });
    }
    let ratio_of = |&(raw, annals): &(Duration, Duration)| match aim {
        Aim::AtLeast(_) => raw.as_secs_f64() / annals.as_secs_f64(),
        Aim::Under(_) => annals.as_secs_f64() / raw.as_secs_f64(),
    };
    let mut ratios: Vec<f64> = pairs.iter().map(ratio_of).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    let (aim, is_met) = match aim {
        Aim::AtLeast(aim) => (format!(">= {aim}"), ratio >= aim),
        Aim::Under(aim) => (format!("< {aim}"), ratio < aim),
    };
    let median = |side: fn(&(Duration, Duration)) -> Duration| {
        let mut times: Vec<Duration> = pairs.iter().map(side).collect();
        times.sort();
        times[times.len() / 2]
    };
    println!(
        "{name:<44}{:>12}{:>12}{ratio:>8.2}  {aim:<8}{}",
        format!("{:.2?}", median(|pair| pair.0)),
        format!("{:.2?}", median(|pair| pair.1)),
        workload::verdict(is_met),
    );
}

pub(crate) fn print_heading() {
    println!(
        "{:<44}{:>12}{:>12}{:>8}  {:<8}",
        "", "raw", "annals", "ratio", "aim"
    );
}
