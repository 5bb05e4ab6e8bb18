//! The four codecs, in the framings that Kafka uses.
//!
//! Bits 0 to 2 of a batch's attributes name the codec. One compressed stream replaces everything
//! after the header of a v2 batch, or the value of a legacy wrapper.
//!
//! | id | codec  | file        | framing                                      |
//! |----|--------|-------------|----------------------------------------------|
//! | 0  | none   |             | the bytes themselves                         |
//! | 1  | gzip   | `gzip.rs`   | one gzip member                              |
//! | 2  | snappy | `snappy.rs` | a xerial stream (not Google's framing)       |
//! | 3  | lz4    | `lz4.rs`    | an LZ4 frame of independent blocks           |
//! | 4  | zstd   | `zstd.rs`   | a Zstandard frame; only in record batches v2 |
//!
//! The decoders accept every stream that Kafka's decoders accept. The head of each file lists the
//! streams that its decoder accepts although its encoder does not write them.
//!
//! - A decoder returns at most `limit` bytes.
//! - Its memory grows with the bytes that it really decoded, and never because of a length field.
//! - No input makes it panic.
//! - A codec that is not part of the build returns an error of its own, see [`is_left_out`].
//!
//! The decoders do not check the checksum of the batch, nor the decoded records. `batch/` does
//! both.

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
    allow(dead_code, reason = "each codec uses only some of it")
)]
mod output;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// The error for a stream that decompresses to more bytes than the limit.
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

/// Defines the module of a codec that is not part of the build. It returns `$error` always.
#[cfg(not(all(
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    feature = "zstd"
)))]
macro_rules! left_out {
    ($codec:ident, $error:expr) => {
        mod $codec {
            use super::Malformed;

            pub(super) fn compress(
                _bytes: &[u8],
                _level: i32,
                _out: &mut Vec<u8>,
            ) -> Result<(), Malformed> {
                Err($error)
            }

            pub(super) fn decompress(
                _bytes: &[u8],
                _magic: u8,
                _limit: usize,
            ) -> Result<Vec<u8>, Malformed> {
                Err($error)
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

/// Returns whether the only fault of the bytes is that they decompress to more than the limit.
pub(crate) fn is_over_limit(malformed: Malformed) -> bool {
    malformed == TOO_LARGE
}

/// Returns whether the bytes may be undamaged although they cannot be decompressed here.
pub(crate) fn may_be_whole(malformed: Malformed) -> bool {
    is_over_limit(malformed) || is_left_out(malformed)
}

/// Returns whether the only fault of the bytes is that this build, or this version of annals, does
/// not have their codec.
pub(crate) fn is_left_out(malformed: Malformed) -> bool {
    [UNKNOWN, NO_GZIP, NO_SNAPPY, NO_LZ4, NO_ZSTD].contains(&malformed)
}

/// Returns the codec that a batch's attributes name.
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

/// Returns no compression and the codecs of this build.
#[cfg(test)]
pub(crate) fn codecs() -> impl Iterator<Item = Compression> {
    [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ]
    .into_iter()
    .filter(|&codec| compress(codec, &TopicSettings::default(), b"", &mut Vec::new()).is_ok())
}

/// Compresses `bytes` at the level that the settings contain for the codec, and appends the result
/// to `out`.
///
/// LZ4 has only its fast compressor here, which is also Kafka's default (its level 9). Every other
/// level produces the same bytes.
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

/// Returns the decompressed bytes, or [`TOO_LARGE`] if they are more than `limit`.
///
/// `magic` matters for two codecs: lz4 frames in message sets v0 have a wrong header checksum, and
/// zstd is refused below magic 2.
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
