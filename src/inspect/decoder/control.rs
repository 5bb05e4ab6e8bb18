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

use super::schema::{
    self, Field, Unreadable, int16, int32, int64, structs, structure, text, uint16, uuid,
};
use crate::format::fields::read;

const VERSION: Field = int16("version");
const VOTER: &[Field] = &[int32("voterId"), uuid("voterDirectoryId").since(1)];
const LEADER_CHANGE: &[Field] = &[
    VERSION,
    int32("leaderId"),
    structs("voters", VOTER).nullable(),
    structs("grantingVoters", VOTER).nullable(),
];
const SNAPSHOT_HEADER: &[Field] = &[VERSION, int64("lastContainedLogTimestamp")];
const SNAPSHOT_FOOTER: &[Field] = &[VERSION];
const KRAFT_VERSION: &[Field] = &[VERSION, int16("kRaftVersion")];
const ENDPOINT: &[Field] = &[
    text("name").nullable(),
    text("host").nullable(),
    uint16("port"),
];
const VERSION_RANGE: &[Field] = &[int16("minSupportedVersion"), int16("maxSupportedVersion")];
const KRAFT_VOTER: &[Field] = &[
    int32("voterId"),
    uuid("voterDirectoryId"),
    structs("endpoints", ENDPOINT).nullable(),
    structure("kRaftVersionFeature", VERSION_RANGE),
];
const KRAFT_VOTERS: &[Field] = &[VERSION, structs("voters", KRAFT_VOTER).nullable()];

/// Returns Kafka's name of a record type, and the value as JSON with its fields in the order of the
/// table. Returns `None` for a type that is not in the table.
pub(in crate::inspect) fn to_json(
    kind: i16,
    value: &[u8],
) -> Option<Result<(&'static str, String), String>> {
    let (name, fields, newest) = match kind {
        2 => ("LeaderChange", LEADER_CHANGE, 1),
        3 => ("SnapshotHeader", SNAPSHOT_HEADER, 0),
        4 => ("SnapshotFooter", SNAPSHOT_FOOTER, 0),
        5 => ("KRaftVersion", KRAFT_VERSION, 0),
        6 => ("KRaftVoters", KRAFT_VOTERS, 0),
        _ => return None,
    };
    let json = match read(&mut &*value).map(i16::from_be_bytes) {
        Err(_) => Err(Unreadable::CutShort),
        Ok(version) if (0..=newest).contains(&version) => {
            schema::to_json(fields, version, true, value)
        }
        Ok(_) => return Some(Err("a control record of an unknown version".to_owned())),
    };
    Some(match json {
        Ok(json) => Ok((name, json)),
        Err(Unreadable::CutShort) => Err("the value of a control record is cut short".to_owned()),
        Err(reason) => Err(reason.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: &[u8] = b"\0\0\0\0\0\x01\x02\0\0\0\x01\0\x02\0\0\0\x01\0\0";
    const VOTERS: &[u8] =
        b"\0\0\x02\0\0\0\x01\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
        \x02\x02C\x03a\"\x23\x82\0\0\0\0\x01\0\0\0";

    fn json(kind: i16, value: &[u8]) -> Result<String, String> {
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
    fn nulls_and_tagged_fields_are_handled() {
        assert_eq!(
            json(6, b"\0\0\0\0").unwrap(),
            r#"KRaftVoters {"version":0,"voters":null}"#
        );
        assert_eq!(
            json(4, b"\0\0\x01\x05\x02ab").unwrap(),
            r#"SnapshotFooter {"version":0}"#
        );
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
