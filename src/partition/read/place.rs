//! The position of a reader, and the steps from one batch to the next.

use std::sync::Arc;

use crate::format::batch::BatchHeader;
use crate::segment::Segment;
use crate::segment::batch_file::{BatchFile, ReadError};

/// The most bytes that a search reads at once because the index shows where it ends.
const MAX_READ_BYTES: u32 = 256 << 10;

/// The position of a reader in a segment.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: BatchFile,
    pub(crate) position: u32,
    /// Lowest base offset that the batch at the position may have. In a dense log it is the only
    /// one.
    pub(crate) expected: u64,
    /// Number of truncations when the search for the place began. After another one the place must
    /// be searched again.
    pub(crate) truncations: u64,
    /// Position of the batch whose checksum was found right last, if `file` still holds its bytes.
    pub(super) checked: Option<u32>,
}

impl Place {
    /// Returns the place at the start of a segment.
    pub(crate) fn at_start(segment: Arc<Segment>, truncations: u64) -> Self {
        Self {
            expected: segment.base_offset,
            position: 0,
            truncations,
            file: BatchFile::new(segment),
            checked: None,
        }
    }

    /// Compares the checksum of the batch at the place, whose header is `header`, unless it was
    /// just found right. The bytes are read in either case, so that they can be shared.
    ///
    /// A search compares the checksum of the batch that it finds, and the reader asks for the same
    /// before it returns the batch. Published bytes of a segment do not change, so once is enough.
    #[inline]
    pub(crate) fn check(&mut self, header: &BatchHeader, limit: u32) -> Result<(), ReadError> {
        if self.checked == Some(self.position) {
            self.file
                .bytes(self.position, header.size_bytes as usize, limit)?;
        } else {
            self.file.checked(self.position, header, limit)?;
            self.checked = Some(self.position);
        }
        Ok(())
    }

    /// Steps over the batches of a dense log that end below `offset`, as far as they are in order.
    /// Each next header confirms the end of the batch before it.
    #[inline]
    pub(super) fn pass_below(&mut self, offset: u64, limit: u32) -> Result<(), ReadError> {
        while let Some(batch) = self.file.outline_at(self.position, limit)?
            && batch.base_offset == self.expected
            && batch.last_offset < offset
        {
            self.position += batch.size_bytes;
            self.expected = batch.last_offset + 1;
        }
        Ok(())
    }

    /// Lets the next read, which begins at `start`, end at `end`, unless that is far.
    pub(super) fn end_read_at(&mut self, start: u32, end: u32) {
        if end.saturating_sub(start) <= MAX_READ_BYTES {
            self.file.end_next_read_at(end);
        }
    }

    /// Moves after the batch at the place, whose offsets are in order.
    #[inline]
    pub(crate) fn step_over(&mut self, header: &BatchHeader) {
        debug_assert!(
            header.base_offset >= self.expected,
            "the batch at {} follows the batches before {}",
            header.base_offset,
            self.expected
        );
        debug_assert!(header.size_bytes > 0, "each step moves the place");
        self.position += header.size_bytes;
        self.expected = header.next_base_offset();
    }
}
