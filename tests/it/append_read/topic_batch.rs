//! Batches of a topic: each partition gets its share as one batch, and a refused batch writes to no
//! partition.

use annals::{CleanupPolicy, Durability, Error, Log, Record, TimestampType, TopicConfig};

use super::{at, log_at};

#[test]
fn a_topic_batch_uses_the_partitions_of_single_appends() {
    let (log, _) = log_at(0);
    let topic = log.create_topic("t", 4, TopicConfig::new()).unwrap();
    let keys: Vec<String> = (0..40)
        .map(|number| format!("key-{}", number % 10))
        .collect();
    let written = topic
        .append_batch(
            keys.iter()
                .enumerate()
                .map(|(number, key)| (key, number.to_string())),
        )
        .unwrap();
    assert_eq!(written.len(), keys.len());
    for (number, (key, written)) in keys.iter().zip(&written).enumerate() {
        assert_eq!(
            written.partition,
            topic.partition_for(key.as_bytes()).id().partition
        );
        assert_eq!(written.timestamp, at(0));
        let partition = topic.partition(written.partition).unwrap();
        let mut reader = partition.read(written.offset..).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            number.to_string()
        );
    }
    let batches: usize = topic
        .partitions()
        .iter()
        .map(|partition| partition.read(..).unwrap().count())
        .sum();
    assert!(batches <= 4, "{batches} batches in four partitions");
}

#[test]
fn records_without_a_key_share_one_partition() {
    let (log, _) = log_at(0);
    let topic = log.create_topic("t", 8, TopicConfig::new()).unwrap();
    let value = "v".repeat(10_000);
    let written = topic.append_batch([&value; 20]).unwrap();
    let offsets: Vec<u64> = written.iter().map(|written| written.offset).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    assert!(
        written
            .iter()
            .all(|other| other.partition == written[0].partition)
    );
}

#[test]
fn an_empty_batch_writes_no_record() {
    let (log, _) = log_at(0);
    let topic = log.create_topic("t", 2, TopicConfig::new()).unwrap();
    assert_eq!(topic.append_batch(Vec::<&str>::new()).unwrap(), []);
    assert_eq!(topic.size(), 0);
}

#[test]
fn a_topic_batch_is_stamped_by_the_timestamp_type() {
    let (log, _) = log_at(0);
    let records = || [Record::new("a").timestamp(at(-5)), Record::new("b")];
    for (name, stamping, expected) in [
        ("created", TimestampType::CreateTime, [at(-5), at(0)]),
        ("appended", TimestampType::LogAppendTime, [at(0), at(0)]),
    ] {
        let topic = log
            .create_topic(name, 2, TopicConfig::new().timestamp_type(stamping))
            .unwrap();
        let written = topic.append_batch(records()).unwrap();
        assert_eq!(
            [written[0].timestamp, written[1].timestamp],
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_refused_record_leaves_every_partition_unchanged() {
    let (log, _) = log_at(0);
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .max_message_bytes(1_000);
    let topic = log.create_topic("t", 4, config).unwrap();
    let sound = |key: usize| Record::new("v").key(key.to_string());
    let without_key = (0..10).map(sound).chain([Record::new("no key")]);
    let refused = topic.append_batch(without_key);
    assert!(
        matches!(refused, Err(Error::InvalidRecord { index: 10, .. })),
        "{refused:?}"
    );
    let too_large = (0..10)
        .map(sound)
        .chain([Record::new("v".repeat(2_000)).key("large")]);
    let refused = topic.append_batch(too_large);
    assert!(
        matches!(refused, Err(Error::RecordTooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(topic.size(), 0);
}

#[test]
fn a_synced_topic_batch_survives_a_crash() {
    let disk = annals::SimulatedDisk::new(3);
    let log = Log::builder("log").storage(disk.clone()).open().unwrap();
    let topic = log.create_topic("t", 3, TopicConfig::new()).unwrap();
    let written = topic
        .with_durability(Durability::Synced)
        .append_batch((0..9).map(|key| (key.to_string(), "v")))
        .unwrap();
    let crashed = Log::builder("log")
        .storage(disk.crash())
        .open()
        .unwrap()
        .topic("t")
        .unwrap();
    let left: u64 = crashed
        .partitions()
        .iter()
        .map(annals::Partition::log_end_offset)
        .sum();
    assert_eq!(left, written.len() as u64);
}

#[test]
fn a_topics_size_is_the_sum_of_its_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log
        .create_topic("t", 3, TopicConfig::new().segment_bytes(300))
        .unwrap();
    for key in 0..50 {
        topic.append((key.to_string(), "v".repeat(100))).unwrap();
    }
    let segments = topic
        .partitions()
        .into_iter()
        .flat_map(|partition| partition.segments());
    assert_eq!(
        topic.size(),
        segments.map(|segment| segment.bytes).sum::<u64>()
    );
    let reading = Log::open_read_only(dir.path()).unwrap().topic("t").unwrap();
    assert_eq!(reading.size(), topic.size());
    topic.append(("more", "v")).unwrap();
    assert_eq!(
        reading.size(),
        topic.size(),
        "a read-only log sees the new record"
    );
}
