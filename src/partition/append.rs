//! Appending: encode outside any lock, then lock, stamp, roll if due, write once, publish, unlock, wake, sync.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::bound::LogBound;
use super::encoded::EncodedBatch;
use super::{PartitionCore, Writer};
use crate::clock::Timestamp;
use crate::config::{CleanupPolicy, Compression, Durability, TimestampType, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{BatchBuilder, HEADER_BYTES, stamp, stamp_append_time};
use crate::format::record::Record;
use crate::format::{Malformed, compression, file_name, producer_snapshot};
use crate::segment::Segment;
use crate::storage::replace_file;

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
    pub(super) reopens: u64,
    pub(super) truncations: u64,
}

/// How large a batch may get while it is built, before it is compressed, and the setting that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainLimit {
    bytes: u64,
    /// Bytes of the batch that the setting is not about.
    uncounted: u64,
    key: &'static str,
}

impl PlainLimit {
    /// Most bytes that the batch may have.
    pub(crate) fn batch_bytes(self) -> u64 {
        self.bytes.saturating_add(self.uncounted)
    }

    /// `RecordTooLarge` for a batch with this many bytes.
    #[inline]
    pub(crate) fn check(self, batch_bytes: usize) -> Result<()> {
        let bytes = (batch_bytes as u64).saturating_sub(self.uncounted);
        if bytes > self.bytes {
            return Err(Error::RecordTooLarge { bytes, limit: self.bytes, key: self.key });
        }
        Ok(())
    }
}

impl PartitionCore {
    /// Appends the records as one batch, all or nothing, and waits until it is as durable as the topic or `durability` asks.
    pub(super) fn append<'a, R: Into<Record<'a>>>(
        &self,
        durability: Durability,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended> {
        self.check_writable()?;
        let settings = self.settings();
        let now = self.context.clock.now().as_millis();
        let Some(mut encoded) = self.encode(&settings, now, records)? else {
            let end = self.log_end_offset();
            return Ok(Appended { offsets: end..end, max_timestamp: -1, reopens: 0, truncations: 0 });
        };
        let appended = self.write(&settings, &mut encoded);
        let bytes = encoded.bytes.len();
        self.context.buffers.give_back(encoded.bytes);
        let appended = appended?;
        self.after_append(&settings, durability, &appended)?;
        self.note_append(bytes);
        Ok(appended)
    }

    /// Encodes a batch that [`append_encoded`](Self::append_encoded) is to append; `None` if there is no record. Errors as of an
    /// append.
    pub(crate) fn encode_batch<'a, R: Into<Record<'a>>>(
        &self,
        now: Timestamp,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Option<EncodedBatch>> {
        self.check_writable()?;
        self.encode(&self.settings(), now.as_millis(), records)
    }

    /// Encodes a batch in a lent buffer; `None` where there is no record.
    fn encode<'a, R: Into<Record<'a>>>(
        &self,
        settings: &TopicSettings,
        now: i64,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Option<EncodedBatch>> {
        let compression = settings.compression.codec(Compression::None);
        let limit = self.limit_of(settings, compression);
        let mut builder = BatchBuilder::new(self.context.buffers.take(), compression);
        for (index, record) in records.into_iter().enumerate() {
            let record = record.into();
            check_record(settings, &record, now).map_err(|reason| Error::InvalidRecord { index, reason })?;
            let pushed = builder.push(&record, now);
            pushed.map_err(|Malformed(reason)| Error::InvalidRecord { index, reason })?;
            // It need not be built any further. How large it is with a codec shows when it is compressed.
            limit.check(builder.len_bytes())?;
        }
        let record_count = builder.record_count();
        if record_count == 0 {
            return Ok(None);
        }
        let max_timestamp = builder.max_timestamp();
        let bytes = builder.finish(settings).map_err(|malformed| self.cannot_encode(malformed))?;
        if let Err(error) = check_size(settings, bytes.len()) {
            self.context.buffers.give_back(bytes);
            return Err(error);
        }
        Ok(Some(EncodedBatch { bytes, record_count, max_timestamp, producer: None }))
    }

    /// Most bytes that a batch may have before it is compressed with `compression`.
    pub(crate) fn limit_of(&self, settings: &TopicSettings, compression: Compression) -> PlainLimit {
        match compression {
            Compression::None => PlainLimit { bytes: settings.max_message_bytes.into(), uncounted: 0, key: "max.message.bytes" },
            // Whatever it becomes: readers of this log would refuse it.
            _ => PlainLimit {
                bytes: self.context.max_decompressed_bytes as u64,
                uncounted: HEADER_BYTES as u64,
                key: "max_decompressed_bytes",
            },
        }
    }

    pub(crate) fn cannot_encode(&self, malformed: Malformed) -> Error {
        if compression::is_left_out(malformed) {
            return Error::Unsupported { path: self.dir().to_owned(), what: malformed.0 };
        }
        Error::InvalidRecord { index: 0, reason: malformed.0 }
    }

    /// The part under the writer lock.
    pub(super) fn write(&self, settings: &TopicSettings, encoded: &mut EncodedBatch) -> Result<Appended> {
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
        let base = self.log_end.load(Ordering::Relaxed);
        let end = base + u64::from(encoded.record_count);
        if end > i64::MAX.unsigned_abs() {
            return Err(self.out_of_range(end));
        }
        self.roll_if_due(&mut writer, settings, encoded, base, end - 1)?;
        self.assign_epoch(&mut writer, base)?;
        stamp(&mut encoded.bytes, base, writer.leader_epoch);
        let appended = writer.active.append(&encoded.bytes, end - 1, encoded.max_timestamp, settings.index_interval_bytes);
        if let Err(failed) = appended {
            let path = writer.active.log_path();
            if failed.end_is_unknown {
                let cause = self.poison(failed.source);
                return Err(Error::Io { action: "append to", path: path.to_owned(), source: cause });
            }
            return Err(Error::io("append to", path, failed.source));
        }
        encoded.note_producer(&mut writer.producers);
        writer.first_timestamp.get_or_insert(encoded.max_timestamp);
        writer.unflushed += u64::from(encoded.record_count);
        let appended_bytes = self.appended_bytes.load(Ordering::Relaxed) + encoded.bytes.len() as u64;
        self.appended_bytes.store(appended_bytes, Ordering::Relaxed);
        self.log_end.store(end, Ordering::SeqCst);
        let (reopens, truncations) = (self.reopens.load(Ordering::Relaxed), self.truncations());
        Ok(Appended { offsets: base..end, max_timestamp: encoded.max_timestamp, reopens, truncations })
    }

    /// The part behind the writer lock: wake readers, and sync as far as it was asked for.
    fn after_append(&self, settings: &TopicSettings, durability: Durability, appended: &Appended) -> Result<()> {
        let is_synced_topic = self.is_synced_topic.load(Ordering::Relaxed);
        if !is_synced_topic {
            self.waiters.notify();
        }
        if is_synced_topic || durability == Durability::Synced {
            self.sync_appended(appended)?;
        }
        self.flush_if_many(settings, appended)
    }

    /// Counts an append towards the bound of the log. Internal topics do not look: their appends hold locks of the groups.
    #[inline]
    pub(super) fn note_append(&self, bytes: usize) {
        if let Some(bound) = &self.context.bound
            && !file_name::is_internal_topic(&self.id().topic)
        {
            bound.note_append(bytes);
        }
    }

    /// Flushes where `flush.messages` says so.
    pub(super) fn flush_if_many(&self, settings: &TopicSettings, appended: &Appended) -> Result<()> {
        if settings.flush_messages < i64::MAX {
            let mut writer = self.writer.lock();
            if i64::try_from(writer.unflushed).is_ok_and(|unflushed| unflushed >= settings.flush_messages) {
                writer.unflushed = 0;
                drop(writer);
                self.sync_appended(appended)?;
                // The records are on the device: that their indexes are not, or the disk is full, is no failure of theirs.
                let _tried_again_later = self.flush();
            }
        }
        Ok(())
    }

    /// Waits until what was appended is on the device.
    pub(crate) fn sync_appended(&self, appended: &Appended) -> Result<()> {
        let end = appended.offsets.end;
        self.sync_to(end)?;
        if self.reopens.load(Ordering::SeqCst) == appended.reopens {
            return Ok(());
        }
        if self.lowest_cut_since(appended.truncations).is_none_or(|lowest| lowest >= end) {
            // It was found in its place, and synced there.
            return Ok(());
        }
        // Others may have these offsets by now.
        let source = Arc::new(io::Error::other("the partition was re-opened before the sync was done, and had lost its end"));
        Err(Error::SyncFailed { path: self.dir().to_owned(), source })
    }

    /// A new leader epoch begins with this batch: the checkpoint says so before it is written.
    fn assign_epoch(&self, writer: &mut Writer, base: u64) -> Result<()> {
        if writer.epochs.latest() == Some(writer.leader_epoch) {
            return Ok(());
        }
        let mut epochs = writer.epochs.clone();
        if epochs.assign(writer.leader_epoch, base) {
            epochs.store(&*self.context.storage, self.dir()).map_err(self.io("write the leader epochs of"))?;
            writer.epochs = epochs;
        }
        Ok(())
    }

    /// Kafka's rules: the batch does not fit, an index is full, or the segment is old.
    fn roll_if_due(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        settings: &TopicSettings,
        encoded: &EncodedBatch,
        base: u64,
        last_offset: u64,
    ) -> Result<()> {
        // A log with a bound needs segments that it can delete.
        let most_bytes = self.context.bound.as_ref().map_or(u64::MAX, LogBound::step).min(settings.segment_bytes.into());
        let is_full = writer.active.is_full(encoded.bytes.len(), last_offset, settings, most_bytes);
        if is_full || self.is_too_old(writer, settings, encoded.max_timestamp)? {
            self.roll_durably(writer, base)?;
        }
        Ok(())
    }

    /// Whether the time since the segment's first batch, by the records' own times where they have some, is over `segment.ms`.
    fn is_too_old(&self, writer: &mut Writer, settings: &TopicSettings, max_timestamp: i64) -> Result<bool> {
        if writer.active.size() == 0 {
            return Ok(false);
        }
        let first = match writer.first_timestamp {
            Some(first) => first,
            None => self.first_timestamp(&writer.active)?,
        };
        writer.first_timestamp = Some(first);
        let waited_ms = if first >= 0 && max_timestamp >= 0 {
            max_timestamp.saturating_sub(first)
        } else {
            self.context.clock.now().as_millis().saturating_sub(writer.opened.as_millis())
        };
        let is_compacted = settings.cleanup_policy != CleanupPolicy::Delete;
        let limit_ms = if is_compacted { settings.segment_ms.min(settings.max_compaction_lag_ms) } else { settings.segment_ms };
        Ok(waited_ms > limit_ms.saturating_sub(writer.jitter_ms))
    }

    /// Rolls now, if the active segment has anything.
    pub(super) fn roll_now(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        if writer.active.size() == 0 {
            return Ok(());
        }
        self.begin_change()?;
        self.roll_durably(&mut writer, self.log_end_offset())
    }

    /// Rolls at the log end.
    fn roll_durably(&self, writer: &mut MutexGuard<'_, Writer>, base: u64) -> Result<()> {
        if !self.is_dense() {
            // A power cut that takes the end of this segment, and leaves the next, would look like what compaction leaves.
            self.sync_published()?;
        }
        self.roll(writer, base)
    }

    /// Makes a new active segment at `base`, which is the log end. The new file exists before the old one is sealed, so that
    /// running out of descriptors or room leaves the partition as it was.
    pub(super) fn roll(&self, writer: &mut MutexGuard<'_, Writer>, base: u64) -> Result<()> {
        let sealed = Arc::clone(&writer.active);
        if sealed.base_offset == base {
            return Ok(());
        }
        let path = sealed.log_path();
        sealed.cut_zeros_ahead().map_err(|error| Error::io("cut the zeros behind", path, error))?;
        let next = Segment::create(&self.home, base).map_err(|error| Error::io("create a segment after", path, error))?;
        let next = Arc::new(next);
        if let Err(error) = self.take_snapshot(writer, base).and_then(|()| sealed.seal()) {
            next.close_file();
            let _still_unused = self.context.storage.remove_file(next.log_path());
            return Err(Error::io("seal", path, error));
        }
        self.has_new_digests.store(true, Ordering::Release);
        self.install_active(writer, next);
        Ok(())
    }

    /// As [`roll`](Self::roll), for a segment that is deleted next. A full disk must not keep it: then its index is not written,
    /// and the next flush writes the snapshot of the producers.
    pub(super) fn roll_to_delete(&self, writer: &mut MutexGuard<'_, Writer>, base: u64) -> Result<()> {
        match self.roll(writer, base) {
            Err(Error::DiskFull { .. }) => {}
            rolled => return rolled,
        }
        let path = writer.active.log_path();
        let next = Segment::create(&self.home, base).map_err(|error| Error::io("create a segment after", path, error))?;
        writer.active.seal_in_memory();
        self.install_active(writer, Arc::new(next));
        Ok(())
    }

    fn install_active(&self, writer: &mut Writer, next: Arc<Segment>) {
        let mut segments = self.segments.snapshot().to_vec();
        segments.push(Arc::clone(&next));
        self.segments.replace(segments);
        self.start_active(writer, next);
    }

    pub(super) fn start_active(&self, writer: &mut Writer, active: Arc<Segment>) {
        let settings = self.settings();
        writer.jitter_ms = jitter(settings.segment_jitter_ms.min(settings.segment_ms));
        writer.opened = self.context.clock.now();
        writer.first_timestamp = None;
        writer.active = active;
    }

    /// Writes the producer state as of `offset`, where the directory has any.
    pub(super) fn take_snapshot(&self, writer: &Writer, offset: u64) -> io::Result<()> {
        if writer.producers.is_empty() && !writer.has_snapshots {
            return Ok(());
        }
        self.store_snapshot(offset, &producer_snapshot::encode(&writer.producers.entries()))
    }

    pub(super) fn store_snapshot(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let name = file_name::segment_file(offset, file_name::SNAPSHOT);
        replace_file(&*self.context.storage, &self.dir().join(name), bytes)
    }
}

/// A random number of milliseconds below `limit`, so that partitions do not all roll at once.
fn jitter(limit: i64) -> i64 {
    if limit <= 0 {
        return 0;
    }
    let random = RandomState::new().build_hasher().finish() >> 1;
    i64::try_from(random).unwrap_or(0) % limit
}

/// Whether the topic takes a batch of so many bytes.
pub(crate) fn check_size(settings: &TopicSettings, bytes: usize) -> Result<()> {
    for (limit, key) in [(settings.max_message_bytes, "max.message.bytes"), (settings.segment_bytes, "segment.bytes")] {
        if bytes as u64 > u64::from(limit) {
            return Err(Error::RecordTooLarge { bytes: bytes as u64, limit: u64::from(limit), key });
        }
    }
    Ok(())
}

/// Whether the topic takes the record at the time `now`.
#[inline]
pub(crate) fn check_record(settings: &TopicSettings, record: &Record<'_>, now: i64) -> std::result::Result<(), &'static str> {
    if settings.cleanup_policy != CleanupPolicy::Delete && record.key.is_none() {
        return Err("a compacted topic needs a key");
    }
    if settings.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let Some(timestamp) = record.timestamp.map(Timestamp::as_millis) else { return Ok(()) };
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
