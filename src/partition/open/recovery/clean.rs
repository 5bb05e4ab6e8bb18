//! Finds the end of a log that was closed cleanly.

use super::Opening;
use crate::error::{At, Result};
use crate::format::batch::BatchHeader;
use crate::format::index_entry::OffsetEntry;
use crate::partition::scan::{Scan, ScanStart, scan};
use crate::segment::index_file::{IndexFiles, IndexedBatch, MemoryIndex};
use crate::segment::walk::indexed;
use crate::segment::{Segment, SegmentHome};

impl Opening<'_> {
    /// Finds the end of a log that was closed cleanly, starting from the last index entries.
    /// Returns `false` if the log does not end as it should, and has to be scanned.
    pub(super) fn open_tail(&mut self, last: &[u64]) -> Result<bool> {
        debug_assert!(last.len() <= 1, "only the last segment is in doubt");
        let Some(&base) = last.first() else {
            return Ok(true);
        };
        let bytes = self.log_bytes(base)?;
        let home = self.home_of(base);
        let stored = Segment::stored_index(&home, base, bytes);
        let Some(files) = stored.at("read an index in", &self.spec.dir)? else {
            let is_whole = bytes == 0 && !self.is_missing_end(base);
            if is_whole {
                self.push_scanned(base, Scan::empty(base));
            }
            return Ok(is_whole);
        };
        let Some((found, batches)) = self.scan_tail(&home, base, bytes, &files)? else {
            return Ok(false);
        };
        let last_entry = files.last_offset_entry();
        if self
            .is_misleading(base, bytes, last_entry)
            .at("read", &self.spec.dir)?
            || !is_confirmed(&files, found.next_offset - base, &batches)
        {
            return Ok(false);
        }
        if let Some(last) = batches.last()
            && !self.is_last_batch_sound(&home, base, bytes, last.position)?
        {
            return Ok(false);
        }
        let index = MemoryIndex::resume(&files, &batches);
        self.push_scanned(base, Scan { index, ..found });
        Ok(true)
    }

    /// Follows the headers from the last index entries to the end. Returns `None` if they do not
    /// lead to the end of the file, or if the log ends too early.
    fn scan_tail(
        &self,
        home: &SegmentHome,
        base: u64,
        bytes: u32,
        files: &IndexFiles,
    ) -> Result<Option<(Scan, Vec<IndexedBatch>)>> {
        let start = files
            .last_offset_entry()
            .map_or(0, |entry| entry.position)
            .min(files.position_of_last_time());
        let from = ScanStart {
            position: start,
            index: MemoryIndex::from_files(files, start),
            expected: base,
            checks: false,
        };
        let mut batches = Vec::new();
        let visit = |segment: &Segment, position, header: &BatchHeader, _| {
            batches.push(indexed(segment, position, header));
        };
        let found =
            scan(home, base, bytes, from, self.rules(), visit).at("read", &self.spec.dir)?;
        let fits = found.damage.is_none() && found.misfit.is_none();
        let is_whole = fits && found.end == bytes && !self.is_missing_end(found.next_offset);
        Ok(is_whole.then_some((found, batches)))
    }

    /// Returns whether the last batch has a valid checksum.
    fn is_last_batch_sound(
        &self,
        home: &SegmentHome,
        base: u64,
        bytes: u32,
        position: u32,
    ) -> Result<bool> {
        let from = ScanStart {
            position,
            index: MemoryIndex::default(),
            expected: base,
            checks: true,
        };
        let last = scan(home, base, bytes, from, self.rules(), |_, _, _, _| {})
            .at("read", &self.spec.dir)?;
        Ok(last.damage.is_none() && last.misfit.is_none())
    }
}

/// Returns whether the last index entries belong to batches that were found. The segment ends `end`
/// offsets after its base.
fn is_confirmed(files: &IndexFiles, end: u64, batches: &[IndexedBatch]) -> bool {
    let is_that_of_a_batch = |last| batches.iter().any(|batch| batch.has_entry(last));
    let is_sound = |entry: OffsetEntry| {
        u64::from(entry.relative_offset) < end
            && batches.iter().any(|batch| batch.position == entry.position)
    };
    files.last_time_entry().is_none_or(is_that_of_a_batch)
        && files.last_offset_entry().is_none_or(is_sound)
}
