//! Walking a segment from a place to its end, checking every batch on the way.

use std::io;
use std::sync::Arc;

use super::seek::indexed;
use super::transactions::control_of;
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::segment::batch_file::{BatchFile, ReadError};
use crate::segment::index_file::MemoryIndex;
use crate::segment::{Segment, SegmentHome};

/// What holds for the batches of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanRules {
    /// Whether a gap is damage.
    pub(super) is_dense: bool,
    pub(super) interval_bytes: u32,
}

/// Where a scan starts.
pub(super) struct ScanStart {
    pub(super) position: u32,
    /// The entries of what lies before.
    pub(super) index: MemoryIndex,
    /// Lowest base offset that the first batch may have.
    pub(super) expected: u64,
    /// Whether checksums are looked at, or headers only.
    pub(super) checks: bool,
}

impl ScanStart {
    pub(super) fn at_start(base: u64, checks: bool) -> Self {
        Self { position: 0, index: MemoryIndex::default(), expected: base, checks }
    }
}

/// What a scan found.
pub(super) struct Scan {
    /// Byte behind the last good batch. What is behind it in the file is zeros, where there is no damage.
    pub(super) end: u32,
    pub(super) next_offset: u64,
    pub(super) index: MemoryIndex,
    /// Leader epoch of the last batch; -1 where there is none.
    pub(super) last_epoch: i32,
    /// Why it ended before the end of the file, if it did.
    pub(super) damage: Option<Malformed>,
}

impl Scan {
    pub(super) fn empty(base: u64) -> Self {
        Self { end: 0, next_offset: base, index: MemoryIndex::default(), last_epoch: -1, damage: None }
    }
}

/// Scans the first `bytes` bytes of segment `base`; `visit` sees every good batch, with its control record.
pub(super) fn scan(
    home: &SegmentHome,
    base: u64,
    bytes: u32,
    start: ScanStart,
    rules: ScanRules,
    mut visit: impl FnMut(&Segment, u32, &BatchHeader, Option<ControlRecord>),
) -> io::Result<Scan> {
    let home = SegmentHome { maps: false, ..home.clone() };
    let segment = Arc::new(Segment::open_sealed(&home, base, bytes, u64::MAX));
    let mut file = BatchFile::new(Arc::clone(&segment));
    let mut found = Scan { end: start.position, index: start.index, ..Scan::empty(base) };
    let (mut expected, mut is_exact) = (start.expected, rules.is_dense && start.position == 0);
    loop {
        let header = match file.header_at(found.end, bytes) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Damaged(malformed)) => {
                // Only a rest that is all zeros is the end: behind anything else there may have been a batch.
                found.damage = (!file.is_zero(found.end, bytes)?).then_some(malformed);
                break;
            }
        };
        let follows = if is_exact { header.base_offset == expected } else { header.base_offset >= expected };
        if !follows || header.last_offset - base > u64::from(crate::segment::MAX_LOG_BYTES) {
            found.damage = Some(Malformed("the offset of a batch does not follow the one before it"));
            break;
        }
        if start.checks || header.is_control() {
            match file.checked(found.end, &header, bytes) {
                Ok(batch) => visit(&segment, found.end, &header, control_of(&header, batch)),
                Err(ReadError::Io(error)) => return Err(error),
                Err(ReadError::Damaged(malformed)) => {
                    found.damage = Some(malformed);
                    break;
                }
            }
        } else {
            visit(&segment, found.end, &header, None);
        }
        found.index.note(indexed(&segment, found.end, &header), rules.interval_bytes);
        found.last_epoch = header.leader_epoch;
        found.next_offset = header.last_offset + 1;
        found.end += header.size_bytes;
        (expected, is_exact) = (found.next_offset, rules.is_dense);
    }
    Ok(found)
}
