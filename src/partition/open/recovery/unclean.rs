//! Scans the segments that may be incomplete after an unclean stop.

use std::io;

use crate::error::{At, Result};
use crate::format::index_entry::{AbortedTransaction, OffsetEntry};
use crate::format::metadata_file::SegmentDigests;
use crate::partition::scan::{Misfit, Scan, ScanStart, scan};
use crate::partition::state::report::MISSING_END;
use crate::segment::Segment;
use crate::segment::batch_file::{BatchFile, ReadError};
use crate::segment::index_file::{IndexFiles, IndexLookup, MemoryIndex};
use crate::segment::walk::indexed;
use crate::storage::{Access, FilePart, StorageFile};

use super::Opening;

impl Opening<'_> {
    /// Checks every batch from the recovery point on.
    pub(super) fn scan_rest(&mut self, bases: &[u64], digests: &[SegmentDigests]) -> Result<()> {
        let Some(first) = bases.first() else {
            return Ok(());
        };
        self.log_end = *first;
        self.load_producers()?;
        self.was_repaired = !self.context.read_only;
        for (number, base) in bases.iter().enumerate() {
            let later = bases.get(number + 1..).unwrap_or_default();
            if number > 0 && self.is_overtaken(*base, self.log_end)? {
                self.set_aside(&[*base])?;
            } else if !self.scan_one(*base, later, number == 0, digests)? {
                break;
            }
        }
        if self.context.read_only {
            return Ok(());
        }
        // Later writes rely on the names, so they are synced. Otherwise a power cut could bring
        // back a segment that was set aside, after new records, or lose one that was kept.
        self.context.sync_dir(&self.spec.dir)
    }

    /// Scans one segment, and cuts it if the log ends in it. In that case the `later` segments are
    /// set aside first. In a log that may have gaps, only the end found here shows that the later
    /// segments do not follow. Returns `false` if the log ends in this segment.
    fn scan_one(
        &mut self,
        base: u64,
        later: &[u64],
        is_first: bool,
        digests: &[SegmentDigests],
    ) -> Result<bool> {
        let bytes = self.log_bytes(base)?;
        let start = self.start_of_scan(base, bytes, is_first)?;
        self.distrust_cache(base, start.position, bytes)?;
        let (from, found, aborted) = self.scan_again_if_blind(base, bytes, start)?;
        self.report.bytes_scanned += u64::from(found.end - from);
        let end = found.end;
        let next_base = self.next_base(later, found.next_offset)?;
        // Records below the log start may be missing: a segment may begin at the log start after
        // those before it lost their end.
        let expected = found.next_offset.max(self.spec.log_start);
        let is_hole = self.spec.is_dense && next_base.is_some_and(|next| next > expected);
        let is_deleted = next_base.is_some_and(|next| next <= self.spec.log_start);
        let continues = is_deleted || found.damage.is_none() && !is_hole;
        let ends_early = next_base.is_none() && self.is_missing_end(found.next_offset);
        let reason = found.damage.map_or(
            if is_hole {
                "offsets are missing after it"
            } else {
                MISSING_END
            },
            |malformed| malformed.0,
        );
        let misfit = found.misfit_before(next_base);
        self.push_scanned(base, found);
        if let Some(Misfit {
            position,
            offsets,
            reason,
        }) = misfit
        {
            // Whatever else is wrong with the segment, it has batches that must not be cut.
            self.damaged(base, position, offsets, reason.0);
            self.keep_damaged(base, bytes, next_base, digests)?;
            return Ok(true);
        }
        if from == 0
            && let Some(segment) = self.segments.last()
        {
            segment.set_aborted(aborted.clone());
        }
        if ends_early || !continues && self.log_end < self.spec.recovery_point {
            let after = self
                .good_after(base, bytes, end)
                .at("read", &self.spec.dir)?;
            let good = after.as_ref().map(|after| after.start).or(next_base);
            self.damaged(base, end, self.lost_before(good), reason);
            // Records above the recovery point may have been acknowledged, too.
            self.log_end = after.map_or(self.log_end, |after| after.end);
            self.keep_damaged(base, bytes, next_base, digests)?;
            return Ok(true);
        }
        if !continues {
            self.set_aside(later)?;
        }
        if end < bytes {
            self.cut(base, end, bytes)?;
        }
        if !self.context.read_only {
            self.write_scanned(&aborted)?;
        }
        Ok(continues)
    }

    /// Checks the batches of a segment from `start` on, and replays them into the producer state
    /// and the leader epochs. Also returns the transactions that were aborted there.
    fn scan_batches(
        &mut self,
        base: u64,
        bytes: u32,
        start: ScanStart,
    ) -> Result<(Scan, Vec<AbortedTransaction>)> {
        let (mut states, mut aborted) = (std::mem::take(&mut self.producers), Vec::new());
        let mut epochs = self.epochs.clone();
        let found = scan(
            &self.home_of(base),
            base,
            bytes,
            start,
            self.rules(),
            |_, _, header, control| {
                aborted.extend(states.replay(header, control));
                if header.leader_epoch >= 0
                    && epochs
                        .latest()
                        .is_none_or(|latest| header.leader_epoch > latest)
                {
                    epochs.assign(header.leader_epoch, header.base_offset);
                }
            },
        )
        .at("read", &self.spec.dir)?;
        (self.producers, self.epochs) = (states, epochs);
        Ok((found, aborted))
    }

    /// Scans the batches from `start` on. If the first of them is damaged, no batch before it has
    /// shown at which offset the damage begins, so the scan starts again at the first batch of the
    /// segment. Also returns the position at which the scan started.
    fn scan_again_if_blind(
        &mut self,
        base: u64,
        bytes: u32,
        start: ScanStart,
    ) -> Result<(u32, Scan, Vec<AbortedTransaction>)> {
        let from = start.position;
        let (found, aborted) = self.scan_batches(base, bytes, start)?;
        if from == 0 || found.damage.is_none() || found.end > from {
            return Ok((from, found, aborted));
        }
        let start = ScanStart::at_start(base, true);
        let (found, aborted) = self.scan_batches(base, bytes, start)?;
        Ok((0, found, aborted))
    }

    /// Returns whether an empty segment begins below `end`, where the segment before it ends. A
    /// roll that failed may leave such a file; the next batches are in the segment before it.
    fn is_overtaken(&mut self, base: u64, end: u64) -> Result<bool> {
        Ok(base < end && self.log_bytes(base)? == 0)
    }

    /// Returns the base offset of the segment that follows one that ends at `end`.
    fn next_base(&mut self, later: &[u64], end: u64) -> Result<Option<u64>> {
        for base in later {
            if !self.is_overtaken(*base, end)? {
                return Ok(Some(*base));
            }
        }
        Ok(None)
    }

    /// Returns the start of a scan: an index entry below the recovery point if the index files pass
    /// their checks, or else the start of the segment.
    pub(super) fn start_of_scan(
        &mut self,
        base: u64,
        bytes: u32,
        is_first: bool,
    ) -> Result<ScanStart> {
        let fresh = ScanStart::at_start(base, true);
        // If a broker wrote the skipped batches, their producers are in no snapshot.
        let has_producers =
            self.spec.broker_since || self.contents.snapshots.iter().any(|at| *at > base);
        if !is_first || self.spec.recovery_point <= base || has_producers {
            return Ok(fresh);
        }
        let stored = Segment::stored_index(&self.home_of(base), base, bytes)
            .at("read an index in", &self.spec.dir)?;
        let Some(files) = stored else {
            self.report.indexes_rebuilt += 1;
            return Ok(fresh);
        };
        let below = u32::try_from(self.spec.recovery_point - 1 - base).unwrap_or(u32::MAX);
        let Some(entry) = files.floor_offset(below) else {
            return Ok(fresh);
        };
        if self
            .is_misleading(base, bytes, Some(entry))
            .at("read", &self.spec.dir)?
        {
            return Ok(fresh);
        }
        let index = MemoryIndex::from_files(&files, entry.position);
        if !self
            .knows_times_below(base, &files, &index, entry.position)
            .at("read", &self.spec.dir)?
        {
            return Ok(fresh);
        }
        Ok(ScanStart {
            position: entry.position,
            index,
            expected: base,
            checks: true,
        })
    }

    /// Returns whether the index of the batches before `end` has their largest time. The time index
    /// may have lost entries that the offset index still has.
    fn knows_times_below(
        &self,
        base: u64,
        files: &IndexFiles,
        index: &MemoryIndex,
        end: u32,
    ) -> io::Result<bool> {
        let largest = index.largest_time();
        let entry = largest.and_then(|largest| files.floor_offset(largest.relative_offset));
        let position = entry.map_or(0, |entry| entry.position);
        let from = ScanStart {
            position,
            ..ScanStart::at_start(base, false)
        };
        let (mut is_found, mut is_largest) = (largest.is_none(), true);
        let scanned = scan(
            &self.home_of(base),
            base,
            end,
            from,
            self.rules(),
            |segment, position, header, _| {
                let batch = indexed(segment, position, header);
                is_found |= largest.is_some_and(|largest| batch.has_entry(largest));
                is_largest &=
                    batch.max_timestamp <= largest.map_or(-1, |largest| largest.timestamp);
            },
        )?;
        Ok(is_found
            && is_largest
            && scanned.damage.is_none()
            && scanned.misfit.is_none()
            && scanned.end == end)
    }

    /// Returns whether an entry leads to a batch that does not end at the entry's offset.
    ///
    /// No checksum covers the base offset of a batch, and a scan that begins at the entry sees no
    /// earlier batch that would expose a wrong one. Old brokers made one entry for several batches.
    /// So in a log that may come from them, the first of these batches may end earlier.
    pub(super) fn is_misleading(
        &self,
        base: u64,
        bytes: u32,
        entry: Option<OffsetEntry>,
    ) -> io::Result<bool> {
        let Some(entry) = entry else { return Ok(false) };
        let last_offset = base + u64::from(entry.relative_offset);
        let segment = Segment::open_unmapped(&self.home_of(base), base, bytes, u64::MAX);
        match BatchFile::new(segment).header_at(entry.position, bytes) {
            Ok(header) => Ok(header.is_none_or(|header| {
                if self.spec.is_dense {
                    header.stated_last_offset != last_offset
                } else {
                    header.stated_last_offset > last_offset
                }
            })),
            Err(ReadError::Damaged(_)) => Ok(true),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Syncs the file, drops it from the cache and so has it read again. The page cache may show
    /// bytes of a failed write-back that are not on the device, and later writes must not rely on
    /// them.
    ///
    /// Pages that are mapped stay in the cache: the partition may have readers, or batches that
    /// were read before the log was closed. Then the bytes `from..end`, which the scan will read,
    /// are first written once more as they are, so that the sync covers them. A full disk may have
    /// no room even for that, if it never writes in place.
    pub(super) fn distrust_cache(&mut self, base: u64, from: u32, end: u32) -> Result<()> {
        if self.context.read_only {
            return Ok(());
        }
        let path = self.log_path(base);
        let storage = &*self.context.storage;
        let file = storage.open(&path, Access::Write).at("open", &path)?;
        if self.may_be_viewed(&*file)
            && let Err(error) = write_again(&*file, from, end).at("write again", &path)
        {
            self.without_room(error)?;
        }
        file.sync_data().at("sync", &path)?;
        // A hint that some systems and sandboxes do not support.
        let _may_be_read_from_the_cache = file.drop_cache(0);
        Ok(())
    }
}

/// Writes the bytes `start..end` of a file over themselves. No other thread writes to the file.
fn write_again(file: &dyn StorageFile, start: u32, end: u32) -> io::Result<()> {
    let part = FilePart { file, start, end };
    let write = |position, chunk: &[u8]| {
        file.write_all_at(chunk, u64::from(position))
            .map(|()| false)
    };
    part.any_chunk(0, write).map(drop)
}
