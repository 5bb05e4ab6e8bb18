//! A part of a file that is read and copied in chunks, since it may be larger than the memory.

use std::io;

use super::StorageFile;

/// The largest chunk, without the bytes of the next one that a visitor asks for.
const CHUNK_BYTES: u32 = 1 << 20;

/// The bytes of a file from `start` to `end`.
pub(crate) struct FilePart<'a> {
    pub(crate) file: &'a dyn StorageFile,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl FilePart<'_> {
    /// Calls `visit` with each chunk and its position until it returns `true`, and returns whether
    /// it did. A chunk includes up to `more` bytes of the next one.
    pub(crate) fn any_chunk(
        &self,
        more: u32,
        mut visit: impl FnMut(u32, &[u8]) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let mut chunk = Vec::new();
        for position in (self.start..self.end).step_by(CHUNK_BYTES as usize) {
            let count = (self.end - position).min(CHUNK_BYTES + more);
            self.read(position, count, &mut chunk)?;
            if visit(position, &chunk)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Replaces the content of `into` with `count` bytes at `position` of the file.
    pub(crate) fn read(&self, position: u32, count: u32, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(count as usize, 0);
        let read = self.file.read_at(into, u64::from(position))?;
        if read < into.len() {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }

    /// Copies the part to the start of another file.
    pub(crate) fn copy_to(&self, copy: &dyn StorageFile) -> io::Result<()> {
        let write = |position, chunk: &[u8]| {
            copy.write_all_at(chunk, u64::from(position - self.start))
                .map(|()| false)
        };
        self.any_chunk(0, write).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::storage::{Access, MemoryDisk, Storage};

    const CHUNK: usize = CHUNK_BYTES as usize;
    const START: u32 = 3;
    /// Two chunks and nine bytes.
    const PART_BYTES: usize = 2 * CHUNK + 9;

    fn file(name: &str, content: &[u8]) -> Arc<dyn StorageFile> {
        let file = MemoryDisk::new()
            .open(Path::new(name), Access::CreateNew)
            .unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    /// Returns three bytes, the part, and two more bytes. The chunks of the part differ.
    fn content() -> Vec<u8> {
        (0_u8..251).cycle().take(3 + PART_BYTES + 2).collect()
    }

    fn part(file: &dyn StorageFile) -> FilePart<'_> {
        FilePart {
            file,
            start: START,
            end: START + u32::try_from(PART_BYTES).unwrap(),
        }
    }

    #[test]
    fn a_chunk_includes_the_requested_bytes_of_the_next_chunk() {
        let content = content();
        let file = file("a", &content);
        let chunks = |more: u32| {
            let mut chunks = Vec::new();
            let visit = |position: u32, chunk: &[u8]| {
                let at = position as usize;
                assert_eq!(chunk, &content[at..at + chunk.len()], "at {at}");
                chunks.push((at, chunk.len()));
                Ok(false)
            };
            assert!(!part(&*file).any_chunk(more, visit).unwrap());
            chunks
        };
        assert_eq!(
            chunks(0),
            [(3, CHUNK), (3 + CHUNK, CHUNK), (3 + 2 * CHUNK, 9)]
        );
        assert_eq!(
            chunks(5),
            [(3, CHUNK + 5), (3 + CHUNK, CHUNK + 5), (3 + 2 * CHUNK, 9)]
        );
        assert_eq!(
            chunks(20),
            [(3, CHUNK + 20), (3 + CHUNK, CHUNK + 9), (3 + 2 * CHUNK, 9)]
        );
    }

    #[test]
    fn reading_stops_at_the_chunk_for_which_visit_returns_true() {
        let file = file("a", &content());
        let mut positions = Vec::new();
        let visit = |position, _: &[u8]| {
            positions.push(position);
            Ok(position > START)
        };
        assert!(part(&*file).any_chunk(0, visit).unwrap());
        assert_eq!(positions, [START, START + CHUNK_BYTES]);
        let none = FilePart {
            file: &*file,
            start: START,
            end: START,
        };
        assert!(!none.any_chunk(0, |_, _| Ok(true)).unwrap());
    }

    #[test]
    fn copy_to_writes_the_part_at_the_start_of_another_file() {
        let content = content();
        let copy = file("copy", b"");
        part(&*file("a", &content)).copy_to(&*copy).unwrap();
        assert_eq!(copy.bytes().unwrap(), PART_BYTES as u64);
        assert_eq!(
            &*copy.view(PART_BYTES).unwrap(),
            &content[3..3 + PART_BYTES]
        );
    }

    #[test]
    fn a_file_that_is_shorter_than_its_part_is_an_error() {
        let file = file("a", &content());
        file.set_len(u64::from(START) + PART_BYTES as u64 - 1)
            .unwrap();
        let part = part(&*file);
        assert_eq!(
            part.any_chunk(0, |_, _| Ok(false)).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let mut bytes = vec![9; 7];
        part.read(1, 4, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }
}
