//! Finds the last records of a partition.
//!
//! No file states how many records follow an offset: compaction leaves gaps, and transaction
//! markers and aborted records take offsets too. So the records are counted in windows of offsets,
//! starting at the end. The first window spans as many offsets as records are wanted, which is
//! enough if every offset has a record. Each further window is twice as wide.

use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use super::options::ReadOptions;
use super::reader::Reader;
use crate::error::{Error, Result};
use crate::partition::PartitionCore;
use crate::partition::keeper::KeepOpen;

/// Reads the last `records` records that a reader can see now.
pub(in crate::partition) fn read_last(
    core: &Arc<PartitionCore>,
    keep: &KeepOpen,
    records: u64,
) -> Result<Reader> {
    let partition = Counted { core, keep };
    loop {
        let end = partition.read(..)?.bound();
        match partition
            .start_of_last(records, end)
            .and_then(|start| partition.read(start..end))
        {
            // The records were deleted or cut after the end was read.
            Err(Error::OffsetOutOfRange { .. }) => {}
            found => return found,
        }
    }
}

/// A partition whose records are counted.
struct Counted<'a> {
    core: &'a Arc<PartitionCore>,
    keep: &'a KeepOpen,
}

impl Counted<'_> {
    fn read(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        Reader::new(self.core, self.keep.clone(), &offsets, ReadOptions::new())
    }

    /// Returns the offset of the first of the last `records` records below `end`, or the log start
    /// if there are fewer.
    fn start_of_last(&self, records: u64, end: u64) -> Result<u64> {
        let (mut start, mut missing, mut width) = (end, records, records);
        loop {
            let log_start = self.core.log_start_offset();
            if missing == 0 || start <= log_start {
                return Ok(start);
            }
            let window = start.saturating_sub(width).max(log_start)..start;
            debug_assert!(
                window.start < window.end,
                "each window is closer to the log start"
            );
            let found = self.count(window.clone())?;
            if found >= missing {
                return self.nth(window, found - missing);
            }
            (start, missing, width) = (window.start, missing - found, width.saturating_mul(2));
        }
    }

    /// Returns the number of records in the range.
    fn count(&self, offsets: Range<u64>) -> Result<u64> {
        self.read(offsets)?.map(|batch| batch?.count()).sum()
    }

    /// Returns the offset of the record that has `before` records before it in the range. Returns
    /// the end of the range if compaction has removed records since they were counted.
    fn nth(&self, offsets: Range<u64>, mut before: u64) -> Result<u64> {
        if before == 0 {
            return Ok(offsets.start);
        }
        for batch in self.read(offsets.clone())? {
            let batch = batch?;
            let count = batch.count()?;
            if count <= before {
                before -= count;
                continue;
            }
            for record in &batch {
                let offset = record?.offset();
                if before == 0 {
                    return Ok(offset);
                }
                before -= 1;
            }
        }
        Ok(offsets.end)
    }
}
