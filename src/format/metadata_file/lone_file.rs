//! `lone-partition`, in the directory of a partition that is opened alone: what the topic file says
//! for those of a log.
//!
//! | line | how often |
//! | --- | --- |
//! | `version=1` | the first |
//! | `dense=true` | once, where no offset was ever left out between log start and end, so that a gap is damage |
//! | `log.start=<offset>` | once, where the log does not start at its first segment |
//! | `crc=<8 hex digits>` | the last: CRC-32 (IEEE) of all bytes before it |
//!
//! Kafka's checksum leaves out the base offset of a batch: only density tells a flipped one from
//! what compaction leaves. Kafka's checkpoint of log starts has no checksum at all. Where the file
//! is missing or damaged, gaps are legal and the checkpoint counts.

use crate::format::Malformed;

use super::checked_text;

const VERSION: u32 = 1;
const DENSE: &str = "dense=true\n";
const LOG_START: &str = "log.start=";
const MALFORMED_LINE: Malformed = Malformed("a line of the file is not known, or malformed");

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoneFile {
    /// Whether a gap is damage.
    pub(crate) is_dense: bool,
    /// Only where it lies above the base offset of the first segment.
    pub(crate) log_start: Option<u64>,
}

/// The whole file.
pub(crate) fn encode_lone_file(file: &LoneFile) -> String {
    let dense = if file.is_dense { DENSE } else { "" };
    let log_start = file
        .log_start
        .map_or(String::new(), |offset| format!("{LOG_START}{offset}\n"));
    checked_text::seal(VERSION, &[dense, log_start.as_str()])
}

/// `Malformed` for damage; a greater version is [`NEWER_VERSION`](super::NEWER_VERSION), told apart
/// by the caller.
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
    fn it_is_text_with_a_line_for_each_thing() {
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
    fn damage_is_noticed() {
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
    fn whatever_says_something_else_is_refused() {
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
