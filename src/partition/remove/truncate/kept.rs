//! The last segment after a cut: what it keeps, and its new file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{At, Error, Result};
use crate::format::Malformed;
use crate::format::batch::{self, BatchHeader, Packing};
use crate::partition::PartitionCore;
use crate::partition::write::encode::EncodedBatch;
use crate::segment::batch_file::ReadError;
use crate::segment::index_file::{IndexedBatch, MemoryIndex};
use crate::segment::walk::{Checked, Step, Walk, indexed};
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::{FilePart, NewFile, StorageFile};

/// The last segment after the cut: the part of the cut segment that stays, or the segment after it.
pub(super) struct Kept {
    pub(super) base_offset: u64,
    pub(super) bytes: u32,
    pub(super) next_offset: u64,
    index: MemoryIndex,
    /// The batch that contains `end`, rebuilt from the records below it.
    pub(super) rest: Option<Vec<u8>>,
}

impl Kept {
    pub(super) fn empty(base_offset: u64) -> Self {
        Self {
            base_offset,
            bytes: 0,
            next_offset: base_offset,
            index: MemoryIndex::default(),
            rest: None,
        }
    }
}

impl PartitionCore {
    /// Finds the part of the segment below `end`.
    pub(super) fn kept_below(&self, cut: &Arc<Segment>, end: u64) -> Result<Kept> {
        let mut kept = Kept::empty(cut.base_offset);
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
                if !self.is_dense() {
                    check_none_below(walk, end)?;
                }
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

    /// Writes the part that stays to a new file, durably, and the markers after it.
    pub(super) fn write_kept<'a>(
        &'a self,
        cut: &Segment,
        kept: &mut Kept,
        markers: &mut Vec<EncodedBatch>,
        path: &'a Path,
    ) -> Result<NewFile<'a>> {
        let written = NewFile::write(&*self.context.storage, path, true, |file| {
            self.copy_kept(cut, kept, file)?;
            let mut markers = markers.iter();
            markers
                .try_for_each(|marker| self.write_after(kept, &marker.bytes, &marker.header, file))
        });
        for marker in markers.drain(..) {
            self.context.buffers.give_back(marker.bytes);
        }
        written.at("truncate", cut.log_path())
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
            self.write_after(kept, &bytes, &header, file)?;
        }
        Ok(())
    }

    /// Writes a batch after those that are kept.
    fn write_after(
        &self,
        kept: &mut Kept,
        bytes: &[u8],
        header: &BatchHeader,
        file: &dyn StorageFile,
    ) -> io::Result<()> {
        let relative = header.stated_last_offset.saturating_sub(kept.base_offset);
        if header.size_bytes > MAX_LOG_BYTES.saturating_sub(kept.bytes) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.write_all_at(bytes, u64::from(kept.bytes))?;
        let batch = IndexedBatch {
            position: kept.bytes,
            size_bytes: header.size_bytes,
            relative_last_offset: u32::try_from(relative).unwrap_or(u32::MAX),
            max_timestamp: header.max_timestamp,
        };
        kept.index.note(batch, self.settings().index_interval_bytes);
        kept.next_offset = header.last_offset + 1;
        kept.bytes += header.size_bytes;
        Ok(())
    }

    pub(super) fn open_kept(&self, kept: Kept) -> Arc<Segment> {
        debug_assert!(kept.rest.is_none(), "the rest was written to the file");
        let Kept {
            base_offset,
            bytes,
            next_offset,
            index,
            ..
        } = kept;
        Arc::new(Segment::open_scanned(
            &self.home,
            base_offset,
            bytes,
            next_offset,
            index,
        ))
    }
}

/// The reason why a log is not cut.
const ABOVE_AND_BELOW: &str = "a batch above the cut comes before one below it";

/// Checks that no good batch below `end` follows. No checksum covers the base offset of a batch, so
/// a wrong one may claim that the rest of a log with gaps is above the cut.
fn check_none_below(walk: &mut Walk, end: u64) -> std::result::Result<(), ReadError> {
    loop {
        let (position, header) = match walk.next() {
            Ok(Some(step)) => (step.position, step.header),
            // A cut also removes damage.
            Ok(None) | Err(ReadError::Damaged(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if header.last_offset >= end {
            continue;
        }
        match walk.checked(position, &header) {
            Ok(_) => return Err(Malformed(ABOVE_AND_BELOW).into()),
            Err(ReadError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
    }
}
