//! Retention: deletes segments that are too old, exceed the size limit, or lie below the log start.
//!
//! A pass works as in Kafka. It deletes segments below the log start, then those over
//! `retention.bytes`, then those older than `retention.ms`. Each step begins at the oldest segment
//! and ends at the first one that must stay. Only whole segments are deleted, never a segment that
//! reaches above the high watermark, and never an empty last one. If all segments of a partition
//! are to be deleted, the active one is rolled first, so that the next offset does not change. Size
//! and age count only if `cleanup.policy` contains `delete`.
//!
//! # Clocks that jump
//!
//! The age of a segment counts from its largest record timestamp. Timestamps come from programs and
//! clocks, and either may be wrong. Therefore:
//!
//! - **A timestamp in the future is ignored.** Such a segment, like one without timestamps, counts
//!   as written at the modification time of its file. If that time is in the future too, the time
//!   of the first later segment whose file is not from the future counts; without such a segment,
//!   the present time does. One record from the future therefore does not keep its segment for
//!   ever. The result is never earlier than the true time of writing, as long as the clock was not
//!   slow.
//! - **A clock that jumps back deletes nothing.** All data written before the jump is in the
//!   future, by its timestamps and by its files.
//! - **A clock that jumps ahead** makes everything look old. It cannot be distinguished from a
//!   machine that was off for that long. The background pass therefore uses [`SteadyTime`], which
//!   accepts a jump only if the next pass still sees it: a clock that is soon corrected deletes
//!   nothing. A pass that a program requests takes the time as it is.
//!
//! Before a segment is deleted for its age, its largest timestamp is read from the headers of its
//! batches, because no checksum covers the time index.
//!
//! # Other threads
//!
//! A pass reads the segments without a lock and deletes under one. It checks two things again:
//!
//! - **The count of cuts**, under the lock. After a cut, the offset that the pass chose may lie
//!   above new records that must stay. The pass then decides again.
//! - **The list of segments**, after an error. Another thread may have deleted, cut or compacted a
//!   segment that the pass was reading. If the list has changed, the error is ignored and the pass
//!   decides again. Each turn of this loop needs a change by another thread. If the topic was
//!   deleted, the pass ends with `UnknownTopic`, which [`Sum`] ignores.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::config::CleanupPolicy;
use crate::error::{Error, Result};
use crate::partition::{Maintenance, PartitionCore, SegmentInfo};

/// The result of several steps, and the first error among them.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    done: Maintenance,
    error: Option<Error>,
}

impl Sum {
    pub(crate) fn add(&mut self, step: Result<Maintenance>) {
        match step {
            Ok(done) => self.done += done,
            // The topic was deleted during the pass.
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

/// The facts about a segment that are read from its files on demand.
trait Evidence {
    /// Returns when the `.log` was last written.
    fn modified(&self, segment: &SegmentInfo) -> Result<Timestamp>;
    /// Returns the largest timestamp in the batch headers.
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
    /// Runs one pass over the partition: deletes the segments that its settings no longer keep at
    /// `now`.
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

    /// Deletes the segments below the offset that `decide` returns, if it returns one.
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

    /// Decides from the segments. If that fails and the segments have changed in the meantime,
    /// decides again.
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

/// Returns whether the policy allows deletion by size and age.
pub(crate) fn allows_deletion(policy: CleanupPolicy) -> bool {
    matches!(
        policy,
        CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete
    )
}

/// Returns the segments that retention may delete: those up to the high watermark, without an empty
/// last one.
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

/// Returns the new start of the log if whole segments lie below the log start.
fn below_log_start(segments: &[SegmentInfo], log_start: u64) -> Option<u64> {
    let is_below = |segment: &&SegmentInfo| !segment.is_active && segment.next_offset <= log_start;
    segments
        .iter()
        .take_while(is_below)
        .last()
        .map(|segment| segment.next_offset)
}

/// Returns the new start of the log so that it keeps at least `limit` bytes. A negative limit means
/// no limit.
fn over_size(segments: &[SegmentInfo], high_watermark: u64, limit: i64) -> Option<u64> {
    let limit = u64::try_from(limit).ok()?;
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut excess = total.checked_sub(limit)?;
    let is_excess = |segment: &&SegmentInfo| match excess.checked_sub(segment.bytes) {
        Some(rest) => {
            excess = rest;
            true
        }
        None => false,
    };
    deletable(segments, high_watermark)
        .iter()
        .take_while(is_excess)
        .last()
        .map(|segment| segment.next_offset)
}

/// Returns the new start of the log so that it keeps `retention_ms` milliseconds. A negative value
/// means for ever.
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
            // The timestamps of a damaged segment cannot be confirmed, but its modification time
            // can be read.
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

/// Returns when the newest record of a segment counts as written. `later` are the segments after
/// it.
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

/// A partition, and whether its segments may be deleted to keep the whole log within its limit.
pub(crate) type Bounded = (Arc<PartitionCore>, bool);

/// Returns the size of all `.log` files together, in bytes.
pub(crate) fn total_bytes(partitions: &[Bounded]) -> u64 {
    partitions
        .iter()
        .map(|(partition, _)| partition.log_bytes())
        .sum()
}

/// Deletes sealed segments, those written longest ago first, until all partitions together have at
/// most `limit` bytes. If that is not enough, active segments are rolled and deleted too. If the
/// segments of a partition cannot be read, it keeps them, and segments of other partitions are
/// deleted instead. Returns the first error after all partitions were tried.
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
        // If the log was cut in the meantime, it is smaller; the next pass counts again.
        sum.add(
            partition
                .delete_segments_before(end, truncations)
                .map(Option::unwrap_or_default),
        );
    }
}

/// A segment that [`oldest`] may select.
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

/// Returns the new start of each partition so that at least `excess` bytes are deleted. Selects the
/// oldest segments first, and in each partition only from its start.
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

/// The time that the background pass uses. A jump ahead is accepted only if the next pass still
/// sees it.
#[derive(Debug)]
pub(crate) struct SteadyTime {
    last: Timestamp,
    /// Largest step of the clock between two passes that is accepted at once.
    stride: Duration,
}

impl SteadyTime {
    /// Creates the state for passes every `interval`, starting at `now`.
    pub(crate) fn new(now: Timestamp, interval: Duration) -> Self {
        /// Corrections of a clock are normally smaller than this.
        const SLACK: Duration = Duration::from_secs(3600);
        Self {
            last: now,
            stride: interval.saturating_mul(2).saturating_add(SLACK),
        }
    }

    /// Returns the time to use in a pass that sees `now`.
    pub(crate) fn believe(&mut self, now: Timestamp) -> Timestamp {
        let leaps = now.as_millis().saturating_sub(self.last.as_millis()) > millis(self.stride);
        let believed = if leaps { self.last + self.stride } else { now };
        self.last = now;
        believed
    }
}

#[cfg(test)]
mod tests;
