//! `<topic>.topic`: facts about a topic that Kafka does not store in a data directory.
//!
//! | line | occurrence |
//! | --- | --- |
//! | `version=1` | the first line |
//! | `topic.id=<topic id>` | once |
//! | `partitions=<count>` | once |
//! | `dense=true` | once, if no offset was ever left out between a log start and its end |
//! | `log.start.<partition>=<offset>` | once for each partition whose log does not start at 0 |
//! | `config.<Kafka key>=<value>` | once for each setting |
//! | `crc=<8 hex digits>` | the last line: CRC-32 (IEEE) of all bytes before it |
//!
//! In a value, `\\` is a backslash, `\n` a line feed, and `\r` a carriage return. A reader refuses
//! every other line. If a later release of annals needs more lines, it writes a higher version.

use crate::format::Malformed;

use super::{TopicId, checked_text};

/// The version that we write, and the only one that we read.
pub(crate) const TOPIC_FILE_VERSION: u32 = 1;

const TOPIC_ID: &str = "topic.id";
const PARTITIONS: &str = "partitions";
const DENSE: &str = "dense";
const LOG_START: &str = "log.start.";
const CONFIG: &str = "config.";

/// The content of a topic file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicFile {
    /// The id of the topic, which is also in the `partition.metadata` of each partition.
    pub(crate) topic_id: TopicId,
    /// The number of partitions, at least one.
    pub(crate) partitions: u32,
    /// Whether no offset was ever left out between a log start and its end. That holds for a topic
    /// that annals created and never compacted. In such a topic a gap is damage.
    pub(crate) is_dense: bool,
    /// Partitions and their log starts, without those that start at 0.
    pub(crate) log_starts: Vec<(u32, u64)>,
    /// Kafka keys and values of the settings that were set, in the order of the file.
    pub(crate) config: Vec<(String, String)>,
}

/// Returns the text of a topic file.
pub(crate) fn encode_topic_file(file: &TopicFile) -> String {
    let mut lines = vec![
        format!("{TOPIC_ID}={}\n", file.topic_id.to_text()),
        format!("{PARTITIONS}={}\n", file.partitions),
    ];
    lines.extend(file.is_dense.then(|| format!("{DENSE}=true\n")));
    lines.extend(
        file.log_starts
            .iter()
            .map(|(partition, offset)| format!("{LOG_START}{partition}={offset}\n")),
    );
    lines.extend(file.config.iter().map(|(key, value)| {
        assert!(
            !key.contains(['=', '\n']),
            "a Kafka key consists of letters and dots"
        );
        format!("{CONFIG}{key}={}\n", escape(value))
    }));
    checked_text::seal(TOPIC_FILE_VERSION, &lines)
}

/// Decodes a topic file. Returns `Malformed` for a damaged file, and in particular
/// [`NEWER_VERSION`](super::NEWER_VERSION) for a sound file of a higher version.
pub(crate) fn decode_topic_file(bytes: &[u8]) -> Result<TopicFile, Malformed> {
    let lines = checked_text::unseal(bytes, TOPIC_FILE_VERSION)?;
    let (mut topic_id, mut partitions, mut is_dense) = (None, None, false);
    let (mut log_starts, mut config) = (Vec::new(), Vec::<(String, String)>::new());
    for line in lines.split_terminator('\n') {
        let (key, value) = line
            .split_once('=')
            .ok_or(Malformed("a line of the topic file has no value"))?;
        if let Some(partition) = key.strip_prefix(LOG_START) {
            let log_start = partition
                .parse()
                .ok()
                .zip(value.parse().ok())
                .filter(|&(_, offset)| is_offset(offset));
            log_starts
                .push(log_start.ok_or(Malformed("a log start of the topic file is malformed"))?);
        } else if let Some(key) = key.strip_prefix(CONFIG) {
            config.push((
                key.to_owned(),
                unescape(value).ok_or(Malformed("a setting of the topic file is malformed"))?,
            ));
        } else {
            let is_new = match key {
                TOPIC_ID => topic_id.replace(TopicId::parse(value)).is_none(),
                PARTITIONS => partitions.replace(value.parse::<u32>().ok()).is_none(),
                DENSE if value == "true" => !std::mem::replace(&mut is_dense, true),
                _ => false,
            };
            if !is_new {
                return Err(Malformed(
                    "the topic file has a line that is unknown or repeated",
                ));
            }
        }
    }
    let topic_id = topic_id
        .flatten()
        .ok_or(Malformed("the topic file has no topic id"))?;
    let partitions = partitions
        .flatten()
        .filter(|count| *count > 0)
        .ok_or(Malformed("the topic file has no partitions"))?;
    if log_starts
        .iter()
        .any(|(partition, _)| *partition >= partitions)
    {
        return Err(Malformed(
            "the topic file has a log start of a partition that does not exist",
        ));
    }
    Ok(TopicFile {
        topic_id,
        partitions,
        is_dense,
        log_starts,
        config,
    })
}

fn is_offset(offset: u64) -> bool {
    i64::try_from(offset).is_ok()
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('\n', r"\n")
        .replace('\r', r"\r")
}

fn unescape(text: &str) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        value.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::NEWER_VERSION;
    use super::*;

    fn file() -> TopicFile {
        TopicFile {
            topic_id: TopicId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            partitions: 4,
            is_dense: true,
            log_starts: vec![(0, 120), (3, 7)],
            config: [
                ("retention.ms", "-1"),
                ("cleanup.policy", "compact,delete"),
                ("message.format.version", "a=b\\\n\r"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        }
    }

    #[test]
    fn the_table_at_the_head_lists_the_lines_of_a_topic_file() {
        let text = encode_topic_file(&file());
        checked_text::assert_lines_are_documented(include_str!("topic_file.rs"), &text);
    }

    #[test]
    fn a_topic_file_is_readable_text() {
        let text = "version=1\ntopic.id=AAECAwQFBgcICQoLDA0ODw\npartitions=4\ndense=true\nlog.start.0=120\nlog.start.3=7\n\
                    config.retention.ms=-1\nconfig.cleanup.policy=compact,delete\n\
                    config.message.format.version=a=b\\\\\\n\\r\ncrc=88bcee90\n";
        assert_eq!(encode_topic_file(&file()), text);
        assert_eq!(decode_topic_file(text.as_bytes()), Ok(file()));
        let plain = TopicFile {
            partitions: 1,
            is_dense: false,
            log_starts: vec![],
            config: vec![],
            ..file()
        };
        assert_eq!(
            decode_topic_file(encode_topic_file(&plain).as_bytes()),
            Ok(plain)
        );
    }

    #[test]
    fn a_flipped_bit_in_any_byte_and_any_cut_is_detected() {
        let text = encode_topic_file(&file()).into_bytes();
        for position in 0..text.len() {
            let mut bytes = text.clone();
            bytes[position] ^= 1;
            assert!(
                !matches!(decode_topic_file(&bytes), Ok(_) | Err(NEWER_VERSION)),
                "byte {position}"
            );
            assert!(
                decode_topic_file(&text[..position]).is_err(),
                "cut to {position} bytes"
            );
        }
        assert!(decode_topic_file(b"").is_err());
    }

    #[test]
    fn a_higher_version_is_not_reported_as_damage() {
        assert_eq!(
            decode_topic_file(checked_text::seal(2, &["anything"]).as_bytes()),
            Err(NEWER_VERSION)
        );
    }

    #[test]
    fn malformed_lines_are_refused_despite_a_right_checksum() {
        let id = "topic.id=AAECAwQFBgcICQoLDA0ODw\n";
        for lines in [
            "",
            id,
            "partitions=1\n",
            &format!("{id}partitions=0\n"),
            &format!("{id}partitions=-1\n"),
            &format!("{id}partitions=1\npartitions=1\n"),
            &format!("{id}{id}partitions=1\n"),
            &format!("{id}partitions=1\nlog.start.1=5\n"),
            &format!("{id}partitions=1\nlog.start.0=9223372036854775808\n"),
            &format!("{id}partitions=1\nlog.start.x=1\n"),
            &format!("{id}partitions=1\nconfig.a=\\t\n"),
            &format!("{id}partitions=1\nconfig.a=\\\n"),
            &format!("{id}partitions=1\nconfig.a\n"),
            &format!("{id}partitions=1\ncolor=red\n"),
            &format!("{id}partitions=1\ndense=false\n"),
            &format!("{id}partitions=1\n\n"),
            "topic.id=short\npartitions=1\n",
        ] {
            assert!(
                decode_topic_file(checked_text::seal(1, &[lines]).as_bytes()).is_err(),
                "{lines:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn topic_files_round_trip(
            id: [u8; 16],
            partitions in 1..=u32::MAX,
            log_starts in prop::collection::vec((0..1_u32, 0..=i64::MAX.unsigned_abs()), 0..4),
            config in prop::collection::vec(("[a-z.]{1,20}", "\\PC{0,20}[\\\\\\n\\r=]{0,4}"), 0..6),
        ) {
            let file = TopicFile { topic_id: TopicId(id), partitions, is_dense: partitions % 2 == 0, log_starts, config };
            prop_assert_eq!(decode_topic_file(encode_topic_file(&file).as_bytes()), Ok(file));
        }

        #[test]
        fn lines_that_are_accepted_round_trip(
            lines in "((log\\.start\\.0|config\\.[a\r]?|partitions)=[0-9a\r\\\\]{0,6}\n){0,5}",
        ) {
            let whole = ["topic.id=AAECAwQFBgcICQoLDA0ODw\npartitions=7\n", lines.as_str()];
            if let Ok(file) = decode_topic_file(checked_text::seal(1, &whole).as_bytes()) {
                prop_assert_eq!(decode_topic_file(encode_topic_file(&file).as_bytes()), Ok(file));
            }
            drop(decode_topic_file(lines.as_bytes()));
        }
    }
}
