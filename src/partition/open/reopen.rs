//! Ending poison: the partition is read anew from the disk while its handles and readers live on.
//!
//! After a failed write or fsync nobody knows what the files hold: the page cache may show what is
//! not on the device. So all above the recovery point is synced, dropped from the cache, read again
//! and checked, as after an unclean stop. What is found takes the place of what was in memory;
//! readers look for their place again, as after a truncation.
//!
//! Files that readers may have mapped are never shrunk: segments that recovery may cut are held
//! open, and what stays of a file is copied. Readers that come in the meantime read what is held.
//!
//! Appends wait, also after the writer lock is free again, until the caller has done what has to
//! come before them ([`Reopened::take_writes`]).

use crate::partition::keeper::Reopened;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::partition::remove::unfinished;
use crate::partition::state::context::PartitionSpec;
use crate::partition::state::report::PartitionRecovery;
use crate::partition::{PartitionCore, Writer};
use crate::segment::Segment;

impl Reopened<'_> {
    /// Takes writes again, unless the partition is damaged.
    pub(crate) fn take_writes(self) -> PartitionRecovery {
        self.core.health.set_damage(self.report.damage.clone());
        self.report.clone()
    }
}

impl Drop for Reopened<'_> {
    fn drop(&mut self) {
        self.core.reopening.end();
    }
}

impl PartitionCore {
    /// Recovers the partition in place. The caller may have to do something before it takes writes
    /// again. After an error they are refused, and reading goes on as far as it can.
    pub(crate) fn reopen(&self) -> Result<Reopened<'_>> {
        let appends_wait = self.reopening.take_turn();
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
        self.reopening.begin();
        let mut reopened = Reopened {
            core: self,
            report: PartitionRecovery::default(),
            _appends_wait: appends_wait,
        };
        // Whoever waits for a sync learns from this that his append may be gone.
        self.reopening.count_one();
        let spec = self.spec_of_now();
        // A compaction that is half done is finished, and takes segments away wherever they are.
        let untouched = if unfinished::is_pending(&self.context, self.dir())? {
            0
        } else {
            spec.recovery_point
        };
        let recovered = self
            .let_go(untouched)
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

    /// The writer lock, once no re-opening is under way.
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

    /// What opening it as it is now would be told.
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

    /// Recovery may cut, rename or remove the segments above `untouched`: they are held open for
    /// those who read. A thread that led a sync before writes no more zeros after them, where the
    /// next batches go.
    fn let_go(&self, untouched: u64) -> Result<()> {
        for segment in self
            .segments()
            .snapshot()
            .iter()
            .filter(|segment| !is_untouched(segment, untouched))
        {
            let path = segment.log_path();
            segment.end_zeros_ahead();
            // Where there are too many to be open at once, those are that somebody is on.
            let held = segment.keep_open().or_else(|_| segment.prepare_removal());
            held.map_err(|error| Error::io("open", path, error))?;
        }
        Ok(())
    }

    /// Puts what was found on the disk in the place of what was in memory.
    fn take_over(&self, writer: &mut Writer, fresh: Self, untouched: u64) {
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
        if let Some(last) = segments.last() {
            // The last segment of a damaged log may be a sealed one that readers are on.
            writer.active = Arc::clone(last);
        }
        let end = bounds.log_end();
        self.bounds.take_over(&bounds);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.publish_cut(segments, end);
        // Recovery has synced what it read.
        self.commit.raise(end);
        self.has_new_digests.store(true, Ordering::Release);
        self.assert_segments(writer);
    }

    /// Recovery failed half-way: the segments that were let go are put in the list anew, so that
    /// they can be read.
    fn keep_readable(&self, writer: &mut Writer, untouched: u64) {
        let anew = |old: &Arc<Segment>| {
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
