//! The entries of a segment's three indexes, and the search in them.
//!
//! An index file consists of entries only, without a header. All numbers are big-endian.
//!
//! | file | bytes | at | field | type |
//! | --- | --- | --- | --- | --- |
//! | `.index` | 8 | 0 | relative offset | int32 |
//! | | | 4 | position | int32 |
//! | `.timeindex` | 12 | 0 | timestamp | int64 |
//! | | | 8 | relative offset | int32 |
//! | `.txnindex` | 34 | 0 | version, 0 | int16 |
//! | | | 2 | producer id | int64 |
//! | | | 10 | first offset | int64 |
//! | | | 18 | last offset | int64 |
//! | | | 26 | last stable offset | int64 |
//!
//! - An offset entry means: the batch whose **last** offset is `base + relative` **starts** at
//!   `position`. Offsets and positions rise strictly. The first batch of a segment has no entry, so
//!   no entry has position 0.
//! - A time entry means: `timestamp` is the greatest timestamp up to and including offset
//!   `base + relative`. Timestamps rise strictly.
//! - A transaction entry describes one aborted transaction. Its `last offset` is that of the ABORT
//!   marker. Last offsets rise strictly.
//!
//! Example: the offset entry 5 -> 158 is `00000005 0000009e`.
//!
//! A broker that was killed leaves `.index` and `.timeindex` padded with zeros. This file does not
//! check whether an entry is true. An index only says where to look, and the segment checks what it
//! finds there.

use super::Malformed;
use super::fixed::{field, set_field};

/// The size of an [`OffsetEntry`].
pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
/// The size of a [`TimeEntry`].
pub(crate) const TIME_ENTRY_BYTES: usize = 12;
/// The size of an [`AbortedTransaction`].
pub(crate) const TRANSACTION_ENTRY_BYTES: usize = 34;

/// The position of a batch in the `.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The last offset of the batch, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
    /// The position in the `.log` at which the batch starts.
    pub(crate) position: u32,
}

/// The greatest timestamp of a segment up to some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The greatest timestamp up to `relative_offset`, in milliseconds.
    pub(crate) timestamp: i64,
    /// The last offset of the first batch with that timestamp, relative to the segment's base
    /// offset.
    pub(crate) relative_offset: u32,
}

/// An aborted transaction, whose records readers of committed data skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    /// The id of the producer that began the transaction.
    pub(crate) producer_id: i64,
    /// The offset of its first record.
    pub(crate) first_offset: u64,
    /// The offset of its ABORT marker.
    pub(crate) last_offset: u64,
    /// The last stable offset after it was aborted.
    pub(crate) last_stable_offset: u64,
}

impl OffsetEntry {
    /// Returns the bytes of the entry.
    #[inline]
    pub(crate) fn encode(self) -> [u8; OFFSET_ENTRY_BYTES] {
        let mut entry = [0; OFFSET_ENTRY_BYTES];
        set_field::<0, _, _>(&mut entry, self.relative_offset.to_be_bytes());
        set_field::<4, _, _>(&mut entry, self.position.to_be_bytes());
        entry
    }

    #[inline]
    fn decode(entry: [u8; OFFSET_ENTRY_BYTES]) -> Self {
        Self {
            relative_offset: u32::from_be_bytes(field::<0, _, _>(&entry)),
            position: u32::from_be_bytes(field::<4, _, _>(&entry)),
        }
    }

    /// Returns entry `number` of a whole index file. The caller ensures that `number` is less than
    /// `bytes.len() / OFFSET_ENTRY_BYTES`.
    #[inline]
    pub(crate) fn at(bytes: &[u8], number: usize) -> Self {
        Self::decode(entry_at(bytes, number))
    }

    /// Returns the number of entries before the zero padding of a file that was not closed. A
    /// partial entry at the end does not count.
    pub(crate) fn count(bytes: &[u8]) -> usize {
        let entries = bytes.as_chunks().0;
        let is_padding = |entry: &[u8; OFFSET_ENTRY_BYTES]| Self::decode(*entry).position == 0;
        // A closed file ends with an entry. Checking that first avoids reading all of its pages.
        if entries.last().is_some_and(|last| !is_padding(last)) {
            return entries.len();
        }
        entries
            .iter()
            .take_while(|entry| !is_padding(entry))
            .count()
    }

    /// Returns the number of the greatest of the first `count` entries whose relative offset is at
    /// most `relative_offset`. The scan for that offset starts at its position, or at position 0 if
    /// there is no such entry.
    #[inline]
    pub(crate) fn floor_number(bytes: &[u8], count: usize, relative_offset: u32) -> Option<usize> {
        let entries = first(bytes, count);
        let offset_at = |number| {
            let entry = entries.get(number);
            entry.map_or(u32::MAX, |entry| Self::decode(*entry).relative_offset)
        };
        last_at_most(entries.len(), offset_at, relative_offset)
    }
}

impl TimeEntry {
    /// Returns the bytes of the entry.
    #[inline]
    pub(crate) fn encode(self) -> [u8; TIME_ENTRY_BYTES] {
        let mut entry = [0; TIME_ENTRY_BYTES];
        set_field::<0, _, _>(&mut entry, self.timestamp.to_be_bytes());
        set_field::<8, _, _>(&mut entry, self.relative_offset.to_be_bytes());
        entry
    }

    #[inline]
    fn decode(entry: [u8; TIME_ENTRY_BYTES]) -> Self {
        Self {
            timestamp: i64::from_be_bytes(field::<0, _, _>(&entry)),
            relative_offset: u32::from_be_bytes(field::<8, _, _>(&entry)),
        }
    }

    /// Returns entry `number` of a whole index file. The caller ensures that `number` is less than
    /// `bytes.len() / TIME_ENTRY_BYTES`.
    #[inline]
    pub(crate) fn at(bytes: &[u8], number: usize) -> Self {
        Self::decode(entry_at(bytes, number))
    }

    /// Returns the number of entries before the zero padding, as for the offset index.
    ///
    /// A first entry of zeros counts only if another entry follows. Alone it may be padding, or it
    /// may mean that the batch that ends at the base offset has time 0. Only that batch shows which
    /// is true.
    pub(crate) fn count(bytes: &[u8]) -> usize {
        let entries = bytes.as_chunks().0;
        let is_padding = |entry: &[u8; TIME_ENTRY_BYTES]| *entry == [0; TIME_ENTRY_BYTES];
        if entries.last().is_some_and(|last| !is_padding(last)) {
            return entries.len();
        }
        // Zeros are a valid entry only at the start: timestamp 0 at the base offset.
        let after_first = entries
            .iter()
            .skip(1)
            .take_while(|entry| !is_padding(entry))
            .count();
        let has_first = after_first > 0 || entries.first().is_some_and(|first| !is_padding(first));
        after_first + usize::from(has_first)
    }

    /// Returns the number of the greatest of the first `count` entries whose timestamp is at most
    /// `timestamp`. The first record with a later timestamp comes after that entry's offset.
    #[inline]
    pub(crate) fn floor_number(bytes: &[u8], count: usize, timestamp: i64) -> Option<usize> {
        floor_number(first(bytes, count), |entry| {
            Self::decode(entry).timestamp <= timestamp
        })
    }
}

#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "the caller ensures that the entry exists"
)]
fn entry_at<const SIZE: usize>(bytes: &[u8], number: usize) -> [u8; SIZE] {
    bytes.as_chunks().0[number]
}

/// Returns the first `count` entries, or all of them if there are fewer.
#[inline]
fn first<const SIZE: usize>(bytes: &[u8], count: usize) -> &[[u8; SIZE]] {
    let entries = bytes.as_chunks().0;
    entries.get(..count).unwrap_or(entries)
}

/// Returns the number of the last entry that is `within`. If the entries do not rise, it returns
/// the number of any of them, but does not panic.
#[inline]
fn floor_number<const SIZE: usize>(
    entries: &[[u8; SIZE]],
    within: impl Fn([u8; SIZE]) -> bool,
) -> Option<usize> {
    entries
        .partition_point(|entry| within(*entry))
        .checked_sub(1)
}

/// Returns the number of the last of `count` rising offsets that is at most `target`. If they do
/// not rise, it returns the number of any of them, but does not panic.
///
/// A binary search in a large index waits for memory at each of its first steps. Offsets usually
/// rise evenly, so guessing finds the place in two or three steps. If they do not, the binary
/// search follows.
#[inline]
pub(crate) fn last_at_most(
    count: usize,
    offset_at: impl Fn(usize) -> u32,
    target: u32,
) -> Option<usize> {
    /// After a guess, the search looks this many offsets further.
    const STEP: usize = 8;
    const GUESSES: usize = 3;
    let last = count.checked_sub(1)?;
    let (mut low, mut high) = ((0, offset_at(0)), (last, offset_at(last)));
    if low.1 > target {
        return None;
    }
    if high.1 <= target {
        return Some(last);
    }
    for _ in 0..GUESSES {
        // The offset at `low` is at most the target, and the one at `high` is above it.
        let numbers = high.0 - low.0;
        if numbers <= STEP {
            break;
        }
        let share = (numbers as u64) * u64::from(target - low.1) / u64::from(high.1 - low.1);
        let guess = low.0
            + usize::try_from(share)
                .unwrap_or(numbers)
                .clamp(1, numbers - 1);
        let guessed = (guess, offset_at(guess));
        let other = if guessed.1 <= target {
            low = guessed;
            (guess + STEP).min(high.0)
        } else {
            high = guessed;
            guess.saturating_sub(STEP).max(low.0)
        };
        let looked = (other, offset_at(other));
        if looked.1 <= target {
            low = looked;
        } else {
            high = looked;
        }
    }
    let (mut low, mut high) = (low.0, high.0);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset_at(middle) <= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

impl AbortedTransaction {
    /// Returns the bytes of the entry.
    pub(crate) fn encode(self) -> [u8; TRANSACTION_ENTRY_BYTES] {
        let mut entry = [0; TRANSACTION_ENTRY_BYTES];
        set_field::<2, _, _>(&mut entry, self.producer_id.to_be_bytes());
        set_field::<10, _, _>(&mut entry, self.first_offset.to_be_bytes());
        set_field::<18, _, _>(&mut entry, self.last_offset.to_be_bytes());
        set_field::<26, _, _>(&mut entry, self.last_stable_offset.to_be_bytes());
        entry
    }

    /// Decodes all entries of a file, and ignores a partial one at the end.
    ///
    /// Returns `Malformed` for a version other than 0, for negative offsets, and for last offsets
    /// that do not rise strictly.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let entries = bytes.as_chunks().0;
        let mut transactions: Vec<Self> = Vec::with_capacity(entries.len());
        for entry in entries {
            let transaction = Self::decode(entry)?;
            if transactions
                .last()
                .is_some_and(|before| before.last_offset >= transaction.last_offset)
            {
                return Err(Malformed("aborted transactions are out of order"));
            }
            transactions.push(transaction);
        }
        Ok(transactions)
    }

    fn decode(entry: &[u8; TRANSACTION_ENTRY_BYTES]) -> Result<Self, Malformed> {
        if i16::from_be_bytes(field::<0, _, _>(entry)) != 0 {
            return Err(Malformed("the version of an aborted transaction is not 0"));
        }
        let offset = |bytes| {
            u64::try_from(i64::from_be_bytes(bytes))
                .map_err(|_| Malformed("an aborted transaction has a negative offset"))
        };
        Ok(Self {
            producer_id: i64::from_be_bytes(field::<2, _, _>(entry)),
            first_offset: offset(field::<10, _, _>(entry))?,
            last_offset: offset(field::<18, _, _>(entry))?,
            last_stable_offset: offset(field::<26, _, _>(entry))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: i64 = 1_700_000_000_000;
    const OFFSET_INDEX: &[u8] = b"\0\0\0\x05\0\0\0\x9e\0\0\0\x09\0\0\x01\x3c";
    const TIME_INDEX: &[u8] =
        b"\0\0\x01\x8b\xcf\xe5\x68\x32\0\0\0\x03\0\0\x01\x8b\xcf\xe5\x68\x3c\0\0\0\x07\0\0\x01\x8b\xcf\xe5\x68\x46\0\0\0\x0b";
    const TRANSACTION_INDEX: &[u8] =
        b"\0\0\0\0\0\0\0\0\x0f\xa0\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x03\xec\0\0\0\0\0\0\x03\xed";

    /// Returns the greatest of the first `count` entries that is at most at `target`.
    fn floor(bytes: &[u8], count: usize, target: u32) -> Option<OffsetEntry> {
        OffsetEntry::floor_number(bytes, count, target).map(|number| OffsetEntry::at(bytes, number))
    }

    fn offset_entries() -> Vec<OffsetEntry> {
        vec![
            OffsetEntry {
                relative_offset: 5,
                position: 158,
            },
            OffsetEntry {
                relative_offset: 9,
                position: 316,
            },
        ]
    }

    fn time_entries() -> Vec<TimeEntry> {
        [(T + 50, 3), (T + 60, 7), (T + 70, 11)]
            .map(|(timestamp, relative_offset)| TimeEntry {
                timestamp,
                relative_offset,
            })
            .to_vec()
    }

    #[test]
    fn an_offset_index_has_kafkas_bytes() {
        assert_eq!(
            offset_entries()
                .into_iter()
                .flat_map(OffsetEntry::encode)
                .collect::<Vec<_>>(),
            OFFSET_INDEX
        );
        assert_eq!(OffsetEntry::count(OFFSET_INDEX), 2);
        assert_eq!(
            [0, 1]
                .map(|number| OffsetEntry::at(OFFSET_INDEX, number))
                .to_vec(),
            offset_entries()
        );
    }

    #[test]
    fn a_time_index_has_kafkas_bytes() {
        assert_eq!(
            time_entries()
                .into_iter()
                .flat_map(TimeEntry::encode)
                .collect::<Vec<_>>(),
            TIME_INDEX
        );
        assert_eq!(TimeEntry::count(TIME_INDEX), 3);
        assert_eq!(
            [0, 1, 2]
                .map(|number| TimeEntry::at(TIME_INDEX, number))
                .to_vec(),
            time_entries()
        );
    }

    #[test]
    fn a_transaction_index_has_kafkas_bytes() {
        let entry = AbortedTransaction {
            producer_id: 4000,
            first_offset: 1000,
            last_offset: 1004,
            last_stable_offset: 1005,
        };
        assert_eq!(entry.encode(), TRANSACTION_INDEX);
        assert_eq!(
            AbortedTransaction::decode_all(TRANSACTION_INDEX),
            Ok(vec![entry])
        );
        let partial = [TRANSACTION_INDEX, &TRANSACTION_INDEX[..33]].concat();
        assert_eq!(AbortedTransaction::decode_all(&partial), Ok(vec![entry]));
        assert_eq!(AbortedTransaction::decode_all(b""), Ok(vec![]));
    }

    #[test]
    fn a_damaged_transaction_index_is_malformed() {
        let entry = AbortedTransaction {
            producer_id: 1,
            first_offset: 2,
            last_offset: 3,
            last_stable_offset: 4,
        };
        for (position, byte) in [(0, 1), (1, 1), (10, 0x80), (18, 0x80), (26, 0x80)] {
            let mut bytes = entry.encode();
            bytes[position] = byte;
            assert!(
                AbortedTransaction::decode_all(&bytes).is_err(),
                "byte {position}"
            );
        }
        assert!(
            AbortedTransaction::decode_all(&[entry.encode(), entry.encode()].concat()).is_err(),
            "the same entry twice"
        );
    }

    #[test]
    fn zero_padding_does_not_count_as_entries() {
        for zeros in [0, 8, 12, 24, 4096] {
            let padding = vec![0; zeros];
            assert_eq!(OffsetEntry::count(&padding), 0);
            assert_eq!(TimeEntry::count(&padding), 0);
            assert_eq!(
                OffsetEntry::count(&[OFFSET_INDEX, &padding].concat()),
                2,
                "{zeros} zeros"
            );
            assert_eq!(
                TimeEntry::count(&[TIME_INDEX, &padding].concat()),
                3,
                "{zeros} zeros"
            );
        }
        assert_eq!(OffsetEntry::count(&OFFSET_INDEX[..15]), 1);
        assert_eq!(TimeEntry::count(&TIME_INDEX[..35]), 2);
    }

    #[test]
    fn a_first_time_entry_of_zeros_counts_only_before_another() {
        let zero = [0; TIME_ENTRY_BYTES];
        let later = TimeEntry {
            timestamp: 1,
            relative_offset: 3,
        }
        .encode();
        assert_eq!(TimeEntry::count(&zero), 0);
        assert_eq!(TimeEntry::count(&[zero, later].concat()), 2);
        assert_eq!(TimeEntry::count(&[zero, later, zero, zero].concat()), 2);
        assert_eq!(TimeEntry::count(&[zero, zero, later, zero].concat()), 0);
    }

    #[test]
    fn the_floor_is_the_greatest_entry_at_or_below_the_target() {
        let offset = |target| floor(OFFSET_INDEX, 2, target).map(|entry| entry.position);
        assert_eq!(
            [0, 4, 5, 8, 9, u32::MAX].map(offset),
            [None, None, Some(158), Some(158), Some(316), Some(316)]
        );
        let time = |timestamp| TimeEntry::floor_number(TIME_INDEX, 3, timestamp);
        assert_eq!([-1, T, T + 49].map(time), [None; 3]);
        assert_eq!(
            [T + 50, T + 59, T + 60, T + 70, i64::MAX].map(time),
            [0, 0, 1, 2, 2].map(Some)
        );
    }

    #[test]
    fn the_floor_ignores_entries_beyond_the_count() {
        assert_eq!(floor(OFFSET_INDEX, 0, 9), None);
        assert_eq!(floor(OFFSET_INDEX, 1, 9), Some(offset_entries()[0]));
        assert_eq!(floor(OFFSET_INDEX, 99, 9), Some(offset_entries()[1]));
        assert_eq!(TimeEntry::floor_number(b"", 1, 0), None);
    }

    fn offsets() -> impl Strategy<Value = u64> {
        0..=i64::MAX.unsigned_abs()
    }

    proptest! {
        #[test]
        fn offset_and_time_entries_round_trip(relative_offset: u32, position: u32, timestamp: i64) {
            let entry = OffsetEntry { relative_offset, position };
            prop_assert_eq!(OffsetEntry::at(&entry.encode(), 0), entry);
            let entry = TimeEntry { timestamp, relative_offset };
            prop_assert_eq!(TimeEntry::at(&entry.encode(), 0), entry);
        }

        #[test]
        fn aborted_transactions_round_trip(
            producer_id: i64,
            first_offset in offsets(),
            last_offset in offsets(),
            last_stable_offset in offsets(),
        ) {
            let entry = AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset };
            prop_assert_eq!(AbortedTransaction::decode_all(&entry.encode()), Ok(vec![entry]));
        }

        #[test]
        fn the_floor_is_the_one_that_a_linear_search_finds(
            offsets in prop::collection::btree_set(0_u32..1000, 0..40),
            zeros in 0_usize..40,
            target in 0_u32..1000,
        ) {
            let entry = |&relative_offset: &u32| OffsetEntry { relative_offset, position: relative_offset + 1 }.encode();
            let mut bytes: Vec<u8> = offsets.iter().flat_map(entry).collect();
            bytes.resize(bytes.len() + zeros, 0);
            let count = OffsetEntry::count(&bytes);
            prop_assert_eq!(count, offsets.len());
            let expected = offsets.range(..=target).next_back().copied();
            prop_assert_eq!(floor(&bytes, count, target).map(|entry| entry.relative_offset), expected);
        }

        #[test]
        fn counting_and_searching_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), target: u32, timestamp: i64) {
            let count = OffsetEntry::count(&bytes);
            prop_assert!(count <= bytes.len() / OFFSET_ENTRY_BYTES);
            let _ = floor(&bytes, count, target);
            let count = TimeEntry::count(&bytes);
            prop_assert!(count <= bytes.len() / TIME_ENTRY_BYTES);
            let _ = TimeEntry::floor_number(&bytes, count, timestamp);
            drop(AbortedTransaction::decode_all(&bytes));
        }
    }
}
