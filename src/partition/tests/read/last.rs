//! Reads of the last records, in a log in which many offsets have no record.

use crate::config::Compression;
use crate::format::batch::{BatchBuilder, BatchHeader, Packing, emptied, retained, stamp};
use crate::partition::read::last::read_last;
use crate::partition::tests::write::appending::lone_batch;
use crate::partition::tests::*;
use crate::storage::MemoryDisk;

/// Returns a batch of four records from the offset `base` on, as compaction leaves it: with those
/// that `kept` selects.
fn compacted(base: u64, kept: [bool; 4]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    for value in ["a", "b", "c", "d"] {
        builder
            .push(&Record::new(value), 1_700_000_000_000)
            .unwrap();
    }
    let settings = TopicSettings::unconfigured();
    let mut bytes = builder.finish(&settings).unwrap();
    stamp(&mut bytes, base, 0);
    let header = BatchHeader::decode(&bytes).unwrap();
    let mut out = Vec::new();
    if kept == [false; 4] {
        emptied(&header, &mut out);
        return out;
    }
    let packing = Packing {
        settings: &settings,
        max_decompressed_bytes: 1 << 20,
        must_shrink: false,
    };
    retained(&header, &bytes, None, &kept, None, packing, &mut out).unwrap();
    out
}

/// Creates a log with gaps between batches and within them, and with a batch without records.
fn with_gaps(disk: &MemoryDisk) -> Arc<PartitionCore> {
    let core = written(disk, 0, 1);
    core.close(true).unwrap();
    drop(core);
    let batches = [
        compacted(1, [true, false, false, true]),
        compacted(5, [false; 4]),
        lone_batch(20),
        compacted(21, [false, true, true, false]),
        compacted(25, [true; 4]),
        lone_batch(90),
        compacted(91, [true, false, true, true]),
    ];
    let file = disk.open(LOG.as_ref(), Access::Write).unwrap();
    file.write_all_at(&batches.concat(), file.bytes().unwrap())
        .unwrap();
    let mut spec = spec(0, 0, i64::MAX);
    (spec.is_dense, spec.settings.segment_bytes) = (false, 1 << 20);
    let (core, report) = PartitionCore::open(&context(disk), &spec).unwrap();
    assert_eq!((report.damage.is_none(), report.bytes_cut), (true, 0));
    core
}

fn last(core: &Arc<PartitionCore>, records: u64) -> Vec<u64> {
    let mut reader = read_last(core, &KeepOpen::nothing(), records).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}

#[test]
fn last_records_are_found_where_offsets_have_no_record() {
    let core = with_gaps(&MemoryDisk::new());
    let all = [0, 1, 4, 20, 22, 23, 25, 26, 27, 28, 90, 91, 93, 94];
    assert_eq!(last(&core, u64::MAX), all);
    for wanted in 0..=all.len() + 2 {
        let expected = &all[all.len().saturating_sub(wanted)..];
        assert_eq!(last(&core, wanted as u64), expected, "the last {wanted}");
    }
}

#[test]
fn last_records_do_not_begin_before_the_log_start() {
    let core = with_gaps(&MemoryDisk::new());
    core.delete_records_before(22).unwrap();
    assert_eq!(last(&core, 9), [23, 25, 26, 27, 28, 90, 91, 93, 94]);
    assert_eq!(last(&core, 11), [22, 23, 25, 26, 27, 28, 90, 91, 93, 94]);
}

#[test]
fn batch_counts_the_records_that_it_returns() {
    let core = with_gaps(&MemoryDisk::new());
    let counts = |offsets: std::ops::Range<u64>| -> Vec<u64> {
        let options = ReadOptions::new();
        Reader::new(&core, KeepOpen::nothing(), &offsets, options)
            .unwrap()
            .map(|batch| batch.unwrap().count().unwrap())
            .filter(|count| *count > 0)
            .collect()
    };
    assert_eq!(counts(0..95), [1, 2, 1, 2, 4, 1, 3]);
    assert_eq!(counts(23..27), [1, 2]);
}
