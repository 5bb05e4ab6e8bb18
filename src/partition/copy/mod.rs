//! Copies a partition, as it is at one moment, into the directory of another log.
//!
//! The copy of a sealed segment is a second name of its files (a hard link), which takes no room.
//! The owners of both names rely on a rule that all of annals keeps: the files of a sealed segment
//! are replaced or removed, and never written in place. The last segment is copied up to its end at
//! that moment, because both logs append to it.
//!
//! 1. [`PartitionCore::pause`] makes appends wait. While all partitions of a log are paused, their
//!    [`Moment`]s are taken, and belong together.
//! 2. Appends continue. [`Moment::put`] makes the files durable and gives them their second names,
//!    one segment after the other. Segments that lost their files in the meantime were kept open
//!    for the copy, as for a reader, and are copied.

use std::path::Path;
use std::sync::Arc;

use super::core::{PartitionCore, Writer};
use super::state::leader_epoch::LeaderEpochs;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::{encode_index_digests, encode_partition_metadata};
use crate::format::producer_snapshot::{self, ProducerEntry};
use crate::segment::batch_file::{BatchFile, ReadError};
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::indexed;
use crate::segment::{IndexEnd, Segment};
use crate::sync::MutexGuard;
use crate::topic_partition::TopicPartition;

mod target;

pub(crate) use target::{Copied, Target};

/// A partition whose appends, rolls and cuts wait until this is dropped.
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    core: &'a Arc<PartitionCore>,
    writer: MutexGuard<'a, Writer>,
}

/// A partition at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    core: Arc<PartitionCore>,
    /// All segments except the last. Each counts as read, so its `.log` stays readable.
    sealed: Vec<BatchFile>,
    last: BatchFile,
    /// The end of the last segment, and of its index if that was in memory.
    last_bytes: u32,
    index_end: Option<IndexEnd>,
    log_start: u64,
    log_end: u64,
    recovery_point: u64,
    cleaned: Option<u64>,
    epochs: LeaderEpochs,
    /// The content of a producer snapshot. `None` if the partition never had a producer.
    producers: Option<Vec<ProducerEntry>>,
    is_damaged: bool,
}

impl PartitionCore {
    /// Makes appends, rolls and cuts wait until the result is dropped.
    pub(crate) fn pause(self: &Arc<Self>) -> Paused<'_> {
        Paused {
            core: self,
            writer: self.writer.lock(),
        }
    }
}

impl Paused<'_> {
    /// Returns the partition as it is now. Fails if the partition is not open, or if the end of its
    /// log is unknown.
    pub(crate) fn moment(&self) -> Result<Moment> {
        let Self { core, writer } = self;
        core.check_readable()?;
        core.health.check_not_poisoned()?;
        // Before the list: a pass of compaction notes its end after the segments that it replaced.
        let cleaned = core.cleaned_line();
        let segments = core.segments().snapshot();
        let mut held: Vec<_> = segments
            .iter()
            .map(|segment| BatchFile::new(Arc::clone(segment)))
            .collect();
        let Some(last) = held.pop() else {
            unreachable!("a partition has at least one segment")
        };
        let has_producers = writer.had_producers || !writer.producers.is_empty();
        let (log_start, log_end) = (core.log_start_offset(), core.log_end_offset());
        debug_assert!(log_start <= log_end, "a log starts at or below its end");
        Ok(Moment {
            core: Arc::clone(core),
            last_bytes: last.segment().size(),
            index_end: last.segment().index_end(),
            sealed: held,
            last,
            log_start,
            log_end,
            recovery_point: core.recovery_point(),
            cleaned,
            epochs: writer.epochs.clone(),
            producers: has_producers.then(|| writer.producers.entries()),
            is_damaged: core.is_damaged(),
        })
    }
}

impl Moment {
    pub(crate) fn id(&self) -> &TopicPartition {
        self.core.id()
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Returns whether a gap between two offsets can only be damage.
    pub(crate) fn is_dense(&self) -> bool {
        self.core.is_dense()
    }

    /// Returns the log start if the name of the first file does not show it.
    pub(crate) fn log_start_line(&self) -> Option<u64> {
        let first = self.sealed.first().unwrap_or(&self.last).segment();
        (self.log_start > first.base_offset).then_some(self.log_start)
    }

    /// Returns the recovery point of the copy. Everything in the copy is on the device, but what is
    /// damaged has to be found again.
    pub(crate) fn recovery_point(&self) -> u64 {
        if self.is_damaged {
            self.recovery_point
        } else {
            self.log_end
        }
    }

    /// Returns the offset up to which the partition was compacted, if it was.
    pub(crate) fn cleaned_line(&self) -> Option<u64> {
        self.cleaned
    }

    /// Puts a durable copy into the new directory `dir`. The caller makes the name of the directory
    /// durable.
    pub(crate) fn put(&self, dir: &Path) -> Result<Copied> {
        let storage = &*self.core.context.storage;
        storage.create_dir_all(dir).at("create", dir)?;
        self.sync_sealed()?;
        let mut target = Target::new(storage, dir);
        for (number, file) in self.sealed.iter().enumerate() {
            self.put_sealed(&mut target, number, file)?;
        }
        self.put_last(&mut target)?;
        self.put_state(&mut target)?;
        target.sync()?;
        Ok(target.copied())
    }

    /// Makes the sealed segments durable that are above the recovery point. Their second names
    /// share what is on the device.
    fn sync_sealed(&self) -> Result<()> {
        let sealed_end = self.last.segment().base_offset;
        if self.sealed.is_empty() || sealed_end <= self.recovery_point {
            return Ok(());
        }
        let _one_at_a_time = self.core.flush.lock();
        match self.core.check_readable() {
            // The files of a deleted topic are copied.
            Err(Error::UnknownTopic(_)) => return Ok(()),
            open => open?,
        }
        self.core.sync_to(sealed_end)?;
        self.core.sync_indexes_from(self.recovery_point)
    }

    fn put_sealed(&self, target: &mut Target<'_>, number: usize, file: &BatchFile) -> Result<()> {
        let segment = file.segment();
        let (is_named, is_linked) = {
            // While this lock is held, the segment does not lose its files.
            let _names_stay = self.core.replacing.lock();
            let is_named = self.is_named(segment)?;
            (is_named, is_named && self.link_segment(target, segment)?)
        };
        if !is_linked {
            target.copy_log(segment, segment.size())?;
        }
        if !is_named {
            if let Some(index) = self.built_index(file, segment.size())? {
                target.write_index(segment, index)?;
            }
            self.put_transactions(target, number)?;
        }
        Ok(())
    }

    /// Returns whether the files with the names of the segment are its own. The caller holds
    /// `replacing`, so they stay its own.
    fn is_named(&self, segment: &Segment) -> Result<bool> {
        debug_assert!(
            self.core.replacing.is_locked(),
            "the files keep their names"
        );
        match self.core.check_readable() {
            // The directory may be renamed at any time.
            Err(Error::UnknownTopic(_)) => Ok(false),
            open => open.map(|()| segment.is_named()),
        }
    }

    /// Builds the index of the first `bytes` bytes of a segment that has lost its index files.
    /// Returns `None` if they are damaged.
    fn built_index(&self, file: &BatchFile, bytes: u32) -> Result<Option<[Vec<u8>; 2]>> {
        let segment = file.segment();
        let interval_bytes = self.core.settings().index_interval_bytes;
        let mut index = MemoryIndex::default();
        let (mut file, mut position) = (BatchFile::new(Arc::clone(segment)), 0);
        loop {
            match file.header_at(position, bytes) {
                Ok(Some(header)) => {
                    index.note(indexed(segment, position, &header), interval_bytes);
                    position += header.size_bytes;
                }
                Ok(None) => break,
                Err(ReadError::Damaged(_)) => return Ok(None),
                Err(ReadError::Io(error)) => {
                    return Err(Error::io("read", segment.log_path(), error));
                }
            }
        }
        index.offer_time_entry();
        Ok(Some([index.offset_bytes(0), index.time_bytes(0)]))
    }

    /// Writes the transaction index of a segment without its file.
    fn put_transactions(&self, target: &mut Target<'_>, number: usize) -> Result<()> {
        if self.producers.is_none() {
            return Ok(());
        }
        let held = self.sealed.iter().chain([&self.last]);
        let segments: Vec<_> = held.map(|file| Arc::clone(file.segment())).collect();
        self.core.learn_aborted(&segments, number, &mut None)?;
        let segment = segments.get(number);
        match segment.and_then(|segment| segment.transaction_index_until(self.log_end)) {
            Some(bytes) if !bytes.is_empty() => {
                let base = segments
                    .get(number)
                    .map_or(0, |segment| segment.base_offset);
                let name = file_name::segment_file(base, file_name::TRANSACTION_INDEX);
                target.write(&name, &bytes)
            }
            _ => Ok(()),
        }
    }

    /// Gives the files of a sealed segment second names, and copies index files that cannot have
    /// one. Returns `false` if the `.log` has to be copied. The caller holds `replacing`.
    fn link_segment(&self, target: &mut Target<'_>, segment: &Segment) -> Result<bool> {
        if let Some(end) = segment.index_end() {
            let found = segment.index_until(&end);
            if let Some(index) = found.at("read the index of", segment.log_path())? {
                target.write_index(segment, index)?;
            }
        } else {
            for suffix in [file_name::OFFSET_INDEX, file_name::TIME_INDEX] {
                target.share(&segment.path(suffix), !self.is_damaged)?;
            }
        }
        target.share(
            &segment.path(file_name::TRANSACTION_INDEX),
            !self.is_damaged,
        )?;
        if self.producers.is_some() {
            target.share(&segment.path(file_name::SNAPSHOT), !self.is_damaged)?;
        }
        let path = segment.log_path();
        let found = self
            .core
            .context
            .storage
            .metadata(path)
            .at("look at", path)?;
        // A file with other bytes after its batches is copied without them.
        Ok(!self.is_damaged
            && found.bytes == u64::from(segment.size())
            && target.link(path, found.bytes)?)
    }

    /// Copies the last segment up to its end.
    fn put_last(&self, target: &mut Target<'_>) -> Result<()> {
        let segment = self.last.segment();
        target.copy_log(segment, self.last_bytes)?;
        if let Some(end) = &self.index_end {
            let kept = segment.index_until(end);
            let index = match kept.at("read the index of", segment.log_path())? {
                Some(index) => Some(index),
                None => self.built_index(&self.last, self.last_bytes)?,
            };
            if let Some(index) = index {
                target.write_index(segment, index)?;
            }
        }
        self.put_transactions(target, self.sealed.len())?;
        let _names_stay = self.core.replacing.lock();
        if self.producers.is_some()
            && segment.base_offset < self.log_end
            && self.is_named(segment)?
        {
            target.share(&segment.path(file_name::SNAPSHOT), !self.is_damaged)?;
        }
        Ok(())
    }

    /// Writes the files that describe the partition as a whole.
    fn put_state(&self, target: &mut Target<'_>) -> Result<()> {
        let original = self.core.dir();
        if let Some(id) = self.core.topic_id() {
            let text = encode_partition_metadata(id);
            target.put(file_name::PARTITION_METADATA, text.as_bytes(), original)?;
        }
        let mut epochs = self.epochs.clone();
        epochs.truncate_end(self.log_end);
        let text = epochs.encode();
        target.put(file_name::LEADER_EPOCHS, text.as_bytes(), original)?;
        let digests = self.sealed.iter();
        let digests: Vec<_> = digests
            .filter_map(|file| file.segment().digests())
            .collect();
        let text = encode_index_digests(&digests);
        target.put(file_name::INDEX_DIGESTS, text.as_bytes(), original)?;
        if let Some(producers) = &self.producers {
            let name = file_name::segment_file(self.log_end, file_name::SNAPSHOT);
            target.write(&name, &producer_snapshot::encode(producers))?;
        }
        Ok(())
    }
}
