//! Compaction: keeps the latest record of each key and removes all others.
//!
//! A pass reads the keys of the dirty part, as many as the key map has room for. It then rewrites
//! everything from the start of the log up to that point, group by group: small neighbours become
//! one segment, and offsets stay as they are. Each group takes its place before the next one is
//! begun, oldest first. A tombstone is therefore removed only after the records that it deletes. If
//! the map was too small for all keys, another pass resumes from there.
//!
//! Appends, reads and followers continue in the meantime. They see a log without some of the
//! records that later ones replace. Retention and truncation take precedence: a pass that finds a
//! segment removed, or the log cut, ends there, and another one begins. The check is made under the
//! lock under which a group takes its place (`PartitionCore::replace_segments`).
//!
//! | file | what it knows |
//! | --- | --- |
//! | `extent` | which part may be cleaned, and whether a pass is worthwhile |
//! | `key_map` | the latest offset of each key |
//! | `transactions` | which batches are aborted, and which markers are needed |
//! | `cleaner` | which batches and records are kept |
//! | `output` | how the rest of a group is written |
//!
//! All rules are Kafka's (`LogCleaner`).

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{CleanupPolicy, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::batch::{self, BatchHeader, RecordCursor};
use crate::format::compression::may_be_whole;
use crate::format::file_name;
use crate::partition::{Maintenance, PartitionCore, discard_cleaned};
use crate::segment::batch_file::ReadError;
use crate::segment::walk::{Checked, Walk};
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::IfExists;

mod cleaner;
mod extent;
mod key_map;
mod output;
mod transactions;

use cleaner::Cleaner;
use extent::Extent;
use key_map::{KeyHash, KeyMap};
use output::Output;
use transactions::Transactions;

/// The reason why a walk over the segments ended.
#[derive(Debug)]
enum Stopped {
    /// The log is closing, or a segment was removed: not an error, but there is no result either.
    Early,
    Failed(Error),
}

impl From<Error> for Stopped {
    /// Converts an error that occurred while reading a segment.
    fn from(error: Error) -> Self {
        match error {
            Error::OffsetOutOfRange { .. } => Self::Early,
            error if error.is_not_found() => Self::Early,
            error => Self::Failed(error),
        }
    }
}

type Step<T> = std::result::Result<T, Stopped>;

/// The limits of a pass, and the callback that may end it.
pub(crate) struct Allowance<'a> {
    /// Memory for the key map, in bytes.
    key_map_bytes: usize,
    /// Size of the largest `.log` that is written.
    max_log_bytes: u32,
    /// Called between two batches; the pass ends if it returns `false`.
    may_continue: &'a mut dyn FnMut() -> bool,
}

impl<'a> Allowance<'a> {
    pub(crate) fn new(key_map_bytes: usize, may_continue: &'a mut dyn FnMut() -> bool) -> Self {
        Self {
            key_map_bytes,
            max_log_bytes: MAX_LOG_BYTES,
            may_continue,
        }
    }
}

/// Returns whether a topic with this policy is compacted.
pub(crate) fn allows_compaction(policy: CleanupPolicy) -> bool {
    policy != CleanupPolicy::Delete
}

impl PartitionCore {
    /// Returns how urgently the partition needs compaction by its settings, or `None` if it needs
    /// none now.
    pub(crate) fn compaction_urgency(&self, now: Timestamp) -> Result<Option<f64>> {
        let settings = self.settings();
        // The next append reports why the partition is not writable.
        if !allows_compaction(settings.cleanup_policy) || self.check_writable().is_err() {
            return Ok(None);
        }
        match Extent::of(self, now).map_err(Stopped::from) {
            Ok(extent) => Ok(extent.urgency(settings.min_cleanable_dirty_ratio)),
            Err(Stopped::Early) => Ok(None),
            Err(Stopped::Failed(error)) => Err(self.or_gone(error)),
        }
    }

    /// Compacts everything that may be cleaned, however little it is. The files must already state
    /// that the partition has gaps.
    pub(crate) fn compact(
        &self,
        now: Timestamp,
        allowance: &mut Allowance<'_>,
    ) -> Result<Maintenance> {
        assert!(
            !self.is_dense(),
            "a partition must be marked as having gaps before it is compacted"
        );
        let _one_at_a_time = self.cleaning().lock();
        self.check_writable()?;
        let mut done = Maintenance::default();
        loop {
            let bounds = self.bounds_of_pass();
            match self.clean_once(now, allowance, &mut done) {
                Ok(false) => {}
                // Another thread cut or deleted a part. The rest of the log still needs a pass.
                // Each turn of this loop needs such a change, so it ends.
                Err(Stopped::Early) if self.bounds_of_pass() != bounds => {}
                Ok(true) | Err(Stopped::Early) => return Ok(done),
                Err(Stopped::Failed(error)) => return Err(self.or_gone(error)),
            }
        }
    }

    /// Returns the start of the log and the number of cuts. Other threads change them during a
    /// pass, and either change ends the pass.
    fn bounds_of_pass(&self) -> (Option<u64>, u64) {
        let first = self
            .sealed_segments()
            .first()
            .map(|(segment, _)| segment.base_offset);
        (first, self.truncations())
    }

    /// Runs one pass. Returns whether it reached the end of the part that may be cleaned.
    fn clean_once(
        &self,
        now: Timestamp,
        allowance: &mut Allowance<'_>,
        done: &mut Maintenance,
    ) -> Step<bool> {
        let truncations = self.truncations();
        let extent = Extent::of(self, now)?;
        done.bytes_not_compacted = self.log_bytes().saturating_sub(extent.bytes());
        if extent.segments.is_empty() {
            return Ok(true);
        }
        self.sync_below(extent.end)?;
        let settings = self.settings();
        let legacy_horizon = match extent
            .segments
            .iter()
            .take_while(|segment| segment.base_offset < extent.first_dirty)
            .last()
        {
            Some(last) => self
                .segment_modified(last.base_offset)?
                .as_millis()
                .saturating_sub(settings.delete_retention_ms),
            None => 0,
        };
        let pass = Pass {
            partition: self,
            truncations,
            settings: &settings,
            extent: &extent,
            now,
            legacy_horizon,
        };
        Ok(pass.run(allowance, done)? >= extent.end)
    }
}

/// One pass over a partition.
struct Pass<'a> {
    partition: &'a PartitionCore,
    /// Number of cuts of the log when the pass began.
    truncations: u64,
    settings: &'a TopicSettings,
    extent: &'a Extent,
    now: Timestamp,
    /// Files that were written after this time keep their tombstones of the older formats.
    legacy_horizon: i64,
}

impl Pass<'_> {
    /// Runs the pass and returns the offset that it reached.
    fn run(&self, allowance: &mut Allowance<'_>, done: &mut Maintenance) -> Step<u64> {
        let map = self.map_keys(allowance)?;
        let mut cleaner = Cleaner::new(
            &map,
            self.settings,
            self.now,
            self.partition.max_decompressed_bytes(),
        );
        cleaner.round_end = self.extent.end;
        cleaner.last_batches = self.partition.last_batches();
        let start = self
            .extent
            .segments
            .first()
            .map_or(0, |segment| segment.base_offset);
        cleaner.transactions = Transactions::new(self.partition.aborted_from(start)?);
        let reached = self
            .extent
            .segments
            .partition_point(|segment| segment.base_offset < map.end());
        for group in self.groups(self.extent.segments.get(..reached).unwrap_or_default())? {
            cleaner.has_changed = false;
            self.clean_group(group, &mut cleaner, allowance, done)?;
            done.records_removed += std::mem::take(&mut cleaner.records_removed);
        }
        done.batches_left_alone = cleaner.left_alone;
        self.partition
            .note_cleaned(map.end(), cleaner.first_left_alone, self.truncations);
        Ok(map.end())
    }

    /// Reads the keys of the dirty part until the map is full.
    fn map_keys(&self, allowance: &mut Allowance<'_>) -> Step<KeyMap> {
        let (dirty, first_dirty) = (self.extent.dirty(), self.extent.first_dirty);
        let mut keys = 0;
        for segment in dirty {
            self.walk(segment, false, allowance, |header, _| {
                keys += u64::from(if header.magic < 2 {
                    header.size_bytes / 16
                } else {
                    header.record_count
                });
                Ok(true)
            })?;
        }
        let mut map = KeyMap::new(keys, allowance.key_map_bytes, first_dirty);
        let start = dirty
            .first()
            .map_or(first_dirty, |segment| segment.base_offset);
        let mut transactions = Transactions::new(self.partition.aborted_from(start)?);
        let mut found = Vec::new();
        for segment in dirty {
            let has_room = self.walk(segment, true, allowance, |header, bytes| {
                if header.is_control() {
                    let _reported_when_it_is_cleaned = transactions
                        .is_obsolete(header, crate::format::control::control_of(header, bytes));
                } else if !transactions.is_aborted(header)
                    && !self.put_keys(&mut map, &mut found, header, bytes)?
                {
                    return Ok(false);
                }
                map.advance_to(header.next_base_offset());
                Ok(true)
            })?;
            if !has_room {
                return Ok(map);
            }
            map.advance_to(segment.next_offset());
        }
        map.advance_to(self.extent.end);
        Ok(map)
    }

    /// Adds the keys of one batch. Returns `false` if the map is full.
    fn put_keys(
        &self,
        map: &mut KeyMap,
        found: &mut Vec<(KeyHash, u64)>,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> std::result::Result<bool, ReadError> {
        if header.last_offset < self.extent.first_dirty {
            return Ok(true);
        }
        let decompressed =
            match batch::decompressed(header, bytes, self.partition.max_decompressed_bytes()) {
                // The batch stays as it is, and so do earlier records of its keys.
                Err(malformed) if may_be_whole(malformed) => return Ok(true),
                decompressed => decompressed?,
            };
        let decompressed = decompressed.as_deref();
        let mut cursor = RecordCursor::new(header, bytes, decompressed)?;
        found.clear();
        while let Some(raw) = cursor.next(header, bytes, decompressed) {
            let raw = raw?;
            let key = raw.key.filter(|_| raw.offset >= self.extent.first_dirty);
            found.extend(key.map(|key| (map.hash(key), raw.offset)));
        }
        Ok(map.put_all(found))
    }

    /// Groups neighbours that fit into one segment, by Kafka's rule: the log and the indexes count
    /// with their present sizes, and all offsets are within reach of the first base offset. The
    /// rest of a group may still not fit, because batches can grow when they are rebuilt. Then the
    /// output is split.
    fn groups<'a>(&self, mut segments: &'a [Arc<Segment>]) -> Result<Vec<&'a [Arc<Segment>]>> {
        let mut groups = Vec::new();
        while let Some(first) = segments.first() {
            let mut total = self.sizes_of(first)?;
            let mut count = 1;
            for segment in segments.iter().skip(1) {
                let sizes = self.sizes_of(segment)?;
                let sum = [0, 1, 2].map(|kind: usize| {
                    total.get(kind).unwrap_or(&0) + sizes.get(kind).unwrap_or(&0)
                });
                let [log, offsets, times] = sum;
                let (log_limit, index_limit) = (
                    self.settings.segment_bytes.into(),
                    self.settings.segment_index_bytes.into(),
                );
                // An empty segment joins any group. Otherwise it would stay for ever if the offsets
                // are far apart.
                let is_near = segment.size() == 0
                    || segment.next_offset().saturating_sub(1 + first.base_offset)
                        <= u64::from(MAX_LOG_BYTES);
                if log > log_limit || offsets > index_limit || times > index_limit || !is_near {
                    break;
                }
                total = sum;
                count += 1;
            }
            let (group, rest) = segments.split_at(count);
            groups.push(group);
            segments = rest;
        }
        Ok(groups)
    }

    /// Returns the bytes of the log, the offset index and the time index.
    fn sizes_of(&self, segment: &Segment) -> Result<[u64; 3]> {
        let bytes_of = |suffix| {
            let path = segment.path(suffix);
            let found = self.partition.home().storage().metadata(&path).if_exists();
            // A missing index is in memory, or has yet to be rebuilt.
            Ok(found.at("look at", &path)?.map_or(0, |found| found.bytes))
        };
        Ok([
            u64::from(segment.size()),
            bytes_of(file_name::OFFSET_INDEX)?,
            bytes_of(file_name::TIME_INDEX)?,
        ])
    }

    /// Rewrites a group and replaces it, unless the rewrite would change nothing.
    fn clean_group(
        &self,
        group: &[Arc<Segment>],
        cleaner: &mut Cleaner<'_>,
        allowance: &mut Allowance<'_>,
        done: &mut Maintenance,
    ) -> Step<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let failed = |error| Error::io("compact", first.log_path(), error);
        let home = self.partition.home();
        let output = Output::create(
            home,
            first.base_offset,
            self.settings.index_interval_bytes,
            allowance.max_log_bytes,
        );
        let mut output = output.map_err(|error| Stopped::Failed(failed(error)))?;
        let mut modified = Timestamp::from_millis(0);
        for segment in group {
            modified = self.partition.segment_modified(segment.base_offset)?;
            cleaner.keeps_legacy_tombstones = modified.as_millis() > self.legacy_horizon;
            self.walk(segment, true, allowance, |header, bytes| {
                cleaner.clean(header, bytes, &mut output).map(|()| true)
            })?;
        }
        if !output.is_in_order(last.next_offset()) {
            // The group stays as it is, and as readers know it. Tombstones after it stay too, since
            // they may delete records in it.
            cleaner.first_left_alone.get_or_insert(first.base_offset);
            cleaner.records_removed = 0;
            return Ok(());
        }
        if group.len() == 1 && !cleaner.has_changed && !output.is_split() {
            return Ok(());
        }
        let written = output
            .finish(last.next_offset(), modified)
            .map_err(|error| Stopped::Failed(failed(error)))?;
        let replaced = self
            .partition
            .replace_segments(group, &written, self.truncations);
        if let Ok(Some(freed)) = replaced {
            done.segments_compacted += group.len() as u64;
            done.bytes_freed += freed;
            return Ok(());
        }
        for segment in &written {
            discard_cleaned(home, segment.base_offset);
        }
        Err(replaced.err().map_or(Stopped::Early, Stopped::Failed))
    }

    /// Visits the batches of a segment. If `is_whole`, each visit receives the bytes of the batch,
    /// and their checksum is right. Returns `false` if the visitor stopped the walk.
    fn walk(
        &self,
        segment: &Arc<Segment>,
        is_whole: bool,
        allowance: &mut Allowance<'_>,
        mut visit: impl FnMut(&BatchHeader, &[u8]) -> std::result::Result<bool, ReadError>,
    ) -> Step<bool> {
        let checked = if is_whole {
            Checked::All
        } else {
            Checked::Nothing
        };
        let by_position = self.partition.read_by_position(segment);
        let mut walk = Walk::new(&by_position, 0, segment.base_offset, false, checked);
        loop {
            if !(allowance.may_continue)() {
                return Err(Stopped::Early);
            }
            self.partition.check_readable()?;
            let (position, expected) = (walk.position(), walk.expected());
            let visited = walk.next().and_then(|step| {
                let Some(step) = step else { return Ok(None) };
                PartitionCore::check_within(segment, &step.header)?;
                visit(&step.header, step.bytes.unwrap_or_default()).map(Some)
            });
            match visited {
                Ok(Some(false)) => return Ok(false),
                Ok(Some(true)) => {}
                Ok(None) => return Ok(true),
                // Retention removed the segment, or the log was cut: the name now belongs to other
                // data.
                Err(_) if !self.partition.lists(segment) => return Err(Stopped::Early),
                Err(error) => {
                    return Err(self
                        .partition
                        .unreadable(segment, position, expected, error)
                        .into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
