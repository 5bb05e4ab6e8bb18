//! Appends records to the log.
//!
//! An append encodes its batch without a lock. Under the writer lock it rolls if that is due,
//! stamps the batch with its offsets, writes it in one call and publishes it. After the lock it
//! wakes readers and, if the caller asked for it, waits for a sync.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::encode::{EncodedBatch, check_size};
use crate::clock::Timestamp;
use crate::config::{Compression, Durability, TimestampType};
use crate::error::{At, Error, Result};
use crate::format::batch::{BatchHeader, ProducerStamp};
use crate::format::file_name;
use crate::format::record::Record;
use crate::partition::state::producers::SequenceFault;
use crate::partition::{PartitionCore, Writer};
use crate::segment::AppendError;
use crate::sync::MutexGuard;

/// The place and the timestamp of an appended record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The number of the partition.
    pub partition: u32,
    /// The offset of the record.
    pub offset: u64,
    /// The timestamp that was stored with the record.
    pub timestamp: Timestamp,
}

/// A batch that was appended.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    pub(crate) offsets: Range<u64>,
    /// Largest timestamp of the batch. For one record, its own timestamp.
    pub(crate) max_timestamp: i64,
    /// The number of re-openings that had lost records.
    pub(in crate::partition) losses: u64,
    /// The number of times that the partition had been cut.
    pub(in crate::partition) truncations: u64,
}

impl Appended {
    /// Returns whether a sync of this batch also syncs an earlier one of the same partition.
    pub(crate) fn covers(&self, earlier: &Self) -> bool {
        earlier.offsets.end <= self.offsets.end && earlier.truncations == self.truncations
    }
}

impl PartitionCore {
    /// Appends the records as one batch, either all or none, and waits until the batch is as
    /// durable as the topic or `durability` asks.
    pub(in crate::partition) fn append<'a, R: Into<Record<'a>>>(
        &self,
        durability: Durability,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended> {
        self.append_if(durability, None, records)
    }

    /// Appends as [`append`](Self::append) does, but only if the log still ends at `expected_end`,
    /// unless that is `None`.
    pub(in crate::partition) fn append_if<'a, R: Into<Record<'a>>>(
        &self,
        durability: Durability,
        expected_end: Option<u64>,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        let now = self.context.clock.now().as_millis();
        let Some(mut encoded) = self.encode(&settings, now, records)? else {
            let end = self.log_end_offset();
            self.check_end(expected_end, end)?;
            return Ok(Appended {
                offsets: end..end,
                max_timestamp: -1,
                losses: 0,
                truncations: 0,
            });
        };
        let appended = self.write(expected_end, &mut encoded);
        self.finish_append(settings.flush_messages, durability, encoded, appended)
    }

    /// Appends one record as [`append`](Self::append) does.
    ///
    /// The record is encoded under the writer lock: that takes less time than to get the settings
    /// without it. A record that is to be compressed is encoded before.
    pub(in crate::partition) fn append_one(
        &self,
        durability: Durability,
        record: Record<'_>,
    ) -> Result<Appended> {
        let now = self.context.clock.now().as_millis();
        let mut writer = self.lock_to_append();
        if writer.settings.compression.codec(Compression::None) != Compression::None {
            drop(writer);
            return self.append(durability, [record]);
        }
        self.check_writable()?;
        let mut encoded = self.encode_one(&writer.settings, now, &record)?;
        let appended = self.write_at_end(&mut writer, &mut encoded);
        let flush_messages = writer.settings.flush_messages;
        drop(writer);
        self.finish_append(flush_messages, durability, encoded, appended)
    }

    /// Gives the buffer of the batch back, and does what follows if the batch was appended. The
    /// caller holds no lock.
    #[inline]
    fn finish_append(
        &self,
        flush_messages: i64,
        durability: Durability,
        encoded: EncodedBatch,
        appended: Result<Appended>,
    ) -> Result<Appended> {
        let bytes = encoded.bytes.len();
        self.context.buffers.give_back(encoded.bytes);
        let appended = appended?;
        self.after_append(flush_messages, durability, &appended)?;
        self.note_append(bytes);
        Ok(appended)
    }

    /// Checks that the log ends where the caller of an append expects it to.
    fn check_end(&self, expected: Option<u64>, log_end: u64) -> Result<()> {
        match expected {
            Some(expected) if expected != log_end => Err(Error::EndMoved {
                partition: self.id().clone(),
                expected,
                log_end,
            }),
            _ => Ok(()),
        }
    }

    /// Writes the batch and publishes it, all under the writer lock.
    pub(in crate::partition) fn write(
        &self,
        expected_end: Option<u64>,
        encoded: &mut EncodedBatch,
    ) -> Result<Appended> {
        let mut writer = self.lock_to_append();
        self.check_writable()?;
        let base = self.bounds.log_end();
        self.check_end(expected_end, base)?;
        if let Some(repeated) = self.check_producer(&mut writer, encoded)? {
            return Ok(repeated);
        }
        self.write_at_end(&mut writer, encoded)
    }

    /// Writes the batch at the log end and publishes it. The caller holds the writer lock, and has
    /// checked that the batch may be appended.
    pub(super) fn write_at_end(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        encoded: &mut EncodedBatch,
    ) -> Result<Appended> {
        let base = self.bounds.log_end();
        self.begin_change()?;
        self.stamp_time(writer, encoded);
        debug_assert!(encoded.header.record_count > 0, "a batch has records");
        let end = base + u64::from(encoded.header.record_count);
        if end > i64::MAX.unsigned_abs() {
            return Err(self.out_of_range(end));
        }
        let size_and_time = (encoded.bytes.len(), encoded.header.max_timestamp);
        self.roll_if_due(writer, size_and_time, base, end - 1)?;
        debug_assert!(
            writer.active.base_offset <= base,
            "the active segment begins at or below the log end"
        );
        self.assign_epoch(writer, base)?;
        encoded.stamp(base, writer.leader_epoch);
        let appended = writer.active.append(
            &encoded.bytes,
            end - 1,
            encoded.header.max_timestamp,
            writer.settings.index_interval_bytes,
        );
        appended.map_err(|failed| self.not_appended(writer, failed))?;
        self.note_producer(writer, encoded);
        self.publish(writer, [&encoded.header], encoded.bytes.len(), end);
        Ok(self.appended(base..end, encoded.header.max_timestamp))
    }

    /// Sets the time of the append, if the topic uses `LogAppendTime`.
    #[inline]
    pub(super) fn stamp_time(&self, writer: &Writer, encoded: &mut EncodedBatch) {
        if writer.settings.timestamp_type == TimestampType::LogAppendTime {
            encoded.stamp_append_time(self.context.clock.now().as_millis());
        }
    }

    /// Publishes batches that are in the file and in the state of their producers: readers find
    /// all records below `end`.
    pub(super) fn publish<'a>(
        &self,
        writer: &mut Writer,
        headers: impl IntoIterator<Item = &'a BatchHeader>,
        bytes: usize,
        end: u64,
    ) {
        for header in headers {
            writer.first_timestamp.get_or_insert(header.max_timestamp);
            writer.unflushed += u64::from(header.record_count);
        }
        let appended_bytes = self.appended_bytes.load(Ordering::Relaxed) + bytes as u64;
        self.appended_bytes.store(appended_bytes, Ordering::Relaxed);
        self.bounds.set_log_end(end);
        self.assert_bounds();
    }

    /// Returns the place of batches in the log as it is now.
    pub(super) fn appended(&self, offsets: Range<u64>, max_timestamp: i64) -> Appended {
        Appended {
            offsets,
            max_timestamp,
            losses: self.reopening.losses(),
            truncations: self.truncations(),
        }
    }

    /// Returns the error of a write that failed. If its part in the file could not be cut off, the
    /// partition refuses writes from then on.
    pub(super) fn not_appended(&self, writer: &Writer, failed: AppendError) -> Error {
        let path = writer.active.log_path();
        if failed.end_is_unknown {
            let cause = self.health.poison(failed.source);
            return Error::Io {
                action: "append to",
                path: path.to_owned(),
                source: cause,
            };
        }
        Error::io("append to", path, failed.source)
    }

    /// Adds a batch to the state of its producer, before the batch is published. The batch has its
    /// offsets and is in the file.
    ///
    /// A batch may open a transaction, and a marker ends one. Readers of committed records must see
    /// that no later than the batch: they load the log end first, and then the first offset that is
    /// not stable.
    fn note_producer(&self, writer: &mut Writer, encoded: &EncodedBatch) {
        if let Some(ended) = encoded.note_producer(&mut writer.producers) {
            writer.active.add_aborted([ended]);
        }
        if encoded.header.is_transactional() {
            self.bounds
                .set_first_unstable(writer.producers.first_unstable_offset());
        }
    }

    /// Wakes readers after a batch was published, and syncs it if that was asked for. The caller
    /// holds no lock.
    pub(super) fn after_append(
        &self,
        flush_messages: i64,
        durability: Durability,
        appended: &Appended,
    ) -> Result<()> {
        let is_synced_topic = self.is_synced_topic.load(Ordering::Relaxed);
        if !is_synced_topic {
            self.waiters.notify();
        }
        if is_synced_topic || durability == Durability::Synced {
            self.sync_appended(appended)?;
        }
        self.flush_if_many(flush_messages, appended)
    }

    /// Counts an append towards the size limit of the log. An internal topic does not count here,
    /// because its appends hold locks of the groups.
    #[inline]
    pub(in crate::partition) fn note_append(&self, bytes: usize) {
        if let Some(bound) = &self.context.bound
            && !file_name::is_internal_topic(&self.id().topic)
        {
            bound.note_append(bytes);
        }
    }

    /// Flushes if `flush.messages` records were appended since the last time.
    pub(in crate::partition) fn flush_if_many(
        &self,
        flush_messages: i64,
        appended: &Appended,
    ) -> Result<()> {
        if flush_messages < i64::MAX {
            let mut writer = self.writer.lock();
            if i64::try_from(writer.unflushed).is_ok_and(|unflushed| unflushed >= flush_messages) {
                writer.unflushed = 0;
                drop(writer);
                self.sync_appended(appended)?;
                // The records are on the device. The append succeeds even if the indexes could not
                // be written.
                let _tried_again_later = self.flush();
            }
        }
        Ok(())
    }

    /// Returns whether the log was cut below the end of the batch since it was appended.
    pub(crate) fn is_cut_off(&self, appended: &Appended) -> bool {
        self.lowest_cut_since(appended.truncations)
            .is_some_and(|lowest| lowest < appended.offsets.end)
    }

    /// Waits until the batch is on the device. Returns an error if a re-opening has lost it in the
    /// meantime.
    pub(crate) fn sync_appended(&self, appended: &Appended) -> Result<()> {
        let end = appended.offsets.end;
        self.sync_to(end)?;
        if !self.reopening.has_lost_below(end, appended.losses) {
            return Ok(());
        }
        // Other records may have these offsets by now.
        let source = Arc::new(io::Error::other(
            "the partition was re-opened before the sync was done, and had lost its end",
        ));
        Err(Error::SyncFailed {
            path: self.dir().to_owned(),
            source,
        })
    }

    /// Starts the writer's leader epoch at `base`, unless the log is already in it. The checkpoint
    /// is written before the first batch of the epoch.
    pub(super) fn assign_epoch(&self, writer: &mut Writer, base: u64) -> Result<()> {
        debug_assert_eq!(base, self.log_end_offset(), "a batch is at the log end");
        if writer.epochs.latest() == Some(writer.leader_epoch) {
            return Ok(());
        }
        let mut epochs = writer.epochs.clone();
        if epochs.assign(writer.leader_epoch, base) {
            epochs
                .store(&*self.context.storage, self.dir())
                .at("write the leader epochs of", self.dir())?;
            writer.epochs = epochs;
        }
        Ok(())
    }

    /// Writes the batch, either all of it or none, and wakes readers that need not wait for a sync.
    /// If the producer has written the batch before, it is not written again, and its first offsets
    /// are returned.
    ///
    /// # Errors
    ///
    /// Returns the errors of an append, and [`Error::OutOfOrderSequence`] or
    /// [`Error::ProducerFenced`] if the batch does not follow the last one of its producer.
    pub(crate) fn append_encoded(&self, encoded: &mut EncodedBatch) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        check_size(&settings, encoded.bytes.len())?;
        let appended = self.write(None, encoded)?;
        if !self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        self.note_append(encoded.bytes.len());
        Ok(appended)
    }

    /// Returns whether a batch with this durability is acknowledged only once it is on the device.
    /// Then the caller must wait with [`sync_appended`](Self::sync_appended).
    pub(crate) fn is_to_be_synced(&self, durability: Durability) -> bool {
        durability == Durability::Synced || self.is_synced_topic.load(Ordering::Relaxed)
    }

    /// Flushes if `flush.messages` of the topic asks for it.
    pub(crate) fn flush_if_due(&self, appended: &Appended) -> Result<()> {
        self.flush_if_many(self.settings().flush_messages, appended)
    }

    /// Checks that the batch follows the last one of its producer. Returns the place of the batch
    /// if the log contains it already. The caller holds the writer lock.
    pub(in crate::partition) fn check_producer(
        &self,
        writer: &mut Writer,
        encoded: &EncodedBatch,
    ) -> Result<Option<Appended>> {
        debug_assert!(
            self.writer.is_locked(),
            "no batch comes between the check and the write"
        );
        let Some(producer) = encoded.producer else {
            return Ok(None);
        };
        if !writer.producers.knows(producer.id) {
            // This batch adds a producer, so the expired ones make room for it.
            writer.forget_expired_producers(self.context.clock.now());
            return Ok(None);
        }
        match writer
            .producers
            .check(&producer, encoded.header.record_count)
        {
            Ok(None) => Ok(None),
            Ok(Some(batch)) => Ok(Some(self.appended(batch.offsets, batch.timestamp))),
            Err(fault) => Err(self.sequence_error(&producer, fault)),
        }
    }

    /// Returns the error for a batch that does not follow the last one of its producer.
    pub(super) fn sequence_error(&self, producer: &ProducerStamp, fault: SequenceFault) -> Error {
        let partition = self.id().clone();
        match fault {
            SequenceFault::Fenced => Error::ProducerFenced {
                partition,
                producer_id: producer.id,
                epoch: producer.epoch,
            },
            SequenceFault::Expected(expected) => Error::OutOfOrderSequence {
                partition,
                producer_id: producer.id,
                expected,
                found: producer.sequence,
            },
        }
    }
}

#[cfg(test)]
mod tests;
