//! Record batches. A `.log` file is a sequence of them.
//!
//! This folder decodes and writes the header of a v2 batch, makes batches, and iterates over their
//! records. The layout of a record is in `record/`. The older message sets v0 and v1 are in
//! `legacy/`; callers use the same functions for all versions. Callers also check that the offsets
//! of successive batches rise.
//!
//! | at | bytes | field | notes |
//! |---|---|---|---|
//! | 0 | 8 | base offset | of the first record as first written; compaction does not change it |
//! | 8 | 4 | length | of everything after this field |
//! | 12 | 4 | leader epoch | -1: unknown |
//! | 16 | 1 | magic | 2 |
//! | 17 | 4 | CRC | CRC-32C of everything after this field |
//! | 21 | 2 | attributes | bits 0-2 codec, 3 `LogAppendTime`, 4 transactional, 5 control, 6 base timestamp is a delete horizon |
//! | 23 | 4 | last offset delta | last offset - base offset, as first written; some clients wrote 0 for several records |
//! | 27 | 8 | base timestamp | the records' timestamps are relative to it; -1 in an empty batch |
//! | 35 | 8 | max timestamp | greatest of the records, or the time of the append; -1: none |
//! | 43 | 8 | producer id | -1: none |
//! | 51 | 2 | producer epoch | -1: none |
//! | 53 | 4 | base sequence | of the first record as first written; -1: none |
//! | 57 | 4 | record count | of the records in the batch; compaction leaves fewer, or none |
//! | 61 | | records | one after the other; with a codec, one compressed stream of them |
//!
//! The CRC does not cover offset, length, leader epoch and magic, so that a log can set the offset
//! of a finished batch.
//!
//! Example, with the record `k1`, `v1` at offset 0 and time 1700000000000:
//! ```text
//! 0000000000000000 0000003c 00000000 02 6ba48e85 0000 00000000 0000018bcfe56800 0000018bcfe56800
//! ffffffffffffffff ffff ffffffff 00000001 14000000046b3104763100
//! ```

use crate::config::{Compression, TimestampType};

use super::checksum::crc32c;
use super::fixed::{field, set_field};
use super::record::TOO_LONG;
use super::{Malformed, compression};

mod below;
mod builder;
mod checksum;
mod cursor;
pub(crate) mod legacy;
mod outline;
mod packing;
mod rebuilt;
mod retained;
mod survey;
#[cfg(test)]
mod tests;
mod whole;

pub(crate) use below::below;
pub(crate) use builder::BatchBuilder;
pub(crate) use checksum::{BatchChecksum, intact_offsets};
pub(crate) use cursor::RecordCursor;
pub(crate) use outline::Outline;
pub(crate) use packing::Packing;
pub(crate) use retained::{emptied, retained};
pub(crate) use whole::{
    Accepted, check_records, first_whole, settle, settle_append_time, write_times,
};

/// The size of the header of a v2 batch.
pub(crate) const HEADER_BYTES: usize = 61;
/// The size of the offset and length fields, with which every batch and legacy entry starts. The
/// length field counts the bytes after them.
pub(crate) const OVERHEAD_BYTES: usize = 12;
/// The number of bytes that [`Frame::decode`] needs.
pub(crate) const FRAME_BYTES: usize = 17;

const OVERHEAD: u32 = 12;
const _: () = assert!(OVERHEAD as usize == OVERHEAD_BYTES);
/// The position of the first byte that the CRC covers.
const CHECKED_FROM: usize = 21;
/// The least value of a length field: that of a v0 entry without key and value.
const MIN_LENGTH: u32 = 14;
/// The size of a v2 batch without records.
const MIN_V2_BYTES: u32 = 61;
const _: () = assert!(MIN_V2_BYTES as usize == HEADER_BYTES);

const CODEC: u16 = 0b111;
const LOG_APPEND_TIME: u16 = 1 << 3;
pub(crate) const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;

const MAX_I32: u32 = i32::MAX.cast_unsigned();
const MAX_OFFSET: u64 = i64::MAX.cast_unsigned();

/// The first fields of a batch of any version, with which a reader can step over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The offset field: the base offset of a v2 batch, or the LAST offset of a legacy entry.
    pub(crate) offset: u64,
    /// The size of the whole batch, including its first 12 bytes.
    pub(crate) size_bytes: u32,
    /// 0, 1 or 2. Like Kafka, we read greater values as 2.
    pub(crate) magic: u8,
}

/// The decoded header of a v2 batch, or of a legacy (v0, v1) entry, in which the missing fields are
/// set to "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The base offset. For a legacy wrapper it equals `last_offset`, because its true base is only
    /// known after decompression.
    pub(crate) base_offset: u64,
    /// The last offset, raised if the record count requires it; see [`last_offset_delta`].
    pub(crate) last_offset: u64,
    /// The last offset that the header states. The indexes use it.
    pub(crate) stated_last_offset: u64,
    pub(crate) size_bytes: u32,
    pub(crate) magic: u8,
    /// -1: unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    pub(crate) attributes: u16,
    pub(crate) base_timestamp: i64,
    /// -1: none (also for v0).
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    /// The number of records in the batch. For a legacy entry it is 1, because the number of
    /// records in a wrapper is only known after decompression. A header with a count above
    /// `i32::MAX` is wrong.
    pub(crate) record_count: u32,
}

/// The producer of a batch, and the position of the batch in the producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerStamp {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// The sequence number of the first record.
    pub(crate) sequence: i32,
}

/// Returns the sequence number `count` records after `sequence`. After `i32::MAX` comes 0.
pub(crate) fn sequence_after(sequence: i32, count: u32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(0)
}

impl Frame {
    /// Decodes the first `FRAME_BYTES` bytes. Returns `Malformed` for a negative offset, a length
    /// below 14, and a negative magic.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let front: &[u8; FRAME_BYTES] = bytes
            .first_chunk()
            .ok_or(Malformed("the front of a batch is cut short"))?;
        let offset = u64::from_be_bytes(field::<0, _, _>(front));
        if offset > MAX_OFFSET {
            return Err(Malformed("the offset of a batch is negative"));
        }
        let length = u32::from_be_bytes(field::<8, _, _>(front));
        if !(MIN_LENGTH..=MAX_I32).contains(&length) {
            return Err(Malformed("the length of a batch is negative or too small"));
        }
        let magic = front[16];
        if magic > i8::MAX.cast_unsigned() {
            return Err(Malformed("the magic of a batch is negative"));
        }
        Ok(Self {
            offset,
            size_bytes: length + OVERHEAD,
            magic: magic.min(2),
        })
    }

    /// Returns the base offset as it is stored, even if it or other fields are malformed. Returns
    /// `None` if the offset or the length is cut short.
    pub(crate) fn stored_offset_of(bytes: &[u8]) -> Option<u64> {
        let front: &[u8; OVERHEAD_BYTES] = bytes.first_chunk()?;
        Some(u64::from_be_bytes(field::<0, _, _>(front)))
    }

    /// Returns the size of the whole batch, with which a reader can step over a batch whose other
    /// fields are malformed. Returns `None` if the length field itself is malformed.
    pub(crate) fn size_bytes_of(bytes: &[u8]) -> Option<u32> {
        let front: &[u8; OVERHEAD_BYTES] = bytes.first_chunk()?;
        let length = u32::from_be_bytes(field::<8, _, _>(front));
        (MIN_LENGTH..=MAX_I32)
            .contains(&length)
            .then(|| length + OVERHEAD)
    }
}

impl BatchHeader {
    /// Returns the size of the header of a batch with this frame.
    #[cfg(test)]
    pub(crate) fn bytes_needed(frame: &Frame) -> usize {
        if frame.magic < 2 {
            legacy::bytes_needed(frame.magic)
        } else {
            HEADER_BYTES
        }
    }

    /// Decodes the header. `bytes` starts with the batch and may end after the header.
    ///
    /// Checks that the offsets of the batch are in range, and that it is not smaller than its
    /// header. Does not check the CRC. The functions that decode the records check the other
    /// fields.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let frame = Frame::decode(bytes)?;
        if frame.magic < 2 {
            return legacy::decode_header(bytes);
        }
        let header: &[u8; HEADER_BYTES] = bytes
            .first_chunk()
            .ok_or(Malformed("the header of a batch is cut short"))?;
        if (frame.size_bytes as usize) < HEADER_BYTES {
            return Err(Malformed("a batch is smaller than its header"));
        }
        let stated_delta = i32::from_be_bytes(field::<23, _, _>(header));
        let attributes = u16::from_be_bytes(field::<21, _, _>(header));
        let record_count = u32::from_be_bytes(field::<57, _, _>(header));
        let last_offset = frame.offset
            + u64::from(last_offset_delta(
                stated_delta,
                record_count,
                attributes,
                frame.size_bytes,
            ));
        if last_offset > MAX_OFFSET {
            return Err(Malformed("the last offset of a batch is out of range"));
        }
        Ok(Self {
            base_offset: frame.offset,
            last_offset,
            stated_last_offset: frame.offset.saturating_add_signed(stated_delta.into()),
            size_bytes: frame.size_bytes,
            magic: frame.magic,
            leader_epoch: i32::from_be_bytes(field::<12, _, _>(header)),
            crc: u32::from_be_bytes(field::<17, _, _>(header)),
            attributes,
            base_timestamp: i64::from_be_bytes(field::<27, _, _>(header)),
            max_timestamp: i64::from_be_bytes(field::<35, _, _>(header)),
            producer_id: i64::from_be_bytes(field::<43, _, _>(header)),
            producer_epoch: i16::from_be_bytes(field::<51, _, _>(header)),
            base_sequence: i32::from_be_bytes(field::<53, _, _>(header)),
            record_count,
        })
    }

    /// Returns the lowest base offset that the next batch may have.
    ///
    /// It depends on the last offset that the header states. If that is too low, a broker has used
    /// the offsets of the batch's last records again for the next batch.
    #[inline]
    pub(crate) fn next_base_offset(&self) -> u64 {
        self.stated_last_offset.max(self.base_offset) + 1
    }

    /// Returns whether every offset of the batch has a record, as in a batch that was not
    /// compacted, or none has one, as in a batch that replaces lost offsets.
    #[inline]
    pub(crate) fn is_full_or_empty(&self) -> bool {
        let count = u64::from(self.record_count);
        self.magic < 2 || count == 0 || self.last_offset - self.base_offset + 1 == count
    }

    /// Moves the offsets, so that the batch begins at `base_offset`, and sets the leader epoch.
    pub(crate) fn place(&mut self, base_offset: u64, leader_epoch: i32) {
        let former = self.base_offset;
        self.base_offset = base_offset;
        for offset in [&mut self.last_offset, &mut self.stated_last_offset] {
            *offset = base_offset + (*offset - former);
        }
        self.leader_epoch = leader_epoch;
    }

    /// Writes the header of a v2 batch over the first bytes of `batch`, which is exactly the batch.
    ///
    /// Computes the CRC and ignores `self.crc`. The header states `self.last_offset`.
    pub(crate) fn write(&self, batch: &mut [u8]) {
        assert_eq!(
            batch.len(),
            self.size_bytes as usize,
            "the header states the size of the batch"
        );
        let last_offset_delta =
            u32::try_from(self.last_offset - self.base_offset).unwrap_or(u32::MAX);
        assert!(
            last_offset_delta <= MAX_I32,
            "a batch spans at most 2^31 offsets"
        );
        let header = header_of(batch);
        set_field::<0, _, _>(header, self.base_offset.to_be_bytes());
        set_field::<8, _, _>(header, (self.size_bytes - OVERHEAD).to_be_bytes());
        set_field::<12, _, _>(header, self.leader_epoch.to_be_bytes());
        header[16] = 2;
        set_field::<21, _, _>(header, self.attributes.to_be_bytes());
        set_field::<23, _, _>(header, last_offset_delta.to_be_bytes());
        set_field::<27, _, _>(header, self.base_timestamp.to_be_bytes());
        set_field::<35, _, _>(header, self.max_timestamp.to_be_bytes());
        set_field::<43, _, _>(header, self.producer_id.to_be_bytes());
        set_field::<51, _, _>(header, self.producer_epoch.to_be_bytes());
        set_field::<53, _, _>(header, self.base_sequence.to_be_bytes());
        set_field::<57, _, _>(header, self.record_count.to_be_bytes());
        write_crc(batch);
    }

    /// Returns whether the checksum of the batch is right. `batch` is exactly the batch.
    #[inline]
    pub(crate) fn crc_is_valid(&self, batch: &[u8]) -> bool {
        if self.magic < 2 {
            return legacy::crc_is_valid(batch);
        }
        batch.len() == self.size_bytes as usize
            && batch
                .get(CHECKED_FROM..)
                .is_some_and(|checked| crc32c(checked) == self.crc)
    }

    pub(crate) fn codec(&self) -> Result<Compression, Malformed> {
        compression::codec_of(self.attributes)
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.magic >= 2 && self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.magic >= 2 && self.attributes & CONTROL != 0
    }

    /// Returns the type of the timestamps, or `None` for v0, which has no timestamps.
    #[inline]
    pub(crate) fn timestamp_type(&self) -> Option<TimestampType> {
        match self.attributes & LOG_APPEND_TIME {
            _ if self.magic == 0 => None,
            0 => Some(TimestampType::CreateTime),
            _ => Some(TimestampType::LogAppendTime),
        }
    }

    /// Returns the timestamp of a record with this delta in a v2 batch.
    #[inline]
    fn timestamp_of(&self, delta: i64) -> i64 {
        match self.timestamp_type() {
            Some(TimestampType::LogAppendTime) => self.max_timestamp,
            _ => self.base_timestamp.wrapping_add(delta),
        }
    }

    /// Returns the time from which on compaction may drop the tombstones and markers of this batch.
    /// Returns `None` if compaction has not set it yet.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.magic >= 2 && self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Returns the sequence number of the last record, or -1 if the batch has no sequence numbers.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.sequence_at(self.last_offset)
    }

    /// Returns the sequence number of the record at an offset, or -1 if the batch has no sequence
    /// numbers. After `i32::MAX` comes 0.
    pub(crate) fn sequence_at(&self, offset: u64) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sequence = u64::from(self.base_sequence.cast_unsigned())
            .wrapping_add(offset.wrapping_sub(self.base_offset));
        (sequence & 0x7fff_ffff) as i32
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
}

/// Returns the distance from the base offset of a v2 batch to its last offset: the one that its
/// header states, or more if the batch has more records than that.
///
/// Until 2018, a client library stated 0 for batches of any size, and brokers accepted them. The
/// offset deltas of their records are right. A record count that does not fit into the bytes of the
/// batch is ignored.
#[inline]
fn last_offset_delta(stated: i32, record_count: u32, attributes: u16, size_bytes: u32) -> u32 {
    /// The size of a record of one-byte fields: length, attributes, two deltas, two lengths and a
    /// count.
    const MIN_RECORD_BYTES: u32 = 7;
    let stated = u32::try_from(stated).unwrap_or(0);
    if record_count <= stated.saturating_add(1) || record_count > MAX_I32 {
        return stated;
    }
    let is_plain = attributes & CODEC == 0;
    let has_room =
        !is_plain || record_count <= size_bytes.saturating_sub(MIN_V2_BYTES) / MIN_RECORD_BYTES;
    if has_room { record_count - 1 } else { stated }
}

/// Returns the decompressed records of a batch, at most `limit` bytes. Returns `None` if they are
/// not compressed, so that callers read them from the batch itself, without a copy.
pub(crate) fn decompressed(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, Malformed> {
    if header.magic < 2 {
        return legacy::decompressed(header, batch, limit);
    }
    let codec = header.codec()?;
    if codec == Compression::None || header.record_count == 0 {
        return Ok(None);
    }
    let records = batch
        .get(HEADER_BYTES..)
        .ok_or(Malformed("the header of a batch is cut short"))?;
    compression::decompress(codec, header.magic, records, limit).map(Some)
}

/// Sets the base offset and the leader epoch of a batch. The CRC does not cover them.
#[inline]
pub(crate) fn stamp(batch: &mut [u8], base_offset: u64, leader_epoch: i32) {
    debug_assert!(base_offset <= MAX_OFFSET, "offsets are not negative");
    let header = header_of(batch);
    set_field::<0, _, _>(header, base_offset.to_be_bytes());
    set_field::<12, _, _>(header, leader_epoch.to_be_bytes());
}

/// Sets the producer of a batch, and recomputes its CRC.
pub(crate) fn stamp_producer(batch: &mut [u8], producer: ProducerStamp) {
    let header = header_of(batch);
    set_field::<43, _, _>(header, producer.id.to_be_bytes());
    set_field::<51, _, _>(header, producer.epoch.to_be_bytes());
    set_field::<53, _, _>(header, producer.sequence.to_be_bytes());
    write_crc(batch);
}

/// Makes the batch a part of its producer's transaction. The CRC is wrong until
/// [`stamp_producer`] follows.
pub(crate) fn stamp_transactional(batch: &mut [u8]) {
    let header = header_of(batch);
    let attributes = u16::from_be_bytes(field::<21, _, _>(header)) | TRANSACTIONAL;
    set_field::<21, _, _>(header, attributes.to_be_bytes());
}

/// Sets the timestamp type of a batch to `LogAppendTime` and its max timestamp to `now`, and
/// recomputes its CRC.
pub(crate) fn stamp_append_time(batch: &mut [u8], now: i64) {
    let header = header_of(batch);
    let attributes = u16::from_be_bytes(field::<21, _, _>(header)) | LOG_APPEND_TIME;
    set_field::<21, _, _>(header, attributes.to_be_bytes());
    set_field::<35, _, _>(header, now.to_be_bytes());
    write_crc(batch);
}

fn codec_bits(codec: Compression) -> u16 {
    match codec {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// Returns the header of a batch that we made.
#[expect(clippy::expect_used, reason = "we made the batch, so it has a header")]
#[inline]
fn header_of(batch: &mut [u8]) -> &mut [u8; HEADER_BYTES] {
    batch.first_chunk_mut().expect("a batch has a header")
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32c(batch.get(CHECKED_FROM..).unwrap_or_default());
    set_field::<17, _, _>(header_of(batch), crc.to_be_bytes());
}
