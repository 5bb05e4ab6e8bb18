//! A walk over the batches of a file that may be damaged.
//!
//! If the header of a batch cannot be read but its size can, the walk reports the batch and skips
//! it. If the size cannot be read either, the walk ends and classifies the rest of the file. The
//! walk reads only headers; a caller asks for the checksum and the records of a batch. If the
//! checksum has not confirmed the size of a batch, at most [`DOUBTFUL_BYTES`] are loaded.

use std::path::Path;
use std::sync::Arc;

use super::window::{PIECE_BYTES, Window};
use crate::error::Result;
use crate::format::Malformed;
use crate::format::batch::legacy;
use crate::format::batch::{
    self, BatchChecksum, BatchHeader, FRAME_BYTES, Frame, HEADER_BYTES, RecordCursor,
};
use crate::format::record::Headers;
use crate::storage::Storage;

/// A batch larger than this is loaded only if its checksum is right.
const DOUBTFUL_BYTES: u32 = 16 << 20;

/// The batches of one file.
#[derive(Debug)]
pub(super) struct Batches {
    window: Window,
    position: u64,
    /// Most bytes that a compressed batch may decompress to.
    max_decompressed_bytes: usize,
}

/// The content of a position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Batch(StoredBatch),
    /// A batch of which only the size can be read.
    Unreadable {
        position: u64,
        size_bytes: u32,
        reason: Malformed,
    },
}

/// A batch whose header was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredBatch {
    pub(super) position: u64,
    pub(super) header: BatchHeader,
}

/// The bytes between the last batch and the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) content: TailContent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TailContent {
    /// The start of a batch.
    CutShort,
    Zeros,
    Malformed(Malformed),
}

impl Batches {
    /// Opens a file at its first batch. If the file is longer than `limit`, it is treated as ending
    /// there.
    pub(super) fn open(
        storage: &dyn Storage,
        path: &Arc<Path>,
        limit: u64,
        max_decompressed_bytes: usize,
    ) -> Result<Self> {
        let mut window = Window::open(storage, path)?;
        window.limit(limit);
        Ok(Self {
            window,
            position: 0,
            max_decompressed_bytes,
        })
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Returns the next batch, or `None` if no whole batch is left.
    pub(super) fn next(&mut self) -> Result<Option<Found>> {
        let position = self.position;
        let found = self.at(position)?;
        self.position += match &found {
            Some(Found::Batch(batch)) => u64::from(batch.header.size_bytes),
            Some(Found::Unreadable { size_bytes, .. }) => u64::from(*size_bytes),
            None => 0,
        };
        Ok(found)
    }

    /// Returns the batch at a position, or `None` if there is no whole batch.
    pub(super) fn at(&mut self, position: u64) -> Result<Option<Found>> {
        let end = self.window.end();
        // As in Kafka, a frame that ends with the file is not a batch, whatever it contains.
        if position.saturating_add(FRAME_BYTES as u64) >= end {
            return Ok(None);
        }
        let front = self.window.read(position, HEADER_BYTES)?;
        let Some(size_bytes) = Frame::size_bytes_of(front) else {
            return Ok(None);
        };
        let found = match BatchHeader::decode(front) {
            Ok(header) => Found::Batch(StoredBatch { position, header }),
            Err(reason) => Found::Unreadable {
                position,
                size_bytes,
                reason,
            },
        };
        Ok((position.saturating_add(size_bytes.into()) <= end).then_some(found))
    }

    /// Returns the bytes after the last batch. Called when there is no next batch.
    pub(super) fn tail(&mut self) -> Result<Option<Tail>> {
        let position = self.position;
        let bytes = self.window.end().saturating_sub(position);
        if bytes == 0 {
            return Ok(None);
        }
        let front = self.window.read(position, FRAME_BYTES)?;
        let malformed = if front.len() < FRAME_BYTES {
            None
        } else {
            Frame::decode(front).err()
        };
        let content = match malformed {
            _ if self.window.is_zero_from(position)? => TailContent::Zeros,
            Some(malformed) => TailContent::Malformed(malformed),
            None => TailContent::CutShort,
        };
        Ok(Some(Tail {
            position,
            bytes,
            content,
        }))
    }

    /// Returns whether the checksum of a batch is right.
    pub(super) fn crc_is_valid(&mut self, batch: &StoredBatch) -> Result<bool> {
        let mut checksum = BatchChecksum::new(&batch.header);
        let (mut position, end) = (
            batch.position,
            batch.position + u64::from(batch.header.size_bytes),
        );
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(usize::MAX);
            // If the batch fits into one piece, it is read as a whole, because the caller may load
            // its records next.
            let piece = self.window.read(position, left.min(PIECE_BYTES))?;
            if piece.is_empty() {
                return Ok(false);
            }
            checksum.update(piece);
            position += piece.len() as u64;
        }
        Ok(checksum.matches())
    }

    /// Loads the records of a batch, and decompresses them if they are compressed.
    pub(super) fn load(
        &mut self,
        batch: &StoredBatch,
        crc_is_valid: bool,
    ) -> Result<std::result::Result<LoadedBatch<'_>, Malformed>> {
        let header = batch.header;
        if !crc_is_valid && header.size_bytes > DOUBTFUL_BYTES {
            return Ok(Err(Malformed(
                "the batch is large and its checksum is wrong",
            )));
        }
        let bytes = self
            .window
            .read(batch.position, header.size_bytes as usize)?;
        let decompressed = batch::decompressed(&header, bytes, self.max_decompressed_bytes);
        Ok(decompressed.map(|decompressed| LoadedBatch {
            header,
            bytes,
            decompressed,
        }))
    }
}

/// A batch in memory.
#[derive(Debug)]
pub(super) struct LoadedBatch<'a> {
    pub(super) header: BatchHeader,
    bytes: &'a [u8],
    decompressed: Option<Vec<u8>>,
}

/// A record as a dump shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownRecord<'a> {
    pub(super) offset: u64,
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) form: Form<'a>,
}

/// The fields that only one of the formats has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a> {
    Current { headers: Headers<'a> },
    Legacy { crc: u32, crc_is_valid: bool },
}

impl LoadedBatch<'_> {
    /// Calls `visit` for each record in order, or with the fault in place of a record that cannot
    /// be decoded. Stops when a visit fails.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(std::result::Result<ShownRecord<'_>, Malformed>) -> Result<()>,
    ) -> Result<()> {
        let Self {
            header,
            bytes,
            decompressed,
        } = self;
        let decompressed = decompressed.as_deref();
        if header.magic < 2 {
            let records = match legacy::records(header, bytes, decompressed) {
                Ok(records) => records,
                Err(malformed) => return visit(Err(malformed)),
            };
            for record in records {
                visit(record.map(|record| {
                    let form = Form::Legacy {
                        crc: record.crc,
                        crc_is_valid: record.crc_is_valid(),
                    };
                    let legacy::LegacyRecord {
                        offset,
                        timestamp,
                        key,
                        value,
                        ..
                    } = record;
                    ShownRecord {
                        offset,
                        timestamp,
                        key,
                        value,
                        form,
                    }
                }))?;
            }
            return Ok(());
        }
        let mut cursor = match RecordCursor::new(header, bytes, decompressed) {
            Ok(cursor) => cursor,
            Err(malformed) => return visit(Err(malformed)),
        };
        while let Some(record) = cursor.next(header, bytes, decompressed) {
            visit(record.map(|record| {
                let form = Form::Current {
                    headers: record.headers,
                };
                ShownRecord {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    form,
                }
            }))?;
        }
        Ok(())
    }
}
