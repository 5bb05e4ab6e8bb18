//! A buffer of bytes that were read from a `.log` by position.
//!
//! A look-up reads a few kilobytes once and drops them. The buffer then waits in its thread for the
//! next look-up, which so needs neither an allocation nor a write of zeros.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem;
use std::ops::Deref;

use crate::storage::StorageFile;

/// The largest buffer that a thread keeps.
const MAX_SPARE_BYTES: usize = 64 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a file, in a buffer that may be larger.
#[derive(Default)]
pub(crate) struct Chunk {
    buffer: Vec<u8>,
    filled: usize,
}

impl Chunk {
    /// Creates an empty chunk, with the buffer that a former chunk of this thread left.
    pub(super) fn empty() -> Self {
        // The thread may be ending. Then it has no buffer.
        let buffer = SPARE.try_with(Cell::take).unwrap_or_default();
        Self { buffer, filled: 0 }
    }

    /// Empties the chunk, and reads up to `count` bytes at `position`.
    pub(super) fn fill(
        &mut self,
        file: &dyn StorageFile,
        position: u64,
        count: usize,
    ) -> io::Result<()> {
        self.filled = 0;
        if self.buffer.len() < count {
            // The old bytes are not needed, so they are not copied into the larger buffer.
            self.buffer = vec![0; count];
        }
        let wanted = self.buffer.get_mut(..count).unwrap_or_default();
        debug_assert_eq!(wanted.len(), count, "the buffer is large enough");
        self.filled = file.read_at(wanted, position)?;
        debug_assert!(self.filled <= count, "a read returns at most what it wants");
        Ok(())
    }
}

impl From<&[u8]> for Chunk {
    fn from(bytes: &[u8]) -> Self {
        Self {
            buffer: bytes.to_vec(),
            filled: bytes.len(),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.buffer);
        if buffer.capacity() > MAX_SPARE_BYTES {
            return;
        }
        let _unless_the_thread_ends = SPARE.try_with(|spare| {
            let other = spare.take();
            spare.set(if other.len() > buffer.len() {
                other
            } else {
                buffer
            });
        });
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_the_number_of_bytes_and_not_the_bytes() {
        assert_eq!(format!("{:?}", Chunk::from(&b"abc"[..])), "Chunk(3 bytes)");
    }
}
