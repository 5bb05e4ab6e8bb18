//! Walking over the batches of a file that may be damaged.
//!
//! A batch whose header cannot be read, but whose size can, is told and stepped over; where not
//! even that is possible the walk ends, and says what the rest of the file is. Of a batch only its
//! header is read here; its checksum and its records are read when they are asked for, and by a
//! size that the checksum has not confirmed no more than [`DOUBTFUL_BYTES`] are loaded.

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

/// A larger batch is taken into memory only if its checksum is right.
const DOUBTFUL_BYTES: u32 = 16 << 20;

/// The batches of one file.
#[derive(Debug)]
pub(super) struct Batches {
    window: Window,
    position: u64,
    /// What a compressed batch may become.
    max_decompressed_bytes: usize,
}

/// What stands at a position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Batch(StoredBatch),
    /// A batch of which only the size is known.
    Unreadable {
        position: u64,
        size_bytes: u32,
        reason: Malformed,
    },
}

/// A batch by its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredBatch {
    pub(super) position: u64,
    pub(super) header: BatchHeader,
}

/// Where the batches end before the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) content: TailContent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TailContent {
    /// The beginning of a batch.
    CutShort,
    Zeros,
    Malformed(Malformed),
}

impl Batches {
    /// At the first batch; the file ends at `limit` if it is longer.
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

    /// The next batch; `None` where no whole one is left.
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

    /// The batch at a position; `None` where no whole one is.
    pub(super) fn at(&mut self, position: u64) -> Result<Option<Found>> {
        let end = self.window.end();
        // As Kafka: a front that ends with the file is no batch, whatever it says.
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

    /// What is left behind the last batch, once there is no next one.
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

    /// Whether the checksum of a batch is right.
    pub(super) fn crc_is_valid(&mut self, batch: &StoredBatch) -> Result<bool> {
        let mut checksum = BatchChecksum::new(&batch.header);
        let (mut position, end) = (
            batch.position,
            batch.position + u64::from(batch.header.size_bytes),
        );
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(usize::MAX);
            // A batch that fits into one piece is read as a whole: its records may be asked for
            // next.
            let piece = self.window.read(position, left.min(PIECE_BYTES))?;
            if piece.is_empty() {
                return Ok(false);
            }
            checksum.update(piece);
            position += piece.len() as u64;
        }
        Ok(checksum.matches())
    }

    /// The records of a batch, decompressed where they are compressed.
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

/// What records of one format have and those of the other have not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a> {
    Current { headers: Headers<'a> },
    Legacy { crc: u32, crc_is_valid: bool },
}

impl LoadedBatch<'_> {
    /// Visits the records in order, and what cannot be decoded in its place, until a visit fails.
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
