//! Encodes a batch without a lock, and checks that the topic accepts its records.

use crate::clock::Timestamp;
use crate::config::{CleanupPolicy, Compression, TimestampType, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{
    BatchBuilder, BatchHeader, HEADER_BYTES, ProducerStamp, TRANSACTIONAL, settle_append_time,
    stamp, stamp_append_time, stamp_producer, stamp_transactional,
};
use crate::format::control::control_of;
use crate::format::index_entry::AbortedTransaction;
use crate::format::record::{Parts, Record};
use crate::format::{Malformed, compression};
use crate::partition::PartitionCore;
use crate::partition::state::producers::ProducerStates;

/// The largest size of a batch before it is compressed, and the setting that limits it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainLimit {
    bytes: u64,
    /// Bytes of the batch to which the setting does not apply.
    uncounted: u64,
    key: &'static str,
}

impl PlainLimit {
    /// Returns the largest size of the batch in bytes.
    pub(crate) fn batch_bytes(self) -> u64 {
        self.bytes.saturating_add(self.uncounted)
    }

    /// Returns [`Error::RecordTooLarge`] if a batch of `batch_bytes` bytes is too large.
    #[inline]
    pub(crate) fn check(self, batch_bytes: usize) -> Result<()> {
        let bytes = (batch_bytes as u64).saturating_sub(self.uncounted);
        if bytes > self.bytes {
            return Err(Error::RecordTooLarge {
                bytes,
                limit: self.bytes,
                key: self.key,
            });
        }
        Ok(())
    }
}

/// A batch that was encoded and does not have its offsets yet.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(crate) bytes: Vec<u8>,
    /// The header in `bytes`, except for the CRC, which is not kept.
    pub(crate) header: BatchHeader,
    /// The producer whose state the batch changes. The header states it.
    pub(crate) producer: Option<ProducerStamp>,
}

impl EncodedBatch {
    /// Changes the epoch or the sequence of the producer in the header.
    pub(crate) fn set_producer(&mut self, producer: ProducerStamp) {
        stamp_producer(&mut self.bytes, producer);
        self.header.producer_id = producer.id;
        self.header.producer_epoch = producer.epoch;
        self.header.base_sequence = producer.sequence;
        self.producer = Some(producer);
    }

    /// Makes the batch a part of the transaction of this producer.
    pub(crate) fn set_transactional(&mut self, producer: ProducerStamp) {
        stamp_transactional(&mut self.bytes);
        self.header.attributes |= TRANSACTIONAL;
        self.set_producer(producer);
    }

    /// Sets the offsets and the leader epoch.
    pub(super) fn stamp(&mut self, base_offset: u64, leader_epoch: i32) {
        stamp(&mut self.bytes, base_offset, leader_epoch);
        self.header.place(base_offset, leader_epoch);
    }

    /// Sets the time of the append, for a topic that uses `LogAppendTime`.
    pub(super) fn stamp_append_time(&mut self, now: i64) {
        stamp_append_time(&mut self.bytes, now);
        settle_append_time(&mut self.header, now);
    }

    /// Returns the time of the append that the log stamped into the batch, if its topic uses
    /// `LogAppendTime`.
    pub(crate) fn append_time(&self) -> Option<i64> {
        let is_append_time = self.header.timestamp_type() == Some(TimestampType::LogAppendTime);
        is_append_time.then_some(self.header.max_timestamp)
    }

    /// Adds the batch to the state of its producer. The batch has its offsets and is in the file.
    /// Returns the transaction that it aborted, if it is an ABORT marker.
    pub(in crate::partition) fn note_producer(
        &self,
        states: &mut ProducerStates,
    ) -> Option<AbortedTransaction> {
        debug_assert_eq!(
            BatchHeader::decode(&self.bytes).map(|header| BatchHeader { crc: 0, ..header }),
            Ok(BatchHeader {
                crc: 0,
                ..self.header
            }),
            "the header that is kept is the one in the bytes"
        );
        self.producer?;
        states.replay(&self.header, control_of(&self.header, &self.bytes))
    }
}

impl PartitionCore {
    /// Encodes a batch for [`append_encoded`](Self::append_encoded). Returns `None` for an
    /// empty batch, and the errors of an append.
    pub(crate) fn encode_batch<'a, R: Into<Record<'a>>>(
        &self,
        now: Timestamp,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Option<EncodedBatch>> {
        self.check_writable()?;
        self.encode(&self.settings(), now.as_millis(), records)
    }

    /// Encodes a batch in a buffer from the pool. Returns `None` for an empty batch.
    pub(super) fn encode<'a, R: Into<Record<'a>>>(
        &self,
        settings: &TopicSettings,
        now: i64,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Option<EncodedBatch>> {
        let compression = settings.compression.codec(Compression::None);
        let limit = self.limit_of(settings, compression);
        let mut builder = BatchBuilder::new(self.context.buffers.take(), compression);
        for (index, record) in records.into_iter().enumerate() {
            let owner;
            let parts = match record.into().try_into_parts() {
                Ok(parts) => parts,
                Err(record) => {
                    owner = record;
                    owner.parts()
                }
            };
            push(&mut builder, settings, limit, index, parts, now)?;
        }
        if builder.record_count() == 0 {
            return Ok(None);
        }
        self.finish(settings, builder).map(Some)
    }

    /// Encodes a batch of one record in a buffer from the pool. The topic does not compress it.
    #[inline]
    pub(super) fn encode_one(
        &self,
        settings: &TopicSettings,
        now: i64,
        record: &Record<'_>,
    ) -> Result<EncodedBatch> {
        let limit = self.limit_of(settings, Compression::None);
        let mut builder = BatchBuilder::new(self.context.buffers.take(), Compression::None);
        push(&mut builder, settings, limit, 0, record.parts(), now)?;
        self.finish(settings, builder)
    }

    /// Finishes a batch that has records.
    #[inline]
    fn finish(&self, settings: &TopicSettings, builder: BatchBuilder) -> Result<EncodedBatch> {
        let (bytes, header) = builder
            .finish_with_header(settings)
            .map_err(|malformed| self.cannot_encode(malformed))?;
        if let Err(error) = check_size(settings, bytes.len()) {
            self.context.buffers.give_back(bytes);
            return Err(error);
        }
        debug_assert!(bytes.len() >= HEADER_BYTES, "a batch has a header");
        Ok(EncodedBatch {
            bytes,
            header,
            producer: None,
        })
    }

    /// Returns the largest size of a batch before it is compressed with `compression`.
    #[inline]
    pub(crate) fn limit_of(
        &self,
        settings: &TopicSettings,
        compression: Compression,
    ) -> PlainLimit {
        match compression {
            Compression::None => PlainLimit {
                bytes: settings.max_message_bytes.into(),
                uncounted: 0,
                key: "max.message.bytes",
            },
            // The compressed size does not matter: readers of this log would refuse the batch.
            _ => PlainLimit {
                bytes: self.context.max_decompressed_bytes as u64,
                uncounted: HEADER_BYTES as u64,
                key: "max_decompressed_bytes",
            },
        }
    }

    /// Returns the error for a batch that could not be encoded.
    #[cold]
    pub(crate) fn cannot_encode(&self, malformed: Malformed) -> Error {
        if compression::is_left_out(malformed) {
            return Error::Unsupported {
                path: self.dir().to_owned(),
                what: malformed.0,
            };
        }
        Error::InvalidRecord {
            index: 0,
            reason: malformed.0,
        }
    }
}

/// Adds record number `index` to a batch, if the topic accepts the record.
#[inline]
fn push(
    builder: &mut BatchBuilder,
    settings: &TopicSettings,
    limit: PlainLimit,
    index: usize,
    record: Parts<'_>,
    now: i64,
) -> Result<()> {
    let timestamp = record.timestamp.map(Timestamp::as_millis);
    check_fields(settings, record.key.is_some(), timestamp, now)
        .map_err(|reason| Error::InvalidRecord { index, reason })?;
    let pushed = builder.push_parts(record, now);
    pushed.map_err(|Malformed(reason)| Error::InvalidRecord { index, reason })?;
    // Stops a batch that is already too large. Its compressed size is checked later.
    limit.check(builder.len_bytes())
}

/// Returns an error unless the topic accepts a batch of `bytes` bytes.
#[inline]
pub(crate) fn check_size(settings: &TopicSettings, bytes: usize) -> Result<()> {
    for (limit, key) in [
        (settings.max_message_bytes, "max.message.bytes"),
        (settings.segment_bytes, "segment.bytes"),
    ] {
        if bytes as u64 > u64::from(limit) {
            return Err(Error::RecordTooLarge {
                bytes: bytes as u64,
                limit: u64::from(limit),
                key,
            });
        }
    }
    Ok(())
}

/// Returns the reason if the topic does not accept the record at the time `now`.
#[inline]
pub(crate) fn check_record(
    settings: &TopicSettings,
    record: &Record<'_>,
    now: i64,
) -> std::result::Result<(), &'static str> {
    let timestamp = record.timestamp.map(Timestamp::as_millis);
    check_fields(settings, record.key.is_some(), timestamp, now)
}

/// Returns the reason if the topic does not accept a record with such a key and timestamp at the
/// time `now`.
#[inline]
pub(super) fn check_fields(
    settings: &TopicSettings,
    has_key: bool,
    timestamp: Option<i64>,
    now: i64,
) -> std::result::Result<(), &'static str> {
    if settings.cleanup_policy != CleanupPolicy::Delete && !has_key {
        return Err("a compacted topic needs a key");
    }
    if settings.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let Some(timestamp) = timestamp else {
        return Ok(());
    };
    if timestamp < 0 {
        return Err("its timestamp is negative");
    }
    if now.saturating_sub(timestamp) > settings.timestamp_before_max_ms {
        return Err("its timestamp lies further back than `message.timestamp.before.max.ms`");
    }
    if timestamp.saturating_sub(now) > settings.timestamp_after_max_ms {
        return Err("its timestamp lies further ahead than `message.timestamp.after.max.ms`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_may_have_the_largest_size() {
        let limit = PlainLimit {
            bytes: 100,
            uncounted: 61,
            key: "a setting",
        };
        assert!(limit.check(161).is_ok());
        assert!(matches!(
            limit.check(162),
            Err(Error::RecordTooLarge {
                bytes: 101,
                limit: 100,
                ..
            })
        ));
    }
}
