//! Checks count, order and bytes of the records that a peer returns.

use std::ops::Range;

use crate::values::{CONTENTS, NUMBER_BYTES, contents, split};

/// The most gaps that are remembered. More than that, and the order is lost anyway.
const MOST_GAPS: usize = 10_000;

/// Compares the records that a peer returns with those that were appended.
#[derive(Debug)]
pub(crate) struct Checker {
    contents: Vec<u8>,
    size: usize,
    threads: Vec<Expected>,
    wrong: u64,
}

/// What is expected next from one thread.
#[derive(Clone, Debug, Default)]
struct Expected {
    next: u64,
    gaps: Vec<Range<u64>>,
    late: u64,
    repeated: u64,
}

impl Checker {
    pub(crate) fn new(size: usize, threads: usize) -> Self {
        Self {
            contents: contents(size),
            size,
            threads: vec![Expected::default(); threads],
            wrong: 0,
        }
    }

    /// Checks the record that a peer returned next, and returns its index in its thread.
    #[inline]
    pub(crate) fn visit(&mut self, value: &[u8]) -> Option<u64> {
        let Some((thread, index)) = self.identify(value) else {
            self.wrong += 1;
            return None;
        };
        let expected = &mut self.threads[thread];
        if index == expected.next {
            expected.next += 1;
        } else {
            expected.out_of_order(index);
        }
        Some(index)
    }

    /// Checks that a record is the one with this index of the first thread.
    pub(crate) fn visit_one(&mut self, value: &[u8], index: u64) {
        if self.identify(value) != Some((0, index)) {
            self.wrong += 1;
        }
    }

    /// Returns the thread and the index of a record, if its bytes are as they were appended.
    #[inline]
    fn identify(&self, value: &[u8]) -> Option<(usize, u64)> {
        let (number, content) = value.split_first_chunk::<NUMBER_BYTES>()?;
        let (thread, index) = split(u64::from_le_bytes(*number));
        let slot = usize::try_from(index % CONTENTS as u64).ok()? * self.size;
        let thread = usize::try_from(thread).ok()?;
        let is_right = value.len() == self.size
            && thread < self.threads.len()
            && *content == self.contents[slot + NUMBER_BYTES..slot + self.size];
        is_right.then_some((thread, index))
    }

    /// Returns the number of records that were seen in order, of all threads.
    pub(crate) fn seen(&self) -> u64 {
        self.threads.iter().map(|thread| thread.next).sum()
    }

    /// Returns what is wrong, given the number of records that each thread appended, or `None`.
    /// If the reader stopped early (`is_whole` is false), the records after it are not missed.
    pub(crate) fn verdict(&self, appended: &[u64], is_whole: bool) -> Option<String> {
        let total: u64 = appended.iter().sum();
        let (mut lost, mut late, mut repeated, mut unknown) = (0, 0, 0, 0);
        for (thread, &appended) in self.threads.iter().zip(appended) {
            lost += thread
                .gaps
                .iter()
                .map(|gap| gap.end - gap.start)
                .sum::<u64>();
            if is_whole {
                lost += appended.saturating_sub(thread.next);
            }
            unknown += thread.next.saturating_sub(appended);
            late += thread.late;
            repeated += thread.repeated;
        }
        // A record with wrong bytes is one that is missing in its place.
        let lost = lost.saturating_sub(self.wrong);
        let faults = [
            (lost, "lost"),
            (self.wrong, "wrong bytes in"),
            (late, "reordered"),
            (repeated, "repeated"),
            (unknown, "never appended:"),
        ];
        let found = faults.iter().filter(|(count, _)| *count > 0);
        let found: Vec<_> = found
            .map(|(count, what)| format!("{what} {}", grouped(*count)))
            .collect();
        (!found.is_empty()).then(|| format!("{} of {}", found.join(", "), grouped(total)))
    }
}

impl Expected {
    #[cold]
    fn out_of_order(&mut self, index: u64) {
        if index > self.next {
            if self.gaps.len() < MOST_GAPS {
                self.gaps.push(self.next..index);
            }
            self.next = index + 1;
            return;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&index)) else {
            self.repeated += 1;
            return;
        };
        self.late += 1;
        let gap = self.gaps.swap_remove(at);
        let parts = [gap.start..index, index + 1..gap.end];
        self.gaps
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
    }
}

/// Returns a number with a comma after each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Values;

    fn records(count: usize) -> Vec<Vec<u8>> {
        let mut values = Values::new(16, 0);
        (0..count)
            .map(|_| values.batch(1).bytes().to_vec())
            .collect()
    }

    fn verdict(records: &[Vec<u8>], appended: u64) -> Option<String> {
        let mut checker = Checker::new(16, 1);
        for record in records {
            checker.visit(record);
        }
        checker.verdict(&[appended], true)
    }

    #[test]
    fn records_in_order_pass() {
        assert_eq!(verdict(&records(5_000), 5_000), None);
    }

    #[test]
    fn a_record_that_is_lost_is_counted() {
        let mut short = records(5_000);
        short.remove(1_234);
        assert_eq!(verdict(&short, 5_000).unwrap(), "lost 1 of 5,000");
        assert_eq!(verdict(&records(4_997), 5_000).unwrap(), "lost 3 of 5,000");
    }

    #[test]
    fn records_that_change_places_are_counted() {
        let mut swapped = records(5_000);
        swapped.swap(7, 8);
        assert_eq!(verdict(&swapped, 5_000).unwrap(), "reordered 1 of 5,000");
    }

    #[test]
    fn a_record_that_comes_twice_is_counted() {
        let mut twice = records(5_000);
        twice.insert(9, twice[8].clone());
        assert_eq!(verdict(&twice, 5_000).unwrap(), "repeated 1 of 5,000");
    }

    #[test]
    fn a_flipped_bit_is_counted() {
        let mut flipped = records(5_000);
        flipped[77][12] ^= 1;
        assert_eq!(
            verdict(&flipped, 5_000).unwrap(),
            "wrong bytes in 1 of 5,000"
        );
    }

    #[test]
    fn a_record_that_was_never_appended_is_counted() {
        assert_eq!(
            verdict(&records(5_001), 5_000).unwrap(),
            "never appended: 1 of 5,000"
        );
    }

    #[test]
    fn a_reader_that_stops_early_misses_no_records() {
        let mut checker = Checker::new(16, 1);
        for record in records(10) {
            checker.visit(&record);
        }
        assert_eq!(checker.verdict(&[5_000], false), None);
    }
}
