//! Looks for good batches after damage, so that they stay part of the log.

use std::io;
use std::ops::Range;

use super::Opening;
use crate::format::batch::BatchHeader;
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
        let stated = self.stated_next(&mut file, damaged, bytes)?;
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
                    if is_confirmed
                        || stated == Some((position, header.base_offset))
                        || self.is_followed(&mut file, position, bytes, &header)? =>
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

    /// Returns the position and the base offset of the batch after the damaged one, as the damaged
    /// one states them, if its own offset is in order. Only a dense log shows whether it is.
    fn stated_next(
        &self,
        file: &mut BatchFile,
        damaged: u32,
        bytes: u32,
    ) -> io::Result<Option<(u32, u64)>> {
        match file.header_at(damaged, bytes) {
            Ok(Some(header)) if self.spec.is_dense && header.base_offset == self.log_end => {
                let next = (damaged + header.size_bytes, header.next_base_offset());
                Ok(Some(next))
            }
            Ok(_) | Err(ReadError::Damaged(_)) => Ok(None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Returns whether the next batch confirms the offset of this one, which no checksum covers.
    fn is_followed(
        &self,
        file: &mut BatchFile,
        position: u32,
        bytes: u32,
        header: &BatchHeader,
    ) -> io::Result<bool> {
        let next = header.next_base_offset();
        match file.header_at(position + header.size_bytes, bytes) {
            Ok(Some(after)) if self.spec.is_dense => Ok(after.base_offset == next),
            Ok(Some(after)) => Ok(after.base_offset >= next),
            Ok(None) | Err(ReadError::Damaged(_)) => Ok(false),
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
