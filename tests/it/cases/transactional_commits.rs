//! Positions that were committed in transactions. A position is in force once its transaction is
//! committed. The order of the records decides, not that of the markers, as in Kafka.

use std::path::Path;

use annals::{Log, OffsetAndMetadata, TopicPartition};

use super::copy_of;

/// For each partition: the story of its records in `__consumer_offsets`, and the position.
const STORIES: [(&str, Option<u64>); 13] = [
    ("1 in a committed transaction", Some(1)),
    ("1 in an aborted transaction", None),
    ("1 in an open transaction", None),
    ("5, then 9 in an aborted transaction", Some(5)),
    ("3 in a transaction, then 2, then the commit", Some(2)),
    ("5, then 4 in a committed transaction", Some(4)),
    ("3 in a transaction, then deleted, then the commit", None),
    ("5, then 9 in an open transaction", Some(5)),
    ("1 committed, then 2 aborted, by the same producer", Some(1)),
    ("1, 7 and 3 in the same transaction", Some(3)),
    (
        "3, then 4 in another transaction, which ends first",
        Some(4),
    ),
    (
        "3, then 4 in another transaction, which is aborted",
        Some(3),
    ),
    ("6, after the start of an open transaction", Some(6)),
];

fn partition(number: usize) -> TopicPartition {
    ("t", u32::try_from(number).unwrap()).into()
}

fn check(log: &Log, label: &str) {
    let group = log.consumer_group("g").unwrap();
    for (number, (story, expected)) in STORIES.into_iter().enumerate() {
        let next = group.committed(&partition(number)).unwrap();
        let offset = next.map(|next| next.offset);
        assert_eq!(offset, expected, "{label}: {story}");
    }
    let described = group.describe().unwrap().positions;
    let described = described.into_iter().map(|position| position.committed);
    let offsets: Vec<_> = described.map(|next| next.map(|next| next.offset)).collect();
    assert_eq!(offsets, STORIES.map(|(_, expected)| expected), "{label}");
}

fn open(root: &Path) -> Log {
    Log::open(root).unwrap()
}

#[test]
fn positions_are_in_force_once_their_transaction_is_committed() {
    let (_dir, root) = copy_of("transactional-commits");
    let log = open(&root);
    check(&log, "open");
    let read_only = Log::open_read_only(&root).unwrap();
    check(&read_only, "read-only");
    log.close().unwrap();
    let log = open(&root);
    check(&log, "open again");
}

#[test]
fn compaction_keeps_the_positions_that_are_in_force() {
    let (_dir, root) = copy_of("transactional-commits");
    let log = open(&root);
    let group = log.consumer_group("g").unwrap();
    // Configures the topic, so that it is compacted.
    let next = OffsetAndMetadata::from(6);
    group.commit([(partition(12), next)]).unwrap();
    let offsets = log.topic("__consumer_offsets").unwrap();
    let offsets = offsets.partition(0).unwrap();
    offsets.roll().unwrap();
    let done = offsets.compact().unwrap();
    assert!(done.records_removed > 0, "{done:?}");
    check(&log, "compacted");
    log.close().unwrap();
    check(&open(&root), "open again");
}

#[test]
fn a_later_commit_replaces_those_of_transactions() {
    let (_dir, root) = copy_of("transactional-commits");
    let log = open(&root);
    let group = log.consumer_group("g").unwrap();
    let all = (0..STORIES.len()).map(|number| (partition(number), OffsetAndMetadata::from(8)));
    group.commit(all).unwrap();
    log.close().unwrap();
    let log = open(&root);
    let group = log.consumer_group("g").unwrap();
    for (number, (story, _)) in STORIES.into_iter().enumerate() {
        let next = group.committed(&partition(number)).unwrap();
        assert_eq!(next, Some(8.into()), "{story}");
    }
}
