//! A segment with offsets that are 2^31 and more above its base, as brokers before 2.0 left it
//! after a compaction. No index entry can point to such offsets, but every record is found.

use std::fs;
use std::path::Path;

use annals::inspect::{salvage, verify};
use annals::{CleanupPolicy, Log, OffsetSpec, Partition, Record, Timestamp, TopicConfig};

use super::{consume, copy_of, offsets, only};

const CASE: &str = "far-offsets";
const FAR: u64 = 1 << 31;
const FARTHER: u64 = 1 << 33;
const ALL: [u64; 5] = [0, 5, FAR, FARTHER, FARTHER + 1];

/// Returns the base offsets of the `.log` files in a directory.
fn bases(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut bases: Vec<_> = names
        .filter_map(|name| name.strip_suffix(".log").map(|base| base.parse().unwrap()))
        .collect();
    bases.sort_unstable();
    bases
}

/// Checks that every record is found from the offset after its predecessor and from its own.
fn check(partition: &Partition, all: &[u64]) {
    assert_eq!(offsets(partition), all);
    for (number, offset) in all.iter().enumerate() {
        let before = number.checked_sub(1).map_or(0, |before| all[before] + 1);
        for from in [before, *offset] {
            let found = partition
                .read(from..)
                .unwrap()
                .next_record()
                .unwrap()
                .map(|record| record.offset());
            assert_eq!(found, Some(*offset), "from {from}");
        }
    }
}

/// Sets the times of the records, so that they rise with the offsets.
fn set_times(root: &Path) {
    for (file, starts) in [
        ("00000000000000000000", &[0_usize, 72, 144, 225][..]),
        ("00000000008589934593", &[0]),
    ] {
        let path = root.join(format!("t-0/{file}.log"));
        let mut bytes = fs::read(&path).unwrap();
        for start in starts {
            let size =
                12 + u32::from_be_bytes(bytes[start + 8..start + 12].try_into().unwrap()) as usize;
            let batch = &mut bytes[*start..start + size];
            let offset = i64::from_be_bytes(batch[..8].try_into().unwrap());
            super::edit(batch, 27, &(1_000 + offset).to_be_bytes());
            super::edit(batch, 35, &(1_000 + offset).to_be_bytes());
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_record_is_read_and_no_byte_is_cut() {
    for closes in [true, false] {
        let (_dir, root) = copy_of(CASE);
        let first = root.join("t-0/00000000000000000000.log");
        let before = fs::read(&first).unwrap();
        check(&only(&Log::open_read_only(&root).unwrap()), &ALL);
        for _ in 0..2 {
            let log = Log::open(&root).unwrap();
            assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
            check(&only(&log), &ALL);
            assert_eq!(only(&log).log_end_offset(), FARTHER + 2);
            if closes {
                log.close().unwrap();
            }
            assert_eq!(fs::read(&first).unwrap(), before);
        }
        assert_eq!(verify(root.join("t-0")).unwrap(), []);
    }
}

#[test]
fn an_append_after_far_offsets_begins_a_segment() {
    for closes in [true, false] {
        let (_dir, root) = copy_of(CASE);
        fs::remove_file(root.join("t-0/00000000008589934593.log")).unwrap();
        for round in 1..3 {
            let log = Log::open(&root).unwrap();
            let partition = only(&log);
            assert_eq!(partition.append("new").unwrap().offset, FARTHER + round);
            log.flush().unwrap();
            if closes {
                log.close().unwrap();
            }
        }
        assert_eq!(bases(&root.join("t-0")), [0, FARTHER + 1]);
        let log = Log::open(&root).unwrap();
        check(&only(&log), &[0, 5, FAR, FARTHER, FARTHER + 1, FARTHER + 2]);
        drop(log);
        assert_eq!(verify(root.join("t-0")).unwrap(), []);
    }
}

#[test]
fn a_time_is_found_in_a_batch_without_an_index_entry() {
    for closes in [true, false] {
        let (_dir, root) = copy_of(CASE);
        set_times(&root);
        fs::remove_file(root.join("t-0/00000000008589934593.log")).unwrap();
        for _ in 0..3 {
            let log = Log::open(&root).unwrap();
            let partition = only(&log);
            for offset in &ALL[..4] {
                let at = Timestamp::from_millis(1_000 + i64::try_from(*offset).unwrap());
                assert_eq!(
                    partition.offset_for(at).unwrap().map(|found| found.offset),
                    Some(*offset)
                );
            }
            let max = partition
                .offset_for(OffsetSpec::MaxTimestamp)
                .unwrap()
                .map(|found| found.offset);
            assert_eq!(max, Some(FARTHER));
            if partition.log_end_offset() == FARTHER + 1 {
                // The append begins a segment. From now on the segment with the far offsets is
                // sealed, and its index is in files.
                partition
                    .append(Record::new("old").timestamp(Timestamp::from_millis(0)))
                    .unwrap();
            }
            if closes {
                log.close().unwrap();
            }
        }
    }
}

#[test]
fn a_truncation_cuts_between_far_offsets() {
    for (end, left) in [
        (FARTHER + 1, 4),
        (FARTHER, 3),
        (FAR + 7, 3),
        (FAR, 2),
        (3, 1),
    ] {
        let (_dir, root) = copy_of(CASE);
        let log = Log::open(&root).unwrap();
        let partition = only(&log);
        partition.truncate_to(end).unwrap();
        assert_eq!(partition.log_end_offset(), end);
        check(&partition, &ALL[..left]);
        assert_eq!(partition.append("new").unwrap().offset, end);
        log.close().unwrap();
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        check(&only(&log), &[&ALL[..left], &[end]].concat());
    }
}

#[test]
fn a_compaction_splits_far_offsets_into_segments() {
    let (_dir, root) = copy_of(CASE);
    let log = Log::open(&root).unwrap();
    log.topic("t")
        .unwrap()
        .update_config(
            TopicConfig::new()
                .cleanup_policy(CleanupPolicy::Compact)
                .segment_bytes(200),
        )
        .unwrap();
    let partition = only(&log);
    partition
        .append(Record::new(vec![0; 120]).key("k5"))
        .unwrap();
    partition.compact().unwrap();
    // The record at 2^31 has the same key as the one at 2^33 + 1, so it is removed. The new record
    // is in the active segment.
    let left = [0, 5, FARTHER, FARTHER + 1, FARTHER + 2];
    assert_eq!(
        bases(&root.join("t-0")),
        [0, FARTHER, FARTHER + 1, FARTHER + 2]
    );
    assert_eq!(offsets(&partition), left);
    partition.compact().unwrap();
    assert_eq!(offsets(&partition), left);
    log.close().unwrap();
    let log = Log::open(&root).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(offsets(&only(&log)), left);
    drop(log);
    assert_eq!(verify(root.join("t-0")).unwrap(), []);
}

#[test]
fn a_compaction_that_removes_no_record_splits_far_offsets_too() {
    let (_dir, root) = copy_of(CASE);
    let log = Log::open(&root).unwrap();
    log.topic("t")
        .unwrap()
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))
        .unwrap();
    assert!(only(&log).compact().unwrap().segments_compacted > 0);
    assert_eq!(bases(&root.join("t-0")), [0, FAR, FARTHER, FARTHER + 1]);
    check(&only(&log), &ALL);
}

#[test]
fn salvage_splits_far_offsets_into_segments() {
    let (dir, root) = copy_of(CASE);
    let to = dir.path().join("salvaged-0");
    let salvaged = salvage(root.join("t-0"), &to).unwrap();
    assert_eq!(
        (salvaged.records, salvaged.lost.len()),
        (5, 0),
        "{:?}",
        salvaged.lost
    );
    check(&Partition::open(&to, TopicConfig::new()).unwrap(), &ALL);
    assert_eq!(bases(&to), [0, FAR, FARTHER, FARTHER + 1]);
    assert_eq!(verify(&to).unwrap(), []);
}

#[test]
fn a_consumer_gets_far_offsets_and_commits_after_them() {
    let (_dir, root) = copy_of(CASE);
    let log = Log::open(&root).unwrap();
    assert_eq!(consume(&log), (ALL.to_vec(), FARTHER + 2));
}
