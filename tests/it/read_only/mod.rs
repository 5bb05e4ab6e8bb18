//! A read-only log next to a writer: it sees appends, rolls, truncations, deletions and topics.
//!
//! In `process` the writer is another process, which is killed. The other tests open both
//! logs in one process, which makes no difference: the two share only the directory.

mod compacted;
mod consumers;
mod files;
mod process;
mod zeros;

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use annals::{Error, Log, OffsetSpec, Partition, Reader, Result, TopicConfig};

/// The limit of every wait: longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn partition(log: &Log) -> Partition {
    log.topic("t").unwrap().partition(0).unwrap()
}

fn writer(dir: &Path) -> Log {
    let log = Log::open(dir).unwrap();
    log.open_topic("t", 1, TopicConfig::new().segment_bytes(300))
        .unwrap();
    log
}

fn fill(partition: &Partition, values: std::ops::Range<u64>, text: &str) {
    for value in values {
        partition.append(format!("{text} {value}")).unwrap();
    }
}

fn texts(partition: &Partition) -> Result<Vec<String>> {
    let mut reader = partition.read(..)?;
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record()? {
        texts.push(record.text().into_owned());
    }
    Ok(texts)
}

fn expect(text: &str, values: std::ops::Range<u64>) -> Vec<String> {
    values.map(|value| format!("{text} {value}")).collect()
}

/// Runs the follower on a thread of its own. Returns a channel with each record as it arrives.
fn followed(mut follower: Reader) -> Receiver<Result<(u64, String)>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        loop {
            let next = follower
                .next_record()
                .map(|record| record.map(|record| (record.offset(), record.text().into_owned())));
            let Some(next) = next.transpose() else { return };
            let is_over = next.is_err();
            if sender.send(next).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}

fn next(followed: &Receiver<Result<(u64, String)>>) -> (u64, String) {
    followed
        .recv_timeout(PATIENCE)
        .expect("the follower gets the record")
        .unwrap()
}

#[test]
fn a_read_only_log_sees_the_current_state() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    assert_eq!(
        (observed.log_start_offset(), observed.log_end_offset()),
        (0, 0)
    );
    fill(&partition(&log), 0..40, "value");
    assert_eq!(observed.log_end_offset(), 40);
    assert_eq!(observed.segments().len(), partition(&log).segments().len());
    assert_eq!(texts(&observed).unwrap(), expect("value", 0..40));
    assert_eq!(
        observed
            .offset_for(OffsetSpec::Latest)
            .unwrap()
            .unwrap()
            .offset,
        40
    );
    partition(&log).delete_records_before(20).unwrap();
    let first = partition(&log).segments()[0].base_offset;
    assert!(first > 10);
    assert_eq!(
        observed.log_start_offset(),
        first,
        "the first remaining file shows the log start"
    );
    assert!(matches!(
        observed.read(0..),
        Err(Error::OffsetOutOfRange { requested: 0, .. })
    ));
    log.flush().unwrap();
    drop(read_only.topic("t").unwrap());
    assert_eq!(
        observed.log_start_offset(),
        20,
        "the topic file has the log start"
    );
    assert_eq!(texts(&observed).unwrap(), expect("value", 20..40));
}

#[test]
fn a_truncation_and_new_records_at_its_offsets_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let writing = partition(&log);
    fill(&writing, 0..30, "first");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let third = writing.segments()[3].base_offset;
    // The log is cut inside a segment twice, then at the start of a segment, and then at 0.
    for (round, end) in [(1, 29), (2, third + 1), (3, third), (4, 0)] {
        let follower = followed(partition(&read_only).follow(..).unwrap());
        for offset in 0..30 {
            assert_eq!(next(&follower).0, offset, "{round}");
        }
        writing.truncate_to(end).unwrap();
        fill(&writing, end..30, &format!("again{round}"));
        let expected = texts(&writing).unwrap();
        assert_eq!(expected[29], format!("again{round} 29"));
        assert_eq!(texts(&partition(&read_only)).unwrap(), expected, "{round}");
        // The follower is at 30, and continues there.
        fill(&writing, 30..31, "more");
        assert_eq!(next(&follower), (30, "more 30".to_owned()), "{round}");
        writing.truncate_to(30).unwrap();
        assert_eq!(partition(&read_only).log_end_offset(), 30);
    }
}

#[test]
fn a_reader_reports_records_deleted_before_it_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..40, "value");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    let mut reader = observed.read(..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "value 0");
    let mut unopened = observed.read(12..).unwrap();
    partition(&log).delete_records_before(40).unwrap();
    for mut reader in [reader, observed.read(..).unwrap()] {
        // The reader may finish the data that it holds. Then it reports the deletion, or is at the
        // end.
        let last = loop {
            match reader.next_record() {
                Ok(Some(_)) => {}
                other => break other.map(|record| record.is_some()),
            }
        };
        assert!(
            matches!(
                last,
                Err(Error::OffsetOutOfRange { log_start: 40, .. }) | Ok(false)
            ),
            "{last:?}"
        );
    }
    assert!(matches!(
        unopened.next_record(),
        Err(Error::OffsetOutOfRange {
            requested: 12,
            log_start: 40,
            ..
        })
    ));
    assert_eq!(
        (observed.log_start_offset(), observed.log_end_offset()),
        (40, 40)
    );
    fill(&partition(&log), 40..41, "value");
    assert_eq!(texts(&observed).unwrap(), ["value 40"]);
}

#[test]
fn created_grown_and_deleted_topics_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let read_only = Log::open_read_only(dir.path()).unwrap();
    assert!(matches!(read_only.topic("u"), Err(Error::UnknownTopic(_))));
    let written = log.create_topic("u", 1, TopicConfig::new()).unwrap();
    written.append("a").unwrap();
    let topic = read_only.topic("u").unwrap();
    assert_eq!(topic.id(), written.id());
    assert_eq!(read_only.topics().len(), 2);
    assert!(matches!(
        topic.partition(2),
        Err(Error::UnknownPartition(_))
    ));
    written.increase_partitions_to(3).unwrap();
    written.partition(2).unwrap().append("b").unwrap();
    assert_eq!(texts(&topic.partition(2).unwrap()).unwrap(), ["b"]);
    assert_eq!(topic.partitions().len(), 3);
    written
        .update_config(TopicConfig::new().segment_bytes(12_345))
        .unwrap();
    assert_eq!(topic.config(), written.config());

    let held = topic.partition(0).unwrap();
    let follower = followed(held.follow(..).unwrap());
    assert_eq!(next(&follower).1, "a");
    log.delete_topic("u").unwrap();
    assert!(matches!(
        follower.recv_timeout(PATIENCE).unwrap(),
        Err(Error::UnknownTopic(_))
    ));
    assert!(matches!(held.read(..), Err(Error::UnknownTopic(_))));
    assert!(matches!(read_only.topic("u"), Err(Error::UnknownTopic(_))));
    assert!(matches!(topic.partition(0), Err(Error::UnknownTopic(_))));
    let recreated = log.create_topic("u", 1, TopicConfig::new()).unwrap();
    recreated.append("c").unwrap();
    assert!(
        matches!(held.read(..), Err(Error::UnknownTopic(_))),
        "the handle belongs to the deleted topic"
    );
    let again = read_only.topic("u").unwrap();
    assert_eq!(again.id(), recreated.id());
    assert_ne!(again.id(), topic.id());
    assert_eq!(texts(&again.partition(0).unwrap()).unwrap(), ["c"]);
}

#[test]
fn a_recreated_topic_is_not_mistaken_for_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..3, "old");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let follower = followed(partition(&read_only).follow(..).unwrap());
    for offset in 0..3 {
        assert_eq!(next(&follower).0, offset);
    }
    log.delete_topic("t").unwrap();
    let recreated = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&recreated.partition(0).unwrap(), 0..5, "new");
    let last = follower.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(last, Err(Error::UnknownTopic(_))), "{last:?}");
    assert_eq!(texts(&partition(&read_only)).unwrap(), expect("new", 0..5));
}

#[test]
fn a_directory_can_be_opened_while_it_becomes_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    assert!(matches!(
        Log::open_read_only(&root),
        Err(Error::NotALog { .. })
    ));
    fs::create_dir(&root).unwrap();
    assert!(
        matches!(Log::open_read_only(&root), Err(Error::NotALog { .. })),
        "an empty directory is not a log yet"
    );
    fs::write(root.join(".lock"), "").unwrap();
    let read_only = Log::open_read_only(&root).unwrap();
    assert!(read_only.topics().is_empty());
    assert!(read_only.cluster_id().is_none());
    let log = writer(&root);
    fs::remove_file(root.join("meta.properties")).unwrap();
    fill(&partition(&log), 0..2, "value");
    assert_eq!(
        texts(&partition(&read_only)).unwrap(),
        expect("value", 0..2)
    );
    assert_eq!(
        texts(&partition(&Log::open_read_only(&root).unwrap())).unwrap(),
        expect("value", 0..2)
    );

    // A log that another thread creates in the meantime is either not a log yet, or complete.
    for _ in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let made = thread::spawn({
            let root = root.clone();
            move || {
                let log = writer(&root);
                fill(&partition(&log), 0..3, "value");
                log.close().unwrap();
            }
        });
        while !made.is_finished() {
            match Log::open_read_only(&root) {
                Ok(read_only) => match read_only.topic("t").and_then(|topic| topic.partition(0)) {
                    Ok(partition) => {
                        assert!(expect("value", 0..3).starts_with(&texts(&partition).unwrap()));
                    }
                    Err(Error::UnknownTopic(_) | Error::UnknownPartition(_)) => {}
                    Err(error) => panic!("{error}"),
                },
                Err(Error::NotALog { path, .. }) => assert_eq!(path, root),
                Err(error) => panic!("{error}"),
            }
        }
        made.join().unwrap();
        assert_eq!(
            texts(&partition(&Log::open_read_only(&root).unwrap())).unwrap(),
            expect("value", 0..3)
        );
    }
}
