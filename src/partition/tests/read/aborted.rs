//! Aborted transactions: next to a broker that is writing, after damage, and in a log that is cut.

use crate::format::batch::stamp;
use crate::format::index_entry::AbortedTransaction;
use crate::partition::tests::open::damaged_indexes::Stored::{Abort, Commit, Data, Plain};
use crate::partition::tests::open::damaged_indexes::{Stored, TRANSACTIONAL, append};
use crate::partition::tests::read::times::stored_batch;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::write::marking::transact;
use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

const TRANSACTION_INDEX: &str = "/data/t-0/00000000000000000000.txnindex";

fn large(recovery_point: u64) -> PartitionSpec {
    let settings = TopicSettings {
        segment_bytes: 1 << 20,
        index_interval_bytes: 80,
        ..TopicSettings::unconfigured()
    };
    PartitionSpec {
        settings,
        broker_since: true,
        ..spec(0, recovery_point, i64::MAX)
    }
}

/// Creates a log of these batches in one segment and scans it.
fn log_of(disk: &MemoryDisk, batches: &[Stored]) -> Arc<PartitionCore> {
    let core = PartitionCore::create(&context(disk), &large(0)).unwrap();
    for stored in batches {
        append(&core, *stored, 0);
    }
    drop(core);
    PartitionCore::open(&context(disk), &large(0)).unwrap().0
}

fn read_committed(core: &Arc<PartitionCore>) -> Reader {
    let options = ReadOptions::new()
        .isolation(Isolation::ReadCommitted)
        .skip_corrupt(true);
    Reader::new(core, KeepOpen::nothing(), &(..), options).unwrap()
}

fn offsets(reader: &mut Reader) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}

/// Regression: transactions that were aborted after a reader had looked them up stayed unknown to
/// it.
#[test]
fn reader_learns_of_transactions_that_are_aborted_later() {
    let disk = MemoryDisk::new();
    let broker = PartitionCore::create(&context(&disk), &large(0)).unwrap();
    for stored in [Data(7), Abort(7), Data(7), Commit(7), Data(8)] {
        append(&broker, stored, 0);
    }
    let (looking, _) = PartitionCore::open(&reading(&disk), &large(0)).unwrap();
    let mut reader = read_committed(&looking);
    assert_eq!(
        offsets(&mut reader),
        [2],
        "a transaction is open from offset 4 on"
    );
    for (stored, expected) in [
        (&[Data(7), Abort(8)][..], &[][..]),
        (&[Abort(7), Plain], &[8]),
        (&[Data(8), Commit(8), Data(8), Abort(8), Plain], &[9, 13]),
    ] {
        for stored in stored {
            append(&broker, *stored, 0);
        }
        assert_eq!(offsets(&mut reader), expected);
    }
    assert_eq!(
        offsets(&mut read_committed(&looking)),
        [2, 8, 9, 13],
        "from the start"
    );
}

/// Regression: the search for aborted transactions ended at the first damaged batch.
#[test]
fn damage_does_not_hide_transactions_that_are_aborted_after_it() {
    let batches = [Data(7), Abort(7), Plain, Data(8), Abort(8), Plain];
    for has_index in [true, false] {
        let disk = MemoryDisk::new();
        let core = log_of(&disk, &batches);
        core.close(true).unwrap();
        let log = read_file(&disk, LOG.as_ref(), 1 << 20).unwrap();
        let plain = log.windows(5).position(|bytes| bytes == b"plain").unwrap();
        let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
        file.write_all_at(b"PLAIN", plain as u64).unwrap();
        if !has_index {
            disk.remove_file(TRANSACTION_INDEX.as_ref()).unwrap();
        }
        let spec = PartitionSpec {
            clean: true,
            ..large(6)
        };
        let (core, _) = PartitionCore::open(&context(&disk), &spec).unwrap();
        assert_eq!(
            offsets(&mut read_committed(&core)),
            [5],
            "has an index: {has_index}"
        );
    }
}

/// Only the index shows where a transaction with a damaged marker ends.
#[test]
fn damaged_marker_still_ends_its_transaction() {
    let disk = MemoryDisk::new();
    let core = log_of(
        &disk,
        &[
            Data(7),
            Abort(7),
            Data(7),
            Commit(7),
            Data(7),
            Abort(7),
            Plain,
        ],
    );
    core.close(true).unwrap();
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    let log = read_file(&disk, LOG.as_ref(), 1 << 20).unwrap();
    let marker = 12 + usize::try_from(u32::from_be_bytes(log[8..12].try_into().unwrap())).unwrap();
    file.write_all_at(&[log[marker + 60] ^ 1], marker as u64 + 60)
        .unwrap();
    let (core, _) = PartitionCore::open(
        &context(&disk),
        &PartitionSpec {
            clean: true,
            ..large(7)
        },
    )
    .unwrap();
    assert_eq!(offsets(&mut read_committed(&core)), [2, 6]);
}

/// Regression: a cut removed the index of the segment, so a broker that takes the log back assumed
/// that it had no entries.
#[test]
fn cut_log_keeps_the_transaction_index_of_its_remaining_records() {
    let disk = MemoryDisk::new();
    let core = log_of(&disk, &[Data(7), Abort(7), Plain, Data(8), Abort(8), Plain]);
    let of = |producer_id, first_offset| AbortedTransaction {
        producer_id,
        first_offset,
        last_offset: first_offset + 1,
        last_stable_offset: first_offset + 2,
    };
    let stored = || read_file(&disk, TRANSACTION_INDEX.as_ref(), 1 << 20).ok();
    let bytes = |transactions: &[AbortedTransaction]| {
        Some(
            transactions
                .iter()
                .flat_map(|transaction| transaction.encode())
                .collect::<Vec<u8>>(),
        )
    };
    assert_eq!(stored(), bytes(&[of(7, 0), of(8, 3)]));
    for (end, left) in [(5, Some(2)), (4, Some(1)), (2, Some(1)), (1, None)] {
        core.truncation(end).make().unwrap();
        let left = left.and_then(|count| bytes(&[of(7, 0), of(8, 3)][..count]));
        assert_eq!(stored(), left, "cut at {end}");
    }
}

const ACROSS_SEGMENTS: [Stored; 6] = [Data(7), Plain, Abort(7), Data(8), Abort(8), Plain];

/// Creates a log of three segments. The transaction of producer 7 has its marker in the second one,
/// and that of producer 8 in the third one.
fn across_segments(disk: &MemoryDisk) -> Arc<PartitionCore> {
    let core = PartitionCore::create(&context(disk), &large(0)).unwrap();
    for numbers in [0..2, 2..4, 4..6] {
        if numbers.start > 0 {
            core.roll_now().unwrap();
        }
        transact(&core, &ACROSS_SEGMENTS, numbers);
    }
    core
}

fn aborted(producer_id: i64, first_offset: u64, end: u64, stable: u64) -> AbortedTransaction {
    AbortedTransaction {
        producer_id,
        first_offset,
        last_offset: end,
        last_stable_offset: stable,
    }
}

#[test]
fn aborted_transactions_are_those_that_end_at_or_after_an_offset() {
    let core = across_segments(&MemoryDisk::new());
    let (first, second) = (aborted(7, 0, 2, 3), aborted(8, 3, 4, 5));
    for (from, expected) in [
        (0, &[first, second][..]),
        (2, &[first, second]),
        (3, &[second]),
        (4, &[second]),
        (5, &[]),
    ] {
        assert_eq!(core.aborted_from(from).unwrap(), expected, "from {from}");
    }
}

#[test]
fn search_for_aborted_transactions_stops_where_none_is_open_any_more() {
    let core = across_segments(&MemoryDisk::new());
    let (first, second) = (aborted(7, 0, 2, 3), aborted(8, 3, 4, 5));
    for (from, expected, end) in [
        (0, &[first][..], 2),
        (1, &[first], 2),
        (2, &[first, second], 4),
        (4, &[second], u64::MAX),
    ] {
        let found = core.aborted_around(from).unwrap();
        assert_eq!(found, (expected.to_vec(), end), "around {from}");
    }
}

/// Compaction left no record between the last stable offset and the batch below it.
#[test]
fn open_transaction_after_a_gap_stays_hidden() {
    let disk = MemoryDisk::new();
    let core = log_of(&disk, &[Plain]);
    core.close(true).unwrap();
    let mut open = stored_batch(&[0], 7, TRANSACTIONAL, &Record::new("data"));
    stamp(&mut open.bytes, 10, 0);
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(&open.bytes, file.bytes().unwrap())
        .unwrap();
    let spec = PartitionSpec {
        is_dense: false,
        ..large(0)
    };
    let (core, _) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert_eq!((core.last_stable_offset(), core.log_end_offset()), (10, 11));
    assert_eq!(offsets(&mut read_committed(&core)), [0]);
}

#[test]
fn open_transactions_have_no_end() {
    let core = across_segments(&MemoryDisk::new());
    assert_eq!(core.open_transactions(), []);
    transact(&core, &[Data(9)], 0..1);
    let open = core.open_transactions();
    assert_eq!((open[0].producer_id, open[0].first_offset), (9, 6));
    assert!(open.len() == 1 && open[0].last_offset > 6, "{open:?}");
}
