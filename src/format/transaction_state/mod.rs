//! Keys and values of the records in `__transaction_state`, which hold the state of each
//! transactional id.
//!
//! | key | type |
//! | --- | --- |
//! | type: 0 | int16 |
//! | transactional id | string: int16 length, UTF-8 |
//!
//! | value | type | in versions |
//! | --- | --- | --- |
//! | version | int16 | 0 and 1 |
//! | producer id, producer epoch | int64, int16 | all |
//! | time-out of the transaction, in milliseconds | int32 | all |
//! | status, see [`TransactionStatus`] | int8 | all |
//! | partitions: array of topic and array of partition numbers; null if the status is 0 | string, int32 | all |
//! | time of the last change, time of the start or -1 | int64 | all |
//! | tagged fields: unsigned varint count, then tag, size, bytes of each | see below | 1 |
//!
//! Version 1 is flexible: its strings and arrays are compact, and each topic of the partitions ends
//! with tagged fields. A tagged field that has its default is absent.
//!
//! | tag | field | type | default |
//! | --- | --- | --- | --- |
//! | 0 | previous producer id | int64 | -1 |
//! | 1 | next producer id | int64 | -1 |
//! | 2 | transaction version of the client | int16 | 0 |
//! | 3 | next producer epoch | int16 | -1 |
//! | 1000 | the log end of each partition, in the order of the partitions; only annals writes and reads it | int64 each | none |
//!
//! Numbers are big-endian. A record without a value deletes the state with the same key. The
//! function `partition_of` in `offset_commit.rs` finds the partition of an id.
//!
//! Example: the key of the id "tx" is `0000 0002 7478`. The value of an id that has producer 4 and
//! has not started a transaction yet, with a time-out of one minute, is `0001 0000000000000004 0000
//! 0000ea60 00 00 0000018bcfe56800 ffffffffffffffff 00`.

use std::collections::HashMap;

use super::Malformed;
use super::fields::{self, read};
use super::varint;
use crate::topic_partition::TopicPartition;

#[cfg(test)]
mod tests;

const KEY_TYPE: i16 = 0;

const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;
const NEXT_PRODUCER_ID_TAG: u32 = 1;
const CLIENT_VERSION_TAG: u32 = 2;
const NEXT_PRODUCER_EPOCH_TAG: u32 = 3;
const PARTITION_ENDS_TAG: u32 = 1_000;

/// The length of an array that is null.
const NULL: i32 = -1;
/// The length of a compact array that is null.
const COMPACT_NULL: u32 = 0;

/// Stands for an absent producer id or time.
const NONE: i64 = -1;
/// Stands for an absent producer epoch.
const NO_EPOCH: i16 = -1;

/// The key of a record in `__transaction_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionKey<'a> {
    /// The key of a state, with its transactional id.
    State(&'a str),
    /// The number of any other record type. Readers skip these records.
    Other(i16),
}

/// A version of the value, which decides about its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum ValueVersion {
    /// Brokers without the feature `transaction.version` write it. It has no tagged fields.
    V0 = 0,
    /// Has all fields.
    V1 = 1,
}

/// The status of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TransactionStatus {
    /// The producer has not started a transaction.
    Empty = 0,
    /// A transaction is open.
    Ongoing = 1,
    /// The transaction is committed. Partitions may lack their markers.
    PrepareCommit = 2,
    /// The transaction is aborted. Partitions may lack their markers.
    PrepareAbort = 3,
    /// The transaction is committed, and all partitions have their markers.
    CompleteCommit = 4,
    /// The transaction is aborted, and all partitions have their markers.
    CompleteAbort = 5,
}

/// The state of a transactional id: the key and the value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionState {
    /// The id that identifies the producer across restarts, at most `i16::MAX` bytes.
    pub(crate) transactional_id: String,
    /// The id of the producer in the batches.
    pub(crate) producer_id: i64,
    /// The epoch of the producer. If the status is a prepared one, markers have this epoch.
    pub(crate) producer_epoch: i16,
    /// The longest duration of a transaction.
    pub(crate) timeout_ms: i32,
    /// How far the transaction is.
    pub(crate) status: TransactionStatus,
    /// The partitions of the transaction, in the order of the record. They include those of
    /// `__consumer_offsets`, if the transaction commits offsets.
    pub(crate) partitions: Vec<TopicPartition>,
    /// The time of the record.
    pub(crate) last_update_ms: i64,
    /// The time at which the transaction started, or -1.
    pub(crate) start_ms: i64,
    /// The producer id that the previous record had, or -1. Not in version 0.
    pub(crate) previous_producer_id: i64,
    /// The producer id that follows when the transaction is complete, or -1. Not in version 0.
    pub(crate) next_producer_id: i64,
    /// The transaction version of the client: 2 if the epoch rises with each transaction, else 0.
    /// Not in version 0.
    pub(crate) client_version: i16,
    /// The epoch that follows when the transaction is complete, or -1. Not in version 0.
    pub(crate) next_producer_epoch: i16,
    /// The log end of each partition, with the records of the transaction and without its marker.
    /// Empty if it is unknown, as in the records of brokers. Not in version 0.
    pub(crate) partition_ends: Vec<u64>,
}

impl<'a> TransactionKey<'a> {
    /// Decodes a key. Returns `Malformed` if the type is missing, and if the key of a state is
    /// malformed.
    pub(crate) fn decode(mut key: &'a [u8]) -> Result<Self, Malformed> {
        let bytes = &mut key;
        match i16::from_be_bytes(read(bytes)?) {
            KEY_TYPE => {
                let id =
                    fields::read_string(bytes)?.ok_or(Malformed("the transactional id is null"))?;
                end(bytes)?;
                str::from_utf8(id)
                    .map(Self::State)
                    .map_err(|_| Malformed("the transactional id is not UTF-8"))
            }
            other => Ok(Self::Other(other)),
        }
    }

    /// Returns the key of the state of `transactional_id`.
    pub(crate) fn encode(transactional_id: &str) -> Vec<u8> {
        let mut out = KEY_TYPE.to_be_bytes().to_vec();
        fields::write_string(&mut out, transactional_id);
        out
    }
}

impl ValueVersion {
    /// Returns the version of an encoded value, or `Malformed` for an unknown one.
    pub(crate) fn of(mut value: &[u8]) -> Result<Self, Malformed> {
        match i16::from_be_bytes(read(&mut value)?) {
            0 => Ok(Self::V0),
            1 => Ok(Self::V1),
            _ => Err(Malformed("the version of the transaction state is unknown")),
        }
    }
}

impl TransactionStatus {
    fn decode(stored: u8) -> Result<Self, Malformed> {
        Ok(match stored {
            0 => Self::Empty,
            1 => Self::Ongoing,
            2 => Self::PrepareCommit,
            3 => Self::PrepareAbort,
            4 => Self::CompleteCommit,
            5 => Self::CompleteAbort,
            _ => {
                return Err(Malformed("the status of the transaction is unknown"));
            }
        })
    }
}

impl TransactionState {
    /// Creates the state of a producer that has not started a transaction.
    pub(crate) fn empty(
        transactional_id: impl Into<String>,
        (producer_id, producer_epoch): (i64, i16),
        timeout_ms: i32,
        now: i64,
    ) -> Self {
        Self {
            transactional_id: transactional_id.into(),
            producer_id,
            producer_epoch,
            timeout_ms,
            status: TransactionStatus::Empty,
            partitions: Vec::new(),
            last_update_ms: now,
            start_ms: NONE,
            previous_producer_id: NONE,
            next_producer_id: NONE,
            client_version: 0,
            next_producer_epoch: NO_EPOCH,
            partition_ends: Vec::new(),
        }
    }

    /// Returns the value of the record. Version 0 lacks the fields with a tag.
    ///
    /// Partitions of the same topic are written together, at the place of the first of them. With
    /// the status `Empty` the array of partitions is null, as in Kafka.
    pub(crate) fn encode_value(&self, version: ValueVersion) -> Vec<u8> {
        let is_empty = self.status == TransactionStatus::Empty;
        assert!(
            !is_empty || self.partitions.is_empty(),
            "a transaction with partitions has started"
        );
        let topics = (!is_empty).then(|| by_topic(&self.partitions));
        let mut out = (version as i16).to_be_bytes().to_vec();
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.timeout_ms.to_be_bytes());
        out.push(self.status as u8);
        match version {
            ValueVersion::V0 => write_topics(&mut out, topics.as_deref()),
            ValueVersion::V1 => write_compact_topics(&mut out, topics.as_deref()),
        }
        out.extend_from_slice(&self.last_update_ms.to_be_bytes());
        out.extend_from_slice(&self.start_ms.to_be_bytes());
        if version == ValueVersion::V1 {
            self.write_tagged(&mut out);
        }
        out
    }

    fn write_tagged(&self, out: &mut Vec<u8>) {
        let mut fields: Vec<(u32, &[u8])> = Vec::new();
        let previous_id = self.previous_producer_id.to_be_bytes();
        let next_id = self.next_producer_id.to_be_bytes();
        let client_version = self.client_version.to_be_bytes();
        let next_epoch = self.next_producer_epoch.to_be_bytes();
        if self.previous_producer_id != NONE {
            fields.push((PREVIOUS_PRODUCER_ID_TAG, &previous_id));
        }
        if self.next_producer_id != NONE {
            fields.push((NEXT_PRODUCER_ID_TAG, &next_id));
        }
        if self.client_version != 0 {
            fields.push((CLIENT_VERSION_TAG, &client_version));
        }
        if self.next_producer_epoch != NO_EPOCH {
            fields.push((NEXT_PRODUCER_EPOCH_TAG, &next_epoch));
        }
        let ends = self.partition_ends.iter();
        let ends: Vec<u8> = ends.flat_map(|end| end.to_be_bytes()).collect();
        if !ends.is_empty() {
            fields.push((PARTITION_ENDS_TAG, &ends));
        }
        fields::write_tagged(out, &fields);
    }

    /// Decodes the value of the record of `transactional_id`. Returns `Malformed` for an unknown
    /// version.
    pub(crate) fn decode_value(
        transactional_id: &str,
        mut value: &[u8],
    ) -> Result<Self, Malformed> {
        let version = ValueVersion::of(value)?;
        let bytes = &mut value;
        let _version = read::<2>(bytes)?;
        let producer_id = i64::from_be_bytes(read(bytes)?);
        let producer_epoch = i16::from_be_bytes(read(bytes)?);
        let timeout_ms = i32::from_be_bytes(read(bytes)?);
        let [status] = read(bytes)?;
        let status = TransactionStatus::decode(status)?;
        let partitions = match version {
            ValueVersion::V0 => read_topics(bytes)?,
            ValueVersion::V1 => read_compact_topics(bytes)?,
        };
        if status == TransactionStatus::Empty && !partitions.is_empty() {
            return Err(Malformed(
                "a transaction that has not started has partitions",
            ));
        }
        let last_update_ms = i64::from_be_bytes(read(bytes)?);
        let start_ms = i64::from_be_bytes(read(bytes)?);
        let producer = (producer_id, producer_epoch);
        let mut state = Self {
            status,
            partitions,
            start_ms,
            ..Self::empty(transactional_id, producer, timeout_ms, last_update_ms)
        };
        if version == ValueVersion::V1 {
            state.read_tagged(bytes)?;
        }
        end(bytes)?;
        Ok(state)
    }

    fn read_tagged(&mut self, bytes: &mut &[u8]) -> Result<(), Malformed> {
        fields::read_tagged(bytes, |tag, field| {
            match tag {
                PREVIOUS_PRODUCER_ID_TAG => {
                    self.previous_producer_id = i64::from_be_bytes(whole(field)?);
                }
                NEXT_PRODUCER_ID_TAG => self.next_producer_id = i64::from_be_bytes(whole(field)?),
                CLIENT_VERSION_TAG => self.client_version = i16::from_be_bytes(whole(field)?),
                NEXT_PRODUCER_EPOCH_TAG => {
                    self.next_producer_epoch = i16::from_be_bytes(whole(field)?);
                }
                PARTITION_ENDS_TAG => {
                    let (ends, rest) = field.as_chunks();
                    if ends.len() != self.partitions.len() || !rest.is_empty() {
                        return Err(Malformed("the partitions and their ends differ in number"));
                    }
                    self.partition_ends = ends.iter().map(|end| u64::from_be_bytes(*end)).collect();
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// A topic with the numbers of its partitions.
type TopicPartitions<'a> = (&'a str, Vec<u32>);

/// Groups partitions by topic, in the order in which the topics first occur.
fn by_topic(partitions: &[TopicPartition]) -> Vec<TopicPartitions<'_>> {
    let mut places = HashMap::new();
    let mut topics: Vec<TopicPartitions<'_>> = Vec::new();
    for TopicPartition { topic, partition } in partitions {
        let place = *places.entry(topic).or_insert(topics.len());
        match topics.get_mut(place) {
            Some((_, numbers)) => numbers.push(*partition),
            None => topics.push((topic, vec![*partition])),
        }
    }
    topics
}

fn write_topics(out: &mut Vec<u8>, topics: Option<&[TopicPartitions<'_>]>) {
    let Some(topics) = topics else {
        return out.extend_from_slice(&NULL.to_be_bytes());
    };
    write_count(out, topics.len());
    for (topic, numbers) in topics {
        fields::write_string(out, topic);
        write_count(out, numbers.len());
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn write_compact_topics(out: &mut Vec<u8>, topics: Option<&[TopicPartitions<'_>]>) {
    let Some(topics) = topics else {
        return varint::write_u32(out, COMPACT_NULL);
    };
    fields::write_compact_length(out, topics.len());
    for (topic, numbers) in topics {
        fields::write_compact_string(out, topic);
        fields::write_compact_length(out, numbers.len());
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
        fields::write_tagged(out, &[]);
    }
}

#[expect(
    clippy::expect_used,
    reason = "a list of partitions that is larger does not fit into a batch"
)]
fn write_count(out: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).expect("a transaction has less than 2^31 partitions");
    out.extend_from_slice(&count.to_be_bytes());
}

fn read_topics(bytes: &mut &[u8]) -> Result<Vec<TopicPartition>, Malformed> {
    let mut partitions = Vec::new();
    for _ in 0..read_count(bytes)? {
        let topic = topic(fields::read_string(bytes)?)?;
        for _ in 0..read_count(bytes)? {
            partitions.push(read_partition(&topic, bytes)?);
        }
    }
    Ok(partitions)
}

fn read_compact_topics(bytes: &mut &[u8]) -> Result<Vec<TopicPartition>, Malformed> {
    let mut partitions = Vec::new();
    for _ in 0..fields::read_compact_length(bytes)?.unwrap_or(0) {
        let topic = topic(fields::read_compact_string(bytes)?)?;
        for _ in 0..fields::read_compact_length(bytes)?.unwrap_or(0) {
            partitions.push(read_partition(&topic, bytes)?);
        }
        fields::read_tagged(bytes, |_, _| Ok(()))?;
    }
    Ok(partitions)
}

/// Reads the number of elements of an array. A null array has none.
fn read_count(bytes: &mut &[u8]) -> Result<u32, Malformed> {
    match i32::from_be_bytes(read(bytes)?) {
        NULL => Ok(0),
        count => u32::try_from(count).map_err(|_| Malformed("an array has a negative length")),
    }
}

/// Returns partition 0 of a topic.
fn topic(name: Option<&[u8]>) -> Result<TopicPartition, Malformed> {
    let name = name.ok_or(Malformed("a topic of the transaction is null"))?;
    str::from_utf8(name)
        .map(|name| TopicPartition::new(name, 0))
        .map_err(|_| Malformed("a topic of the transaction is not UTF-8"))
}

fn read_partition(topic: &TopicPartition, bytes: &mut &[u8]) -> Result<TopicPartition, Malformed> {
    let number = i32::from_be_bytes(read(bytes)?);
    Ok(TopicPartition {
        partition: u32::try_from(number).map_err(|_| Malformed("a negative partition"))?,
        ..topic.clone()
    })
}

/// Returns a field whose size is `SIZE`.
fn whole<const SIZE: usize>(field: &[u8]) -> Result<[u8; SIZE], Malformed> {
    field
        .try_into()
        .map_err(|_| Malformed("a tagged field of the transaction state has another size"))
}

fn end(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Malformed("bytes are left over after the transaction state"))
    }
}
