//! Appending: encode outside any lock, then lock, stamp, roll if due, write once, publish, unlock,
//! wake, sync.

use crate::partition::state::producers::SequenceFault;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::encode::{EncodedBatch, check_size};
use crate::clock::Timestamp;
use crate::config::{Durability, TimestampType, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{stamp, stamp_append_time};
use crate::format::file_name;
use crate::format::record::Record;
use crate::partition::{PartitionCore, Writer};

/// What an append answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// Partition that the record went to.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The timestamp that was stored with it.
    pub timestamp: Timestamp,
}

/// What was appended.
pub(crate) struct Appended {
    pub(crate) offsets: Range<u64>,
    /// Largest timestamp of the batch: the record's own where there is one record.
    pub(crate) max_timestamp: i64,
    /// How often the partition had been re-opened, and how often it had been cut.
    pub(in crate::partition) reopens: u64,
    pub(in crate::partition) truncations: u64,
}

impl PartitionCore {
    /// Appends the records as one batch, all or nothing, and waits until it is as durable as the
    /// topic or `durability` asks.
    pub(in crate::partition) fn append<'a, R: Into<Record<'a>>>(
        &self,
        durability: Durability,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        let now = self.context.clock.now().as_millis();
        let Some(mut encoded) = self.encode(&settings, now, records)? else {
            let end = self.log_end_offset();
            return Ok(Appended {
                offsets: end..end,
                max_timestamp: -1,
                reopens: 0,
                truncations: 0,
            });
        };
        let appended = self.write(&settings, &mut encoded);
        let bytes = encoded.bytes.len();
        self.context.buffers.give_back(encoded.bytes);
        let appended = appended?;
        self.after_append(&settings, durability, &appended)?;
        self.note_append(bytes);
        Ok(appended)
    }

    /// The part under the writer lock.
    pub(in crate::partition) fn write(
        &self,
        settings: &TopicSettings,
        encoded: &mut EncodedBatch,
    ) -> Result<Appended> {
        let mut writer = self.lock_to_append();
        self.check_writable()?;
        if let Some(repeated) = self.check_producer(&mut writer, encoded)? {
            return Ok(repeated);
        }
        self.begin_change()?;
        if settings.timestamp_type == TimestampType::LogAppendTime {
            let now = self.context.clock.now().as_millis();
            stamp_append_time(&mut encoded.bytes, now);
            encoded.max_timestamp = now;
        }
        let base = self.bounds.log_end();
        let end = base + u64::from(encoded.record_count);
        if end > i64::MAX.unsigned_abs() {
            return Err(self.out_of_range(end));
        }
        self.roll_if_due(&mut writer, settings, encoded, base, end - 1)?;
        self.assign_epoch(&mut writer, base)?;
        stamp(&mut encoded.bytes, base, writer.leader_epoch);
        let appended = writer.active.append(
            &encoded.bytes,
            end - 1,
            encoded.max_timestamp,
            settings.index_interval_bytes,
        );
        if let Err(failed) = appended {
            let path = writer.active.log_path();
            if failed.end_is_unknown {
                let cause = self.health.poison(failed.source);
                return Err(Error::Io {
                    action: "append to",
                    path: path.to_owned(),
                    source: cause,
                });
            }
            return Err(Error::io("append to", path, failed.source));
        }
        encoded.note_producer(&mut writer.producers);
        writer.first_timestamp.get_or_insert(encoded.max_timestamp);
        writer.unflushed += u64::from(encoded.record_count);
        let appended_bytes =
            self.appended_bytes.load(Ordering::Relaxed) + encoded.bytes.len() as u64;
        self.appended_bytes.store(appended_bytes, Ordering::Relaxed);
        self.bounds.set_log_end(end);
        self.assert_bounds();
        let (reopens, truncations) = (self.reopening.count(), self.truncations());
        Ok(Appended {
            offsets: base..end,
            max_timestamp: encoded.max_timestamp,
            reopens,
            truncations,
        })
    }

    /// The part behind the writer lock: wake readers, and sync as far as it was asked for.
    fn after_append(
        &self,
        settings: &TopicSettings,
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
        self.flush_if_many(settings, appended)
    }

    /// Counts an append towards the bound of the log. Internal topics do not look: their appends
    /// hold locks of the groups.
    #[inline]
    pub(in crate::partition) fn note_append(&self, bytes: usize) {
        if let Some(bound) = &self.context.bound
            && !file_name::is_internal_topic(&self.id().topic)
        {
            bound.note_append(bytes);
        }
    }

    /// Flushes where `flush.messages` says so.
    pub(in crate::partition) fn flush_if_many(
        &self,
        settings: &TopicSettings,
        appended: &Appended,
    ) -> Result<()> {
        if settings.flush_messages < i64::MAX {
            let mut writer = self.writer.lock();
            if i64::try_from(writer.unflushed)
                .is_ok_and(|unflushed| unflushed >= settings.flush_messages)
            {
                writer.unflushed = 0;
                drop(writer);
                self.sync_appended(appended)?;
                // The records are on the device: that their indexes are not, or the disk is full,
                // is no failure of theirs.
                let _tried_again_later = self.flush();
            }
        }
        Ok(())
    }

    /// Waits until what was appended is on the device.
    pub(crate) fn sync_appended(&self, appended: &Appended) -> Result<()> {
        let end = appended.offsets.end;
        self.sync_to(end)?;
        if self.reopening.count() == appended.reopens {
            return Ok(());
        }
        if self
            .lowest_cut_since(appended.truncations)
            .is_none_or(|lowest| lowest >= end)
        {
            // It was found in its place, and synced there.
            return Ok(());
        }
        // Others may have these offsets by now.
        let source = Arc::new(io::Error::other(
            "the partition was re-opened before the sync was done, and had lost its end",
        ));
        Err(Error::SyncFailed {
            path: self.dir().to_owned(),
            source,
        })
    }

    /// A new leader epoch begins with this batch: the checkpoint says so before it is written.
    fn assign_epoch(&self, writer: &mut Writer, base: u64) -> Result<()> {
        if writer.epochs.latest() == Some(writer.leader_epoch) {
            return Ok(());
        }
        let mut epochs = writer.epochs.clone();
        if epochs.assign(writer.leader_epoch, base) {
            epochs
                .store(&*self.context.storage, self.dir())
                .map_err(self.io("write the leader epochs of"))?;
            writer.epochs = epochs;
        }
        Ok(())
    }

    /// Writes the batch, all or nothing, and wakes readers that need not wait for a sync. A batch
    /// that its producer has written already is answered with where it stands, and is not written
    /// again.
    ///
    /// # Errors
    /// As of an append; `OutOfOrderSequence` and `ProducerFenced` where the batch does not follow
    /// on its producer's last.
    pub(crate) fn append_encoded(&self, encoded: &mut EncodedBatch) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        check_size(&settings, encoded.bytes.len())?;
        let appended = self.write(&settings, encoded)?;
        if !self.is_synced_topic.load(Ordering::Relaxed) {
            self.waiters.notify();
        }
        self.note_append(encoded.bytes.len());
        Ok(appended)
    }

    /// Whether what is appended with `durability` is acknowledged only once it is on the device:
    /// see [`sync_appended`](Self::sync_appended).
    pub(crate) fn is_to_be_synced(&self, durability: Durability) -> bool {
        durability == Durability::Synced || self.is_synced_topic.load(Ordering::Relaxed)
    }

    /// Flushes if as many records were appended as `flush.messages` says.
    pub(crate) fn flush_if_due(&self, appended: &Appended) -> Result<()> {
        self.flush_if_many(&self.settings(), appended)
    }

    /// The writer lock is held. Gives where the batch stands, if it is in the log already.
    pub(in crate::partition) fn check_producer(
        &self,
        writer: &mut Writer,
        encoded: &EncodedBatch,
    ) -> Result<Option<Appended>> {
        let Some(producer) = encoded.producer else {
            return Ok(None);
        };
        if !writer.producers.knows(producer.id) {
            // Before there is one more.
            writer
                .producers
                .forget_expired(self.context.clock.now().as_millis());
            return Ok(None);
        }
        let partition = || self.id().clone();
        match writer.producers.check(&producer, encoded.record_count) {
            Ok(None) => Ok(None),
            Ok(Some(batch)) => {
                let (reopens, truncations) = (self.reopening.count(), self.truncations());
                Ok(Some(Appended {
                    offsets: batch.offsets,
                    max_timestamp: batch.timestamp,
                    reopens,
                    truncations,
                }))
            }
            Err(SequenceFault::Fenced) => Err(Error::ProducerFenced {
                partition: partition(),
                producer_id: producer.id,
                epoch: producer.epoch,
            }),
            Err(SequenceFault::Expected(expected)) => Err(Error::OutOfOrderSequence {
                partition: partition(),
                producer_id: producer.id,
                expected,
                found: producer.sequence,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
