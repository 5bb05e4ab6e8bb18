//! Values of the control records of a `KRaft` metadata log, shown as JSON.
//!
//! Each value is a flexible struct: its fields in order, then a count of tagged fields. No tags are
//! known, so the tagged fields are skipped. Strings and arrays start with their length plus one as
//! an unsigned varint; 0 means null.
//!
//! | type | record | fields |
//! |---|---|---|
//! | 2 | leader change | version int16, leader id int32, voters and granting voters: arrays of *voter* |
//! | 3 | snapshot header | version int16, last contained log timestamp int64 |
//! | 4 | snapshot footer | version int16 |
//! | 5 | `KRaft` version | version int16, `KRaft` version int16 |
//! | 6 | voters | version int16, array of {id int32, directory uuid, array of *endpoint*, two `KRaft` versions int16} |
//! | | *voter* | id int32; from version 1 on directory uuid |
//! | | *endpoint* | name and host string, port uint16 |
//!
//! Example: a snapshot footer is `0000 00`.

use std::fmt::Write;

use super::Malformed;
use super::fields::{self, read};
use super::metadata_file::TopicId;

/// The encoding of a field. Structs end with tagged fields.
enum Kind {
    I16,
    U16,
    I32,
    I64,
    Uuid,
    Text,
    Struct(&'static [Field]),
    Array(&'static [Field]),
}

struct Field {
    /// The name in Kafka's JSON.
    name: &'static str,
    kind: Kind,
    /// The first version that has the field.
    since: i16,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        since: 0,
    }
}

const VERSION: Field = field("version", Kind::I16);
const VOTER: &[Field] = &[
    field("voterId", Kind::I32),
    Field {
        name: "voterDirectoryId",
        kind: Kind::Uuid,
        since: 1,
    },
];
const LEADER_CHANGE: &[Field] = &[
    VERSION,
    field("leaderId", Kind::I32),
    field("voters", Kind::Array(VOTER)),
    field("grantingVoters", Kind::Array(VOTER)),
];
const SNAPSHOT_HEADER: &[Field] = &[VERSION, field("lastContainedLogTimestamp", Kind::I64)];
const SNAPSHOT_FOOTER: &[Field] = &[VERSION];
const KRAFT_VERSION: &[Field] = &[VERSION, field("kRaftVersion", Kind::I16)];
const ENDPOINT: &[Field] = &[
    field("name", Kind::Text),
    field("host", Kind::Text),
    field("port", Kind::U16),
];
const VERSION_RANGE: &[Field] = &[
    field("minSupportedVersion", Kind::I16),
    field("maxSupportedVersion", Kind::I16),
];
const KRAFT_VOTERS: &[Field] = &[
    VERSION,
    field(
        "voters",
        Kind::Array(&[
            field("voterId", Kind::I32),
            field("voterDirectoryId", Kind::Uuid),
            field("endpoints", Kind::Array(ENDPOINT)),
            field("kRaftVersionFeature", Kind::Struct(VERSION_RANGE)),
        ]),
    ),
];

/// Returns Kafka's name of a record type, and the value as JSON with its fields in the order of the
/// table. Returns `None` for a type that is not in the table.
pub(crate) fn to_json(
    kind: i16,
    value: &[u8],
) -> Option<Result<(&'static str, String), Malformed>> {
    let (name, fields, versions) = match kind {
        2 => ("LeaderChange", LEADER_CHANGE, 0..=1),
        3 => ("SnapshotHeader", SNAPSHOT_HEADER, 0..=0),
        4 => ("SnapshotFooter", SNAPSHOT_FOOTER, 0..=0),
        5 => ("KRaftVersion", KRAFT_VERSION, 0..=0),
        6 => ("KRaftVoters", KRAFT_VOTERS, 0..=0),
        _ => return None,
    };
    let mut json = String::new();
    let mut rest = value;
    let written = match value.first_chunk().copied().map(i16::from_be_bytes) {
        Some(version) if versions.contains(&version) => {
            write_struct(fields, version, &mut rest, &mut json)
        }
        Some(_) => Err(Malformed("a control record of an unknown version")),
        None => Err(Malformed("a control record without a version")),
    };
    Some(written.map(|()| (name, json)))
}

fn write_struct(
    fields: &[Field],
    version: i16,
    rest: &mut &[u8],
    json: &mut String,
) -> Result<(), Malformed> {
    json.push('{');
    let mut before = "";
    for field in fields.iter().filter(|field| field.since <= version) {
        push(json, format_args!("{before}\"{}\":", field.name));
        before = ",";
        write_value(&field.kind, version, rest, json)?;
    }
    json.push('}');
    fields::read_tagged(rest, |_, _| Ok(()))
}

fn write_value(
    kind: &Kind,
    version: i16,
    rest: &mut &[u8],
    json: &mut String,
) -> Result<(), Malformed> {
    match kind {
        Kind::I16 => push(json, format_args!("{}", i16::from_be_bytes(read(rest)?))),
        Kind::U16 => push(json, format_args!("{}", u16::from_be_bytes(read(rest)?))),
        Kind::I32 => push(json, format_args!("{}", i32::from_be_bytes(read(rest)?))),
        Kind::I64 => push(json, format_args!("{}", i64::from_be_bytes(read(rest)?))),
        Kind::Uuid => push(json, format_args!("\"{}\"", TopicId(read(rest)?).to_text())),
        Kind::Text => match fields::read_compact_string(rest)? {
            None => json.push_str("null"),
            Some(text) => write_text(&String::from_utf8_lossy(text), json),
        },
        Kind::Struct(fields) => write_struct(fields, version, rest, json)?,
        Kind::Array(fields) => match fields::read_compact_length(rest)? {
            None => json.push_str("null"),
            Some(count) => {
                json.push('[');
                for number in 0..count {
                    json.push_str(if number == 0 { "" } else { "," });
                    write_struct(fields, version, rest, json)?;
                }
                json.push(']');
            }
        },
    }
    Ok(())
}

/// Appends a JSON string.
fn write_text(text: &str, json: &mut String) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..'\x20' => push(json, format_args!("\\u{:04X}", u32::from(character))),
            _ => json.push(character),
        }
    }
    json.push('"');
}

fn push(json: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` does not fail.
    let _always_ok = json.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: &[u8] = b"\0\0\0\0\0\x01\x02\0\0\0\x01\0\x02\0\0\0\x01\0\0";
    const VOTERS: &[u8] =
        b"\0\0\x02\0\0\0\x01\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
        \x02\x02C\x03a\"\x23\x82\0\0\0\0\x01\0\0\0";

    fn json(kind: i16, value: &[u8]) -> Result<String, Malformed> {
        to_json(kind, value)
            .unwrap()
            .map(|(name, json)| format!("{name} {json}"))
    }

    #[test]
    fn values_are_shown_as_kafkas_json() {
        let leader = r#"LeaderChange {"version":0,"leaderId":1,"voters":[{"voterId":1}],"grantingVoters":[{"voterId":1}]}"#;
        assert_eq!(json(2, LEADER).unwrap(), leader);
        let header = json(3, b"\0\0\0\0\0\0\0\0\0\0\0").unwrap();
        assert_eq!(
            header,
            r#"SnapshotHeader {"version":0,"lastContainedLogTimestamp":0}"#
        );
        assert_eq!(
            json(4, b"\0\0\0").unwrap(),
            r#"SnapshotFooter {"version":0}"#
        );
        assert_eq!(
            json(5, b"\0\0\0\x01\0").unwrap(),
            r#"KRaftVersion {"version":0,"kRaftVersion":1}"#
        );
        let voters = r#"KRaftVoters {"version":0,"voters":[{"voterId":1,"voterDirectoryId":"AAECAwQFBgcICQoLDA0ODw","#.to_owned()
            + r#""endpoints":[{"name":"C","host":"a\"","port":9090}],"#
            + r#""kRaftVersionFeature":{"minSupportedVersion":0,"maxSupportedVersion":1}}]}"#;
        assert_eq!(json(6, VOTERS).unwrap(), voters);
        assert!(to_json(0, LEADER).is_none());
        assert!(to_json(7, LEADER).is_none());
    }

    #[test]
    fn version_1_of_a_leader_change_has_directory_ids() {
        let leader = [
            &b"\0\x01\0\0\0\x01\x02\0\0\0\x01"[..],
            &[0xff; 16],
            b"\0\x01\0",
        ]
        .concat();
        let id = format!("{}w", "_".repeat(21));
        let voters = format!(r#"[{{"voterId":1,"voterDirectoryId":"{id}"}}]"#);
        let expected = format!(
            r#"LeaderChange {{"version":1,"leaderId":1,"voters":{voters},"grantingVoters":[]}}"#
        );
        assert_eq!(json(2, &leader).unwrap(), expected);
        assert!(json(2, b"\0\x02\0\0\0\x01\x01\x01\0").is_err());
    }

    #[test]
    fn nulls_tagged_fields_and_escapes_are_handled() {
        assert_eq!(
            json(6, b"\0\0\0\0").unwrap(),
            r#"KRaftVoters {"version":0,"voters":null}"#
        );
        assert_eq!(
            json(4, b"\0\0\x01\x05\x02ab").unwrap(),
            r#"SnapshotFooter {"version":0}"#
        );
        let mut text = String::new();
        write_text("a\\\"\n\u{e9}", &mut text);
        assert_eq!(text, "\"a\\\\\\\"\\u000A\u{e9}\"");
    }

    #[test]
    fn cut_values_are_refused() {
        for (kind, value) in [(2, LEADER), (6, VOTERS)] {
            for end in 0..value.len() {
                assert!(
                    json(kind, &value[..end]).is_err(),
                    "type {kind} cut to {end}"
                );
            }
        }
        // A count without its items must not allocate memory.
        assert!(json(6, b"\0\0\xff\xff\xff\xff\x0f").is_err());
    }
}
