//! A header whose name is not UTF-8: every operation accepts it, and each operation that rewrites
//! the record keeps the bytes of the name.

use annals::inspect::{DumpOptions, dump, salvage, verify};
use annals::{CleanupPolicy, Log, Partition, ReadOptions, Record, TopicConfig};

use super::{copy_of, offsets, only};

/// `café` in Latin-1.
const LATIN1: &[u8] = b"caf\xe9";

/// Returns the offset of each record that has a header with the odd name.
fn odd(partition: &Partition) -> Vec<u64> {
    let mut reader = partition.read(..).unwrap();
    let mut odd = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        if let Some(header) = record.headers().get(LATIN1) {
            assert_eq!(header.name(), "caf\u{fffd}");
            assert_eq!(header.value(), Some(&b"1"[..]));
            odd.push(record.offset());
        }
    }
    odd
}

#[test]
fn a_record_with_an_odd_header_name_is_read() {
    let (_dir, root) = copy_of("header-names");
    for partition in [
        only(&Log::open_read_only(&root).unwrap()),
        only(&Log::open(&root).unwrap()),
    ] {
        assert_eq!(offsets(&partition), [0, 1, 2, 3]);
        assert_eq!(odd(&partition), [1]);
        let mut reader = partition
            .read_with(.., ReadOptions::new().skip_corrupt(true))
            .unwrap();
        while reader.next_record().unwrap().is_some() {}
        assert!(reader.take_skipped().is_empty());
    }
}

#[test]
fn verify_accepts_an_odd_header_name() {
    let (_dir, root) = copy_of("header-names");
    assert_eq!(verify(root.join("t-0")).unwrap(), []);
}

#[test]
fn a_dump_shows_the_name_as_kafkas_tool_does() {
    let (_dir, root) = copy_of("header-names");
    let file = root.join("t-0/00000000000000000000.log");
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let findings = dump(
        &[file],
        &DumpOptions::new().deep_iteration(true),
        &mut out,
        &mut problems,
    )
    .unwrap();
    assert_eq!(findings, []);
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("| offset: 1 "), "{out}");
    assert!(out.contains("headerKeys: [caf\u{fffd}]"), "{out}");
}

#[test]
fn a_record_with_an_odd_header_name_can_be_compacted() {
    let (_dir, root) = copy_of("header-names");
    let log = Log::open(&root).unwrap();
    log.topic("t")
        .unwrap()
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))
        .unwrap();
    let partition = only(&log);
    assert_eq!(partition.compact().unwrap().segments_compacted, 1);
    assert_eq!(offsets(&partition), [2, 3]);
}

#[test]
fn a_mirrored_record_keeps_the_bytes_of_the_name() {
    let (_dir, root) = copy_of("header-names");
    let source = only(&Log::open_read_only(&root).unwrap());
    let target = Log::in_memory()
        .open_topic("mirror", 1, TopicConfig::new().retention(None))
        .unwrap()
        .partition(0)
        .unwrap();
    let mut reader = source.read(..).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        target.append(Record::from(record)).unwrap();
    }
    assert_eq!(odd(&target), [1]);
}

/// Appends a batch of three records. All but the middle one have the odd header.
fn append_batch(partition: &Partition) {
    let odd = |key| Record::new("v").key(key).header_bytes(LATIN1, "1");
    partition
        .append_batch([odd("a"), Record::new("v").key("b"), odd("c")])
        .unwrap();
}

#[test]
fn a_rewritten_batch_keeps_the_bytes_of_the_name() {
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(200);
    let partition = Log::in_memory()
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    append_batch(&partition);
    append_batch(&partition);
    partition.append(Record::new("later").key("a")).unwrap();
    assert_eq!(odd(&partition), [0, 2, 3, 5]);
    partition.truncate_to(5).unwrap();
    assert_eq!(odd(&partition), [0, 2, 3]);
    partition
        .append(Record::new(vec![0; 100]).key("a"))
        .unwrap();
    partition
        .append(Record::new(vec![0; 100]).key("a"))
        .unwrap();
    assert!(partition.compact().unwrap().records_removed > 0);
    assert_eq!(
        odd(&partition),
        [2],
        "the second record with key `c` was cut"
    );
}

#[test]
fn a_salvaged_partition_keeps_the_bytes_of_the_name() {
    let (dir, root) = copy_of("header-names");
    let to = dir.path().join("salvaged-0");
    let salvaged = salvage(root.join("t-0"), &to).unwrap();
    assert!(salvaged.lost.is_empty());
    assert_eq!(odd(&Partition::open(&to, TopicConfig::new()).unwrap()), [1]);
}
