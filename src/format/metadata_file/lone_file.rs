//! `lone-partition`: facts about a partition that is opened without a log, in its directory. For
//! the partitions of a log, the topic file has them.
//!
//! | line | occurrence |
//! | --- | --- |
//! | `version=1` | the first line |
//! | `dense=true` | once, if no offset was ever left out between log start and end |
//! | `log.start=<offset>` | once, if the log does not start at its first segment |
//! | `crc=<8 hex digits>` | the last line: CRC-32 (IEEE) of all bytes before it |
//!
//! In a dense partition a gap is damage. That matters because the checksum of a batch does not
//! cover its base offset: a flipped bit there looks like a gap that compaction left. The log start
//! is here because Kafka's checkpoint of log starts has no checksum.
//!
//! If the file is missing or damaged, gaps are legal and the checkpoint is used.

use crate::format::Malformed;

use super::checked_text;

const VERSION: u32 = 1;
const DENSE: &str = "dense=true\n";
const LOG_START: &str = "log.start=";
const MALFORMED_LINE: Malformed = Malformed("a line of the file is unknown or malformed");

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoneFile {
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
    /// The log start, if it is above the base offset of the first segment.
    pub(crate) log_start: Option<u64>,
}

/// Returns the text of the file.
pub(crate) fn encode_lone_file(file: &LoneFile) -> String {
    let dense = if file.is_dense { DENSE } else { "" };
    let log_start = file
        .log_start
        .map_or(String::new(), |offset| format!("{LOG_START}{offset}\n"));
    checked_text::seal(VERSION, &[dense, log_start.as_str()])
}

/// Decodes the file. Returns `Malformed` for a damaged file, and in particular
/// [`NEWER_VERSION`](super::NEWER_VERSION) for a sound file of a higher version.
pub(crate) fn decode_lone_file(bytes: &[u8]) -> Result<LoneFile, Malformed> {
    let lines = checked_text::unseal(bytes, VERSION)?;
    let (is_dense, rest) = lines
        .strip_prefix(DENSE)
        .map_or((false, lines), |rest| (true, rest));
    if rest.is_empty() {
        return Ok(LoneFile {
            is_dense,
            log_start: None,
        });
    }
    let text = rest
        .strip_prefix(LOG_START)
        .and_then(|rest| rest.strip_suffix('\n'))
        .ok_or(MALFORMED_LINE)?;
    let log_start = text
        .parse()
        .ok()
        .filter(|offset| i64::try_from(*offset).is_ok())
        .ok_or(MALFORMED_LINE)?;
    Ok(LoneFile {
        is_dense,
        log_start: Some(log_start),
    })
}

#[cfg(test)]
mod tests {
    use super::super::NEWER_VERSION;
    use super::*;

    #[test]
    fn the_table_at_the_head_lists_the_lines_of_the_file() {
        let text = encode_lone_file(&LoneFile {
            is_dense: true,
            log_start: Some(37),
        });
        checked_text::assert_lines_are_documented(include_str!("lone_file.rs"), &text);
    }

    #[test]
    fn the_file_has_a_line_for_each_fact() {
        let file = LoneFile {
            is_dense: true,
            log_start: Some(37),
        };
        let text = encode_lone_file(&file);
        assert!(
            text.starts_with("version=1\ndense=true\nlog.start=37\ncrc="),
            "{text}"
        );
        for file in [
            file,
            LoneFile::default(),
            LoneFile {
                is_dense: true,
                log_start: None,
            },
        ] {
            assert_eq!(
                decode_lone_file(encode_lone_file(&file).as_bytes()),
                Ok(file)
            );
        }
    }

    #[test]
    fn a_flipped_bit_in_any_byte_and_any_cut_is_detected() {
        let text = encode_lone_file(&LoneFile {
            is_dense: true,
            log_start: Some(37),
        })
        .into_bytes();
        for position in 0..text.len() {
            let mut bytes = text.clone();
            bytes[position] ^= 1;
            assert!(decode_lone_file(&bytes).is_err(), "byte {position}");
            assert!(
                decode_lone_file(&text[..position]).is_err(),
                "cut to {position} bytes"
            );
        }
    }

    #[test]
    fn malformed_lines_are_refused_despite_a_right_checksum() {
        for lines in [
            "dense=no\n",
            "log.start=\n",
            "log.start=-1\n",
            "log.start=9223372036854775808\n",
            "log.start=1\nx=1\n",
        ] {
            assert!(
                decode_lone_file(checked_text::seal(1, &[lines]).as_bytes()).is_err(),
                "{lines:?}"
            );
        }
        assert_eq!(
            decode_lone_file(checked_text::seal(2, &[DENSE]).as_bytes()),
            Err(NEWER_VERSION)
        );
    }
}
