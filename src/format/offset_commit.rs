//! Keys and values of the records in `__consumer_offsets` that hold committed offsets.
//!
//! | key | type |
//! | --- | --- |
//! | type: 1 (0 is accepted and means the same) | int16 |
//! | group, topic | string: int16 length, UTF-8 |
//! | partition | int32 |
//!
//! | value | type | in versions |
//! | --- | --- | --- |
//! | version | int16 | 0 to 4; we write 4 |
//! | offset: the next one to read | int64 | all |
//! | leader epoch, -1 if unknown | int32 | 3, 4 |
//! | metadata | string; compact string in 4: unsigned varint length + 1, UTF-8 | all |
//! | commit timestamp | int64 | all |
//! | expire timestamp, -1 if none | int64 | 1 |
//! | tagged fields: unsigned varint count, then tag, size, bytes of each | tag 0, size 16: topic id | 4 |
//!
//! Numbers are big-endian. A record without a value deletes the commit with the same key.
//! Example: the key of group "g", topic "t", partition 0 is `0001 0001 67 0001 74 00000000`. The
//! value for offset 42 is `0004 000000000000002a ffffffff 01 0000018bcfe56800 00`.
//!
//! The topic also contains records of other types. This file recognizes them, but does not decode
//! them.

use std::borrow::Cow;

use super::Malformed;
use super::fields::{self, read, write_compact_string, write_string};

const KEY_TYPE: i16 = 1;
const OLD_KEY_TYPE: i16 = 0;
const VALUE_VERSION: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;

/// The size of a key without its names.
const KEY_BYTES: usize = 10;
/// The greatest size of a value without its metadata.
const VALUE_MAX_BYTES: usize = 46;

/// Kafka's `INVALID_OFFSET`, -1.
const NO_OFFSET: [u8; 8] = (-1_i64).to_be_bytes();

/// The key of a committed position: a group and a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetCommitKey<'a> {
    /// The name of the group, at most `i16::MAX` bytes.
    pub(crate) group: &'a str,
    /// The name of the topic.
    pub(crate) topic: &'a str,
    /// The number of the partition.
    pub(crate) partition: u32,
}

/// The value of a committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetCommitValue<'a> {
    /// The next offset to read. `None` stands for a stored negative offset, which means that no
    /// offset is committed.
    pub(crate) offset: Option<u64>,
    /// The leader epoch of the last record that was read; -1 if it is unknown.
    pub(crate) leader_epoch: i32,
    /// Text that the committer stored with the offset.
    pub(crate) metadata: Cow<'a, str>,
    /// The time of the commit, in milliseconds.
    pub(crate) commit_timestamp: i64,
    /// -1 in the version that we write, and in every other version without this field.
    pub(crate) expire_timestamp: i64,
    /// All zeros if the value has no topic id.
    pub(crate) topic_id: [u8; 16],
}

/// The key of a record in `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupKey<'a> {
    /// The key of a committed position.
    OffsetCommit(OffsetCommitKey<'a>),
    /// The number of any other record type. The offset store skips these records.
    Other(i16),
}

impl<'a> GroupKey<'a> {
    /// Decodes a key. Returns `Malformed` if the type is missing, and if the key of an offset
    /// commit is malformed.
    pub(crate) fn decode(mut key: &'a [u8]) -> Result<Self, Malformed> {
        let bytes = &mut key;
        match i16::from_be_bytes(read(bytes)?) {
            OLD_KEY_TYPE | KEY_TYPE => {
                let group = read_name(bytes)?;
                let topic = read_name(bytes)?;
                let partition = u32::try_from(i32::from_be_bytes(read(bytes)?))
                    .map_err(|_| Malformed("a negative partition"))?;
                end(bytes)?;
                Ok(Self::OffsetCommit(OffsetCommitKey {
                    group,
                    topic,
                    partition,
                }))
            }
            other => Ok(Self::Other(other)),
        }
    }
}

impl OffsetCommitKey<'_> {
    /// Returns a key of type 1. The old type 0 would be a different key for compaction.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_BYTES + self.group.len() + self.topic.len());
        out.extend_from_slice(&KEY_TYPE.to_be_bytes());
        write_string(&mut out, self.group);
        write_string(&mut out, self.topic);
        out.extend_from_slice(&self.partition.to_be_bytes());
        out
    }
}

impl<'a> OffsetCommitValue<'a> {
    /// Returns a value of version 4, which has no expire timestamp.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(VALUE_MAX_BYTES + self.metadata.len());
        out.extend_from_slice(&VALUE_VERSION.to_be_bytes());
        out.extend_from_slice(&self.offset.map_or(NO_OFFSET, u64::to_be_bytes));
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        write_compact_string(&mut out, &self.metadata);
        out.extend_from_slice(&self.commit_timestamp.to_be_bytes());
        let topic_id: &[(u32, &[u8])] = &[(TOPIC_ID_TAG, &self.topic_id)];
        let has_topic_id = self.topic_id != [0; 16];
        fields::write_tagged(&mut out, if has_topic_id { topic_id } else { &[] });
        out
    }

    /// Decodes a value of any known version. Returns `Malformed` for an unknown one.
    pub(crate) fn decode(mut value: &'a [u8]) -> Result<Self, Malformed> {
        let bytes = &mut value;
        let version = i16::from_be_bytes(read(bytes)?);
        if !(0..=VALUE_VERSION).contains(&version) {
            return Err(Malformed("the version of the offset commit is unknown"));
        }
        let offset = u64::try_from(i64::from_be_bytes(read(bytes)?)).ok();
        let leader_epoch = if version >= 3 {
            i32::from_be_bytes(read(bytes)?)
        } else {
            -1
        };
        let metadata = if version >= 4 {
            fields::read_compact_string(bytes)?
        } else {
            fields::read_string(bytes)?
        };
        let metadata = metadata.ok_or(Malformed("the metadata of the offset commit is null"))?;
        let commit_timestamp = i64::from_be_bytes(read(bytes)?);
        let expire_timestamp = if version == 1 {
            i64::from_be_bytes(read(bytes)?)
        } else {
            -1
        };
        let topic_id = if version >= 4 {
            read_topic_id(bytes)?
        } else {
            [0; 16]
        };
        end(bytes)?;
        // People read the metadata, so text with a replaced character is better than an error.
        let metadata = String::from_utf8_lossy(metadata);
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp,
            expire_timestamp,
            topic_id,
        })
    }
}

/// Returns the partition of `__consumer_offsets` that stores a group, or the partition of
/// `__transaction_state` that stores a transactional id.
///
/// Like Kafka, it uses Java's `String.hashCode` modulo the number of partitions.
pub(crate) fn partition_of(group: &str, partitions: u32) -> u32 {
    assert!(partitions > 0, "an internal topic has partitions");
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // `i32::MIN` has no absolute value; Kafka uses 0.
    hash.checked_abs().map_or(0, i32::unsigned_abs) % partitions
}

fn end(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Malformed("bytes are left over after the offset commit"))
    }
}

fn read_name<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let name =
        fields::read_string(bytes)?.ok_or(Malformed("a name in the offset commit is null"))?;
    str::from_utf8(name).map_err(|_| Malformed("a name in the offset commit is not UTF-8"))
}

/// Reads the topic id from the tagged fields, and skips all other tags.
fn read_topic_id(bytes: &mut &[u8]) -> Result<[u8; 16], Malformed> {
    let mut topic_id = [0; 16];
    fields::read_tagged(bytes, |tag, field| {
        if tag == TOPIC_ID_TAG {
            topic_id = field
                .try_into()
                .map_err(|_| Malformed("the topic id of the offset commit is not 16 bytes long"))?;
        }
        Ok(())
    })?;
    Ok(topic_id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::metadata_file::TopicId;

    const T: i64 = 1_700_000_000_000;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits
            .chunks(2)
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
            .collect()
    }

    fn key<'a>(group: &'a str, topic: &'a str, partition: u32) -> OffsetCommitKey<'a> {
        OffsetCommitKey {
            group,
            topic,
            partition,
        }
    }

    fn value() -> OffsetCommitValue<'static> {
        OffsetCommitValue {
            offset: Some(42),
            leader_epoch: -1,
            metadata: Cow::default(),
            commit_timestamp: T,
            expire_timestamp: -1,
            topic_id: [0; 16],
        }
    }

    #[test]
    fn a_commit_has_kafkas_bytes() {
        let key = key("g", "t", 0);
        let out = key.encode();
        assert_eq!(out, bytes("0001 0001 67 0001 74 00000000"));
        assert_eq!(GroupKey::decode(&out), Ok(GroupKey::OffsetCommit(key)));
        assert_eq!(
            OffsetCommitValue::decode(&bytes(
                "0003 000000000000002a ffffffff 0000 0000018bcfe56800"
            )),
            Ok(value())
        );
        let newest = bytes("0004 000000000000002a ffffffff 01 0000018bcfe56800 00");
        assert_eq!(OffsetCommitValue::decode(&newest), Ok(value()));
        assert_eq!(value().encode(), newest);
    }

    #[test]
    fn a_commit_that_a_broker_wrote_round_trips() {
        let key_bytes = bytes("0001 0007 62792d68616e64 0005 706c61696e 00000000");
        assert_eq!(
            GroupKey::decode(&key_bytes),
            Ok(GroupKey::OffsetCommit(key("by-hand", "plain", 0)))
        );
        let value_bytes = bytes(
            "0004 0000000000000007 ffffffff 0f 6e6f746520746f206d7973656c66 000001a208ee22e1 \
             01 00 10 c595df5b65e340a0bfc8403b373a1223",
        );
        let value = OffsetCommitValue::decode(&value_bytes).unwrap();
        assert_eq!(
            (value.offset, value.leader_epoch, &*value.metadata),
            (Some(7), -1, "note to myself")
        );
        assert_eq!(value.commit_timestamp, 0x01a2_08ee_22e1);
        assert_eq!(TopicId(value.topic_id).to_text(), "xZXfW2XjQKC_yEA7NzoSIw");
        assert_eq!(value.encode(), value_bytes);
    }

    #[test]
    fn older_versions_of_the_value_are_accepted() {
        let plain = OffsetCommitValue {
            metadata: "m".into(),
            ..value()
        };
        for version in ["0000", "0002"] {
            let bytes = bytes(&format!(
                "{version} 000000000000002a 0001 6d 0000018bcfe56800"
            ));
            assert_eq!(OffsetCommitValue::decode(&bytes), Ok(plain.clone()));
        }
        let expiring = bytes("0001 000000000000002a 0001 6d 0000018bcfe56800 0000018bcfe56801");
        assert_eq!(
            OffsetCommitValue::decode(&expiring),
            Ok(OffsetCommitValue {
                expire_timestamp: T + 1,
                ..plain
            })
        );
        let with_epoch = bytes("0003 000000000000002a 00000007 0000 0000018bcfe56800");
        assert_eq!(
            OffsetCommitValue::decode(&with_epoch),
            Ok(OffsetCommitValue {
                leader_epoch: 7,
                ..value()
            })
        );
    }

    #[test]
    fn a_negative_offset_decodes_to_no_offset() {
        for offset in [
            "ffffffffffffffff",
            "fffffffffffffffe",
            "fffffffffffffc17",
            "8000000000000000",
        ] {
            let value_bytes = bytes(&format!("0003 {offset} ffffffff 0000 0000018bcfe56800"));
            assert_eq!(
                OffsetCommitValue::decode(&value_bytes),
                Ok(OffsetCommitValue {
                    offset: None,
                    ..value()
                })
            );
        }
        let encoded = OffsetCommitValue {
            offset: None,
            ..value()
        }
        .encode();
        assert_eq!(
            encoded,
            bytes("0004 ffffffffffffffff ffffffff 01 0000018bcfe56800 00")
        );
    }

    #[test]
    fn other_record_types_are_recognized() {
        assert_eq!(
            GroupKey::decode(&bytes("0002 0001 67")),
            Ok(GroupKey::Other(2))
        );
        assert_eq!(GroupKey::decode(&bytes("0063")), Ok(GroupKey::Other(99)));
        assert_eq!(GroupKey::decode(&bytes("ffff")), Ok(GroupKey::Other(-1)));
        assert_eq!(
            GroupKey::decode(&bytes("0000 0001 67 0001 74 00000000")),
            Ok(GroupKey::OffsetCommit(key("g", "t", 0)))
        );
    }

    #[test]
    fn unknown_tagged_fields_are_skipped() {
        let value = "0004 000000000000002a ffffffff 01 0000018bcfe56800";
        let tagged = format!("{value} 02 00 10 {} 07 03 010203", "11".repeat(16));
        assert_eq!(
            OffsetCommitValue::decode(&bytes(&tagged)).unwrap().topic_id,
            [0x11; 16]
        );
        for bad in [
            "01 00 0f",
            "01 00 01 00",
            "ffffffff0f",
            "01 07 ffffffff0f",
            "00 00",
        ] {
            assert!(
                OffsetCommitValue::decode(&bytes(&format!("{value} {bad}"))).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn malformed_commits_are_refused() {
        for bad in [
            "",
            "00",
            "0001",
            "0001 ffff",
            "0001 0001 67 ffff 00000000",
            "0001 0001 67 0001 74 ffffffff",
            "0001 0001 67 0001 74 00000000 00",
            "0001 0001 ff 0001 74 00000000",
            "0001 7fff 67",
        ] {
            assert!(GroupKey::decode(&bytes(bad)).is_err(), "{bad}");
        }
        for bad in [
            "",
            "0005 000000000000002a ffffffff 01 0000018bcfe56800 00",
            "ffff 000000000000002a 0000 0000018bcfe56800",
            "0003 000000000000002a ffffffff ffff 0000018bcfe56800",
            "0003 000000000000002a ffffffff 0000 0000018bcfe56800 00",
            "0004 000000000000002a ffffffff 00 0000018bcfe56800 00",
            "0004 000000000000002a ffffffff ffffffff0f 0000018bcfe56800 00",
        ] {
            assert!(OffsetCommitValue::decode(&bytes(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_group_is_assigned_the_same_partition_as_in_kafka() {
        for (group, partition) in [
            ("g", 3),
            ("my-group", 12),
            ("console-consumer-1", 24),
            ("group", 47),
            ("test", 48),
            ("txn-1", 10),
            ("", 0),
        ] {
            assert_eq!(partition_of(group, 50), partition, "{group}");
            assert_eq!(partition_of(group, 1), 0);
        }
        // Java hashes a character outside of the first plane as two units: 31 * 0xd83d + 0xde00.
        assert_eq!(partition_of("\u{1f600}", u32::MAX), 31 * 0xd83d + 0xde00);
        // The hash of this name is `i32::MIN`.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }

    proptest! {
        #[test]
        fn keys_and_values_round_trip_and_cut_values_are_refused(
            group in "\\PC{0,40}",
            topic in "[a-zA-Z0-9._-]{1,249}",
            partition in 0..=i32::MAX.unsigned_abs(),
            metadata in "\\PC{0,300}",
            numbers: (Option<u32>, i32, i64, [u8; 16]),
        ) {
            let key = key(&group, &topic, partition);
            let out = key.encode();
            prop_assert_eq!(out.len(), KEY_BYTES + group.len() + topic.len());
            prop_assert_eq!(GroupKey::decode(&out), Ok(GroupKey::OffsetCommit(key)));
            let (offset, leader_epoch, commit_timestamp, topic_id) = numbers;
            let (offset, metadata) = (offset.map(u64::from), Cow::Owned(metadata));
            let value = OffsetCommitValue { offset, leader_epoch, metadata, commit_timestamp, topic_id, ..value() };
            let out = value.encode();
            prop_assert!(out.len() <= VALUE_MAX_BYTES + value.metadata.len());
            for length in 0..out.len() {
                prop_assert!(OffsetCommitValue::decode(&out[..length]).is_err());
            }
            prop_assert_eq!(OffsetCommitValue::decode(&out), Ok(value));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(version in 0..6_u8, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [&[0, version][..], &rest].concat();
            drop((GroupKey::decode(&bytes), OffsetCommitValue::decode(&bytes)));
            drop((GroupKey::decode(&rest), OffsetCommitValue::decode(&rest)));
        }

        #[test]
        fn the_partition_of_a_group_is_below_the_partition_count(group in "\\PC{0,40}", partitions in 1..=u32::MAX) {
            prop_assert!(partition_of(&group, partitions) < partitions);
        }
    }
}
