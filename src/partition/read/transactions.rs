//! What readers of transactional partitions need: open transactions, and which ones were aborted.
//!
//! A `.txnindex` says which aborted transactions have their marker in its segment. It is believed
//! where its digest proves it. Otherwise the batches are walked for markers when the segment is
//! first asked, and an index that says something else is replaced.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::seek::Place;
use crate::error::{Error, Result};
use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::control::control_of;
use crate::format::index_entry::AbortedTransaction;
use crate::format::{file_name, producer_snapshot};
use crate::partition::state::producers::ProducerStates;
use crate::partition::state::segment_list;
use crate::partition::{PartitionCore, Writer};
use crate::segment::Segment;
use crate::segment::batch_file::ReadError;
use crate::storage::{Storage, read_file, remove_if_exists};

/// Largest producer snapshot that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The newest producer snapshot at or below `offset` that is whole, with the offset that it is of.
pub(in crate::partition) fn newest_snapshot(
    storage: &dyn Storage,
    dir: &Path,
    snapshots: &[u64],
    offset: u64,
) -> io::Result<Option<(u64, ProducerStates)>> {
    let mut candidates: Vec<u64> = snapshots
        .iter()
        .copied()
        .filter(|at| *at <= offset)
        .collect();
    candidates.sort_unstable();
    for at in candidates.into_iter().rev() {
        let path = dir.join(file_name::segment_file(at, file_name::SNAPSHOT));
        match read_file(storage, &path, MAX_FILE_BYTES) {
            Ok(bytes) => {
                if let Ok(entries) = producer_snapshot::decode(&bytes) {
                    return Ok(Some((at, ProducerStates::from_snapshot(entries))));
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Offsets of the producer snapshots in a directory.
pub(in crate::partition) fn list_snapshots(
    storage: &dyn Storage,
    dir: &Path,
) -> io::Result<Vec<u64>> {
    let entries = storage.list(dir)?;
    let parsed = entries
        .iter()
        .filter_map(|entry| file_name::parse_segment_file(&entry.name));
    Ok(parsed
        .filter(|(_, suffix)| *suffix == file_name::SNAPSHOT)
        .map(|(offset, _)| offset)
        .collect())
}

impl PartitionCore {
    /// Removes the producer snapshots that `goes` chooses by their offset.
    pub(in crate::partition) fn remove_snapshots(&self, goes: impl Fn(u64) -> bool) -> Result<()> {
        let storage = &*self.context.storage;
        for offset in list_snapshots(storage, self.dir()).map_err(self.io("list"))? {
            if goes(offset) {
                let path = self
                    .dir()
                    .join(file_name::segment_file(offset, file_name::SNAPSHOT));
                remove_if_exists(storage, &path)
                    .map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

impl Batch {
    pub(in crate::partition) fn control_record(&self) -> Option<ControlRecord> {
        let (header, bytes) = self.stored();
        control_of(header, bytes)
    }
}

/// What a walk over batches found out.
struct Walked {
    aborted: Vec<AbortedTransaction>,
    /// The producers as of the end.
    states: ProducerStates,
    /// Whether no batch on the way was damaged.
    is_whole: bool,
}

/// Producers as of an offset.
type StatesAt = Option<(u64, ProducerStates)>;

impl PartitionCore {
    /// The aborted transactions that end at or after `from`.
    pub(in crate::partition) fn aborted_transactions(
        &self,
        from: u64,
    ) -> Result<Vec<AbortedTransaction>> {
        self.aborted_until(from, |_, _| Ok(false))
    }

    /// The aborted transactions that reach into what is stored between `from` and the end of its
    /// segment, and that end; more may be among them.
    pub(in crate::partition) fn aborted_around(
        &self,
        from: u64,
    ) -> Result<(Vec<AbortedTransaction>, u64)> {
        let segments = self.segments().snapshot();
        let next = segments.get(segment_list::floor(&segments, from) + 1);
        let end = next.map_or(u64::MAX, |next| next.base_offset);
        let storage = &*self.context.storage;
        let aborted = self.aborted_until(from, |at, states| {
            // The snapshot of a segment's first offset shows which transactions were open before
            // it, as the walk does.
            let first_unstable =
                |states: &ProducerStates| states.first_unstable_offset().unwrap_or(at);
            let stable_end = match states {
                Some((walked, states)) if *walked == at => Some(first_unstable(states)),
                _ => newest_snapshot(storage, self.dir(), &[at], at)
                    .map_err(self.io("read a snapshot in"))?
                    .map(|(_, states)| first_unstable(&states)),
            };
            Ok(stable_end.is_some_and(|stable_end| stable_end >= end))
        })?;
        Ok((aborted, end))
    }

    /// Those that end at or after `from`, segment by segment, until it `is_enough`, which sees
    /// where each segment ends and the producers as of some offset.
    fn aborted_until(
        &self,
        from: u64,
        is_enough: impl Fn(u64, &StatesAt) -> Result<bool>,
    ) -> Result<Vec<AbortedTransaction>> {
        loop {
            let segments = self.segments().snapshot();
            match self.aborted_in(&segments, from, &is_enough) {
                // A segment was deleted or replaced in the meantime.
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && !Arc::ptr_eq(&segments, &self.segments().snapshot()) => {}
                found => return found,
            }
        }
    }

    fn aborted_in(
        &self,
        segments: &[Arc<Segment>],
        from: u64,
        is_enough: impl Fn(u64, &StatesAt) -> Result<bool>,
    ) -> Result<Vec<AbortedTransaction>> {
        let (mut aborted, mut states) = (Vec::new(), None);
        for number in segment_list::floor(segments, from)..segments.len() {
            let Some(segment) = segments.get(number) else {
                break;
            };
            self.learn_aborted(segments, number, &mut states)?;
            let found = segment.known_aborted().unwrap_or_default();
            aborted.extend(
                found
                    .into_iter()
                    .filter(|transaction| transaction.last_offset >= from),
            );
            if let Some(next) = segments.get(number + 1)
                && is_enough(next.base_offset, &states)?
            {
                break;
            }
        }
        Ok(aborted)
    }

    /// Makes a segment know its aborted transactions. `states` are the producers as of the end of a
    /// segment before it that was walked, and afterwards of this one if it was.
    pub(in crate::partition) fn learn_aborted(
        &self,
        segments: &[Arc<Segment>],
        number: usize,
        states: &mut StatesAt,
    ) -> Result<()> {
        let Some(segment) = segments
            .get(number)
            .filter(|segment| segment.known_aborted().is_none())
        else {
            return Ok(());
        };
        let failed = |error| Error::io("read", &segment.path(file_name::TRANSACTION_INDEX), error);
        if let Some(proven) = segment.proven_aborted().map_err(failed)? {
            segment.set_aborted(proven);
            return Ok(());
        }
        let walked = self.walk_for_aborted(segments, number, states.take())?;
        let stored = segment.stored_aborted().map_err(failed)?;
        if walked.is_whole {
            segment.correct_transaction_index(
                &walked.aborted,
                stored.as_ref() == Some(&walked.aborted),
            );
            self.has_new_digests.store(true, Ordering::Release);
            *states = segments
                .get(number + 1)
                .map(|next| (next.base_offset, walked.states));
        }
        // Damage may hide markers from the walk that the index knows.
        let hidden = stored.filter(|stored| !walked.is_whole && names_all(stored, &walked.aborted));
        segment.set_aborted(hidden.unwrap_or(walked.aborted));
        Ok(())
    }

    /// The aborted transactions whose marker was in the segment when it was opened, by the batches.
    fn walk_for_aborted(
        &self,
        segments: &[Arc<Segment>],
        number: usize,
        states: StatesAt,
    ) -> Result<Walked> {
        let (base, end) = segments.get(number).map_or((0, 0), |segment| {
            (segment.base_offset, segment.opened_end())
        });
        let (start, mut states) = match states.filter(|(at, _)| *at == base) {
            Some(states) => states,
            None => self.producers_below(base)?,
        };
        let mut aborted = Vec::new();
        let upto = segments.get(..=number).unwrap_or_default();
        let is_whole = self.replay(upto, start, end, |header, control| {
            aborted.extend(
                states
                    .replay(header, control)
                    .filter(|transaction| transaction.last_offset >= base),
            );
        })?;
        Ok(Walked {
            aborted,
            states,
            is_whole,
        })
    }

    /// The producers of the newest snapshot at or below `offset`, or none as of the first offset.
    fn producers_below(&self, offset: u64) -> Result<(u64, ProducerStates)> {
        let storage = &*self.context.storage;
        let snapshots = list_snapshots(storage, self.dir()).map_err(self.io("list"))?;
        let newest = newest_snapshot(storage, self.dir(), &snapshots, offset)
            .map_err(self.io("read a snapshot in"))?;
        Ok(newest.unwrap_or((self.first_base_offset(), ProducerStates::default())))
    }

    /// The open transactions, as if they were to be aborted behind all that can be appended.
    pub(in crate::partition) fn open_transactions(&self) -> Vec<AbortedTransaction> {
        self.writer.lock().producers.open_transactions().collect()
    }

    /// Visits the batches of the segments from `start` to `end` that are not damaged; whether all
    /// were.
    fn replay(
        &self,
        segments: &[Arc<Segment>],
        start: u64,
        end: u64,
        mut visit: impl FnMut(&BatchHeader, Option<ControlRecord>),
    ) -> Result<bool> {
        let mut is_whole = true;
        for segment in segments.iter().skip(segment_list::floor(segments, start)) {
            if segment.base_offset >= end || start >= end {
                break;
            }
            let replayed = self.replay_segment(segment, start, end, &mut visit);
            is_whole &= replayed.map_err(|error| Error::io("read", segment.log_path(), error))?;
        }
        Ok(is_whole)
    }

    fn replay_segment(
        &self,
        segment: &Arc<Segment>,
        start: u64,
        end: u64,
        mut visit: impl FnMut(&BatchHeader, Option<ControlRecord>),
    ) -> io::Result<bool> {
        let mut is_whole = true;
        let mut place = if start > segment.base_offset {
            self.seek_in(segment, start, self.truncations())?
        } else {
            Place::at_start(Arc::clone(segment), self.truncations())
        };
        loop {
            let (position, limit) = (place.position, segment.size());
            let step = place.file.header_at(position, limit).and_then(|found| {
                let Some(header) = found else { return Ok(None) };
                self.check_order(&place, &header)?;
                // Nothing else shows whose data and whose marker it is.
                let is_checked = header.is_transactional() || header.is_control();
                let bytes = if is_checked {
                    place.file.checked(position, &header, limit)?
                } else {
                    &[]
                };
                Ok(Some((header, control_of(&header, bytes))))
            });
            match step {
                Ok(Some((header, control))) if header.base_offset < end => {
                    if header.last_offset >= start {
                        visit(&header, control);
                    }
                    place.step_over(&header);
                }
                Ok(_) => return Ok(is_whole),
                Err(ReadError::Damaged(_)) => {
                    is_whole = false;
                    let Some((position, header)) = self.next_good(&mut place, limit)? else {
                        return Ok(false);
                    };
                    (place.position, place.expected) = (position, header.base_offset);
                }
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
    }

    /// Works the producer state out anew from the newest snapshot below the log end. After a
    /// truncation.
    pub(in crate::partition) fn rebuild_producers(&self, writer: &mut Writer) -> Result<()> {
        let end = self.log_end_offset();
        if !writer.has_snapshots && writer.producers.is_empty() {
            return Ok(());
        }
        let (start, mut states) = self.producers_below(end)?;
        self.replay(
            &self.segments().snapshot(),
            start,
            end,
            |header, control| {
                let _indexed_when_it_was_written = states.replay(header, control);
            },
        )?;
        self.bounds
            .set_first_unstable(states.first_unstable_offset());
        writer.producers = states;
        Ok(())
    }
}

/// Whether an index has an entry for each marker that was found.
fn names_all(stored: &[AbortedTransaction], found: &[AbortedTransaction]) -> bool {
    let marker =
        |transaction: &AbortedTransaction| (transaction.producer_id, transaction.last_offset);
    found
        .iter()
        .all(|found| stored.iter().any(|stored| marker(stored) == marker(found)))
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
        builder
            .push(&Record::new([0, 0, 0, 0, 0, 3]).key([0, 0, 0, 1]), 0)
            .unwrap();
        let mut bytes = builder.finish(&TopicSettings::unconfigured()).unwrap();
        let header = BatchHeader::decode(&bytes).unwrap();
        assert_eq!(control_of(&header, &bytes), None);
        let control = BatchHeader {
            attributes: 0b11 << 4,
            ..header
        };
        control.write(&mut bytes);
        assert_eq!(
            control_of(&control, &bytes),
            Some(ControlRecord::Commit {
                coordinator_epoch: 3
            })
        );
        assert_eq!(
            control_of(
                &BatchHeader {
                    record_count: 0,
                    ..control
                },
                &bytes
            ),
            None,
            "compaction emptied it"
        );
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
        let newest = |offset| {
            newest_snapshot(&disk, dir, &[9, 8, 3, 7, 5], offset)
                .map(|found| found.map(|(at, _)| at))
        };
        let found = [2, 3, 4, 7, 8].map(|offset| newest(offset).unwrap());
        assert_eq!(
            found,
            [None, Some(3), Some(3), Some(5), Some(5)],
            "7 is damaged, 8 is missing"
        );
        disk.create_dir_all(&path(9)).unwrap();
        assert_eq!(
            newest(9).err().map(|error| error.kind()),
            Some(io::ErrorKind::IsADirectory)
        );
    }

    #[test]
    fn an_index_of_transactions_is_believed_only_by_its_digest() {
        let disk = MemoryDisk::new();
        let of = |first_offset, last_offset| AbortedTransaction {
            producer_id: 9,
            first_offset,
            last_offset,
            last_stable_offset: last_offset,
        };
        let bytes: Vec<u8> = [of(0, 1), of(1, 2)]
            .iter()
            .flat_map(|transaction| transaction.encode())
            .collect();
        let found = |digest, stored: &[u8]| {
            let core = written(&disk, 0, 12);
            let (segment, end) = core.sealed_segments().swap_remove(0);
            // No batch is of a transaction, so that nothing but the index can say so.
            let opened = Segment::open_sealed(core.home(), 0, segment.size(), end);
            opened.set_digests([None, None, digest]);
            put(&disk, opened.path(file_name::TRANSACTION_INDEX), stored);
            let segments = [Arc::new(opened)];
            core.learn_aborted(&segments, 0, &mut None).unwrap();
            let is_there = disk
                .metadata(&segments[0].path(file_name::TRANSACTION_INDEX))
                .is_ok();
            (segments[0].known_aborted().unwrap(), is_there)
        };
        let right = Some(crate::segment::digest(&bytes));
        assert_eq!(found(right, &bytes), (vec![of(0, 1), of(1, 2)], true));
        assert_eq!(found(right, &bytes[..34]), (vec![], false));
        assert_eq!(found(None, &bytes), (vec![], false));
        assert_eq!(
            found(right, b""),
            (vec![], true),
            "one that is empty says so too"
        );
    }

    #[test]
    fn a_transaction_index_that_cannot_be_read_is_an_error() {
        let disk = MemoryDisk::new();
        let core = written(&disk, 0, 12);
        let (segment, end) = core.sealed_segments().swap_remove(0);
        let opened = Arc::new(Segment::open_sealed(core.home(), 0, segment.size(), end));
        disk.create_dir_all(&opened.path(file_name::TRANSACTION_INDEX))
            .unwrap();
        assert!(matches!(
            core.learn_aborted(&[opened], 0, &mut None),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn a_replay_goes_from_start_to_end() {
        let core = written(&MemoryDisk::new(), 0, 12);
        assert!(core.segments().snapshot().len() > 1);
        let replayed = |start, end| {
            let mut offsets = Vec::new();
            let segments = core.segments().snapshot();
            assert!(
                core.replay(&segments, start, end, |header, _| offsets
                    .push(header.base_offset))
                    .unwrap()
            );
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
