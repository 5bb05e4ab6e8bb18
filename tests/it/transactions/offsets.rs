//! Positions of a group that a transaction commits.

use std::sync::Barrier;

use annals::{Error, Rebalance, Seek};

use super::*;

#[test]
fn positions_and_records_are_committed_together() {
    let (log, input, output) = log_with_topics();
    fill(&input, 0, 10);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("in").unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let values = poll(&mut consumer, 10);
    let mut transaction = producer.begin().unwrap();
    transaction.send_batch(&output, values.clone()).unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    assert_eq!(group.committed(&id("in", 0)).unwrap(), None);
    transaction.commit().unwrap();
    let position = group.committed(&id("in", 0)).unwrap().unwrap();
    assert_eq!(position.offset, 10);
    assert_eq!(committed_of(&output), values);
    assert_eq!(consumer.lag(), Some(0));
}

#[test]
fn positions_of_an_aborted_transaction_do_not_change_and_its_input_is_read_again() {
    let (log, input, output) = log_with_topics();
    fill(&input, 0, 10);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("in").unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    for round in 0..3 {
        let values = poll(&mut consumer, 10);
        let mut transaction = producer.begin().unwrap();
        transaction.send_batch(&output, values).unwrap();
        transaction.commit_offsets(&mut consumer).unwrap();
        if round == 2 {
            transaction.commit().unwrap();
            break;
        }
        transaction.abort().unwrap();
        assert_eq!(group.committed(&id("in", 0)).unwrap(), None);
        consumer.seek_all(Seek::Committed).unwrap();
    }
    assert_eq!(committed_of(&output).len(), 10);
    assert_eq!(group.committed(&id("in", 0)).unwrap().unwrap().offset, 10);
}

#[test]
fn positions_are_found_again_after_opening_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let (input, output) = topics_of(&log);
    fill(&input, 0, 10);
    let mut consumer = log.consumer_group("g").unwrap().join("in").unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let values = poll(&mut consumer, 10);
    let mut transaction = producer.begin().unwrap();
    transaction.send_batch(&output, values).unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    transaction.commit().unwrap();
    drop(consumer);
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let group = log.consumer_group("g").unwrap();
    assert_eq!(group.committed(&id("in", 0)).unwrap().unwrap().offset, 10);
}

#[test]
fn a_member_that_has_lost_its_partitions_aborts_the_transaction() {
    let (log, input, output) = log_with_topics();
    fill(&input, 0, 10);
    fill(&input, 1, 10);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("in").unwrap();
    poll(&mut consumer, 20);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "of the old member").unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();

    let mut other = group.join("in").unwrap();
    while other.assignment().is_empty() {
        let _records_of_the_rebalance = consumer.poll(Duration::ZERO).unwrap();
        let _records_of_the_rebalance = other.poll(Duration::ZERO).unwrap();
    }
    let fenced = transaction.commit();
    assert!(
        matches!(fenced, Err(Error::MemberFenced { .. })),
        "{fenced:?}"
    );
    assert!(committed_of(&output).is_empty());
    assert_eq!(part(&output, 0).log_end_offset(), 0, "nothing was written");
    assert_eq!(part(&output, 1).log_end_offset(), 0, "nothing was written");
}

#[test]
fn consumers_that_cannot_commit_are_refused() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 1);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    let mut alone = log.assign([id("in", 0)]).unwrap();
    let refused = transaction.commit_offsets(&mut alone);
    assert!(matches!(refused, Err(Error::NoGroup)));
    let (other, input, _) = log_with_topics();
    fill(&input, 0, 1);
    let mut foreign = other.consumer_group("g").unwrap().join("in").unwrap();
    poll(&mut foreign, 1);
    let refused = transaction.commit_offsets(&mut foreign);
    assert!(
        matches!(refused, Err(Error::UnknownGroup(_))),
        "{refused:?}"
    );
    transaction.commit().unwrap();
}

#[test]
fn the_last_positions_of_a_consumer_count_and_several_groups_commit_together() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 10);
    let groups = ["one", "two"].map(|name| log.consumer_group(name).unwrap());
    let config = annals::ConsumerConfig::new().max_poll_records(5);
    let mut one = groups[0].join_with("in", config).unwrap();
    let mut two = groups[1].join("in").unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    poll(&mut one, 5);
    transaction.commit_offsets(&mut one).unwrap();
    poll(&mut one, 5);
    transaction.commit_offsets(&mut one).unwrap();
    poll(&mut two, 10);
    transaction.commit_offsets(&mut two).unwrap();
    transaction.commit().unwrap();
    for group in &groups {
        assert_eq!(group.committed(&id("in", 0)).unwrap().unwrap().offset, 10);
    }
}

#[test]
fn a_plain_commit_after_a_transaction_counts() {
    let (log, input, _) = log_with_topics();
    fill(&input, 0, 10);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("in").unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    poll(&mut consumer, 10);
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    transaction.commit().unwrap();
    fill(&input, 0, 5);
    poll(&mut consumer, 5);
    consumer.commit().unwrap();
    assert_eq!(group.committed(&id("in", 0)).unwrap().unwrap().offset, 15);
}

#[test]
fn two_workers_share_the_input_and_each_record_has_one_effect() {
    let (log, input, output) = log_with_topics();
    let have_joined = Barrier::new(3);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (log, output, have_joined) = (log.clone(), output.clone(), &have_joined);
            scope.spawn(move || work(&log, &output, worker, have_joined));
        }
        // A worker that joins after the others have stopped would wait for ever.
        have_joined.wait();
        for number in 0..500_u32 {
            let record = Record::new(number.to_string()).key(number.to_le_bytes());
            input.append(record).unwrap();
        }
        let deadline = std::time::Instant::now() + SOON;
        while committed_of(&output).len() < 500 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        input.append(Record::new("stop").key([0])).unwrap();
        input.append(Record::new("stop").key([1])).unwrap();
        input.append(Record::new("stop").key([2])).unwrap();
        input.append(Record::new("stop").key([3])).unwrap();
    });
    let mut seen = committed_of(&output);
    seen.sort_by_key(|value| value.parse::<u32>().unwrap());
    let expected: Vec<String> = (0..500).map(|number: u32| number.to_string()).collect();
    assert_eq!(seen, expected);
}

/// Copies records from `in` to `out` until it reads "stop".
fn work(log: &Log, output: &Topic, worker: u32, have_joined: &Barrier) {
    let mut producer = log
        .transactional_producer(&format!("worker-{worker}"))
        .unwrap();
    let mut consumer = log.consumer_group("g").unwrap().join("in").unwrap();
    have_joined.wait();
    let mut is_stopping = false;
    while !is_stopping {
        let records = consumer.poll(Duration::from_millis(50)).unwrap();
        let _moved = records
            .rebalance()
            .iter()
            .any(|change| matches!(change, Rebalance::Lost(_)));
        let mut transaction = producer.begin().unwrap();
        for record in &records {
            let record = record.unwrap();
            match record.text().as_ref() {
                "stop" => is_stopping = true,
                value => transaction.send(output, value.to_owned()).unwrap(),
            }
        }
        transaction
            .commit_offsets(&mut consumer)
            .unwrap_or_default();
        if transaction.commit().is_err() {
            consumer.seek_all(Seek::Committed).unwrap();
        }
    }
}
