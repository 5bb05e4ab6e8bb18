//! LZ4 frames, with the options that Kafka supports.
//!
//! | size | field                                                                                             |
//! |------|---------------------------------------------------------------------------------------------------|
//! | 4    | magic 0x184D2204                                                                                  |
//! | 1    | FLG: bits 7-6 version 01, 5 independent blocks, 4 block checksums, 3 content size, 2 content      |
//! |      | checksum, 1-0 zero                                                                                |
//! | 1    | BD: bits 6-4 largest block, 4 to 7 for 64 KiB, 256 KiB, 1 MiB, 4 MiB; the others zero             |
//! | 8    | content size, if flagged: ignored                                                                 |
//! | 1    | HC: second byte of the xxHash32 of FLG to content size                                            |
//! |      | blocks: length u32, top bit set if stored; that many bytes; 4 bytes of checksum, if flagged       |
//! | 4    | end mark 0                                                                                        |
//! | 4    | content checksum, if flagged: ignored                                                             |
//!
//! Numbers are little-endian. The encoder writes a frame without optional fields and with blocks of
//! 64 KiB. It stores a block uncompressed if compression does not make it smaller.
//!
//! - The decoder refuses linked blocks, dictionaries, and a frame without an end mark.
//! - It ignores block checksums and everything after the frame.
//! - It does not check HC in message sets v0, because their writers computed it wrongly.

#![expect(
    clippy::little_endian_bytes,
    reason = "the numbers of LZ4 frames are little-endian"
)]

use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into,
    get_maximum_output_size,
};

use super::TOO_LARGE;
use super::output::{FIRST_GUESS, Output};
use crate::format::Malformed;

/// The magic, FLG, BD and HC of every frame that we write.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const END_MARK: [u8; 4] = [0; 4];
const BLOCK_BYTES: usize = 64 * 1024;
const STORED: u32 = 1 << 31;
/// The greatest ratio of decompressed to compressed bytes: a length byte of 255 adds 255 bytes.
const LARGEST_RATIO: usize = 255;

const TRUNCATED: Malformed = Malformed("lz4 frame ends too early");
const DAMAGED: Malformed = Malformed("damaged lz4 block");
const BLOCK_TOO_LARGE: Malformed = Malformed("lz4 block is larger than its frame allows");
const COMPRESSOR_FAILED: Malformed = Malformed("lz4 could not compress");

/// The options in the descriptor of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    largest_block: usize,
    block_checksums: bool,
    content_checksum: bool,
}

/// Compresses with the fast compressor, whatever the level.
pub(super) fn compress(bytes: &[u8], _level: i32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut table = CompressTable::default();
    let mut room = vec![0; get_maximum_output_size(bytes.len().min(BLOCK_BYTES))];
    out.extend_from_slice(&HEADER);
    for block in bytes.chunks(BLOCK_BYTES) {
        let made = compress_into_with_table(block, &mut room, &mut table)
            .map_err(|_| COMPRESSOR_FAILED)?;
        let (flag, content) = match room.get(..made) {
            Some(smaller) if made < block.len() => (0, smaller),
            _ => (STORED, block),
        };
        let length = u32::try_from(content.len()).map_err(|_| COMPRESSOR_FAILED)?;
        out.extend_from_slice(&(flag | length).to_le_bytes());
        out.extend_from_slice(content);
    }
    out.extend_from_slice(&END_MARK);
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], magic: u8, limit: usize) -> Result<Vec<u8>, Malformed> {
    let (descriptor, mut rest) = read_descriptor(bytes, magic)?;
    let mut out = Output::new(bytes.len(), limit);
    loop {
        let (length, blocks) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        let word = u32::from_le_bytes(*length);
        let length = usize::try_from(word & !STORED).map_err(|_| BLOCK_TOO_LARGE)?;
        if length == 0 {
            let trailer = if descriptor.content_checksum { 4 } else { 0 };
            return if blocks.len() < trailer {
                Err(TRUNCATED)
            } else {
                out.finish()
            };
        }
        if length > descriptor.largest_block {
            return Err(BLOCK_TOO_LARGE);
        }
        let (block, after) = blocks.split_at_checked(length).ok_or(TRUNCATED)?;
        if word & STORED == 0 {
            append_block(block, descriptor.largest_block, &mut out)?;
        } else {
            out.append(block)?;
        }
        rest = after
            .get(if descriptor.block_checksums { 4 } else { 0 }..)
            .ok_or(TRUNCATED)?;
    }
}

/// Checks the descriptor, and returns it and the blocks after it.
fn read_descriptor(bytes: &[u8], magic: u8) -> Result<(Descriptor, &[u8]), Malformed> {
    let after_magic = bytes
        .strip_prefix(&MAGIC)
        .ok_or(Malformed("not an lz4 frame"))?;
    let &[flags, sizes, ..] = after_magic else {
        return Err(TRUNCATED);
    };
    if flags >> 6 != 1 {
        return Err(Malformed("unknown version of an lz4 frame"));
    }
    if flags & 0b11 != 0 || sizes & 0b1000_1111 != 0 {
        return Err(Malformed("lz4 frame with a dictionary or reserved bits"));
    }
    if flags & 1 << 5 == 0 {
        return Err(Malformed("lz4 frame of linked blocks"));
    }
    let largest_block = match sizes >> 4 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(Malformed("lz4 frame with an unknown block size")),
    };
    let hashed_bytes = if flags & 1 << 3 == 0 { 2 } else { 10 };
    let (hashed, rest) = after_magic
        .split_at_checked(hashed_bytes)
        .ok_or(TRUNCATED)?;
    let (&checksum, blocks) = rest.split_first().ok_or(TRUNCATED)?;
    let [_, _, expected, _] = xxhash32_of_few(hashed).to_be_bytes();
    if magic > 0 && checksum != expected {
        return Err(Malformed("lz4 header checksum does not match"));
    }
    let descriptor = Descriptor {
        largest_block,
        block_checksums: flags & 1 << 4 != 0,
        content_checksum: flags & 1 << 2 != 0,
    };
    Ok((descriptor, blocks))
}

/// Decompresses a block. The block does not state its decompressed length, so we start with the
/// usual ratio, and retry with more room, up to the most that its bytes can produce.
fn append_block(block: &[u8], largest: usize, out: &mut Output) -> Result<(), Malformed> {
    let possible = block.len().saturating_mul(LARGEST_RATIO).min(largest);
    let allowed = possible.min(out.left());
    let mut room = block
        .len()
        .saturating_mul(FIRST_GUESS)
        .max(BLOCK_BYTES)
        .min(allowed);
    loop {
        match out.append_block(room, |room| decompress_into(block, room)) {
            Ok(()) => return Ok(()),
            Err(DecompressError::OutputTooSmall { .. }) if room < allowed => {
                room = room.saturating_mul(4).min(allowed);
            }
            Err(DecompressError::OutputTooSmall { .. }) if allowed < possible => {
                return Err(TOO_LARGE);
            }
            Err(DecompressError::OutputTooSmall { .. }) => return Err(BLOCK_TOO_LARGE),
            Err(_) => return Err(DAMAGED),
        }
    }
}

/// Returns the xxHash32 with seed 0 of fewer than 16 bytes. A descriptor has at most 10.
fn xxhash32_of_few(bytes: &[u8]) -> u32 {
    const PRIME_1: u32 = 0x9e37_79b1;
    const PRIME_2: u32 = 0x85eb_ca77;
    const PRIME_3: u32 = 0xc2b2_ae3d;
    const PRIME_4: u32 = 0x27d4_eb2f;
    const PRIME_5: u32 = 0x1656_67b1;

    debug_assert!(bytes.len() < 16, "longer inputs are hashed in stripes");
    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = PRIME_5.wrapping_add(u32::try_from(bytes.len()).unwrap_or_default());
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
    }
    for &byte in tail {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(PRIME_2);
    hash = (hash ^ hash >> 13).wrapping_mul(PRIME_3);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16 << 20;

    /// Returns a frame with this descriptor and the right HC.
    fn frame(flags: u8, sizes: u8, content_size: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
        let descriptor = [&[flags, sizes], content_size].concat();
        let checksum = xxhash32_of_few(&descriptor).to_be_bytes()[2];
        [&MAGIC[..], &descriptor, &[checksum], &blocks.concat()].concat()
    }

    fn block(bytes: &[u8]) -> Vec<u8> {
        let compressed = lz4_flex::block::compress(bytes);
        let length = u32::try_from(compressed.len()).unwrap();
        [length.swap_bytes().to_be_bytes().to_vec(), compressed].concat()
    }

    fn stored(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap() | STORED;
        [&length.swap_bytes().to_be_bytes()[..], bytes].concat()
    }

    #[test]
    fn the_hash_matches_published_vectors() {
        assert_eq!(xxhash32_of_few(b""), 0x02cc_5d05);
        assert_eq!(xxhash32_of_few(b"a"), 0x550d_7456);
        assert_eq!(xxhash32_of_few(b"abc"), 0x32d1_53ff);
        assert_eq!(xxhash32_of_few(&[0x60, 0x40]).to_be_bytes()[2], 0x82);
    }

    #[test]
    fn the_encoder_writes_frames_like_kafka() {
        let mut out = Vec::new();
        compress(b"", 9, &mut out).unwrap();
        assert_eq!(out, [&HEADER[..], &END_MARK].concat());
        out.clear();
        compress(b"too short to shrink", 9, &mut out).unwrap();
        assert_eq!(
            out,
            [&HEADER[..], &stored(b"too short to shrink"), &END_MARK].concat()
        );
        out.clear();
        let two_blocks = vec![1; BLOCK_BYTES + 1];
        compress(&two_blocks, 9, &mut out).unwrap();
        assert_eq!(
            out,
            [
                &HEADER[..],
                &block(&two_blocks[1..]),
                &stored(&[1]),
                &END_MARK
            ]
            .concat()
        );
    }

    #[test]
    fn optional_fields_are_ignored() {
        let (size, checksum) = (&[9; 8][..], &[8; 4][..]);
        let content = block(&[6; 100]);
        for (flags, size, blocks) in [
            (0x60, &b""[..], vec![&content[..], &END_MARK]),
            (0x68, size, vec![&content, &END_MARK]),
            (0x70, b"", vec![&content, checksum, &END_MARK]),
            (0x64, b"", vec![&content, &END_MARK, checksum]),
            (0x7c, size, vec![&content, checksum, &END_MARK, checksum]),
        ] {
            let bytes = frame(flags, 0x40, size, &blocks);
            assert_eq!(
                decompress(&bytes, 2, LIMIT).unwrap(),
                [6; 100],
                "flags {flags:x}"
            );
            assert_eq!(
                decompress(&bytes[..bytes.len() - 1], 2, LIMIT),
                Err(TRUNCATED),
                "flags {flags:x}"
            );
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow in an interpreter")]
    fn every_block_size_is_accepted_and_larger_blocks_are_refused() {
        for (sizes, largest) in [
            (0x40, 64 << 10),
            (0x50, 256 << 10),
            (0x60, 1 << 20),
            (0x70, 4 << 20),
        ] {
            let full = vec![3; largest];
            let bytes = frame(
                0x60,
                sizes,
                b"",
                &[&block(&full), &stored(&full), &block(b"x"), &END_MARK],
            );
            assert_eq!(decompress(&bytes, 2, LIMIT).unwrap().len(), 2 * largest + 1);
            let over = vec![3; largest + 1];
            for too_large in [block(&over), stored(&over)] {
                let bytes = frame(0x60, sizes, b"", &[&too_large, &END_MARK]);
                assert_eq!(decompress(&bytes, 2, LIMIT), Err(BLOCK_TOO_LARGE));
            }
        }
    }

    #[test]
    fn bytes_after_the_frame_are_ignored() {
        let one = frame(0x60, 0x40, b"", &[&stored(b"one"), &END_MARK]);
        assert_eq!(
            decompress(&[&one[..], &one].concat(), 2, LIMIT).unwrap(),
            b"one"
        );
        assert_eq!(
            decompress(&[&one[..], b"not a frame"].concat(), 2, LIMIT).unwrap(),
            b"one"
        );
        let stored_nothing = frame(0x60, 0x40, b"", &[&stored(b"one"), &stored(b"")]);
        assert_eq!(
            decompress(&stored_nothing, 2, LIMIT).unwrap(),
            b"one",
            "Kafka treats a stored block of no bytes as an end mark"
        );
    }

    #[test]
    fn unsupported_frames_are_refused() {
        let content = [&stored(b"x")[..], &END_MARK];
        for (flags, sizes, why) in [
            (0x40, 0x40, "lz4 frame of linked blocks"),
            (0x61, 0x40, "lz4 frame with a dictionary or reserved bits"),
            (0x62, 0x40, "lz4 frame with a dictionary or reserved bits"),
            (0x60, 0x41, "lz4 frame with a dictionary or reserved bits"),
            (0x60, 0xc0, "lz4 frame with a dictionary or reserved bits"),
            (0x20, 0x40, "unknown version of an lz4 frame"),
            (0xa0, 0x40, "unknown version of an lz4 frame"),
            (0x60, 0x30, "lz4 frame with an unknown block size"),
        ] {
            assert_eq!(
                decompress(&frame(flags, sizes, b"", &content), 2, LIMIT),
                Err(Malformed(why))
            );
        }
        let mut skippable = frame(0x60, 0x40, b"", &content);
        skippable[..4].copy_from_slice(&[0x50, 0x2a, 0x4d, 0x18]);
        assert_eq!(
            decompress(&skippable, 2, LIMIT),
            Err(Malformed("not an lz4 frame"))
        );
    }

    #[test]
    fn the_end_mark_is_required() {
        let whole = frame(0x60, 0x40, b"", &[&block(&[6; 100]), &END_MARK]);
        for end in 0..whole.len() {
            assert!(decompress(&whole[..end], 2, LIMIT).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_header_checksum_is_checked_from_v1_on() {
        let mut bytes = frame(0x60, 0x40, b"", &[&stored(b"x"), &END_MARK]);
        bytes[6] ^= 0xff;
        assert_eq!(decompress(&bytes, 0, LIMIT).unwrap(), b"x");
        for magic in [1, 2] {
            assert_eq!(
                decompress(&bytes, magic, LIMIT),
                Err(Malformed("lz4 header checksum does not match"))
            );
        }
    }

    #[test]
    fn a_match_that_reaches_into_the_previous_block_is_refused() {
        // One literal, then a match four bytes back, which starts in the previous block.
        let reaches_back = b"\x11a\x04\0\x50aaaaa";
        let length = [u8::try_from(reaches_back.len()).unwrap(), 0, 0, 0];
        let bytes = frame(
            0x60,
            0x40,
            b"",
            &[&stored(b"before"), &length, reaches_back, &END_MARK],
        );
        assert_eq!(decompress(&bytes, 2, LIMIT), Err(DAMAGED));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow in an interpreter")]
    fn a_block_that_passes_the_limit_is_refused() {
        let bytes = frame(0x60, 0x70, b"", &[&block(&vec![0; 1 << 20]), &END_MARK]);
        assert_eq!(decompress(&bytes, 2, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(decompress(&bytes, 2, (1 << 20) - 1), Err(TOO_LARGE));
        let stored = frame(0x60, 0x70, b"", &[&stored(&[0; 10]), &END_MARK]);
        assert_eq!(decompress(&stored, 2, 9), Err(TOO_LARGE));
    }

    #[test]
    fn a_block_that_does_not_shrink_is_stored() {
        let mixed: Vec<u8> = (0..100_u8).map(|number| number.wrapping_mul(151)).collect();
        for zeros in 0..60 {
            let content = [&mixed[..], &vec![0; zeros]].concat();
            let mut out = Vec::new();
            compress(&content, 9, &mut out).unwrap();
            let word = u32::from_le_bytes(*out[HEADER.len()..].first_chunk().unwrap());
            assert!(
                word & STORED != 0 || (word as usize) < content.len(),
                "{zeros} zeros"
            );
        }
    }
}
