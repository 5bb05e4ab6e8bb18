//! Damage just below the recovery point, and good records on both sides of it.

use std::ops::Range;

use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

const COUNT: usize = 12;
const RECOVERY_POINT: u64 = 5;

/// Writes one segment, of whose `COUNT` batches the last are synced but above the recovery point.
/// Damages the batch `damaged` and opens the partition.
fn opened(damaged: usize, interval: u32) -> (Arc<PartitionCore>, PartitionRecovery) {
    let disk = MemoryDisk::new();
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 1 << 20;
    spec.settings.index_interval_bytes = interval;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    let mut starts = Vec::new();
    for number in 0..COUNT {
        if number as u64 == RECOVERY_POINT {
            core.flush().unwrap();
        }
        starts.push(core.segments().snapshot()[0].size() as usize);
        core.append(Durability::Synced, ["a value"]).unwrap();
    }
    assert_eq!(core.recovery_point(), RECOVERY_POINT);
    drop(core);
    let mut bytes = read_file(&disk, LOG.as_ref(), 1 << 20).unwrap();
    bytes[starts[damaged] + 65] ^= 1;
    put(&disk, LOG, &bytes);
    let spec = PartitionSpec {
        recovery_point: RECOVERY_POINT,
        ..spec
    };
    PartitionCore::open(&context(&disk), &spec).unwrap()
}

/// Returns the offsets of the reported damage. An opening checks no batch before the index entry
/// below the recovery point.
fn lost(report: PartitionRecovery) -> Option<Range<u64>> {
    match report.damage {
        Some(Error::Corrupt(damage)) => Some(damage.offsets),
        other => {
            assert!(other.is_none(), "{other:?}");
            None
        }
    }
}

#[test]
fn damage_below_the_recovery_point_hides_no_record_above_it() {
    let mut reported = 0;
    for (damaged, interval) in (0..5).flat_map(|damaged| [(damaged, 80), (damaged, 1 << 20)]) {
        let (core, report) = opened(damaged, interval);
        let case = format!("batch {damaged}, an entry every {interval} bytes");
        let damaged = damaged as u64;
        if let Some(lost) = lost(report) {
            assert_eq!(lost, damaged..damaged + 1, "{case}");
            reported += 1;
        }
        assert_eq!(core.log_end_offset(), COUNT as u64, "{case}");
        let options = ReadOptions::new().skip_corrupt(true);
        let mut reader = Reader::new(&core, KeepOpen::nothing(), &(..), options).unwrap();
        let mut read = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            read.push(record.offset());
        }
        let others: Vec<u64> = (0..COUNT as u64).filter(|at| *at != damaged).collect();
        assert_eq!(read, others, "{case}");
    }
    assert!(reported > 5, "{reported}");
}

#[test]
fn cut_at_the_damage_keeps_the_records_before_it() {
    for damaged in 0..5 {
        let (core, report) = opened(damaged, 1 << 20);
        let lost = lost(report).unwrap();
        core.truncation(lost.start).make().unwrap();
        assert_eq!(read(&core).unwrap().len(), damaged);
        core.append(Durability::Os, ["a value"]).unwrap();
    }
}
