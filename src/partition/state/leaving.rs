//! Segments that were taken out of the list of segments and may still be on the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::clock::Timestamp;
use crate::segment::Segment;
use crate::sync::Mutex;

/// Files that were renamed to be deleted later, with the time at which each is due.
#[derive(Debug, Default)]
pub(in crate::partition) struct Trash(pub(in crate::partition) Mutex<Vec<(PathBuf, Timestamp)>>);

/// Segments that were taken out of the list and may still be on the disk.
#[derive(Debug, Default)]
pub(in crate::partition) struct Leaving {
    /// Segments whose files are not all removed yet, oldest first. They are removed in this order,
    /// even if that takes several attempts: removing a later segment first would leave a hole.
    pub(in crate::partition) segments: Mutex<Vec<Arc<Segment>>>,
    /// Whether a sync of the directory failed after files were removed. A power cut may then bring
    /// the files back, whatever later syncs report.
    pub(in crate::partition) may_come_back: AtomicBool,
    /// The log start that is stored before the segments below it leave; 0 if it was not announced.
    pub(in crate::partition) announced_start: AtomicU64,
}

impl Leaving {
    pub(in crate::partition) fn is_empty(&self) -> bool {
        self.segments.lock().is_empty()
    }
}
