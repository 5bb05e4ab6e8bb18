//! Reading while others append: waking, stopping, and what readers hold.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annals::{Durability, Error, Log, LogConfig, Partition, ReadMode, ReadOptions, TopicConfig};

/// Long enough for any machine; nothing here waits as long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn partition(log: &Log, config: TopicConfig) -> Partition {
    log.open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap()
}

/// Runs `work` on its own thread and waits for its result, so that a lost wake-up is a failure and
/// not a hang.
fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

#[test]
fn a_follower_gets_what_is_appended_later() {
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
fn no_hand_over_is_lost() {
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
fn a_wake_ends_the_present_or_the_next_call_data_or_not() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    partition.append("a").unwrap();
    let mut follower = partition.follow(..).unwrap();
    follower.waker().wake();
    assert!(
        follower.next_record().unwrap().is_none(),
        "woken although there is data"
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
fn a_wait_with_a_time_out_ends_with_it_and_can_be_repeated() {
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
fn a_wait_with_a_time_out_ends_at_a_wake_and_at_close() {
    let log = Log::in_memory();
    let partition = partition(&log, TopicConfig::new());
    partition.append("a").unwrap();
    let mut follower = partition.follow(..).unwrap();
    follower.waker().wake();
    assert!(
        follower.next_record_timeout(PATIENCE).unwrap().is_none(),
        "woken although there is data"
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
fn a_reader_that_does_not_follow_does_not_wait_for_a_time_out() {
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
fn appends_of_many_threads_get_offsets_of_their_own() {
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
        assert!(own.is_sorted(), "each thread's appends stand in its order");
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
fn a_reader_keeps_the_batch_it_has_and_reports_what_is_deleted_after_it() {
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
        assert!(partition.segments()[0].next_offset > 2 && partition.segments().len() > 3);
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
            "after an error it is over"
        );
        assert_eq!(reader.next_offset(), 40);
        assert_eq!(partition.read(..).unwrap().count(), 0);
    }
}

#[test]
fn a_reader_goes_on_in_what_a_truncation_leaves() {
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
fn what_is_not_synced_is_not_read_in_a_synced_topic() {
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
fn another_process_style_reader_sees_what_the_writer_publishes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let partition = partition(&log, TopicConfig::new().segment_bytes(400));
    partition.append("value 0").unwrap();
    let beside = Log::open_read_only(dir.path()).unwrap();
    let mut follower = beside
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
        beside.topic("t").unwrap().append("x"),
        Err(Error::ReadOnly)
    ));
}
