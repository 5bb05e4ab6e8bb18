//! Looks for good batches after damage, so that they stay part of the log.

use std::io;
use std::ops::Range;

use super::Opening;
use crate::format::batch::{BatchHeader, FRAME_BYTES};
use crate::segment::Segment;
use crate::segment::batch_file::{BatchFile, ReadError};

impl Opening<'_> {
    /// Returns the offsets of the good batches after damage at the position `damaged`: from the
    /// first to the last one. Returns `None` if there are none.
    pub(super) fn good_after(
        &self,
        base: u64,
        bytes: u32,
        damaged: u32,
    ) -> io::Result<Option<Range<u64>>> {
        let segment = Segment::open_unmapped(&self.home_of(base), base, bytes, u64::MAX);
        let mut file = BatchFile::new(segment);
        let mut good: Option<Range<u64>> = None;
        let (mut position, mut is_confirmed) = (damaged, false);
        while position < bytes {
            let least = good.as_ref().map_or(self.log_end, |good| good.end);
            let header = good_at(&mut file, position, bytes)?.filter(|header| {
                if is_confirmed && self.spec.is_dense {
                    header.base_offset == least
                } else {
                    header.base_offset >= least
                }
            });
            match header {
                Some(header)
                    if is_confirmed || self.is_followed(&mut file, position, bytes, &header)? =>
                {
                    let first = good.map_or(header.base_offset, |good| good.start);
                    good = Some(first..header.next_base_offset());
                    position += header.size_bytes;
                    is_confirmed = true;
                }
                _ => {
                    position += 1;
                    is_confirmed = false;
                }
            }
        }
        Ok(good)
    }

    /// Returns whether what follows a batch confirms its offset, which no checksum covers: the next
    /// batch, the end of the file, or zeros that were written ahead.
    fn is_followed(
        &self,
        file: &mut BatchFile,
        position: u32,
        bytes: u32,
        header: &BatchHeader,
    ) -> io::Result<bool> {
        let next = position + header.size_bytes;
        match file.header_at(next, bytes) {
            Ok(Some(after)) if self.spec.is_dense => {
                Ok(after.base_offset == header.next_base_offset())
            }
            Ok(Some(after)) => Ok(after.base_offset >= header.next_base_offset()),
            Ok(None) => Ok(true),
            Err(ReadError::Damaged(_)) => {
                let ahead = file.bytes(next, FRAME_BYTES.min((bytes - next) as usize), bytes);
                match ahead {
                    Ok(ahead) => Ok(ahead.iter().all(|byte| *byte == 0)),
                    Err(ReadError::Damaged(_)) => Ok(false),
                    Err(ReadError::Io(error)) => Err(error),
                }
            }
            Err(ReadError::Io(error)) => Err(error),
        }
    }
}

/// Returns the header of the batch at a position, if the batch is whole and its checksum right.
fn good_at(file: &mut BatchFile, position: u32, limit: u32) -> io::Result<Option<BatchHeader>> {
    let found = file.header_at(position, limit).and_then(|header| {
        if let Some(header) = &header {
            file.checked(position, header, limit)?;
        }
        Ok(header)
    });
    match found {
        Ok(header) => Ok(header),
        Err(ReadError::Damaged(_)) => Ok(None),
        Err(ReadError::Io(error)) => Err(error),
    }
}
