//! The places where a log was cut: from there on, other records follow than those already returned.
//!
//! A reader that holds a position in the log remembers how many cuts it knows of. It returns to the
//! lowest of the cuts made since, even if the log has grown past its position again.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::Mutex;

/// Most cuts that are kept apart.
const MOST: usize = 64;

/// The cuts of one partition.
#[derive(Debug, Default)]
pub(in crate::partition) struct Cuts {
    /// Number of cuts made so far.
    count: AtomicU64,
    /// Number and end of each cut, in rising order of both. A cut replaces earlier ones at or above
    /// its end.
    lowest: Mutex<Vec<(u64, u64)>>,
}

impl Cuts {
    pub(in crate::partition) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Adds a cut that kept the records below `end`. A thread that sees the raised count also finds
    /// the cut.
    pub(in crate::partition) fn add(&self, end: u64) {
        let mut lowest = self.lowest.lock();
        let number = self.count.load(Ordering::Acquire) + 1;
        lowest.retain(|(_, other)| *other < end);
        if lowest.len() == MOST {
            // The oldest two become one. A reader may then return too far, but never too little.
            let (_, end) = lowest.remove(0);
            lowest.iter_mut().take(1).for_each(|oldest| oldest.1 = end);
        }
        lowest.push((number, end));
        debug_assert!(lowest.len() <= MOST, "the oldest cuts become one");
        debug_assert!(lowest.is_sorted(), "numbers and ends of the cuts rise");
        self.count.store(number, Ordering::SeqCst);
    }

    /// Returns the lowest end among the cuts after the first `count`.
    pub(in crate::partition) fn lowest_since(&self, count: u64) -> Option<u64> {
        if self.count() == count {
            return None;
        }
        self.lowest
            .lock()
            .iter()
            .find(|(number, _)| *number > count)
            .map(|(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_end_since_a_count_is_returned() {
        let cuts = Cuts::default();
        assert_eq!(cuts.lowest_since(0), None);
        for end in [10, 30, 20, 40] {
            cuts.add(end);
        }
        let since = [0, 1, 2, 3, 4].map(|count| cuts.lowest_since(count));
        assert_eq!(
            (cuts.count(), since),
            (4, [Some(10), Some(20), Some(20), Some(40), None])
        );
    }

    #[test]
    fn with_many_cuts_no_end_is_forgotten_or_reported_too_high() {
        let cuts = Cuts::default();
        for end in 0..200 {
            cuts.add(end);
        }
        for count in 0..200 {
            assert!(
                cuts.lowest_since(count)
                    .is_some_and(|lowest| lowest <= count),
                "since {count}"
            );
        }
        assert_eq!(
            (cuts.lowest_since(199), cuts.lowest.lock().len()),
            (Some(199), MOST)
        );
    }

    #[test]
    fn cuts_at_the_same_offset_are_kept_as_one() {
        let cuts = Cuts::default();
        for end in [5, 10, 10, 10] {
            cuts.add(end);
        }
        assert_eq!(*cuts.lowest.lock(), [(1, 5), (4, 10)]);
        assert_eq!(
            [0, 1, 3, 4].map(|count| cuts.lowest_since(count)),
            [Some(5), Some(10), Some(10), None]
        );
    }
}
