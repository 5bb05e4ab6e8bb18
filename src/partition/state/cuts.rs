//! Where a log was cut: from there on other records will stand than those that were handed out.
//!
//! Whoever holds a position in the log remembers how many cuts he knows of, and goes back to the
//! lowest of those that came later, also when the log has grown past his position since.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// So many are told apart.
const MOST: usize = 64;

/// The cuts of one partition.
#[derive(Debug, Default)]
pub(in crate::partition) struct Cuts {
    /// How many there were.
    count: AtomicU64,
    /// Number and end of each, but for those that a later one went below or came to: both rise.
    lowest: Mutex<Vec<(u64, u64)>>,
}

impl Cuts {
    pub(in crate::partition) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more, which left what is below `end`. It is found by whoever finds the count risen.
    pub(in crate::partition) fn add(&self, end: u64) {
        let mut lowest = self.lowest.lock();
        let number = self.count.load(Ordering::Acquire) + 1;
        lowest.retain(|(_, other)| *other < end);
        if lowest.len() == MOST {
            // The oldest two become one: that sends somebody too far back, and nobody too little.
            let (_, end) = lowest.remove(0);
            lowest.iter_mut().take(1).for_each(|oldest| oldest.1 = end);
        }
        lowest.push((number, end));
        self.count.store(number, Ordering::SeqCst);
    }

    /// The lowest end of those that came after the first `count`.
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
    fn the_lowest_end_since_then_is_told() {
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
    fn of_many_it_tells_none_too_high_and_forgets_none() {
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
    fn cuts_at_one_place_are_kept_as_one() {
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
