//! Batches written under a higher limit, which are now too large to unpack: readers report them,
//! and compaction leaves them alone.

use annals::{OffsetSpec, OversizedBatch, ReadOptions, TopicPartition};

use super::*;

const LIMIT: usize = 10_000;
const LARGE: usize = 100_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn oversized<T: std::fmt::Debug>(result: annals::Result<T>) -> OversizedBatch {
    match result {
        Err(Error::BatchTooLarge(batch)) => *batch,
        other => panic!("{other:?}"),
    }
}

fn partition(log: &Log) -> Partition {
    log.topic("t").unwrap().partition(0).unwrap()
}

/// Writes offset 0 as a small batch, 1 to 3 as one batch over the limit, and 4 as a small batch.
fn written(codec: Compression) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (log, _clock) = open(&disk, 1 << 20);
    let partition = log
        .create_topic("t", 1, compressed(codec))
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append("first").unwrap();
    partition
        .append_batch([vec![b'a'; LARGE], vec![b'b'; 10], vec![b'c'; 10]])
        .unwrap();
    partition.append("last").unwrap();
    log.close().unwrap();
    disk
}

#[test]
fn a_reader_reports_the_limit_and_continues_after_the_batch() {
    for codec in CODECS {
        let (log, _clock) = open(&written(codec), LIMIT);
        let partition = partition(&log);
        let mut reader = partition.read(..).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().text(), "first");
        let error = reader.next_record().map(drop).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("LogConfig::max_decompressed_bytes"),
            "{error}"
        );
        assert!(!error.is_corruption(), "{error}");
        assert!(!error.is_retriable(), "{error}");
        assert!(!error.is_fatal(), "{error}");
        let batch = oversized(Err::<(), _>(error));
        assert_eq!(
            (&batch.partition, batch.limit),
            (partition.id(), LIMIT as u64)
        );
        assert_eq!((batch.offsets.clone(), reader.next_offset()), (1..4, 4));
        let segment = &partition.segments()[0];
        assert_eq!(batch.path, segment.path);
        assert!(batch.position > 0);
        assert!(u64::from(batch.position) < segment.bytes);
        let mut reader = partition.read(batch.offsets.end..).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            "last",
            "{codec:?}"
        );
    }
}

#[test]
fn an_iterator_over_batches_continues_after_the_batch() {
    let (log, _clock) = open(&written(Compression::Zstd), LIMIT);
    let mut found = Vec::new();
    for batch in partition(&log).read(..).unwrap() {
        found.extend(batch.unwrap().iter().map(|record| {
            record
                .map(|record| record.offset())
                .map_err(|error| oversized(Err::<(), _>(error)).offsets)
        }));
    }
    assert_eq!(found, [Ok(0), Err(1..4), Ok(4)]);
}

#[test]
fn skip_corrupt_does_not_skip_an_oversized_batch() {
    let (log, _clock) = open(&written(Compression::Lz4), LIMIT);
    let mut reader = partition(&log)
        .read_with(.., ReadOptions::new().skip_corrupt(true))
        .unwrap();
    assert!(reader.next_record().unwrap().is_some());
    assert_eq!(oversized(reader.next_record().map(drop)).offsets, 1..4);
    assert!(reader.take_skipped().is_empty());
    assert_eq!(reader.next_offset(), 4);
}

#[test]
fn a_reader_with_a_higher_limit_reads_the_batch() {
    let (log, _clock) = open(&written(Compression::Gzip), LIMIT + LARGE);
    assert_eq!(values(&partition(&log)).len(), 5);
}

#[test]
fn a_consumer_gets_the_error_once_and_then_the_next_records() {
    let (log, _clock) = open(&written(Compression::Snappy), LIMIT);
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|record| record.map(|record| record.offset()).is_ok())
        .collect();
    assert_eq!(found, [true, false, true]);
    assert_eq!(consumer.position(&TopicPartition::new("t", 0)).unwrap(), 5);
}

#[test]
fn a_time_lookup_avoids_the_batch_and_a_truncation_inside_it_is_refused() {
    let disk = written(Compression::Zstd);
    let (log, _clock) = open(&disk, LIMIT);
    let at = partition(&log)
        .offset_for(OffsetSpec::Timestamp(now()))
        .unwrap()
        .unwrap();
    assert_eq!(at.offset, 0, "the lookup does not need the batch");
    let refused = oversized(partition(&log).truncate_to(2));
    assert_eq!(
        (refused.offsets, partition(&log).log_end_offset()),
        (1..4, 5),
        "a refused truncation cuts no record"
    );
    partition(&log).truncate_to(4).unwrap();
    partition(&log).truncate_to(1).unwrap();
    assert_eq!(values(&partition(&log)), [(0, b"first".to_vec())]);
}

/// Appends one batch for each string. A lower-case letter is a record with that key, and an
/// upper-case letter is the tombstone of that key. A batch with a `!` is over the limit.
fn append(partition: &Partition, batches: &[&str]) {
    for batch in batches {
        let value = if batch.contains('!') {
            "x".repeat(LARGE)
        } else {
            "value".to_owned()
        };
        let records = batch.chars().filter(|key| *key != '!').map(|key| {
            let lower = key.to_lowercase().to_string();
            if key.is_uppercase() {
                Record::tombstone(lower)
            } else {
                Record::new(&value).key(lower)
            }
        });
        partition.append_batch(records).unwrap();
    }
}

fn keyed(batches: &[&str]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (log, _clock) = open(&disk, 1 << 20);
    let config = compressed(Compression::Zstd)
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(250);
    let config = config.set("min.cleanable.dirty.ratio", "0.01").unwrap();
    append(
        &log.create_topic("t", 1, config)
            .unwrap()
            .partition(0)
            .unwrap(),
        batches,
    );
    log.close().unwrap();
    disk
}

/// Returns the offsets that can be read, and those of the batches that cannot.
fn offsets(partition: &Partition) -> (Vec<u64>, Vec<u64>) {
    let (mut read, mut refused) = (Vec::new(), Vec::new());
    for batch in partition.read(..).unwrap() {
        for record in &batch.unwrap() {
            match record {
                Ok(record) => read.push(record.offset()),
                Err(error) => refused.extend(oversized(Err::<(), _>(error)).offsets),
            }
        }
    }
    (read, refused)
}

#[test]
fn compaction_keeps_the_oversized_batch_and_cleans_the_rest() {
    // The batches have the offsets 0 to 2, 3 to 5, 6 and 7, 8 to 10, and so on.
    let disk = keyed(&["abc", "abc", "!dd", "abc", "abc", "efg", "efg", "efg"]);
    let (log, _clock) = open(&disk, LIMIT);
    let before = partition(&log).segments();
    assert!(before.len() >= 3, "{before:?}");
    let done = partition(&log).compact().unwrap();
    assert_eq!(done.batches_left_alone, 1);
    assert!(done.records_removed >= 9, "{done:?}");
    let (read, refused) = offsets(&partition(&log));
    assert_eq!(refused, [6, 7]);
    assert!(read.iter().all(|offset| *offset >= 11), "{read:?}");
    for _ in 0..3 {
        log.maintain().unwrap();
    }
    assert_eq!(offsets(&partition(&log)), (read.clone(), refused));
    log.close().unwrap();

    let (log, _clock) = open(&disk, 1 << 20);
    assert_eq!(
        offsets(&partition(&log)),
        ([&[6, 7], &read[..]].concat(), Vec::new()),
        "compaction kept the whole batch"
    );
    assert_eq!(partition(&log).compact().unwrap().batches_left_alone, 0);
    assert_eq!(
        offsets(&partition(&log)).0,
        [&[7], &read[..]].concat(),
        "under a higher limit the batch is compacted"
    );
}

#[test]
fn a_tombstone_is_kept_while_an_oversized_batch_may_have_its_key() {
    // The first tombstone deletes a record before the large batch, and the second one deletes a
    // record in it.
    let disk = keyed(&["ab", "A", "!bc", "C", "C", "def", "def", "def", "def"]);
    let view = |log: &Log| {
        let mut keys = std::collections::BTreeSet::new();
        let mut reader = partition(log).read(..).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            let key = record.key().unwrap().to_vec();
            if record.value().is_some() {
                keys.insert(key)
            } else {
                keys.remove(&key)
            };
        }
        keys.into_iter().flatten().collect::<Vec<_>>()
    };
    let (log, clock) = open(&disk, LIMIT);
    for _ in 0..4 {
        assert_eq!(partition(&log).compact().unwrap().batches_left_alone, 1);
        clock.advance(2 * DAY);
    }
    let (read, _) = offsets(&partition(&log));
    assert!(
        !read.contains(&2),
        "the tombstone before the batch is not removed: {read:?}"
    );
    assert!(
        read.contains(&6),
        "the tombstone after the batch is removed: {read:?}"
    );
    log.close().unwrap();

    let (log, clock) = open(&disk, 1 << 20);
    assert_eq!(view(&log), b"bdef");
    clock.advance(20 * DAY);
    for _ in 0..4 {
        partition(&log).compact().unwrap();
        assert_eq!(view(&log), b"bdef");
        clock.advance(2 * DAY);
    }
    assert!(
        !offsets(&partition(&log)).0.contains(&6),
        "the tombstone outlives the record that it deleted"
    );
}

#[test]
fn a_tombstone_in_an_oversized_batch_outlives_the_records_it_deletes() {
    let disk = keyed(&["ab", "ab", "!AAz", "def", "def", "def", "def"]);
    let (log, clock) = open(&disk, LIMIT);
    partition(&log).compact().unwrap();
    assert_eq!(
        offsets(&partition(&log)).0.first(),
        Some(&2),
        "compaction cannot see the tombstone, so it keeps the record"
    );
    log.close().unwrap();

    let (log, later) = open(&disk, 1 << 20);
    drop(clock);
    for _ in 0..4 {
        partition(&log).compact().unwrap();
        let (read, _) = offsets(&partition(&log));
        assert!(!read.contains(&2), "the deleted record is back: {read:?}");
        later.advance(2 * DAY);
    }
}

#[test]
fn compaction_reports_the_bytes_it_could_not_compact_yet() {
    let (log, _clock) = open(&MemoryDisk::new(), LIMIT);
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for number in 0..100 {
        partition.append(("key", number.to_string())).unwrap();
    }
    let bytes: u64 = partition
        .segments()
        .iter()
        .map(|segment| segment.bytes)
        .sum();
    let done = partition.compact().unwrap();
    assert_eq!(
        (done.records_removed, done.bytes_not_compacted),
        (0, bytes),
        "all records are in the active segment"
    );
    log.topic("t")
        .unwrap()
        .update_config(TopicConfig::new().segment_bytes(200))
        .unwrap();
    partition.append(("key", "last")).unwrap();
    let active = partition.segments().last().unwrap().bytes;
    let done = partition.compact().unwrap();
    assert_eq!(
        (done.records_removed, done.bytes_not_compacted),
        (99, active)
    );
}
