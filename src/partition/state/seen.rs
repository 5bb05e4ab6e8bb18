//! The state of the active file as a read-only partition last saw it.

use std::time::Duration;

use crate::clock::Deadline;
use crate::storage::FileMetadata;

/// How often a waiting reader looks at the files. File systems note the time of a change with a
/// granularity of at most half of this interval.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The active file at the last look.
#[derive(Debug, Default)]
pub(in crate::partition) struct Seen {
    /// `None` before the first look.
    pub(in crate::partition) file: Option<FileMetadata>,
    /// Position of the last published batch, and its first bytes.
    pub(in crate::partition) last: Option<(u32, Vec<u8>)>,
    /// From this time on, a file with unchanged metadata has unchanged contents.
    pub(in crate::partition) settled: Option<Deadline>,
}
