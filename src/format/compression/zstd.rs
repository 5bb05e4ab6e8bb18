//! Zstandard frames (RFC 8878).
//!
//! The encoder writes one frame like Kafka's streaming writer, without content size and checksum
//! (frame header descriptor 0). The window is only as large as the bytes need, instead of the
//! megabytes of the level. That saves memory for the encoder and the decoder.
//!
//! The decoder accepts:
//!
//! - any number of concatenated frames, including none, as Kafka does;
//! - frames with a content size or a checksum, which it verifies;
//! - skippable frames.
//!
//! It refuses:
//!
//! - windows above 2^27 bytes. Below that it allocates the window that the frame asks for, or the
//!   content size if that is less;
//! - a magic below 2, because message sets older than record batches v2 had no Zstandard.

use std::io::Cursor;

use zstd::stream::raw::{CParameter, DParameter, Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{CCtx, compress_bound};

use super::output::Output;
use crate::format::Malformed;

const LARGEST_WINDOW_LOG: u32 = 27;
const DAMAGED: Malformed = Malformed("damaged zstd frame");
const NO_DECODER: Malformed = Malformed("zstd could not set up its decoder");
const COMPRESSOR_FAILED: Malformed = Malformed("zstd could not compress");

/// Compresses at a level from -131072 to 22.
pub(super) fn compress(bytes: &[u8], level: i32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut context = CCtx::try_create().ok_or(COMPRESSOR_FAILED)?;
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ContentSizeFlag(false),
    ] {
        context
            .set_parameter(parameter)
            .map_err(|_| COMPRESSOR_FAILED)?;
    }
    out.reserve(compress_bound(bytes.len()));
    let mut end = Cursor::new(&mut *out);
    end.set_position(end.get_ref().len() as u64);
    context
        .compress2(&mut end, bytes)
        .map_err(|_| COMPRESSOR_FAILED)?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], magic: u8, limit: usize) -> Result<Vec<u8>, Malformed> {
    if magic < 2 {
        return Err(Malformed(
            "zstd in a message set older than record batches v2",
        ));
    }
    // The loop would report that a frame ends too early. Kafka accepts a stream without frames.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut decoder = Decoder::new().map_err(|_| NO_DECODER)?;
    decoder
        .set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG))
        .map_err(|_| NO_DECODER)?;
    let mut input = InBuffer::around(bytes);
    let mut out = Output::new(bytes.len(), limit);
    loop {
        out.make_room()?;
        let end = out.bytes.len();
        let wanted = decoder
            .run(&mut input, &mut OutBuffer::around_pos(&mut out.bytes, end))
            .map_err(|_| DAMAGED)?;
        if input.pos() == bytes.len() {
            if wanted == 0 {
                return out.finish();
            }
            if !out.is_full() {
                return Err(Malformed("zstd frame ends too early"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::compression::TOO_LARGE;

    const LIMIT: usize = 1 << 20;

    fn frame(bytes: &[u8], parameters: &[CParameter]) -> Vec<u8> {
        let mut context = CCtx::create();
        for &parameter in parameters {
            context.set_parameter(parameter).unwrap();
        }
        let mut out = Vec::with_capacity(compress_bound(bytes.len()));
        context.compress2(&mut out, bytes).unwrap();
        out
    }

    /// Returns a frame of one raw block, with a window of `2^window_log` bytes.
    fn raw_frame(window_log: u8, bytes: &[u8]) -> Vec<u8> {
        let block = u32::try_from(bytes.len()).unwrap() << 3 | 1;
        let [_, high, middle, low] = block.to_be_bytes();
        [
            &[
                0x28,
                0xb5,
                0x2f,
                0xfd,
                0,
                (window_log - 10) << 3,
                low,
                middle,
                high,
            ],
            bytes,
        ]
        .concat()
    }

    #[test]
    fn the_encoder_writes_no_content_size_and_no_checksum() {
        let mut out = b"before".to_vec();
        compress(b"some records, some records", 3, &mut out).unwrap();
        assert_eq!(out[..11], *b"before\x28\xb5\x2f\xfd\0");
        assert_eq!(
            decompress(&out[6..], 2, LIMIT).unwrap(),
            b"some records, some records"
        );
    }

    #[test]
    fn streams_of_every_level_round_trip() {
        let text: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| (n % 1000).to_be_bytes())
            .collect();
        for level in [-131_072, -5, 1, 3, 19] {
            let mut out = Vec::new();
            compress(&text, level, &mut out).unwrap();
            assert_eq!(decompress(&out, 2, LIMIT).unwrap(), text, "level {level}");
        }
    }

    #[test]
    fn the_checksum_of_a_frame_is_verified() {
        let bytes = frame(
            &[1; 1000],
            &[
                CParameter::ContentSizeFlag(true),
                CParameter::ChecksumFlag(true),
            ],
        );
        assert_eq!(decompress(&bytes, 2, LIMIT).unwrap(), [1; 1000]);
        let mut damaged = bytes;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(decompress(&damaged, 2, LIMIT), Err(DAMAGED));
    }

    #[test]
    fn concatenated_and_skippable_frames_are_accepted() {
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let two = [
            &frame(b"one, ", &[])[..],
            skippable,
            &frame(b"", &[]),
            &frame(b"two", &[]),
        ]
        .concat();
        assert_eq!(decompress(&two, 2, LIMIT).unwrap(), b"one, two");
        assert_eq!(
            decompress(&[&two[..], b"not a frame"].concat(), 2, LIMIT),
            Err(DAMAGED)
        );
    }

    #[test]
    fn windows_above_2_to_the_27th_are_refused() {
        assert_eq!(
            decompress(&raw_frame(27, b"raw"), 2, LIMIT).unwrap(),
            b"raw"
        );
        assert_eq!(decompress(&raw_frame(28, b"raw"), 2, LIMIT), Err(DAMAGED));
    }

    #[test]
    fn zstd_in_a_message_set_is_refused() {
        let bytes = frame(b"x", &[]);
        assert!(decompress(&bytes, 2, LIMIT).is_ok());
        for magic in [0, 1] {
            assert_eq!(
                decompress(&bytes, magic, LIMIT),
                Err(Malformed(
                    "zstd in a message set older than record batches v2"
                ))
            );
        }
    }

    #[test]
    fn a_cut_frame_is_refused_and_no_frame_is_empty() {
        let whole = frame(b"a frame that is cut at every byte", &[]);
        for end in 1..whole.len() {
            assert!(decompress(&whole[..end], 2, LIMIT).is_err(), "cut at {end}");
        }
        assert_eq!(decompress(b"", 2, LIMIT).unwrap(), b"");
    }

    #[test]
    fn a_false_or_large_content_size_is_refused() {
        // The frame claims one segment of 2^32 - 1 bytes, but has a raw block of one byte.
        let claims_4_gib = b"\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x09\0\0x";
        assert!(decompress(claims_4_gib, 2, usize::MAX).is_err());
        let bytes = frame(&[0; 1000], &[CParameter::ContentSizeFlag(true)]);
        assert_eq!(decompress(&bytes, 2, 999), Err(TOO_LARGE));
    }
}
