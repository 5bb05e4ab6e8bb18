//! Markers that end transactions.

use std::sync::atomic::Ordering;

use crate::format::batch::ProducerStamp;
use crate::format::control::{ControlRecord, control_of};
use crate::partition::Isolation;
use crate::partition::tests::open::damaged_indexes::Stored::{self, Abort, Commit, Data, Plain};
use crate::partition::tests::*;
use crate::partition::write::marker::{Marker, Outcome};
use crate::segment::batch_file::BatchFile;
use crate::storage::MemoryDisk;

const EPOCH: i16 = 3;

/// Appends the batches of `all` with these numbers, as a producer and its transactions would, at
/// times that rise with the number.
pub(in crate::partition::tests) fn transact(
    core: &PartitionCore,
    all: &[Stored],
    numbers: std::ops::Range<usize>,
) {
    for number in numbers {
        let (stored, before) = (all[number], &all[..number]);
        let time = Timestamp::from_millis(100 + i64::try_from(number).unwrap());
        let end = |producer_id, outcome| {
            let ended = core.append_marker(&marker(producer_id, outcome), u64::MAX);
            assert!(ended.unwrap().is_some(), "a transaction was open");
        };
        let mut encoded = core
            .encode_batch(time, [Record::new("a value")])
            .unwrap()
            .unwrap();
        match stored {
            Abort(producer_id) => end(producer_id, Outcome::Aborted),
            Commit(producer_id) => end(producer_id, Outcome::Committed),
            Plain => drop(core.append_encoded(&mut encoded).unwrap()),
            Data(id) => {
                let sequence = before.iter().filter(|other| **other == stored).count();
                encoded.set_transactional(ProducerStamp {
                    id,
                    epoch: EPOCH,
                    sequence: sequence.try_into().unwrap(),
                });
                core.append_encoded(&mut encoded).unwrap();
            }
        }
    }
}

/// Creates a partition with a record of no transaction, and one of a transaction of producer 7.
fn with_open_transaction() -> Arc<PartitionCore> {
    let core = created(&MemoryDisk::new());
    transact(&core, &[Plain, Data(7)], 0..2);
    core
}

fn marker(producer_id: i64, outcome: Outcome) -> Marker {
    Marker {
        producer_id,
        producer_epoch: EPOCH,
        outcome,
        coordinator_epoch: 5,
    }
}

#[test]
fn marker_ends_only_a_transaction_that_began_below_the_end() {
    let core = with_open_transaction();
    let committed = marker(7, Outcome::Committed);
    for (ending, end) in [
        (committed, 0),
        (committed, 1),
        (marker(8, Outcome::Committed), u64::MAX),
    ] {
        let appended = core.append_marker(&ending, end).unwrap();
        assert!(appended.is_none(), "{ending:?}, below {end}");
    }
    assert!(!core.has_open_transaction_below(7, 1));
    assert!(core.has_open_transaction_below(7, 2));
    assert!(!core.has_open_transaction_below(8, 2));

    let appended = core.append_marker(&committed, 2).unwrap().unwrap();
    assert_eq!(appended.offsets, 2..3);
    assert!(!core.has_open_transaction_below(7, 2), "it has ended");
    assert!(core.append_marker(&committed, u64::MAX).unwrap().is_none());
}

#[test]
fn marker_names_its_producer_and_its_coordinator() {
    for (outcome, control) in [
        (
            Outcome::Committed,
            ControlRecord::Commit {
                coordinator_epoch: 5,
            },
        ),
        (
            Outcome::Aborted,
            ControlRecord::Abort {
                coordinator_epoch: 5,
            },
        ),
    ] {
        let core = with_open_transaction();
        core.append_marker(&marker(7, outcome), 2).unwrap().unwrap();
        // Readers do not return markers, so the bytes of the file are decoded.
        let segment = core.segments().snapshot().last().map(Arc::clone).unwrap();
        let mut file = BatchFile::new(segment);
        let bytes = file.segment().size();
        let (mut position, mut last) = (0, None);
        while let Some(header) = file.header_at(position, bytes).unwrap() {
            let content = file.checked(position, &header, bytes).unwrap();
            last = control_of(&header, content).map(|control| (control, header));
            position += header.size_bytes;
        }
        let (found, header) = last.unwrap();
        assert_eq!(found, control);
        assert_eq!((header.producer_id, header.producer_epoch), (7, EPOCH));
        assert_eq!(header.base_sequence, -1, "a marker has no sequence");
        assert!(header.is_transactional() && header.is_control());
    }
}

#[test]
fn marker_notifies_readers_unless_they_wait_for_a_sync() {
    for is_synced in [false, true] {
        let core = with_open_transaction();
        core.is_synced_topic.store(is_synced, Ordering::Relaxed);
        let signal = Signal::new();
        core.waiters().register(&signal);
        core.append_marker(&marker(7, Outcome::Aborted), 2).unwrap();
        assert_eq!(signal.is_notified(), !is_synced);
    }
}

#[test]
fn aborted_record_is_left_out_and_committed_record_is_not() {
    for (outcome, expected) in [(Outcome::Committed, 2), (Outcome::Aborted, 1)] {
        let core = with_open_transaction();
        core.append_marker(&marker(7, outcome), 2).unwrap();
        let options = ReadOptions::new().isolation(Isolation::ReadCommitted);
        let reader = Reader::new(&core, KeepOpen::nothing(), &(..), options).unwrap();
        let counts = reader.map(|batch| batch.unwrap().count().unwrap());
        assert_eq!(counts.sum::<u64>(), expected, "{outcome:?}");
    }
}
