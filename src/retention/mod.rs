//! Retention: which segments go for their age, for their size, or because the log start passed
//! them.
//!
//! A pass works as Kafka's does: first what lies below the log start, then what is over
//! `retention.bytes`, then what is older than `retention.ms`; from the oldest segment on, up to the
//! first that may stay; whole segments only, nothing at or above the high watermark, and never an
//! empty last one. Where all of a partition is to go, the active segment is rolled first, so that
//! the next offset stays what it was. Size and age count only where `cleanup.policy` has `delete`
//! in it.
//!
//! # Clocks that jump
//!
//! A segment is as old as its largest record timestamp says, but timestamps come from programs and
//! clocks, and either may be wrong. So:
//!
//! - **A timestamp after now is not believed.** Such a segment, like one without any timestamp,
//!   counts as written when its file was last written; if that lies after now too, when the first
//!   later segment was whose file does not; failing all, now. So one record from the future pins
//!   nothing for ever, and the answer is never earlier than the true time of writing as long as the
//!   clock was not behind.
//! - **A clock that jumps back deletes nothing**: what was written before then lies after now, by
//!   its timestamps and by its files.
//! - **A clock that jumps ahead** makes everything look old, and cannot be told from a machine that
//!   was off for as long. The background pass therefore lets [`SteadyTime`] hold a jump back until
//!   the pass after it: a clock that is soon set right again destroys nothing. A pass that a
//!   program asks for takes the time as it is.
//!
//! Before a segment goes for its age, its largest timestamp is read from the headers of its
//! batches: no checksum covers the time index that it came from.
//!
//! # Other threads
//!
//! A pass looks at the segments without a lock and deletes under one. It compares two things again:
//!
//! - **The count of cuts**, under the lock. After a cut other records may lie below the offset that
//!   the pass came to, and they are as young as can be. The pass then decides again.
//! - **The list of segments**, after an error. A segment that the pass asked for may have been
//!   deleted, cut or compacted. If the list has changed, the error says nothing, and the pass
//!   decides again; each turn of this loop needs a change by another thread. If the topic was
//!   deleted, the pass ends with `UnknownTopic`, which [`Sum`] passes over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::config::CleanupPolicy;
use crate::error::{Error, Result};
use crate::partition::{Maintenance, PartitionCore, SegmentInfo};

/// What several steps did, and the first error among them.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    done: Maintenance,
    error: Option<Error>,
}

impl Sum {
    pub(crate) fn add(&mut self, step: Result<Maintenance>) {
        match step {
            Ok(done) => self.done += done,
            // Deleted while the pass was under way.
            Err(Error::UnknownTopic(_)) => {}
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }

    pub(crate) fn result(self) -> Result<Maintenance> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.done),
        }
    }
}

impl AddAssign for Maintenance {
    fn add_assign(&mut self, other: Self) {
        self.segments_deleted += other.segments_deleted;
        self.bytes_freed += other.bytes_freed;
        self.segments_compacted += other.segments_compacted;
        self.records_removed += other.records_removed;
        self.bytes_not_compacted += other.bytes_not_compacted;
        self.batches_left_alone += other.batches_left_alone;
    }
}

/// What a segment's files say, when they are asked.
trait Evidence {
    /// When the `.log` was last written.
    fn modified(&self, segment: &SegmentInfo) -> Result<Timestamp>;
    /// The largest timestamp in the batch headers.
    fn confirmed(&self, segment: &SegmentInfo) -> Result<Option<Timestamp>>;
}

impl Evidence for PartitionCore {
    fn modified(&self, segment: &SegmentInfo) -> Result<Timestamp> {
        self.segment_modified(segment.base_offset)
    }

    fn confirmed(&self, segment: &SegmentInfo) -> Result<Option<Timestamp>> {
        self.confirmed_max_timestamp(segment.base_offset)
    }
}

impl PartitionCore {
    /// One pass over the partition: deletes what its settings no longer keep at `now`.
    pub(crate) fn apply_retention(&self, now: Timestamp) -> Result<Maintenance> {
        let settings = self.settings();
        let mut done =
            self.delete_by(|segments| Ok(below_log_start(segments, self.log_start_offset())))?;
        if !allows_deletion(settings.cleanup_policy) {
            return Ok(done);
        }
        done += self.delete_by(|segments| {
            Ok(over_size(
                segments,
                self.high_watermark(),
                settings.retention_bytes,
            ))
        })?;
        done += self.delete_by(|segments| {
            expired(
                segments,
                self.high_watermark(),
                settings.retention_ms,
                now,
                self,
            )
        })?;
        Ok(done)
    }

    /// Deletes the segments below the offset that `decide` comes to, if it comes to one.
    fn delete_by(
        &self,
        decide: impl Fn(&[SegmentInfo]) -> Result<Option<u64>>,
    ) -> Result<Maintenance> {
        loop {
            let truncations = self.truncations();
            let Some(end) = self.decide(&decide)? else {
                return Ok(Maintenance::default());
            };
            if let Some(done) = self.delete_segments_before(end, truncations)? {
                return Ok(done);
            }
        }
    }

    /// Decides something by the segments; once more where they changed before it could be decided.
    fn decide<T>(&self, decide: impl Fn(&[SegmentInfo]) -> Result<T>) -> Result<T> {
        loop {
            let version = self.segments_version();
            match self.segment_infos().and_then(|segments| decide(&segments)) {
                Err(_) if self.segments_version() != version => {}
                decided => return decided.map_err(|error| self.or_gone(error)),
            }
        }
    }
}

/// Whether size and age may delete.
pub(crate) fn allows_deletion(policy: CleanupPolicy) -> bool {
    matches!(
        policy,
        CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete
    )
}

/// Segments that retention may touch: all below the high watermark, and not an empty last one.
fn deletable(segments: &[SegmentInfo], high_watermark: u64) -> &[SegmentInfo] {
    let is_deletable = |segment: &SegmentInfo| {
        segment.next_offset <= high_watermark && !(segment.is_active && segment.bytes == 0)
    };
    let count = segments
        .iter()
        .take_while(|segment| is_deletable(segment))
        .count();
    segments.get(..count).unwrap_or_default()
}

/// Where the log can begin, if segments lie below the log start.
fn below_log_start(segments: &[SegmentInfo], log_start: u64) -> Option<u64> {
    let is_below = |segment: &&SegmentInfo| !segment.is_active && segment.next_offset <= log_start;
    segments
        .iter()
        .take_while(is_below)
        .last()
        .map(|segment| segment.next_offset)
}

/// Where the log can begin without being smaller than `limit` bytes; negative is no limit.
fn over_size(segments: &[SegmentInfo], high_watermark: u64, limit: i64) -> Option<u64> {
    let limit = u64::try_from(limit).ok()?;
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut excess = total.checked_sub(limit)?;
    let goes = |segment: &&SegmentInfo| match excess.checked_sub(segment.bytes) {
        Some(rest) => {
            excess = rest;
            true
        }
        None => false,
    };
    deletable(segments, high_watermark)
        .iter()
        .take_while(goes)
        .last()
        .map(|segment| segment.next_offset)
}

/// Where the log can begin if it keeps `retention_ms` milliseconds; negative is for ever.
fn expired(
    segments: &[SegmentInfo],
    high_watermark: u64,
    retention_ms: i64,
    now: Timestamp,
    evidence: &impl Evidence,
) -> Result<Option<u64>> {
    if retention_ms < 0 {
        return Ok(None);
    }
    let is_old =
        |written: Timestamp| now.as_millis().saturating_sub(written.as_millis()) > retention_ms;
    let mut end = None;
    for (index, segment) in deletable(segments, high_watermark).iter().enumerate() {
        let later = segments.get(index + 1..).unwrap_or_default();
        if !is_old(written(
            segment.max_timestamp,
            segment,
            later,
            now,
            evidence,
        )?) {
            break;
        }
        let confirmed = match evidence.confirmed(segment) {
            Ok(confirmed) => confirmed,
            // What can be known of a damaged segment is when its file was written.
            Err(Error::Corrupt(_)) => segment.max_timestamp.max(Some(evidence.modified(segment)?)),
            Err(error) => return Err(error),
        };
        if !is_old(written(confirmed, segment, later, now, evidence)?) {
            break;
        }
        end = Some(segment.next_offset);
    }
    Ok(end)
}

/// When the newest record of a segment counts as written. `later` are the segments behind it.
fn written(
    largest: Option<Timestamp>,
    segment: &SegmentInfo,
    later: &[SegmentInfo],
    now: Timestamp,
    evidence: &impl Evidence,
) -> Result<Timestamp> {
    if let Some(largest) = largest.filter(|largest| *largest <= now) {
        return Ok(largest);
    }
    for segment in [segment].into_iter().chain(later) {
        let modified = evidence.modified(segment)?;
        if modified <= now {
            return Ok(modified);
        }
    }
    Ok(now)
}

/// A partition, and whether its segments may go to keep the whole log within its bound.
pub(crate) type Bounded = (Arc<PartitionCore>, bool);

/// Returns the size of all `.log` files together, in bytes.
pub(crate) fn total_bytes(partitions: &[Bounded]) -> u64 {
    partitions
        .iter()
        .map(|(partition, _)| partition.log_bytes())
        .sum()
}

/// Deletes sealed segments, those written longest ago first, until all partitions together have at
/// most `limit` bytes. If that is not enough, active segments are deleted too; they are rolled
/// first. A partition that cannot be looked at keeps its segments, and segments of the others are
/// deleted instead. Returns the first error after all were tried.
pub(crate) fn bound_total(
    limit: u64,
    partitions: &[Bounded],
    now: Timestamp,
) -> Result<Maintenance> {
    let mut sum = Sum::default();
    for includes_active in [false, true] {
        let excess = total_bytes(partitions).saturating_sub(limit);
        if excess > 0 {
            delete_oldest(partitions, excess, includes_active, now, &mut sum);
        }
    }
    sum.result()
}

fn delete_oldest(
    partitions: &[Bounded],
    excess: u64,
    includes_active: bool,
    now: Timestamp,
    sum: &mut Sum,
) {
    let (mut candidates, mut seen) = (Vec::new(), Vec::new());
    for (partition, may_delete) in partitions {
        let truncations = partition.truncations();
        let found = if *may_delete {
            candidates_of(partition, includes_active, now)
        } else {
            Ok(Vec::new())
        };
        candidates.push(found.unwrap_or_else(|error| {
            sum.add(Err(error));
            Vec::new()
        }));
        seen.push(truncations);
    }
    for (((partition, _), truncations), end) in
        partitions.iter().zip(seen).zip(oldest(&candidates, excess))
    {
        let Some(end) = end else { continue };
        // After a cut there is less, and the next pass counts again.
        sum.add(
            partition
                .delete_segments_before(end, truncations)
                .map(Option::unwrap_or_default),
        );
    }
}

/// A segment as [`oldest`] sees it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    written: Timestamp,
    bytes: u64,
    next_offset: u64,
}

fn candidates_of(
    partition: &PartitionCore,
    includes_active: bool,
    now: Timestamp,
) -> Result<Vec<Candidate>> {
    partition.decide(|segments| {
        let deletable = deletable(segments, partition.high_watermark()).iter();
        let candidates = deletable.take_while(|segment| includes_active || !segment.is_active);
        let candidate = |(index, segment): (usize, &SegmentInfo)| {
            let later = segments.get(index + 1..).unwrap_or_default();
            let written = written(segment.max_timestamp, segment, later, now, partition)?;
            Ok(Candidate {
                written,
                bytes: segment.bytes,
                next_offset: segment.next_offset,
            })
        };
        candidates.enumerate().map(candidate).collect()
    })
}

/// For each partition where it can begin, so that at least `excess` bytes go: the oldest first,
/// each partition from its front.
fn oldest(partitions: &[Vec<Candidate>], mut excess: u64) -> Vec<Option<u64>> {
    let mut queues: Vec<_> = partitions
        .iter()
        .map(|candidates| candidates.iter())
        .collect();
    let mut ends = vec![None; partitions.len()];
    let mut next: BinaryHeap<_> = BinaryHeap::new();
    let mut offer = |next: &mut BinaryHeap<_>, partition: usize| {
        if let Some(candidate) = queues.get_mut(partition).and_then(Iterator::next) {
            next.push(Reverse((
                candidate.written,
                partition,
                candidate.bytes,
                candidate.next_offset,
            )));
        }
    };
    for partition in 0..partitions.len() {
        offer(&mut next, partition);
    }
    while excess > 0 {
        let Some(Reverse((_, partition, bytes, next_offset))) = next.pop() else {
            break;
        };
        excess = excess.saturating_sub(bytes);
        if let Some(end) = ends.get_mut(partition) {
            *end = Some(next_offset);
        }
        offer(&mut next, partition);
    }
    ends
}

/// The time as the background pass believes it: a leap ahead is believed when the pass after it
/// still sees it.
#[derive(Debug)]
pub(crate) struct SteadyTime {
    last: Timestamp,
    /// As far as the clock may move between two passes without being doubted.
    stride: Duration,
}

impl SteadyTime {
    /// For passes every `interval`, from `now` on.
    pub(crate) fn new(now: Timestamp, interval: Duration) -> Self {
        /// Clocks are put right by less than this in the course of things.
        const SLACK: Duration = Duration::from_secs(3600);
        Self {
            last: now,
            stride: interval.saturating_mul(2).saturating_add(SLACK),
        }
    }

    /// What to believe at a pass that sees `now`.
    pub(crate) fn believe(&mut self, now: Timestamp) -> Timestamp {
        let leaps = now.as_millis().saturating_sub(self.last.as_millis()) > millis(self.stride);
        let believed = if leaps { self.last + self.stride } else { now };
        self.last = now;
        believed
    }
}

#[cfg(test)]
mod tests;
