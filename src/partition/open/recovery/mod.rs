//! Opens a partition: lists the directory, finds the end of the log, and repairs what a crash left.
//!
//! * After a clean stop no batch is checked except the last: the end is found from the last index
//!   entries.
//! * Otherwise every batch from the recovery point on is checked. The first one that is torn or
//!   fails its checksum ends the log. The bytes from there on are moved to a file of their own and
//!   reported.
//! * Below the recovery point such a batch is damage: the log is not cut, and appends are refused.
//! * A batch with a valid checksum is never cut. If it does not fit into its place, that is damage
//!   too, at any offset. Only a batch without its first bytes, as a torn write leaves it, counts as
//!   torn.
//! * No record is ever deleted because metadata is missing.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::assembly::{Parts, assemble};
use crate::error::{At, Error, Result};
use crate::format::index_entry::AbortedTransaction;
use crate::format::metadata_file::{SegmentDigests, decode_index_digests};
use crate::format::{Malformed, file_name};
use crate::partition::PartitionCore;
use crate::partition::read::transactions::newest_snapshot;
use crate::partition::remove::unfinished;
use crate::partition::scan::{Scan, ScanRules, ScanStart, scan};
use crate::partition::state::context::{PartitionContext, PartitionSpec};
use crate::partition::state::leader_epoch::LeaderEpochs;
use crate::partition::state::origin::Origin;
use crate::partition::state::producers::ProducerStates;
use crate::partition::state::report::{MISSING_END, PartitionRecovery};
use crate::segment::index_file::MemoryIndex;
use crate::segment::{MAX_LOG_BYTES, Segment, SegmentHome};
use crate::storage::{StorageFile, read_file, remove_if_exists, replace_file};

mod beyond;
mod clean;
mod contents;
mod torn;
mod unclean;

pub(in crate::partition) use contents::{Contents, Looked};

/// The greatest size of `index-digests`, which has a line for each segment.
const MAX_DIGESTS_BYTES: u64 = 64 << 20;

/// The state of an opening while it runs its steps.
struct Opening<'a> {
    context: &'a Arc<PartitionContext>,
    spec: &'a PartitionSpec,
    home: SegmentHome,
    contents: Contents,
    /// Base offsets of the segments, rising.
    bases: Vec<u64>,
    /// Base offsets of the segments whose `.log` has other names, in a snapshot or another copy of
    /// the log. Such a file is never written in place.
    shared: BTreeSet<u64>,
    looked: Looked,
    report: PartitionRecovery,
    segments: Vec<Arc<Segment>>,
    epochs: LeaderEpochs,
    producers: ProducerStates,
    /// Greatest leader epoch of the batches that were scanned.
    last_epoch: i32,
    log_end: u64,
    was_repaired: bool,
    /// Whether the partition has readers during the recovery.
    is_shared: bool,
}

impl PartitionCore {
    /// Opens a partition, and recovers it unless the spec says that it was closed cleanly. Damage
    /// below the recovery point is reported, and appends are then refused.
    pub(crate) fn open(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
    ) -> Result<(Arc<Self>, PartitionRecovery)> {
        unfinished::finish(context, &spec.dir)?;
        let opening = Opening::new(context, spec, false)?;
        opening.tidy()?;
        let (core, report, _) = opening.recover()?;
        Ok((
            Arc::new(Self {
                recovery: (!report.is_empty()).then(|| Box::new(report.clone())),
                ..core
            }),
            report,
        ))
    }

    /// Opens a partition for reading, and changes no file. Also returns the files that it looked
    /// at, because another process may write to them.
    pub(in crate::partition) fn open_to_read(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
    ) -> Result<(Self, PartitionRecovery, Looked)> {
        Opening::new(context, spec, false)?.recover()
    }

    /// Recovers the files of an open partition that takes no writes. Its files may be read and
    /// mapped in the meantime.
    pub(in crate::partition) fn recover_shared(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
    ) -> Result<(Self, PartitionRecovery)> {
        let (core, report, _) = Opening::new(context, spec, true)?.recover()?;
        Ok((core, report))
    }
}

impl<'a> Opening<'a> {
    fn new(
        context: &'a Arc<PartitionContext>,
        spec: &'a PartitionSpec,
        is_shared: bool,
    ) -> Result<Self> {
        let (home, contents) = (context.home(&spec.dir), Contents::list(context, &spec.dir)?);
        Ok(Self {
            context,
            spec,
            bases: contents.segments(&home)?,
            home,
            shared: BTreeSet::new(),
            looked: Looked::new(contents.clone()),
            contents,
            report: PartitionRecovery::default(),
            segments: Vec::new(),
            epochs: LeaderEpochs::default(),
            producers: ProducerStates::default(),
            last_epoch: -1,
            log_end: spec.log_start,
            was_repaired: false,
            is_shared,
        })
    }

    pub(super) fn recover(mut self) -> Result<(PartitionCore, PartitionRecovery, Looked)> {
        self.load_epochs()?;
        self.load_segments()?;
        self.settle_log_start()?;
        Ok(self.finish())
    }

    pub(super) fn rules(&self) -> ScanRules {
        ScanRules {
            is_dense: self.spec.is_dense,
            interval_bytes: self.spec.settings.index_interval_bytes,
        }
    }

    /// Removes files that an interrupted removal or compaction left.
    pub(super) fn tidy(&self) -> Result<()> {
        if self.context.read_only {
            return Ok(());
        }
        for name in &self.contents.leftovers {
            remove_if_exists(&*self.context.storage, &self.spec.dir.join(name))
                .at("remove leftovers in", &self.spec.dir)?;
        }
        Ok(())
    }

    pub(super) fn load_epochs(&mut self) -> Result<()> {
        let loaded = LeaderEpochs::load(&*self.context.storage, &self.spec.dir)
            .at("read the leader epochs of", &self.spec.dir)?;
        self.epochs = loaded.unwrap_or_default();
        Ok(())
    }

    pub(super) fn log_path(&self, base: u64) -> PathBuf {
        self.home_of(base).path(base, file_name::LOG)
    }

    /// Returns the home of a segment. A read-only log reads complete compaction output, and the
    /// last segment of a log that is being cut, under the names that they have until then.
    pub(super) fn home_of(&self, base: u64) -> SegmentHome {
        let ending = if self.contents.cut == Some(base) {
            file_name::CUT
        } else if self.contents.swaps.contains(&base) {
            file_name::SWAP
        } else {
            ""
        };
        SegmentHome {
            ending,
            ..self.home.clone()
        }
    }

    /// Returns whether a view of the file may be in use before the recovery has ended.
    pub(super) fn may_be_viewed(&self, file: &dyn StorageFile) -> bool {
        self.is_shared || file.is_viewed()
    }

    pub(super) fn log_bytes(&mut self, base: u64) -> Result<u32> {
        let home = self.home_of(base);
        let found = self.looked.look_at(&home, base)?;
        if found.names > 1 {
            self.shared.insert(base);
        }
        u32::try_from(found.bytes)
            .ok()
            .filter(|bytes| *bytes <= MAX_LOG_BYTES)
            .ok_or_else(|| {
                let path = home.path(base, file_name::LOG);
                Error::NotALog {
                    path,
                    reason: "a `.log` of 2 GiB or more cannot be a segment".into(),
                }
            })
    }

    pub(super) fn load_segments(&mut self) -> Result<()> {
        let logs = self.bases.clone();
        let digests = self.load_digests();
        // The first segment that may be incomplete: the last one if the log was closed cleanly,
        // otherwise the one that holds the recovery point.
        let doubtful = if self.spec.clean {
            logs.len().saturating_sub(1)
        } else {
            logs.partition_point(|base| *base <= self.spec.recovery_point)
                .saturating_sub(1)
        };
        for (number, base) in logs.iter().enumerate().take(doubtful) {
            let next_offset = logs.get(number + 1).copied().unwrap_or(*base);
            let bytes = self.log_bytes(*base)?;
            let segment = Segment::open_sealed(&self.home_of(*base), *base, bytes, next_offset);
            set_digests(&segment, &digests);
            self.segments.push(Arc::new(segment));
        }
        let rest = logs.get(doubtful..).unwrap_or_default();
        if self.spec.clean && self.open_tail(rest)? {
            return self.load_producers();
        }
        self.scan_rest(rest, &digests)
    }

    pub(super) fn load_digests(&self) -> Vec<SegmentDigests> {
        let path = self.spec.dir.join(file_name::INDEX_DIGESTS);
        let read = read_file(&*self.context.storage, &path, MAX_DIGESTS_BYTES).ok();
        read.and_then(|bytes| decode_index_digests(&bytes).ok())
            .unwrap_or_default()
    }

    pub(super) fn push_scanned(&mut self, base: u64, scan: Scan) {
        debug_assert!(
            scan.next_offset >= base,
            "a segment ends at or above its base"
        );
        debug_assert!(
            self.segments
                .last()
                .is_none_or(|last| last.base_offset < base),
            "segments are opened in order"
        );
        self.last_epoch = self.last_epoch.max(scan.last_epoch);
        self.log_end = scan.next_offset;
        let segment = Segment::open_scanned(
            &self.home_of(base),
            base,
            scan.end,
            scan.next_offset,
            scan.index,
        );
        self.segments.push(Arc::new(segment));
    }

    /// Restores the producer state as of `log_end`: from the newest snapshot below it, and the
    /// batches after that snapshot.
    pub(super) fn load_producers(&mut self) -> Result<()> {
        let (storage, dir) = (&*self.context.storage, &self.spec.dir);
        let newest = newest_snapshot(storage, dir, &self.contents.snapshots, self.log_end)
            .at("read a snapshot in", &self.spec.dir)?;
        if let Some((offset, states)) = newest {
            self.producers = states;
            self.replay_from(offset)
        } else if self.spec.broker_since || !self.contents.snapshots.is_empty() {
            // Producers leave a snapshot, those of a broker and those of annals. This one is lost
            // or damaged, so the batches are replayed.
            self.replay_from(0)
        } else {
            Ok(())
        }
    }

    /// Replays the batches from `offset` on into the producer state.
    pub(super) fn replay_from(&mut self, offset: u64) -> Result<()> {
        debug_assert!(
            offset <= self.log_end,
            "a snapshot is at or below the log end"
        );
        if offset >= self.log_end {
            return Ok(());
        }
        let from = self
            .segments
            .partition_point(|segment| segment.base_offset <= offset)
            .saturating_sub(1);
        let segments: Vec<_> = self.segments.iter().skip(from).map(Arc::clone).collect();
        for segment in segments {
            let start = ScanStart::at_start(segment.base_offset, false);
            let (home, rules) = (self.home_of(segment.base_offset), self.rules());
            let states = &mut self.producers;
            scan(
                &home,
                segment.base_offset,
                segment.size(),
                start,
                rules,
                |_, _, header, control| {
                    if header.base_offset >= offset {
                        let _indexed_when_it_was_written = states.replay(header, control);
                    }
                },
            )
            .at("read", &self.spec.dir)?;
        }
        Ok(())
    }

    /// Returns whether a log that ends at `end` has lost durable records, and not only deleted
    /// ones.
    pub(super) fn is_missing_end(&self, end: u64) -> bool {
        end < self.spec.recovery_point && self.spec.log_start < self.spec.recovery_point
    }

    /// Returns the offsets that are lost after the batches that were scanned, up to the next good
    /// batch or to the recovery point.
    pub(super) fn lost_before(&self, good: Option<u64>) -> Range<u64> {
        let end = good.unwrap_or(self.spec.recovery_point);
        self.log_end..end.max(self.log_end + 1)
    }

    pub(super) fn damaged(
        &mut self,
        base: u64,
        position: u32,
        lost: Range<u64>,
        reason: &'static str,
    ) {
        debug_assert!(!lost.is_empty(), "damage costs at least one offset");
        let origin = Origin {
            id: self.spec.id.clone(),
            dir: Arc::clone(&self.home.dir),
            max_decompressed_bytes: 0,
        };
        let error = origin.corrupt(base, position, lost, Malformed(reason));
        self.report.damage.get_or_insert(error);
    }

    /// Keeps a damaged segment unchanged, so that it can be read as far as possible: readers find
    /// the damage themselves. A transaction that ended in the damage or after it must not keep
    /// readers away from it, so the producer state is loaded again.
    pub(super) fn keep_damaged(
        &mut self,
        base: u64,
        bytes: u32,
        next_base: Option<u64>,
        digests: &[SegmentDigests],
    ) -> Result<()> {
        self.segments.pop();
        let next_offset = next_base.unwrap_or(self.spec.recovery_point.max(self.log_end));
        let segment = Segment::open_sealed(&self.home_of(base), base, bytes, next_offset);
        set_digests(&segment, digests);
        self.log_end = next_offset;
        self.segments.push(Arc::new(segment));
        self.producers = ProducerStates::default();
        self.load_producers()
    }

    /// Writes the indexes of the last scanned segment into new files.
    pub(super) fn write_scanned(&mut self, aborted: &[AbortedTransaction]) -> Result<()> {
        let Some(segment) = self.segments.last() else {
            return Ok(());
        };
        // A full disk does not prevent reading: the indexes are in memory, and are written once
        // there is room.
        unless_full(
            segment
                .write_indexes(false, true)
                .at("write the indexes of", &self.spec.dir),
        )?;
        let path = segment.path(file_name::TRANSACTION_INDEX);
        remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
        if aborted.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = aborted
            .iter()
            .flat_map(|transaction| transaction.encode())
            .collect();
        unless_full(replace_file(&*self.context.storage, &path, &bytes).at("write", &path))
    }

    /// Creates the first segment of a partition without segments: the partition is new, or lost
    /// everything.
    pub(super) fn begin_empty(&mut self) -> Result<()> {
        debug_assert!(self.segments.is_empty(), "the partition has no segment yet");
        let start = self.spec.log_start;
        self.log_end = start;
        let segment = if self.context.read_only {
            Segment::open_scanned(&self.home, start, 0, start, MemoryIndex::default())
        } else {
            self.was_repaired = true;
            Segment::create(&self.home, start).at("create a segment in", &self.spec.dir)?
        };
        self.segments.push(Arc::new(segment));
        if self.is_missing_end(start) {
            self.damaged(start, 0, self.lost_before(None), MISSING_END);
            self.keep_damaged(start, 0, None, &[])?;
        }
        Ok(())
    }

    /// Makes the log start at the offset of the checkpoint. If the segments end below that offset,
    /// a new segment begins there.
    pub(super) fn settle_log_start(&mut self) -> Result<()> {
        if self.segments.is_empty() {
            self.begin_empty()?;
        }
        for segment in self
            .segments
            .iter()
            .rev()
            .skip(1)
            .filter(|segment| !segment.is_sealed())
        {
            if self.context.read_only {
                segment.seal_in_memory();
            } else if let Err(error) = segment.seal().at("seal a segment of", &self.spec.dir) {
                unless_full(Err(error))?;
                segment.seal_in_memory();
            }
        }
        if self.log_end < self.spec.log_start
            && !self.context.read_only
            && self.report.damage.is_none()
        {
            if let Some(last) = self.segments.last() {
                last.seal().at("seal a segment of", &self.spec.dir)?;
            }
            let segment = Segment::create(&self.home, self.spec.log_start)
                .at("create a segment in", &self.spec.dir)?;
            self.segments.push(Arc::new(segment));
            self.log_end = self.spec.log_start;
            self.was_repaired = true;
        }
        self.part_from_other_names()
    }

    /// Starts a new segment at the log end if the `.log` of the last one has other names. Appends
    /// would change the file under all of its names.
    fn part_from_other_names(&mut self) -> Result<()> {
        let Some(last) = self.segments.last().map(Arc::clone) else {
            return Ok(());
        };
        if self.context.read_only
            || self.report.damage.is_some()
            || !self.shared.contains(&last.base_offset)
        {
            return Ok(());
        }
        if last.base_offset == self.log_end {
            debug_assert_eq!(last.size(), 0, "a segment with batches ends above its base");
            self.segments.pop();
        } else {
            last.part_from_index_files();
            let sealed = last.seal().at("seal a segment of", &self.spec.dir);
            if matches!(sealed, Err(Error::DiskFull { .. })) {
                last.seal_in_memory();
            } else {
                sealed?;
            }
        }
        match Segment::create(&self.home, self.log_end).at("create a segment in", &self.spec.dir) {
            Ok(next) => {
                self.segments.push(Arc::new(next));
                self.was_repaired = true;
            }
            // The log can be read, and takes writes once it is opened with enough room.
            Err(error @ Error::DiskFull { .. }) if !self.segments.is_empty() => {
                self.report.damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> (PartitionCore, PartitionRecovery, Looked) {
        debug_assert!(
            !self.segments.is_empty(),
            "a partition has at least one segment"
        );
        debug_assert!(
            self.log_end >= self.spec.log_start
                || self.report.damage.is_some()
                || self.context.read_only,
            "the log ends at or above its start"
        );
        // A broker notes the epoch in which it leads before it writes the first batch of that
        // epoch. The next append must not have an older epoch.
        self.last_epoch = self.last_epoch.max(self.epochs.latest().unwrap_or(-1));
        self.epochs.truncate_end(self.log_end);
        if self.context.read_only {
            for segment in &self.segments {
                self.looked
                    .id(segment.base_offset)
                    .into_iter()
                    .for_each(|id| segment.expect(id));
            }
        }
        let parts = Parts {
            segments: self.segments,
            epochs: self.epochs,
            producers: self.producers,
            had_producers: !self.contents.snapshots.is_empty(),
            last_epoch: self.last_epoch,
            log_end: self.log_end,
            was_repaired: self.was_repaired,
            damage: self.report.damage.clone(),
        };
        let core = assemble(self.context, self.spec, self.home, parts);
        (core, self.report, self.looked)
    }
}

/// Forgives a full disk, for files that can be written later.
pub(super) fn unless_full(written: Result<()>) -> Result<()> {
    match written {
        Err(Error::DiskFull { .. }) => Ok(()),
        other => other,
    }
}

/// Sets the digests of the segment's indexes, if they belong to this `.log`. A broker may have
/// appended to the `.log`, or compacted it, after the digests were written.
fn set_digests(segment: &Segment, digests: &[SegmentDigests]) {
    if !segment.ending().is_empty() {
        // These digests belong to the segment that this output will replace.
        return;
    }
    let place = digests.binary_search_by_key(&segment.base_offset, |digests| digests.base_offset);
    let found = place.ok().and_then(|place| digests.get(place));
    if let Some(found) = found.filter(|found| found.log_bytes == Some(u64::from(segment.size()))) {
        segment.set_digests(found.indexes);
    }
}

#[cfg(test)]
mod tests;
