//! What a read-only partition has seen of the active file.

use std::time::Duration;

use crate::clock::Deadline;
use crate::storage::FileMetadata;

/// How often a waiting reader looks. Files tell the time of a change less finely than its half.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the active file was when it was looked at last.
#[derive(Debug, Default)]
pub(in crate::partition) struct Seen {
    /// `None`: not looked at yet.
    pub(in crate::partition) file: Option<FileMetadata>,
    /// Where the last published batch stands, and the first bytes of it.
    pub(in crate::partition) last: Option<(u32, Vec<u8>)>,
    /// When a file that looks as it did has not changed.
    pub(in crate::partition) settled: Option<Deadline>,
}
