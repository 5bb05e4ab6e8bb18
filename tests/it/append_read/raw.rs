//! Mirrors that append the batches of other logs as they are: logs that brokers wrote, the batches
//! of a producer, and logs that refuse them.

use annals::inspect::verify;
use annals::{
    CleanupPolicy, Error, Isolation, Log, Partition, ReadOptions, Record, Result, TimestampType,
    TopicConfig,
};

use crate::kafka::{copy_dir, fixture};

/// The content of a record without its offset.
type Content = (Option<annals::Timestamp>, Record<'static>);

fn records(partition: &Partition) -> Vec<Content> {
    let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    let mut reader = partition.read_with(.., options).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((record.timestamp(), Record::from(record).into_owned()));
    }
    records
}

/// Appends each batch of `from` to `to`, and returns the reason of the first that is refused.
fn mirror(from: &Partition, to: &Partition) -> Result<Option<String>> {
    let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    for batch in from.read_with(.., options)? {
        let batch = batch?;
        let end = to.log_end_offset();
        match to.append_raw(batch.as_bytes()) {
            Ok(offsets) => assert_eq!((offsets.start, offsets.end), (end, to.log_end_offset())),
            Err(Error::InvalidBatch {
                index: 0, reason, ..
            }) => {
                assert_eq!(to.log_end_offset(), end, "a refused batch is not appended");
                return Ok(Some(reason.into_owned()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Mirrors a partition of a fixture into a new topic with this configuration. Returns the reason of
/// a refusal.
fn mirror_fixture(set: &str, topic: &str, config: TopicConfig) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    copy_dir(&fixture(set), &source);
    let source = Log::open_read_only(&source).unwrap();
    let from = source.topic(topic).unwrap().partition(0).unwrap();
    let log = Log::open(&target).unwrap();
    let to = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let refused = mirror(&from, &to).unwrap_or_else(|error| panic!("{topic}: {error}"));
    if refused.is_none() {
        assert!(records(&from) == records(&to), "{topic}: records differ");
        assert!(to.log_end_offset() > 0, "{topic} has records");
    }
    let before = records(&to);
    drop(to);
    log.close().unwrap();
    assert_eq!(verify(target.join("t-0")).unwrap(), [], "{topic}");
    let log = Log::open(&target).unwrap();
    let to = log.topic("t").unwrap().partition(0).unwrap();
    assert!(
        records(&to) == before,
        "{topic}: records differ after opening again"
    );
    log.close().unwrap();
    refused
}

#[test]
fn mirrors_of_logs_that_a_broker_wrote_have_the_same_records() {
    for topic in [
        "plain",
        "codec-gzip",
        "codec-snappy",
        "codec-lz4",
        "codec-zstd",
        "mixed-codecs",
        "shapes",
        "append-time",
        "idempotent",
        "times",
    ] {
        let refused = mirror_fixture("clean/root", topic, TopicConfig::new());
        assert_eq!(refused, None, "{topic}");
    }
}

#[test]
fn compacted_batches_need_a_compacted_topic() {
    let compacted = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    for topic in ["compacted", "compacted-gone"] {
        let refused = mirror_fixture("clean/root", topic, compacted.clone());
        assert_eq!(refused, None, "{topic}");
    }
    let refused = mirror_fixture("clean/root", "compacted", TopicConfig::new());
    let refused = refused.expect("the topic was never compacted");
    assert!(refused.contains("compaction removed records"), "{refused}");
}

#[test]
fn batches_of_transactions_and_of_old_brokers_are_refused() {
    for (set, topic, expected) in [
        ("clean/root", "transactions", "transaction"),
        ("legacy/root", "v0-none", "append its records"),
        ("legacy/root", "v1-gzip", "append its records"),
    ] {
        let refused = mirror_fixture(set, topic, TopicConfig::new());
        let refused = refused.unwrap_or_else(|| panic!("{topic} was mirrored"));
        assert!(refused.contains(expected), "{topic}: {refused}");
    }
}

#[test]
fn a_mirror_with_append_times_has_its_own() {
    let (log, clock) = super::log_at(0);
    let from = super::partition(&log, TopicConfig::new());
    from.append_batch(["a", "b"]).unwrap();
    let config = TopicConfig::new().timestamp_type(TimestampType::LogAppendTime);
    let to = log
        .create_topic("to", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    clock.advance(std::time::Duration::from_millis(70));
    assert_eq!(mirror(&from, &to).unwrap(), None);
    let times: Vec<_> = records(&to).into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [Some(super::at(70)); 2]);
}

#[test]
fn a_mirror_that_repeats_batches_of_a_producer_has_them_once() {
    let log = Log::in_memory();
    let from = log.create_topic("from", 1, TopicConfig::new()).unwrap();
    let to = log.create_topic("to", 1, TopicConfig::new()).unwrap();
    let producer = log.producer().unwrap();
    for round in 0..3 {
        for number in 0..10 {
            let value = format!("{round}-{number}");
            producer.send(&from, Record::new(value)).unwrap();
        }
        producer.flush().unwrap();
    }
    drop(producer);
    let (from, to) = (from.partition(0).unwrap(), to.partition(0).unwrap());
    let batches: Vec<_> = from.read(..).unwrap().map(Result::unwrap).collect();
    assert!((3..=5).contains(&batches.len()), "{}", batches.len());
    for round in 0..2 {
        for batch in &batches {
            let offsets = to.append_raw(batch.as_bytes()).unwrap();
            assert_eq!(offsets, batch.offsets(), "round {round}");
        }
    }
    let all: Vec<u8> = batches
        .iter()
        .flat_map(|batch| batch.as_bytes().to_vec())
        .collect();
    assert_eq!(to.append_raw(&all).unwrap(), 0..30);
    assert!(records(&from) == records(&to));
}

#[test]
fn a_batch_is_returned_as_it_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = super::partition(&log, TopicConfig::new());
    partition.append_batch(["a", "b", "c"]).unwrap();
    partition.append("d").unwrap();
    let path = partition.segments()[0].path.clone();
    let mut read = Vec::new();
    // The range of the reader covers only a part of the first batch.
    for batch in partition.read(1..).unwrap() {
        read.extend_from_slice(batch.unwrap().detach().as_bytes());
    }
    assert_eq!(read, std::fs::read(path).unwrap());
}

#[test]
fn a_log_that_is_read_only_refuses_batches() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = super::partition(&log, TopicConfig::new());
    partition.append("a").unwrap();
    let batch = partition.read(..).unwrap().next().unwrap().unwrap();
    let reader = Log::open_read_only(dir.path()).unwrap();
    let beside = reader.topic("t").unwrap().partition(0).unwrap();
    let refused = beside.append_raw(batch.as_bytes());
    assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    log.delete_topic("t").unwrap();
    let refused = partition.append_raw(batch.as_bytes());
    assert!(
        matches!(refused, Err(Error::UnknownTopic(_))),
        "{refused:?}"
    );
    assert_eq!(batch.as_bytes().len(), 69);
}
