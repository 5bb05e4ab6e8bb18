//! Finding the last records of a partition.
//!
//! No file says how many records come after an offset: compaction leaves gaps, and transaction
//! markers and aborted records take offsets too. So records are counted, in windows of offsets that
//! go back from the end. The first window spans as many offsets as records are wanted, which is
//! enough where every offset has its record; each further one is twice as wide.

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
            // Deleted, or cut, since the end was looked at.
            Err(Error::OffsetOutOfRange { .. }) => {}
            found => return found,
        }
    }
}

struct Counted<'a> {
    core: &'a Arc<PartitionCore>,
    keep: &'a KeepOpen,
}

impl Counted<'_> {
    fn read(&self, offsets: impl RangeBounds<u64>) -> Result<Reader> {
        Reader::new(self.core, self.keep.clone(), &offsets, ReadOptions::new())
    }

    /// The offset of the first of the last `records` records below `end`; the log start if there
    /// are fewer.
    fn start_of_last(&self, records: u64, end: u64) -> Result<u64> {
        let (mut start, mut missing, mut width) = (end, records, records);
        loop {
            let log_start = self.core.log_start_offset();
            if missing == 0 || start <= log_start {
                return Ok(start);
            }
            let window = start.saturating_sub(width).max(log_start)..start;
            let found = self.count(window.clone())?;
            if found >= missing {
                return self.nth(window, found - missing);
            }
            (start, missing, width) = (window.start, missing - found, width.saturating_mul(2));
        }
    }

    fn count(&self, offsets: Range<u64>) -> Result<u64> {
        self.read(offsets)?.map(|batch| batch?.count()).sum()
    }

    /// The offset of the record that has `before` records before it in the range.
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
