//! Compaction on a disk that fails at one call, for every call: no record is lost, and the next
//! opening finishes or undoes whatever the failure interrupted.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::Durability;
use crate::format::record::Record;
use crate::partition::{KeepOpen, Partition, PartitionContext, PartitionSpec};
use crate::storage::Storage;
use crate::storage::faulty::{Fault, FaultyDisk};

mod expired;
mod splitting;

const DIR: &str = "/data/t-0";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn context(disk: &(impl Storage + Clone)) -> Arc<PartitionContext> {
    Arc::new(PartitionContext::for_tests(disk.clone()))
}

fn spec(recovery_point: u64, segment_bytes: u32, file_delete_delay_ms: i64) -> PartitionSpec {
    let settings = TopicSettings {
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes,
        index_interval_bytes: 80,
        file_delete_delay_ms,
        ..TopicSettings::unconfigured()
    };
    PartitionSpec {
        recovery_point,
        is_dense: false,
        ..PartitionSpec::for_tests(0, settings)
    }
}

fn handle(core: &Arc<PartitionCore>) -> Partition {
    Partition::new(Arc::clone(core), Durability::Os, KeepOpen::nothing())
}

fn compact(core: &PartitionCore) -> Result<Maintenance> {
    compact_into(core, MAX_LOG_BYTES)
}

/// Compacts into segments of at most `max_log_bytes` bytes.
fn compact_into(core: &PartitionCore, max_log_bytes: u32) -> Result<Maintenance> {
    core.compact(
        NOW,
        &mut Allowance {
            max_log_bytes,
            ..Allowance::new(1 << 20, &mut || true)
        },
    )
}

/// Offset and value of the latest record of each key.
type View = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

fn view(core: &Arc<PartitionCore>) -> View {
    let mut reader = handle(core).read(..).unwrap();
    let mut view = BTreeMap::new();
    while let Some(record) = reader.next_record().unwrap() {
        view.insert(
            record.key().unwrap().to_vec(),
            (record.offset(), record.value().map(<[u8]>::to_vec)),
        );
    }
    view
}

fn leftovers(disk: &impl Storage) -> Vec<String> {
    let names = disk
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name);
    names
        .filter(|name| name.contains(".cleaned") || name.contains(".swap"))
        .collect()
}

/// Appends records that fill several small segments.
fn fill(core: &Arc<PartitionCore>) {
    let partition = handle(core);
    for number in 0..30_u32 {
        let key = format!("key {}", number * number % 7);
        let record = if number % 5 == 4 {
            Record::tombstone(key)
        } else {
            Record::new(number.to_string()).key(key)
        };
        partition.append(record).unwrap();
    }
    core.flush().unwrap();
}

/// Compacts with call `fails_at` failing, and checks the records before and after a restart.
/// Returns whether that call was reached.
fn run(fault: Fault, fails_at: usize, delete_delay_ms: i64, max_log_bytes: u32) -> bool {
    let disk = FaultyDisk::failing_at(fails_at);
    let case =
        format!("{fault:?} at call {fails_at}, delay {delete_delay_ms}, into {max_log_bytes}");
    let core = PartitionCore::create(&context(&disk), &spec(0, 300, delete_delay_ms)).unwrap();
    fill(&core);
    core.set_settings(spec(0, 900, delete_delay_ms).settings);
    let before = view(&core);
    let mut reader = handle(&core).read(..).unwrap();
    let first = reader.next_record().unwrap().unwrap().offset();
    disk.set_fault(Some(fault));
    let compacted = compact_into(&core, max_log_bytes);
    assert_eq!(view(&core), before, "{case}");
    if !disk.has_failed() {
        let compacted = compacted.unwrap();
        assert!(compacted.records_removed > 0);
        assert!(leftovers(&disk).is_empty());
        return false;
    }
    disk.set_fault(None);
    assert_eq!((first, view(&core)), (0, before.clone()), "{case}");
    while let Some(record) = reader.next_record().unwrap() {
        assert!(record.offset() > 0, "{case}");
    }
    // Any change that is not half done can be repeated now.
    let again = compact_into(&core, max_log_bytes);
    let is_poisoned = matches!(again, Err(Error::Poisoned { .. }));
    assert!(is_poisoned || again.is_ok(), "{case}: {again:?}");
    assert_eq!(
        handle(&core).append(Record::new("x").key("more")).is_err(),
        is_poisoned,
        "{case}"
    );
    let expected = view(&core);
    let recovery_point = core.recovery_point();
    if is_poisoned {
        check_reopen(&core, &disk, &expected, &case);
    }
    let expected = view(&core);
    drop((core, reader));
    let (core, recovery) =
        PartitionCore::open(&context(&disk), &spec(recovery_point, 900, delete_delay_ms))
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(recovery.damage.is_none(), "{case}: {recovery:?}");
    assert_eq!(view(&core), expected, "{case}, after opening");
    assert!(
        leftovers(&disk).is_empty(),
        "{case}: {:?}",
        leftovers(&disk)
    );
    compact(&core).unwrap();
    assert_eq!(view(&core), expected, "{case}, after another pass");
    true
}

/// Checks that reading continues, and that writing and compacting work again after `reopen`.
fn check_reopen(core: &Arc<PartitionCore>, disk: &FaultyDisk, expected: &View, case: &str) {
    let mut reader = handle(core).read(..).unwrap();
    let _on_a_segment = reader.next_record().unwrap();
    let report = core
        .reopen()
        .unwrap_or_else(|error| panic!("{case}: {error}"))
        .take_writes();
    let is_half_done = leftovers(disk).iter().any(|name| name.contains(".swap"));
    assert!(report.damage.is_none(), "{case}: {report:?}");
    assert!(!is_half_done, "{case}: {report:?}");
    assert_eq!(view(core), *expected, "{case}, after reopen");
    while reader
        .next_record()
        .unwrap_or_else(|error| panic!("{case}: {error}"))
        .is_some()
    {}
    handle(core)
        .append(Record::new("x").key("after that"))
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    compact(core).unwrap_or_else(|error| panic!("{case}: {error}"));
}

#[test]
fn failed_call_during_compaction_loses_no_record() {
    for fault in [
        Fault::Full,
        Fault::FullForGood,
        Fault::Any,
        Fault::AnyForGood,
    ] {
        for delete_delay_ms in [0, 1_000] {
            for max_log_bytes in [MAX_LOG_BYTES, 250] {
                let runs = (0..10_000)
                    .take_while(|fails_at| run(fault, *fails_at, delete_delay_ms, max_log_bytes))
                    .count();
                assert!(runs > 5, "{fault:?}: {runs} runs");
            }
        }
    }
}

#[test]
fn pass_ends_when_the_callback_returns_false() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = PartitionCore::create(&context(&disk), &spec(0, 300, 0)).unwrap();
    fill(&core);
    let before = view(&core);
    for batches in 0..200 {
        let mut left = batches;
        let mut may_continue = || {
            left -= 1;
            left >= 0
        };
        core.compact(NOW, &mut Allowance::new(1 << 20, &mut may_continue))
            .unwrap();
        assert_eq!(view(&core), before);
        assert!(leftovers(&disk).is_empty());
    }
    assert!(core.cleaned_end().is_some_and(|end| end > 20));
}

#[test]
fn compaction_reports_damage_and_leaves_it_in_place() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = PartitionCore::create(&context(&disk), &spec(0, 300, 0)).unwrap();
    fill(&core);
    let damaged = handle(&core).segments()[2].clone();
    let file = disk
        .open(&damaged.path, crate::storage::Access::Write)
        .unwrap();
    file.write_all_at(b"?", 70).unwrap();
    let Err(Error::Corrupt(damage)) = compact(&core) else {
        panic!("compaction did not report the damage")
    };
    assert_eq!(
        (damage.path, damage.offsets.start),
        (damaged.path, damaged.base_offset)
    );
    assert!(leftovers(&disk).is_empty());
    assert!(core.cleaned_end().is_none());
    assert!(handle(&core).append(Record::new("x").key("more")).is_ok());
}

#[test]
fn batch_in_an_unknown_codec_is_left_alone() {
    const CODEC_5: u16 = 5;
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = PartitionCore::create(&context(&disk), &spec(0, 300, 0)).unwrap();
    fill(&core);
    let segment = handle(&core).segments()[2].clone();
    let file = disk
        .open(&segment.path, crate::storage::Access::Write)
        .unwrap();
    let mut batch = vec![0; 61];
    file.read_at(&mut batch, 0).unwrap();
    let header = BatchHeader::decode(&batch).unwrap();
    batch.resize(header.size_bytes as usize, 0);
    file.read_at(&mut batch, 0).unwrap();
    BatchHeader {
        attributes: CODEC_5,
        ..header
    }
    .write(&mut batch);
    file.write_all_at(&batch, 0).unwrap();
    let done = compact(&core).unwrap();
    assert_eq!(done.batches_left_alone, 1, "{done:?}");
    assert!(done.records_removed > 0, "{done:?}");
    let kept = crate::storage::read_file(&disk, &segment.path, 1 << 20).unwrap();
    assert!(kept.starts_with(&batch), "the bytes of the batch changed");
}

#[test]
fn segments_are_grouped_by_their_sizes_before_the_pass() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = PartitionCore::create(&context(&disk), &spec(0, 300, 0)).unwrap();
    fill(&core);
    let bases = |core: &Arc<PartitionCore>| {
        handle(core)
            .segments()
            .iter()
            .map(|info| info.base_offset)
            .collect::<Vec<_>>()
    };
    let before = bases(&core);
    let extent = Extent::of(&core, NOW).unwrap();
    let sizes: Vec<_> = extent
        .segments
        .iter()
        .map(|segment| segment.size())
        .collect();
    let count = |limit: TopicSettings| {
        let pass = Pass {
            partition: &core,
            truncations: 0,
            settings: &limit,
            extent: &extent,
            now: NOW,
            legacy_horizon: 0,
        };
        pass.groups(&extent.segments)
            .unwrap()
            .iter()
            .map(|group| group.len())
            .collect::<Vec<_>>()
    };
    let settings = spec(0, 300, 0).settings;
    assert_eq!(count(settings.clone()), vec![1; before.len() - 1]);
    let pair = TopicSettings {
        segment_bytes: sizes[0] + sizes[1],
        ..settings.clone()
    };
    assert_eq!(count(pair)[0], 2);
    let all = TopicSettings {
        segment_bytes: 1 << 20,
        ..settings
    };
    assert_eq!(count(all.clone()), [before.len() - 1]);
    let by_indexes = count(TopicSettings {
        segment_index_bytes: 40,
        ..all
    });
    assert!(by_indexes.len() > 1 && by_indexes[0] > 1, "{by_indexes:?}");
}
