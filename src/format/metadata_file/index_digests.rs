//! `index-digests`, in each partition's directory: what the sealed indexes were when they were written.
//!
//! `version=1`, then a line `<file name> <bytes> <CRC-32C, 8 hex digits>` for each index, then `crc=<8 hex digits>`: CRC-32
//! (IEEE) of all bytes before that line. Example of a line: `00000000000000000000.index 16 0a1b2c3d`.
//!
//! A transaction index that is not there has 0 bytes. The line of a `.log` comes before those of its indexes; it has the length,
//! and 0 for a checksum. Where the `.log` has another length now, the lines of its indexes do not count.
//!
//! Kafka's indexes have no checksum. One that is not what its line says is made again from the log; so a file that is lost or
//! malformed costs time and nothing else.

use crate::format::Malformed;

use super::checked_text;

const VERSION: u32 = 1;
const MALFORMED_LINE: Malformed = Malformed("a line of the index digests is malformed");

/// One sealed index, or the `.log` that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexDigest {
    /// Of the file, without its directory.
    pub(crate) name: String,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// CRC-32C of the file; 0 for a `.log`.
    pub(crate) crc: u32,
}

/// The whole file.
pub(crate) fn encode_index_digests(digests: &[IndexDigest]) -> String {
    let lines: Vec<_> = digests
        .iter()
        .map(|IndexDigest { name, bytes, crc }| {
            assert!(!name.contains([' ', '\n']), "the name of an index has digits and letters");
            format!("{name} {bytes} {crc:08x}\n")
        })
        .collect();
    checked_text::seal(VERSION, &lines)
}

/// Ends with a CRC-32 line as the topic file does.
pub(crate) fn decode_index_digests(bytes: &[u8]) -> Result<Vec<IndexDigest>, Malformed> {
    let lines = checked_text::unseal(bytes, VERSION)?;
    lines.split_terminator('\n').map(|line| decode_line(line).ok_or(MALFORMED_LINE)).collect()
}

fn decode_line(line: &str) -> Option<IndexDigest> {
    let (rest, crc) = line.rsplit_once(' ')?;
    let (name, bytes) = rest.split_once(' ')?;
    Some(IndexDigest { name: name.to_owned(), bytes: bytes.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests() -> Vec<IndexDigest> {
        vec![
            IndexDigest { name: "00000000000000000000.index".to_owned(), bytes: 16, crc: 0x0a1b_2c3d },
            IndexDigest { name: "00000000000000000000.timeindex".to_owned(), bytes: 0, crc: 0 },
        ]
    }

    #[test]
    fn it_is_text_with_a_line_for_each_index() {
        let text = encode_index_digests(&digests());
        let lines = "version=1\n00000000000000000000.index 16 0a1b2c3d\n00000000000000000000.timeindex 0 00000000\ncrc=";
        assert_eq!(text.get(..lines.len()), Some(lines));
        assert_eq!(decode_index_digests(text.as_bytes()), Ok(digests()));
        assert_eq!(decode_index_digests(encode_index_digests(&[]).as_bytes()), Ok(vec![]));
    }

    #[test]
    fn damage_is_noticed() {
        let text = encode_index_digests(&digests()).into_bytes();
        for position in 0..text.len() {
            let mut bytes = text.clone();
            bytes[position] ^= 1;
            assert!(decode_index_digests(&bytes).is_err(), "byte {position}");
            assert!(decode_index_digests(&text[..position]).is_err(), "cut to {position} bytes");
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in ["", "a", "a 1", "a 1 x", "a x 00000000", "a 1 2 00000000", "a -1 00000000", "a 1 100000000"] {
            assert!(decode_index_digests(checked_text::seal(1, &[line, "\n"]).as_bytes()).is_err(), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn digests_survive(
            entries in prop::collection::vec(("[0-9]{20}\\.(index|timeindex|txnindex)", any::<(u64, u32)>()), 0..8),
        ) {
            let digests: Vec<_> = entries.into_iter().map(|(name, (bytes, crc))| IndexDigest { name, bytes, crc }).collect();
            prop_assert_eq!(decode_index_digests(encode_index_digests(&digests).as_bytes()), Ok(digests));
        }

        #[test]
        fn any_lines_are_read_or_refused(lines in "[0-9a-f .\n]{0,60}") {
            drop(decode_index_digests(checked_text::seal(1, &[lines.as_str()]).as_bytes()));
            drop(decode_index_digests(lines.as_bytes()));
        }
    }
}
