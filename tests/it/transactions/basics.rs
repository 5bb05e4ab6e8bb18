//! Commit, abort, and records that are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use annals::{Compression, Error, Log, ManualClock, ProducerConfig, Record, SimulatedDisk};
use annals::{Timestamp, TopicConfig, TransactionStatus};

use super::*;

#[test]
fn records_of_several_partitions_become_visible_together_at_the_commit() {
    let (log, input, output) = log_with_topics();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, keyed(&output, 0, "a")).unwrap();
    transaction.send(&output, keyed(&output, 1, "b")).unwrap();
    transaction.send_to(&part(&input, 1), "c").unwrap();
    assert!(written(&part(&output, 0)).is_empty(), "it is in memory");
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&output, 0)), ["a"]);
    assert_eq!(committed(&part(&output, 1)), ["b"]);
    assert_eq!(committed(&part(&input, 1)), ["c"]);
    let partition = part(&output, 0);
    assert_eq!(partition.log_end_offset(), 2, "a record and a marker");
    assert_eq!(partition.last_stable_offset(), 2);
    assert!(log.open_transactions().unwrap().is_empty());
}

#[test]
fn a_producer_commits_many_transactions_and_other_writers_continue() {
    let (log, _, output) = log_with_topics();
    let partition = part(&output, 0);
    let mut producer = log.transactional_producer("id").unwrap();
    for round in 0..50 {
        partition.append(format!("plain {round}")).unwrap();
        let mut transaction = producer.begin().unwrap();
        for number in 0..3 {
            let value = format!("{round}.{number}");
            transaction.send_to(&partition, value).unwrap();
        }
        if round % 5 == 4 {
            transaction.abort().unwrap();
        } else {
            transaction.commit().unwrap();
        }
    }
    let expected: Vec<String> = (0..50)
        .flat_map(|round| {
            let numbers = if round % 5 == 4 { 0 } else { 3 };
            let sent = (0..numbers).map(move |number| format!("{round}.{number}"));
            std::iter::once(format!("plain {round}")).chain(sent)
        })
        .collect();
    assert_eq!(committed(&partition), expected);
}

#[test]
fn an_abort_a_drop_and_a_panic_leave_nothing_on_the_disk() {
    let disk = SimulatedDisk::new(1);
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let open = Log::builder("log").storage(disk.clone()).clock(clock);
    let log = open.open().unwrap();
    let (_, output) = topics_of(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    let before = disk.fingerprint();

    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "aborted").unwrap();
    transaction.abort().unwrap();

    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "dropped").unwrap();
    drop(transaction);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut transaction = producer.begin().unwrap();
        transaction.send(&output, "panicked").unwrap();
        panic!("a test of a panic inside a transaction");
    }));
    assert!(panicked.is_err());
    producer.begin().unwrap().commit().unwrap();
    assert_eq!(disk.fingerprint(), before);

    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "committed").unwrap();
    transaction.commit().unwrap();
    assert_ne!(disk.fingerprint(), before);
    assert_eq!(committed_of(&output), ["committed"]);
}

#[test]
fn only_the_send_of_a_record_that_is_refused_fails() {
    let log = Log::in_memory();
    let config = TopicConfig::new().max_message_bytes(500);
    let plain = log.create_topic("plain", 1, config.clone()).unwrap();
    let config = config.compression(Compression::Lz4);
    let compressed = log.create_topic("compressed", 1, config).unwrap();
    let keyed = TopicConfig::new().set("cleanup.policy", "compact").unwrap();
    let keyed = log.create_topic("keyed", 1, keyed).unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&plain, "first").unwrap();
    let too_large = transaction.send(&plain, "x".repeat(1_000));
    assert!(matches!(too_large, Err(Error::RecordTooLarge { .. })));
    transaction
        .send(&compressed, "x".repeat(10_000))
        .expect("it is small once it is compressed");
    let noise: String = (0..10_000_u32)
        .map(|number| char::from(33 + (number.wrapping_mul(2_654_435_761) >> 25) as u8 % 90))
        .collect();
    let too_large = transaction.send(&compressed, noise);
    assert!(matches!(too_large, Err(Error::RecordTooLarge { .. })));
    let no_key = transaction.send(&keyed, "no key");
    assert!(matches!(no_key, Err(Error::InvalidRecord { .. })));
    let future = Record::new("early").timestamp(Timestamp::from_millis(i64::MAX));
    let too_early = transaction.send(&plain, future);
    assert!(matches!(too_early, Err(Error::InvalidRecord { .. })));

    let none = transaction.send_batch(&plain, ["fits".to_owned(), "x".repeat(1_000)]);
    assert!(matches!(none, Err(Error::RecordTooLarge { .. })));
    let none = transaction.send_batch(&keyed, [Record::new("a").key("k"), Record::new("b")]);
    let index = match none {
        Err(Error::InvalidRecord { index, .. }) => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(index, 1);
    transaction.send_batch(&plain, ["second", "third"]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&plain, 0)), ["first", "second", "third"]);
    assert_eq!(committed(&part(&compressed, 0)).len(), 1);
    assert!(committed(&part(&keyed, 0)).is_empty());
}

#[test]
fn a_topic_that_is_deleted_inside_the_transaction_aborts_it() {
    let (log, input, output) = log_with_topics();
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&part(&input, 0), "lost").unwrap();
    transaction.send_to(&part(&output, 0), "lost").unwrap();
    log.delete_topic("out").unwrap();
    let refused = transaction.send_to(&part(&input, 0), "more");
    assert!(refused.is_ok());
    let gone = transaction.send(&output, "more");
    assert!(matches!(gone, Err(Error::UnknownTopic(_))), "{gone:?}");
    let failed = transaction.commit();
    assert!(matches!(failed, Err(Error::UnknownTopic(_))), "{failed:?}");
    assert!(committed(&part(&input, 0)).is_empty());
    assert_eq!(
        part(&input, 0).last_stable_offset(),
        part(&input, 0).log_end_offset(),
        "the marker is there"
    );

    let output = log.open_topic("out", 2, TopicConfig::new()).unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_to(&part(&input, 0), "kept").unwrap();
    transaction.send_to(&part(&output, 0), "kept").unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&part(&input, 0)), ["kept"]);
    assert_eq!(committed(&part(&output, 0)), ["kept"]);
}

#[test]
fn ids_topics_and_partitions_that_do_not_fit_are_refused() {
    let (log, _, output) = log_with_topics();
    for id in [String::new(), "x".repeat(250), "ä".repeat(250)] {
        let refused = log.transactional_producer(&id);
        assert!(matches!(refused, Err(Error::InvalidTransactionalId)));
    }
    log.transactional_producer(&"ä".repeat(249)).unwrap();
    let config = ProducerConfig::new().buffer_memory(1);
    let refused = log.transactional_producer_with("id", config);
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));

    let other = Log::in_memory();
    let mut producer = other.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    let refused = transaction.send(&output, "x");
    assert!(matches!(refused, Err(Error::UnknownTopic(_))));
    let refused = transaction.send_batch(&output, ["x"]);
    assert!(matches!(refused, Err(Error::UnknownTopic(_))));
    let refused = transaction.send_to(&part(&output, 0), "x");
    assert!(matches!(refused, Err(Error::UnknownPartition(_))));
    transaction.commit().unwrap();
}

#[test]
fn a_closed_or_read_only_log_has_no_transactional_producer() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let (_, output) = topics_of(&log);
    let mut producer = log.transactional_producer("id").unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "committed").unwrap();
    transaction.commit().unwrap();

    let reading = Log::open_read_only(dir.path()).unwrap();
    let refused = reading.transactional_producer("id");
    assert!(matches!(refused, Err(Error::ReadOnly)));
    let states = reading.transactions().unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].status, TransactionStatus::PrepareCommit);
    assert_eq!(committed_of(&reading.topic("out").unwrap()), ["committed"]);

    let mut transaction = producer.begin().unwrap();
    transaction.send(&output, "late").unwrap();
    log.clone().close().unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Closed)));
    assert!(matches!(producer.begin().err(), Some(Error::Closed)));
    let refused = log.transactional_producer("id");
    assert!(matches!(refused, Err(Error::Closed)));

    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().clean);
    let states = log.transactions().unwrap();
    assert_eq!(states[0].status, TransactionStatus::CompleteCommit);
    assert_eq!(states[0].transactional_id, "id");
    assert_eq!(committed_of(&log.topic("out").unwrap()), ["committed"]);
}

#[test]
fn a_follower_gets_the_records_at_the_commit_and_passes_the_markers() {
    let (log, _, output) = log_with_topics();
    let partition = part(&output, 0);
    let mut follower = partition.follow(..).unwrap();
    let mut producer = log.transactional_producer("id").unwrap();
    for value in ["one", "two"] {
        let mut transaction = producer.begin().unwrap();
        transaction.send_to(&partition, value).unwrap();
        transaction.commit().unwrap();
        let record = follower.next_record().unwrap().unwrap();
        assert_eq!(record.text(), value);
    }
}
