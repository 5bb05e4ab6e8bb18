//! How far a partition was compacted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bounds::NEVER;

/// How far the last pass of compaction came.
#[derive(Debug)]
pub(in crate::partition) struct Compacted {
    /// Every record below was compacted; [`NEVER`] if none was.
    end: AtomicU64,
    /// Offset of the first batch that the pass could not look into; [`NEVER`] if there was none.
    first_left_alone: AtomicU64,
}

impl Default for Compacted {
    fn default() -> Self {
        Self {
            end: AtomicU64::new(NEVER),
            first_left_alone: AtomicU64::new(NEVER),
        }
    }
}

impl Compacted {
    /// Returns the offset up to which the partition was compacted, if it was.
    pub(in crate::partition) fn end(&self) -> Option<u64> {
        Some(self.end.load(Ordering::Acquire)).filter(|end| *end != NEVER)
    }

    /// Returns the offset for the checkpoint. If a batch was left alone as too large, everything
    /// from there on counts as new for a log that is opened again: that log may be able to read the
    /// batch, and then has to learn its keys.
    pub(in crate::partition) fn line(&self) -> Option<u64> {
        let first_left_alone = self.first_left_alone.load(Ordering::Acquire);
        self.end().map(|end| end.min(first_left_alone))
    }

    /// Sets the end from the checkpoint.
    pub(in crate::partition) fn set_end(&self, end: Option<u64>) {
        self.end.store(end.unwrap_or(NEVER), Ordering::Release);
    }

    /// Notes a pass that came to `end` and left batches alone from `first_left_alone` on.
    pub(in crate::partition) fn note(&self, end: u64, first_left_alone: Option<u64>) {
        self.first_left_alone
            .store(first_left_alone.unwrap_or(NEVER), Ordering::Release);
        self.set_end(Some(end));
    }

    /// Lowers the end to where the log was cut.
    pub(in crate::partition) fn lower(&self, end: u64) {
        if self.end().is_some() {
            self.end.fetch_min(end, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_lowers_the_end_of_a_partition_that_was_compacted() {
        let compacted = Compacted::default();
        compacted.lower(3);
        assert_eq!(compacted.end(), None);
        compacted.note(9, None);
        compacted.lower(12);
        assert_eq!(compacted.end(), Some(9));
        compacted.lower(3);
        assert_eq!(compacted.end(), Some(3));
    }

    #[test]
    fn the_checkpoint_says_no_more_than_was_looked_into() {
        let compacted = Compacted::default();
        assert_eq!(compacted.line(), None);
        compacted.note(9, Some(5));
        assert_eq!(compacted.end(), Some(9));
        assert_eq!(compacted.line(), Some(5));
        compacted.note(9, None);
        assert_eq!(compacted.line(), Some(9));
    }
}
