//! Checks which batch a producer may append: the one after its last, or one of its last five again.
//!
//! Every record of a producer has a sequence in its partition, and a batch states the sequence of
//! its first record. A producer that does not know whether a batch arrived sends it again, and the
//! sequence identifies the repeated batch. A missing batch shows as a gap. A new epoch starts from
//! 0; an older one is fenced. A producer that is unknown or forgotten may start anywhere.

use std::collections::VecDeque;
use std::ops::Range;

use super::ProducerStates;
use crate::format::batch::{BatchHeader, ProducerStamp, sequence_after};
use crate::format::producer_snapshot::ProducerEntry;

/// Number of batches of each producer that are recognized when they are sent again, as in Kafka.
const RECENT_COUNT: usize = 5;

/// A producer that has not written for this long is forgotten: Kafka's `producer.id.expiration.ms`.
const EXPIRATION_MS: i64 = 86_400_000;

/// Why a batch is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partition) enum SequenceFault {
    /// The producer has written in a later epoch.
    Fenced,
    /// The next sequence would be this one.
    Expected(i32),
}

/// A batch that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::partition) struct RecentBatch {
    first_sequence: i32,
    last_sequence: i32,
    pub(in crate::partition) offsets: Range<u64>,
    pub(in crate::partition) timestamp: i64,
}

/// The last batches of one producer in its present epoch, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentBatches {
    epoch: i16,
    batches: VecDeque<RecentBatch>,
}

impl RecentBatches {
    /// Returns the one batch that a snapshot describes.
    pub(super) fn of(entry: &ProducerEntry) -> Self {
        let mut recent = Self {
            epoch: entry.producer_epoch,
            batches: VecDeque::new(),
        };
        let Ok(last_offset) = u64::try_from(entry.last_offset) else {
            return recent;
        };
        let count = u64::from(entry.offset_delta.unsigned_abs()) + 1;
        if entry.last_sequence >= 0 {
            recent.batches.push_back(RecentBatch {
                first_sequence: (entry.last_sequence.wrapping_sub(entry.offset_delta)) & i32::MAX,
                last_sequence: entry.last_sequence,
                offsets: (last_offset + 1).saturating_sub(count)..last_offset + 1,
                timestamp: entry.timestamp,
            });
        }
        recent
    }

    /// Takes in the next batch of the log.
    pub(super) fn take(&mut self, header: &BatchHeader) {
        if self.epoch != header.producer_epoch {
            *self = Self {
                epoch: header.producer_epoch,
                batches: VecDeque::new(),
            };
        }
        if self.batches.len() == RECENT_COUNT {
            self.batches.pop_front();
        }
        self.batches.push_back(RecentBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            offsets: header.base_offset..header.last_offset + 1,
            timestamp: header.max_timestamp,
        });
    }
}

impl ProducerStates {
    /// Returns whether the producer has written, as far as the partition remembers.
    pub(in crate::partition) fn knows(&self, producer_id: i64) -> bool {
        self.by_id.contains_key(&producer_id)
    }

    /// Checks whether a batch of `record_count` records may be appended. Returns the batch if it is
    /// already in the log.
    pub(in crate::partition) fn check(
        &self,
        producer: &ProducerStamp,
        record_count: u32,
    ) -> Result<Option<RecentBatch>, SequenceFault> {
        let Some(entry) = self.by_id.get(&producer.id) else {
            return Ok(None);
        };
        if producer.epoch < entry.producer_epoch {
            return Err(SequenceFault::Fenced);
        }
        let is_same_epoch = producer.epoch == entry.producer_epoch;
        let last_sequence = sequence_after(producer.sequence, record_count.saturating_sub(1));
        let is_again = |batch: &&RecentBatch| {
            (batch.first_sequence, batch.last_sequence) == (producer.sequence, last_sequence)
        };
        let recent = self
            .recent
            .get(&producer.id)
            .filter(|recent| is_same_epoch && recent.epoch == producer.epoch);
        if let Some(again) = recent.and_then(|recent| recent.batches.iter().find(is_again)) {
            return Ok(Some(again.clone()));
        }
        // Without a batch in this epoch the last sequence is -1, so 0 is expected.
        let expected = if is_same_epoch {
            sequence_after(entry.last_sequence, 1)
        } else {
            0
        };
        if producer.sequence == expected {
            Ok(None)
        } else {
            Err(SequenceFault::Expected(expected))
        }
    }

    /// Forgets producers that have not written for a day, except those with an open transaction.
    pub(in crate::partition) fn forget_expired(&mut self, now: i64) {
        self.by_id.retain(|_, entry| {
            entry.current_transaction_first_offset.is_some()
                || now.saturating_sub(entry.timestamp) < EXPIRATION_MS
        });
        let by_id = &self.by_id;
        self.recent.retain(|id, _| by_id.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ABORT, control, plain, transactional};
    use super::*;

    const ID: i64 = 7;

    fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
        ProducerStamp {
            id: ID,
            epoch,
            sequence,
        }
    }

    /// Returns the header of a batch of ten records at `offset`.
    fn ten(sequence: i32, offset: u64) -> BatchHeader {
        BatchHeader {
            base_sequence: sequence,
            record_count: 10,
            ..plain(ID, offset..=offset + 9)
        }
    }

    fn states(batches: &[BatchHeader]) -> ProducerStates {
        let mut states = ProducerStates::default();
        for header in batches {
            assert_eq!(states.replay(header, None), None);
        }
        states
    }

    fn offsets(
        states: &ProducerStates,
        sequence: i32,
        count: u32,
    ) -> Result<Option<Range<u64>>, SequenceFault> {
        states
            .check(&stamp(0, sequence), count)
            .map(|found| found.map(|batch| batch.offsets))
    }

    #[test]
    fn only_the_last_five_batches_are_recognized_again() {
        let states = states(
            &[0, 10, 20, 30, 40, 50]
                .map(|sequence| ten(sequence, 100 + u64::try_from(sequence).unwrap())),
        );
        for sequence in [10, 20, 30, 40, 50] {
            let first = 100 + u64::try_from(sequence).unwrap();
            assert_eq!(offsets(&states, sequence, 10), Ok(Some(first..first + 10)));
        }
        let refused = Err(SequenceFault::Expected(60));
        for (sequence, count) in [(0, 10), (50, 9), (50, 11), (45, 10), (61, 1), (59, 1)] {
            assert_eq!(
                offsets(&states, sequence, count),
                refused,
                "{sequence} {count}"
            );
        }
        assert_eq!(offsets(&states, 60, 3), Ok(None));
    }

    #[test]
    fn an_epoch_starts_from_0_and_fences_earlier_epochs() {
        let mut states = states(&[ten(0, 0)]);
        assert_eq!(
            states.check(&stamp(1, 10), 10),
            Err(SequenceFault::Expected(0))
        );
        assert_eq!(states.check(&stamp(1, 0), 10), Ok(None));
        states.replay(
            &BatchHeader {
                producer_epoch: 1,
                ..ten(0, 10)
            },
            None,
        );
        assert_eq!(states.check(&stamp(0, 10), 10), Err(SequenceFault::Fenced));
        assert_eq!(states.check(&stamp(0, 0), 10), Err(SequenceFault::Fenced));
        assert_eq!(
            states.check(&stamp(1, 0), 10).unwrap().unwrap().offsets,
            10..20
        );
    }

    /// Such a marker fences a producer before the producer writes in its new epoch.
    #[test]
    fn no_batch_is_known_after_a_marker_of_the_next_epoch() {
        let mut states = states(&[ten(0, 0)]);
        assert_eq!(
            states.replay(
                &BatchHeader {
                    producer_epoch: 1,
                    ..control(ID, 10)
                },
                ABORT
            ),
            None
        );
        assert_eq!(states.check(&stamp(0, 0), 10), Err(SequenceFault::Fenced));
        assert_eq!(
            states.check(&stamp(1, 0), 10),
            Ok(None),
            "the batch of the earlier epoch does not count"
        );
    }

    #[test]
    fn the_greatest_sequence_is_followed_by_0() {
        let last = states(&[ten(i32::MAX - 9, 0)]);
        assert_eq!(offsets(&last, 1, 1), Err(SequenceFault::Expected(0)));
        assert_eq!(offsets(&last, 0, 1), Ok(None));
        let over = states(&[ten(i32::MAX - 4, 0)]);
        assert_eq!(offsets(&over, i32::MAX - 4, 10), Ok(Some(0..10)));
        assert_eq!(offsets(&over, 5, 1), Ok(None));
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(offsets(&ProducerStates::default(), 12_345, 3), Ok(None));
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch() {
        for sequence in [0, 77, i32::MAX - 4] {
            let before = states(&[ten(0, 0), ten(sequence, 40)]);
            let after = ProducerStates::from_snapshot(before.entries());
            assert_eq!(offsets(&after, sequence, 10), Ok(Some(40..50)));
            assert_eq!(offsets(&after, sequence_after(sequence, 10), 1), Ok(None));
            assert!(offsets(&after, 3, 10).is_err());
        }
    }

    #[test]
    fn a_producer_is_forgotten_after_a_day_without_a_batch() {
        let mut states = states(&[ten(0, 0)]);
        states.replay(&transactional(8, 10..=10), None);
        states.forget_expired(18 + EXPIRATION_MS - 1);
        assert!(states.knows(ID));
        states.forget_expired(18 + EXPIRATION_MS);
        assert!(!states.knows(ID));
        assert!(states.knows(8), "an open transaction keeps its producer");
        assert_eq!(offsets(&states, 500, 1), Ok(None));
    }
}
