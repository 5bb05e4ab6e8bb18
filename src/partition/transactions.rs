//! What readers of transactional partitions need: open transactions, and which ones were aborted.
//!
//! A `.txnindex` tells the aborted transactions whose marker stands in its segment. Where there is none, or it is damaged, the
//! batch headers are walked for markers.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::producer_state::ProducerStates;
use super::seek::Place;
use super::{PartitionCore, Writer, segment_list};
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, RecordCursor};
use crate::format::control::ControlRecord;
use crate::format::index_entry::{AbortedTransaction, TRANSACTION_ENTRY_BYTES};
use crate::format::{file_name, producer_snapshot};
use crate::segment::Segment;
use crate::segment::batch_file::ReadError;
use crate::storage::{Storage, read_file, remove_if_exists};

/// Largest transaction index or producer snapshot that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The control record of a control batch; `None` for data, for a batch that compaction emptied, and for one that is malformed.
pub(crate) fn control_of(header: &BatchHeader, bytes: &[u8]) -> Option<ControlRecord> {
    if !header.is_control() || header.record_count == 0 {
        return None;
    }
    let raw = RecordCursor::new(header, bytes, None).ok()?.next(header, bytes, None)?.ok()?;
    ControlRecord::decode(raw.key, raw.value).ok()
}

/// The newest producer snapshot at or below `offset` that is whole, with the offset that it is of.
pub(super) fn newest_snapshot(
    storage: &dyn Storage,
    dir: &Path,
    snapshots: &[u64],
    offset: u64,
) -> io::Result<Option<(u64, ProducerStates)>> {
    let mut candidates: Vec<u64> = snapshots.iter().copied().filter(|at| *at <= offset).collect();
    candidates.sort_unstable();
    for at in candidates.into_iter().rev() {
        let path = dir.join(file_name::segment_file(at, file_name::SNAPSHOT));
        match read_file(storage, &path, MAX_FILE_BYTES) {
            Ok(bytes) => {
                if let Ok(entries) = producer_snapshot::decode(&bytes) {
                    return Ok(Some((at, ProducerStates::from_snapshot(entries))));
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Offsets of the producer snapshots in a directory.
pub(super) fn list_snapshots(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<u64>> {
    let entries = storage.list(dir)?;
    let parsed = entries.iter().filter_map(|entry| file_name::parse_segment_file(&entry.name));
    Ok(parsed.filter(|(_, suffix)| *suffix == file_name::SNAPSHOT).map(|(offset, _)| offset).collect())
}

impl PartitionCore {
    /// Removes the producer snapshots that `goes` chooses by their offset.
    pub(super) fn remove_snapshots(&self, goes: impl Fn(u64) -> bool) -> Result<()> {
        let storage = &*self.context.storage;
        for offset in list_snapshots(storage, self.dir()).map_err(self.io("list"))? {
            if goes(offset) {
                let path = self.dir().join(file_name::segment_file(offset, file_name::SNAPSHOT));
                remove_if_exists(storage, &path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

impl Batch {
    pub(super) fn control_record(&self) -> Option<ControlRecord> {
        let (header, bytes) = self.stored();
        control_of(header, bytes)
    }
}

impl PartitionCore {
    /// The aborted transactions that end at or behind `from`.
    pub(super) fn aborted_transactions(&self, from: u64) -> Result<Vec<AbortedTransaction>> {
        let segments = self.segments().snapshot();
        let first = segment_list::floor(&segments, from);
        let mut aborted = Vec::new();
        for segment in segments.iter().skip(first) {
            let found = match self.indexed_transactions(segment)? {
                Some(indexed) => indexed,
                None => self.walk_for_aborted(segment)?,
            };
            aborted.extend(found.into_iter().filter(|transaction| transaction.last_offset >= from));
        }
        Ok(aborted)
    }

    /// The open transactions, as if they were to be aborted behind all that can be appended.
    pub(super) fn open_transactions(&self) -> Vec<AbortedTransaction> {
        self.writer.lock().producers.open_transactions().collect()
    }

    /// What the transaction index of a segment says; `None` where there is none, or it is damaged.
    fn indexed_transactions(&self, segment: &Segment) -> Result<Option<Vec<AbortedTransaction>>> {
        let path = segment.path(file_name::TRANSACTION_INDEX);
        let bytes = match read_file(&*self.context.storage, &path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        // An index is only made for what it has to tell, and entry by entry: an empty one was cut, as was one with a part of an
        // entry.
        if bytes.is_empty() || bytes.len() % TRANSACTION_ENTRY_BYTES != 0 {
            return Ok(None);
        }
        let inside = segment.base_offset..segment.next_offset();
        let is_sound = |transaction: &AbortedTransaction| {
            transaction.first_offset < transaction.last_offset && inside.contains(&transaction.last_offset)
        };
        Ok(AbortedTransaction::decode_all(&bytes).ok().filter(|all| all.iter().all(is_sound)))
    }

    /// The aborted transactions whose marker stands in the segment, by its batches.
    fn walk_for_aborted(&self, segment: &Arc<Segment>) -> Result<Vec<AbortedTransaction>> {
        let storage = &*self.context.storage;
        let snapshots = list_snapshots(storage, self.dir()).map_err(self.io("list"))?;
        let newest =
            newest_snapshot(storage, self.dir(), &snapshots, segment.base_offset).map_err(self.io("read a snapshot in"))?;
        let (start, mut states) = newest.unwrap_or((self.first_base_offset(), ProducerStates::default()));
        let mut aborted = Vec::new();
        self.replay(start, segment.next_offset(), |header, control| {
            if let Some(transaction) = states.replay(header, control)
                && transaction.last_offset >= segment.base_offset
            {
                aborted.push(transaction);
            }
        })?;
        Ok(aborted)
    }

    /// Walks the batches from `start` to `end`; damage ends the walk.
    fn replay(&self, start: u64, end: u64, mut visit: impl FnMut(&BatchHeader, Option<ControlRecord>)) -> Result<()> {
        if start >= end {
            return Ok(());
        }
        let mut place = self.seek(start)?;
        loop {
            let (position, limit) = (place.position, place.file.segment().size());
            let step = place.file.header_at(position, limit).and_then(|found| {
                let Some(header) = found else { return Ok(None) };
                self.check_order(&place, &header)?;
                let control =
                    if header.is_control() { control_of(&header, place.file.checked(position, &header, limit)?) } else { None };
                Ok(Some((header, control)))
            });
            match step {
                Ok(Some((header, _))) if header.base_offset >= end => return Ok(()),
                Ok(Some((header, control))) => {
                    if header.last_offset >= start {
                        visit(&header, control);
                    }
                    place.step_over(&header);
                }
                Ok(None) => {
                    let segments = self.segments().snapshot();
                    match segment_list::after(&segments, place.file.segment().base_offset) {
                        Some(next) => place = Place::at_start(Arc::clone(next), place.truncations),
                        None => return Ok(()),
                    }
                }
                Err(ReadError::Damaged(_)) => return Ok(()),
                Err(ReadError::Io(error)) => return Err(Error::io("read", place.file.segment().log_path(), error)),
            }
        }
    }

    /// Works the producer state out anew from the newest snapshot below the log end. After a truncation.
    pub(super) fn rebuild_producers(&self, writer: &mut Writer) -> Result<()> {
        let end = self.log_end_offset();
        let storage = &*self.context.storage;
        if !writer.has_snapshots && writer.producers.is_empty() {
            return Ok(());
        }
        let snapshots = list_snapshots(storage, self.dir()).map_err(self.io("list"))?;
        let newest = newest_snapshot(storage, self.dir(), &snapshots, end).map_err(self.io("read a snapshot in"))?;
        let (start, mut states) = newest.unwrap_or((self.first_base_offset(), ProducerStates::default()));
        self.replay(start, end, |header, control| {
            let _indexed_when_it_was_written = states.replay(header, control);
        })?;
        self.first_unstable.store(states.first_unstable_offset().unwrap_or(u64::MAX), Ordering::Release);
        writer.producers = states;
        Ok(())
    }
}
