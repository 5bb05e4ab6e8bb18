//! The checksum of a batch that arrives in pieces. A large batch can be checked without having all
//! of it in memory.

use super::legacy;
use super::{BatchHeader, CHECKED_FROM, HEADER_BYTES};
use crate::format::checksum::{Checksum, crc32c};

const OFFSET_BYTES: usize = 8;
const MAGIC_AT: usize = 16;
/// The position of the CRC in a v2 batch.
const CRC_AT: usize = 17;

/// Computes the checksum of a batch from successive pieces.
pub(crate) struct BatchChecksum {
    stored: u32,
    /// The number of bytes still to come that the checksum does not cover.
    unchecked: usize,
    computed: Checksum,
}

impl BatchChecksum {
    /// Starts before the first byte of the batch.
    pub(crate) fn new(header: &BatchHeader) -> Self {
        let (unchecked, computed) = match header.magic {
            0 | 1 => (legacy::CHECKED_FROM, Checksum::crc32()),
            _ => (CHECKED_FROM, Checksum::crc32c()),
        };
        Self {
            stored: header.crc,
            unchecked,
            computed,
        }
    }

    /// Adds the next bytes of the batch.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        let (unchecked, checked) = piece.split_at(self.unchecked.min(piece.len()));
        self.unchecked -= unchecked.len();
        self.computed.update(checked);
    }

    /// Returns whether the checksum matches, after all bytes of the batch were added.
    pub(crate) fn matches(self) -> bool {
        self.computed.value() == self.stored
    }
}

/// Returns the number of offsets of `batch` if its checksum is right, or `None` if it is wrong.
///
/// `batch` is exactly as long as its length field states. The other fields that the checksum does
/// not cover may be wrong. Of them only the magic matters, because it selects the checksum.
pub(crate) fn intact_offsets(batch: &[u8]) -> Option<u64> {
    if !is_intact(batch) {
        return None;
    }
    let Some(mut front) = batch.first_chunk::<HEADER_BYTES>().copied() else {
        return Some(1);
    };
    // The number of offsets does not depend on the base offset and the exact magic. We replace
    // them, because they may be wrong and would make the header malformed.
    front[..OFFSET_BYTES].fill(0);
    front[MAGIC_AT] = front[MAGIC_AT].min(2);
    Some(BatchHeader::decode(&front).map_or(1, |header| header.last_offset + 1))
}

fn is_intact(batch: &[u8]) -> bool {
    match batch.get(MAGIC_AT) {
        None => false,
        Some(0 | 1) => legacy::crc_is_valid(batch),
        Some(_) => {
            let stored = batch
                .get(CRC_AT..)
                .and_then(<[u8]>::first_chunk::<4>)
                .map(|crc| u32::from_be_bytes(*crc));
            batch.len() >= HEADER_BYTES && batch.get(CHECKED_FROM..).map(crc32c) == stored
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key `k1` and value `v1` in a v2 batch at offset 0.
    const CURRENT: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\x3c\0\0\0\0\x02\x6b\xa4\x8e\x85\0\0\0\0\0\0\0\0\x01\x8b\xcf\xe5\x68\0\
        \0\0\x01\x8b\xcf\xe5\x68\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01\
        \x14\0\0\0\x04k1\x04v1\0";
    /// Key `k1` and value `v1` in a v1 entry at offset 7.
    const LEGACY: &[u8] =
        b"\0\0\0\0\0\0\0\x07\0\0\0\x1a\xa5\xda\x6a\x62\x01\0\0\0\x01\x8b\xcf\xe5\x68\0\
        \0\0\0\x02k1\0\0\0\x02v1";

    #[test]
    fn pieces_of_any_size_have_the_checksum_of_the_whole() {
        for batch in [CURRENT, LEGACY] {
            let header = BatchHeader::decode(batch).unwrap();
            let is_valid = |batch: &[u8], size| {
                let mut checksum = BatchChecksum::new(&header);
                batch.chunks(size).for_each(|piece| checksum.update(piece));
                checksum.matches()
            };
            let mut damaged = batch.to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            for size in 1..=batch.len() {
                assert!(is_valid(batch, size), "pieces of {size}");
                assert!(!is_valid(&damaged, size), "damaged, pieces of {size}");
            }
        }
    }
}
