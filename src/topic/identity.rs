//! Random numbers that differ from all others: topic ids, cluster ids, names of directories to be
//! deleted.
//!
//! They need to differ, but not to be secret. So the seeds that the standard library draws for its
//! hash maps are random enough.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::format::metadata_file::TopicId;

/// Returns 128 random bits.
pub(crate) fn unique() -> u128 {
    let draw = || u128::from(RandomState::new().hash_one(0_u8));
    (draw() << 64) | draw()
}

/// Returns a new id for a topic, a cluster or a directory.
pub(crate) fn unique_id() -> TopicId {
    loop {
        if let Some(id) = TopicId::from_random(unique().to_be_bytes()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_thousand_drawn_numbers_all_differ() {
        let drawn: BTreeSet<_> = (0..1_000).map(|_| unique()).collect();
        assert_eq!(drawn.len(), 1_000);
        assert_ne!(unique_id(), unique_id());
    }

    #[test]
    fn both_halves_of_a_drawn_number_vary() {
        let drawn: Vec<_> = (0..64).map(|_| unique()).collect();
        let varies =
            |half: fn(u128) -> u128| drawn.iter().any(|number| half(*number) != half(drawn[0]));
        assert!(varies(|number| number >> 64));
        assert!(varies(|number| number & u128::from(u64::MAX)));
    }
}
