//! Consumers of a read-only log: what another process appends and commits reaches them.

use std::thread;
use std::time::{Duration, Instant};

use annals::{Error, Log, Seek, TopicConfig};

use super::{PATIENCE, fill, partition, writer};

#[test]
fn a_consumer_without_a_group_waits_for_what_another_process_appends() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..3, "value");
    let beside = Log::open_read_only(dir.path()).unwrap();
    let mut consumer = beside.assign([("t", 0).into()]).unwrap();
    assert_eq!(consumer.poll(PATIENCE).unwrap().iter().count(), 3);
    let (begin, writing) = (Instant::now(), partition(&log));
    let appending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        fill(&writing, 3..40, "value");
    });
    let mut next = 3;
    while next < 40 {
        let records = consumer.poll(PATIENCE).unwrap();
        assert!(!records.is_empty(), "it waited for {:?}", begin.elapsed());
        for record in &records {
            let record = record.unwrap();
            assert_eq!(
                (record.offset(), record.text().into_owned()),
                (next, format!("value {next}"))
            );
            next += 1;
        }
    }
    appending.join().unwrap();
    assert!(
        begin.elapsed() < PATIENCE / 2,
        "it was not woken, but had waited for long enough"
    );
    // One that is woken from outside, or whose time is up, comes back with nothing.
    assert!(consumer.poll(Duration::from_millis(50)).unwrap().is_empty());
    fill(&partition(&log), 40..41, "value");
    assert_eq!(consumer.lag(), Some(1));
    consumer.seek_all(Seek::Latest).unwrap();
    assert_eq!(consumer.position(&("t", 0).into()).unwrap(), 41);
    log.delete_topic("t").unwrap();
    assert!(matches!(
        consumer.poll(PATIENCE),
        Err(Error::UnknownTopic(_))
    ));
}

#[test]
fn committed_positions_are_those_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..10, "value");
    let beside = Log::open_read_only(dir.path()).unwrap();
    let group = beside.consumer_group("g").unwrap();
    let committed = || {
        group
            .committed(&("t", 0).into())
            .unwrap()
            .map(|committed| committed.offset)
    };
    assert_eq!(committed(), None);
    assert!(beside.consumer_groups().is_empty());
    let writing = log.consumer_group("g").unwrap();
    for next in [4, 2, 10] {
        writing.commit([(("t", 0).into(), next.into())]).unwrap();
        assert_eq!(committed(), Some(next));
        assert_eq!(
            Log::open_read_only(dir.path())
                .unwrap()
                .consumer_groups()
                .len(),
            1
        );
    }
    assert_eq!(beside.consumer_groups().len(), 1);
    fill(&partition(&log), 10..13, "value");
    let described = group.describe().unwrap();
    assert_eq!(described.positions.len(), 1);
    assert_eq!(
        (
            described.positions[0].committed.as_ref().unwrap().offset,
            described.positions[0].lag
        ),
        (10, Some(3))
    );
    // Another topic of that name has no position of the former one's.
    log.delete_topic("t").unwrap();
    log.create_topic("t", 1, TopicConfig::new()).unwrap();
    assert_eq!(committed(), None);
    writing.commit([(("t", 0).into(), 0.into())]).unwrap();
    assert_eq!(committed(), Some(0));
    writing.delete().unwrap();
    assert_eq!(committed(), None);
    assert!(beside.consumer_groups().is_empty());
}
