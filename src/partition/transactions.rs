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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compression, TopicSettings};
    use crate::format::batch::BatchBuilder;
    use crate::format::record::Record;
    use crate::partition::tests::{put, written};
    use crate::storage::MemoryDisk;
    use crate::storage::recording::RecordingDisk;

    #[test]
    fn only_a_control_batch_has_a_control_record() {
        let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
        builder.push(&Record::new([0, 0, 0, 0, 0, 3]).key([0, 0, 0, 1]), 0).unwrap();
        let mut bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
        let header = BatchHeader::decode(&bytes).unwrap();
        assert_eq!(control_of(&header, &bytes), None);
        let control = BatchHeader { attributes: 0b11 << 4, ..header };
        control.write(&mut bytes);
        assert_eq!(control_of(&control, &bytes), Some(ControlRecord::Commit { coordinator_epoch: 3 }));
        assert_eq!(control_of(&BatchHeader { record_count: 0, ..control }, &bytes), None, "compaction emptied it");
    }

    #[test]
    fn the_newest_snapshot_that_is_whole_is_taken() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/p"));
        disk.create_dir_all(dir).unwrap();
        let path = |at| dir.join(file_name::segment_file(at, file_name::SNAPSHOT));
        for at in [3, 5] {
            put(&disk, path(at), &producer_snapshot::encode(&[]));
        }
        put(&disk, path(7), b"damaged");
        let newest = |offset| newest_snapshot(&disk, dir, &[9, 8, 3, 7, 5], offset).map(|found| found.map(|(at, _)| at));
        let found = [2, 3, 4, 7, 8].map(|offset| newest(offset).unwrap());
        assert_eq!(found, [None, Some(3), Some(3), Some(5), Some(5)], "7 is damaged, 8 is missing");
        disk.create_dir_all(&path(9)).unwrap();
        assert_eq!(newest(9).err().map(|error| error.kind()), Some(io::ErrorKind::IsADirectory));
    }

    #[test]
    fn an_index_of_transactions_is_believed_if_all_of_them_can_be() {
        let disk = MemoryDisk::new();
        let core = written(&disk, 0, 3);
        let path = core.segments().snapshot()[0].path(file_name::TRANSACTION_INDEX);
        let of = |first_offset, last_offset| AbortedTransaction {
            producer_id: 9,
            first_offset,
            last_offset,
            last_stable_offset: last_offset,
        };
        let told = |transactions: &[AbortedTransaction]| {
            let bytes: Vec<u8> = transactions.iter().flat_map(|transaction| transaction.encode()).collect();
            put(&disk, &path, &bytes);
            core.aborted_transactions(0).unwrap()
        };
        assert_eq!(told(&[of(0, 1), of(0, 2)]), [of(0, 1), of(0, 2)]);
        for (what, wrong) in [("nothing of it", of(2, 2)), ("its end first", of(3, 2)), ("behind the segment", of(1, 3))] {
            assert_eq!(told(&[of(0, 1), wrong]), [], "{what}");
        }
        put(&disk, &path, &[&of(0, 1).encode()[..], &[0]].concat());
        assert_eq!(core.aborted_transactions(0).unwrap(), [], "a part of an entry");
        disk.remove_file(&path).unwrap();
        assert_eq!(core.aborted_transactions(0).unwrap(), []);
        disk.create_dir_all(&path).unwrap();
        assert!(matches!(core.aborted_transactions(0), Err(Error::Io { .. })));
    }

    #[test]
    fn a_replay_goes_from_start_to_end() {
        let core = written(&MemoryDisk::new(), 0, 12);
        assert!(core.segments().snapshot().len() > 1);
        let replayed = |start, end| {
            let mut offsets = Vec::new();
            core.replay(start, end, |header, _| offsets.push(header.base_offset)).unwrap();
            offsets
        };
        assert_eq!((replayed(1, 3), replayed(2, 2)), (vec![1, 2], vec![]));
        assert_eq!(replayed(0, 12), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn where_there_is_no_producer_no_file_is_asked() {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = written(&disk, 0, 2);
        drop(disk.take());
        core.rebuild_producers(&mut core.writer.lock()).unwrap();
        assert_eq!(core.aborted_from(0).unwrap(), []);
        assert_eq!(disk.take(), []);
    }
}
