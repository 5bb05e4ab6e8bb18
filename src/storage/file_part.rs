//! A part of a file, looked at and copied in chunks: it may be longer than memory is.

use std::io;

use super::StorageFile;

/// Most that is read at once, but for what a visitor wants to see of the next chunk.
const CHUNK_BYTES: u32 = 1 << 20;

/// The bytes of a file from `start` to `end`.
pub(crate) struct FilePart<'a> {
    pub(crate) file: &'a dyn StorageFile,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl FilePart<'_> {
    /// Hands out the part chunk by chunk, with the position of each and up to `more` bytes of the next one behind it, until
    /// `visit` says that it is enough. Gives whether it did.
    pub(crate) fn any_chunk(&self, more: u32, mut visit: impl FnMut(u32, &[u8]) -> io::Result<bool>) -> io::Result<bool> {
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

    /// So many bytes at a position of the file, in the place of what was in `into`.
    pub(crate) fn read(&self, position: u32, count: u32, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(count as usize, 0);
        let read = self.file.read_at(into, u64::from(position))?;
        if read < into.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Writes it at the beginning of another file.
    pub(crate) fn copy_to(&self, copy: &dyn StorageFile) -> io::Result<()> {
        let write = |position, chunk: &[u8]| copy.write_all_at(chunk, u64::from(position - self.start)).map(|()| false);
        self.any_chunk(0, write).map(drop)
    }
}
