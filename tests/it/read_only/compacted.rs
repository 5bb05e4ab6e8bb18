//! A read-only log that reads as fast as it can while the writer compacts: no key is ever missing,
//! and no read fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::{CleanupPolicy, Log, Partition, TopicConfig};

const KEYS: usize = 20;
const ROUNDS: usize = 25;

/// Returns the latest round of each key.
fn latest(partition: &Partition) -> BTreeMap<String, usize> {
    let mut latest = BTreeMap::new();
    let mut reader = partition.read(..).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
        latest.insert(key, record.text().parse().unwrap());
    }
    latest
}

fn append(partition: &Partition, round: usize) {
    for key in 0..KEYS {
        // The first keys are written in every round, and the later ones less often.
        if round.is_multiple_of(key / 4 + 1) {
            partition
                .append((format!("key {key}"), round.to_string()))
                .unwrap();
        }
    }
}

#[test]
fn every_key_is_found_while_the_writer_compacts() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Log::open(dir.path()).unwrap();
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(600);
    let written = writer
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    append(&written, 0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                append(&written, round);
                written.compact().unwrap();
            }
            is_over.store(true, Ordering::Release);
        });
        let open = Log::open_read_only(dir.path()).unwrap();
        let (mut before, mut looks) = (latest(&super::partition(&open)), 0);
        while !is_over.load(Ordering::Acquire) {
            let opened_now = if looks % 4 == 0 {
                Some(Log::open_read_only(dir.path()).unwrap())
            } else {
                None
            };
            let partition = super::partition(opened_now.as_ref().unwrap_or(&open));
            assert_eq!(partition.log_start_offset(), 0);
            let found = latest(&partition);
            assert_eq!(found.len(), KEYS, "read {looks}");
            assert!(
                before.iter().all(|(key, round)| found[key] >= *round),
                "read {looks}: {before:?}, then {found:?}"
            );
            (before, looks) = (found, looks + 1);
        }
        assert!(looks > 5, "only {looks} reads");
        assert_eq!(latest(&super::partition(&open)), latest(&written));
    });
}
