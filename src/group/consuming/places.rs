//! A set of places in a list.
//!
//! A bit for each place, and above it a bit for each word of bits, up to a single word. Finding the
//! next place looks at a word or two of each level, however many places there are.

/// The bits of a word.
const BITS: usize = 64;

/// A set of places below a bound.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The bits of each level. The last level is a single word.
    levels: Vec<Vec<u64>>,
    bound: usize,
}

impl Places {
    /// Creates the set of all places below `bound`.
    pub(super) fn all_below(bound: usize) -> Self {
        let mut levels = Vec::new();
        let mut bits = bound;
        while bits > 0 {
            let words = bits.div_ceil(BITS);
            let mut level = vec![u64::MAX; words];
            let rest = bits % BITS;
            if let Some(last) = level.last_mut().filter(|_| rest > 0) {
                *last = (1 << rest) - 1;
            }
            levels.push(level);
            bits = if words > 1 { words } else { 0 };
        }
        Self { levels, bound }
    }

    pub(super) fn insert(&mut self, place: usize) {
        debug_assert!(place < self.bound, "{place} is not below {}", self.bound);
        let mut bit = place;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(bit / BITS) else {
                return;
            };
            let had_bits = *word != 0;
            *word |= 1 << (bit % BITS);
            if had_bits {
                return;
            }
            bit /= BITS;
        }
    }

    pub(super) fn remove(&mut self, place: usize) {
        let mut bit = place;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(bit / BITS) else {
                return;
            };
            *word &= !(1 << (bit % BITS));
            if *word != 0 {
                return;
            }
            bit /= BITS;
        }
    }

    /// Returns the first place at or after `start`.
    pub(super) fn next(&self, start: usize) -> Option<usize> {
        let mut start = start;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(start / BITS)? & (u64::MAX << (start % BITS));
            if word != 0 {
                let bit = start / BITS * BITS + word.trailing_zeros() as usize;
                return self.lowest_under(bit, height);
            }
            start = start / BITS + 1;
        }
        None
    }

    /// Returns the first place below a bit that is set at this level.
    fn lowest_under(&self, bit: usize, height: usize) -> Option<usize> {
        self.levels
            .iter()
            .take(height)
            .rev()
            .try_fold(bit, |bit, level| {
                let word = level.get(bit)?;
                Some(bit * BITS + word.trailing_zeros() as usize)
            })
    }

    /// Returns the places, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.next(0), |place| self.next(place + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_place_below_the_bound_is_in_a_new_set() {
        for bound in [0, 1, 63, 64, 65, 4_096, 4_097, 10_000] {
            let places = Places::all_below(bound);
            assert!(places.iter().eq(0..bound), "{bound} places");
            assert_eq!(places.next(bound), None);
            assert_eq!(places.next(bound + 1_000_000), None);
        }
    }

    #[test]
    fn a_set_agrees_with_an_ordered_set_after_each_change() {
        const BOUND: usize = 300_000;
        let mut places = Places::all_below(BOUND);
        for place in 0..BOUND {
            places.remove(place);
        }
        assert_eq!(places.next(0), None);
        let mut expected = BTreeSet::new();
        let mut number = 1_usize;
        for _ in 0..5_000 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695);
            let place = (number >> 20) % BOUND / 97 * 97;
            if (number >> 60).is_multiple_of(3) {
                places.remove(place);
                expected.remove(&place);
            } else {
                places.insert(place);
                expected.insert(place);
            }
            let start = (number >> 30) % BOUND;
            assert_eq!(places.next(start), expected.range(start..).next().copied());
        }
        assert!(places.iter().eq(expected.iter().copied()));
    }
}
