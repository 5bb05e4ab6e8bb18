//! Groups of segments whose kept batches do not fit into one segment.

use std::collections::HashSet;

use super::*;
use crate::clock::Timestamp;
use crate::config::Compression;
use crate::format::batch::BatchBuilder;
use crate::format::index_entry::AbortedTransaction;
use crate::partition::remove::exchange::CleanedSegment;
use crate::storage::{MemoryDisk, SimulatedDisk};

/// The size of two batches.
const LIMIT: u32 = 160;

fn bases(core: &Arc<PartitionCore>) -> Vec<u64> {
    handle(core)
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect()
}

/// Creates a partition whose sealed segments are one group to compaction.
fn one_group(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    let core = PartitionCore::create(&context(disk), &spec(0, 300, 0)).unwrap();
    fill(&core);
    core.set_settings(spec(0, 1 << 20, 0).settings);
    core
}

fn batch(base_offset: u64) -> (BatchHeader, Vec<u8>) {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder
        .push(&("key", "value").into(), NOW.as_millis())
        .unwrap();
    let mut bytes = builder.finish(&TopicSettings::default()).unwrap();
    batch::stamp(&mut bytes, base_offset, 0);
    (BatchHeader::decode(&bytes).unwrap(), bytes)
}

fn output(disk: &(impl Storage + Clone), base_offset: u64, max_log_bytes: u32) -> Output {
    let core = PartitionCore::create(&context(disk), &spec(0, 300, 0)).unwrap();
    Output::create(core.home(), base_offset, 80, max_log_bytes).unwrap()
}

/// Base offset, next offset and size of each segment.
fn parts(written: &[CleanedSegment]) -> Vec<(u64, u64, u32)> {
    written
        .iter()
        .map(|segment| (segment.base_offset, segment.next_offset, segment.log_bytes))
        .collect()
}

#[test]
fn group_that_does_not_fit_into_one_segment_becomes_several() {
    let disk = MemoryDisk::new();
    let core = one_group(&disk);
    let (before, end) = (view(&core), core.log_end_offset());
    assert!(compact_into(&core, LIMIT).unwrap().records_removed > 0);
    let segments = handle(&core).segments();
    let (_active, sealed) = segments.split_last().unwrap();
    assert_eq!(sealed.len(), 2, "{sealed:?}");
    for segment in sealed {
        assert!(segment.bytes > 0, "{sealed:?}");
        assert!(segment.bytes <= LIMIT.into(), "{sealed:?}");
    }
    assert_eq!(view(&core), before);
    let left: Vec<u64> = handle(&core)
        .read(..)
        .unwrap()
        .map(|batch| batch.unwrap().offsets().start)
        .collect();
    for offset in 0..end {
        let mut reader = handle(&core).read(offset..).unwrap();
        let next = left.iter().copied().find(|at| *at >= offset);
        assert_eq!(
            reader.next_record().unwrap().map(|record| record.offset()),
            next,
            "from {offset}"
        );
    }
    assert!(leftovers(&disk).is_empty());
    let (bases_before, recovery_point) = (bases(&core), core.recovery_point());
    drop(core);
    let (core, _) = PartitionCore::open(&context(&disk), &spec(recovery_point, 300, 0)).unwrap();
    assert_eq!((view(&core), bases(&core)), (before, bases_before));
}

#[test]
fn batch_larger_than_the_limit_gets_its_own_segment() {
    let disk = MemoryDisk::new();
    let mut output = output(&disk, 0, 10);
    for offset in [3, 4, 9] {
        let (header, bytes) = batch(offset);
        output.push(&header, &bytes).unwrap();
    }
    assert!(output.is_split());
    let size = batch(0).0.size_bytes;
    assert_eq!(
        parts(&output.finish(20, NOW).unwrap()),
        [(0, 4, size), (4, 9, size), (9, 20, size)]
    );
}

#[test]
fn offsets_in_one_segment_are_less_than_2_to_the_31_apart() {
    const FAR: u64 = 1 << 31;
    let disk = MemoryDisk::new();
    let mut output = output(&disk, 10, MAX_LOG_BYTES);
    let size = batch(0).0.size_bytes;
    for offset in [10, FAR + 9, FAR + 10, FAR + 11] {
        let (header, bytes) = batch(offset);
        output.push(&header, &bytes).unwrap();
    }
    // A wrapper of an older format states only the last of its offsets.
    let (header, bytes) = batch(3 * FAR);
    output
        .push(&BatchHeader { magic: 1, ..header }, &bytes)
        .unwrap();
    let expected = [
        (10, FAR + 10, 2 * size),
        (FAR + 10, 2 * FAR + 1, 2 * size),
        (2 * FAR + 1, 4 * FAR, size),
    ];
    assert_eq!(parts(&output.finish(4 * FAR, NOW).unwrap()), expected);
}

#[test]
fn aborted_transaction_is_noted_in_the_segment_of_its_marker() {
    let disk = MemoryDisk::new();
    let mut output = output(&disk, 0, 10);
    for offset in [0, 1, 2] {
        if offset == 1 {
            let transaction = AbortedTransaction {
                producer_id: 7,
                first_offset: 0,
                last_offset: 1,
                last_stable_offset: 2,
            };
            output.push_aborted(transaction);
        }
        let (header, bytes) = batch(offset);
        output.push(&header, &bytes).unwrap();
    }
    let written = output.finish(3, NOW).unwrap();
    let has_index: Vec<_> = written
        .iter()
        .map(|segment| segment.digests[2].0 > 0)
        .collect();
    assert_eq!(has_index, [false, true, false]);
}

#[test]
fn dropped_output_leaves_no_file() {
    let disk = MemoryDisk::new();
    let mut output = output(&disk, 0, 10);
    for offset in [0, 1] {
        let (header, bytes) = batch(offset);
        output.push(&header, &bytes).unwrap();
    }
    assert_eq!(leftovers(&disk).len(), 2);
    drop(output);
    assert!(leftovers(&disk).is_empty());
}

#[test]
fn power_cut_while_output_is_split_loses_no_record() {
    let clock = crate::clock::ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let mut seen = HashSet::new();
    for call in 0.. {
        let disk = SimulatedDisk::with_clock(call, clock.clone());
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let core = one_group(&disk);
        disk.sync_dir(Path::new("/data")).unwrap();
        let (before, recovery_point) = (view(&core), core.recovery_point());
        disk.cut_power_at(disk.calls() + call);
        let compacted = compact_into(&core, LIMIT);
        if !disk.has_lost_power() {
            compacted.unwrap();
            break;
        }
        drop(core);
        let in_order: Vec<_> = disk.crash_states().take(16).chain([disk.fork()]).collect();
        for left in in_order.into_iter().chain((0..8).map(|_| disk.crash())) {
            if !seen.insert(left.fingerprint()) {
                continue;
            }
            let case = format!("call {call}, state {}", seen.len());
            let (core, report) =
                PartitionCore::open(&context(&left), &spec(recovery_point, 300, 0))
                    .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert!(report.damage.is_none(), "{case}: {report:?}");
            assert_eq!(view(&core), before, "{case}");
            assert!(
                leftovers(&left).is_empty(),
                "{case}: {:?}",
                leftovers(&left)
            );
            compact_into(&core, LIMIT).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(view(&core), before, "{case}, after another pass");
        }
    }
    assert!(seen.len() > 300, "only {} states", seen.len());
}
