//! The records that are appended: each starts with its number, and the rest is content from a
//! seeded generator.

use std::slice::ChunksExact;

/// The number of different contents. Batches of 1, 10, 100 and 1,000 divide it.
pub(crate) const CONTENTS: usize = 4_000;
/// The bytes of a number at the start of each record.
pub(crate) const NUMBER_BYTES: usize = 8;
/// The bits of a number below those of its thread.
const THREAD_SHIFT: u32 = 40;

/// Records of one size, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Batch<'a> {
    /// Returns the bytes of all records.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the size of each record.
    pub fn record_bytes(&self) -> usize {
        self.size
    }

    /// Returns the records.
    pub fn iter(&self) -> ChunksExact<'a, u8> {
        self.bytes.chunks_exact(self.size)
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = &'a [u8];
    type IntoIter = ChunksExact<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Produces the records of one thread, in order.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    bytes: Vec<u8>,
    size: usize,
    thread: u64,
    next: u64,
}

impl Values {
    pub(crate) fn new(size: usize, thread: usize) -> Self {
        assert!(size >= NUMBER_BYTES, "a record has room for its number");
        Self {
            bytes: contents(size),
            size,
            thread: thread as u64,
            next: 0,
        }
    }

    /// Returns the next `count` records. `count` must divide [`CONTENTS`].
    pub(crate) fn batch(&mut self, count: usize) -> Batch<'_> {
        let slot = usize::try_from(self.next % CONTENTS as u64).expect("a small number");
        let records = &mut self.bytes[slot * self.size..(slot + count) * self.size];
        for record in records.chunks_exact_mut(self.size) {
            let number = number(self.thread, self.next);
            record[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
            self.next += 1;
        }
        Batch {
            bytes: &self.bytes[slot * self.size..(slot + count) * self.size],
            size: self.size,
        }
    }

    /// Returns the number of records so far.
    pub(crate) fn count(&self) -> u64 {
        self.next
    }
}

/// Returns the content of all records, without their numbers.
pub(crate) fn contents(size: usize) -> Vec<u8> {
    let mut random = Random::new(size as u64);
    (0..size * CONTENTS)
        .map(|_| random.next().to_le_bytes()[7])
        .collect()
}

fn number(thread: u64, index: u64) -> u64 {
    thread << THREAD_SHIFT | index
}

/// Returns the thread and the index of a number.
pub(crate) fn split(number: u64) -> (u64, u64) {
    (number >> THREAD_SHIFT, number & ((1 << THREAD_SHIFT) - 1))
}

/// A generator of numbers that are the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
