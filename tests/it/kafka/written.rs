//! Files of annals, checked by Kafka: its dump tool finds no fault, and a broker continues where
//! annals stopped.

use std::fs;
use std::path::Path;

use annals::{Log, Partition, ProducerConfig, Record, TimestampType, TopicConfig};

use super::{Broker, Gaps, KafkaTools, assert_clean, copy_dir, fixture};
use crate::CODECS;

fn partition(log: &Log, name: &str, config: TopicConfig) -> Partition {
    log.open_topic(name, 1, config.retention(None))
        .unwrap()
        .partition(0)
        .unwrap()
}

fn small() -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(2_000)
        .index_interval_bytes(100)
}

/// Appends records of every shape in batches of several sizes.
fn append_shapes(partition: &Partition) {
    for size in 1..8 {
        let records = (0..size).map(|number| {
            let record = match number % 5 {
                0 => Record::new("value").key("key"),
                1 => Record::new("").key(""),
                2 => Record::tombstone("key"),
                3 => Record::new(None::<&str>),
                _ => Record::new("v".repeat(size * 40))
                    .header("a", "1")
                    .header("a", None::<&str>)
                    .header("", ""),
            };
            if number % 3 == 0 {
                record.timestamp(annals::Timestamp::from_millis(
                    1_700_000_000_000 - i64::try_from(number).unwrap(),
                ))
            } else {
                record
            }
        });
        partition.append_batch(records).unwrap();
    }
}

/// Sends records with one producer for each codec, in turns. Halfway the last records are
/// truncated, so the producers continue with their next epochs.
fn send_shapes(log: &Log, partition: &Partition) {
    let producer = |codec| {
        log.producer_with(ProducerConfig::new().batch_size(500).compression(codec))
            .unwrap()
    };
    let producers = CODECS.map(producer);
    for round in 0..40 {
        for (number, producer) in producers.iter().enumerate() {
            producer
                .send_to(
                    partition,
                    Record::new("v".repeat(round * number))
                        .key("key")
                        .header("a", "1"),
                )
                .unwrap();
            producer
                .send_to(partition, Record::tombstone(format!("{round}")))
                .unwrap();
        }
        if round == 20 {
            for producer in &producers {
                producer.flush().unwrap();
            }
            partition
                .truncate_to(partition.log_end_offset() - 30)
                .unwrap();
        }
    }
    for producer in producers {
        producer.close().unwrap();
    }
    assert!(partition.segments().len() > 2);
}

/// Creates a directory with rolled segments, all codecs, deleted and truncated records, groups and
/// producers.
fn busy_directory(root: &Path) {
    let log = Log::open(root).unwrap();
    for (number, codec) in CODECS.into_iter().enumerate() {
        let partition = partition(&log, &format!("codec-{number}"), small().compression(codec));
        for _ in 0..6 {
            append_shapes(&partition);
        }
    }
    append_shapes(&partition(
        &log,
        "appended",
        small().timestamp_type(TimestampType::LogAppendTime),
    ));
    let deleted = partition(&log, "deleted", small());
    let truncated = partition(&log, "truncated", small());
    for _ in 0..8 {
        append_shapes(&deleted);
        append_shapes(&truncated);
    }
    let middle = deleted.log_end_offset() / 2 + 1;
    deleted.delete_records_before(middle).unwrap();
    assert!(deleted.segments()[0].base_offset > 0);
    truncated.truncate_to(middle).unwrap();
    append_shapes(&truncated);
    let retained = partition(&log, "retained", small().retention_bytes(5_000));
    for _ in 0..4 {
        append_shapes(&retained);
    }
    log.maintain().unwrap();
    assert!(retained.log_start_offset() > 0);
    append_shapes(&retained);
    partition(&log, "empty", small());
    send_shapes(&log, &partition(&log, "sent", small()));
    let mut consumer = log
        .consumer_group("group")
        .unwrap()
        .join("appended")
        .unwrap();
    consumer.poll(std::time::Duration::from_secs(10)).unwrap();
    consumer.poll(std::time::Duration::from_secs(10)).unwrap();
    consumer.commit().unwrap();
    drop(consumer);
    log.close().unwrap();
}

#[test]
fn the_dump_tool_finds_no_fault_in_files_of_annals() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let busy = dir.path().join("busy");
    busy_directory(&busy);

    // A log that was killed during an append, recovered, and closed.
    let killed = dir.path().join("killed");
    {
        let live = dir.path().join("live");
        let log = Log::open(&live).unwrap();
        let torn = partition(&log, "torn", small());
        for _ in 0..6 {
            append_shapes(&torn);
        }
        let sent = partition(&log, "sent", small());
        send_shapes(&log, &sent);
        sent.flush().unwrap();
        send_shapes(&log, &sent);
        copy_dir(&live, &killed);
    }
    let last = fs::read_dir(killed.join("torn-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let last = last
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
        .max()
        .unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 5]).unwrap();
    let log = Log::open(&killed).unwrap();
    assert!(log.recovery().has_losses());
    append_shapes(&partition(&log, "torn", small()));
    log.close().unwrap();
    fs::remove_dir_all(dir.path().join("live")).unwrap();

    assert_clean(&tools, &[&busy, &killed], Gaps::Refused);
}

/// Returns the values of a partition, in order.
fn values(partition: &Partition) -> Vec<Option<String>> {
    let mut reader = partition.read(..).unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        values.push(
            record
                .value()
                .map(|value| String::from_utf8_lossy(value).into_owned()),
        );
    }
    values
}

#[test]
fn a_broker_reopens_its_directory_after_annals_has_appended_to_it() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture("clean/root"), dir.path());
    let names = [
        ("plain", 0),
        ("idempotent", 1),
        ("keyed", 3),
        ("deleted-records", 0),
        ("mixed-codecs", 0),
    ];
    // The console consumer prints only text. The keys of the other topics are arbitrary bytes.
    let with_text = ["plain", "idempotent"];
    let expected: Vec<_> = {
        let log = Log::open(dir.path()).unwrap();
        let expected = names.map(|(topic, number)| {
            let partition = log.topic(topic).unwrap().partition(number).unwrap();
            for value in ["from", "annals"] {
                partition.append(Record::new(value).key("k")).unwrap();
            }
            (
                topic,
                number,
                partition.log_end_offset(),
                values(&partition),
            )
        });
        log.maintain().unwrap();
        log.close().unwrap();
        expected.into()
    };
    assert_clean(&tools, &[dir.path()], Gaps::Allowed);

    let broker = Broker::start(&tools, dir.path());
    for (topic, number, end, values) in &expected {
        assert_eq!(broker.end_offset(topic, *number), Some(*end), "{topic}");
        if with_text.contains(topic) {
            let read: Vec<_> = broker
                .read(topic, *number, values.len())
                .into_iter()
                .map(|record| record.value)
                .collect();
            assert_eq!(&read, values, "{topic}");
        }
    }
    broker.stop();

    let log = Log::open(dir.path()).unwrap();
    assert!(
        log.recovery().clean,
        "the broker must have shut down cleanly"
    );
    for (topic, number, end, expected) in expected {
        let partition = log.topic(topic).unwrap().partition(number).unwrap();
        assert_eq!(partition.log_end_offset(), end, "{topic}");
        assert_eq!(values(&partition), expected, "{topic}");
        assert_eq!(partition.append("again").unwrap().offset, end);
    }
}

/// Returns the offset, key and value of every record.
fn records(partition: &Partition) -> Vec<(u64, Option<String>, Option<String>)> {
    let mut reader = partition.read(..).unwrap();
    let mut records = Vec::new();
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    while let Some(record) = reader.next_record().unwrap() {
        records.push((record.offset(), text(record.key()), text(record.value())));
    }
    records
}

#[test]
fn a_broker_adopts_partitions_in_every_state_that_annals_leaves() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    busy_directory(&ours);
    let names = [
        "codec-0",
        "codec-1",
        "codec-2",
        "codec-3",
        "codec-4",
        "appended",
        "truncated",
        "retained",
        "sent",
    ];
    let log = Log::open_read_only(&ours).unwrap();
    let expected = names.map(|name| records(&log.topic(name).unwrap().partition(0).unwrap()));
    let broker = Broker::create(&tools, &theirs);
    for name in names {
        let placed = theirs.join(format!("{name}-0"));
        copy_dir(&ours.join(format!("{name}-0")), &placed);
        fs::remove_file(placed.join("partition.metadata")).unwrap();
        broker.create_topic(name, 1, &[("retention.ms", "-1")]);
    }
    let check = |broker: &Broker| {
        for (name, expected) in names.iter().zip(&expected) {
            let read = broker.read(name, 0, expected.len()).into_iter();
            let read: Vec<_> = read
                .map(|record| (record.offset, record.key, record.value))
                .collect();
            assert_eq!(&read, expected, "{name}");
        }
    };
    check(&broker);
    broker.stop();
    let log = Log::open(&theirs).unwrap();
    for (name, expected) in names.iter().zip(&expected) {
        let partition = log.topic(name).unwrap().partition(0).unwrap();
        assert_eq!(&records(&partition), expected, "{name}");
        partition.append(Record::new("back").key("k")).unwrap();
    }
    log.close().unwrap();
    assert_clean(&tools, &[&theirs], Gaps::Refused);
}

#[test]
fn a_broker_adopts_a_partition_with_several_segments() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let log = Log::open(&ours).unwrap();
    let partition = partition(&log, "moved", small());
    for number in 0..60 {
        partition
            .append(Record::new(format!("value {number}")).key("k"))
            .unwrap();
    }
    assert!(partition.segments().len() > 1);
    let expected = values(&partition);
    log.close().unwrap();

    let broker = Broker::create(&tools, &theirs);
    copy_dir(&ours.join("moved-0"), &theirs.join("moved-0"));
    fs::remove_file(theirs.join("moved-0/partition.metadata")).unwrap();
    broker.create_topic("moved", 1, &[("retention.ms", "-1")]);
    let read: Vec<_> = broker
        .read("moved", 0, expected.len())
        .into_iter()
        .map(|record| record.value)
        .collect();
    assert_eq!(read, expected);
    broker.stop();
}
