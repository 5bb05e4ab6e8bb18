//! The frame of annals' own files: text that starts with a version and ends with a checksum.
//!
//! The first line is `version=<number>\n`. The lines of the file follow. The last line is
//! `crc=<8 hex digits>\n`, the CRC-32 (IEEE) of all bytes before that line.
//!
//! Every later version keeps the first and the last line, so that a reader can distinguish a newer
//! file from a damaged one.

use std::borrow::Borrow;

use crate::format::Malformed;
use crate::format::checksum::crc32;

use super::NEWER_VERSION;

const VERSION: &str = "version=";
const CRC: &str = "crc=";
const CRC_LINE_BYTES: usize = "crc=01234567\n".len();

const DAMAGED: Malformed = Malformed("its checksum does not match");

/// Returns the text of a file with these lines, each of which ends with `\n`.
pub(super) fn seal(version: u32, lines: &[impl Borrow<str>]) -> String {
    let text = format!("{VERSION}{version}\n{}", lines.concat());
    let crc = crc32(text.as_bytes());
    format!("{text}{CRC}{crc:08x}\n")
}

/// Checks the frame, and returns the lines between version and checksum. Returns [`NEWER_VERSION`]
/// for a sound file of a version above `version`.
pub(super) fn unseal(bytes: &[u8], version: u32) -> Result<&str, Malformed> {
    let text_bytes = bytes.len().checked_sub(CRC_LINE_BYTES).ok_or(DAMAGED)?;
    let (text, crc_line) = bytes.split_at_checked(text_bytes).ok_or(DAMAGED)?;
    if crc_line != format!("{CRC}{:08x}\n", crc32(text)).as_bytes() {
        return Err(DAMAGED);
    }
    let text = str::from_utf8(text).map_err(|_| Malformed("it is not text"))?;
    let (found, lines) = text
        .strip_prefix(VERSION)
        .and_then(|text| text.split_once('\n'))
        .ok_or(Malformed("it has no version"))?;
    match found.parse::<u32>() {
        Ok(found) if found == version => Ok(lines),
        Ok(found) if found > version => Err(NEWER_VERSION),
        _ => Err(Malformed("its version is unknown")),
    }
}

/// Checks that the table at the head of a source file lists exactly the keys that the file defines
/// as constants, and that `text`, which uses every key, consists of lines with these keys.
#[cfg(test)]
pub(super) fn assert_lines_are_documented(source: &str, text: &str) {
    fn until<'a>(text: &'a str, ends: &[char]) -> &'a str {
        text.split(ends).next().unwrap_or_default()
    }
    let rows = source.lines().filter_map(|row| row.strip_prefix("//! | `"));
    let documented: Vec<_> = rows.map(|row| until(row, &['=', '<'])).collect();
    let literals = source
        .lines()
        .filter(|line| line.starts_with("const "))
        .filter_map(|line| line.split_once(": &str = \""));
    let mut known = vec![until(VERSION, &['='])];
    known.extend(literals.map(|(_, literal)| until(literal, &['=', '"'])));
    known.push(until(CRC, &['=']));
    assert_eq!(
        documented, known,
        "the documented keys are those of the code"
    );

    for key in &documented {
        let is_used = text.lines().any(|line| line.starts_with(key));
        assert!(is_used, "no line starts with {key}: {text}");
    }
    for line in text.lines() {
        let is_documented = documented.iter().any(|key| line.starts_with(key));
        assert!(is_documented, "the table does not list {line}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sealed_text_ends_with_a_checksum() {
        let sealed = seal(1, &["a=b\n"]);
        assert_eq!(sealed, "version=1\na=b\ncrc=40271e03\n");
        assert_eq!(unseal(sealed.as_bytes(), 1), Ok("a=b\n"));
        assert_eq!(unseal(seal(1, &[""]).as_bytes(), 1), Ok(""));
    }

    #[test]
    fn a_newer_file_is_distinguished_from_a_damaged_one() {
        assert_eq!(
            unseal(seal(2, &["a future line"]).as_bytes(), 1),
            Err(NEWER_VERSION)
        );
        assert_ne!(unseal(seal(0, &[""]).as_bytes(), 1), Err(NEWER_VERSION));
        let flipped = seal(1, &[""]).replace("version=1", "version=3");
        assert_eq!(unseal(flipped.as_bytes(), 1), Err(DAMAGED));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let sealed = seal(1, &["a=b\n"]).into_bytes();
        for position in 0..sealed.len() {
            for bit in 0..8 {
                let mut bytes = sealed.clone();
                bytes[position] ^= 1 << bit;
                assert!(unseal(&bytes, 1).is_err(), "bit {bit} of byte {position}");
            }
            assert!(
                unseal(&sealed[..position], 1).is_err(),
                "cut to {position} bytes"
            );
        }
        assert!(unseal(&[&sealed[..], b"\n"].concat(), 1).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(unseal(&bytes, 1).is_err());
        }
    }
}
