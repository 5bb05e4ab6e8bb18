//! `index-digests`: lengths and checksums of the sealed indexes, in each partition's directory.
//!
//! | line | occurrence |
//! | --- | --- |
//! | `version=1` | the first line |
//! | `<file name> <bytes> <CRC-32C, 8 hex digits>` | once for each file |
//! | `crc=<8 hex digits>` | the last line: CRC-32 (IEEE) of all bytes before it |
//!
//! Example of a line: `00000000000000000000.index 16 0a1b2c3d`.
//!
//! The lines of a segment follow one another, in the order of the segments. The line of the `.log`
//! comes first. It has the length of the `.log`, and 0 for a checksum. If the `.log` now has
//! another length, the lines of its indexes are invalid. A transaction index that does not exist
//! has 0 bytes.
//!
//! Kafka's indexes have no checksum. An index that differs from its line is rebuilt from the log.
//! If this file is lost or malformed, that costs time, but no data.

use std::fmt::Write as _;

use crate::format::{Malformed, file_name};

use super::checked_text;

const VERSION: u32 = 1;
const MALFORMED_LINE: Malformed = Malformed("a line of the index digests is malformed");

/// The length and the CRC-32C of a file.
pub(crate) type Digest = (u64, u32);

/// The lines of one sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentDigests {
    pub(crate) base_offset: u64,
    /// The length of the `.log` that the indexes describe. Early versions of annals did not write
    /// this line.
    pub(crate) log_bytes: Option<u64>,
    /// The digests of the indexes, in the order of [`file_name::INDEXES`].
    pub(crate) indexes: [Option<Digest>; 3],
}

impl SegmentDigests {
    /// Stores the digest of one line. Returns `false` if the suffix is unknown.
    fn note(&mut self, suffix: &str, digest: Digest) -> bool {
        if suffix == file_name::LOG {
            self.log_bytes = Some(digest.0);
            return true;
        }
        let mut indexes = file_name::INDEXES.into_iter().zip(&mut self.indexes);
        let found = indexes.find(|(name, _)| *name == suffix);
        found.map(|(_, index)| *index = Some(digest)).is_some()
    }
}

/// Returns the text of the file.
pub(crate) fn encode_index_digests(segments: &[SegmentDigests]) -> String {
    let mut lines = String::new();
    for SegmentDigests {
        base_offset,
        log_bytes,
        indexes,
    } in segments
    {
        let log = (file_name::LOG, log_bytes.map(|bytes| (bytes, 0)));
        for (suffix, digest) in [log]
            .into_iter()
            .chain(file_name::INDEXES.into_iter().zip(*indexes))
        {
            let Some((bytes, crc)) = digest else { continue };
            let name = file_name::segment_file(*base_offset, suffix);
            let _infallible = writeln!(lines, "{name} {bytes} {crc:08x}");
        }
    }
    checked_text::seal(VERSION, &[lines])
}

/// Decodes a file that [`encode_index_digests`] wrote.
pub(crate) fn decode_index_digests(bytes: &[u8]) -> Result<Vec<SegmentDigests>, Malformed> {
    let lines = checked_text::unseal(bytes, VERSION)?;
    let mut segments = Vec::<SegmentDigests>::new();
    for line in lines.split_terminator('\n') {
        let (base_offset, suffix, digest) = decode_line(line).ok_or(MALFORMED_LINE)?;
        if segments
            .last()
            .is_none_or(|last| last.base_offset != base_offset)
        {
            segments.push(SegmentDigests {
                base_offset,
                log_bytes: None,
                indexes: [None; 3],
            });
        }
        let segment = segments.last_mut().ok_or(MALFORMED_LINE)?;
        let is_known = segment.note(suffix, digest);
        if !is_known {
            return Err(MALFORMED_LINE);
        }
    }
    Ok(segments)
}

fn decode_line(line: &str) -> Option<(u64, &str, Digest)> {
    let (rest, crc) = line.rsplit_once(' ')?;
    let (name, bytes) = rest.split_once(' ')?;
    let (base_offset, suffix) = file_name::parse_segment_file(name)?;
    Some((
        base_offset,
        suffix,
        (bytes.parse().ok()?, u32::from_str_radix(crc, 16).ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests() -> Vec<SegmentDigests> {
        let of = |base_offset, log_bytes, indexes| SegmentDigests {
            base_offset,
            log_bytes,
            indexes,
        };
        vec![
            of(
                0,
                Some(300),
                [Some((16, 0x0a1b_2c3d)), Some((24, 5)), Some((0, 0))],
            ),
            of(3, None, [None, Some((12, 1)), None]),
        ]
    }

    #[test]
    fn the_file_has_a_line_for_each_known_file_of_a_segment() {
        let text = encode_index_digests(&digests());
        let lines = "version=1\n\
                     00000000000000000000.log 300 00000000\n\
                     00000000000000000000.index 16 0a1b2c3d\n\
                     00000000000000000000.timeindex 24 00000005\n\
                     00000000000000000000.txnindex 0 00000000\n\
                     00000000000000000003.timeindex 12 00000001\n\
                     crc=";
        assert_eq!(text.get(..lines.len()), Some(lines));
        assert_eq!(decode_index_digests(text.as_bytes()), Ok(digests()));
        assert_eq!(
            decode_index_digests(encode_index_digests(&[]).as_bytes()),
            Ok(vec![])
        );
    }

    #[test]
    fn a_flipped_bit_in_any_byte_and_any_cut_is_detected() {
        let text = encode_index_digests(&digests()).into_bytes();
        for position in 0..text.len() {
            let mut bytes = text.clone();
            bytes[position] ^= 1;
            assert!(decode_index_digests(&bytes).is_err(), "byte {position}");
            assert!(
                decode_index_digests(&text[..position]).is_err(),
                "cut to {position} bytes"
            );
        }
    }

    #[test]
    fn malformed_lines_are_refused_despite_a_right_checksum() {
        let read =
            |line: &str| decode_index_digests(checked_text::seal(1, &[line, "\n"]).as_bytes());
        let name = "00000000000000000000.index";
        assert!(read(&format!("{name} 1 00000000")).is_ok());
        for rest in [
            "",
            " 1",
            " 1 x",
            " x 00000000",
            " 1 2 00000000",
            " -1 00000000",
            " 1 100000000",
        ] {
            assert!(read(&format!("{name}{rest}")).is_err(), "{rest:?}");
        }
        for name in [
            "",
            "0.index",
            "00000000000000000000.snapshot",
            "00000000000000000000",
            "orders.index",
        ] {
            assert!(read(&format!("{name} 1 00000000")).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn digests_round_trip(entries in prop::collection::btree_map(0..1_u64 << 63, any::<(u64, [Option<Digest>; 3])>(), 0..8)) {
            let of = |(base_offset, (bytes, indexes))| SegmentDigests { base_offset, log_bytes: Some(bytes), indexes };
            let digests: Vec<_> = entries.into_iter().map(of).collect();
            prop_assert_eq!(decode_index_digests(encode_index_digests(&digests).as_bytes()), Ok(digests));
        }

        #[test]
        fn decoding_any_lines_does_not_panic(lines in "[0-9a-f .\n]{0,60}") {
            drop(decode_index_digests(checked_text::seal(1, &[lines.as_str()]).as_bytes()));
            drop(decode_index_digests(lines.as_bytes()));
        }
    }
}
