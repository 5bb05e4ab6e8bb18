//! `meta.properties`: the ids of cluster, node and directory, in a Java properties file.
//!
//! | key | value | in versions |
//! | --- | --- | --- |
//! | `version` | 1; 0 is accepted | 0, 1 |
//! | `cluster.id` | text, usually 22 characters of base64 | 0 (may be absent), 1 |
//! | `node.id` (`broker.id` in version 0) | int32 | 0, 1 |
//! | `directory.id` | 22 characters of base64 | 1, may be absent |
//!
//! Keys are in any order. If a key occurs twice, the last value counts. Unknown keys are ignored.
//!
//! The reader accepts the whole syntax of Java properties: comments after `#` or `!`, keys that end
//! at `=`, `:` or white space, lines that continue after a backslash, and `\uxxxx`. The bytes are
//! Latin-1.

use std::fmt::Write;

use crate::format::Malformed;

use super::{NEWER_VERSION, TopicId};

const CUT_SHORT: Malformed = Malformed("an escape of the properties is cut short");

/// The content of `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "Kafka uses these names")]
pub(crate) struct MetaProperties {
    /// The id of the cluster; empty if a file of version 0 has none.
    pub(crate) cluster_id: String,
    /// The id of the node that owns the directory.
    pub(crate) node_id: i32,
    /// The id of the directory, which distinguishes it from other directories of the node.
    pub(crate) directory_id: Option<TopicId>,
}

/// Returns the text of a file of version 1.
pub(crate) fn encode_meta_properties(properties: &MetaProperties) -> String {
    let mut text = format!(
        "version=1\ncluster.id={}\nnode.id={}\n",
        escape(&properties.cluster_id),
        properties.node_id
    );
    if let Some(id) = properties.directory_id {
        text += "directory.id=";
        text += &id.to_text();
        text.push('\n');
    }
    text
}

/// Decodes a file of version 0 or 1. Returns [`NEWER_VERSION`] for a higher version.
pub(crate) fn decode_meta_properties(bytes: &[u8]) -> Result<MetaProperties, Malformed> {
    let properties = parse(bytes)?;
    let get = |key: &str| {
        properties
            .iter()
            .rev()
            .find(|(found, _)| found == key)
            .map(|(_, value)| value.as_str())
    };
    let number = |key| get(key).and_then(|value| value.trim().parse::<i32>().ok());
    let version = number("version").ok_or(Malformed("the properties have no version"))?;
    let (node_key, cluster_id) = match version {
        0 => ("broker.id", get("cluster.id").unwrap_or_default()),
        1 => (
            "node.id",
            get("cluster.id").ok_or(Malformed("the properties have no cluster id"))?,
        ),
        2.. => return Err(NEWER_VERSION),
        _ => return Err(Malformed("the version of the properties is negative")),
    };
    let directory_id = match get("directory.id").filter(|_| version > 0) {
        Some(id) => Some(
            TopicId::parse(id.trim())
                .ok_or(Malformed("the directory id of the properties is malformed"))?,
        ),
        None => None,
    };
    Ok(MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id: number(node_key).ok_or(Malformed("the properties have no node id"))?,
        directory_id,
    })
}

/// Escapes a value like Java. Characters other than printable ASCII become `\uxxxx` escapes of
/// their UTF-16 units.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (number, character) in value.chars().enumerate() {
        match character {
            '\\' | '=' | ':' | '#' | '!' => text.extend(['\\', character]),
            ' ' if number == 0 => text += "\\ ",
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

/// Returns keys and values in the order of the file.
fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let mut lines = text.split(['\n', '\r']).map(trim_start);
    let mut properties = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some(line) => logical += line,
                None => break,
            }
        }
        let (key, value) = split(&logical);
        properties.push((unescape(key)?, unescape(value)?));
    }
    Ok(properties)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

fn trim_start(line: &str) -> &str {
    line.trim_start_matches(is_space)
}

/// Returns whether the line ends with a backslash that is not itself escaped, so that the next line
/// continues it.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits a line into key and value, both still escaped, at white space, at `=` or `:`, or at both.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let key_end = line.find(|character| {
        let ends = !escaped && (is_space(character) || matches!(character, '=' | ':'));
        escaped = character == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(key_end.unwrap_or(line.len()));
    let rest = trim_start(rest);
    (
        key,
        trim_start(rest.strip_prefix(['=', ':']).unwrap_or(rest)),
    )
}

fn unescape(text: &str) -> Result<String, Malformed> {
    let mut units = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => match characters.next().ok_or(CUT_SHORT)? {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'f' => '\x0c',
                'u' => {
                    units.push(unit(&mut characters)?);
                    continue;
                }
                other => other,
            },
            plain => plain,
        };
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units)
        .map_err(|_| Malformed("an escape of the properties is not a character"))
}

/// Reads the four hex digits of an escape.
fn unit(characters: &mut impl Iterator<Item = char>) -> Result<u16, Malformed> {
    let value = characters
        .take(4)
        .map(|character| character.to_digit(16))
        .try_fold((0, 0), |(value, digits), digit| {
            Some((value << 4 | digit?, digits + 1))
        });
    match value {
        Some((value, 4)) => u16::try_from(value).map_err(|_| CUT_SHORT),
        _ => Err(CUT_SHORT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn properties(cluster_id: &str, node_id: i32, directory_id: Option<&str>) -> MetaProperties {
        MetaProperties {
            cluster_id: cluster_id.to_owned(),
            node_id,
            directory_id: directory_id.and_then(TopicId::parse),
        }
    }

    #[test]
    fn files_that_brokers_wrote_are_accepted() {
        let kraft = "#\n#Mon Nov 23 15:02:21 UTC 2026\nnode.id=1\ndirectory.id=hF7owPFl8ANbKZcAgNJQwg\nversion=1\n\
                     cluster.id=MkU3OEVBNTcwNTJENDM2Qg\n";
        let expected = properties("MkU3OEVBNTcwNTJENDM2Qg", 1, Some("hF7owPFl8ANbKZcAgNJQwg"));
        assert!(expected.directory_id.is_some());
        assert_eq!(decode_meta_properties(kraft.as_bytes()), Ok(expected));
        let zookeeper = "#\n#Mon Nov 23 15:04:43 UTC 2026\nbroker.id=1\nversion=0\ncluster.id=eTaBBKPpQbeBBeQbWifCww\n";
        assert_eq!(
            decode_meta_properties(zookeeper.as_bytes()),
            Ok(properties("eTaBBKPpQbeBBeQbWifCww", 1, None))
        );
    }

    #[test]
    fn the_encoder_writes_version_1_and_escapes_values() {
        let text = "version=1\ncluster.id=c\nnode.id=7\n";
        assert_eq!(encode_meta_properties(&properties("c", 7, None)), text);
        let id = "hF7owPFl8ANbKZcAgNJQwg";
        assert_eq!(
            encode_meta_properties(&properties("c", 7, Some(id))),
            format!("{text}directory.id={id}\n")
        );
        assert!(
            encode_meta_properties(&properties(" a:\u{e9}\n", 7, None))
                .contains(r"cluster.id=\ a\:\u00e9\u000a")
        );
    }

    #[test]
    fn the_decoder_accepts_java_syntax() {
        let text = "  ! a comment\r\n\n\tversion : 1\nnode.id 3\\\n   4\ncluster\\.id=a\\tb\\u00E9\\\\ \nnode\\:id=5\nlonely\n";
        assert_eq!(
            decode_meta_properties(text.as_bytes()),
            Ok(properties("a\tb\u{e9}\\ ", 34, None))
        );
        let latin_1 = b"version=1\nnode.id=1\ncluster.id=\xe9\\ud83d\\ude00";
        assert_eq!(
            decode_meta_properties(latin_1),
            Ok(properties("\u{e9}\u{1f600}", 1, None))
        );
        let twice = "version=1\nnode.id=1\nnode.id=2\ncluster.id=c\nversion=1\\\n";
        assert_eq!(
            decode_meta_properties(twice.as_bytes()),
            Ok(properties("c", 2, None))
        );
    }

    #[test]
    fn malformed_files_are_refused() {
        for text in [
            "",
            "version=1",
            "version=1\nnode.id=1",
            "version=1\ncluster.id=c",
            "version=x\ncluster.id=c\nnode.id=1",
            "version=-1\ncluster.id=c\nnode.id=1",
            "cluster.id=c\nnode.id=1",
            "version=1\ncluster.id=c\nnode.id=2147483648",
            "version=1\ncluster.id=c\nbroker.id=1",
            "version=0\ncluster.id=c\nnode.id=1",
            "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=short",
            "version=1\ncluster.id=\\u12\nnode.id=1",
            "version=1\ncluster.id=\\u12g4\nnode.id=1",
            "version=1\ncluster.id=\\ud83d\nnode.id=1",
        ] {
            let found = decode_meta_properties(text.as_bytes());
            assert!(found.is_err(), "{text:?}");
            assert_ne!(found, Err(NEWER_VERSION), "{text:?}");
        }
        assert_eq!(decode_meta_properties(b"version=2\n"), Err(NEWER_VERSION));
        assert_eq!(
            decode_meta_properties(b"version=0\nbroker.id=1"),
            Ok(properties("", 1, None))
        );
    }

    proptest! {
        #[test]
        fn properties_round_trip(
            cluster_id in "\\PC{0,40}",
            controls in "[\\x00-\\x20\\\\]{0,10}",
            node_id: i32,
            id in prop::option::of(any::<[u8; 16]>()),
        ) {
            let cluster_id = cluster_id + &controls;
            let properties = MetaProperties { cluster_id, node_id, directory_id: id.map(TopicId) };
            prop_assert_eq!(decode_meta_properties(encode_meta_properties(&properties).as_bytes()), Ok(properties));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "[ a=:#!u0\\\\\\n]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                drop(parse(bytes));
                drop(decode_meta_properties(bytes));
            }
        }
    }

    #[test]
    fn only_a_leading_space_is_escaped() {
        assert!(
            encode_meta_properties(&properties(" a b", 7, None)).contains("cluster.id=\\ a b\n")
        );
    }

    #[test]
    fn comments_have_no_escapes_and_end_with_their_line() {
        let text = "# of C:\\users\\me\\\n! and of \\u12\nversion=1\n\nnode.id=7\ncluster.id=c\n";
        assert_eq!(
            decode_meta_properties(text.as_bytes()),
            Ok(properties("c", 7, None))
        );
    }

    #[test]
    fn version_0_has_no_directory_id() {
        let text = "version=0\nbroker.id=7\ncluster.id=c\ndirectory.id=short\n";
        assert_eq!(
            decode_meta_properties(text.as_bytes()),
            Ok(properties("c", 7, None))
        );
    }
}
