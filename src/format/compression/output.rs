//! The buffer to which decoders write. It grows with the decoded bytes, up to a limit.

use super::TOO_LARGE;
use crate::format::Malformed;

/// The first size of the buffer as a multiple of the compressed size. Records commonly shrink to a
/// quarter; if the output is larger, the buffer grows.
pub(super) const FIRST_GUESS: usize = 4;
const LEAST_GROWTH: usize = 1024;

/// The bytes that a decoder has produced so far. They may exceed the limit by one byte, which shows
/// that the output is too large and not just large enough.
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    pub(super) fn new(compressed_bytes: usize, limit: usize) -> Self {
        let capacity = compressed_bytes.saturating_mul(FIRST_GUESS).min(limit);
        Self {
            bytes: Vec::with_capacity(capacity),
            limit,
        }
    }

    /// Returns whether the buffer is full, so that the decoder may have more bytes to write.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Ensures that the buffer has spare capacity. Returns [`TOO_LARGE`] once the output exceeds
    /// the limit.
    pub(super) fn make_room(&mut self) -> Result<(), Malformed> {
        self.check()?;
        if self.is_full() {
            self.grow(LEAST_GROWTH);
        }
        Ok(())
    }

    /// Calls `decode` with `most` bytes to fill, and keeps as many as it returns. The caller
    /// ensures that `most` is at most [`left`](Self::left).
    pub(super) fn append_block<E>(
        &mut self,
        most: usize,
        decode: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        if self.bytes.capacity() - start < most {
            self.grow(most);
        }
        self.bytes.resize(start + most, 0);
        let made = decode(self.bytes.get_mut(start..).unwrap_or_default());
        self.bytes
            .truncate(start + made.as_ref().copied().unwrap_or(0));
        made.map(|_| ())
    }

    /// Appends bytes. Returns [`TOO_LARGE`] if they are more than [`left`](Self::left).
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.len() > self.left() {
            return Err(TOO_LARGE);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the number of bytes that the limit still allows.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Returns [`TOO_LARGE`] if the output exceeds the limit.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.bytes.len() > self.limit {
            Err(TOO_LARGE)
        } else {
            Ok(())
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        Ok(self.bytes)
    }

    /// Doubles the buffer, or grows it by `least` if that is more, but to at most one byte beyond
    /// the limit.
    fn grow(&mut self, least: usize) {
        let most = self
            .limit
            .saturating_add(1)
            .saturating_sub(self.bytes.len());
        self.bytes
            .reserve_exact(self.bytes.len().max(least).min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(length: usize) -> impl FnOnce(&mut [u8]) -> Result<usize, Malformed> {
        move |room| {
            assert_eq!(room.len(), length);
            Ok(length)
        }
    }

    #[test]
    fn the_buffer_does_not_grow_before_it_is_full() {
        let mut out = Output::new(1000, 100 << 20);
        assert!(out.bytes.capacity() <= 8000);
        assert!(Output::new(1000, 10).bytes.capacity() <= 16);
        out.make_room().unwrap();
        assert!(out.bytes.capacity() <= 8000, "there is room already");
        out.append_block(5000, full(5000)).unwrap();
        out.append_block(5000, |_| Ok::<_, Malformed>(0)).unwrap();
        assert_eq!(out.bytes.len(), 5000);
        assert!(out.bytes.capacity() <= 10_000);
    }

    #[test]
    fn a_failed_block_leaves_the_output_unchanged() {
        let mut out = Output::new(10, 100);
        out.append(b"before").unwrap();
        assert_eq!(
            out.append_block(20, |_| Err(Malformed("no"))),
            Err(Malformed("no"))
        );
        assert_eq!(out.finish().unwrap(), b"before");
    }

    #[test]
    fn output_beyond_the_limit_is_refused() {
        let mut out = Output::new(10, 100);
        out.append(&[1; 100]).unwrap();
        assert_eq!(
            (out.left(), out.append(&[1]), out.append(&[])),
            (0, Err(TOO_LARGE), Ok(()))
        );
        out.make_room().unwrap();
        assert!(out.bytes.capacity() <= 101);
        out.bytes.push(1);
        assert_eq!(out.make_room(), Err(TOO_LARGE));
        assert_eq!(out.finish(), Err(TOO_LARGE));
    }

    #[test]
    fn the_greatest_limit_does_not_overflow() {
        let mut out = Output::new(usize::MAX, 0);
        out.limit = usize::MAX;
        out.make_room().unwrap();
        assert!(out.bytes.capacity() >= LEAST_GROWTH);
    }

    #[test]
    fn the_buffer_grows_only_for_blocks_that_do_not_fit_and_never_past_the_limit() {
        let mut out = Output {
            bytes: Vec::with_capacity(40),
            limit: 45,
        };
        assert_eq!(out.bytes.capacity(), 40);
        out.append_block(30, full(30)).unwrap();
        out.append_block(10, full(10)).unwrap();
        assert_eq!(out.bytes.capacity(), 40, "there was room");
        let mut out = Output {
            bytes: Vec::with_capacity(40),
            limit: 45,
        };
        out.append_block(30, full(30)).unwrap();
        out.append_block(15, full(15)).unwrap();
        assert!(
            (45..=46).contains(&out.bytes.capacity()),
            "{}",
            out.bytes.capacity()
        );
    }
}
