//! A broker's clients commit, abort and leave transactions open. annals reads them the same way,
//! and the broker continues with the directory after annals.

use annals::RecoveredOutcome;

use super::*;

const GROUP: &str = "g";

/// Writes transactions into the topic of a client, and leaves those of `open`, `pending` and
/// `taken` open.
fn write(client: &mut Client, topic: &str) {
    let commands = [
        "begin T-main",
        "send T-main T 0 5 first",
        "offsets T-main G T 0 5 five",
        "commit T-main",
        "begin T-main",
        "send T-main T 1 300 aborted",
        "offsets T-main G T 0 9 nine",
        "abort T-main",
        "begin T-open",
        "begin T-main",
        "send T-main T 0 2 second",
        "send T-open T 0 4 open",
        "send T-main T 0 2 third",
        "offsets T-main G T 1 7 seven",
        "commit T-main",
        "begin T-pending",
        "send T-pending T 1 3 pending",
        "offsets T-pending G T 1 8 eight",
        "begin T-taken",
        "send T-taken T 1 1 taken",
        "begin T-main",
        "send T-main T 1 4 fourth",
        "commit T-main",
    ];
    for command in commands {
        let command = command
            .replace('T', topic)
            .replace(" G ", &format!(" {GROUP} "));
        client.run_all(&[&command]);
    }
}

/// Checks the transactions that annals reports as open in the directory of a stopped broker.
fn check_open(log: &Log, topics: &[&str]) {
    let recovered = &log.recovery().transactions;
    let all_open = recovered
        .iter()
        .all(|transaction| transaction.outcome == RecoveredOutcome::Open);
    assert!(all_open, "{recovered:?}");
    let mut found: Vec<_> = recovered
        .iter()
        .map(|transaction| {
            let id = transaction.transactional_id.as_deref();
            (
                transaction.partition.to_string(),
                id.unwrap_or_default().to_owned(),
            )
        })
        .collect();
    found.sort();
    let of = |topic: &&str| {
        [("0", "open"), ("1", "pending"), ("1", "taken")]
            .map(|(partition, id)| (format!("{topic}-{partition}"), format!("{topic}-{id}")))
    };
    let pending = |topic: &&str| {
        (
            "__consumer_offsets-0".to_owned(),
            format!("{topic}-pending"),
        )
    };
    let mut expected: Vec<_> = topics.iter().flat_map(of).collect();
    expected.extend(topics.iter().map(pending));
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(log.open_transactions().unwrap().len(), expected.len());
}

/// Aborts the transactions of `pending` in all partitions, and takes the id `taken`.
fn end_some(log: &Log, topics: &[&str]) {
    for transaction in &log.recovery().transactions {
        let id = transaction.transactional_id.as_deref().unwrap();
        if id.ends_with("-pending") {
            let producer = transaction.producer_id;
            assert!(
                log.abort_transaction(&transaction.partition, producer)
                    .unwrap()
            );
        }
    }
    for topic in topics {
        let mut producer = log
            .transactional_producer(&format!("{topic}-taken"))
            .unwrap();
        let mut transaction = producer.begin().unwrap();
        let partition = log.topic(topic).unwrap().partition(1).unwrap();
        transaction.send_to(&partition, "ours").unwrap();
        transaction.commit().unwrap();
        assert_eq!(partition.last_stable_offset(), partition.log_end_offset());
        let partition = log.topic(topic).unwrap().partition(0).unwrap();
        assert!(partition.last_stable_offset() < partition.log_end_offset());
    }
}

#[test]
fn annals_and_a_broker_take_turns_on_transactions_of_the_brokers_clients() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let broker = Broker::create(&tools, root);
    let address = broker.address().to_owned();
    let mut clients = vec![("java", Client::java(&tools, &address))];
    clients.extend(Client::librdkafka(&address).map(|client| ("rdkafka", client)));
    let topics: Vec<&str> = clients.iter().map(|(name, _)| *name).collect();
    for topic in &topics {
        clients[0].1.run_all(&[&format!("create {topic} 2")]);
    }
    for (topic, client) in &mut clients {
        write(client, topic);
    }
    let before = Seen::by_kafka(&mut clients[0].1, &topics, GROUP);
    broker.stop();

    let log = Log::open_read_only(root).unwrap();
    assert_same(&before, &Seen::by_annals(&log, &topics, GROUP));
    let log = Log::open(root).unwrap();
    check_open(&log, &topics);
    assert_same(&before, &Seen::by_annals(&log, &topics, GROUP));
    end_some(&log, &topics);
    let between = Seen::by_annals(&log, &topics, GROUP);
    log.close().unwrap();
    assert_dumps(&tools, root, Gaps::Allowed);

    let broker = Broker::start_at(&tools, root, &address);
    let kafka = Seen::by_kafka(&mut clients[0].1, &topics, GROUP);
    assert_same(&kafka, &between);
    for (topic, client) in &mut clients {
        let run = |client: &mut Client, command: &str| client.run(&command.replace('T', topic));
        run(client, "send T-open T 0 2 continued").unwrap();
        run(client, "commit T-open").unwrap();
        run(client, "abort T-pending").unwrap();
        let taken = run(client, "commit T-taken");
        assert!(taken.is_err(), "{topic}: annals has taken the id");
        run(client, "begin T-main").unwrap();
        run(client, "send T-main T 1 1 fifth").unwrap();
        run(client, "commit T-main").unwrap();
    }
    let after = Seen::by_kafka(&mut clients[0].1, &topics, GROUP);
    for topic in &topics {
        let continued = after.values(Isolation::ReadCommitted, topic, 0);
        assert_eq!(continued.len(), 5 + 2 + 4 + 2 + 2, "{continued:?}");
        let last = after.values(Isolation::ReadCommitted, topic, 1);
        let expected = ["fourth.3", "ours", "fifth.0"].map(str::to_owned);
        assert_eq!(last[last.len() - 3..], expected);
    }
    broker.stop();
    let log = Log::open(root).unwrap();
    assert!(log.recovery().transactions.is_empty());
    assert_same(&after, &Seen::by_annals(&log, &topics, GROUP));
}
