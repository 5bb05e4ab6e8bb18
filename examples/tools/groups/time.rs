//! Parses durations and times in ISO 8601, as Kafka's tools do.

use std::time::Duration;

use annals::Timestamp;
use anyhow::{Context, Result, ensure};

/// Parses `PnDTnHnMnS`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || format!("no duration like P1DT2H3M4S: {text}");
    let rest = text.strip_prefix('P').with_context(wrong)?;
    let mut seconds = 0;
    let mut number = String::new();
    for sign in rest.chars() {
        let unit = match sign {
            'T' if number.is_empty() => continue,
            'D' => 86_400,
            'H' => 3_600,
            'M' => 60,
            'S' => 1,
            digit => {
                number.push(digit);
                continue;
            }
        };
        seconds += number.parse::<u64>().with_context(wrong)? * unit;
        number.clear();
    }
    ensure!(number.is_empty(), wrong());
    Ok(Duration::from_secs(seconds))
}

/// Parses `YYYY-MM-DDTHH:MM:SS.sss`, followed by `Z`, `+HH:MM`, `-HH:MM` or nothing, which is UTC.
pub(crate) fn parse_datetime(text: &str) -> Result<Timestamp> {
    let wrong = || format!("no time like 2026-02-03T04:05:06.789+01:00: {text}");
    let (date, rest) = text.split_once('T').with_context(wrong)?;
    let (time, ahead_minutes) = split_zone(rest).with_context(wrong)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "000"));
    let [year, month, day] = numbers(date, '-').with_context(wrong)?;
    let [hour, minute, second] = numbers(time, ':').with_context(wrong)?;
    let [millis] = numbers(fraction, '.').with_context(wrong)?;
    ensure!(
        (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60 && fraction.len() == 3,
        wrong()
    );
    let month_days = days_since_1970(year, month + 1, 1) - days_since_1970(year, month, 1);
    ensure!((1..=month_days).contains(&day), wrong());
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - ahead_minutes;
    Ok(Timestamp::from_millis(
        (minutes * 60 + second) * 1_000 + millis,
    ))
}

/// Returns the time without its zone, and the minutes by which the zone is ahead of UTC.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else {
        return Some((time, 0));
    };
    let (time, zone) = time.split_at(at);
    let [hours, minutes] = numbers(zone.get(1..)?, ':')?;
    let minutes = hours * 60 + minutes;
    Some((
        time,
        if zone.starts_with('-') {
            -minutes
        } else {
            minutes
        },
    ))
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let is_number = |part: &str| {
        (1..=4).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit())
    };
    let number = |part: &str| {
        if is_number(part) {
            part.parse().ok()
        } else {
            None
        }
    };
    text.split(separator)
        .map(number)
        .collect::<Option<Vec<i64>>>()?
        .try_into()
        .ok()
}

/// Counts the days of a proleptic Gregorian date. Years start in March, so that a leap day is the
/// last day of its year. Month 13 is the next January.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 719_469
}
