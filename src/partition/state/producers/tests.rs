//! Replays batches one by one, and builds the headers for that.

use std::ops::RangeInclusive;

use super::*;
use crate::format::batch::ProducerStamp;
use crate::format::producer_snapshot;

pub(in crate::partition) const ABORT: Option<ControlRecord> = Some(ControlRecord::Abort {
    coordinator_epoch: 7,
});
pub(in crate::partition) const COMMIT: Option<ControlRecord> = Some(ControlRecord::Commit {
    coordinator_epoch: 7,
});

/// Returns the header of a batch of plain data in epoch 0. Its timestamp is twice its last offset.
pub(in crate::partition) fn plain(producer_id: i64, offsets: RangeInclusive<u64>) -> BatchHeader {
    BatchHeader {
        base_offset: *offsets.start(),
        last_offset: *offsets.end(),
        stated_last_offset: *offsets.end(),
        size_bytes: 100,
        magic: 2,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        base_timestamp: 0,
        max_timestamp: offsets.end().cast_signed() * 2,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        base_sequence: 0,
        record_count: 1,
    }
}

pub(in crate::partition) fn transactional(
    producer_id: i64,
    offsets: RangeInclusive<u64>,
) -> BatchHeader {
    BatchHeader {
        attributes: 1 << 4,
        ..plain(producer_id, offsets)
    }
}

pub(in crate::partition) fn control(producer_id: i64, offset: u64) -> BatchHeader {
    BatchHeader {
        attributes: 0b11 << 4,
        base_sequence: -1,
        ..plain(producer_id, offset..=offset)
    }
}

fn entry(producer_id: i64) -> ProducerEntry {
    ProducerEntry {
        producer_id,
        producer_epoch: 0,
        last_sequence: -1,
        last_offset: -1,
        offset_delta: 0,
        timestamp: -1,
        coordinator_epoch: -1,
        current_transaction_first_offset: None,
    }
}

fn aborted(
    producer_id: i64,
    first_offset: u64,
    last_offset: u64,
    last_stable_offset: u64,
) -> AbortedTransaction {
    AbortedTransaction {
        producer_id,
        first_offset,
        last_offset,
        last_stable_offset,
    }
}

#[test]
fn the_last_batch_of_each_producer_is_known() {
    let mut states = ProducerStates::default();
    assert!(states.is_empty());
    states.replay(&plain(9, 0..=4), None);
    states.replay(
        &BatchHeader {
            base_sequence: i32::MAX,
            ..plain(9, 5..=7)
        },
        None,
    );
    states.replay(
        &BatchHeader {
            producer_epoch: 3,
            record_count: 0,
            ..plain(1, 8..=9)
        },
        None,
    );
    let of_1 = ProducerEntry {
        producer_epoch: 3,
        last_sequence: 1,
        last_offset: 9,
        offset_delta: 1,
        timestamp: 18,
        ..entry(1)
    };
    let of_9 = ProducerEntry {
        last_sequence: 1,
        last_offset: 7,
        offset_delta: 2,
        timestamp: 14,
        ..entry(9)
    };
    assert_eq!(states.entries(), [of_1, of_9]);
    assert_eq!(states.first_unstable_offset(), None);
    assert!(!states.is_empty());
}

#[test]
fn a_batch_without_a_producer_leaves_no_state() {
    let mut states = ProducerStates::default();
    states.replay(&plain(-1, 0..=4), None);
    states.replay(
        &BatchHeader {
            magic: 1,
            ..plain(-1, 5..=5)
        },
        None,
    );
    states.replay(&control(-1, 6), Some(ControlRecord::Other(2)));
    assert!(states.is_empty());
}

#[test]
fn a_transactional_batch_may_have_no_sequence() {
    let mut states = ProducerStates::default();
    states.replay(
        &BatchHeader {
            base_sequence: -1,
            ..transactional(4, 3..=5)
        },
        None,
    );
    let expected = ProducerEntry {
        last_offset: 5,
        offset_delta: 2,
        timestamp: 10,
        current_transaction_first_offset: Some(3),
        ..entry(4)
    };
    assert_eq!(states.entries(), [expected]);
}

#[test]
fn overlapping_transactions_end_in_any_order() {
    for (order, stable) in [
        ([1, 2, 3], [Some(2), Some(5), None]),
        ([3, 2, 1], [Some(0), Some(0), None]),
        ([2, 1, 3], [Some(0), Some(5), None]),
        ([2, 3, 1], [Some(0), Some(0), None]),
    ] {
        let first_offsets = [0, 2, 5];
        let mut states = ProducerStates::default();
        for batch in [
            transactional(1, 0..=1),
            transactional(2, 2..=4),
            transactional(3, 5..=5),
            transactional(1, 6..=9),
        ] {
            assert_eq!(states.replay(&batch, None), None);
            assert_eq!(states.first_unstable_offset(), Some(0));
        }
        for ((id, marker), stable) in order.into_iter().zip(10..).zip(stable) {
            let first_offset = first_offsets[usize::try_from(id).unwrap() - 1];
            let expected = Some(aborted(
                id,
                first_offset,
                marker,
                stable.unwrap_or(marker + 1),
            ));
            assert_eq!(
                states.replay(&control(id, marker), ABORT),
                expected,
                "{order:?}"
            );
            assert_eq!(states.first_unstable_offset(), stable, "{order:?}");
        }
    }
}

#[test]
fn only_aborted_transactions_are_returned() {
    let mut states = ProducerStates::default();
    states.replay(&transactional(1, 0..=4), None);
    assert_eq!(states.replay(&control(1, 5), COMMIT), None);
    assert_eq!(states.first_unstable_offset(), None);
    states.replay(&transactional(1, 6..=6), None);
    assert_eq!(states.first_unstable_offset(), Some(6));
    assert_eq!(
        states.replay(&control(1, 7), ABORT),
        Some(aborted(1, 6, 7, 8))
    );
    assert_eq!(
        states.replay(&control(1, 8), ABORT),
        None,
        "no transaction was open"
    );
}

#[test]
fn a_marker_without_data_is_noted() {
    let mut states = ProducerStates::default();
    assert_eq!(states.replay(&control(4, 10), ABORT), None);
    assert_eq!(
        states.entries(),
        [ProducerEntry {
            timestamp: 20,
            coordinator_epoch: 7,
            ..entry(4)
        }]
    );
}

#[test]
fn a_marker_may_have_the_next_epoch() {
    let mut states = ProducerStates::default();
    states.replay(&transactional(4, 0..=1), None);
    let marker = BatchHeader {
        producer_epoch: 1,
        ..control(4, 2)
    };
    assert_eq!(states.replay(&marker, ABORT), Some(aborted(4, 0, 2, 3)));
    let expected = ProducerEntry {
        producer_epoch: 1,
        timestamp: 4,
        coordinator_epoch: 7,
        ..entry(4)
    };
    assert_eq!(
        states.entries(),
        [expected],
        "no batch of the new epoch is known"
    );
    states.replay(
        &BatchHeader {
            producer_epoch: 1,
            ..transactional(4, 3..=3)
        },
        None,
    );
    assert_eq!(states.first_unstable_offset(), Some(3));
}

#[test]
fn the_coordinator_of_the_last_marker_is_known_in_the_next_epoch() {
    let mut states = ProducerStates::default();
    states.replay(&control(4, 0), COMMIT);
    states.replay(
        &BatchHeader {
            producer_epoch: 1,
            ..plain(4, 1..=1)
        },
        None,
    );
    let expected = ProducerEntry {
        producer_epoch: 1,
        last_sequence: 0,
        last_offset: 1,
        timestamp: 2,
        coordinator_epoch: 7,
        ..entry(4)
    };
    assert_eq!(states.entries(), [expected]);
}

#[test]
fn a_marker_of_the_same_epoch_leaves_the_last_batch() {
    let mut states = ProducerStates::default();
    states.replay(&transactional(4, 0..=1), None);
    states.replay(&control(4, 2), COMMIT);
    let last = ProducerEntry {
        last_sequence: 1,
        last_offset: 1,
        offset_delta: 1,
        ..entry(4)
    };
    assert_eq!(
        states.entries(),
        [ProducerEntry {
            timestamp: 4,
            coordinator_epoch: 7,
            ..last
        }]
    );
}

#[test]
fn a_control_batch_that_is_not_a_marker_ends_no_transaction() {
    let mut states = ProducerStates::default();
    states.replay(&transactional(4, 0..=1), None);
    let before = states.entries();
    states.replay(
        &BatchHeader {
            record_count: 0,
            ..control(4, 2)
        },
        None,
    );
    states.replay(&control(4, 3), Some(ControlRecord::Other(9)));
    assert_eq!(states.entries(), before);
    states.replay(
        &BatchHeader {
            record_count: 0,
            ..control(5, 4)
        },
        None,
    );
    assert_eq!(
        states.entries(),
        before,
        "an unknown producer stays unknown"
    );
}

#[test]
fn plain_data_leaves_a_transaction_open() {
    let mut states = ProducerStates::default();
    states.replay(&transactional(4, 0..=1), None);
    states.replay(&plain(4, 2..=3), None);
    states.replay(
        &BatchHeader {
            producer_epoch: 1,
            ..plain(4, 4..=4)
        },
        None,
    );
    assert_eq!(states.first_unstable_offset(), Some(0));
    assert_eq!(
        states.replay(&control(4, 5), ABORT),
        Some(aborted(4, 0, 5, 6))
    );
}

#[test]
fn a_snapshot_holds_the_whole_state() {
    let mut states = ProducerStates::default();
    for batch in [
        transactional(2, 0..=1),
        transactional(1, 2..=3),
        plain(3, 4..=8),
    ] {
        states.replay(&batch, None);
    }
    states.replay(&control(2, 9), COMMIT);
    let bytes = producer_snapshot::encode(&states.entries());
    let mut restored = ProducerStates::from_snapshot(producer_snapshot::decode(&bytes).unwrap());
    assert_eq!(restored.entries(), states.entries());
    assert_eq!(restored.first_unstable_offset(), Some(2));
    assert_eq!(
        restored.replay(&control(1, 10), ABORT),
        Some(aborted(1, 2, 10, 11))
    );
    assert!(ProducerStates::from_snapshot(Vec::new()).is_empty());
}

#[test]
fn the_first_batch_of_a_producer_is_known_from_a_snapshot() {
    let mut states = ProducerStates::default();
    states.replay(&plain(9, 4..=4), None);
    let restored = ProducerStates::from_snapshot(states.entries());
    let stamp = ProducerStamp {
        id: 9,
        epoch: 0,
        sequence: 0,
    };
    let again = restored.check(&stamp, 1).unwrap();
    assert_eq!(again.map(|batch| batch.offsets), Some(4..5));
}
