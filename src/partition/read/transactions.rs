//! The transactions that readers of committed records leave out: those that were aborted, and those
//! that are open.
//!
//! A `.txnindex` lists the aborted transactions whose marker is in its segment. It is used if its
//! digest proves it. Otherwise the first reader of the segment walks the batches for markers, and
//! replaces an index that differs from them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::place::Place;
use crate::error::{At, Error, Result};
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
use crate::storage::{Storage, read_if_fits, remove_if_exists};

/// Largest producer snapshot that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Reads the newest valid producer snapshot at or below `offset`. Returns it with its offset.
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
        let bytes = read_if_fits(storage, &path, MAX_FILE_BYTES)?;
        if let Some(Ok(entries)) = bytes.map(|bytes| producer_snapshot::decode(&bytes)) {
            return Ok(Some((at, ProducerStates::from_snapshot(entries))));
        }
    }
    Ok(None)
}

/// Returns the offsets of the producer snapshots in a directory.
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
    /// Removes the producer snapshots whose offset `is_removed` selects.
    pub(in crate::partition) fn remove_snapshots(
        &self,
        is_removed: impl Fn(u64) -> bool,
    ) -> Result<()> {
        let storage = &*self.context.storage;
        for offset in list_snapshots(storage, self.dir()).at("list", self.dir())? {
            if is_removed(offset) {
                let path = self
                    .dir()
                    .join(file_name::segment_file(offset, file_name::SNAPSHOT));
                remove_if_exists(storage, &path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}

impl Batch {
    /// Returns the content of a control batch. Returns `None` for any other batch, and for one that
    /// compaction emptied.
    pub(in crate::partition) fn control_record(&self) -> Option<ControlRecord> {
        let (header, bytes) = self.stored();
        control_of(header, bytes)
    }
}

/// The result of a walk over batches.
struct Walked {
    aborted: Vec<AbortedTransaction>,
    /// The state of the producers at the end of the walk.
    states: ProducerStates,
    /// Whether no batch on the way was damaged.
    is_whole: bool,
}

/// An offset, and the state of the producers at it.
type StatesAt = Option<(u64, ProducerStates)>;

impl PartitionCore {
    /// Returns the aborted transactions that end at or after `from`.
    pub(in crate::partition) fn aborted_transactions(
        &self,
        from: u64,
    ) -> Result<Vec<AbortedTransaction>> {
        self.aborted_until(from, |_, _| Ok(false))
    }

    /// Returns the aborted transactions that have records between `from` and the end of the segment
    /// that contains it, and the offset of that end. The list may contain others as well.
    pub(in crate::partition) fn aborted_around(
        &self,
        from: u64,
    ) -> Result<(Vec<AbortedTransaction>, u64)> {
        let segments = self.segments().snapshot();
        let next = segments.get(segment_list::floor(&segments, from) + 1);
        let end = next.map_or(u64::MAX, |next| next.base_offset);
        debug_assert!(from < end, "{from} is in a segment before {end}");
        let storage = &*self.context.storage;
        let aborted = self.aborted_until(from, |at, states| {
            // The snapshot at the base offset of a segment shows which transactions were open
            // before it. A walk up to there shows the same.
            let first_unstable =
                |states: &ProducerStates| states.first_unstable_offset().unwrap_or(at);
            let stable_end = match states {
                Some((walked, states)) if *walked == at => Some(first_unstable(states)),
                _ => newest_snapshot(storage, self.dir(), &[at], at)
                    .at("read a snapshot in", self.dir())?
                    .map(|(_, states)| first_unstable(&states)),
            };
            Ok(stable_end.is_some_and(|stable_end| stable_end >= end))
        })?;
        Ok((aborted, end))
    }

    /// Collects the aborted transactions that end at or after `from`, segment by segment.
    ///
    /// Stops at the end of the first segment for which `is_enough` returns `true`. It is called
    /// with that end, and with the state of the producers at some offset.
    fn aborted_until(
        &self,
        from: u64,
        is_enough: impl Fn(u64, &StatesAt) -> Result<bool>,
    ) -> Result<Vec<AbortedTransaction>> {
        loop {
            let segments = self.segments().snapshot();
            match self.aborted_in(&segments, from, &is_enough) {
                // A segment was deleted or replaced after the list was read.
                Err(error)
                    if error.is_not_found()
                        && !Arc::ptr_eq(&segments, &self.segments().snapshot()) => {}
                found => return found,
            }
        }
    }

    /// Collects aborted transactions from these segments, as `aborted_until` does.
    fn aborted_in(
        &self,
        segments: &[Arc<Segment>],
        from: u64,
        is_enough: impl Fn(u64, &StatesAt) -> Result<bool>,
    ) -> Result<Vec<AbortedTransaction>> {
        let (mut aborted, mut states) = (Vec::new(), None);
        let first = segment_list::floor(segments, from);
        for (number, segment) in segments.iter().enumerate().skip(first) {
            self.learn_aborted(segments, number, &mut states)?;
            let Some(found) = segment.known_aborted() else {
                unreachable!("the segment has just learned its aborted transactions")
            };
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

    /// Makes sure that a segment knows its aborted transactions.
    ///
    /// `states` is the state of the producers at the end of an earlier segment, if that segment was
    /// walked. If this segment is walked, `states` becomes the state at its end.
    pub(in crate::partition) fn learn_aborted(
        &self,
        segments: &[Arc<Segment>],
        number: usize,
        states: &mut StatesAt,
    ) -> Result<()> {
        let Some(segment) = segments.get(number) else {
            unreachable!("the caller passes the number of a segment in the list")
        };
        if segment.known_aborted().is_some() {
            return Ok(());
        }
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
            // The walk did not see the batches that were appended since the segment was opened.
            let is_at_end = segment.next_offset() == segment.opened_end();
            *states = segments
                .get(number + 1)
                .filter(|_| is_at_end)
                .map(|next| (next.base_offset, walked.states));
        }
        // Damage may hide markers from the walk that the index lists.
        let hidden = stored.filter(|stored| !walked.is_whole && names_all(stored, &walked.aborted));
        segment.set_aborted(hidden.unwrap_or(walked.aborted));
        Ok(())
    }

    /// Walks the batches for the aborted transactions whose marker was in the segment when it was
    /// opened.
    fn walk_for_aborted(
        &self,
        segments: &[Arc<Segment>],
        number: usize,
        states: StatesAt,
    ) -> Result<Walked> {
        let (Some(segment), Some(upto)) = (segments.get(number), segments.get(..=number)) else {
            unreachable!("the caller passes the number of a segment in the list")
        };
        let (base, end) = (segment.base_offset, segment.opened_end());
        debug_assert!(
            base <= end,
            "a segment that starts at {base} was opened with the end {end}"
        );
        let (start, mut states) = match states.filter(|(at, _)| *at == base) {
            Some(states) => states,
            None => self.producers_below(base)?,
        };
        let mut aborted = Vec::new();
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

    /// Returns the newest snapshot of the producers at or below `offset`, or a state without
    /// producers at the first offset.
    fn producers_below(&self, offset: u64) -> Result<(u64, ProducerStates)> {
        let storage = &*self.context.storage;
        let snapshots = list_snapshots(storage, self.dir()).at("list", self.dir())?;
        let newest = newest_snapshot(storage, self.dir(), &snapshots, offset)
            .at("read a snapshot in", self.dir())?;
        Ok(newest.unwrap_or((self.first_base_offset(), ProducerStates::default())))
    }

    /// Returns the open transactions as aborted ones that end after every batch.
    pub(in crate::partition) fn open_transactions(&self) -> Vec<AbortedTransaction> {
        self.writer.lock().producers.open_transactions().collect()
    }

    /// Visits the batches between `start` and `end` that are not damaged. Returns whether there was
    /// no damage.
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
            is_whole &= replayed.at("read", segment.log_path())?;
        }
        Ok(is_whole)
    }

    /// Visits the batches of one segment as `replay` does.
    fn replay_segment(
        &self,
        segment: &Arc<Segment>,
        start: u64,
        end: u64,
        mut visit: impl FnMut(&BatchHeader, Option<ControlRecord>),
    ) -> io::Result<bool> {
        debug_assert!(
            segment.base_offset < end && start < end,
            "the segment has offsets between {start} and {end}"
        );
        let mut is_whole = true;
        let mut place = if start > segment.base_offset {
            self.seek_in(segment, start, self.truncations())?
        } else {
            Place::at_start(Arc::clone(segment), self.truncations())
        };
        loop {
            let (position, limit) = (place.position, segment.size());
            let step = self.header_in_order(&mut place, limit).and_then(|found| {
                let Some(header) = found else { return Ok(None) };
                // Only the checksum confirms which transaction the batch belongs to.
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

    /// Returns the state of the producers at `end`, from the newest snapshot at or below it and the
    /// batches after that.
    pub(in crate::partition) fn producers_at(
        &self,
        writer: &Writer,
        end: u64,
    ) -> Result<ProducerStates> {
        if !writer.had_producers && writer.producers.is_empty() {
            return Ok(ProducerStates::default());
        }
        let (start, mut states) = self.producers_below(end)?;
        debug_assert!(start <= end, "the snapshot at {start} is not after {end}");
        self.replay(
            &self.segments().snapshot(),
            start,
            end,
            |header, control| {
                let _is_in_the_index = states.replay(header, control);
            },
        )?;
        Ok(states)
    }
}

/// Returns whether an index has an entry for each marker that was found.
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
    fn control_record_is_decoded_only_from_a_control_batch_with_a_record() {
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
            "compaction emptied the batch"
        );
    }

    #[test]
    fn newest_valid_snapshot_is_read() {
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
    fn transaction_index_is_used_only_if_its_digest_matches() {
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
            // No batch belongs to a transaction, so the entries can only come from the index.
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
            "an empty index matches the batches and is kept"
        );
    }

    #[test]
    fn unreadable_transaction_index_is_an_error() {
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
    fn replay_visits_the_batches_from_start_to_end() {
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
    fn look_for_producers_reads_no_file_if_there_are_none() {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = written(&disk, 0, 2);
        drop(disk.take());
        let states = core.producers_at(&core.writer.lock(), 2).unwrap();
        assert!(states.is_empty());
        assert_eq!(core.aborted_from(0).unwrap(), []);
        assert_eq!(disk.take(), []);
    }
}
