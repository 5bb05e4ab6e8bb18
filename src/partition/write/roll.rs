//! Rolls the log: seals the active segment when it is full or old, and starts a new one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::CleanupPolicy;
use crate::error::{At, Error, Result};
use crate::format::{file_name, producer_snapshot};
use crate::partition::state::bound::LogBound;
use crate::partition::{PartitionCore, Writer};
use crate::segment::Segment;
use crate::storage::replace_file;
use crate::sync::MutexGuard;

impl PartitionCore {
    /// Rolls by Kafka's rules: if the batch does not fit, an index is full, or the segment is old.
    /// The batch has this many bytes and this timestamp.
    pub(super) fn roll_if_due(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        (bytes, max_timestamp): (usize, i64),
        base: u64,
        last_offset: u64,
    ) -> Result<()> {
        // A log with a size limit needs segments that are small enough to be deleted one by one.
        let most_bytes = self
            .context
            .bound
            .as_ref()
            .map_or(u64::MAX, LogBound::step)
            .min(writer.settings.segment_bytes.into());
        let is_full = writer
            .active
            .is_full(bytes, last_offset, &writer.settings, most_bytes);
        if is_full || self.is_too_old(writer, max_timestamp)? {
            self.roll_durably(writer, base)?;
        }
        Ok(())
    }

    /// Returns whether more than `segment.ms` has passed since the first batch of the segment. The
    /// timestamps of the records decide, or the clock if they have none.
    fn is_too_old(&self, writer: &mut Writer, max_timestamp: i64) -> Result<bool> {
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
            self.context
                .clock
                .now()
                .as_millis()
                .saturating_sub(writer.opened.as_millis())
        };
        let settings = &writer.settings;
        let is_compacted = settings.cleanup_policy != CleanupPolicy::Delete;
        let limit_ms = if is_compacted {
            settings.segment_ms.min(settings.max_compaction_lag_ms)
        } else {
            settings.segment_ms
        };
        Ok(waited_ms > limit_ms.saturating_sub(writer.jitter_ms))
    }

    /// Rolls now, unless the active segment is empty.
    pub(in crate::partition) fn roll_now(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_writable()?;
        if writer.active.size() == 0 {
            return Ok(());
        }
        self.begin_change()?;
        self.roll_durably(&mut writer, self.log_end_offset())
    }

    /// Rolls at the log end, after a sync if the partition may have gaps.
    fn roll_durably(&self, writer: &mut MutexGuard<'_, Writer>, base: u64) -> Result<()> {
        debug_assert_eq!(base, self.log_end_offset(), "a roll starts at the log end");
        if !self.is_dense() {
            // Otherwise a power cut could remove the end of this segment and leave the next one.
            // That would look like a gap from compaction.
            self.sync_published()?;
        }
        self.roll(writer, base)
    }

    /// Starts a new active segment at `base`, which is the log end. The new file is created before
    /// the old segment is sealed. So an error, such as no free descriptor or a full disk, leaves
    /// the partition as it was.
    pub(in crate::partition) fn roll(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        base: u64,
    ) -> Result<()> {
        let sealed = Arc::clone(&writer.active);
        if sealed.base_offset == base {
            return Ok(());
        }
        debug_assert!(
            sealed.next_offset() <= base,
            "a sealed segment ends at or below the base of the next one"
        );
        let path = sealed.log_path();
        sealed.cut_zeros_ahead().at("cut the zeros after", path)?;
        let next = Segment::create(&self.home, base).at("create a segment after", path)?;
        let next = Arc::new(next);
        if let Err(error) = self
            .take_snapshot(writer, base)
            .and_then(|()| sealed.seal())
        {
            next.close_file();
            if let Err(error) = self.context.storage.remove_file(next.log_path()) {
                // After the next opening, this file would hide the batches that come before its
                // base. Only a re-opening may remove it.
                self.health.poison(error);
            }
            return Err(Error::io("seal", path, error));
        }
        self.has_new_digests.store(true, Ordering::Release);
        self.install_active(writer, next);
        Ok(())
    }

    /// Rolls as [`roll`](Self::roll) does, for a segment that is deleted next. A full disk must not
    /// prevent that: then the index is not written, and the next flush writes the producer
    /// snapshot.
    pub(in crate::partition) fn roll_to_delete(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        base: u64,
    ) -> Result<()> {
        match self.roll(writer, base) {
            Err(Error::DiskFull { .. }) => {}
            rolled => return rolled,
        }
        let path = writer.active.log_path();
        let next = Segment::create(&self.home, base).at("create a segment after", path)?;
        writer.active.seal_in_memory();
        self.install_active(writer, Arc::new(next));
        Ok(())
    }

    /// Adds `next` to the segment list and makes it the active segment.
    fn install_active(&self, writer: &mut Writer, next: Arc<Segment>) {
        debug_assert!(
            writer.active.base_offset < next.base_offset,
            "base offsets rise"
        );
        debug_assert!(writer.active.is_sealed(), "only the last segment is active");
        self.segments.push(Arc::clone(&next));
        self.start_active(writer, next);
        self.assert_segments(writer);
    }

    /// Makes `active` the segment to append to, and restarts the time after which it rolls.
    pub(in crate::partition) fn start_active(&self, writer: &mut Writer, active: Arc<Segment>) {
        let settings = self.settings();
        writer.jitter_ms = jitter(settings.segment_jitter_ms.min(settings.segment_ms));
        writer.opened = self.context.clock.now();
        writer.first_timestamp = None;
        writer.active = active;
    }

    /// Writes a snapshot of the producers as of `offset`, if there are any producers or earlier
    /// snapshots.
    pub(in crate::partition) fn take_snapshot(
        &self,
        writer: &Writer,
        offset: u64,
    ) -> io::Result<()> {
        if writer.producers.is_empty() && !writer.had_producers {
            return Ok(());
        }
        self.store_snapshot(
            offset,
            &producer_snapshot::encode(&writer.producers.entries()),
        )
    }

    /// Writes a snapshot file for `offset`.
    pub(in crate::partition) fn store_snapshot(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let name = file_name::segment_file(offset, file_name::SNAPSHOT);
        replace_file(&*self.context.storage, &self.dir().join(name), bytes)
    }
}

/// Returns a random number of milliseconds below `limit`, so that partitions do not all roll at the
/// same time.
fn jitter(limit: i64) -> i64 {
    if limit <= 0 {
        return 0;
    }
    let random = RandomState::new().build_hasher().finish() >> 1;
    i64::try_from(random).unwrap_or(0) % limit
}
