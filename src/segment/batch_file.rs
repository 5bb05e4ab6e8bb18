//! Reading the batches of one segment: in place where the `.log` is mapped, in chunks where it is
//! not.
//!
//! A [`BatchFile`] belongs to one reader. It never reads beyond the position it is given as the
//! limit, which its owner takes from what the writer published, and it takes no memory on the word
//! of a length field that passes that limit.

use std::io;
use std::sync::Arc;

use super::Segment;
use crate::format::Malformed;
use crate::format::batch::{BatchHeader, FRAME_BYTES, Frame, HEADER_BYTES, intact_offsets};
use crate::storage::FileView;

/// First and largest read of a reader that copies: it starts small for a single look-up and grows
/// for one that goes on.
const MIN_CHUNK_BYTES: usize = 16 << 10;
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Why a batch could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Damaged(Malformed),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for ReadError {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed)
    }
}

/// The bytes of one batch, shared with the mapping or the chunk they lie in.
#[derive(Clone, Debug)]
pub(crate) enum BatchBytes {
    Mapped {
        view: FileView,
        start: usize,
        end: usize,
    },
    Copied {
        chunk: Arc<Vec<u8>>,
        start: usize,
        end: usize,
    },
}

impl BatchBytes {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.behind(0).unwrap_or_default()
    }

    /// All but the first `count` bytes, if there are as many.
    #[inline]
    pub(crate) fn behind(&self, count: usize) -> Option<&[u8]> {
        match self {
            Self::Mapped { view, start, end } => view.get(start + count..*end),
            Self::Copied { chunk, start, end } => chunk.get(start + count..*end),
        }
    }

    /// A copy of its own.
    pub(crate) fn detach(&self) -> Self {
        let bytes = self.as_slice().to_vec();
        Self::Copied {
            start: 0,
            end: bytes.len(),
            chunk: Arc::new(bytes),
        }
    }
}

/// One reader's access to the batches of one segment.
#[derive(Debug)]
pub(crate) struct BatchFile {
    segment: Arc<Segment>,
    /// The whole `.log`, where it is mapped.
    view: Option<FileView>,
    chunk: Arc<Vec<u8>>,
    chunk_start: u32,
    next_chunk_bytes: usize,
}

impl BatchFile {
    /// Counts as a reader of the segment as long as it lives.
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        segment.enter();
        Self {
            segment,
            view: None,
            chunk: Arc::default(),
            chunk_start: 0,
            next_chunk_bytes: MIN_CHUNK_BYTES,
        }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The header of the batch at `position`; `None` at the limit. The batch lies below the limit
    /// as a whole.
    #[inline]
    pub(crate) fn header_at(
        &mut self,
        position: u32,
        limit: u32,
    ) -> Result<Option<BatchHeader>, ReadError> {
        let left = limit.saturating_sub(position) as usize;
        if left == 0 {
            return Ok(None);
        }
        if left <= FRAME_BYTES {
            return Err(Malformed("the last batch is cut short").into());
        }
        let bytes = self.bytes(position, left.min(HEADER_BYTES), limit)?;
        let frame = Frame::decode(bytes)?;
        if frame.size_bytes as usize > left {
            return Err(Malformed("a batch is longer than what is left of the file").into());
        }
        Ok(Some(BatchHeader::decode(bytes)?))
    }

    /// The whole batch, whose checksum is right.
    #[inline]
    pub(crate) fn checked(
        &mut self,
        position: u32,
        header: &BatchHeader,
        limit: u32,
    ) -> Result<&[u8], ReadError> {
        let bytes = self.bytes(position, header.size_bytes as usize, limit)?;
        if header.crc_is_valid(bytes) {
            Ok(bytes)
        } else {
            Err(Malformed("the checksum of a batch is wrong").into())
        }
    }

    /// Size of the batch at `position`, and how many offsets it has, if all of it is below the
    /// limit and its checksum is right, whatever else its header says; `None` otherwise.
    pub(crate) fn intact_at(
        &mut self,
        position: u32,
        limit: u32,
    ) -> Result<Option<(u32, u64)>, ReadError> {
        let left = limit.saturating_sub(position);
        let front = self.bytes(position, FRAME_BYTES.min(left as usize), limit)?;
        let size_bytes = Frame::size_bytes_of(front).filter(|size_bytes| *size_bytes <= left);
        let Some(size_bytes) = size_bytes else {
            return Ok(None);
        };
        let offsets = intact_offsets(self.bytes(position, size_bytes as usize, limit)?);
        Ok(offsets.map(|offsets| (size_bytes, offsets)))
    }

    /// The bytes of a batch that was just read, to be handed out.
    #[inline]
    pub(crate) fn share(&self, position: u32, header: &BatchHeader) -> BatchBytes {
        let size = header.size_bytes as usize;
        if let Some(view) = &self.view {
            let start = position as usize;
            return BatchBytes::Mapped {
                view: view.clone(),
                start,
                end: start + size,
            };
        }
        let start = position.saturating_sub(self.chunk_start) as usize;
        BatchBytes::Copied {
            chunk: Arc::clone(&self.chunk),
            start,
            end: start + size,
        }
    }

    /// Whether all from `position` up to `limit` is zeros, as a file has them that is longer than
    /// its batches.
    pub(crate) fn is_zero(&mut self, mut position: u32, limit: u32) -> io::Result<bool> {
        while position < limit {
            let count = (limit - position).min(16 << 10);
            match self.bytes(position, count as usize, limit) {
                Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => position += count,
                Ok(_) | Err(ReadError::Damaged(_)) => return Ok(false),
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// `count` bytes at `position`, which lie below `limit`.
    #[inline]
    pub(crate) fn bytes(
        &mut self,
        position: u32,
        count: usize,
        limit: u32,
    ) -> Result<&[u8], ReadError> {
        if self.view.is_none() {
            self.view = self.segment.view()?;
        }
        if self.view.is_none() {
            self.fill(position, count, limit)?;
        }
        let (bytes, start) = match &self.view {
            Some(view) => (&**view, position as usize),
            None => (
                self.chunk.as_slice(),
                position.saturating_sub(self.chunk_start) as usize,
            ),
        };
        let bytes = bytes.get(start..start + count);
        bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }

    /// Brings `count` bytes at `position` into the chunk, with as much behind them as the reader is
    /// likely to want.
    fn fill(&mut self, position: u32, count: usize, limit: u32) -> io::Result<()> {
        let end = position as usize + count;
        let holds =
            self.chunk_start <= position && end <= self.chunk_start as usize + self.chunk.len();
        if holds && !self.chunk.is_empty() {
            return Ok(());
        }
        let goes_on = !self.chunk.is_empty() && position >= self.chunk_start;
        if goes_on {
            self.next_chunk_bytes = (self.next_chunk_bytes * 4).min(MAX_CHUNK_BYTES);
        }
        let wanted = count
            .max(self.next_chunk_bytes)
            .min(limit.saturating_sub(position) as usize);
        // A batch that was handed out may still use the old chunk: then a new one is made.
        if Arc::get_mut(&mut self.chunk).is_none() {
            self.chunk = Arc::default();
        }
        let Some(chunk) = Arc::get_mut(&mut self.chunk) else {
            return Ok(());
        };
        chunk.resize(wanted, 0);
        let read = self.segment.file()?.read_at(chunk, u64::from(position));
        chunk.truncate(*read.as_ref().unwrap_or(&0));
        self.chunk_start = position;
        read.map(drop)
    }
}

impl Drop for BatchFile {
    fn drop(&mut self) {
        self.segment.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::home;
    use crate::storage::MemoryDisk;
    use crate::storage::recording::RecordingDisk;

    /// A file that is not mapped, on a disk that tells what is read of it.
    fn file_of(content: &[u8]) -> (RecordingDisk, BatchFile) {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let segment = Segment::create(&home(&disk), 0).unwrap();
        segment.append(content, 0, 0, 4096).unwrap();
        (disk, BatchFile::new(Arc::new(segment)))
    }

    #[test]
    fn a_reader_that_goes_on_reads_more_at_once() {
        let content: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
        let limit = u32::try_from(content.len()).unwrap();
        let (disk, mut file) = file_of(&content);
        let mut position = 0;
        for largest in [16 << 10, 64 << 10, 256 << 10, 1 << 20, 1 << 20] {
            let start = position as usize;
            assert_eq!(
                file.bytes(position, 100, limit).unwrap(),
                &content[start..start + 100]
            );
            assert_eq!(disk.largest_read(), largest);
            position += u32::try_from(largest).unwrap();
        }
    }

    #[test]
    fn a_reader_that_looks_back_reads_no_more_than_before() {
        let (disk, mut file) = file_of(&vec![7; 1 << 20]);
        for position in [500_000, 300_000, 0] {
            assert_eq!(file.bytes(position, 100, 1 << 20).unwrap(), [7; 100]);
        }
        assert_eq!(disk.largest_read(), 16 << 10);
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let (disk, mut file) = file_of(&vec![7; 1 << 20]);
        drop(disk.take());
        for position in [0, 100, 16_284] {
            assert_eq!(file.bytes(position, 100, 1 << 20).unwrap(), [7; 100]);
        }
        let reads = disk
            .take()
            .into_iter()
            .filter(|(call, _)| *call == "read")
            .count();
        assert_eq!(reads, 1);
    }

    #[test]
    fn a_rest_is_zero_if_all_of_it_is_up_to_the_limit() {
        let mut content = vec![0; 40_000];
        content[99] = 1;
        content[30_000] = 1;
        let (_disk, mut file) = file_of(&content);
        assert!(file.is_zero(100, 30_000).unwrap());
        assert!(!file.is_zero(100, 30_001).unwrap());
        assert!(!file.is_zero(99, 200).unwrap());
        assert!(file.is_zero(30_001, 40_000).unwrap());
        assert!(file.is_zero(99, 99).unwrap(), "nothing is left");
    }
}
