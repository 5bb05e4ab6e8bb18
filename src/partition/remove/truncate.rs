//! Cuts the end of a log.
//!
//! A file that readers may have mapped is never shrunk: the part that stays is copied to a new
//! file, which is renamed over the old one. The recovery point is lowered first, so that it never
//! covers records that are gone. Then files are removed, starting with the last one: a crash may
//! leave a longer log, but never a hole. If the log may have gaps, its remaining records may end
//! before `end`. Then only the name of an empty segment after them shows where the log ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::error::{At, Error, Result};
use crate::format::batch::{self, BatchHeader, Packing};
use crate::format::producer_snapshot::ProducerEntry;
use crate::format::{Malformed, file_name};
use crate::partition::keeper::Truncation;
use crate::partition::state::producers::ProducerStates;
use crate::partition::{Marker, Outcome, PartitionCore, Writer};
use crate::segment::batch_file::ReadError;
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::{Checked, Step, Walk, indexed};
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::{FilePart, NewFile, StorageFile, remove_if_exists};

/// The part of the cut segment that stays.
struct Kept {
    bytes: u32,
    next_offset: u64,
    index: MemoryIndex,
    /// The batch that contains `end`, rebuilt from the records below it.
    rest: Option<Vec<u8>>,
}

impl Truncation<'_> {
    /// Keeps the transactions of these producers as they ended.
    pub(in crate::partition) fn keeping(self, producers: Vec<i64>) -> Self {
        Self { producers, ..self }
    }

    /// Returns the offset at which the log will end.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the highest recovery point that is valid at every step of the cut. The stored one is
    /// lowered to it first.
    pub(crate) fn recovery_point(&self) -> u64 {
        let (core, end) = (self.core, self.end);
        if core.is_dense() {
            return end;
        }
        // The cut segment may end anywhere from here on, because a compaction may have removed the
        // records before `end`.
        let segments = core.segments().snapshot();
        segments
            .get(last_below(&segments, end))
            .map_or(end, |cut| end.min(cut.base_offset))
    }

    /// Returns whether there is anything to cut. Fails with [`Error::OffsetOutOfRange`] below the
    /// log start, or with the reason why no cut can be made.
    pub(crate) fn is_due(&self) -> Result<bool> {
        self.core.check_truncatable()?;
        if self.end < self.core.log_start_offset() {
            return Err(self.core.out_of_range(self.end));
        }
        Ok(self.end < self.core.log_end_offset())
    }

    pub(crate) fn make(self) -> Result<()> {
        let recovery_point = self.recovery_point();
        self.core
            .truncate(self.end, recovery_point, &self.producers)
    }
}

/// Returns the index of the segment that a cut at `end` shortens.
fn last_below(segments: &[Arc<Segment>], end: u64) -> usize {
    segments
        .partition_point(|segment| segment.base_offset < end)
        .saturating_sub(1)
}

impl PartitionCore {
    pub(crate) fn truncation(&self, end: u64) -> Truncation<'_> {
        Truncation {
            core: self,
            end,
            producers: Vec::new(),
            _no_flush: self.flush.lock(),
            _replaces: self.replacing.lock(),
        }
    }

    /// Returns whether any producer has written here that is still known.
    pub(in crate::partition) fn has_producers(&self) -> bool {
        !self.writer.lock().producers.is_empty()
    }

    fn truncate(&self, end: u64, recovery_point: u64, own: &[i64]) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check_truncatable()?;
        if end >= self.log_end_offset() {
            return Ok(());
        }
        if end < self.log_start_offset() {
            return Err(self.out_of_range(end));
        }
        self.begin_change()?;
        let _no_sync = self.commit.take_turn();
        let segments = self.segments().snapshot();
        let (left, gone) = segments.split_at(last_below(&segments, end) + 1);
        let (left, gone) = (left.to_vec(), gone.to_vec());
        debug_assert!(
            gone.iter().all(|gone| gone.base_offset >= end),
            "only whole segments above the cut are removed"
        );
        drop(segments);
        let Some(cut) = left.last().map(Arc::clone) else {
            unreachable!("a partition has at least one segment")
        };
        let mut kept = self.kept_below(&cut, end)?;
        let producers = self.producers_at(&writer, end)?;
        let markers = self.markers_above(&writer, &producers, end, own)?;
        // Up to here nothing has changed.
        let is_whole = kept.bytes == cut.size() && cut.base_offset < end;
        let replacement = if is_whole {
            None
        } else {
            Some((self.write_kept(&cut, &mut kept)?, kept))
        };
        debug_assert!(recovery_point <= end, "no recovery point is above the cut");
        self.bounds.lower_recovery_point(recovery_point);
        self.commit.lower(end);
        self.lower_cleaned_end(end);
        self.begin_cut(end, producers.first_unstable_offset());
        if is_whole {
            // The segment may end above its batches: the end of the log was lost.
            cut.lower_end(end);
        }
        self.cut(&mut writer, left, &gone, replacement, end)
            .inspect_err(|error| {
                // The cut is half done. Only opening the partition again can find the end of the
                // log.
                self.health.poison(io::Error::other(error.to_string()));
            })?;
        self.end_cut(end, writer.producers.first_unstable_offset());
        self.health.forget_damage_from(end);
        let mut marked = Ok(());
        for marker in &markers {
            marked = marked.and(self.write_marker(&mut writer, marker).map(drop));
        }
        self.assert_segments(&writer);
        drop(writer);
        self.waiters.notify();
        marked
    }

    /// Returns the markers at and above `end` of transactions that have records below it, if their
    /// producer is one of `own`. `left` are the producers at `end`.
    ///
    /// Without its marker such a transaction would be open. The next one of its producer would
    /// continue it, and its end would be the end of both.
    fn markers_above(
        &self,
        writer: &Writer,
        left: &ProducerStates,
        end: u64,
        own: &[i64],
    ) -> Result<Vec<Marker>> {
        let is_ended = |entry: &ProducerEntry| {
            let open = writer.producers.open_transaction_of(entry.producer_id);
            open.is_none_or(|first| first >= end)
        };
        let mut ended = left
            .with_open_transaction()
            .filter(|entry| own.contains(&entry.producer_id) && is_ended(entry))
            .filter_map(|entry| Some((entry, entry.current_transaction_first_offset?)))
            .peekable();
        if ended.peek().is_none() {
            return Ok(Vec::new());
        }
        let aborted = match self.aborted_transactions(end) {
            // A cut also removes damage. If it hides how a transaction ended, the transaction is
            // open.
            Err(Error::Corrupt(_)) => return Ok(Vec::new()),
            aborted => aborted?,
        };
        let outcome = |producer_id: i64, first: u64| {
            let is_aborted = aborted.iter().any(|aborted| {
                aborted.producer_id == producer_id
                    && (aborted.first_offset..aborted.last_offset).contains(&first)
            });
            if is_aborted {
                Outcome::Aborted
            } else {
                Outcome::Committed
            }
        };
        let markers = ended.map(|(entry, first)| Marker {
            producer_id: entry.producer_id,
            producer_epoch: entry.producer_epoch,
            outcome: outcome(entry.producer_id, first),
            coordinator_epoch: 0,
        });
        Ok(markers.collect())
    }

    pub(in crate::partition) fn check_truncatable(&self) -> Result<()> {
        // A damaged partition may be truncated, which is one way to repair it.
        self.check_readable()?;
        self.context.check_not_read_only()?;
        self.health.check_not_poisoned()
    }

    /// Removes the segments in `gone`. If there is a `replacement`, it replaces the last of `left`.
    fn cut(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        mut left: Vec<Arc<Segment>>,
        gone: &[Arc<Segment>],
        replacement: Option<(NewFile<'_>, Kept)>,
        end: u64,
    ) -> Result<()> {
        if let (Some(first), Some(last)) = (gone.first(), left.last()) {
            // Between the last batch and the cut there may be no records any more.
            let end = last.next_offset().max(end).min(first.base_offset);
            self.publish_cut(left.clone(), end);
            for segment in gone.iter().rev() {
                self.remove_truncated(segment)?;
                // Each removal is made durable before the next. A power cut may keep some removals
                // and lose others, and an earlier one alone would leave a hole.
                self.context.sync_dir(self.dir())?;
            }
        }
        let is_replaced = replacement.is_some();
        if let (Some((new, kept)), Some(cut)) = (replacement, left.last_mut()) {
            let replaced = self.replace_log(cut, new, kept);
            *cut = Arc::new(replaced.at("truncate", cut.log_path())?);
        }
        self.publish_cut(left.clone(), end);
        let Some(last) = left.pop() else {
            unreachable!("the segment that was cut is left")
        };
        self.start_active(writer, Arc::clone(&last));
        let mut epochs = writer.epochs.clone();
        if epochs.truncate_end(end) {
            epochs
                .store(&*self.context.storage, self.dir())
                .at("write the leader epochs of", self.dir())?;
            writer.epochs = epochs;
        }
        self.remove_snapshots(|at| at > end)?;
        self.context.sync_dir(self.dir())?;
        self.has_new_digests.store(true, Ordering::Release);
        // Again, because the cut may have shortened the last batch of a producer.
        writer.producers = self.producers_at(writer, end)?;
        if is_replaced && (writer.has_snapshots || !writer.producers.is_empty()) {
            // The cut removed the transaction index, and a broker takes a missing index for an
            // empty one.
            let segments = self.segments().snapshot();
            self.learn_aborted(&segments, segments.len().saturating_sub(1), &mut None)?;
        }
        if last.is_sealed() || last.next_offset() < end {
            // No batch shows where the log ends, so the name of an empty segment has to.
            self.roll(writer, end)?;
            self.context.sync_dir(self.dir())?;
        }
        Ok(())
    }

    /// Stops readers of committed records where they stop both before and after a cut. The log will
    /// end at `end`, and its first open transaction will begin at `first_unstable`: the cut may
    /// remove the marker of a transaction.
    pub(in crate::partition) fn begin_cut(&self, end: u64, first_unstable: Option<u64>) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        self.bounds
            .lower_first_unstable(first_unstable.map_or(end, |first| first.min(end)));
    }

    /// Ends a cut that was published. A reader that loaded a bound in between searches again, and
    /// so does not use it.
    pub(in crate::partition) fn end_cut(&self, end: u64, first_unstable: Option<u64>) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        self.bounds.set_first_unstable(first_unstable);
        self.cuts.add(end);
    }

    /// Publishes a cut in this order: a reader that finds the log end below its place also finds
    /// that it must search again, and then finds the new segments.
    pub(in crate::partition) fn publish_cut(&self, segments: Vec<Arc<Segment>>, end: u64) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        debug_assert!(!segments.is_empty(), "a partition has at least one segment");
        self.segments().replace(segments);
        self.cuts.add(end);
        self.bounds.set_log_end(end);
    }

    /// Finds the part of the segment below `end`.
    fn kept_below(&self, cut: &Arc<Segment>, end: u64) -> Result<Kept> {
        let mut kept = Kept {
            bytes: 0,
            next_offset: cut.base_offset,
            index: MemoryIndex::default(),
            rest: None,
        };
        // The batches to be removed need not be valid: a cut also removes damage.
        let mut walk = Walk::new(cut, 0, cut.base_offset, false, Checked::Nothing).in_any_order();
        let walked = self.walk_below(cut, &mut walk, &mut kept, end);
        let lost = kept.next_offset..end.max(kept.next_offset + 1);
        let unreadable = |lost, malformed| {
            self.origin()
                .corrupt(cut.base_offset, kept.bytes, lost, malformed)
        };
        let rest = match walked {
            Err(ReadError::Io(error)) => return Err(Error::io("read", cut.log_path(), error)),
            Err(ReadError::Damaged(malformed)) => return Err(unreadable(lost, malformed)),
            Ok(None) => None,
            Ok(Some((header, bytes))) => {
                let start = if header.magic < 2 {
                    kept.next_offset
                } else {
                    header.base_offset
                };
                let offsets = start..header.last_offset + 1;
                self.below(&header, bytes, end)
                    .map_err(|malformed| unreadable(offsets, malformed))?
            }
        };
        if self.is_dense() && rest.is_none() && kept.next_offset < end {
            return Err(unreadable(lost, Malformed("records are missing")));
        }
        debug_assert!(kept.next_offset <= end, "nothing above the cut is kept");
        debug_assert!(kept.bytes <= cut.size(), "a cut only shortens a segment");
        Ok(Kept { rest, ..kept })
    }

    /// Walks the batches up to `end`. Returns the batch that contains `end`, if there is one.
    fn walk_below<'w>(
        &self,
        cut: &Segment,
        walk: &'w mut Walk,
        kept: &mut Kept,
        end: u64,
    ) -> std::result::Result<Option<(BatchHeader, &'w [u8])>, ReadError> {
        let interval_bytes = self.settings().index_interval_bytes;
        while walk.expected() < end
            && let Some(Step {
                position, header, ..
            }) = walk.next()?
        {
            if header.last_offset >= end {
                // The header of a legacy wrapper does not hold its base offset.
                if header.base_offset < end || header.magic < 2 {
                    return Ok(Some((header, walk.checked(position, &header)?)));
                }
                break;
            }
            let batch = indexed(cut, position, &header);
            kept.index.note(batch, interval_bytes);
            kept.bytes = walk.position();
            kept.next_offset = kept.next_offset.max(header.last_offset + 1);
        }
        Ok(None)
    }

    /// Returns a batch of the records below `end`.
    fn below(
        &self,
        header: &BatchHeader,
        bytes: &[u8],
        end: u64,
    ) -> std::result::Result<Option<Vec<u8>>, Malformed> {
        let decompressed = batch::decompressed(header, bytes, self.context.max_decompressed_bytes)?;
        let max_decompressed_bytes = self.context.max_decompressed_bytes;
        let packing = Packing {
            settings: &self.settings(),
            max_decompressed_bytes,
            must_shrink: false,
        };
        batch::below(header, bytes, decompressed.as_deref(), end, packing)
    }

    /// Writes the part that stays to a new file, durably.
    fn write_kept<'a>(&'a self, cut: &'a Segment, kept: &mut Kept) -> Result<NewFile<'a>> {
        let (storage, path) = (&*self.context.storage, cut.log_path());
        NewFile::write(storage, path, true, |file| self.copy_kept(cut, kept, file))
            .at("truncate", path)
    }

    fn copy_kept(&self, cut: &Segment, kept: &mut Kept, file: &dyn StorageFile) -> io::Result<()> {
        FilePart {
            file: &*cut.file()?,
            start: 0,
            end: kept.bytes,
        }
        .copy_to(file)?;
        if let Some(bytes) = kept.rest.take() {
            let header =
                BatchHeader::decode(&bytes).map_err(|malformed| io::Error::other(malformed.0))?;
            if header.size_bytes > MAX_LOG_BYTES.saturating_sub(kept.bytes) {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            file.write_all_at(&bytes, u64::from(kept.bytes))?;
            kept.index.note(
                indexed(cut, kept.bytes, &header),
                self.settings().index_interval_bytes,
            );
            kept.next_offset = header.last_offset + 1;
            kept.bytes += header.size_bytes;
        }
        Ok(())
    }

    fn replace_log(&self, cut: &Segment, new: NewFile<'_>, kept: Kept) -> io::Result<Segment> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        debug_assert!(kept.rest.is_none(), "the rest was written to the file");
        let storage = &*self.context.storage;
        // Readers must be able to continue if a later step fails.
        cut.keep_open()?;
        for suffix in file_name::INDEXES {
            remove_if_exists(storage, &cut.path(suffix))?;
        }
        new.put_in_place()?;
        storage.sync_dir(self.dir())?;
        Ok(Segment::open_scanned(
            &self.home,
            cut.base_offset,
            kept.bytes,
            kept.next_offset,
            kept.index,
        ))
    }

    fn remove_truncated(&self, segment: &Arc<Segment>) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        let path = segment.log_path();
        segment.prepare_removal().at("open", path)?;
        for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
            let path = segment.path(suffix);
            remove_if_exists(&*self.context.storage, &path).at("remove", &path)?;
        }
        Ok(())
    }
}
