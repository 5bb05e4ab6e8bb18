//! The buffer that records are encoded in.

/// Bytes to which records are appended.
///
/// The bytes of an earlier batch stay after the end until they are overwritten. So a record is
/// written to bytes that are there already, and moves the end once, not with each of its fields.
#[derive(Debug, Default)]
pub(in crate::format) struct Buffer {
    bytes: Vec<u8>,
    end: usize,
}

impl Buffer {
    /// How much longer than its content the buffer becomes at least when it grows.
    const SPARE_BYTES: usize = 256;

    /// Creates a buffer that contains `front` bytes, which may have any value. Uses the memory of
    /// `bytes`.
    #[inline]
    pub(in crate::format) fn reuse(mut bytes: Vec<u8>, front: usize) -> Self {
        let end = bytes.len().max(front);
        // An equal batch finds room for its last record.
        bytes.resize(end + super::encode::LOOSE_BYTES, 0);
        Self { bytes, end: front }
    }

    /// Returns the number of bytes up to the end.
    #[inline]
    pub(in crate::format) fn len(&self) -> usize {
        self.end
    }

    /// Returns `count` bytes after the end, which may have any value.
    #[inline]
    pub(super) fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.end + count;
        if end > self.bytes.len() {
            self.grow(end);
        }
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.bytes.resize(len + Self::SPARE_BYTES, 0);
    }

    /// Moves the end by `count` bytes, which were written to [`room`](Self::room).
    #[inline]
    pub(super) fn take(&mut self, count: usize) {
        self.end += count;
        debug_assert!(
            self.end <= self.bytes.len(),
            "{} is in the buffer of {} bytes",
            self.end,
            self.bytes.len()
        );
    }

    /// Appends what `append` appends.
    pub(super) fn append<T>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.bytes.truncate(self.end);
        let result = append(&mut self.bytes);
        self.end = self.bytes.len();
        result
    }

    /// Returns the bytes up to the end.
    #[inline]
    pub(in crate::format) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }
}
