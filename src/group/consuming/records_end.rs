//! The end of the records that a consumer can read.
//!
//! Transaction markers, aborted records, and records that compaction removed take offsets, but no
//! consumer gets them. If a partition ends with such offsets, a position before them is not behind.
//!
//! No file states where the last record is, so the search reads windows of offsets, from the end
//! on. In most partitions the last offset is a record, and the first window finds it.

use std::ops::Range;

use crate::error::Result;
use crate::partition::{Batch, Isolation, Partition, ReadOptions};

/// Returns the number of offsets from the start of `offsets` to the last record in it that a reader
/// with this isolation gets. If the records cannot be read, all offsets count.
pub(in crate::group) fn lag(
    partition: &Partition,
    isolation: Isolation,
    offsets: Range<u64>,
) -> u64 {
    let end = records_end(partition, isolation, offsets.clone()).unwrap_or(offsets.end);
    end.saturating_sub(offsets.start)
}

/// Returns the lag of a position, whoever continues there. Records of open transactions count,
/// because they may still be committed. Those of aborted ones do not.
pub(in crate::group) fn lag_of_group(partition: &Partition, position: u64) -> u64 {
    let end = partition.high_watermark();
    let isolation = if partition.last_stable_offset() < end {
        Isolation::ReadUncommitted
    } else {
        Isolation::ReadCommitted
    };
    lag(
        partition,
        isolation,
        position.max(partition.log_start_offset())..end,
    )
}

/// Returns the offset after the last record in `offsets` that a reader with this isolation gets, or
/// the start of `offsets` if there is none.
fn records_end(partition: &Partition, isolation: Isolation, offsets: Range<u64>) -> Result<u64> {
    let (mut end, mut width) = (offsets.end, 1);
    while offsets.start < end {
        let start = end.saturating_sub(width).max(offsets.start);
        let options = ReadOptions::new().isolation(isolation);
        let mut found = None;
        for batch in partition.read_with(start..end, options)? {
            found = last_of(&batch?)?.or(found);
        }
        if let Some(last) = found {
            return Ok(last + 1);
        }
        (end, width) = (start, width.saturating_mul(2));
    }
    Ok(offsets.start)
}

/// Returns the offset of the last record of a batch in its range. The range may be one that
/// compaction has emptied.
fn last_of(batch: &Batch) -> Result<Option<u64>> {
    let Range { start, end } = batch.offsets();
    let (header, _) = batch.stored();
    if header.magic >= 2 && header.is_full_or_empty() {
        return Ok((start < end).then(|| end - 1));
    }
    batch
        .iter()
        .last()
        .map(|record| record.map(|record| record.offset()))
        .transpose()
}
