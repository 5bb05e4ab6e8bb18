//! Batches of several records that state a last offset delta of 0, as a client library wrote them
//! until 2018. A consumer gets every record at its own offset, and the next append gets the offset
//! after the last record.

use std::fs;
use std::path::Path;

use annals::inspect::{DumpOptions, dump, verify};
use annals::{CleanupPolicy, Log, Partition, Record, TopicConfig};

use super::{consume, copy_of, offsets, only};

const CASE: &str = "last-offset-delta";

/// Sets the last offset delta of every batch in a partition's `.log` files to 0.
fn lower_deltas(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|suffix| suffix != "log") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let size = 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
            super::edit(&mut bytes[at..at + size], 23, &[0; 4]);
            at += size;
        }
        fs::write(path, bytes).unwrap();
    }
}

fn texts(partition: &Partition, from: u64) -> Vec<String> {
    let mut reader = partition.read(from..).unwrap();
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        texts.push(record.text().into_owned());
    }
    texts
}

#[test]
fn every_record_is_read_and_the_next_gets_the_offset_after_them() {
    for closes in [true, false] {
        let (_dir, root) = copy_of(CASE);
        assert_eq!(
            offsets(&only(&Log::open_read_only(&root).unwrap())),
            [2, 3, 4, 5, 6, 7, 8, 9, 10]
        );
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        let partition = only(&log);
        assert_eq!(offsets(&partition), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(partition.log_end_offset(), 11);
        assert_eq!(partition.append("new").unwrap().offset, 11);
        drop(partition);
        if closes {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let log = Log::open(&root).unwrap();
        assert_eq!(offsets(&only(&log)), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(verify(root.join("t-0")).unwrap(), []);
    }
}

#[test]
fn a_read_can_begin_at_every_record() {
    let (_dir, root) = copy_of(CASE);
    let partition = only(&Log::open(&root).unwrap());
    for offset in 2..11 {
        let expected: Vec<_> = (offset - 2..9).map(|number| format!("v{number}")).collect();
        assert_eq!(texts(&partition, offset), expected, "from {offset}");
        let mut batches = partition.read(offset..=offset).unwrap();
        assert_eq!(
            batches.next().unwrap().unwrap().offsets(),
            offset..offset + 1
        );
        assert!(batches.next().is_none(), "after {offset}");
    }
}

#[test]
fn a_follower_continues_after_the_last_record() {
    let (_dir, root) = copy_of(CASE);
    let partition = only(&Log::open(&root).unwrap());
    let mut reader = partition.follow(10..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 10);
    partition.append("new").unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 11);
}

#[test]
fn a_consumer_gets_each_record_once_and_commits_the_end() {
    let (_dir, root) = copy_of(CASE);
    let log = Log::open(&root).unwrap();
    assert_eq!(consume(&log), ((2..11).collect(), 11));
}

#[test]
fn a_dump_shows_the_stated_delta_and_every_record() {
    let (_dir, root) = copy_of(CASE);
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let file = root.join("t-0/00000000000000000000.log");
    let findings = dump(
        &[file],
        &DumpOptions::new().deep_iteration(true),
        &mut out,
        &mut problems,
    )
    .unwrap();
    assert_eq!(
        findings.len(),
        1,
        "the only finding is that the log does not begin with offset 0: {findings:?}"
    );
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("baseOffset: 8 lastOffset: 8 count: 3 "),
        "{out}"
    );
    for offset in 2..11 {
        assert!(out.contains(&format!("| offset: {offset} ")), "{out}");
    }
}

#[test]
fn a_truncation_keeps_the_records_below() {
    for end in 3..12 {
        let (_dir, root) = copy_of(CASE);
        let partition = only(&Log::open(&root).unwrap());
        partition.truncate_to(end).unwrap();
        assert_eq!(offsets(&partition), (2..end.min(11)).collect::<Vec<_>>());
        assert_eq!(partition.append("new").unwrap().offset, end.min(11));
    }
}

#[test]
fn a_compaction_keeps_the_latest_record_of_each_key() {
    let (_dir, root) = copy_of(CASE);
    let log = Log::open(&root).unwrap();
    log.topic("t")
        .unwrap()
        .update_config(
            TopicConfig::new()
                .cleanup_policy(CleanupPolicy::Compact)
                .segment_bytes(300),
        )
        .unwrap();
    let partition = only(&log);
    partition
        .append(Record::new(vec![0; 100]).key("other"))
        .unwrap();
    assert!(partition.segments().len() > 1);
    partition.compact().unwrap();
    assert_eq!(offsets(&partition), [10, 11]);
    for offset in 2..11 {
        assert_eq!(
            partition
                .read(offset..)
                .unwrap()
                .next_record()
                .unwrap()
                .unwrap()
                .offset(),
            10,
            "from {offset}"
        );
    }
    assert_eq!(verify(root.join("t-0")).unwrap(), []);
}

/// The log has batches of several segments with index entries. It is opened without the indexes
/// after an unclean stop, and again with the indexes after a clean one.
#[test]
fn every_lookup_in_batches_with_lowered_deltas_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t-0");
    let config = || {
        TopicConfig::new()
            .segment_bytes(500)
            .index_interval_bytes(100)
            .retention(None)
    };
    let partition = Partition::open(&root, config()).unwrap();
    for base in (0..60).step_by(3) {
        let record = |offset: u64| {
            let at = annals::Timestamp::from_millis(i64::try_from(offset).unwrap());
            Record::new(format!("v{offset}"))
                .key(offset.to_string())
                .timestamp(at)
        };
        partition
            .append_batch([record(base), record(base + 1), record(base + 2)])
            .unwrap();
    }
    assert!(partition.segments().len() > 3);
    drop(partition);
    lower_deltas(&root);
    // Without these files annals does not recognize the log as its own. In its own logs each base
    // offset must follow the last offset that the previous batch states.
    for name in ["lone-partition", ".kafka_cleanshutdown"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|suffix| suffix == "index" || suffix == "timeindex")
            || path.ends_with("index-digests")
        {
            fs::remove_file(path).unwrap();
        }
    }
    for round in 0..2 {
        let partition = Partition::open(&root, config()).unwrap();
        for offset in 0..60 {
            let mut reader = partition.read(offset..).unwrap();
            assert_eq!(
                reader.next_record().unwrap().unwrap().offset(),
                offset,
                "round {round}"
            );
            let at = annals::Timestamp::from_millis(i64::try_from(offset).unwrap());
            assert_eq!(
                partition.offset_for(at).unwrap().map(|found| found.offset),
                Some(offset),
                "round {round}"
            );
        }
        assert_eq!(offsets(&partition), (0..60).collect::<Vec<_>>());
        assert_eq!(partition.log_end_offset(), 60);
        drop(partition);
        assert_eq!(verify(&root).unwrap(), [], "round {round}");
    }
}

/// A broker assigned the offsets 9 and 10 twice. A compacted batch states its true last offset, so
/// the next batch would not follow it. Compaction therefore skips the segment.
#[test]
fn a_compaction_skips_a_segment_with_duplicate_offsets() {
    let (_dir, root) = copy_of(CASE);
    let path = root.join("t-0/00000000000000000000.log");
    let bytes = [fs::read(&path).unwrap(), single(9), single(10), single(11)].concat();
    fs::write(&path, &bytes).unwrap();
    let log = Log::open(&root).unwrap();
    log.topic("t")
        .unwrap()
        .update_config(
            TopicConfig::new()
                .cleanup_policy(CleanupPolicy::Compact)
                .segment_bytes(600),
        )
        .unwrap();
    let partition = only(&log);
    partition
        .append(Record::new(vec![0; 300]).key("k"))
        .unwrap();
    assert_eq!(partition.segments().len(), 2);
    for _ in 0..2 {
        assert_eq!(partition.compact().unwrap().segments_compacted, 0);
        assert_eq!(offsets(&partition), (2..13).collect::<Vec<_>>());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

/// Returns a batch with a single record at this offset, with a key of its own.
fn single(offset: u64) -> Vec<u8> {
    let mut batch = fs::read(super::fixture(
        "cases/far-offsets/root/t-0/00000000008589934593.log",
    ))
    .unwrap();
    batch[..8].copy_from_slice(&offset.to_be_bytes());
    super::edit(&mut batch, 67, &[b'a' + u8::try_from(offset).unwrap()]);
    batch
}

/// A broker counted from the last offset that the header states, so it assigned offsets that
/// records had already. A consumer gets the first record with each of these offsets.
#[test]
fn a_batch_with_offsets_that_records_already_have_is_not_cut() {
    let (_dir, root) = copy_of(CASE);
    let path = root.join("t-0/00000000000000000000.log");
    let bytes = fs::read(&path).unwrap();
    let size = bytes.len() / 3;
    fs::write(
        &path,
        [&bytes[..], &single(9), &single(10), &single(11)].concat(),
    )
    .unwrap();
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        let partition = only(&log);
        assert_eq!(offsets(&partition), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(fs::read(&path).unwrap(), before);
        log.close().unwrap();
    }
    // The same batches, with the last three in a segment of their own.
    fs::write(&path, &bytes).unwrap();
    fs::write(
        root.join("t-0/00000000000000000009.log"),
        [single(9), single(10), single(11)].concat(),
    )
    .unwrap();
    for suffix in ["index", "timeindex"] {
        fs::remove_file(path.with_extension(suffix)).unwrap();
    }
    fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
    fs::remove_file(root.join("recovery-point-offset-checkpoint")).unwrap();
    let log = Log::open(&root).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    assert_eq!(offsets(&only(&log)), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(fs::read(&path).unwrap().len(), 3 * size);
}
