//! Transactions that are larger than the memory of their producer.

use std::thread;

use annals::{Error, TransactionStatus};

use super::*;

#[test]
fn a_spilled_transaction_commits_as_a_whole() {
    let (log, _, output) = log_with_topics();
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    for round in 0..3 {
        let mut transaction = producer.begin().unwrap();
        for number in 0..100 {
            let partition = part(&output, number % 2);
            transaction
                .send_to(&partition, format!("{round}.{number:02}"))
                .unwrap();
        }
        assert!(written(&part(&output, 0)).len() > 40 * round);
        assert_eq!(committed_of(&output).len(), 100 * round);
        let states = log.transactions().unwrap();
        assert_eq!(states[0].status, TransactionStatus::Ongoing);
        assert_eq!(states[0].partitions.len(), 2);
        assert_eq!(log.open_transactions().unwrap().len(), 2);
        transaction.commit().unwrap();
        assert_eq!(committed_of(&output).len(), 100 * (round + 1));
    }
}

#[test]
fn a_spilled_transaction_that_is_aborted_or_dropped_is_never_visible() {
    let (log, _, output) = log_with_topics();
    let partition = part(&output, 0);
    let mut follower = partition.follow(..).unwrap();
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    for round in 0..6 {
        let mut transaction = producer.begin().unwrap();
        for number in 0..50 {
            let value = format!("transaction {round}, record {number}");
            transaction.send_to(&partition, value).unwrap();
        }
        match round % 3 {
            0 => transaction.abort().unwrap(),
            1 => drop(transaction),
            _ => transaction.commit().unwrap(),
        }
        partition.append(format!("plain {round}")).unwrap();
    }
    let expected: Vec<String> = (0..6)
        .flat_map(|round| {
            let records = if round % 3 == 2 { 50 } else { 0 };
            let sent = move |number| format!("transaction {round}, record {number}");
            (0..records).map(sent).chain([format!("plain {round}")])
        })
        .collect();
    assert_eq!(committed(&partition), expected);
    for value in &expected {
        assert_eq!(follower.next_record().unwrap().unwrap().text(), **value);
    }
}

#[test]
fn aborted_records_stay_hidden_after_a_roll_and_after_opening_the_log_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig::new().segment_bytes(2_000);
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 1, config).unwrap();
    let partition = part(&topic, 0);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut expected = Vec::new();
    for round in 0..20 {
        let mut transaction = producer.begin().unwrap();
        for number in 0..20 {
            let value = format!("transaction {round}, record {number}");
            transaction.send_to(&partition, value.clone()).unwrap();
            if round % 2 == 0 {
                expected.push(value);
            }
        }
        if round % 2 == 0 {
            transaction.commit().unwrap();
        } else {
            transaction.abort().unwrap();
        }
        if round == 7 {
            // From here on the active segment has markers from before the flush and after it.
            log.flush().unwrap();
            assert_eq!(committed(&partition), expected);
        }
    }
    assert!(partition.segments().len() > 3);
    assert_eq!(committed(&partition), expected);
    drop(producer);
    drop(partition);
    drop(topic);
    log.close().unwrap();
    for _ in 0..2 {
        let log = Log::open(dir.path()).unwrap();
        assert!(log.recovery().clean);
        assert!(log.recovery().transactions.is_empty());
        let partition = part(&log.topic("t").unwrap(), 0);
        assert_eq!(committed(&partition), expected);
        log.close().unwrap();
    }
    let findings = annals::inspect::verify(dir.path()).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_spilled_transaction_that_takes_too_long_is_aborted_by_maintenance() {
    let (log, _, output) = log_with_topics();
    let config = small().transaction_timeout(Duration::from_millis(1));
    let mut producer = log.transactional_producer_with("id", config).unwrap();
    let mut held = producer.begin().unwrap();
    held.send_to(&part(&output, 1), "held").unwrap();
    thread::sleep(Duration::from_millis(5));
    log.maintain().unwrap();
    held.commit()
        .expect("no reader waits for it, so it has no time-out");

    let mut transaction = producer.begin().unwrap();
    for _ in 0..100 {
        transaction.send_to(&part(&output, 0), "spilled").unwrap();
    }
    thread::sleep(Duration::from_millis(5));
    log.maintain().unwrap();
    assert!(log.open_transactions().unwrap().is_empty());
    let late = transaction.commit();
    assert!(matches!(late, Err(Error::TransactionalIdFenced { .. })));
    assert_eq!(committed_of(&output), ["held"]);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&part(&output, 0), "again").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&output, 0)), ["again"]);
}

#[test]
fn closing_the_log_aborts_a_spilled_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let (_, output) = topics_of(&log);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut transaction = producer.begin().unwrap();
    for _ in 0..100 {
        transaction.send_to(&part(&output, 0), "spilled").unwrap();
    }
    log.close().unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Closed)));
    drop(producer);
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    assert!(log.recovery().transactions.is_empty());
    let states = log.transactions().unwrap();
    assert_eq!(states[0].status, TransactionStatus::CompleteAbort);
    assert!(committed_of(&log.topic("out").unwrap()).is_empty());
}
