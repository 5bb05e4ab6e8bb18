//! The partition of a record: Kafka's murmur2 of the key, or, without a key, the sticky partition.
//!
//! A key goes to the partition to which Kafka's Java client would send it. The hash covers only the
//! bytes of the key, so an empty key is a key too.
//!
//! Records without a key stay on one partition until it has received 16 KiB. Then they move to
//! another, drawn uniformly. Batches of neighbouring records compress and read better than records
//! that are spread one by one.

use crate::sync::Mutex;

/// Bytes after which records without a key move to another partition.
const STICKY_BYTES: u64 = 16 * 1024;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// Returns the 32-bit murmur2 hash of `bytes` with Kafka's seed.
pub(crate) fn murmur2(bytes: &[u8]) -> u32 {
    // Keys of 2 GiB or more cannot be stored, so the fallback is not used. The reference
    // implementation also hashes the low 32 bits of the length.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = bytes.as_chunks::<4>();
    for &[a, b, c, d] in words {
        let mut word = u32::from_be_bytes([d, c, b, a]).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    let tail = match *rest {
        [a] => Some([0, 0, 0, a]),
        [a, b] => Some([0, 0, b, a]),
        [a, b, c] => Some([0, c, b, a]),
        _ => None,
    };
    if let Some(tail) = tail {
        hash = (hash ^ u32::from_be_bytes(tail)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// Returns the partition of a key. Like Kafka, clears the sign bit of the hash and does not negate
/// it.
pub(crate) fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The partition that currently receives records without a key.
#[derive(Debug)]
pub(crate) struct Sticky(Mutex<State>);

#[derive(Debug)]
struct State {
    random: u64,
    current: Option<u32>,
    bytes: u64,
}

impl Sticky {
    /// Creates a state that draws partitions from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        // The xorshift of zero is zero.
        Self(Mutex::new(State {
            random: seed.max(1),
            current: None,
            bytes: 0,
        }))
    }

    /// Returns the partition of a record of `bytes` bytes. An unavailable partition is returned
    /// only if none is available.
    pub(crate) fn choose(
        &self,
        partitions: u32,
        bytes: u64,
        is_available: impl Fn(u32) -> bool,
    ) -> u32 {
        let mut state = self.0.lock();
        let current = match state.current {
            Some(current) if state.bytes < STICKY_BYTES => current,
            _ => {
                state.bytes = 0;
                state.draw_other(partitions, is_available)
            }
        };
        state.current = Some(current);
        state.bytes += bytes;
        current
    }

    /// Returns a partition like [`choose`](Self::choose), for callers that count in batches.
    /// `bytes` went to the current partition since the last call; after `limit` bytes another one
    /// follows.
    pub(crate) fn choose_after(
        &self,
        bytes: u64,
        limit: u64,
        partitions: u32,
        is_available: impl Fn(u32) -> bool,
    ) -> u32 {
        let mut state = self.0.lock();
        state.bytes += bytes;
        let current = match state.current {
            Some(current) if state.bytes < limit && is_available(current) => current,
            _ => {
                state.bytes = 0;
                state.draw_other(partitions, is_available)
            }
        };
        state.current = Some(current);
        current
    }
}

impl State {
    fn draw_other(&mut self, partitions: u32, is_available: impl Fn(u32) -> bool) -> u32 {
        let current = self.current;
        let others =
            || (0..partitions).filter(|index| Some(*index) != current && is_available(*index));
        let count = others().count() as u64;
        // The high half of the product is uniform over 0..count.
        let drawn = ((self.next_random() >> 32) * count) >> 32;
        let other = usize::try_from(drawn)
            .ok()
            .and_then(|drawn| others().nth(drawn));
        other.or(current).unwrap_or(0)
    }

    /// Returns the next number of xorshift64*.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_move_to_another_partition_after_the_limit() {
        let sticky = Sticky::new(3);
        let choose = |bytes| sticky.choose_after(bytes, 100, 3, |index| index != 1);
        let first = choose(0);
        assert_eq!((choose(60), choose(39)), (first, first));
        let second = choose(1);
        assert_eq!(second, 2 - first);
        assert_eq!(choose(100), first, "two are available");
        assert_eq!(Sticky::new(3).choose_after(500, 100, 1, |_| true), 0);
    }

    #[test]
    fn keys_hash_as_kafka_hashes_them() {
        let vectors: [(&[u8], i32, u32, u32); 14] = [
            (b"21", -973_932_308, 1_173_551_340, 0),
            (b"foobar", -790_332_482, 1_357_151_166, 6),
            (b"a-little-bit-long-string", -985_981_536, 1_161_502_112, 2),
            (
                b"a-little-bit-longer-string",
                -1_486_304_829,
                661_178_819,
                9,
            ),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
                2_088_585_677,
                7,
            ),
            (b"abc", 479_470_107, 479_470_107, 7),
            (b"", 275_646_681, 275_646_681, 1),
            (b"a", -1_563_381_124, 584_102_524, 4),
            (b"key", -1_079_937_367, 1_067_546_281, 1),
            (b"user-1", 1_404_122_828, 1_404_122_828, 8),
            (b"order-42", 501_153_024, 501_153_024, 4),
            (b"\xc3\xa9", 186_971_271, 186_971_271, 1),
            (b"\x80\xff\x00\x01\xfe", -1_075_157_062, 1_072_326_586, 6),
            (&[0; 8], -522_759_933, 1_624_723_715, 5),
        ];
        for (key, hash, masked, partition) in vectors {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
            assert_eq!(murmur2(key) & 0x7fff_ffff, masked, "{key:?}");
            assert_eq!(partition_of(key, 10), partition, "{key:?}");
        }
        for (key, partition) in [
            ("user-1", 2),
            ("order-42", 0),
            ("kafka", 1),
            ("hello world", 1),
        ] {
            assert_eq!(partition_of(key.as_bytes(), 3), partition, "{key}");
        }
        assert_eq!(murmur2(b"kafka").cast_signed(), -798_503_068);
        assert_eq!(murmur2(b"hello world").cast_signed(), 1_221_641_059);
    }

    #[test]
    fn records_without_a_key_stay_on_a_partition_for_16_kib() {
        let sticky = Sticky::new(7);
        let first = sticky.choose(4, 16 * 1024 - 1, |_| true);
        assert_eq!(
            sticky.choose(4, 1, |_| true),
            first,
            "one byte below the limit"
        );
        let second = sticky.choose(4, 5, |_| true);
        assert_ne!(second, first);
        assert_eq!(sticky.choose(4, 5, |_| true), second);
    }

    #[test]
    fn the_next_partition_is_drawn_uniformly() {
        let sticky = Sticky::new(42);
        let mut counts = [0_u32; 5];
        for _ in 0..10_000 {
            counts[sticky.choose(5, STICKY_BYTES, |_| true) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (1_800..2_200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_unavailable_partition_is_chosen_only_if_none_is_available() {
        let sticky = Sticky::new(1);
        assert!((0..100).all(|_| sticky.choose(3, STICKY_BYTES, |index| index == 2) == 2));
        let none = Sticky::new(1);
        assert_eq!(none.choose(3, STICKY_BYTES, |_| false), 0);
        assert_eq!(
            Sticky::new(0).choose(1, 1, |_| true),
            0,
            "there is only one partition"
        );
    }

    #[test]
    fn different_seeds_draw_different_partitions() {
        let choices = |seed| {
            let sticky = Sticky::new(seed);
            (0..32)
                .map(|_| sticky.choose(8, STICKY_BYTES, |_| true))
                .collect::<Vec<_>>()
        };
        assert_eq!(choices(3), choices(3));
        assert_ne!(choices(3), choices(4));
    }
}
