//! CRC-32C (Castagnoli), the checksum of batches, producer snapshots and index digests, computed in
//! one call or in pieces.

/// Returns the CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of bytes that arrive in pieces.
pub(crate) struct Crc32c(crc_fast::Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
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

    /// The vectors are from RFC 3720, B.4.
    #[test]
    fn the_checksum_matches_published_vectors() {
        assert_eq!(crc32c(&[]), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// The library chooses an implementation by length and processor, so we compare many lengths
    /// with a bit-by-bit computation.
    #[test]
    fn the_checksum_matches_the_definition_at_every_length() {
        fn by_definition(bytes: &[u8]) -> u32 {
            let mut crc = u32::MAX;
            for &byte in bytes {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        (crc >> 1) ^ 0x82f6_3b78
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
            let expected = by_definition(&bytes[1..=length]);
            assert_eq!(crc32c(&bytes[1..=length]), expected, "{length} bytes");
            let mut pieces = Crc32c::new();
            bytes[1..=length]
                .chunks(97)
                .for_each(|piece| pieces.update(piece));
            assert_eq!(pieces.value(), expected, "{length} bytes in pieces");
        }
    }
}
