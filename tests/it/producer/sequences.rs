//! The fields that a producer adds to its batches: its id and epoch, and the sequence of each
//! batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use annals::inspect::{self, DumpOptions};
use annals::{Log, ProducerConfig, TopicConfig};

/// Returns the producer id, the epoch, and the first and last sequence of each batch of a
/// partition, in log order.
fn stamps(partition: &Path) -> Vec<(i64, i64, i64, i64)> {
    let mut files: Vec<_> = std::fs::read_dir(partition)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "log"));
    files.sort();
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let findings = inspect::dump(&files, &DumpOptions::new(), &mut out, &mut problems).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let text = String::from_utf8(out).unwrap();
    let number = |line: &str, field: &str| {
        let (_, rest) = line.split_once(&format!(" {field}: "))?;
        rest.split(' ').next()?.parse().ok()
    };
    let batches = text.lines().filter(|line| line.starts_with("baseOffset: "));
    let stamp = |line| {
        let field = |name| number(line, name).expect("the line has the field");
        (
            field("producerId"),
            field("producerEpoch"),
            field("baseSequence"),
            field("lastSequence"),
        )
    };
    batches.map(stamp).collect()
}

#[test]
fn sequences_count_the_records_of_each_producer_in_each_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log
        .create_topic("t", 2, TopicConfig::new().segment_bytes(4_000))
        .unwrap();
    let config = ProducerConfig::new().batch_size(300);
    let producers = [
        log.producer_with(config.clone()).unwrap(),
        log.producer_with(config).unwrap(),
    ];
    for number in 0..600 {
        producers[number % 2]
            .send_to(
                &topic.partition(u32::from(number % 3 == 0)).unwrap(),
                format!("value {number}"),
            )
            .unwrap();
    }
    for producer in producers {
        producer.close().unwrap();
    }
    log.close().unwrap();
    for (partition, records) in [("t-0", 400), ("t-1", 200)] {
        let mut next = BTreeMap::new();
        for (producer, epoch, first, last) in stamps(&dir.path().join(partition)) {
            assert!(producer >= 1 << 62, "{producer}");
            assert_eq!(epoch, 0);
            let expected = next.entry(producer).or_insert(0);
            assert_eq!(first, *expected);
            *expected = last + 1;
        }
        assert_eq!(
            next.into_values().collect::<Vec<_>>(),
            [records / 2, records / 2]
        );
    }
}

#[test]
fn producer_ids_are_unique_across_runs() {
    const RUNS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..RUNS {
        let log = Log::open(dir.path()).unwrap();
        let topic = log.open_topic("t", 1, TopicConfig::new()).unwrap();
        for _ in 0..4 {
            let producer = log.producer().unwrap();
            producer.send(&topic, "v").unwrap();
            producer.close().unwrap();
        }
        log.close().unwrap();
    }
    let ids: BTreeSet<_> = stamps(&dir.path().join("t-0"))
        .into_iter()
        .map(|(producer, ..)| producer)
        .collect();
    assert_eq!(ids.len(), RUNS * 4);
}

/// A truncation would leave a gap in the sequences of a producer, so the producer begins a new
/// epoch.
#[test]
fn a_new_epoch_begins_after_a_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    let producer = log.producer().unwrap();
    let send = |times| {
        for _ in 0..times {
            producer.send_to(&partition, "v").unwrap().wait().unwrap();
        }
    };
    send(4);
    partition.truncate_to(2).unwrap();
    send(3);
    producer.close().unwrap();
    log.close().unwrap();
    let epochs_and_sequences: Vec<_> = stamps(&dir.path().join("t-0"))
        .into_iter()
        .map(|(_, epoch, first, _)| (epoch, first))
        .collect();
    assert_eq!(
        epochs_and_sequences,
        [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    );
}

#[test]
fn appends_without_a_producer_have_no_producer_id() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .append("v")
        .unwrap();
    log.close().unwrap();
    assert_eq!(stamps(&dir.path().join("t-0")), [(-1, -1, -1, -1)]);
}
