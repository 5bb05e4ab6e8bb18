//! Reports on the opening of a partition and on a maintenance pass.

use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::brief::Few;
use crate::clock::Timestamp;
use crate::error::Error;

/// The reason given for a log whose files are intact but end too early. No checksum covers the
/// checkpoint, so the checkpoint itself may be wrong.
pub(in crate::partition) const MISSING_END: &str = "the records up to the recovery point are missing \
    (if there never were any, `truncate_to` the first of these offsets takes writes again)";

/// The repairs that opening a partition made. Part of [`Recovery`](crate::Recovery).
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// Bytes of batches that were checked.
    pub bytes_scanned: u64,
    /// Bytes that were cut from the end, without padding.
    pub bytes_cut: u64,
    /// Files that keep the bytes that were cut, in the order of the log.
    pub kept: Vec<PathBuf>,
    /// Segments whose indexes were missing or wrong, and were rebuilt.
    pub indexes_rebuilt: u32,
    /// The damage below the recovery point because of which appends are refused, if there is any.
    pub damage: Option<Error>,
}

impl PartitionRecovery {
    /// Returns the report of a partition that had been closed properly.
    pub(in crate::partition) fn nothing() -> &'static Self {
        static NOTHING: LazyLock<PartitionRecovery> = LazyLock::new(PartitionRecovery::default);
        &NOTHING
    }

    pub(in crate::partition) fn is_empty(&self) -> bool {
        let Self {
            bytes_scanned,
            bytes_cut,
            kept,
            indexes_rebuilt,
            damage,
        } = self;
        (*bytes_scanned, *bytes_cut, *indexes_rebuilt) == (0, 0, 0)
            && kept.is_empty()
            && damage.is_none()
    }
}

impl fmt::Debug for PartitionRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes_scanned,
            bytes_cut,
            kept,
            indexes_rebuilt,
            damage,
        } = self;
        let mut shown = f.debug_struct("PartitionRecovery");
        shown
            .field("bytes_scanned", bytes_scanned)
            .field("bytes_cut", bytes_cut)
            .field("kept", &Few(kept));
        shown
            .field("indexes_rebuilt", indexes_rebuilt)
            .field("damage", damage)
            .finish()
    }
}

/// The work that a maintenance pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// Segments that were deleted.
    pub segments_deleted: u64,
    /// Bytes of files that were removed, less those that compaction wrote in their place.
    pub bytes_freed: u64,
    /// Segments that compaction wrote.
    pub segments_compacted: u64,
    /// Records that compaction removed.
    pub records_removed: u64,
    /// Bytes of records that compaction had to leave for a later pass: those in the active segment,
    /// above the last stable offset, or younger than `min.compaction.lag.ms`. In a young partition
    /// these are all the records, and compaction does not run. Counted for the partitions that were
    /// compacted.
    pub bytes_not_compacted: u64,
    /// Batches that compaction kept unchanged, without reading their records: they decompress to
    /// more than [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes),
    /// or this build lacks their codec. Tombstones after such a batch stay.
    pub batches_left_alone: u64,
}

/// A segment of a partition, as its files are now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The base offset, which names the files.
    pub base_offset: u64,
    /// The base offset of the next segment. For the active segment, the log end offset.
    pub next_offset: u64,
    /// The size of the `.log` file in bytes.
    pub bytes: u64,
    /// The largest timestamp of the records, by the index. `None` if no record has a timestamp, or
    /// if the index cannot be read.
    pub max_timestamp: Option<Timestamp>,
    /// Whether this is the active segment, to which records are appended.
    pub is_active: bool,
    /// The path of the `.log` file.
    pub path: PathBuf,
}
