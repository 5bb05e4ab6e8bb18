//! Reading while other threads append: waking, stopping, and the data that readers hold.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annals::{Durability, Error, Log, LogConfig, Partition, ReadMode, ReadOptions, TopicConfig};

/// The limit of every wait: long enough for any machine, and reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn partition(log: &Log, config: TopicConfig) -> Partition {
    log.open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap()
}

/// Runs `work` on a thread of its own and returns a channel with its result. A lost wake-up is
/// then a failed test, not a test that hangs.
fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

#[test]
fn a_follower_receives_records_appended_later() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    let mut follower = partition.follow(..).unwrap();
    let got = bounded(move || {
        let mut texts = Vec::new();
        while texts.len() < 3 {
            texts.push(follower.next_record().unwrap().unwrap().text().into_owned());
        }
        texts
    });
    for text in ["a", "b", "c"] {
        partition.append(text).unwrap();
    }
    assert_eq!(got.recv_timeout(PATIENCE).unwrap(), ["a", "b", "c"]);
}

#[test]
fn no_wake_up_is_lost_between_two_followers() {
    const HAND_OVERS: u64 = 50_000;
    let log = Log::in_memory();
    let (there, back) = (
        partition(&log, TopicConfig::new()),
        log.create_topic("back", 1, TopicConfig::new()).unwrap(),
    );
    let back = back.partition(0).unwrap();
    let (mut requests, answers) = (there.follow(..).unwrap(), back.clone());
    let echo = bounded(move || {
        for _ in 0..HAND_OVERS {
            let batch = requests.next().unwrap().unwrap();
            answers
                .append_batch(batch.iter().map(Result::unwrap))
                .unwrap();
        }
    });
    let mut pongs = back.follow(..).unwrap();
    let finished = bounded(move || {
        for number in 0..HAND_OVERS {
            there.append(number.to_string()).unwrap();
            assert_eq!(
                pongs.next_record().unwrap().unwrap().text(),
                number.to_string()
            );
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    echo.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_wake_ends_the_current_or_the_next_call_even_with_data() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    partition.append("a").unwrap();
    let mut follower = partition.follow(..).unwrap();
    follower.waker().wake();
    assert!(
        follower.next_record().unwrap().is_none(),
        "a wake ends the call although there is data"
    );
    assert_eq!(follower.next_record().unwrap().unwrap().text(), "a");
    let waker = follower.waker();
    let woken = bounded(move || {
        (
            follower.next_record().unwrap().is_none(),
            follower.next_offset(),
        )
    });
    thread::sleep(Duration::from_millis(20));
    waker.wake();
    assert_eq!(woken.recv_timeout(PATIENCE).unwrap(), (true, 1));
}

#[test]
fn a_wait_ends_at_its_timeout_and_can_be_repeated() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    let mut follower = partition.follow(..).unwrap();
    let begun = Instant::now();
    assert!(
        follower
            .next_record_timeout(Duration::from_millis(30))
            .unwrap()
            .is_none()
    );
    assert!(begun.elapsed() >= Duration::from_millis(30));
    partition.append_batch(["a", "b"]).unwrap();
    assert_eq!(
        follower
            .next_record_timeout(PATIENCE)
            .unwrap()
            .unwrap()
            .text(),
        "a"
    );
    assert_eq!(
        follower
            .next_record_timeout(Duration::ZERO)
            .unwrap()
            .unwrap()
            .text(),
        "b"
    );
    assert!(
        follower
            .next_record_timeout(Duration::ZERO)
            .unwrap()
            .is_none()
    );
    let waited = bounded(move || {
        follower
            .next_record_timeout(Duration::MAX)
            .unwrap()
            .unwrap()
            .text()
            .into_owned()
    });
    thread::sleep(Duration::from_millis(20));
    partition.append("c").unwrap();
    assert_eq!(waited.recv_timeout(PATIENCE).unwrap(), "c");
}

#[test]
fn a_wait_with_a_timeout_ends_at_a_wake_and_at_close() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    partition.append("a").unwrap();
    let mut follower = partition.follow(..).unwrap();
    follower.waker().wake();
    assert!(
        follower.next_record_timeout(PATIENCE).unwrap().is_none(),
        "a wake ends the call although there is data"
    );
    assert!(follower.next_record_timeout(PATIENCE).unwrap().is_some());
    let ended = bounded(move || {
        follower
            .next_record_timeout(Duration::MAX)
            .map(|record| record.is_some())
    });
    thread::sleep(Duration::from_millis(20));
    log.close().unwrap();
    assert!(matches!(
        ended.recv_timeout(PATIENCE).unwrap(),
        Err(Error::Closed)
    ));
}

#[test]
fn a_reader_that_does_not_follow_never_waits() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    let ended = bounded(move || {
        partition
            .read(..)
            .unwrap()
            .next_record_timeout(Duration::MAX)
            .unwrap()
            .is_none()
    });
    assert!(ended.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn close_ends_every_wait() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    let mut follower = partition.follow(..).unwrap();
    let ended = bounded(move || follower.next_record().map(|record| record.is_some()));
    thread::sleep(Duration::from_millis(20));
    log.close().unwrap();
    assert!(matches!(
        ended.recv_timeout(PATIENCE).unwrap(),
        Err(Error::Closed)
    ));
    assert!(matches!(partition.read(..), Err(Error::Closed)));
    assert!(matches!(partition.append("x"), Err(Error::Closed)));
}

#[test]
fn a_bounded_follower_ends_at_its_bound() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    partition.append_batch(["a", "b", "c"]).unwrap();
    let mut follower = partition.follow(1..2).unwrap();
    assert_eq!(follower.next().unwrap().unwrap().offsets(), 1..2);
    assert!(follower.next().is_none());
}

#[test]
fn readers_see_whole_batches_in_order_while_others_append() {
    const BATCHES: u64 = 3_000;
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::builder(dir.path())
            .config(LogConfig::new().read_mode(read_mode))
            .open()
            .unwrap();
        let partition = partition(&log, TopicConfig::new().segment_bytes(20_000));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = partition.follow(..).unwrap();
                bounded(move || {
                    let mut next = 0;
                    while next < BATCHES * 4 {
                        let record = reader.next_record().unwrap().unwrap();
                        assert_eq!(
                            (record.offset(), record.text().into_owned()),
                            (next, format!("value {next}"))
                        );
                        next += 1;
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..1)
            .map(|_| {
                let partition = partition.clone();
                bounded(move || {
                    for batch in 0..BATCHES {
                        partition
                            .append_batch(
                                (0..4).map(|number| format!("value {}", batch * 4 + number)),
                            )
                            .unwrap();
                    }
                })
            })
            .collect();
        for work in writers.into_iter().chain(readers) {
            work.recv_timeout(PATIENCE).unwrap();
        }
    }
}

#[test]
fn concurrent_appends_get_distinct_offsets_in_thread_order() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new().segment_bytes(10_000));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let partition = partition.clone();
            bounded(move || {
                (0..500)
                    .map(|n| partition.append(format!("{writer} {n}")).unwrap().offset)
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut offsets: Vec<u64> = Vec::new();
    for (writer, work) in writers.into_iter().enumerate() {
        let own = work.recv_timeout(PATIENCE).unwrap();
        assert!(
            own.is_sorted(),
            "the appends of one thread keep their order"
        );
        for (n, offset) in own.iter().enumerate() {
            let mut reader = partition.read(*offset..).unwrap();
            assert_eq!(
                reader.next_record().unwrap().unwrap().text(),
                format!("{writer} {n}")
            );
        }
        offsets.extend(own);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_reader_keeps_its_batch_and_reports_deleted_offsets() {
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::builder(dir.path())
            .config(LogConfig::new().read_mode(read_mode))
            .open()
            .unwrap();
        let partition = partition(&log, TopicConfig::new().segment_bytes(300));
        for number in 0..40 {
            partition.append(format!("value {number}")).unwrap();
        }
        assert!(partition.segments()[0].next_offset > 2);
        assert!(partition.segments().len() > 3);
        let mut reader = partition.read(..).unwrap();
        let held = reader.next().unwrap().unwrap();
        assert_eq!(partition.delete_records_before(40).unwrap(), 40);
        assert_eq!(held.iter().next().unwrap().unwrap().text(), "value 0");
        let reported = reader.next_record();
        assert!(
            matches!(
                reported,
                Err(Error::OffsetOutOfRange {
                    requested: 1,
                    log_start: 40,
                    ..
                })
            ),
            "{read_mode:?}"
        );
        assert!(
            reader.next_record().unwrap().is_none(),
            "a reader ends after an error"
        );
        assert_eq!(reader.next_offset(), 40);
        assert_eq!(partition.read(..).unwrap().count(), 0);
    }
}

#[test]
fn a_reader_continues_after_a_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = partition(&log, TopicConfig::new().segment_bytes(300));
    for number in 0..30 {
        partition.append(format!("old {number}")).unwrap();
    }
    let mut reader = partition.read(..).unwrap();
    for number in 0..10 {
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("old {number}")
        );
    }
    partition.truncate_to(12).unwrap();
    for number in 12..20 {
        partition.append(format!("new {number}")).unwrap();
    }
    for number in 10..20 {
        let expected = if number < 12 {
            format!("old {number}")
        } else {
            format!("new {number}")
        };
        assert_eq!(reader.next_record().unwrap().unwrap().text(), expected);
    }
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_synced_topic_shows_a_record_once_its_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = partition(&log, TopicConfig::new().durability(Durability::Synced));
    partition.append("a").unwrap();
    assert_eq!(
        (partition.high_watermark(), partition.log_end_offset()),
        (1, 1)
    );
    assert_eq!(partition.read(..).unwrap().count(), 1);
    assert_eq!(
        partition
            .read_with(.., ReadOptions::new().unsynced(true))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_read_only_log_follows_the_writer_and_cannot_append() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = partition(&log, TopicConfig::new().segment_bytes(400));
    partition.append("value 0").unwrap();
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let mut follower = read_only
        .topic("t")
        .unwrap()
        .partition(0)
        .unwrap()
        .follow(..)
        .unwrap();
    let got = bounded(move || {
        for number in 0..60 {
            assert_eq!(
                follower.next_record().unwrap().unwrap().text(),
                format!("value {number}")
            );
        }
    });
    for number in 1..60 {
        partition.append(format!("value {number}")).unwrap();
    }
    got.recv_timeout(PATIENCE).unwrap();
    assert!(partition.segments().len() > 3);
    assert!(matches!(
        read_only.topic("t").unwrap().append("x"),
        Err(Error::ReadOnly)
    ));
}
