//! Where decoders write to: memory that grows with what was decoded, up to a limit.

use super::TOO_LARGE;
use crate::format::Malformed;

/// Records commonly shrink to a quarter; whatever needs more room than that grows into it.
pub(super) const FIRST_GUESS: usize = 4;
const LEAST_GROWTH: usize = 1024;

/// What a decoder has made so far. There may be one byte more than the limit, so that too much is
/// told from just enough.
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

    /// Whether a decoder of streams had no room left to write more.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Gives a decoder of streams spare capacity to write to. `TOO_LARGE` once the limit is passed.
    pub(super) fn make_room(&mut self) -> Result<(), Malformed> {
        self.check()?;
        if self.is_full() {
            self.grow(LEAST_GROWTH);
        }
        Ok(())
    }

    /// Lets `decode` fill at most `most` bytes, no more than are `left`, and keeps as many as it
    /// says it made.
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

    /// `TOO_LARGE` for more bytes than are `left`.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.len() > self.left() {
            return Err(TOO_LARGE);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// How many bytes the limit still allows.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Whether the limit still holds.
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

    /// Doubles, or grows by `least` where that is more; to one byte beyond the limit at most.
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
    fn room_is_not_taken_before_it_is_needed() {
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
    fn a_failed_block_leaves_nothing() {
        let mut out = Output::new(10, 100);
        out.append(b"before").unwrap();
        assert_eq!(
            out.append_block(20, |_| Err(Malformed("no"))),
            Err(Malformed("no"))
        );
        assert_eq!(out.finish().unwrap(), b"before");
    }

    #[test]
    fn the_limit_is_kept() {
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
    fn no_limit_is_no_overflow() {
        let mut out = Output::new(usize::MAX, 0);
        out.limit = usize::MAX;
        out.make_room().unwrap();
        assert!(out.bytes.capacity() >= LEAST_GROWTH);
    }

    #[test]
    fn a_block_that_fits_takes_no_more_and_one_that_does_not_no_more_than_the_limit() {
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
