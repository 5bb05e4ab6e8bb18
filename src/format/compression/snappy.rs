//! Snappy, in the xerial stream format of snappy-java.
//!
//! | offset | size | field                                                                          |
//! |--------|------|--------------------------------------------------------------------------------|
//! | 0      | 8    | magic: 0x82, `SNAPPY`, 0                                                       |
//! | 8      | 4    | version, 1                                                                     |
//! | 12     | 4    | oldest version that can read it, 1                                             |
//! | 16     |      | chunks: length int32, and one raw snappy block of that length; no end mark     |
//!
//! Numbers are big-endian. The encoder writes a chunk for every 32 KiB.
//!
//! - The decoder accepts chunks of any size, and ignores the versions.
//! - It accepts concatenated streams: the first four bytes of the magic in place of a length start
//!   another header.
//! - Fewer than four remaining bytes mean the end.
//! - A payload without the magic is one raw snappy block, which old producers write.
//! - Google's own framing format is refused.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::TOO_LARGE;
use super::output::Output;
use crate::format::Malformed;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHUNK_BYTES: usize = 32 * 1024;
/// The greatest ratio of decompressed to compressed bytes. The most efficient element of a block is
/// a copy of 64 bytes, which takes three bytes.
const LARGEST_RATIO: usize = 64 / 3 + 1;

const TRUNCATED: Malformed = Malformed("snappy stream ends too early");
const DAMAGED: Malformed = Malformed("damaged snappy block");
const COMPRESSOR_FAILED: Malformed = Malformed("snappy could not compress");

/// Compresses; Snappy has no levels.
pub(super) fn compress(bytes: &[u8], _level: i32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut encoder = Encoder::new();
    let mut block = vec![0; max_compress_len(bytes.len().min(CHUNK_BYTES))];
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let length = encoder
            .compress(chunk, &mut block)
            .map_err(|_| COMPRESSOR_FAILED)?;
        let block = block.get(..length).ok_or(COMPRESSOR_FAILED)?;
        out.extend_from_slice(
            &u32::try_from(length)
                .map_err(|_| COMPRESSOR_FAILED)?
                .to_be_bytes(),
        );
        out.extend_from_slice(block);
    }
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], _magic: u8, limit: usize) -> Result<Vec<u8>, Malformed> {
    let mut out = Output::new(bytes.len(), limit);
    if !bytes.starts_with(&MAGIC) {
        append_block(bytes, &mut out)?;
        return out.finish();
    }
    let mut rest = bytes;
    while let Some((length, chunks)) = rest.split_first_chunk::<4>() {
        if MAGIC.starts_with(length) {
            rest = rest.get(HEADER_BYTES..).ok_or(TRUNCATED)?;
            continue;
        }
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| Malformed("negative length of a snappy chunk"))?;
        let (block, after) = chunks.split_at_checked(length).ok_or(TRUNCATED)?;
        append_block(block, &mut out)?;
        rest = after;
    }
    out.finish()
}

/// Decompresses a block. The block states its decompressed length; a length that its bytes cannot
/// produce is refused before memory is allocated for it.
fn append_block(block: &[u8], out: &mut Output) -> Result<(), Malformed> {
    let length = decompress_len(block).map_err(|_| DAMAGED)?;
    if length.div_ceil(LARGEST_RATIO) > block.len() {
        return Err(DAMAGED);
    }
    if length > out.left() {
        return Err(TOO_LARGE);
    }
    out.append_block(length, |room| Decoder::new().decompress(block, room))
        .map_err(|_| DAMAGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;
    const HEADER: [u8; HEADER_BYTES] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

    fn block(bytes: &[u8]) -> Vec<u8> {
        Encoder::new().compress_vec(bytes).unwrap()
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        let block = block(bytes);
        [
            &u32::try_from(block.len()).unwrap().to_be_bytes()[..],
            &block,
        ]
        .concat()
    }

    #[test]
    fn the_encoder_writes_chunks_of_32_kib() {
        let bytes = vec![7; CHUNK_BYTES + 1];
        let mut out = Vec::new();
        compress(&bytes, 0, &mut out).unwrap();
        assert_eq!(
            out,
            [&HEADER[..], &chunk(&bytes[1..]), &chunk(&[7])].concat()
        );
        out.clear();
        compress(b"", 0, &mut out).unwrap();
        assert_eq!(out, HEADER);
        assert_eq!(decompress(&out, 2, LIMIT).unwrap(), b"");
    }

    #[test]
    fn chunks_of_any_size_are_accepted() {
        let large: Vec<u8> = (0..300_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let stream = [&HEADER[..], &chunk(&large), &chunk(b""), &chunk(b"x")].concat();
        assert_eq!(
            decompress(&stream, 2, LIMIT).unwrap(),
            [&large[..], b"x"].concat()
        );
    }

    #[test]
    fn concatenated_streams_are_accepted() {
        let other_version = [&HEADER[..8], &[9; 8]].concat();
        let stream = [
            &HEADER[..],
            &chunk(b"one, "),
            &HEADER,
            &other_version,
            &chunk(b"two"),
            &HEADER,
        ]
        .concat();
        assert_eq!(decompress(&stream, 2, LIMIT).unwrap(), b"one, two");
        assert_eq!(
            decompress(&stream[..stream.len() - 1], 2, LIMIT),
            Err(TRUNCATED)
        );
    }

    #[test]
    fn a_payload_without_the_magic_is_one_raw_block() {
        assert_eq!(decompress(&block(b"raw"), 2, LIMIT).unwrap(), b"raw");
        assert_eq!(
            decompress(&block(&vec![5; 100_000]), 2, LIMIT).unwrap(),
            vec![5; 100_000]
        );
    }

    #[test]
    fn fewer_than_four_remaining_bytes_are_ignored() {
        let stream = [&HEADER[..], &chunk(b"chunk"), &[0, 0, 1]].concat();
        assert_eq!(decompress(&stream, 2, LIMIT).unwrap(), b"chunk");
    }

    #[test]
    fn googles_framing_is_refused() {
        let framed = b"\xff\x06\0\0sNaPpY\x01\x08\0\0\x81\xf7\xe4\x3aabcd";
        assert_eq!(decompress(framed, 2, LIMIT), Err(DAMAGED));
    }

    #[test]
    fn a_cut_or_malformed_stream_is_refused() {
        let stream = [&HEADER[..], &chunk(b"chunk")].concat();
        for end in (0..16).chain(20..stream.len()) {
            assert!(
                decompress(&stream[..end], 2, LIMIT).is_err(),
                "cut at {end}"
            );
        }
        let negative = [&HEADER[..], &[0xff; 12]].concat();
        assert_eq!(
            decompress(&negative, 2, LIMIT),
            Err(Malformed("negative length of a snappy chunk"))
        );
        let empty_chunk = [&HEADER[..], &[0; 4]].concat();
        assert_eq!(decompress(&empty_chunk, 2, LIMIT), Err(DAMAGED));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow in an interpreter")]
    fn a_length_that_a_block_cannot_produce_is_refused() {
        let claims_4_gib = b"\xff\xff\xff\xff\x0f\0a";
        assert_eq!(decompress(claims_4_gib, 2, usize::MAX), Err(DAMAGED));
        let zeros = block(&vec![0; 1 << 20]);
        assert!(
            zeros.len() < (1 << 20) / 20,
            "the block tests the greatest ratio"
        );
        assert_eq!(decompress(&zeros, 2, 1 << 20).unwrap().len(), 1 << 20);
    }
}
