//! The four codecs, in the framings that Kafka gives them.
//!
//! Bits 0 to 2 of a batch's attributes name the codec. What is compressed is everything behind the
//! header of a v2 batch, or the value of a legacy wrapper; one stream each.
//!
//! | id | codec  | file        | framing                                      |
//! |----|--------|-------------|----------------------------------------------|
//! | 0  | none   |             | the bytes themselves                         |
//! | 1  | gzip   | `gzip.rs`   | one gzip member                              |
//! | 2  | snappy | `snappy.rs` | a xerial stream (not Google's framing)       |
//! | 3  | lz4    | `lz4.rs`    | an LZ4 frame of independent blocks           |
//! | 4  | zstd   | `zstd.rs`   | a Zstandard frame; only in record batches v2 |
//!
//! Each file says what its reader takes beyond what its writer makes; together they take what
//! Kafka's readers take.
//!
//! Promises: at most `limit` bytes come out, memory grows by what was really decoded and never on
//! the word of a length field, and no input makes a decoder panic. A codec that the build leaves
//! out answers with its own error ([`is_left_out`]). Checksums of batches and what the decoded
//! bytes mean are left to `batch.rs` and `legacy`.

use crate::config::{Compression, TopicSettings};

use super::Malformed;

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg_attr(
    not(all(
        feature = "gzip",
        feature = "snappy",
        feature = "lz4",
        feature = "zstd"
    )),
    allow(dead_code, reason = "each codec uses its part")
)]
mod output;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// More bytes than the limit would come out.
pub(crate) const TOO_LARGE: Malformed = Malformed("more decompressed bytes than allowed");

const UNKNOWN: Malformed = Malformed("a codec of a later version of Kafka");
const NO_GZIP: Malformed =
    Malformed("compressed with gzip, but this build has no gzip (cargo feature `gzip`)");
const NO_SNAPPY: Malformed =
    Malformed("compressed with snappy, but this build has no snappy (cargo feature `snappy`)");
const NO_LZ4: Malformed =
    Malformed("compressed with lz4, but this build has no lz4 (cargo feature `lz4`)");
const NO_ZSTD: Malformed =
    Malformed("compressed with zstd, but this build has no zstd (cargo feature `zstd`)");

const CODEC_MASK: u16 = 0b111;

/// Stands in for a codec that the build leaves out.
#[cfg(not(all(
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    feature = "zstd"
)))]
macro_rules! left_out {
    ($codec:ident, $answer:expr) => {
        mod $codec {
            use super::Malformed;

            pub(super) fn compress(
                _bytes: &[u8],
                _level: i32,
                _out: &mut Vec<u8>,
            ) -> Result<(), Malformed> {
                Err($answer)
            }

            pub(super) fn decompress(
                _bytes: &[u8],
                _magic: u8,
                _limit: usize,
            ) -> Result<Vec<u8>, Malformed> {
                Err($answer)
            }
        }
    };
}

#[cfg(not(feature = "gzip"))]
left_out!(gzip, super::NO_GZIP);
#[cfg(not(feature = "snappy"))]
left_out!(snappy, super::NO_SNAPPY);
#[cfg(not(feature = "lz4"))]
left_out!(lz4, super::NO_LZ4);
#[cfg(not(feature = "zstd"))]
left_out!(zstd, super::NO_ZSTD);

/// Whether nothing is wrong with the bytes but that they decompress to more than was allowed.
pub(crate) fn is_over_limit(malformed: Malformed) -> bool {
    malformed == TOO_LARGE
}

/// Whether the bytes may be whole although they cannot be decompressed here.
pub(crate) fn may_be_whole(malformed: Malformed) -> bool {
    is_over_limit(malformed) || is_left_out(malformed)
}

/// Whether nothing is wrong with the bytes but that this build lacks their codec, or that no
/// version has it yet.
pub(crate) fn is_left_out(malformed: Malformed) -> bool {
    [UNKNOWN, NO_GZIP, NO_SNAPPY, NO_LZ4, NO_ZSTD].contains(&malformed)
}

/// The codec that a batch's attributes name.
pub(crate) fn codec_of(attributes: u16) -> Result<Compression, Malformed> {
    match attributes & CODEC_MASK {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Gzip),
        2 => Ok(Compression::Snappy),
        3 => Ok(Compression::Lz4),
        4 => Ok(Compression::Zstd),
        _ => Err(UNKNOWN),
    }
}

/// Appends the compressed `bytes` to `out`, at the level that the settings have for the codec.
///
/// LZ4 has only its fast compressor here, which is Kafka's default (its level 9); other levels give
/// the same bytes.
pub(crate) fn compress(
    codec: Compression,
    settings: &TopicSettings,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match codec {
        Compression::None => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Compression::Gzip => gzip::compress(bytes, settings.compression_gzip_level, out),
        Compression::Snappy => snappy::compress(bytes, 0, out),
        Compression::Lz4 => lz4::compress(bytes, settings.compression_lz4_level, out),
        Compression::Zstd => zstd::compress(bytes, settings.compression_zstd_level, out),
    }
}

/// At most `limit` bytes come out; more is [`TOO_LARGE`]. `magic` matters for lz4 (v0 frames carry
/// a wrong header checksum) and zstd (not below 2).
pub(crate) fn decompress(
    codec: Compression,
    magic: u8,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, Malformed> {
    match codec {
        Compression::None if bytes.len() > limit => Err(TOO_LARGE),
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => gzip::decompress(bytes, magic, limit),
        Compression::Snappy => snappy::decompress(bytes, magic, limit),
        Compression::Lz4 => lz4::decompress(bytes, magic, limit),
        Compression::Zstd => zstd::decompress(bytes, magic, limit),
    }
}

#[cfg(test)]
mod tests;
