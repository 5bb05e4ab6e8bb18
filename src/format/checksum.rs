//! The checksums of the formats, computed in one call or in pieces.
//!
//! - CRC-32C (Castagnoli): batches, producer snapshots, index digests.
//! - CRC-32 (IEEE): old message sets, gzip, annals' own text files.

use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc};

/// Returns the CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Returns the CRC-32 of `bytes`.
#[inline]
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

/// The checksum of bytes that arrive in pieces.
pub(crate) struct Checksum(crc_fast::Digest);

impl Checksum {
    pub(crate) fn crc32c() -> Self {
        Self(crc_fast::Digest::new(Crc32Iscsi))
    }

    pub(crate) fn crc32() -> Self {
        Self(crc_fast::Digest::new(Crc32IsoHdlc))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        // The digest returns a `u64` whose upper half is 0 for a 32-bit checksum.
        u32::try_from(self.0.finalize()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vector of each checksum is from the catalogue of CRC parameters by Greg Cook, the
    /// others of CRC-32C from RFC 3720, B.4.
    #[test]
    fn the_checksums_match_published_vectors() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[]), 0);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(&[]), 0);
    }

    /// The library chooses an implementation by length and processor, so we compare many lengths
    /// with a bit-by-bit computation.
    #[test]
    fn the_checksums_match_their_definitions_at_every_length() {
        fn by_definition(polynomial: u32, bytes: &[u8]) -> u32 {
            let mut crc = u32::MAX;
            for &byte in bytes {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        (crc >> 1) ^ polynomial
                    } else {
                        crc >> 1
                    };
                }
            }
            !crc
        }
        let bytes: Vec<u8> = (0_u32..2_100)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let step = if cfg!(miri) { 61 } else { 1 };
        for length in (0..600)
            .step_by(step)
            .chain([1_023, 1_024, 1_025, 2_047, 2_048, 2_049])
        {
            let checked = &bytes[1..=length];
            for (polynomial, whole, mut pieces) in [
                (0x82f6_3b78, crc32c(checked), Checksum::crc32c()),
                (0xedb8_8320, crc32(checked), Checksum::crc32()),
            ] {
                let expected = by_definition(polynomial, checked);
                assert_eq!(whole, expected, "{polynomial:x}, {length} bytes");
                checked.chunks(97).for_each(|piece| pieces.update(piece));
                assert_eq!(pieces.value(), expected, "{polynomial:x}, {length} bytes");
            }
        }
    }
}
