//! The latest offset of each key, in bounded memory.
//!
//! A key is identified by 128 bits of hash, as in Kafka. The hash is keyed: two `SipHash`es of the
//! key with different first bytes, under a secret that is drawn for every map. Kafka uses MD5, for
//! which anyone can construct two keys that collide, and one of the two is lost. Without the secret
//! this is impossible. By accident, some 10^19 keys are needed for an even chance.
//!
//! A slot takes 24 bytes, as in Kafka. The table is allocated once and never grows; if it fills up,
//! another pass continues. It is much larger than a processor cache, so a look-up mostly waits for
//! its slot. Keys are therefore hashed in groups, and the slots of a group are fetched together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;

/// Hash and offset of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: KeyHash,
    /// The offset + 1; an empty slot has 0.
    next: u64,
}

/// The hash that identifies a key.
pub(super) type KeyHash = [u64; 2];

/// Number of slots that are fetched together: about as many as a processor can wait for at once.
pub(super) const FETCHED_AT_ONCE: usize = 32;

const SLOT_BYTES: usize = size_of::<Slot>();

/// Maps each key to the latest offset at which it was seen.
#[derive(Debug)]
pub(super) struct KeyMap {
    secret: RandomState,
    slots: Vec<Slot>,
    count: usize,
    max_count: usize,
    /// End of the offsets whose keys are in the map.
    end: u64,
}

impl KeyMap {
    /// Creates an empty map for the offsets from `start`. It has room for `keys` keys, or for as
    /// many as fit into `budget_bytes`, but for at least one.
    pub(super) fn new(keys: u64, budget_bytes: usize, start: u64) -> Self {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        // Without one free slot in five, look-ups become long.
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

    /// Adds keys with their offsets, which rise and are above all earlier ones. Returns `false` if
    /// the map is full; then that key and all after it are not in the map.
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

    /// Returns the latest offset of a key, if it was seen.
    pub(super) fn get(&self, hash: KeyHash) -> Option<u64> {
        self.slots.get(find(&self.slots, hash))?.next.checked_sub(1)
    }

    /// Brings the slots of keys into the cache, so that the look-ups that follow do not wait for
    /// them one by one.
    pub(super) fn fetch(&self, hashes: impl Iterator<Item = KeyHash>) {
        let fetched = hashes
            .filter_map(|hash| self.slots.get(first_place(&self.slots, hash)))
            .fold(0, |sum, slot| sum ^ slot.next);
        black_box(fetched);
    }

    /// Returns the offset below which the map knows all keys.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Notes that all keys below `end` are in the map.
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

/// Returns the slot of a hash, or the empty slot where it belongs. There is always an empty one.
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

/// Returns the slot where a look-up begins. The high half of the product spreads the hash over the
/// slots without a division.
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
    fn map_returns_the_latest_offset_of_each_key() {
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
    fn put_all_stops_at_the_first_key_without_room() {
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
    fn full_map_refuses_new_keys_but_updates_known_ones() {
        let mut map = KeyMap::new(u64::MAX, 100 * SLOT_BYTES, 0);
        assert_eq!(map.slots.len(), 100);
        let mut offset = 0;
        while put(&mut map, &offset.to_string().into_bytes(), offset) {
            offset += 1;
        }
        assert_eq!((offset, map.end()), (80, 80));
        assert!(put(&mut map, b"3", 90), "a known key needs no room");
        for number in 0..80 {
            assert_eq!(
                get(&map, &number.to_string().into_bytes()),
                Some(if number == 3 { 90 } else { number })
            );
        }
        assert_eq!(get(&map, b"80"), None);
    }

    #[test]
    fn map_has_room_for_one_key_with_any_budget() {
        for keys in [0, 1, 2] {
            let mut map = KeyMap::new(keys, 0, 0);
            assert!(put(&mut map, b"a", 1));
            assert!(!put(&mut map, b"b", 2));
            assert!(put(&mut map, b"a", 3));
            assert_eq!(
                (get(&map, b"a"), get(&map, b"b"), map.end()),
                (Some(3), None, 4)
            );
        }
    }
}
