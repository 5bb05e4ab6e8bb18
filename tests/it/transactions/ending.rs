//! Transactions that are ended by others: by an administrator, by a partition that is opened again,
//! and by a producer of another version.

use annals::{Error, ManualClock, SimulatedDisk, Timestamp, TransactionStatus};

use super::*;

#[test]
fn aborting_a_live_transaction_aborts_all_of_it_and_fences_its_producer() {
    let (log, _, output) = log_with_topics();
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut transaction = producer.begin().unwrap();
    for number in 0..100 {
        let partition = part(&output, number % 2);
        transaction.send_to(&partition, "spilled").unwrap();
    }
    let open = log.open_transactions().unwrap();
    assert_eq!(open.len(), 2);
    assert!(
        log.abort_transaction(&open[0].partition, open[0].producer_id)
            .unwrap()
    );
    assert!(log.open_transactions().unwrap().is_empty());
    assert!(
        !log.abort_transaction(&open[1].partition, open[1].producer_id)
            .unwrap()
    );
    let fenced = transaction.commit();
    assert!(matches!(fenced, Err(Error::TransactionalIdFenced { .. })));
    assert!(committed_of(&output).is_empty());
    let unknown = log.abort_transaction(&id("nothing", 0), 1);
    assert!(matches!(unknown, Err(Error::UnknownTopic(_))));
    assert!(!log.abort_transaction(&id("out", 0), 1).unwrap());
}

#[test]
fn a_fenced_member_with_a_spilled_transaction_leaves_none_open() {
    let (log, input, output) = log_with_topics();
    fill(&input, 0, 10);
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join("in").unwrap();
    poll(&mut consumer, 10);
    let mut producer = log.transactional_producer_with("id", small()).unwrap();
    let mut transaction = producer.begin().unwrap();
    for _ in 0..100 {
        transaction.send_to(&part(&output, 0), "spilled").unwrap();
    }
    transaction.commit_offsets(&mut consumer).unwrap();
    drop(consumer);
    let fenced = transaction.commit();
    assert!(
        matches!(fenced, Err(Error::MemberFenced { .. })),
        "{fenced:?}"
    );
    assert!(log.open_transactions().unwrap().is_empty());
    assert!(committed_of(&output).is_empty());
    assert_eq!(group.committed(&id("in", 0)).unwrap(), None);
}

#[test]
fn a_transaction_is_whole_after_its_partition_was_opened_again() {
    let disk = SimulatedDisk::new(3);
    let log = Log::builder("log").storage(disk.clone()).open().unwrap();
    let (input, output) = topics_of(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&part(&input, 0), "one").unwrap();
    transaction.send_to(&part(&output, 0), "one").unwrap();
    transaction.commit().unwrap();
    // The markers are not on the device yet, and this sync loses them.
    disk.fail_call(disk.calls(), std::io::Error::other("a failed sync"));
    let failed = part(&output, 0)
        .with_durability(annals::Durability::Synced)
        .append("plain");
    assert!(failed.is_err(), "{failed:?}");
    part(&output, 0).reopen().unwrap();
    assert!(log.open_transactions().unwrap().is_empty());
    assert_eq!(committed(&part(&input, 0)), ["one"]);
    let values = committed(&part(&output, 0));
    assert_eq!(
        values.first().map(String::as_str),
        Some("one"),
        "{values:?}"
    );

    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&part(&input, 0), "two").unwrap();
    transaction.send_to(&part(&output, 0), "two").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&input, 0)), ["one", "two"]);
    assert_eq!(committed(&part(&output, 0)).last().unwrap(), "two");
}

#[test]
fn an_id_that_was_not_used_for_a_week_is_forgotten() {
    const EIGHT_DAYS: Duration = Duration::from_secs(8 * 24 * 3_600);
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let builder = Log::builder("log").storage(SimulatedDisk::new(1));
    let log = builder.clock(clock.clone()).open().unwrap();
    let (_, output) = topics_of(&log);
    let used = log.transactional_producer("used").unwrap();
    let mut left = log.transactional_producer("left").unwrap();
    let mut transaction = left.begin().unwrap();
    transaction.send(&output, "committed").unwrap();
    transaction.commit().unwrap();
    drop(left);
    let ids = |log: &Log| -> Vec<String> {
        let states = log.transactions().unwrap().into_iter();
        states.map(|state| state.transactional_id).collect()
    };
    log.maintain().unwrap();
    assert_eq!(ids(&log), ["left", "used"], "both were just used");
    clock.advance(EIGHT_DAYS);
    log.maintain().unwrap();
    assert_eq!(
        ids(&log),
        ["used"],
        "the producer of the other one is alive"
    );
    drop(used);
    log.maintain().unwrap();
    log.maintain().unwrap();
    assert_eq!(ids(&log), Vec::<String>::new());
}

#[test]
fn the_version_of_a_broker_without_the_feature_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = Log::open(dir.path()).unwrap();
        topics_of(&log);
        drop(log.transactional_producer("id").unwrap());
        let states = log.topic("__transaction_state").unwrap();
        // The id "old" of producer 7, version 0, without a transaction.
        let key = b"\0\0\0\x03old".to_vec();
        let mut value = vec![0, 0];
        value.extend(7_i64.to_be_bytes());
        value.extend([0, 0, 0, 0, 0xea, 0x60, 0]);
        value.extend((-1_i32).to_be_bytes());
        value.extend(1_700_000_000_000_i64.to_be_bytes());
        value.extend((-1_i64).to_be_bytes());
        states.append(Record::new(value).key(key)).unwrap();
        log.close().unwrap();
    }
    let log = Log::open(dir.path()).unwrap();
    let (input, output) = topics_of(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    for round in 1..4 {
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&part(&input, 0), "in").unwrap();
        transaction.send_to(&part(&output, 0), "out").unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed_of(&output).len(), round);
        let state = log.transactions().unwrap().remove(0);
        assert_eq!(state.status, TransactionStatus::CompleteCommit);
    }
    let states = part(&log.topic("__transaction_state").unwrap(), 0);
    let mut reader = states.read_last(1).unwrap();
    let last = reader.next_record().unwrap().unwrap();
    assert_eq!(last.value().unwrap()[..2], [0, 0], "version 0");
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(committed_of(&log.topic("out").unwrap()).len(), 3);
}
