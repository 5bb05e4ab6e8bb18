//! Segments that are out of the list of segments and may still be on the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::segment::Segment;

/// Files that were renamed to be deleted later, with the time it is due.
#[derive(Debug, Default)]
pub(in crate::partition) struct Trash(pub(in crate::partition) Mutex<Vec<(PathBuf, Timestamp)>>);

/// What is out of the list, and may still be on the disk.
#[derive(Debug, Default)]
pub(in crate::partition) struct Leaving {
    /// Segments that have yet to lose their files, or what is left of them; oldest first. They go
    /// in this order, also where it takes several attempts: files of a later one alone gone would
    /// leave a hole.
    pub(in crate::partition) segments: Mutex<Vec<Arc<Segment>>>,
    /// Whether a sync of the directory failed when files had gone: they may be back after a power
    /// cut, whatever later syncs say.
    pub(in crate::partition) may_come_back: AtomicBool,
}

impl Leaving {
    pub(in crate::partition) fn is_empty(&self) -> bool {
        self.segments.lock().is_empty()
    }
}
