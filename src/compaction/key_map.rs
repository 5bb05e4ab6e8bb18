//! The latest offset of each key, within a bounded memory.
//!
//! Keys are known by 128 bits of hash, as in Kafka, but by a keyed one: two `SipHash`es of the key,
//! told apart by a first byte, under a secret that is drawn anew for every map. Kafka takes MD5,
//! for which anybody can write two keys that collide, and one of the two is lost. Without the
//! secret nobody can; by accident it takes some 10^19 keys for an even chance.
//!
//! A slot takes 24 bytes, as Kafka's does. The table is laid out once and never grows; who fills it
//! goes on in a further pass. It is much larger than a cache, and what a look-up takes is the wait
//! for its slot: keys are hashed some at a time, and their slots fetched all at once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;

/// Hash and offset of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: KeyHash,
    /// The offset + 1; 0 is an empty slot.
    next: u64,
}

/// What a key is known by.
pub(super) type KeyHash = [u64; 2];

/// So many slots are fetched at a time: about as many as a processor waits for at once.
pub(super) const FETCHED_AT_ONCE: usize = 32;

const SLOT_BYTES: usize = size_of::<Slot>();

/// Maps keys to the latest offset that they were seen at.
#[derive(Debug)]
pub(super) struct KeyMap {
    secret: RandomState,
    slots: Vec<Slot>,
    count: usize,
    max_count: usize,
    /// Offset behind all that was taken in.
    end: u64,
}

impl KeyMap {
    /// An empty map of what lies behind `start`, for `keys` keys or as many as `budget_bytes` has
    /// room for, at least one.
    pub(super) fn new(keys: u64, budget_bytes: usize, start: u64) -> Self {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        // One slot in five stays free, or look-ups become long.
        let slots = keys
            .saturating_add(keys / 4)
            .saturating_add(2)
            .min(budget_bytes / SLOT_BYTES)
            .max(2);
        Self {
            secret: RandomState::new(),
            slots: vec![Slot::default(); slots],
            count: 0,
            max_count: (slots - slots / 5).min(slots - 1),
            end: start,
        }
    }

    /// Notes keys and their offsets, which rise and are above all before. `false`: there was no
    /// room for one, nor was it taken in what is behind it.
    pub(super) fn put_all(&mut self, keys: &[(KeyHash, u64)]) -> bool {
        keys.chunks(FETCHED_AT_ONCE).all(|keys| {
            self.fetch(keys.iter().map(|(hash, _)| *hash));
            keys.iter().all(|(hash, offset)| self.put(*hash, *offset))
        })
    }

    fn put(&mut self, hash: KeyHash, offset: u64) -> bool {
        let at = find(&self.slots, hash);
        let Some(found) = self.slots.get_mut(at) else {
            return false;
        };
        if found.next == 0 {
            if self.count == self.max_count {
                return false;
            }
            self.count += 1;
        }
        *found = Slot {
            hash,
            next: offset + 1,
        };
        self.end = offset + 1;
        true
    }

    /// The latest offset of a key, if it was seen.
    pub(super) fn get(&self, hash: KeyHash) -> Option<u64> {
        self.slots.get(find(&self.slots, hash))?.next.checked_sub(1)
    }

    /// Brings the slots of keys near, so that the look-ups that follow need not wait for one after
    /// the other.
    pub(super) fn fetch(&self, hashes: impl Iterator<Item = KeyHash>) {
        let fetched = hashes
            .filter_map(|hash| self.slots.get(first_place(&self.slots, hash)))
            .fold(0, |sum, slot| sum ^ slot.next);
        black_box(fetched);
    }

    /// Offset up to which the map knows all keys.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// All below `end` was taken in.
    pub(super) fn advance_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        [0, 1].map(|number| {
            let mut hasher = self.secret.build_hasher();
            hasher.write_u8(number);
            hasher.write(key);
            hasher.finish()
        })
    }
}

/// The slot of a hash, or the empty one where it would go. There is always an empty one.
fn find(slots: &[Slot], hash: KeyHash) -> usize {
    let mut at = first_place(slots, hash);
    while let Some(slot) = slots.get(at)
        && slot.next != 0
        && slot.hash != hash
    {
        at = if at + 1 == slots.len() { 0 } else { at + 1 };
    }
    at
}

/// Where a look-up begins. The high half of the product spreads the hash over the slots without a
/// division.
fn first_place(slots: &[Slot], hash: KeyHash) -> usize {
    usize::try_from((u128::from(hash[0]) * slots.len() as u128) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(map: &mut KeyMap, key: &[u8], offset: u64) -> bool {
        map.put_all(&[(map.hash(key), offset)])
    }

    fn get(map: &KeyMap, key: &[u8]) -> Option<u64> {
        map.get(map.hash(key))
    }

    #[test]
    fn the_latest_offset_of_each_key_is_known() {
        let mut map = KeyMap::new(1_000, 1 << 20, 7);
        assert_eq!((map.end(), get(&map, b"key 1")), (7, None));
        for offset in 0..5_000_u64 {
            assert!(put(
                &mut map,
                format!("key {}", offset % 1_000).as_bytes(),
                offset
            ));
        }
        for number in 0..1_000 {
            assert_eq!(
                get(&map, format!("key {number}").as_bytes()),
                Some(4_000 + number)
            );
        }
        assert_eq!(
            (get(&map, b""), get(&map, b"key 1000"), map.end()),
            (None, None, 5_000)
        );
        map.advance_to(5_500);
        map.advance_to(10);
        assert_eq!(map.end(), 5_500);
        assert!(put(&mut map, b"", 6_000));
        assert_eq!(get(&map, b""), Some(6_000));
    }

    #[test]
    fn many_are_put_at_once_as_far_as_there_is_room() {
        let mut map = KeyMap::new(u64::MAX, 100 * SLOT_BYTES, 0);
        let keys: Vec<_> = (0..100_u64)
            .map(|offset| (map.hash(&offset.to_be_bytes()), offset))
            .collect();
        assert!(map.put_all(&keys[..70]));
        assert!(!map.put_all(&keys[70..]));
        assert_eq!(map.end(), 80);
        assert!(keys.iter().all(|(hash, offset)| map.get(*hash) == Some(*offset).filter(|offset| *offset < 80)));
    }

    #[test]
    fn the_budget_is_kept_to() {
        let mut map = KeyMap::new(u64::MAX, 100 * SLOT_BYTES, 0);
        assert_eq!(map.slots.len(), 100);
        let mut offset = 0;
        while put(&mut map, &offset.to_string().into_bytes(), offset) {
            offset += 1;
        }
        assert_eq!((offset, map.end()), (80, 80));
        assert!(put(&mut map, b"3", 90), "a key that is known needs no room");
        for number in 0..80 {
            assert_eq!(
                get(&map, &number.to_string().into_bytes()),
                Some(if number == 3 { 90 } else { number })
            );
        }
        assert_eq!(get(&map, b"80"), None);
    }

    #[test]
    fn there_is_room_for_one_key_whatever_the_budget() {
        for keys in [0, 1, 2] {
            let mut map = KeyMap::new(keys, 0, 0);
            assert!(put(&mut map, b"a", 1) && !put(&mut map, b"b", 2) && put(&mut map, b"a", 3));
            assert_eq!(
                (get(&map, b"a"), get(&map, b"b"), map.end()),
                (Some(3), None, 4)
            );
        }
    }
}
