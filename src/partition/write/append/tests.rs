//! A batch that is sent again is written once, even if the partition was closed, recovered or cut
//! in the meantime.

use std::sync::Arc;

use super::*;
use crate::config::{Compression, TopicSettings};
use crate::format::batch::{BatchBuilder, ProducerStamp};
use crate::format::record::Record;
use crate::partition::read::transactions::list_snapshots;
use crate::partition::state::waiting::Signal;
use crate::partition::tests::{context, spec};
use crate::partition::{KeepOpen, OffsetSpec, ReadOptions, Reader};
use crate::storage::faulty::{Fault, FaultyDisk};

const PRODUCER: ProducerStamp = ProducerStamp {
    id: 1 << 62,
    epoch: 0,
    sequence: 0,
};

fn batch(sequence: i32, values: &[&str]) -> EncodedBatch {
    let producer = ProducerStamp {
        sequence,
        ..PRODUCER
    };
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    for value in values {
        builder
            .push(&Record::new(*value), 1_700_000_000_000)
            .unwrap();
    }
    builder.set_producer(producer);
    let (bytes, header) = builder
        .finish_with_header(&TopicSettings::default())
        .unwrap();
    EncodedBatch {
        bytes,
        header,
        producer: Some(producer),
    }
}

fn create(disk: &FaultyDisk) -> Arc<PartitionCore> {
    let context = context(disk);
    PartitionCore::create(&context, &spec(0, 0, i64::MAX)).unwrap()
}

fn reopen(disk: &FaultyDisk, recovery_point: u64) -> Arc<PartitionCore> {
    PartitionCore::open(&context(disk), &spec(0, recovery_point, i64::MAX))
        .unwrap()
        .0
}

fn append(core: &PartitionCore, sequence: i32, values: &[&str]) -> Result<Range<u64>> {
    core.append_encoded(&mut batch(sequence, values))
        .map(|appended| appended.offsets)
}

#[test]
fn a_repeated_batch_is_acknowledged_with_its_first_offsets() {
    let core = create(&FaultyDisk::failing_at(0));
    assert_eq!(append(&core, 0, &["a", "b"]).unwrap(), 0..2);
    assert_eq!(append(&core, 2, &["c"]).unwrap(), 2..3);
    for _ in 0..2 {
        assert_eq!(append(&core, 0, &["a", "b"]).unwrap(), 0..2);
        assert_eq!(append(&core, 2, &["c"]).unwrap(), 2..3);
    }
    assert_eq!(core.log_end_offset(), 3);
}

#[test]
fn a_batch_after_a_gap_or_of_an_old_epoch_is_not_written() {
    let core = create(&FaultyDisk::failing_at(0));
    append(&core, 0, &["a"]).unwrap();
    let refused = append(&core, 5, &["x"]);
    assert!(
        matches!(
            refused,
            Err(Error::OutOfOrderSequence {
                expected: 1,
                found: 5,
                ..
            })
        ),
        "{refused:?}"
    );
    let mut next_epoch = batch(0, &["b"]);
    next_epoch.set_producer(ProducerStamp {
        epoch: 1,
        ..PRODUCER
    });
    assert_eq!(core.append_encoded(&mut next_epoch).unwrap().offsets, 1..2);
    let fenced = append(&core, 1, &["x"]);
    assert!(
        matches!(fenced, Err(Error::ProducerFenced { epoch: 0, .. })),
        "{fenced:?}"
    );
    assert_eq!(core.log_end_offset(), 2);
}

#[test]
fn producers_are_known_again_after_a_kill_or_a_close() {
    for closes in [false, true] {
        let disk = FaultyDisk::failing_at(0);
        let core = create(&disk);
        for number in 0..40 {
            append(&core, number, &["a value that makes segments roll"]).unwrap();
            if number == 30 {
                core.flush().unwrap();
            }
        }
        assert!(core.segment_infos().unwrap().len() > 2);
        if closes {
            core.close(true).unwrap();
        }
        let core = reopen(&disk, core.recovery_point());
        assert_eq!(
            append(&core, 39, &["a value that makes segments roll"]).unwrap(),
            39..40,
            "closed: {closes}"
        );
        assert!(matches!(
            append(&core, 41, &["x"]),
            Err(Error::OutOfOrderSequence { expected: 40, .. })
        ));
        assert_eq!(append(&core, 40, &["x"]).unwrap(), 40..41);
    }
}

/// A regression: the recovery point rose without a snapshot below it, and the batches below it were
/// not replayed.
#[test]
fn a_flush_remembers_producers_before_the_first_roll() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    append(&core, 0, &["a"]).unwrap();
    append(&core, 1, &["b"]).unwrap();
    core.flush().unwrap();
    append(&core, 2, &["c"]).unwrap();
    core.flush().unwrap();
    append(&core, 3, &["d"]).unwrap();
    assert_eq!(
        list_snapshots(&disk, core.dir()).unwrap(),
        [3],
        "one snapshot replaces the other"
    );
    let core = reopen(&disk, core.recovery_point());
    assert_eq!(append(&core, 3, &["d"]).unwrap(), 3..4);
    assert_eq!(append(&core, 4, &["e"]).unwrap(), 4..5);
}

#[test]
fn a_close_keeps_the_snapshots_at_segment_bases_and_at_the_log_end() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    for number in 0..20 {
        append(&core, number, &["a value that makes segments roll"]).unwrap();
        core.flush().unwrap();
    }
    core.close(true).unwrap();
    let mut kept: Vec<_> = core
        .segment_infos()
        .unwrap()
        .iter()
        .skip(1)
        .map(|segment| segment.base_offset)
        .collect();
    assert!(kept.len() > 1);
    kept.push(20);
    let mut found = list_snapshots(&disk, core.dir()).unwrap();
    found.sort_unstable();
    assert_eq!(found, kept);
}

/// After more appends, the snapshot of a flush is neither at the base of a segment nor at the log
/// end.
#[test]
fn a_close_removes_the_snapshot_of_the_last_flush() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    for number in 0..3 {
        append(&core, number, &["a"]).unwrap();
    }
    core.flush().unwrap();
    append(&core, 3, &["b"]).unwrap();
    assert_eq!(list_snapshots(&disk, core.dir()).unwrap(), [3]);
    core.truncation(3).make().unwrap();
    assert_eq!(
        list_snapshots(&disk, core.dir()).unwrap(),
        [3],
        "the snapshot at the log end stays"
    );
    append(&core, 3, &["b"]).unwrap();
    core.close(true).unwrap();
    assert_eq!(list_snapshots(&disk, core.dir()).unwrap(), [4]);
}

#[test]
fn a_partition_without_producers_has_no_snapshots() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    for _ in 0..20 {
        core.append(Durability::Os, ["a value that makes segments roll"])
            .unwrap();
        core.flush().unwrap();
    }
    assert!(core.segment_infos().unwrap().len() > 2);
    core.close(true).unwrap();
    assert_eq!(list_snapshots(&disk, core.dir()).unwrap(), []);
}

#[test]
fn a_flush_is_due_after_flush_messages_records() {
    let core = PartitionCore::create(&context(&FaultyDisk::failing_at(0)), &spec(0, 0, 3)).unwrap();
    for (sequence, recovery_point) in [(0, 0), (1, 0), (2, 3), (3, 3)] {
        let appended = core
            .append_encoded(&mut batch(sequence, &["value"]))
            .unwrap();
        core.flush_if_due(&appended).unwrap();
        assert_eq!(core.recovery_point(), recovery_point, "after {sequence}");
    }
}

#[test]
fn only_readers_of_unsynced_records_see_a_record_before_its_sync() {
    let disk = FaultyDisk::failing_at(0);
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.durability = Some(Durability::Synced);
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    let signal = Signal::new();
    core.waiters().register(&signal);
    append(&core, 0, &["a"]).unwrap();
    let count = |options| {
        let reader = Reader::new(&core, KeepOpen::nothing(), &(..), options).unwrap();
        reader.map(Result::unwrap).count()
    };
    let counts = || {
        (
            count(ReadOptions::new()),
            count(ReadOptions::new().unsynced(true)),
        )
    };
    let find = || {
        core.offset_for(OffsetSpec::MaxTimestamp)
            .unwrap()
            .map(|found| found.offset)
    };
    assert_eq!(
        (counts(), find(), signal.is_notified()),
        ((0, 1), None, false)
    );
    core.sync_published().unwrap();
    assert_eq!(
        (counts(), find(), signal.is_notified()),
        ((1, 1), Some(0), true)
    );
}

#[test]
fn an_append_notifies_waiting_readers() {
    let core = create(&FaultyDisk::failing_at(0));
    let signal = Signal::new();
    core.waiters().register(&signal);
    append(&core, 0, &["a"]).unwrap();
    assert!(signal.is_notified());
}

#[test]
fn a_producer_may_write_truncated_records_again() {
    let core = create(&FaultyDisk::failing_at(0));
    for number in 0..10 {
        append(&core, number, &["value"]).unwrap();
    }
    core.truncation(6).make().unwrap();
    assert!(matches!(
        append(&core, 10, &["x"]),
        Err(Error::OutOfOrderSequence { expected: 6, .. })
    ));
    assert_eq!(append(&core, 6, &["value"]).unwrap(), 6..7);
}

#[test]
fn a_truncation_keeps_the_snapshots_up_to_its_end() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    for number in 0..30 {
        append(&core, number, &["a value that makes segments roll"]).unwrap();
    }
    let bases: Vec<_> = core
        .segment_infos()
        .unwrap()
        .iter()
        .skip(1)
        .map(|segment| segment.base_offset)
        .collect();
    let snapshots = || {
        let mut found = list_snapshots(&disk, core.dir()).unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(snapshots(), bases);
    let (kept, gone) = bases.split_at(bases.len() / 2);
    assert!(kept.len() > 1);
    assert!(gone.len() > 1);
    core.truncation(*kept.last().unwrap()).make().unwrap();
    assert_eq!(snapshots(), kept);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let core = create(&FaultyDisk::failing_at(0));
    let long = "v".repeat(500);
    assert!(matches!(
        append(&core, 0, &[&long]),
        Err(Error::RecordTooLarge {
            key: "segment.bytes",
            ..
        })
    ));
    assert_eq!(core.log_end_offset(), 0);
}

#[test]
fn batch_covers_earlier_ones_until_the_partition_is_cut_or_reopened() {
    let core = create(&FaultyDisk::failing_at(0));
    let append = |sequence| core.append_encoded(&mut batch(sequence, &["a"])).unwrap();
    let (first, second) = (append(0), append(1));
    assert!(second.covers(&first) && second.covers(&second));
    assert!(!first.covers(&second), "the second is not below its end");
    core.truncation(2).make().unwrap();
    core.truncation(1).make().unwrap();
    let after_a_cut = append(1);
    assert!(!after_a_cut.covers(&first), "the cut may have removed it");
}

#[test]
fn sync_of_a_batch_is_settled_once_it_was_synced_or_has_failed() {
    let disk = FaultyDisk::failing_at(0);
    let core = create(&disk);
    let append = |sequence| core.append_encoded(&mut batch(sequence, &["a"])).unwrap();
    let first = append(0);
    assert!(!core.is_sync_settled(&first));
    core.sync_appended(&first).unwrap();
    assert!(core.is_sync_settled(&first));
    let second = append(1);
    assert!(!core.is_sync_settled(&second));
    disk.set_fault(Some(Fault::AnyForGood));
    core.sync_appended(&second).unwrap_err();
    assert!(
        core.is_sync_settled(&second),
        "a later sync would fail at once"
    );
}
