//! Ends poison: reads the partition again from the disk while its handles and readers stay alive.
//!
//! After a failed write or fsync the contents of the files are unknown: the page cache may show
//! data that is not on the device. So everything above the recovery point is written over itself,
//! synced, dropped from the cache, read again and checked, as after an unclean stop. The result
//! replaces the state in memory; readers search for their place again, as after a truncation.
//!
//! Files that readers may have mapped are never shrunk: segments that recovery may cut are held
//! open, and the part that stays is copied to a new file. Readers that arrive in the meantime read
//! the open files.
//!
//! Appends wait until the caller has done what must precede them ([`Reopened::take_writes`]). They
//! wait even after the writer lock is free again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::TopicSettings;
use crate::error::{At, Result};
use crate::partition::keeper::Reopened;
use crate::partition::remove::unfinished;
use crate::partition::state::context::PartitionSpec;
use crate::partition::state::report::PartitionRecovery;
use crate::partition::{PartitionCore, Writer};
use crate::segment::Segment;
use crate::sync::MutexGuard;

impl Reopened<'_> {
    /// Takes writes again, unless the partition is damaged, or another thread has failed to cut it
    /// since it was recovered.
    pub(crate) fn take_writes(self) -> PartitionRecovery {
        let damage = self.report.damage.clone();
        self.core.health.set_damage_since(self.poisonings, damage);
        self.report.clone()
    }
}

impl Drop for Reopened<'_> {
    fn drop(&mut self) {
        self.core.reopening.end();
    }
}

impl PartitionCore {
    /// Recovers the partition in place, and returns it before it takes writes again. After an
    /// error, writes are refused, and the readable part stays readable.
    pub(crate) fn reopen(&self) -> Result<Reopened<'_>> {
        let appends_wait = self.reopening.take_turn();
        let _no_flush = self.flush.lock();
        let _replaces = self.replacing.lock();
        let mut writer = self.writer.lock();
        self.check_readable()?;
        self.context.check_not_read_only()?;
        self.begin_change()?;
        // Otherwise recovery would find these segments again, and both lists would hold them.
        let _removed = self.remove_leaving()?;
        let _turn = self.commit.take_turn();
        self.reopening.begin();
        let mut reopened = Reopened {
            core: self,
            report: PartitionRecovery::default(),
            poisonings: self.health.poisonings(),
            _appends_wait: appends_wait,
        };
        let spec = self.spec_of_now();
        // A half-done compaction is finished first. It may replace segments at any offset.
        let untouched = if unfinished::is_pending(&self.context, self.dir())? {
            0
        } else {
            spec.recovery_point
        };
        let recovered = self
            .hold_open(untouched)
            .and_then(|()| unfinished::finish(&self.context, self.dir()))
            .and_then(|()| Self::recover_shared(&self.context, &spec));
        match recovered {
            Ok((fresh, report)) => {
                self.take_over(&mut writer, fresh, untouched);
                reopened.report = report;
            }
            Err(error) => {
                self.keep_readable(&mut writer, untouched);
                self.health.poison(io::Error::other(error.to_string()));
                return Err(error);
            }
        }
        drop(writer);
        self.waiters.notify();
        Ok(reopened)
    }

    /// Takes the writer lock, once no re-opening is under way.
    pub(in crate::partition) fn lock_to_append(&self) -> MutexGuard<'_, Writer> {
        loop {
            let writer = self.writer.lock();
            if !self.reopening.is_under_way() {
                return writer;
            }
            drop(writer);
            self.reopening.wait();
        }
    }

    /// Returns the parameters with which the partition would be opened now.
    pub(in crate::partition) fn spec_of_now(&self) -> PartitionSpec {
        PartitionSpec {
            id: self.id().clone(),
            dir: self.dir().to_owned(),
            settings: TopicSettings::clone(&self.settings()),
            topic_id: self.topic_id,
            log_start: self.log_start_offset(),
            recovery_point: self.recovery_point(),
            clean: false,
            is_dense: self.is_dense(),
            broker_since: false,
        }
    }

    /// Holds the segments above `untouched` open for their readers: recovery may cut, rename or
    /// remove the files. Also stops a thread that led a sync from writing more zeros after a
    /// segment, where the next batches are written.
    fn hold_open(&self, untouched: u64) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        for segment in self
            .segments()
            .snapshot()
            .iter()
            .filter(|segment| !is_untouched(segment, untouched))
        {
            let path = segment.log_path();
            segment.end_zeros_ahead();
            // If there are too many segments to hold all of them open, only those with readers are.
            let held = segment.keep_open().or_else(|_| segment.prepare_removal());
            held.at("open", path)?;
        }
        Ok(())
    }

    /// Replaces the state in memory by the state found on the disk.
    fn take_over(&self, writer: &mut Writer, fresh: Self, untouched: u64) {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        debug_assert!(self.reopening.is_under_way(), "appends wait");
        let Self {
            segments,
            writer: found,
            bounds,
            ..
        } = fresh;
        let before = self.segments().snapshot();
        let old = |new: &Arc<Segment>| {
            let is_it = |old: &&Arc<Segment>| {
                old.base_offset == new.base_offset && is_untouched(old, untouched)
            };
            before
                .iter()
                .find(is_it)
                .filter(|old| old.size() == new.size() && new.is_sealed() && old.is_named())
                .map(Arc::clone)
        };
        let segments: Vec<Arc<Segment>> = segments
            .snapshot()
            .iter()
            .map(|new| old(new).unwrap_or_else(|| Arc::clone(new)))
            .collect();
        *writer = found.into_inner();
        writer.settings = self.settings();
        if let Some(last) = segments.last() {
            // The last segment of a damaged log may be a sealed one with readers.
            writer.active = Arc::clone(last);
        }
        let end = bounds.log_end();
        if end < self.log_end_offset() {
            self.reopening.note_loss(end);
        }
        let first_unstable = writer.producers.first_unstable_offset();
        self.begin_cut(end, first_unstable);
        self.bounds.take_over(&bounds);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.publish_cut(segments, end);
        self.end_cut(end, first_unstable);
        // Recovery has synced what it read.
        self.commit.raise(end);
        self.has_new_digests.store(true, Ordering::Release);
        self.assert_segments(writer);
    }

    /// Makes the segments readable again after recovery failed half-way: those that lost their
    /// names are opened again and put in the list.
    fn keep_readable(&self, writer: &mut Writer, untouched: u64) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        let opened = |old: &Arc<Segment>| {
            if is_untouched(old, untouched) {
                return Arc::clone(old);
            }
            Arc::new(Segment::open_sealed(
                &self.home,
                old.base_offset,
                old.size(),
                old.next_offset(),
            ))
        };
        let segments: Vec<_> = self.segments().snapshot().iter().map(opened).collect();
        if let Some(last) = segments.last() {
            writer.active = Arc::clone(last);
        }
        self.publish_cut(segments, self.log_end_offset());
    }
}

/// Returns whether recovery leaves the segment alone.
fn is_untouched(segment: &Segment, end: u64) -> bool {
    segment.is_sealed() && segment.next_offset() <= end
}
