//! A scan walks a segment from a given position to its end and checks every batch.
//!
//! It decides how much opening may cut: only a rest of the file that does not begin with a whole
//! batch with a valid checksum. A batch with a valid checksum was written exactly so, however odd
//! its header looks. The scan steps over it, reports it as a [`Misfit`], and never lets it be cut.
//! The exception is a batch whose write was torn at the border of a sector within the base offset
//! and the length: the checksum does not cover them, and the base offset shows that bytes are
//! missing.

use std::io;
use std::ops::Range;

use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::control::control_of;
use crate::segment::batch_file::ReadError;
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::{Checked, Walk, indexed};
use crate::segment::{Segment, SegmentHome};

/// The rules for the batches of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanRules {
    /// Whether a gap is damage.
    pub(super) is_dense: bool,
    /// Bytes between two index entries.
    pub(super) interval_bytes: u32,
}

/// The start of a scan.
pub(super) struct ScanStart {
    pub(super) position: u32,
    /// The index entries of the batches before it.
    pub(super) index: MemoryIndex,
    /// Lowest base offset that the first batch may have.
    pub(super) expected: u64,
    /// Whether all checksums are compared. If not, only those of control batches are.
    pub(super) checks: bool,
}

impl ScanStart {
    pub(super) fn at_start(base: u64, checks: bool) -> Self {
        Self {
            position: 0,
            index: MemoryIndex::default(),
            expected: base,
            checks,
        }
    }
}

/// The result of a scan.
pub(super) struct Scan {
    /// The position after the last whole batch. Without damage, the rest of the file is zeros.
    pub(super) end: u32,
    /// Offset after the last record.
    pub(super) next_offset: u64,
    /// Lowest base offset that the next batch may have: not above `next_offset`.
    pub(super) expected: u64,
    pub(super) index: MemoryIndex,
    /// Leader epoch of the last batch; -1 for an empty segment.
    pub(super) last_epoch: i32,
    /// The reason why the scan ended before the end of the file, if it did. In that case, only the
    /// bytes after `end` may be cut.
    pub(super) damage: Option<Malformed>,
    /// The first batch that was stepped over.
    pub(super) misfit: Option<Misfit>,
}

/// A whole batch with a valid checksum whose header does not fit its place in the log.
#[derive(Clone, Debug)]
pub(super) struct Misfit {
    pub(super) position: u32,
    /// The offsets that the batch would have if it followed the one before it.
    pub(super) offsets: Range<u64>,
    pub(super) reason: Malformed,
}

impl Scan {
    pub(super) fn empty(base: u64) -> Self {
        Self {
            end: 0,
            next_offset: base,
            expected: base,
            index: MemoryIndex::default(),
            last_epoch: -1,
            damage: None,
            misfit: None,
        }
    }

    /// Returns the first misfit of a segment that is followed by one at `next_base`: a batch, or
    /// the end of the segment if both segments have the same offsets.
    pub(super) fn misfit_before(&self, next_base: Option<u64>) -> Option<Misfit> {
        let overlap = || {
            let next = next_base.filter(|next| *next < self.expected)?;
            let reason = Malformed("the next segment begins with an offset that this one has");
            Some(Misfit {
                position: self.end,
                offsets: next..self.expected,
                reason,
            })
        };
        self.misfit.clone().or_else(overlap)
    }

    fn take(&mut self, header: &BatchHeader) {
        debug_assert!(
            header.next_base_offset() >= self.expected,
            "the walk checks that offsets rise"
        );
        self.last_epoch = header.leader_epoch;
        self.next_offset = self.next_offset.max(header.last_offset + 1);
        self.expected = header.next_base_offset();
        self.end += header.size_bytes;
    }

    /// Steps over a misfit that has `count` offsets.
    fn step_over(&mut self, size_bytes: u32, count: u64, reason: Malformed) {
        debug_assert!(size_bytes > 0, "a batch has a header");
        let offsets = self.next_offset..self.next_offset.saturating_add(count);
        // The missing offsets count as part of the log, so that a reader that reaches them gets an
        // error.
        self.next_offset = offsets.end;
        self.misfit.get_or_insert(Misfit {
            position: self.end,
            offsets,
            reason,
        });
        self.end += size_bytes;
    }
}

/// Scans the first `bytes` bytes of the segment at `base`. Calls `visit` with every batch that
/// fits, and with its control record.
pub(super) fn scan(
    home: &SegmentHome,
    base: u64,
    bytes: u32,
    start: ScanStart,
    rules: ScanRules,
    mut visit: impl FnMut(&Segment, u32, &BatchHeader, Option<ControlRecord>),
) -> io::Result<Scan> {
    let segment = Segment::open_unmapped(home, base, bytes, u64::MAX);
    let checked = if start.checks {
        Checked::All
    } else {
        Checked::Control
    };
    let mut walk = Walk::new(
        &segment,
        start.position,
        start.expected,
        rules.is_dense,
        checked,
    );
    let mut found = Scan {
        end: start.position,
        expected: start.expected,
        index: start.index,
        ..Scan::empty(base)
    };
    loop {
        match walk.next() {
            Ok(Some(step)) => {
                let header = &step.header;
                let control = step.bytes.and_then(|bytes| control_of(header, bytes));
                visit(&segment, step.position, header, control);
                let batch = indexed(&segment, step.position, header);
                found.index.note(batch, rules.interval_bytes);
                found.take(header);
            }
            Ok(None) => return Ok(found),
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Damaged(malformed)) => match walk.step_over_misfit() {
                Ok(Some((size_bytes, count))) => found.step_over(size_bytes, count, malformed),
                Ok(None) | Err(ReadError::Damaged(_)) => {
                    // Only a rest that is all zeros is the end of the log: any other rest may have
                    // been a batch.
                    found.damage = (!walk.is_zero_from_here()?).then_some(malformed);
                    return Ok(found);
                }
                Err(ReadError::Io(error)) => return Err(error),
            },
        }
        debug_assert_eq!(
            found.end,
            walk.position(),
            "both step over the same batches"
        );
        debug_assert_eq!(
            found.expected,
            walk.expected(),
            "both expect the same offset"
        );
    }
}
