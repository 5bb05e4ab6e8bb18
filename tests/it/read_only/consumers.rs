//! Consumers of a read-only log see the records and commits of the writer.

use std::thread;
use std::time::{Duration, Instant};

use annals::{Error, Log, Seek, TopicConfig};

use super::{PATIENCE, fill, partition, writer};

#[test]
fn a_consumer_without_a_group_waits_for_the_writers_appends() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..3, "value");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let mut consumer = read_only.assign([("t", 0).into()]).unwrap();
    assert_eq!(consumer.poll(PATIENCE).unwrap().iter().count(), 3);
    let (begin, writing) = (Instant::now(), partition(&log));
    let appending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        fill(&writing, 3..40, "value");
    });
    let mut next = 3;
    while next < 40 {
        let records = consumer.poll(PATIENCE).unwrap();
        assert!(
            !records.is_empty(),
            "an empty poll after {:?}",
            begin.elapsed()
        );
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
        "the consumer reached its timeout and was not woken by an append"
    );
    // A poll whose timeout ends returns no record.
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
fn committed_positions_are_current() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..10, "value");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let group = read_only.consumer_group("g").unwrap();
    let committed = || {
        group
            .committed(&("t", 0).into())
            .unwrap()
            .map(|committed| committed.offset)
    };
    assert_eq!(committed(), None);
    assert!(read_only.consumer_groups().unwrap().is_empty());
    let writing = log.consumer_group("g").unwrap();
    for next in [4, 2, 10] {
        writing.commit([(("t", 0).into(), next.into())]).unwrap();
        assert_eq!(committed(), Some(next));
        assert_eq!(
            Log::open_read_only(dir.path())
                .unwrap()
                .consumer_groups()
                .unwrap()
                .len(),
            1
        );
    }
    assert_eq!(read_only.consumer_groups().unwrap().len(), 1);
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
    // A new topic of the same name does not inherit the committed position of the old one.
    log.delete_topic("t").unwrap();
    log.create_topic("t", 1, TopicConfig::new()).unwrap();
    assert_eq!(committed(), None);
    writing.commit([(("t", 0).into(), 0.into())]).unwrap();
    assert_eq!(committed(), Some(0));
    writing.delete().unwrap();
    assert_eq!(committed(), None);
    assert!(read_only.consumer_groups().unwrap().is_empty());
}
