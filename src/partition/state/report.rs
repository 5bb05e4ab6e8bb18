//! What opening a partition, and a maintenance pass, did to it.

use std::fmt;
use std::path::PathBuf;

use crate::brief::Few;
use crate::error::Error;

/// Why a log that ends whole, and too early, is damaged. No checksum covers the checkpoint: it may
/// be what is wrong.
pub(in crate::partition) const MISSING_END: &str = "the records up to the recovery point are missing \
    (if there never were any, `truncate_to` the first of these offsets takes writes again)";

/// What opening a partition cut or rebuilt. Part of [`Recovery`](crate::Recovery).
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// Bytes of batches that were checked.
    pub bytes_scanned: u64,
    /// Bytes that were cut from the end. Padding is not counted.
    pub bytes_cut: u64,
    /// Files in which the bytes that were cut are kept, in the order of the log.
    pub kept: Vec<PathBuf>,
    /// Segments whose indexes were missing or wrong and were built anew.
    pub indexes_rebuilt: u32,
    /// Why appends are refused, if they are: damage below the recovery point.
    pub damage: Option<Error>,
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

/// What a maintenance pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// Segments that were deleted.
    pub segments_deleted: u64,
    /// Bytes of files that were removed, less those that compaction wrote in their place.
    pub bytes_freed: u64,
    /// Segments that compaction made anew.
    pub segments_compacted: u64,
    /// Records that compaction left out.
    pub records_removed: u64,
    /// Bytes of records that compaction had to leave for a later time: those in the active segment,
    /// above the last stable offset, or younger than `min.compaction.lag.ms`. In a young partition
    /// these are all that there are, and nothing was compacted. Counted for the partitions that
    /// were compacted.
    pub bytes_not_compacted: u64,
    /// Batches that compaction kept as they are, without looking at their records: they decompress
    /// to more than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes), or this
    /// build lacks their codec. Tombstones after such a batch stay.
    pub batches_left_alone: u64,
}
