//! Reads a file by position with bounded memory, whatever its bytes are.
//!
//! A [`Window`] keeps one piece of a file in memory. The file is not mapped, so another process may
//! damage, cut or write it at the same time: bytes that are no longer there read as the end of the
//! file.

use std::path::Path;
use std::sync::Arc;

use crate::error::{At, Result};
use crate::storage::{Access, Storage, StorageFile};

/// Number of bytes that are read at once, unless more are requested.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// An open file and a piece of it.
#[derive(Debug)]
pub(super) struct Window {
    path: Arc<Path>,
    file: Arc<dyn StorageFile>,
    end: u64,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte in the file.
    position: u64,
}

impl Window {
    pub(super) fn open(storage: &dyn Storage, path: &Arc<Path>) -> Result<Self> {
        let file = storage.open(path, Access::Read).at("open", path)?;
        let end = file.bytes().at("open", path)?;
        Ok(Self {
            path: Arc::clone(path),
            file,
            end,
            buffer: Vec::new(),
            position: 0,
        })
    }

    /// Returns the length of the file when it was opened, or the limit if that is lower.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Treats the file as ending at `bytes` if it is longer.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.end = self.end.min(bytes);
    }

    /// Returns `count` bytes from `position` on, or fewer at the end of the file.
    pub(super) fn read(&mut self, position: u64, count: usize) -> Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = count.min(left);
        let start = position
            .checked_sub(self.position)
            .and_then(|start| usize::try_from(start).ok());
        let held = start
            .and_then(|start| Some(start..start.checked_add(count)?))
            .filter(|held| held.end <= self.buffer.len());
        let range = if let Some(held) = held {
            held
        } else {
            self.fill(position, count.max(PIECE_BYTES).min(left))?;
            0..count.min(self.buffer.len())
        };
        Ok(self.buffer.get(range).unwrap_or_default())
    }

    fn fill(&mut self, position: u64, count: usize) -> Result<()> {
        // The buffer is emptied first, so that after a failed read it cannot be mistaken for the
        // old piece.
        self.buffer.clear();
        self.buffer.resize(count, 0);
        self.buffer.shrink_to(PIECE_BYTES);
        let read = self.file.read_at(&mut self.buffer, position);
        self.position = position;
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop).at("read", &self.path)
    }

    /// Returns whether all bytes from `position` on are zero.
    pub(super) fn is_zero_from(&mut self, mut position: u64) -> Result<bool> {
        loop {
            let piece = self.read(position, PIECE_BYTES)?;
            if piece.is_empty() {
                return Ok(true);
            }
            if piece.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            position += piece.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryDisk;

    fn window(bytes: &[u8]) -> Window {
        let (disk, path) = (MemoryDisk::new(), Arc::from(Path::new("/f")));
        disk.open(&path, Access::CreateNew)
            .unwrap()
            .write_all_at(bytes, 0)
            .unwrap();
        Window::open(&disk, &path).unwrap()
    }

    #[test]
    fn read_returns_any_range_up_to_the_end() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * PIECE_BYTES + 5).collect();
        let mut window = window(&bytes);
        let places = [
            (0, 10),
            (PIECE_BYTES - 5, 10),
            (3, PIECE_BYTES * 2),
            (bytes.len() - 3, 3),
            (1, bytes.len()),
            (0, 1),
        ];
        for (position, count) in places {
            let end = bytes.len().min(position + count);
            assert_eq!(
                window.read(position as u64, count).unwrap(),
                &bytes[position..end],
                "{count} from {position}"
            );
        }
        assert_eq!(
            window.read(bytes.len() as u64 - 3, usize::MAX).unwrap(),
            &bytes[bytes.len() - 3..]
        );
        for position in [bytes.len() as u64, bytes.len() as u64 + 1, u64::MAX] {
            assert_eq!(window.read(position, 10).unwrap(), b"");
        }
        window.limit(7);
        assert_eq!(window.read(5, 10).unwrap(), &bytes[5..7]);
        assert_eq!(window.end(), 7);
    }

    #[test]
    fn file_that_was_cut_after_opening_ends_early() {
        let (disk, path) = (MemoryDisk::new(), Arc::from(Path::new("/f")));
        let file = disk.open(&path, Access::CreateNew).unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let mut window = Window::open(&disk, &path).unwrap();
        file.set_len(10).unwrap();
        assert_eq!(window.read(0, 100).unwrap().len(), 10);
        assert_eq!(window.read(50, 10).unwrap().len(), 0);
        assert!(!window.is_zero_from(0).unwrap());
    }

    #[test]
    fn is_zero_from_detects_any_other_byte() {
        let mut bytes = vec![0; PIECE_BYTES + 10];
        bytes[3] = 1;
        assert!(window(&bytes).is_zero_from(4).unwrap());
        assert!(!window(&bytes).is_zero_from(3).unwrap());
        bytes[PIECE_BYTES + 9] = 1;
        assert!(!window(&bytes).is_zero_from(4).unwrap());
        assert!(window(b"").is_zero_from(0).unwrap());
    }
}
