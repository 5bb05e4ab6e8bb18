//! Appends batches that were made elsewhere, as they are.
//!
//! The batches are checked without a lock. Under the writer lock they get their offsets, are
//! written, and are published together, so readers see all of them or none. All fields that the
//! log changes are in the header of a batch, so the records of a large batch are not copied.

use std::borrow::Cow;
use std::ops::Range;

use super::append::Appended;
use super::encode::{check_fields, check_size};
use crate::config::{CleanupPolicy, Durability, TimestampType, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{self, Accepted, BatchHeader, HEADER_BYTES, ProducerStamp, stamp};
use crate::format::record::RawRecord;
use crate::format::{Malformed, compression};
use crate::partition::{PartitionCore, Writer};
use crate::segment::AppendedBatch;

/// A batch of more bytes than this is written from the bytes of the caller, in two calls. Copying
/// a smaller one costs less than a second call.
const MAX_COPIED_BYTES: usize = 32 << 10;

/// A batch that passed the checks which need no lock.
struct RawBatch<'a> {
    header: BatchHeader,
    /// The part of the batch that is in the buffer: its header, or all of it.
    front: Range<usize>,
    /// The bytes after the front.
    rest: &'a [u8],
}

/// Batches that are appended together.
struct RawBatches<'a> {
    batches: Vec<RawBatch<'a>>,
    /// The fronts, one after the other. Their last fields are set under the writer lock.
    buffer: Vec<u8>,
    bytes: usize,
}

/// Why a record cannot be appended.
#[derive(Clone, Copy)]
enum Fault {
    /// The batch is malformed or cannot be decompressed.
    Batch(Malformed),
    /// The topic refuses the record of this number.
    Record(u32, &'static str),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Batch(malformed)
    }
}

fn invalid(index: usize, reason: impl Into<Cow<'static, str>>) -> Error {
    Error::InvalidBatch {
        index,
        reason: reason.into(),
    }
}

/// Returns the number of offsets that a batch takes.
fn offsets_of(header: &BatchHeader) -> u64 {
    header.last_offset - header.base_offset + 1
}

fn producer_of(header: &BatchHeader) -> Option<ProducerStamp> {
    header.has_producer().then_some(ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence,
    })
}

impl<'a> RawBatches<'a> {
    /// Copies the batch, or only its header if it is large.
    fn push(&mut self, mut header: BatchHeader, batch: &'a [u8], max_timestamp: i64) {
        let copied = if batch.len() > MAX_COPIED_BYTES {
            HEADER_BYTES
        } else {
            batch.len()
        };
        let (front, rest) = batch.split_at(copied);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(front);
        let is_changed = batch::settle(&mut header, max_timestamp);
        self.batches.push(RawBatch {
            header,
            front: start..start + copied,
            rest,
        });
        self.bytes += batch.len();
        if is_changed {
            self.write_times(self.batches.len() - 1);
        }
    }

    /// Writes the times of a batch's header into its front.
    fn write_times(&mut self, index: usize) {
        if let Some(batch) = self.batches.get(index)
            && let Some(front) = self.buffer.get_mut(batch.front.clone())
        {
            batch::write_times(&batch.header, front, batch.rest);
        }
    }

    /// Sets the time of the append in each batch.
    fn stamp_append_time(&mut self, now: i64) {
        for index in 0..self.batches.len() {
            if let Some(batch) = self.batches.get_mut(index) {
                batch::settle_append_time(&mut batch.header, now);
            }
            self.write_times(index);
        }
    }

    /// Numbers the batches from `base` on. Returns the offset after the last one.
    fn stamp(&mut self, base: u64, leader_epoch: i32) -> u64 {
        let mut next = base;
        for batch in &mut self.batches {
            if let Some(front) = self.buffer.get_mut(batch.front.clone()) {
                stamp(front, next, leader_epoch);
            }
            batch.header.place(next, leader_epoch);
            next = batch.header.last_offset + 1;
        }
        next
    }

    /// Returns the bytes of all batches, in as few pieces as possible.
    fn pieces(&self) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for batch in self.batches.iter().filter(|batch| !batch.rest.is_empty()) {
            pieces.push(self.buffer.get(start..batch.front.end).unwrap_or_default());
            pieces.push(batch.rest);
            start = batch.front.end;
        }
        pieces.push(self.buffer.get(start..).unwrap_or_default());
        pieces.retain(|piece| !piece.is_empty());
        debug_assert_eq!(
            pieces.iter().map(|piece| piece.len()).sum::<usize>(),
            self.bytes,
            "the pieces are the batches"
        );
        pieces
    }

    fn headers(&self) -> impl Iterator<Item = &BatchHeader> {
        self.batches.iter().map(|batch| &batch.header)
    }

    fn max_timestamp(&self) -> i64 {
        let timestamps = self.headers().map(|header| header.max_timestamp);
        timestamps.max().unwrap_or(-1)
    }

    /// Returns the first batch in which some offsets lack a record.
    fn with_gaps(&self) -> Option<usize> {
        self.headers()
            .position(|header| u64::from(header.record_count) < offsets_of(header))
    }
}

impl PartitionCore {
    /// Appends whole batches of format v2, all or none, and waits as
    /// [`append`](Self::append) does.
    pub(in crate::partition) fn append_raw(
        &self,
        durability: Durability,
        bytes: &[u8],
    ) -> Result<Range<u64>> {
        self.check_writable()?;
        let settings = self.settings();
        let mut batches = RawBatches {
            batches: Vec::new(),
            buffer: self.context.buffers.take(),
            bytes: 0,
        };
        batches.buffer.clear();
        let appended = self
            .check_raw(&settings, bytes, &mut batches)
            .and_then(|()| self.write_raw(&mut batches));
        self.context.buffers.give_back(batches.buffer);
        let appended = appended?;
        self.after_append(settings.flush_messages, durability, &appended)?;
        self.note_append(bytes.len());
        Ok(appended.offsets)
    }

    /// Checks the batches and adds them to `batches`.
    fn check_raw<'a>(
        &self,
        settings: &TopicSettings,
        bytes: &'a [u8],
        batches: &mut RawBatches<'a>,
    ) -> Result<()> {
        let now = self.context.clock.now().as_millis();
        let limit = self.context.max_decompressed_bytes;
        if bytes.is_empty() {
            return Err(invalid(0, "there are no bytes: pass whole batches"));
        }
        // All batches go to one segment.
        check_segment_size(settings, bytes.len())?;
        let oldest = now.saturating_sub(settings.timestamp_before_max_ms).max(0);
        let accepted = Accepted {
            needs_keys: settings.cleanup_policy != CleanupPolicy::Delete,
            timestamps: oldest..=now.saturating_add(settings.timestamp_after_max_ms),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let index = batches.batches.len();
            let (header, batch) =
                batch::first_whole(rest).map_err(|malformed| invalid(index, malformed.0))?;
            check_size(settings, batch.len())?;
            let check = |number, raw: &RawRecord<'_>| {
                let timestamp = (raw.timestamp != -1).then_some(raw.timestamp);
                check_fields(settings, raw.key.is_some(), timestamp, now)
                    .map_err(|reason| Fault::Record(number, reason))
            };
            let max_timestamp = batch::check_records(&header, batch, limit, &accepted, check)
                .map_err(|fault| self.refused(index, fault))?;
            batches.push(header, batch, max_timestamp);
            rest = rest.get(batch.len()..).unwrap_or_default();
        }
        Ok(())
    }

    fn refused(&self, index: usize, fault: Fault) -> Error {
        match fault {
            Fault::Record(number, reason) => invalid(index, format!("record {number}: {reason}")),
            Fault::Batch(malformed) if compression::is_left_out(malformed) => {
                self.cannot_encode(malformed)
            }
            Fault::Batch(malformed) if compression::is_over_limit(malformed) => invalid(
                index,
                "it decompresses to more than `LogConfig::max_decompressed_bytes`: open the log \
                 with a larger limit, or append its records instead",
            ),
            Fault::Batch(malformed) => invalid(
                index,
                format!("{}: read it from its source again", malformed.0),
            ),
        }
    }

    /// Writes the batches and publishes them together, all under the writer lock.
    fn write_raw(&self, batches: &mut RawBatches<'_>) -> Result<Appended> {
        let mut writer = self.lock_to_append();
        self.check_writable()?;
        if let Some(index) = batches.with_gaps().filter(|_| self.is_dense()) {
            return Err(invalid(
                index,
                "compaction removed records from it, and this topic was never compacted: append \
                 its records instead, or set `cleanup.policy` to `compact`",
            ));
        }
        let base = self.bounds.log_end();
        let end = base.saturating_add(batches.headers().map(offsets_of).sum());
        if end > i64::MAX.unsigned_abs() || end - base > 1 << 31 {
            return Err(invalid(0, "the batches take too many offsets: pass fewer"));
        }
        if let Some(offsets) = self.check_producers(&mut writer, batches)? {
            return Ok(self.appended(offsets, batches.max_timestamp()));
        }
        self.begin_change()?;
        if writer.settings.timestamp_type == TimestampType::LogAppendTime {
            batches.stamp_append_time(self.context.clock.now().as_millis());
        }
        let max_timestamp = batches.max_timestamp();
        let size_and_time = (batches.bytes, max_timestamp);
        self.roll_if_due(&mut writer, size_and_time, base, end - 1)?;
        self.assign_epoch(&mut writer, base)?;
        let stamped = batches.stamp(base, writer.leader_epoch);
        debug_assert_eq!(stamped, end, "the batches are one after the other");
        let written = batches.headers().map(|header| AppendedBatch {
            size_bytes: header.size_bytes,
            last_offset: header.last_offset,
            max_timestamp: header.max_timestamp,
        });
        let interval_bytes = writer.settings.index_interval_bytes;
        writer
            .active
            .append_all(&batches.pieces(), written, interval_bytes)
            .map_err(|failed| self.not_appended(&writer, failed))?;
        for header in batches.headers() {
            let _data_ends_no_transaction = writer.producers.replay(header, None);
        }
        self.publish(&mut writer, batches.headers(), batches.bytes, end);
        Ok(self.appended(base..end, max_timestamp))
    }

    /// Checks that each batch follows the last one of its producer. Returns the offsets of the
    /// batches if the log has all of them already, one after the other.
    fn check_producers(
        &self,
        writer: &mut Writer,
        batches: &RawBatches<'_>,
    ) -> Result<Option<Range<u64>>> {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        let producers = batches.headers().filter_map(producer_of);
        let ids: Vec<i64> = producers.map(|producer| producer.id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        if ids.iter().any(|id| !writer.producers.knows(*id)) {
            writer.forget_expired_producers(self.context.clock.now());
        }
        // A batch may follow an earlier one of the same call.
        let mut states = writer.producers.only(&ids);
        let mut repeated: Vec<(usize, Range<u64>)> = Vec::new();
        for (index, header) in batches.headers().enumerate() {
            let Some(producer) = producer_of(header) else {
                continue;
            };
            let count = u32::try_from(offsets_of(header)).unwrap_or(u32::MAX);
            match states.check(&producer, count) {
                Ok(None) => {
                    let _data_ends_no_transaction = states.replay(header, None);
                }
                Ok(Some(batch)) => repeated.push((index, batch.offsets)),
                Err(fault) => return Err(self.sequence_error(&producer, fault)),
            }
        }
        let (Some((index, first)), Some((_, last))) = (repeated.first(), repeated.last()) else {
            return Ok(None);
        };
        let is_as_before = repeated.len() == batches.batches.len()
            && repeated.windows(2).all(|pair| match pair {
                [(_, one), (_, next)] => one.end == next.start,
                _ => true,
            });
        if !is_as_before {
            return Err(invalid(
                *index,
                "the log has it already, but not all batches of this call: append them one by one",
            ));
        }
        Ok(Some(first.start..last.end))
    }
}

/// Returns an error unless all batches of a call fit into one segment.
fn check_segment_size(settings: &TopicSettings, bytes: usize) -> Result<()> {
    let limit = u64::from(settings.segment_bytes);
    if bytes as u64 > limit {
        return Err(Error::RecordTooLarge {
            bytes: bytes as u64,
            limit,
            key: "segment.bytes",
        });
    }
    Ok(())
}
