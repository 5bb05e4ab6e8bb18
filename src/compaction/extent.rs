//! Finds the part of a partition that may be cleaned, and decides whether a pass is worthwhile.
//!
//! The part consists of sealed segments. It ends at the last stable offset, or earlier at the first
//! segment with a record that is younger than `min.compaction.lag.ms`. Segments below the offset
//! that the last pass reached are clean, the others are dirty.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::partition::PartitionCore;
use crate::segment::Segment;

/// The part of a partition that may be cleaned.
#[derive(Debug)]
pub(super) struct Extent {
    /// The sealed segments from the start of the log to `end`.
    pub(super) segments: Vec<Arc<Segment>>,
    /// First offset that no pass has read.
    pub(super) first_dirty: u64,
    /// First offset that may not be cleaned; a segment begins at it.
    pub(super) end: u64,
    clean_bytes: u64,
    dirty_bytes: u64,
    is_overdue: bool,
}

impl Extent {
    pub(super) fn of(partition: &PartitionCore, now: Timestamp) -> Result<Self> {
        let settings = partition.settings();
        let log = partition.log_start_offset()..=partition.log_end_offset();
        let first_dirty = partition
            .cleaned_end()
            .filter(|end| log.contains(end))
            .unwrap_or(*log.start());
        let stable = partition.last_stable_offset();
        let mut extent = Self {
            segments: Vec::new(),
            first_dirty,
            end: *log.start(),
            clean_bytes: 0,
            dirty_bytes: 0,
            is_overdue: false,
        };
        let mut oldest = None;
        for (segment, next_offset) in partition.sealed_segments() {
            let bytes = u64::from(segment.size());
            let is_dirty = next_offset > first_dirty;
            if next_offset > stable
                || is_dirty
                    && is_too_young(partition, &segment, settings.min_compaction_lag_ms, now)?
            {
                break;
            }
            if is_dirty {
                extent.dirty_bytes += bytes;
                if settings.max_compaction_lag_ms < i64::MAX {
                    let first =
                        Some(partition.first_timestamp(&segment)?).filter(|first| *first > 0);
                    oldest = first.into_iter().chain(oldest).min();
                }
            }
            if segment.base_offset < first_dirty {
                extent.clean_bytes += bytes;
            }
            extent.end = next_offset;
            extent.segments.push(segment);
        }
        let is_old =
            |first: i64| now.as_millis().saturating_sub(first) > settings.max_compaction_lag_ms;
        extent.is_overdue = extent.dirty_bytes > 0 && oldest.is_some_and(is_old);
        Ok(extent)
    }

    /// Returns the total size of the `.log` files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// Returns the segments that contain an offset that no pass has read.
    pub(super) fn dirty(&self) -> &[Arc<Segment>] {
        let clean = self
            .segments
            .partition_point(|segment| segment.next_offset() <= self.first_dirty);
        self.segments.get(clean..).unwrap_or_default()
    }

    /// Returns the dirty share of all bytes if it is above `least`, and infinity if records have
    /// waited too long. Returns `None` if a pass is not worthwhile.
    pub(super) fn urgency(&self, least: f64) -> Option<f64> {
        if self.is_overdue {
            return Some(f64::INFINITY);
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
        let ratio = self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64;
        (ratio > least).then_some(ratio)
    }
}

/// Returns whether the newest record of a segment is younger than `lag_ms`. If the records have no
/// timestamps, the modification time of the file counts.
fn is_too_young(
    partition: &PartitionCore,
    segment: &Arc<Segment>,
    lag_ms: i64,
    now: Timestamp,
) -> Result<bool> {
    if lag_ms <= 0 {
        return Ok(false);
    }
    let largest = match partition.max_timestamp_of(segment)? {
        -1 => partition.segment_modified(segment.base_offset)?.as_millis(),
        largest => largest,
    };
    Ok(largest > now.as_millis().saturating_sub(lag_ms))
}
