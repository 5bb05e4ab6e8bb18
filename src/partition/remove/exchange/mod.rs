//! The operations that compaction needs: it reads sealed segments and producers, and replaces
//! segments by cleaned ones. The output is one segment, or several if the batches do not fit into
//! one.
//!
//! Each step of the exchange is durable before the next:
//!
//! | step | recovery after a crash that follows the step |
//! | --- | --- |
//! | `<base>.*.cleaned` are written | the next opening removes them |
//! | they are renamed to `.swap`, the last first | the next opening continues (`unfinished`) |
//! | the files of the originals are removed | the next opening continues |
//! | `.swap` gets the final name, the `.log` first | it continues; indexes may be missing |
//!
//! A `.swap` does not count while there is a `.cleaned` at or below it. So renaming the first
//! segment makes all of them count, and renaming it back takes all of them back.
//!
//! Readers do not notice the exchange. From the second step on the new segments are in the list and
//! are held open. A reader that is on an original reads it to its end and then searches for its
//! place again. Appends wait only while the list changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::unfinished::swap_path;
use crate::config::CleanupPolicy;
use crate::error::{At, Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::file_name;
use crate::format::index_entry::AbortedTransaction;
use crate::format::metadata_file::Digest;
use crate::format::producer_snapshot::ProducerEntry;
use crate::partition::PartitionCore;
use crate::segment::batch_file::ReadError;
use crate::segment::{Segment, SegmentHome};
use crate::storage::{IfExists, StorageFile, remove_if_exists};
use crate::sync::Mutex;

/// A segment that compaction wrote: complete, and durable under the names `<base>.*.cleaned`.
#[derive(Debug)]
pub(crate) struct CleanedSegment {
    pub(crate) base_offset: u64,
    /// Offset at which the next segment begins.
    pub(crate) next_offset: u64,
    /// Size of the `.log`.
    pub(crate) log_bytes: u32,
    pub(crate) log: Arc<dyn StorageFile>,
    /// Digests of the offset, the time and the transaction index. An empty transaction index is not
    /// written.
    pub(crate) digests: [Digest; 3],
}

impl CleanedSegment {
    /// Returns the suffixes of the files that were written; the `.log` is the first.
    fn suffixes(&self) -> impl Iterator<Item = &'static str> {
        let written = [
            file_name::LOG,
            file_name::OFFSET_INDEX,
            file_name::TIME_INDEX,
        ]
        .into_iter();
        let [_, _, (transactions_bytes, _)] = self.digests;
        written.chain((transactions_bytes > 0).then_some(file_name::TRANSACTION_INDEX))
    }

    fn bytes(&self) -> u64 {
        u64::from(self.log_bytes) + self.digests.iter().map(|(bytes, _)| bytes).sum::<u64>()
    }
}

/// Returns the path of a file of a segment while the segment is being cleaned.
pub(crate) fn cleaned_path(home: &SegmentHome, base_offset: u64, suffix: &str) -> PathBuf {
    home.dir
        .join(file_name::segment_file(base_offset, suffix) + file_name::CLEANED)
}

/// Removes the files that cleaning a segment has written. Those that cannot be removed stay.
pub(crate) fn discard_cleaned(home: &SegmentHome, base_offset: u64) {
    for suffix in [file_name::LOG].into_iter().chain(file_name::INDEXES) {
        let _removed_at_the_next_opening =
            remove_if_exists(home.storage(), &cleaned_path(home, base_offset, suffix));
    }
}

impl PartitionCore {
    /// Returns all segments except the active one, each with the base offset of the next one.
    pub(crate) fn sealed_segments(&self) -> Vec<(Arc<Segment>, u64)> {
        let segments = self.segments().snapshot();
        let next = segments.iter().skip(1).map(|segment| segment.base_offset);
        segments.iter().map(Arc::clone).zip(next).collect()
    }

    /// Waits until everything below `end` is on the device. Compaction may remove a record in
    /// favour of a later one only if a power cut can no longer take the later one.
    pub(crate) fn sync_below(&self, end: u64) -> Result<()> {
        self.check_writable()?;
        self.sync_to(end)
    }

    /// Returns whether a segment is still in the list.
    pub(crate) fn lists(&self, segment: &Arc<Segment>) -> bool {
        crate::partition::state::segment_list::contains(&self.segments().snapshot(), segment)
    }

    /// Returns the lock that a compaction of this partition holds: two compactions would write the
    /// same files.
    pub(crate) fn cleaning(&self) -> &Mutex<()> {
        &self.cleaning
    }

    pub(crate) fn home(&self) -> &SegmentHome {
        &self.home
    }

    /// Returns a sealed segment that is read by position: a device error is then returned as an
    /// error, and does not raise a signal.
    pub(crate) fn read_by_position(&self, segment: &Segment) -> Arc<Segment> {
        let (base_offset, size) = (segment.base_offset, segment.size());
        Segment::open_unmapped(&self.home, base_offset, size, segment.next_offset())
    }

    /// Returns the most bytes that one batch may decompress to.
    pub(crate) fn max_decompressed_bytes(&self) -> usize {
        self.context.max_decompressed_bytes
    }

    /// Returns the error for a batch of a segment that could not be read.
    pub(crate) fn unreadable(
        &self,
        segment: &Segment,
        position: u32,
        next: u64,
        error: ReadError,
    ) -> Error {
        match error {
            ReadError::Io(error) => Error::io("read", segment.log_path(), error),
            ReadError::Damaged(malformed) => self.origin().corrupt(
                segment.base_offset,
                position,
                next..segment.next_offset().max(next + 1),
                malformed,
            ),
        }
    }

    /// Checks that the batch ends within its segment.
    pub(crate) fn check_within(
        segment: &Segment,
        header: &BatchHeader,
    ) -> std::result::Result<(), Malformed> {
        if header.stated_last_offset >= segment.next_offset() {
            return Err(Malformed(
                "the offset of a batch is after the end of its segment",
            ));
        }
        Ok(())
    }

    /// Returns the last known batch of each producer.
    pub(crate) fn last_batches(&self) -> BTreeMap<i64, ProducerEntry> {
        let entries = self.writer.lock().producers.entries();
        entries
            .into_iter()
            .map(|entry| (entry.producer_id, entry))
            .collect()
    }

    /// Returns the aborted transactions that end at or after `from`. Reads no file if the partition
    /// never had a producer.
    pub(crate) fn aborted_from(&self, from: u64) -> Result<Vec<AbortedTransaction>> {
        let writer = self.writer.lock();
        let has_producers = writer.had_producers || !writer.producers.is_empty();
        drop(writer);
        if has_producers {
            self.aborted_transactions(from)
        } else {
            Ok(Vec::new())
        }
    }

    /// Returns the offset up to which the partition was compacted, if it was.
    pub(crate) fn cleaned_end(&self) -> Option<u64> {
        self.compacted.end()
    }

    /// Returns the offset for the checkpoint. If a batch was left alone as too large, everything
    /// from there on counts as new for a log that is opened again: that log may be able to read the
    /// batch, and then has to learn its keys.
    pub(crate) fn cleaned_line(&self) -> Option<u64> {
        self.compacted.line()
    }

    /// Sets the end from the checkpoint.
    pub(crate) fn set_cleaned_end(&self, end: Option<u64>) {
        self.compacted.set_end(end);
    }

    /// Notes that everything below `end` was compacted, except for the batches that were left alone
    /// from `first_left_alone` on. Does nothing if the log was cut after the caller had counted
    /// `truncations` cuts.
    pub(crate) fn note_cleaned(&self, end: u64, first_left_alone: Option<u64>, truncations: u64) {
        let _no_truncation = self.replacing.lock();
        if self.truncations() == truncations {
            debug_assert!(
                end <= self.log_end_offset(),
                "only records that exist are compacted"
            );
            self.compacted.note(end, first_left_alone);
        }
    }

    pub(in crate::partition) fn lower_cleaned_end(&self, end: u64) {
        self.compacted.lower(end);
    }

    /// Replaces `originals` by `cleaned`, both in rising order and without a segment between them.
    /// Returns the number of bytes that this freed.
    ///
    /// Returns `None`, and changes nothing, if one of the originals was removed in the meantime, if
    /// the topic is not compacted any more, or if the log was cut after the caller had counted
    /// `truncations` cuts. After a cut, the later records because of which earlier ones were
    /// removed may be gone.
    ///
    /// After an error the originals stay. If the exchange is half done, writes are refused until
    /// the partition is opened again.
    pub(crate) fn replace_segments(
        &self,
        originals: &[Arc<Segment>],
        cleaned: &[CleanedSegment],
        truncations: u64,
    ) -> Result<Option<u64>> {
        debug_assert!(
            !originals.is_empty(),
            "an exchange replaces at least one segment"
        );
        debug_assert!(
            cleaned
                .iter()
                .zip(cleaned.iter().skip(1))
                .all(|(one, next)| one.next_offset <= next.base_offset),
            "the output has no offset twice"
        );
        let _replaces = self.replacing.lock();
        self.check_writable()?;
        let segments = self.segments().snapshot();
        let are_listed = originals
            .iter()
            .all(|segment| crate::partition::state::segment_list::contains(&segments, segment));
        // Without compaction, earlier records of a key count as well.
        let is_compacted = self.settings().cleanup_policy != CleanupPolicy::Delete;
        if !are_listed || !is_compacted || self.truncations() != truncations {
            return Ok(None);
        }
        drop(segments);
        self.begin_change()?;
        self.promise(cleaned)?;
        let exchanged = self.exchange(originals, cleaned);
        self.has_new_digests.store(true, Ordering::Release);
        exchanged.map(Some).inspect_err(|error| {
            // The next opening finishes the exchange. A caller that removed a segment before that
            // would find it again afterwards.
            self.health.poison(io::Error::other(error.to_string()));
        })
    }

    /// Makes the output count, durably: from here on the exchange is only completed.
    fn promise(&self, cleaned: &[CleanedSegment]) -> Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        let sync = || self.context.storage.sync_dir(self.dir());
        // A power cut may keep any one new name and lose the others that were not synced. Until the
        // first segment is renamed, its `.cleaned` must be there to show that the rest does not
        // count.
        let prepared = self
            .remove_stale(cleaned)
            .and_then(|()| if cleaned.len() > 1 { sync() } else { Ok(()) });
        let promise = |segment: &CleanedSegment| {
            segment
                .suffixes()
                .try_for_each(|suffix| self.rename_cleaned(segment, suffix, true))
                .and_then(|()| sync())
        };
        let promised = prepared.and_then(|()| cleaned.iter().rev().try_for_each(promise));
        promised.map_err(|error| {
            if let Err(error) = self.take_back(cleaned) {
                self.health.poison(error);
            }
            Error::io("put cleaned segments in their place in", self.dir(), error)
        })
    }

    /// Removes the leftover output of an earlier compaction. As long as one `.cleaned` of it is
    /// there, no `.swap` above it counts. A crash in the middle of this exchange would then lose
    /// the records that the output replaces.
    fn remove_stale(&self, cleaned: &[CleanedSegment]) -> io::Result<()> {
        let storage = &*self.context.storage;
        let is_its = |path: &Path| {
            let mut segments = cleaned.iter();
            segments.any(|segment| {
                segment
                    .suffixes()
                    .any(|suffix| cleaned_path(&self.home, segment.base_offset, suffix) == *path)
            })
        };
        for entry in storage.list(self.dir())? {
            let is_output = file_name::parse_segment_file(&entry.name)
                .is_some_and(|(_, suffix)| suffix.ends_with(file_name::CLEANED));
            let path = self.dir().join(&entry.name);
            if is_output && !entry.is_dir && !is_its(&path) {
                storage.remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Takes back a promise that is only half made. The first segment is renamed back first:
    /// without it, no other counts.
    fn take_back(&self, cleaned: &[CleanedSegment]) -> io::Result<()> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        for (number, segment) in cleaned.iter().enumerate() {
            for suffix in segment.suffixes() {
                self.rename_cleaned(segment, suffix, false).if_exists()?;
            }
            if number == 0 && cleaned.len() > 1 {
                self.context.storage.sync_dir(self.dir())?;
            }
        }
        Ok(())
    }

    /// Renames a file of the output from `.cleaned` to `.swap`, or back.
    fn rename_cleaned(
        &self,
        segment: &CleanedSegment,
        suffix: &str,
        is_promised: bool,
    ) -> io::Result<()> {
        let cleaned = cleaned_path(&self.home, segment.base_offset, suffix);
        let swap = swap_path(self.dir(), segment.base_offset, suffix);
        let (from, to) = if is_promised {
            (cleaned, swap)
        } else {
            (swap, cleaned)
        };
        self.context.storage.rename(&from, &to)
    }

    fn exchange(&self, originals: &[Arc<Segment>], cleaned: &[CleanedSegment]) -> Result<u64> {
        debug_assert!(self.replacing.is_locked(), "the caller holds `replacing`");
        let storage = &*self.context.storage;
        let open = |cleaned: &CleanedSegment| {
            let CleanedSegment {
                base_offset,
                next_offset,
                log_bytes,
                ..
            } = *cleaned;
            let segment = Segment::open_unnamed(
                &self.home,
                base_offset,
                log_bytes,
                next_offset,
                Arc::clone(&cleaned.log),
            );
            segment.set_digests(cleaned.digests.map(Some));
            Arc::new(segment)
        };
        let segments: Vec<_> = cleaned.iter().map(open).collect();
        self.list_instead(originals, &segments);
        for original in originals {
            // Readers may be on the originals. All of those are held open before the first name is
            // removed.
            let prepared = original.prepare_removal();
            prepared.at("open", original.log_path())?;
        }
        let mut freed = 0;
        for original in originals {
            let base_vanishes = cleaned
                .iter()
                .all(|cleaned| cleaned.base_offset != original.base_offset);
            freed += self.remove_original(original, base_vanishes)?;
        }
        self.context.sync_dir(self.dir())?;
        for (cleaned, segment) in cleaned.iter().zip(&segments) {
            for suffix in cleaned.suffixes() {
                let swap = swap_path(self.dir(), cleaned.base_offset, suffix);
                storage
                    .rename(&swap, &segment.path(suffix))
                    .at("put in its place", &swap)?;
            }
        }
        self.context.sync_dir(self.dir())?;
        for segment in segments {
            segment.settle();
        }
        Ok(freed.saturating_sub(cleaned.iter().map(CleanedSegment::bytes).sum()))
    }

    /// Replaces the originals in the list by `instead`, which cover the same offsets.
    fn list_instead(&self, originals: &[Arc<Segment>], instead: &[Arc<Segment>]) {
        // While this lock is held, no segment is added at the end.
        let writer = self.writer.lock();
        let before = self.segments().snapshot();
        let is_original = |listed: &&Arc<Segment>| {
            originals
                .iter()
                .any(|original| Arc::ptr_eq(original, listed))
        };
        let mut list: Vec<_> = before
            .iter()
            .filter(|listed| !is_original(listed))
            .map(Arc::clone)
            .collect();
        let first = instead.first().map_or(0, |segment| segment.base_offset);
        let place = list.partition_point(|listed| listed.base_offset < first);
        list.splice(place..place, instead.iter().map(Arc::clone));
        debug_assert!(
            list.iter()
                .zip(list.iter().skip(1))
                .all(|(one, next)| one.base_offset < next.base_offset),
            "base offsets rise"
        );
        self.segments().replace(list);
        self.assert_segments(&writer);
    }

    /// Removes the files of an original. The producer snapshot is removed only if no new segment
    /// has the same base offset.
    fn remove_original(&self, original: &Segment, base_vanishes: bool) -> Result<u64> {
        let suffixes = file_name::SEGMENT.into_iter();
        let is_removed = |suffix: &&str| base_vanishes || *suffix != file_name::SNAPSHOT;
        self.remove_files(original, suffixes.filter(is_removed))
    }
}

#[cfg(test)]
mod tests;
