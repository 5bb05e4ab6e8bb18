//! gzip (RFC 1952): a sequence of members, each with a header, a raw deflate stream and a trailer.
//!
//! | offset | size | field                                                                       |
//! |--------|------|-----------------------------------------------------------------------------|
//! | 0      | 2    | magic `1f 8b`                                                               |
//! | 2      | 1    | method, 8 (deflate)                                                         |
//! | 3      | 1    | flags: bit 1 header CRC, bit 2 extra field, bit 3 name, bit 4 comment       |
//! | 4      | 6    | time, extra flags, operating system: ignored                                |
//! | 10     |      | if flagged: extra (u16 length, bytes), name\0, comment\0, header CRC u16    |
//! |        |      | deflate stream                                                              |
//! |        | 4    | CRC-32 of the decompressed bytes                                            |
//! |        | 4    | length of the decompressed bytes, modulo 2^32                               |
//!
//! Numbers are little-endian. The encoder writes one member.
//!
//! The decoder accepts any number of concatenated members. Like Java's reader, it ignores the bytes
//! after a whole member if they do not start with a member's header, or are too short for a member.

#![expect(
    clippy::little_endian_bytes,
    reason = "gzip's numbers are little-endian"
)]

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::output::Output;
use crate::format::Malformed;
use crate::format::checksum::crc32;
use crate::format::fixed::field;

const MAGIC_AND_METHOD: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const WINDOW_BITS: u8 = 15;
/// The size of a header and a trailer. Bytes after a member must be longer to be another member.
const TOO_SHORT_BYTES: usize = 18;

const TRUNCATED: Malformed = Malformed("gzip stream ends too early");
const DAMAGED: Malformed = Malformed("damaged gzip stream");

/// Compresses at a level from 1 to 9; -1 is zlib's default level.
pub(super) fn compress(bytes: &[u8], level: i32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let level = u32::try_from(level)
        .map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
    let mut deflate = Compress::new_gzip(level, WINDOW_BITS);
    loop {
        out.reserve(bytes.len() / 4 + 256);
        match deflate.compress_vec(after(bytes, deflate.total_in()), out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return Err(Malformed("gzip could not compress")),
        }
    }
}

pub(super) fn decompress(bytes: &[u8], _magic: u8, limit: usize) -> Result<Vec<u8>, Malformed> {
    let mut out = Output::new(bytes.len(), limit);
    let mut inflate = Decompress::new(false);
    let mut stream = skip_header(bytes).ok_or(Malformed("not a gzip stream"))?;
    loop {
        let rest = read_member(&mut inflate, stream, &mut out)?;
        match skip_header(rest) {
            Some(next) if rest.len() > TOO_SHORT_BYTES => stream = next,
            _ => return out.finish(),
        }
        inflate.reset(false);
    }
}

/// Inflates the stream after a header, checks the trailer, and returns the bytes after it.
fn read_member<'a>(
    inflate: &mut Decompress,
    stream: &'a [u8],
    out: &mut Output,
) -> Result<&'a [u8], Malformed> {
    let start = out.bytes.len();
    loop {
        out.make_room()?;
        let rest = after(stream, inflate.total_in());
        match inflate.decompress_vec(rest, &mut out.bytes, FlushDecompress::None) {
            Ok(Status::StreamEnd) => break,
            Ok(Status::Ok | Status::BufError) if out.is_full() => {}
            Ok(Status::Ok | Status::BufError) => return Err(TRUNCATED),
            Err(_) => return Err(DAMAGED),
        }
    }
    out.check()?;
    let member = out.bytes.get(start..).unwrap_or_default();
    let (trailer, rest) = after(stream, inflate.total_in())
        .split_first_chunk::<8>()
        .ok_or(TRUNCATED)?;
    let length = u64::from(u32::from_le_bytes(field::<4, _, _>(trailer)));
    if u32::from_le_bytes(field::<0, _, _>(trailer)) != crc32(member)
        || length != member.len() as u64 & 0xffff_ffff
    {
        return Err(Malformed("gzip checksum or length does not match"));
    }
    Ok(rest)
}

/// Returns the bytes after a member's header, or `None` if `bytes` does not start with a whole
/// header.
fn skip_header(bytes: &[u8]) -> Option<&[u8]> {
    let (fixed, mut rest) = bytes.split_first_chunk::<10>()?;
    let [a, b, method, flags, ..] = *fixed;
    if [a, b, method] != MAGIC_AND_METHOD {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, extra) = rest.split_first_chunk::<2>()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let header = bytes.get(..bytes.len() - rest.len())?;
        let (stored, stream) = rest.split_first_chunk::<2>()?;
        if u32::from(u16::from_le_bytes(*stored)) != crc32(header) & 0xffff {
            return None;
        }
        rest = stream;
    }
    Some(rest)
}

/// Returns the bytes after the first `consumed` ones.
fn after(bytes: &[u8], consumed: u64) -> &[u8] {
    usize::try_from(consumed)
        .ok()
        .and_then(|consumed| bytes.get(consumed..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn member(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(bytes, -1, &mut out).unwrap();
        out
    }

    /// Returns a member with every optional field, and flips the bits of `damage` in its header
    /// CRC.
    fn decorated(bytes: &[u8], damage: u8) -> Vec<u8> {
        let mut out = vec![
            0x1f,
            0x8b,
            8,
            HEADER_CRC | EXTRA | NAME | COMMENT,
            1,
            2,
            3,
            4,
            0,
            255,
        ];
        out.extend_from_slice(b"\x03\x00abcname\0comment\0");
        let crc = crc32(&out) & 0xffff;
        out.extend([
            u8::try_from(crc & 0xff).unwrap() ^ damage,
            u8::try_from(crc >> 8).unwrap(),
        ]);
        out.extend_from_slice(&member(bytes)[10..]);
        out
    }

    #[test]
    fn the_encoder_writes_one_member_with_a_plain_header() {
        let written = member(b"some records");
        assert_eq!(written[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(decompress(&written, 2, 12).unwrap(), b"some records");
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow in an interpreter")]
    fn streams_of_every_level_round_trip() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 1000).to_be_bytes())
            .collect();
        for level in [-1, 1, 6, 9] {
            let mut out = Vec::new();
            compress(&text, level, &mut out).unwrap();
            assert_eq!(decompress(&out, 2, LIMIT).unwrap(), text, "level {level}");
        }
    }

    #[test]
    fn concatenated_members_are_accepted() {
        let two = [member(b"one, "), member(b""), decorated(b"two", 0)].concat();
        assert_eq!(decompress(&two, 2, LIMIT).unwrap(), b"one, two");
    }

    #[test]
    fn bytes_after_a_member_that_are_not_a_header_are_ignored() {
        for rest in [
            &b"\0"[..],
            &[0; 40],
            b"\x1f\x8b",
            b"\x1f\x8b\x08",
            b"bytes that are long enough for a member",
            &decorated(b"x", 1),
        ] {
            let bytes = [&member(b"whole")[..], rest].concat();
            assert_eq!(decompress(&bytes, 2, LIMIT).unwrap(), b"whole");
        }
        let next = member(b"next");
        for (end, expected) in [
            (10, Ok(b"whole".to_vec())),
            (18, Ok(b"whole".to_vec())),
            (19, Err(TRUNCATED)),
        ] {
            let cut = [&member(b"whole")[..], &next[..end]].concat();
            assert_eq!(
                decompress(&cut, 2, LIMIT),
                expected,
                "next member cut at {end}"
            );
        }
    }

    #[test]
    fn streams_without_a_gzip_header_are_refused() {
        let mut zlib = Vec::with_capacity(100);
        Compress::new(flate2::Compression::default(), true)
            .compress_vec(b"zlib", &mut zlib, FlushCompress::Finish)
            .unwrap();
        for bytes in [
            &zlib[..],
            b"",
            b"\x1f",
            b"\x1f\x8b\x07aaaaaaaaaaaaaaaaaaa",
            &decorated(b"x", 1),
        ] {
            assert_eq!(
                decompress(bytes, 2, LIMIT),
                Err(Malformed("not a gzip stream"))
            );
        }
    }

    #[test]
    fn a_cut_or_damaged_member_is_refused() {
        let whole = member(b"a member that is cut and damaged at every byte");
        for end in 0..whole.len() {
            assert!(decompress(&whole[..end], 2, LIMIT).is_err(), "cut at {end}");
        }
        for at in 10..whole.len() {
            let mut damaged = whole.clone();
            // The last byte of the deflate stream may have unused bits, but never its lowest one.
            damaged[at] ^= 1;
            assert!(decompress(&damaged, 2, LIMIT).is_err(), "flipped at {at}");
        }
    }
}
