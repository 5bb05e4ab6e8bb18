//! The latest offset of each key, within a bounded memory.
//!
//! Keys are known by 128 bits of hash, as in Kafka, but by a keyed one: two `SipHash`es of the key, told apart by a first byte,
//! under a secret that is drawn anew for every map. Kafka takes MD5, for which anybody can write two keys that collide, and one
//! of the two is lost. Without the secret nobody can; by accident it takes some 10^19 keys for an even chance.
//!
//! A slot takes 24 bytes, as Kafka's does. The table is laid out once and never grows; who fills it goes on in a further pass.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hash and offset of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: [u64; 2],
    /// The offset + 1; 0 is an empty slot.
    next: u64,
}

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
    /// An empty map of what lies behind `start`, for `keys` keys or as many as `budget_bytes` has room for, at least one.
    pub(super) fn new(keys: u64, budget_bytes: usize, start: u64) -> Self {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        // One slot in five stays free, or look-ups become long.
        let slots = keys.saturating_add(keys / 4).saturating_add(2).min(budget_bytes / SLOT_BYTES).max(2);
        Self {
            secret: RandomState::new(),
            slots: vec![Slot::default(); slots],
            count: 0,
            max_count: (slots - slots / 5).min(slots - 1),
            end: start,
        }
    }

    /// Notes that `key` is at `offset`, which is above all before. `false`, and nothing changes: there is no room for it.
    pub(super) fn put(&mut self, key: &[u8], offset: u64) -> bool {
        let hash = self.hash(key);
        let at = find(&self.slots, hash);
        let Some(found) = self.slots.get_mut(at) else { return false };
        if found.next == 0 {
            if self.count == self.max_count {
                return false;
            }
            self.count += 1;
        }
        *found = Slot { hash, next: offset + 1 };
        self.end = offset + 1;
        true
    }

    /// The latest offset of a key, if it was seen.
    pub(super) fn get(&self, key: &[u8]) -> Option<u64> {
        self.slots.get(find(&self.slots, self.hash(key)))?.next.checked_sub(1)
    }

    /// Offset up to which the map knows all keys.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// All below `end` was taken in.
    pub(super) fn advance_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|number| {
            let mut hasher = self.secret.build_hasher();
            hasher.write_u8(number);
            hasher.write(key);
            hasher.finish()
        })
    }
}

/// The slot of a hash, or the empty one where it would go. There is always an empty one.
fn find(slots: &[Slot], hash: [u64; 2]) -> usize {
    let count = slots.len() as u128;
    // The high half of the product spreads the hash over the slots without a division.
    let mut at = usize::try_from((u128::from(hash[0]) * count) >> 64).unwrap_or(0);
    while let Some(slot) = slots.get(at)
        && slot.next != 0
        && slot.hash != hash
    {
        at = if at + 1 == slots.len() { 0 } else { at + 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_offset_of_each_key_is_known() {
        let mut map = KeyMap::new(1_000, 1 << 20, 7);
        assert_eq!((map.end(), map.get(b"key 1")), (7, None));
        for offset in 0..5_000_u64 {
            assert!(map.put(format!("key {}", offset % 1_000).as_bytes(), offset));
        }
        for number in 0..1_000 {
            assert_eq!(map.get(format!("key {number}").as_bytes()), Some(4_000 + number));
        }
        assert_eq!((map.get(b""), map.get(b"key 1000"), map.end()), (None, None, 5_000));
        map.advance_to(5_500);
        map.advance_to(10);
        assert_eq!(map.end(), 5_500);
        assert!(map.put(b"", 6_000));
        assert_eq!(map.get(b""), Some(6_000));
    }

    #[test]
    fn the_budget_is_kept_to() {
        let mut map = KeyMap::new(u64::MAX, 100 * SLOT_BYTES, 0);
        assert_eq!(map.slots.len(), 100);
        let mut offset = 0;
        while map.put(&offset.to_string().into_bytes(), offset) {
            offset += 1;
        }
        assert_eq!((offset, map.end()), (80, 80));
        assert!(map.put(b"3", 90), "a key that is known needs no room");
        for number in 0..80 {
            assert_eq!(map.get(&number.to_string().into_bytes()), Some(if number == 3 { 90 } else { number }));
        }
        assert_eq!(map.get(b"80"), None);
    }

    #[test]
    fn there_is_room_for_one_key_whatever_the_budget() {
        for keys in [0, 1, 2] {
            let mut map = KeyMap::new(keys, 0, 0);
            assert!(map.put(b"a", 1) && !map.put(b"b", 2) && map.put(b"a", 3));
            assert_eq!((map.get(b"a"), map.get(b"b"), map.end()), (Some(3), None, 4));
        }
    }
}
