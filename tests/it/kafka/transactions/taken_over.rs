//! A broker takes over the directory of a log, and finds its transactions ended as annals ended
//! them.

use std::time::Duration;

use annals::{Partition, ProducerConfig, RecoveredOutcome, TopicConfig, TransactionalProducer};

use super::*;
use crate::kafka::fixture;

const TOPICS: [(&str, u32); 2] = [("in", 1), ("out", 2)];
const ROUNDS: u64 = 12;

/// Sends the records of a round, and adds those that are committed to the models of the partitions.
/// One in three rounds is aborted.
fn send(
    producer: &mut TransactionalProducer,
    out: &[Partition],
    models: &mut [Vec<String>],
    round: u64,
) {
    let is_aborted = round % 3 == 1;
    let mut transaction = producer.begin().unwrap();
    for number in 0..20 {
        for (partition, model) in out.iter().zip(&mut *models) {
            let value = format!("round {round}, record {number}");
            transaction.send_to(partition, value.clone()).unwrap();
            if !is_aborted {
                model.push(value);
            }
        }
    }
    if is_aborted {
        transaction.abort().unwrap();
    } else {
        transaction.commit().unwrap();
    }
}

/// Writes transactions of every kind into a new log and closes it. Returns the committed
/// values of both partitions of `out`.
fn written(dir: &Path) -> [Vec<String>; 2] {
    let log = Log::open(dir).unwrap();
    let config = TopicConfig::new().segment_bytes(3_000).retention(None);
    let input = log.open_topic("in", 1, config.clone()).unwrap();
    let output = log.open_topic("out", 2, config).unwrap().partitions();
    let values = (0..ROUNDS).map(|number| format!("input {number}"));
    input.partition(0).unwrap().append_batch(values).unwrap();
    let config = annals::ConsumerConfig::new().max_poll_records(1.try_into().unwrap());
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join_with("in", config).unwrap();
    let mut held = log.transactional_producer("held").unwrap();
    let small = ProducerConfig::new().batch_size(100).buffer_memory(300);
    let mut spilling = log.transactional_producer_with("spilling", small).unwrap();
    let mut models = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        output[0].append(format!("plain {round}")).unwrap();
        models[0].push(format!("plain {round}"));
        send(&mut held, &output, &mut models, round);
        send(&mut spilling, &output, &mut models, round + 1);
        if round < ROUNDS - 2 {
            let polled = consumer.poll(Duration::from_secs(30)).unwrap();
            assert_eq!(polled.iter().count(), 1);
            drop(polled);
            let mut transaction = held.begin().unwrap();
            transaction.commit_offsets(&mut consumer).unwrap();
            transaction.commit().unwrap();
        }
    }
    drop(consumer);
    log.close().unwrap();
    models
}

#[test]
fn a_broker_reads_the_transactions_of_annals() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [own, root] = ["annals", "broker"].map(|name| dir.path().join(name));
    let models = written(&own);
    assert_dumps(&tools, &own, Gaps::Refused);
    fs::create_dir(&root).unwrap();
    let broker = Broker::create(&tools, &root);
    let mut client = Client::java(&tools, broker.address());
    hand_over(&mut client, &root, &own, &TOPICS);
    let kafka = Seen::by_kafka(&mut client, &["in", "out"], "g");
    for (number, model) in (0..).zip(&models) {
        let committed = kafka.values(Isolation::ReadCommitted, "out", number);
        assert_eq!(committed, *model);
        let written = kafka.values(Isolation::ReadUncommitted, "out", number);
        assert!(written.len() > committed.len(), "some were aborted");
    }
    let position = kafka.positions.get(&("in".to_owned(), 0));
    assert_eq!(position.map(|(offset, _)| *offset), Some(ROUNDS - 2));
    let log = Log::open(&own).unwrap();
    assert_same(&kafka, &Seen::by_annals(&log, &["in", "out"], "g"));
    drop(log);
    // A broker's producer takes an id that annals used.
    client.run_all(&["begin held", "send held out 0 3 theirs", "commit held"]);
    check_states(&broker);
    let mut kafka = Seen::by_kafka(&mut client, &["out"], "g");
    // They state the id of the topic of annals, so for annals they are about another topic.
    kafka.positions.clear();
    broker.stop();
    let log = Log::open(&root).unwrap();
    assert!(log.recovery().transactions.is_empty());
    assert_same(&kafka, &Seen::by_annals(&log, &["out"], "g"));
    let last = kafka.values(Isolation::ReadCommitted, "out", 0);
    assert_eq!(
        last[last.len() - 3..],
        ["theirs.0", "theirs.1", "theirs.2"].map(str::to_owned)
    );
}

/// Checks the transactional ids that the broker loaded.
fn check_states(broker: &Broker) {
    let listed = broker.tool(TRANSACTIONS, &["list"]);
    for (id, status) in [("held", "CompleteCommit"), ("spilling", "CompleteCommit")] {
        let row = listed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id));
        let row = row.unwrap_or_else(|| panic!("{id}: {listed}"));
        assert_eq!(row.split_whitespace().nth(3), Some(status), "{listed}");
    }
    let id = ["describe", "--transactional-id", "spilling"];
    let described = broker.tool(TRANSACTIONS, &id);
    assert!(described.contains("CompleteCommit"), "{described}");
}

#[test]
fn a_broker_reads_what_annals_completed_for_it() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [own, root] = ["annals", "broker"].map(|name| dir.path().join(name));
    copy_dir(&fixture("prepare-commit/root"), &own);
    let log = Log::open(&own).unwrap();
    let committed = log
        .recovery()
        .transactions
        .iter()
        .filter(|transaction| transaction.outcome == RecoveredOutcome::Committed);
    assert_eq!(committed.count(), 5);
    for open in log.open_transactions().unwrap() {
        let aborted = log.abort_transaction(&open.partition, open.producer_id);
        assert!(aborted.unwrap(), "{open:?}");
    }
    log.close().unwrap();
    assert_dumps(&tools, &own, Gaps::Allowed);
    fs::create_dir(&root).unwrap();
    let broker = Broker::create(&tools, &root);
    let mut client = Client::java(&tools, broker.address());
    hand_over(&mut client, &root, &own, &[("t2", 3), ("t10", 1)]);
    let mut kafka = Seen::by_kafka(&mut client, &["t2", "t10"], "cgt");
    broker.stop();
    // The broker does not know that the first record of t2-0 was deleted.
    kafka
        .records
        .retain(|record| (&*record.1, record.2, record.3) != ("t2", 0, 0));
    let log = Log::open(&own).unwrap();
    assert_same(&kafka, &Seen::by_annals(&log, &["t2", "t10"], "cgt"));
    let place = ("t2".to_owned(), 2);
    assert_eq!(kafka.positions[&place].0, 1);
    let decided = kafka.records.iter().filter(|record| {
        let (isolation, topic, partition, offset, _) = record;
        // The first record of a transaction that the broker had decided.
        let first = [1_838, 2_807, 2_041][*partition as usize];
        isolation == "read_committed" && topic == "t2" && *offset >= first
    });
    assert_eq!(decided.count(), 2_001);
}
