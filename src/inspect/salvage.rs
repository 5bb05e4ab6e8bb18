//! Copies everything that can be read of a damaged partition into a fresh one.
//!
//! Every batch whose checksum is right and whose offsets are in order is copied byte by byte, with
//! its base offset. Lost offsets are never assigned again: a batch without records takes their
//! place, as after compaction, so that the copy has no gap. Indexes are rebuilt. Of the old
//! indexes, snapshots and checkpoints, the copy trusts only the log start and the recovery point.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MAX_DECOMPRESSED_BYTES;
use super::window::Window;
use crate::brief::Few;
use crate::config::TopicConfig;
use crate::error::{At, Corruption, Error, Result};
use crate::format::batch::legacy;
use crate::format::batch::{self, BatchHeader, HEADER_BYTES};
use crate::format::{Malformed, file_name};
use crate::log::lone::known::{Known, known};
use crate::partition::Partition;
use crate::segment::batch_file::{BEYOND_END, WRONG_CHECKSUM};
use crate::segment::walk::OUT_OF_ORDER;
use crate::storage::{Access, Disk, Storage, StorageFile, create_dirs, read_file, replace_file};

/// Limit for the size of `partition.metadata` and of the leader epochs, which are small.
const MAX_METADATA_BYTES: u64 = 64 << 20;
/// Largest difference between the offsets of one segment.
const MAX_RELATIVE: u64 = i32::MAX.cast_unsigned() as u64;

/// The result of [`salvage`]: the copied data and the lost offsets.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Salvage {
    /// Number of batches that were copied.
    pub batches: u64,
    /// Number of records in these batches, without transaction markers. A compressed batch of
    /// format v0 or v1 counts as one.
    pub records: u64,
    /// Size of these batches in bytes.
    pub bytes: u64,
    /// The lost ranges, in the order of their offsets. If the old end of the log is unknown, the
    /// last range has one offset.
    pub lost: Vec<Corruption>,
}

/// Shows the first of the lost ranges; `{:#?}` shows all of them.
impl fmt::Debug for Salvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            batches,
            records,
            bytes,
            lost,
        } = self;
        let mut shown = f.debug_struct("Salvage");
        shown
            .field("batches", batches)
            .field("records", records)
            .field("bytes", bytes)
            .field("lost", &Few(lost))
            .finish()
    }
}

/// Copies everything that can be read of the partition in `from` into a fresh one in `to`, and
/// returns the losses.
///
/// Whole batches are copied, so offsets, timestamps, headers, compression, transactions and the
/// formats v0 and v1 stay as they are. Readers skip lost offsets as they skip compacted ones. The
/// log start is kept.
///
/// `from` may be a partition of any log, including a broker's. It is not changed, and must not be
/// written during the copy. `to` becomes a normal partition: open it with [`Partition::open`], or
/// put it in the place of the damaged directory while the log is closed.
///
/// Blocks on the device: the copy is durable when this returns.
///
/// # Errors
///
/// Returns [`Error::NotALog`] if `from` has no segment or `to` is not empty. Returns [`Error::Io`]
/// or [`Error::DiskFull`] if the disk fails or is full; a part of the copy then remains in `to`.
///
/// ```no_run
/// let salvage = annals::inspect::salvage("data/orders-0", "salvaged/orders-0")?;
/// println!("{} records", salvage.records);
/// for lost in &salvage.lost {
///     println!("{lost}");
/// }
/// # Ok::<(), annals::Error>(())
/// ```
pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvage> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let known = known(&Disk, from)?;
    let mut copy = Copy::begin(&Disk, from, to, &known)?;
    copy.all_segments()?;
    copy.metadata()?;
    let salvage = copy.salvage;
    let partition = Partition::open(to, TopicConfig::new())?;
    if known.log_start > partition.log_start_offset() {
        partition.delete_records_before(known.log_start.min(partition.log_end_offset()))?;
    }
    partition.flush()?;
    Ok(salvage)
}

/// A copy in progress.
struct Copy<'a> {
    storage: &'a dyn Storage,
    from: &'a Path,
    to: &'a Path,
    known: &'a Known,
    /// Base offsets, rising.
    bases: Vec<u64>,
    salvage: Salvage,
    /// Lowest base offset that the next batch may have.
    expected: u64,
    /// Offset after the last record, which is not below `expected`.
    next: u64,
    /// Leader epoch of the last batch.
    leader_epoch: i32,
    output: Option<Output>,
}

/// The segment that is being written.
struct Output {
    base: u64,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    bytes: u64,
}

/// Damage that the copy is skipping.
#[derive(Clone, Copy)]
struct Damage {
    base: u64,
    position: u64,
    reason: &'static str,
}

/// A batch whose checksum is right and whose offsets are in order.
struct Sound {
    header: BatchHeader,
    first_offset: u64,
}

impl<'a> Copy<'a> {
    fn begin(
        storage: &'a dyn Storage,
        from: &'a Path,
        to: &'a Path,
        known: &'a Known,
    ) -> Result<Self> {
        let entries = storage.list(from).at("list", from)?;
        let logs = entries
            .iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| file_name::parse_segment_file(&entry.name));
        let mut bases: Vec<_> = logs
            .filter(|(_, suffix)| *suffix == file_name::LOG)
            .map(|(base, _)| base)
            .collect();
        bases.sort_unstable();
        let Some(&first) = bases.first() else {
            return Err(Error::NotALog {
                path: from.to_owned(),
                reason: "it holds no segment".into(),
            });
        };
        create_dirs(storage, to).at("create", to)?;
        if !storage.list(to).at("list", to)?.is_empty() {
            return Err(Error::NotALog {
                path: to.to_owned(),
                reason: "a salvaged partition needs an empty directory".into(),
            });
        }
        let salvage = Salvage::default();
        Ok(Self {
            storage,
            from,
            to,
            known,
            bases,
            salvage,
            expected: first,
            next: first,
            leader_epoch: -1,
            output: None,
        })
    }

    fn all_segments(&mut self) -> Result<()> {
        let bases = self.bases.clone();
        for (number, base) in bases.iter().enumerate() {
            if *base > self.expected && self.known.is_dense {
                self.lose(
                    Damage {
                        base: *base,
                        position: 0,
                        reason: "segments are missing before it",
                    },
                    *base,
                )?;
            }
            self.finish_output()?;
            self.output = Some(self.create(*base)?);
            (self.expected, self.next) = (self.expected.max(*base), self.next.max(*base));
            let next = bases.get(number + 1).copied();
            if let Some(damage) = self.segment(*base, next)? {
                // The old end of the log is unknown, but at least one record is lost.
                self.lose(
                    damage,
                    next.unwrap_or((self.next + 1).max(self.known.recovery_point)),
                )?;
            } else if next.is_none()
                && self.known.recovery_point > self.next
                && self.known.log_start < self.known.recovery_point
            {
                let position = self.output.as_ref().map_or(0, |output| output.bytes);
                let reason = "the records up to the recovery point are missing";
                self.lose(
                    Damage {
                        base: *base,
                        position,
                        reason,
                    },
                    self.known.recovery_point,
                )?;
            }
        }
        self.finish_output()?;
        self.storage.sync_dir(self.to).at("sync", self.to)
    }

    fn create(&self, base: u64) -> Result<Output> {
        let path = self.to.join(file_name::segment_file(base, file_name::LOG));
        let file = self
            .storage
            .open(&path, Access::CreateNew)
            .at("create", &path)?;
        Ok(Output {
            base,
            path,
            file,
            bytes: 0,
        })
    }

    fn finish_output(&mut self) -> Result<()> {
        let Some(output) = self.output.take() else {
            return Ok(());
        };
        output.file.sync_data().at("sync", &output.path)
    }

    /// Copies the sound batches of one segment. Returns the damage at its end, if there is any.
    fn segment(&mut self, base: u64, next: Option<u64>) -> Result<Option<Damage>> {
        let path: Arc<Path> = self
            .from
            .join(file_name::segment_file(base, file_name::LOG))
            .into();
        let mut window = Window::open(self.storage, &path)?;
        let mut damage: Option<Damage> = None;
        let mut position = 0;
        while position < window.end() {
            let found = self.sound_at(
                &mut window,
                position,
                damage.is_some(),
                next.unwrap_or(u64::MAX),
            )?;
            let sound = match found {
                Ok(sound) => sound,
                Err(Malformed(reason)) => {
                    // At the end of the log, a writer wrote the zeros ahead of its records.
                    if damage.is_none() && window.is_zero_from(position)? {
                        let is_lost = next.is_some_and(|next| next > self.next);
                        return Ok(is_lost.then_some(Damage {
                            base,
                            position,
                            reason: "the rest of the segment is zeros",
                        }));
                    }
                    damage.get_or_insert(Damage {
                        base,
                        position,
                        reason,
                    });
                    position += 1;
                    continue;
                }
            };
            if let Some(damage) = damage.take() {
                self.lose(damage, sound.first_offset)?;
            }
            self.make_room(&sound)?;
            let bytes = window.read(position, sound.header.size_bytes as usize)?;
            self.write(bytes, &sound.header)?;
            position += u64::from(sound.header.size_bytes);
        }
        Ok(damage)
    }

    /// Returns the batch at a position if it is sound, or the reason why it is not.
    ///
    /// The checksum does not cover the base offset. After damage, the batch before does not confirm
    /// it either; in a log without gaps, the batch after it must.
    fn sound_at(
        &self,
        window: &mut Window,
        position: u64,
        follows_damage: bool,
        end: u64,
    ) -> Result<std::result::Result<Sound, Malformed>> {
        let header = match BatchHeader::decode(window.read(position, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(malformed) => return Ok(Err(malformed)),
        };
        if header.base_offset < self.expected || header.stated_last_offset >= end {
            return Ok(Err(OUT_OF_ORDER));
        }
        let bytes = window.read(position, header.size_bytes as usize)?;
        if bytes.len() < header.size_bytes as usize {
            return Ok(Err(BEYOND_END));
        }
        if !header.crc_is_valid(bytes) {
            return Ok(Err(WRONG_CHECKSUM));
        }
        let first_offset = first_offset(&header, bytes);
        let is_dense = self.known.is_dense && header.magic >= 2;
        if is_dense && !follows_damage && first_offset != self.expected {
            return Ok(Err(OUT_OF_ORDER));
        }
        if is_dense && follows_damage {
            let next = window.read(position + u64::from(header.size_bytes), HEADER_BYTES)?;
            let follows =
                BatchHeader::decode(next).map(|next| next.base_offset == header.next_base_offset());
            let is_last = next.is_empty() || next.iter().all(|byte| *byte == 0);
            if !follows.unwrap_or(is_last) {
                return Ok(Err(Malformed(
                    "the next batch does not confirm the offset of a batch",
                )));
            }
        }
        Ok(Ok(Sound {
            header,
            first_offset,
        }))
    }

    fn write(&mut self, bytes: &[u8], header: &BatchHeader) -> Result<()> {
        self.put(bytes)?;
        self.expected = header.next_base_offset();
        self.next = self.next.max(header.last_offset + 1);
        self.leader_epoch = header.leader_epoch;
        self.salvage.batches += 1;
        self.salvage.bytes += u64::from(header.size_bytes);
        if !header.is_control() {
            self.salvage.records += u64::from(header.record_count);
        }
        Ok(())
    }

    /// Begins a segment if the open one cannot hold the offsets of the batch. Brokers before 2.0
    /// left such segments.
    fn make_room(&mut self, batch: &Sound) -> Result<()> {
        let is_near =
            |output: &Output| batch.header.last_offset.saturating_sub(output.base) <= MAX_RELATIVE;
        if self.output.as_ref().is_none_or(is_near) {
            return Ok(());
        }
        self.finish_output()?;
        self.output = Some(self.create(batch.first_offset)?);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        output
            .file
            .write_all_at(bytes, output.bytes)
            .at("write", &output.path)?;
        output.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Notes that the offsets up to `end` are lost, and writes a batch without records in their
    /// place.
    fn lose(&mut self, damage: Damage, end: u64) -> Result<()> {
        let offsets = self.next..end;
        if offsets.is_empty() {
            return Ok(());
        }
        let path = self
            .from
            .join(file_name::segment_file(damage.base, file_name::LOG));
        let position = u32::try_from(damage.position).unwrap_or(u32::MAX);
        let (partition, reason) = (self.known.id.clone(), damage.reason.to_owned());
        self.salvage.lost.push(Corruption {
            partition,
            path,
            position,
            offsets: offsets.clone(),
            reason,
        });
        let is_near = self
            .output
            .as_ref()
            .is_some_and(|output| end - output.base <= MAX_RELATIVE);
        if is_near {
            self.put(&empty_batch(&offsets, self.leader_epoch))?;
        }
        (self.expected, self.next) = (end, end);
        Ok(())
    }

    /// Copies the other files that identify the partition.
    fn metadata(&self) -> Result<()> {
        for name in [file_name::PARTITION_METADATA, file_name::LEADER_EPOCHS] {
            let Ok(bytes) = read_file(self.storage, &self.from.join(name), MAX_METADATA_BYTES)
            else {
                continue;
            };
            let path = self.to.join(name);
            replace_file(self.storage, &path, &bytes).at("write", &path)?;
        }
        Ok(())
    }
}

/// Returns the first offset of a batch. For a legacy wrapper, it is the offset of the first record
/// that can be decoded.
fn first_offset(header: &BatchHeader, bytes: &[u8]) -> u64 {
    if header.magic >= 2 {
        return header.base_offset;
    }
    let decompressed =
        batch::decompressed(header, bytes, MAX_DECOMPRESSED_BYTES).unwrap_or_default();
    let mut records = legacy::records(header, bytes, decompressed.as_deref())
        .into_iter()
        .flatten();
    records
        .find_map(std::result::Result::ok)
        .map_or(header.base_offset, |record| record.offset)
}

/// Creates a batch that has offsets but no records.
fn empty_batch(offsets: &Range<u64>, leader_epoch: i32) -> Vec<u8> {
    let header = BatchHeader {
        base_offset: offsets.start,
        last_offset: offsets.end - 1,
        stated_last_offset: offsets.end - 1,
        size_bytes: u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX),
        magic: 2,
        leader_epoch,
        crc: 0,
        attributes: 0,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    let mut bytes = vec![0; HEADER_BYTES];
    header.write(&mut bytes);
    bytes
}
