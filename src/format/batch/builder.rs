//! Building one batch from records.

use super::packing::Packing;
use super::{
    BatchHeader, CONTROL, HEADER_BYTES, ProducerStamp, TOO_LONG, TRANSACTIONAL, codec_bits,
};
use crate::clock::Timestamp;
use crate::config::{Compression, TopicSettings};
use crate::format::Malformed;
use crate::format::record::{self, Parts, Record};

/// Builds one batch in a buffer that can be reused.
///
/// The batch has base offset 0 and leader epoch 0, and no producer unless one is set.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    /// Space for the header, and the records that were added so far.
    buffer: Vec<u8>,
    compression: Compression,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: ProducerStamp,
    /// The attributes of a batch of a transaction, or 0.
    transaction_bits: u16,
}

/// The fields of a batch without a producer.
const NO_PRODUCER: ProducerStamp = ProducerStamp {
    id: -1,
    epoch: -1,
    sequence: -1,
};

impl BatchBuilder {
    /// Clears `buffer`, and starts a batch in it. [`finish`](Self::finish) returns the buffer.
    #[inline]
    pub(crate) fn new(mut buffer: Vec<u8>, compression: Compression) -> Self {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        Self {
            buffer,
            compression,
            record_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer: NO_PRODUCER,
            transaction_bits: 0,
        }
    }

    /// Adds a record. If it has no timestamp, it gets `now`.
    ///
    /// Returns `Malformed`, and leaves the batch unchanged, if the timestamp is negative, or if the
    /// batch would have more than `i32::MAX` bytes or records.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record<'_>, now: i64) -> Result<(), Malformed> {
        self.push_parts(record.parts(), now)
    }

    /// Does the work of [`push`](Self::push) for the parts of a record.
    #[inline]
    pub(crate) fn push_parts(&mut self, record: Parts<'_>, now: i64) -> Result<(), Malformed> {
        let timestamp = record.timestamp.map_or(now, Timestamp::as_millis);
        if timestamp < 0 {
            return Err(Malformed("its timestamp is negative"));
        }
        if self.record_count == i32::MAX.cast_unsigned() {
            return Err(Malformed("the batch would be over 2147483647 records"));
        }
        let base_timestamp = if self.record_count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        record::encode(
            &mut self.buffer,
            timestamp - base_timestamp,
            self.record_count,
            record,
        )?;
        self.record_count += 1;
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Sets the producer of the batch.
    pub(crate) fn set_producer(&mut self, producer: ProducerStamp) {
        self.producer = producer;
    }

    /// Makes the batch a part of its producer's transaction.
    pub(crate) fn set_transactional(&mut self) {
        self.transaction_bits = TRANSACTIONAL;
    }

    /// Makes the batch the marker that ends a transaction of its producer.
    pub(crate) fn set_marker(&mut self) {
        self.transaction_bits = TRANSACTIONAL | CONTROL;
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Returns the size of the batch so far in bytes, with its header and before compression.
    pub(crate) fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Compresses the records, writes the header with its CRC, and returns the buffer, which then
    /// is exactly the batch. Also returns the header, whose CRC is not set.
    ///
    /// Uses the settings' level for the codec. If the codec does not make the records smaller, they
    /// stay uncompressed. The caller has checked that readers accept the decompressed size.
    ///
    /// Returns `Malformed` if there are no records, or more than `i32::MAX` bytes.
    #[inline]
    pub(crate) fn finish_with_header(
        mut self,
        settings: &TopicSettings,
    ) -> Result<(Vec<u8>, BatchHeader), Malformed> {
        let Some(last_offset) = self.record_count.checked_sub(1) else {
            return Err(Malformed("a batch needs a record"));
        };
        // With `must_shrink`, the codec never makes a batch exceed a limit, and readers do not
        // waste time on records that cannot be compressed.
        let packing = Packing {
            settings,
            max_decompressed_bytes: usize::MAX,
            must_shrink: true,
        };
        let codec = packing.pack(self.compression, &mut self.buffer)?;
        let size_bytes = u32::try_from(self.buffer.len())
            .ok()
            .filter(|&size| size <= i32::MAX.cast_unsigned());
        let header = BatchHeader {
            base_offset: 0,
            last_offset: last_offset.into(),
            stated_last_offset: last_offset.into(),
            size_bytes: size_bytes.ok_or(TOO_LONG)?,
            magic: 2,
            leader_epoch: 0,
            crc: 0,
            attributes: codec_bits(codec) | self.transaction_bits,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.sequence,
            record_count: self.record_count,
        };
        header.write(&mut self.buffer);
        Ok((self.buffer, header))
    }

    /// Finishes the batch and returns it without its header.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn finish(self, settings: &TopicSettings) -> Result<Vec<u8>, Malformed> {
        self.finish_with_header(settings).map(|(bytes, _)| bytes)
    }
}
