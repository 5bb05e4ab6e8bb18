//! Ending poison: the partition is read anew from the disk while its handles and readers live on.
//!
//! After a failed write or fsync nobody knows what the files hold: the page cache may show what is not on the device. So all
//! above the recovery point is synced, dropped from the cache, read again and checked, as after an unclean stop. What is found
//! takes the place of what was in memory; readers look for their place again, as after a truncation.
//!
//! Files that readers may have mapped are never shrunk: segments that recovery may cut are handed to those who hold them, and
//! what stays of a file is copied.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context::PartitionSpec;
use super::recovery::PartitionRecovery;
use super::{PartitionCore, Refusal, Writer, replacement};
use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::segment::Segment;

impl PartitionCore {
    /// Recovers the partition in place. Writes stay refused until [`take_writes`](Self::take_writes): the caller may have to do
    /// something first. After an error they stay refused as well, and reading goes on as far as it can.
    pub(crate) fn reopen(&self) -> Result<PartitionRecovery> {
        let _no_flush = self.flush.lock();
        let _replaces = self.replacing.lock();
        let mut writer = self.writer.lock();
        self.check_readable()?;
        if self.context.read_only {
            return Err(Error::ReadOnly);
        }
        self.begin_change()?;
        // Else they would be found again, and be in both lists.
        let _removed = self.remove_leaving()?;
        let _turn = self.commit.take_turn();
        self.poison(io::Error::other("it is being re-opened"));
        // Whoever waits for a sync learns from this that his append may be gone.
        self.reopens.fetch_add(1, Ordering::SeqCst);
        let spec = self.spec_of_now();
        // A compaction that is half done is finished, and takes segments away wherever they are.
        let untouched = if replacement::is_pending(&self.context, self.dir())? { 0 } else { spec.recovery_point };
        let recovered = self
            .let_go(untouched)
            .and_then(|()| replacement::finish(&self.context, self.dir()))
            .and_then(|()| Self::recover_shared(&self.context, &spec));
        let report = match recovered {
            Ok((fresh, report)) => {
                self.take_over(&mut writer, fresh, untouched);
                report
            }
            Err(error) => {
                self.keep_readable(&mut writer, untouched);
                return Err(error);
            }
        };
        drop(writer);
        self.waiters.notify();
        Ok(report)
    }

    /// Takes writes again, unless `report` says that the partition is damaged.
    pub(crate) fn take_writes(&self, report: &PartitionRecovery) {
        let mut refusal = self.refusal.lock();
        *refusal = report.damage.clone().map(Refusal::Damaged);
        self.has_refusal.store(refusal.is_some(), Ordering::Release);
    }

    /// What opening it as it is now would be told.
    pub(super) fn spec_of_now(&self) -> PartitionSpec {
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

    /// Recovery may cut, rename or remove the segments above `untouched`: whoever reads one keeps it open, and whoever led a sync
    /// before writes no more zeros behind it, where the next batches go.
    fn let_go(&self, untouched: u64) -> Result<()> {
        for segment in self.segments().snapshot().iter().filter(|segment| !is_untouched(segment, untouched)) {
            // One reference is the list's; the active segment has the writer's as well.
            let references = if segment.is_sealed() { 1 } else { 2 };
            let path = segment.log_path();
            segment.end_zeros_ahead();
            segment.prepare_removal(references).map_err(|error| Error::io("open", path, error))?;
        }
        Ok(())
    }

    /// Puts what was found on the disk in the place of what was in memory.
    fn take_over(&self, writer: &mut Writer, fresh: Self, untouched: u64) {
        let Self { segments, writer: found, log_start, log_end, recovery_point: found_point, first_unstable, .. } = fresh;
        let before = self.segments().snapshot();
        let old = |new: &Arc<Segment>| {
            let is_it = |old: &&Arc<Segment>| old.base_offset == new.base_offset && is_untouched(old, untouched);
            before.iter().find(is_it).filter(|old| old.size() == new.size() && new.is_sealed() && old.is_named()).map(Arc::clone)
        };
        let segments = segments.snapshot().iter().map(|new| old(new).unwrap_or_else(|| Arc::clone(new))).collect();
        *writer = found.into_inner();
        let end = log_end.into_inner();
        self.recovery_point.store(found_point.into_inner(), Ordering::Release);
        self.log_start.store(log_start.into_inner(), Ordering::Release);
        self.first_unstable.store(first_unstable.into_inner(), Ordering::Release);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.publish_cut(segments, end);
        // Recovery has synced what it read.
        self.commit.raise(end);
        self.has_new_digests.store(true, Ordering::Release);
    }

    /// Recovery failed half-way: the segments that were let go are put in the list anew, so that they can be read.
    fn keep_readable(&self, writer: &mut Writer, untouched: u64) {
        let anew = |old: &Arc<Segment>| {
            if is_untouched(old, untouched) {
                return Arc::clone(old);
            }
            Arc::new(Segment::open_sealed(&self.home, old.base_offset, old.size(), old.next_offset()))
        };
        let segments: Vec<_> = self.segments().snapshot().iter().map(anew).collect();
        if let Some(last) = segments.last() {
            writer.active = Arc::clone(last);
        }
        self.publish_cut(segments, self.log_end_offset());
    }
}

/// Whether recovery leaves the segment alone.
fn is_untouched(segment: &Segment, end: u64) -> bool {
    segment.is_sealed() && segment.next_offset() <= end
}
