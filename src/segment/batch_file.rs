//! Reads the batches of one segment: in place as far as the `.log` is mapped, otherwise in chunks.
//!
//! A [`BatchFile`] belongs to one reader. It never reads beyond the limit that its owner passes,
//! which is a position that the writer has published. It also never allocates memory for a length
//! field that exceeds this limit.

use std::io;
use std::sync::Arc;

use super::Segment;
use super::chunk::Chunk;
use crate::format::Malformed;
use crate::format::batch::{
    BatchHeader, FRAME_BYTES, Frame, HEADER_BYTES, Outline, intact_offsets,
};
use crate::storage::FileView;

/// The first read of a reader that copies, unless the index shows how much it needs: small, because
/// it may be a single look-up.
const MIN_CHUNK_BYTES: usize = 16 << 10;
/// The largest read of a reader that copies. A sequential reader reaches it in steps.
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// The reason for a batch that does not end in its file.
pub(crate) const BEYOND_END: Malformed = Malformed("a batch is longer than the rest of the file");
/// The reason for a batch whose checksum is wrong.
pub(crate) const WRONG_CHECKSUM: Malformed = Malformed("the checksum of a batch is wrong");

/// The reason why a batch could not be read.
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

impl From<ReadError> for io::Error {
    /// Damage becomes `InvalidData`.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            ReadError::Damaged(malformed) => Self::new(io::ErrorKind::InvalidData, malformed.0),
        }
    }
}

/// The bytes of one batch, shared with the mapping or the chunk that contains them.
#[derive(Clone, Debug)]
pub(crate) enum BatchBytes {
    Mapped {
        view: FileView,
        start: usize,
        end: usize,
    },
    Copied {
        chunk: Arc<Chunk>,
        start: usize,
        end: usize,
    },
}

impl BatchBytes {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.after(0).unwrap_or_default()
    }

    /// Returns the bytes after the first `count`, or `None` if there are fewer.
    #[inline]
    pub(crate) fn after(&self, count: usize) -> Option<&[u8]> {
        match self {
            Self::Mapped { view, start, end } => view.get(start + count..*end),
            Self::Copied { chunk, start, end } => chunk.get(start + count..*end),
        }
    }

    /// Returns a copy that shares no memory with other batches.
    pub(crate) fn detach(&self) -> Self {
        let bytes = self.as_slice();
        Self::Copied {
            start: 0,
            end: bytes.len(),
            chunk: Arc::new(bytes.into()),
        }
    }
}

/// One reader's access to the batches of one segment.
#[derive(Debug)]
pub(crate) struct BatchFile {
    segment: Arc<Segment>,
    /// The start of the `.log`, or all of it, if it is mapped.
    view: Option<FileView>,
    chunk: Option<Arc<Chunk>>,
    chunk_start: u32,
    next_chunk_bytes: usize,
    /// Where the next read ends, if the index shows how far a look-up has to read.
    next_end: Option<u32>,
}

impl BatchFile {
    /// Returns a reader of the segment. The segment counts it as a reader until it is dropped.
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        segment.enter();
        Self {
            segment,
            view: None,
            chunk: None,
            chunk_start: 0,
            next_chunk_bytes: MIN_CHUNK_BYTES,
            next_end: None,
        }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Lets the next read of the file end at `end`, and not after a chunk of the usual size. Reads
    /// after it have the usual size again.
    #[inline]
    pub(crate) fn end_next_read_at(&mut self, end: u32) {
        self.next_end = Some(end);
    }

    /// Returns the header of the batch at `position`, or `None` at the limit. The whole batch is
    /// below the limit.
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
            return Err(BEYOND_END.into());
        }
        Ok(Some(BatchHeader::decode(bytes)?))
    }

    /// Returns the outline of the batch at `position`, if it is a usual batch that is below the
    /// limit. Otherwise [`header_at`](Self::header_at) tells what is there.
    #[inline]
    pub(crate) fn outline_at(
        &mut self,
        position: u32,
        limit: u32,
    ) -> Result<Option<Outline>, ReadError> {
        let left = limit.saturating_sub(position);
        if (left as usize) < HEADER_BYTES {
            return Ok(None);
        }
        let outline = Outline::of(self.bytes(position, HEADER_BYTES, limit)?);
        Ok(outline.filter(|batch| batch.size_bytes <= left))
    }

    /// Returns the whole batch, after its checksum was compared.
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
            Err(WRONG_CHECKSUM.into())
        }
    }

    /// Returns the size of the batch at `position` and its number of offsets, if the whole batch is
    /// below the limit and its checksum is valid. The rest of the header is not checked.
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

    /// Returns the bytes of a batch that was just read, in a form that outlives the next read.
    #[inline]
    pub(crate) fn share(&self, position: u32, header: &BatchHeader) -> BatchBytes {
        let size = header.size_bytes as usize;
        let (start, end) = (position as usize, position as usize + size);
        if let Some(view) = self.viewed_to(end) {
            return BatchBytes::Mapped {
                view: view.clone(),
                start,
                end,
            };
        }
        debug_assert!(
            self.chunk_start <= position,
            "the chunk contains the batch that was just read"
        );
        let start = position.saturating_sub(self.chunk_start) as usize;
        let chunk = self.chunk.as_ref().map(Arc::clone).unwrap_or_default();
        debug_assert!(
            start + size <= chunk.len(),
            "the chunk contains the whole batch"
        );
        BatchBytes::Copied {
            chunk,
            start,
            end: start + size,
        }
    }

    /// Returns whether all bytes from `position` up to `limit` are zeros, as after the batches of a
    /// preallocated file.
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

    /// Returns `count` bytes at `position`, all of them below `limit`.
    #[inline]
    pub(crate) fn bytes(
        &mut self,
        position: u32,
        count: usize,
        limit: u32,
    ) -> Result<&[u8], ReadError> {
        debug_assert!(
            position as usize + count <= limit as usize,
            "a reader stays below its limit"
        );
        debug_assert!(
            limit <= self.segment.size(),
            "the limit was published before"
        );
        let (start, end) = (position as usize, position as usize + count);
        if self.viewed_to(end).is_none() && !self.chunk_holds(start, end) {
            match self.segment.view_to(end)? {
                Some(view) => self.view = Some(view),
                None => self.fill(position, count, limit)?,
            }
        }
        if let Some(bytes) = self.view.as_ref().and_then(|view| view.get(start..end)) {
            return Ok(bytes);
        }
        let start = position.saturating_sub(self.chunk_start) as usize;
        let bytes = self
            .chunk
            .as_ref()
            .and_then(|chunk| chunk.get(start..start + count));
        bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }

    /// Returns the view if it shows the bytes before `end`.
    #[inline]
    fn viewed_to(&self, end: usize) -> Option<&FileView> {
        self.view.as_ref().filter(|view| end <= view.len())
    }

    #[inline]
    fn chunk_holds(&self, start: usize, end: usize) -> bool {
        let from = self.chunk_start as usize;
        let held = self.chunk.as_ref().map_or(0, |chunk| chunk.len());
        held > 0 && from <= start && end <= from + held
    }

    /// Reads `count` bytes at `position` into the chunk, and as many bytes after them as the reader
    /// is likely to need.
    fn fill(&mut self, position: u32, count: usize, limit: u32) -> io::Result<()> {
        let held = self.chunk.as_ref().map_or(0, |chunk| chunk.len());
        let ahead = match self.next_end.take() {
            Some(end) if end > position => (end - position) as usize,
            Some(_) | None => {
                if held > 0 && position >= self.chunk_start {
                    self.next_chunk_bytes = (self.next_chunk_bytes * 4).min(MAX_CHUNK_BYTES);
                }
                self.next_chunk_bytes
            }
        };
        let wanted = count
            .max(ahead)
            .min(limit.saturating_sub(position) as usize);
        // A batch that was returned may still use the old chunk. Then a new one is made.
        if self.chunk.as_mut().and_then(Arc::get_mut).is_none() {
            self.chunk = Some(Arc::new(Chunk::empty()));
        }
        let Some(chunk) = self.chunk.as_mut().and_then(Arc::get_mut) else {
            unreachable!("no batch uses a new chunk")
        };
        self.chunk_start = position;
        chunk.fill(&*self.segment.file()?, u64::from(position), wanted)
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

    /// A file that is not mapped, on a disk that records the reads.
    fn file_of(content: &[u8]) -> (RecordingDisk, BatchFile) {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let segment = Segment::create(&home(&disk), 0).unwrap();
        segment.append(content, 0, 0, 4096).unwrap();
        (disk, BatchFile::new(Arc::new(segment)))
    }

    #[test]
    fn a_sequential_reader_reads_larger_chunks() {
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
    fn a_reader_that_moves_back_reads_chunks_of_the_same_size() {
        let (disk, mut file) = file_of(&vec![7; 1 << 20]);
        for position in [500_000, 300_000, 0] {
            assert_eq!(file.bytes(position, 100, 1 << 20).unwrap(), [7; 100]);
        }
        assert_eq!(disk.largest_read(), 16 << 10);
    }

    #[test]
    fn bytes_in_the_chunk_are_not_read_again() {
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
    fn a_rest_is_zero_if_each_byte_below_the_limit_is() {
        let mut content = vec![0; 40_000];
        content[99] = 1;
        content[30_000] = 1;
        let (_disk, mut file) = file_of(&content);
        assert!(file.is_zero(100, 30_000).unwrap());
        assert!(!file.is_zero(100, 30_001).unwrap());
        assert!(!file.is_zero(99, 200).unwrap());
        assert!(file.is_zero(30_001, 40_000).unwrap());
        assert!(file.is_zero(99, 99).unwrap(), "an empty rest is zero");
    }
}
