//! A read-only log beside a writer: what it sees of appends, rolls, cuts, deletions, topics. In
//! `process` the writer is another process, which is killed; here both are in one, since they share
//! nothing but the directory.

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

/// Longer than anything here takes.
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

/// What a follower gets, as it gets it.
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
        .expect("a follower is not forgotten")
        .unwrap()
}

#[test]
fn every_answer_is_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let beside = Log::open_read_only(dir.path()).unwrap();
    let looking = partition(&beside);
    assert_eq!(
        (looking.log_start_offset(), looking.log_end_offset()),
        (0, 0)
    );
    fill(&partition(&log), 0..40, "value");
    assert_eq!(looking.log_end_offset(), 40);
    assert_eq!(looking.segments().len(), partition(&log).segments().len());
    assert_eq!(texts(&looking).unwrap(), expect("value", 0..40));
    assert_eq!(
        looking
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
        looking.log_start_offset(),
        first,
        "the files that are left tell"
    );
    assert!(matches!(
        looking.read(0..),
        Err(Error::OffsetOutOfRange { requested: 0, .. })
    ));
    log.flush().unwrap();
    drop(beside.topic("t").unwrap());
    assert_eq!(looking.log_start_offset(), 20, "the topic file tells");
    assert_eq!(texts(&looking).unwrap(), expect("value", 20..40));
}

#[test]
fn a_truncation_and_other_records_at_the_same_offsets_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let writing = partition(&log);
    fill(&writing, 0..30, "first");
    let beside = Log::open_read_only(dir.path()).unwrap();
    let third = writing.segments()[3].base_offset;
    // Within a segment, at its start, and down to nothing.
    for (round, end) in [(1, 29), (2, third + 1), (3, third), (4, 0)] {
        let follower = followed(partition(&beside).follow(..).unwrap());
        for offset in 0..30 {
            assert_eq!(next(&follower).0, offset, "{round}");
        }
        writing.truncate_to(end).unwrap();
        fill(&writing, end..30, &format!("again{round}"));
        let expected = texts(&writing).unwrap();
        assert_eq!(expected[29], format!("again{round} 29"));
        assert_eq!(texts(&partition(&beside)).unwrap(), expected, "{round}");
        // The follower stands at 30, and goes on there.
        fill(&writing, 30..31, "more");
        assert_eq!(next(&follower), (30, "more 30".to_owned()), "{round}");
        writing.truncate_to(30).unwrap();
        assert_eq!(partition(&beside).log_end_offset(), 30);
    }
}

#[test]
fn retention_takes_what_an_old_reader_has_yet_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..40, "value");
    let beside = Log::open_read_only(dir.path()).unwrap();
    let looking = partition(&beside);
    let mut reader = looking.read(..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "value 0");
    let mut unopened = looking.read(12..).unwrap();
    partition(&log).delete_records_before(40).unwrap();
    for mut reader in [reader, looking.read(..).unwrap()] {
        // What it holds it may finish; then it is told, or is at the end.
        let told = loop {
            match reader.next_record() {
                Ok(Some(_)) => {}
                other => break other.map(|record| record.is_some()),
            }
        };
        assert!(
            matches!(
                told,
                Err(Error::OffsetOutOfRange { log_start: 40, .. }) | Ok(false)
            ),
            "{told:?}"
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
        (looking.log_start_offset(), looking.log_end_offset()),
        (40, 40)
    );
    fill(&partition(&log), 40..41, "value");
    assert_eq!(texts(&looking).unwrap(), ["value 40"]);
}

#[test]
fn topics_come_grow_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    let beside = Log::open_read_only(dir.path()).unwrap();
    assert!(matches!(beside.topic("u"), Err(Error::UnknownTopic(_))));
    let written = log.create_topic("u", 1, TopicConfig::new()).unwrap();
    written.append("a").unwrap();
    let topic = beside.topic("u").unwrap();
    assert_eq!(topic.id(), written.id());
    assert_eq!(beside.topics().len(), 2);
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
    assert!(matches!(beside.topic("u"), Err(Error::UnknownTopic(_))));
    assert!(matches!(topic.partition(0), Err(Error::UnknownTopic(_))));
    let anew = log.create_topic("u", 1, TopicConfig::new()).unwrap();
    anew.append("c").unwrap();
    assert!(
        matches!(held.read(..), Err(Error::UnknownTopic(_))),
        "it is of the one that was deleted"
    );
    let again = beside.topic("u").unwrap();
    assert_eq!(again.id(), anew.id());
    assert_ne!(again.id(), topic.id());
    assert_eq!(texts(&again.partition(0).unwrap()).unwrap(), ["c"]);
}

#[test]
fn a_topic_that_is_another_by_the_next_look_is_not_mistaken() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..3, "old");
    let beside = Log::open_read_only(dir.path()).unwrap();
    let follower = followed(partition(&beside).follow(..).unwrap());
    for offset in 0..3 {
        assert_eq!(next(&follower).0, offset);
    }
    log.delete_topic("t").unwrap();
    let anew = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&anew.partition(0).unwrap(), 0..5, "new");
    let told = follower.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(told, Err(Error::UnknownTopic(_))), "{told:?}");
    assert_eq!(texts(&partition(&beside)).unwrap(), expect("new", 0..5));
}

#[test]
fn a_directory_is_opened_while_it_becomes_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    assert!(matches!(
        Log::open_read_only(&root),
        Err(Error::NotALog { .. })
    ));
    fs::create_dir(&root).unwrap();
    assert!(
        matches!(Log::open_read_only(&root), Err(Error::NotALog { .. })),
        "nothing says yet that it is to be a log"
    );
    fs::write(root.join(".lock"), "").unwrap();
    let beside = Log::open_read_only(&root).unwrap();
    assert!(beside.topics().is_empty() && beside.cluster_id().is_none());
    let log = writer(&root);
    fs::remove_file(root.join("meta.properties")).unwrap();
    fill(&partition(&log), 0..2, "value");
    assert_eq!(texts(&partition(&beside)).unwrap(), expect("value", 0..2));
    assert_eq!(
        texts(&partition(&Log::open_read_only(&root).unwrap())).unwrap(),
        expect("value", 0..2)
    );

    // Whatever is seen of a log that is being made, over and over: it is none yet, or it is one.
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
                Ok(beside) => match beside.topic("t").and_then(|topic| topic.partition(0)) {
                    Ok(partition) => {
                        assert!(expect("value", 0..3).starts_with(&texts(&partition).unwrap()))
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
