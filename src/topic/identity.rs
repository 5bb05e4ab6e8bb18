//! Names that nothing else has: topic ids, cluster ids, directories on their way out.
//!
//! They need to differ, not to be secret: the randomness is that which the standard library seeds
//! its hash maps with.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::format::metadata_file::TopicId;

/// 128 bits that nobody else drew.
pub(crate) fn unique() -> u128 {
    let draw = || u128::from(RandomState::new().hash_one(0_u8));
    (draw() << 64) | draw()
}

/// A new id, of a topic, a cluster or a directory.
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
    fn no_two_are_the_same() {
        let drawn: BTreeSet<_> = (0..1_000).map(|_| unique()).collect();
        assert_eq!(drawn.len(), 1_000);
        assert_ne!(unique_id(), unique_id());
    }

    #[test]
    fn both_halves_vary() {
        let drawn: Vec<_> = (0..64).map(|_| unique()).collect();
        let varies =
            |half: fn(u128) -> u128| drawn.iter().any(|number| half(*number) != half(drawn[0]));
        assert!(varies(|number| number >> 64) && varies(|number| number & u128::from(u64::MAX)));
    }
}
