//! A table by number that only grows. Reading it takes no lock.
//!
//! Bucket `n` has `2^n` slots, for the numbers from `2^n - 1` on. It is allocated with its first
//! entry. So an entry never moves.

use std::sync::OnceLock;

const BUCKETS: usize = 33;

pub(super) struct Table<T> {
    buckets: [OnceLock<Box<[OnceLock<T>]>>; BUCKETS],
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            buckets: [const { OnceLock::new() }; BUCKETS],
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (bucket, slot) = place(number);
        self.buckets.get(bucket)?.get()?.get(slot)?.get()
    }

    /// Returns the entry of this number, and first creates it with `make` if it is not there.
    pub(super) fn get_or_insert_with(&self, number: u32, make: impl FnOnce() -> T) -> &T {
        let (bucket, slot) = place(number);
        let slots = self.buckets.get(bucket).map(|slots| {
            slots.get_or_init(|| (0..1_u64 << bucket).map(|_| OnceLock::new()).collect())
        });
        let Some(slot) = slots.and_then(|slots| slots.get(slot)) else {
            unreachable!("every number has a slot")
        };
        slot.get_or_init(make)
    }

    /// Returns all entries, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.buckets
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|slots| slots.iter().filter_map(OnceLock::get))
    }
}

#[inline]
fn place(number: u32) -> (usize, usize) {
    // The last number has a bucket of its own.
    let Some(at) = number.checked_add(1) else {
        return (BUCKETS - 1, 0);
    };
    let bucket = at.ilog2();
    (bucket as usize, (at - (1 << bucket)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_slot_of_its_own() {
        assert_eq!(
            [0, 1, 2, 3, 6, 7].map(place),
            [(0, 0), (1, 0), (1, 1), (2, 0), (2, 3), (3, 0)]
        );
        assert_eq!(place(u32::MAX), (32, 0));
        let table = Table::new();
        for number in (0..200).rev().step_by(3) {
            assert!(table.get(number).is_none());
            assert_eq!(*table.get_or_insert_with(number, || number), number);
            assert_eq!(
                *table.get_or_insert_with(number, || 0),
                number,
                "an entry is not replaced"
            );
        }
        let expected: Vec<u32> = (0..200).filter(|number| (199 - number) % 3 == 0).collect();
        assert_eq!(table.iter().copied().collect::<Vec<_>>(), expected);
        assert!(table.get(u32::MAX).is_none());
    }
}
