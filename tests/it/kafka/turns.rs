//! A broker and annals on one directory, in turns and at the same time: each continues with the
//! files of the other.

use std::fs;
use std::path::Path;

use annals::{Error, Log, OffsetAndMetadata, Record, TopicPartition};

use super::adopted::{last_epoch, texts};
use super::fixtures::{copy_of, partition};
use super::{Broker, Gaps, KafkaTools, assert_clean, expected_values, fixture};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

fn values(broker: &Broker, topic: &str, count: usize) -> Vec<String> {
    broker
        .read(topic, 0, count)
        .into_iter()
        .map(|record| record.value.unwrap())
        .collect()
}

fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{name} {number}"))
        .collect()
}

/// Returns the offset that Kafka's own tool shows for a group in `plain-0`.
fn described(broker: &Broker, group: &str) -> Option<u64> {
    let printed = broker.tool(GROUPS, &["--describe", "--group", group]);
    let line = printed
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some("plain"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn epochs(dir: &Path) -> Vec<(i32, u64)> {
    let text = fs::read_to_string(dir.join("leader-epoch-checkpoint")).unwrap();
    let pair = |line: &str| {
        let (epoch, start) = line.split_once(' ').unwrap();
        (epoch.parse().unwrap(), start.parse().unwrap())
    };
    text.lines().skip(2).map(pair).collect()
}

/// Appends to `plain-0` with annals and commits an offset for two groups. Adds the appended values
/// to `expected`.
fn append_and_commit(root: &Path, offset: u64, expected: &mut Vec<String>) {
    let log = Log::open(root).unwrap();
    assert!(log.recovery().clean);
    let partition = partition(&log, "plain-0");
    assert_eq!(&texts(&partition, 0), expected);
    for line in lines("annals", 3) {
        partition
            .append(Record::new(line.clone()).key("k"))
            .unwrap();
        expected.push(line);
    }
    for group in ["billing", "new"] {
        let position = OffsetAndMetadata {
            metadata: "ours".to_owned(),
            ..OffsetAndMetadata::from(offset)
        };
        log.consumer_group(group)
            .unwrap()
            .commit([(TopicPartition::new("plain", 0), position)])
            .unwrap();
    }
    log.close().unwrap();
}

/// Produces to `plain-0` with a broker, resets the group `by-hand` to an offset, and adds the
/// produced values to `expected`.
fn produce_and_reset(broker: &Broker, offset: u64, expected: &mut Vec<String>) {
    let produced = lines("kafka", 200);
    broker.produce("plain", &produced);
    expected.extend(produced);
    let offset = offset.to_string();
    let arguments = [
        "--reset-offsets",
        "--group",
        "by-hand",
        "--topic",
        "plain",
        "--to-offset",
        &offset,
        "--execute",
    ];
    broker.tool(GROUPS, &arguments);
}

#[test]
fn a_broker_and_annals_take_turns_on_one_directory() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let (_dir, root) = copy_of("clean");
    let plain = root.join("plain-0");
    let mut expected: Vec<String> = expected_values("clean", "plain-0")
        .into_iter()
        .flatten()
        .collect();
    let committed = fs::read_to_string(fixture("clean/expected/transactions-0.committed.jsonl"))
        .unwrap()
        .lines()
        .count();
    let mut last = 0;
    for turn in 0..2_u64 {
        let (ours, theirs) = (60 + turn, 7 + turn);
        append_and_commit(&root, ours, &mut expected);
        assert_clean(&tools, &[&root], Gaps::Allowed);
        assert!(
            last_epoch(&plain) >= last,
            "turn {turn}: the epoch went back"
        );

        let broker = Broker::start(&tools, &root);
        assert_eq!(
            values(&broker, "plain", expected.len()),
            expected,
            "turn {turn}"
        );
        assert_eq!(described(&broker, "billing"), Some(ours), "turn {turn}");
        assert_eq!(described(&broker, "new"), Some(ours), "turn {turn}");
        assert_eq!(
            broker.read("transactions", 0, committed).len(),
            committed,
            "turn {turn}"
        );
        produce_and_reset(&broker, theirs, &mut expected);
        broker.stop();
        last = last_epoch(&plain);
        assert!(
            last > i32::try_from(turn).unwrap(),
            "a broker must raise the epoch with each start"
        );

        let log = Log::open(&root).unwrap();
        let by_hand = log.consumer_group("by-hand").unwrap();
        let found = by_hand.committed(&TopicPartition::new("plain", 0)).unwrap();
        assert_eq!(found.map(|found| found.offset), Some(theirs), "turn {turn}");
        log.close().unwrap();
    }
    let log = Log::open(&root).unwrap();
    partition(&log, "plain-0").append("the end").unwrap();
    log.close().unwrap();
    assert_eq!(last_epoch(&plain), last);
    let epochs = epochs(&plain);
    assert!(
        epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1),
        "{epochs:?}"
    );
    assert_eq!(epochs.last().map(|(epoch, _)| *epoch), Some(last));
}

#[test]
fn records_that_annals_deletes_are_deleted_for_the_broker() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let (_dir, root) = copy_of("clean");
    let log = Log::open(&root).unwrap();
    partition(&log, "plain-0")
        .delete_records_before(20)
        .unwrap();
    log.close().unwrap();
    let broker = Broker::start(&tools, &root);
    let expected: Vec<_> = expected_values("clean", "plain-0")
        .into_iter()
        .flatten()
        .skip(20)
        .collect();
    let read = broker.read("plain", 0, expected.len());
    assert_eq!(read.first().map(|record| record.offset), Some(20));
    assert_eq!(
        read.into_iter()
            .filter_map(|record| record.value)
            .collect::<Vec<_>>(),
        expected
    );
    broker.stop();
    let log = Log::open(&root).unwrap();
    assert_eq!(partition(&log, "plain-0").log_start_offset(), 20);
    assert_eq!(partition(&log, "deleted-records-0").log_start_offset(), 37);
}

#[test]
fn annals_reads_alongside_a_broker_and_recovers_its_files_after_a_kill() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let broker = Broker::create(&tools, &root);
    let small = [
        ("retention.ms", "-1"),
        ("internal.segment.bytes", "40000"),
        ("index.interval.bytes", "500"),
    ];
    broker.create_topic("killed", 1, &small);
    let mut expected = lines("first", 2_000);
    broker.produce("killed", &expected);

    assert!(
        matches!(Log::open(&root), Err(Error::Locked { .. })),
        "the broker must hold the lock"
    );
    let read_only = Log::open_read_only(&root).unwrap();
    let followed = partition(&read_only, "killed-0");
    assert_eq!(texts(&followed, 0), expected);
    let more = lines("second", 3_000);
    broker.produce("killed", &more);
    expected.extend(more);
    let mut reader = followed.follow(2_000..).unwrap();
    for line in &expected[2_000..] {
        assert_eq!(&reader.next_record().unwrap().unwrap().text(), line);
    }
    assert_eq!(
        texts(
            &partition(&Log::open_read_only(&root).unwrap(), "killed-0"),
            0
        ),
        expected
    );
    drop(broker);

    assert_eq!(
        texts(
            &partition(&Log::open_read_only(&root).unwrap(), "killed-0"),
            0
        ),
        expected
    );
    for round in 0..2 {
        let log = Log::open(&root).unwrap();
        assert_eq!(log.recovery().clean, round == 1);
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        let partition = partition(&log, "killed-0");
        assert_eq!(texts(&partition, 0), expected);
        partition.append(format!("ours {round}")).unwrap();
        expected.push(format!("ours {round}"));
        log.close().unwrap();
    }
    // Check only this partition: annals does not touch the metadata log of the broker, which a
    // broker always scans.
    assert_clean(&tools, &[&root.join("killed-0")], Gaps::Refused);
    let broker = Broker::start(&tools, &root);
    assert_eq!(values(&broker, "killed", expected.len()), expected);
    broker.stop();
}
