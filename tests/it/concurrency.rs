//! Many threads at once: records may be deleted or cut, but each record that is read is the one
//! that was appended at its offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use annals::{
    Durability, Error, Log, LogConfig, OffsetSpec, Partition, ReadMode, Record, Timestamp,
    TopicConfig,
};

/// Returns a directory in memory, where a sync is fast, or an ordinary one if there is none.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn open(dir: &tempfile::TempDir, mode: ReadMode) -> (Log, Partition) {
    let log = Log::builder(dir.path())
        .config(LogConfig::new().read_mode(mode))
        .open()
        .unwrap();
    let config = TopicConfig::new()
        .segment_bytes(2_000)
        .index_interval_bytes(200)
        .retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    (log, partition)
}

/// Returns a generator of random numbers that are the same in every run.
fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |sides| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides.max(1)
    }
}

/// Returns the time of the record at `offset`. Each record has a time of its own.
fn time_of(offset: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + i64::try_from(offset).unwrap())
}

/// Returns the offset that the value names.
fn offset_in(text: &str) -> u64 {
    text.split(' ').next().unwrap().parse().unwrap()
}

fn append(partition: &Partition, count: u64) {
    let end = partition.log_end_offset();
    let records = (end..end + count).map(|offset| {
        let padding = "x".repeat(usize::try_from(offset % 90).unwrap());
        Record::new(format!("{offset} {padding}")).timestamp(time_of(offset))
    });
    assert_eq!(partition.append_batch(records).unwrap(), end..end + count);
}

/// Reads from random offsets until `stop`. Every offset from there on is read, up to the first
/// one that the reader reports as deleted. Returns the number of records.
fn read_around(partition: &Partition, stop: &AtomicBool, seed: u64) -> u64 {
    let mut dice = dice(seed);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
        let from = start + dice(end.saturating_sub(start) + 1);
        let mut reader = match partition.read(from..) {
            Ok(reader) => reader,
            Err(Error::OffsetOutOfRange { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let mut last = None;
        for _ in 0..dice(200) {
            match reader.next_record() {
                Ok(Some(record)) => {
                    assert_eq!(offset_in(&record.text()), record.offset());
                    assert_eq!(record.offset(), last.map_or(from, |last| last + 1));
                    last = Some(record.offset());
                    count += 1;
                }
                Ok(None) | Err(Error::OffsetOutOfRange { .. }) => break,
                Err(error) => panic!("from {from}, after {last:?}: {error}"),
            }
        }
        for spec in [
            OffsetSpec::Timestamp(time_of(from)),
            OffsetSpec::MaxTimestamp,
        ] {
            let found = partition
                .offset_for(spec)
                .unwrap_or_else(|error| panic!("{spec:?}: {error}"));
            assert!(
                found.is_none_or(|found| found.timestamp == Some(time_of(found.offset))),
                "{found:?}"
            );
        }
    }
    count
}

/// Stops the readers even if a check panics. Without it the scope would wait for them for ever,
/// and hide the panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn among_readers(mode: ReadMode, change: impl Fn(&Partition, u64)) {
    let dir = scratch();
    let (_log, partition) = open(&dir, mode);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stops = Stop(&stop);
        let readers: Vec<_> = (1..=3)
            .map(|seed| {
                let (partition, stop) = (&partition, &stop);
                scope.spawn(move || read_around(partition, stop, seed))
            })
            .collect();
        let mut dice = dice(77);
        for _ in 0..600 {
            append(&partition, 1 + dice(6));
            append(&partition, 1);
            change(&partition, dice(1 << 30));
        }
        drop(stops);
        let counts: Vec<u64> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        assert!(counts.iter().sum::<u64>() > 0, "{counts:?}");
    });
}

#[test]
fn readers_stay_consistent_during_deletions() {
    for mode in [ReadMode::Map, ReadMode::Copy] {
        among_readers(mode, |partition, random| {
            if random % 8 == 0 {
                let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
                let before = start + random / 8 % (end - start + 1);
                assert_eq!(partition.delete_records_before(before).unwrap(), before);
            }
        });
    }
}

#[test]
fn readers_stay_consistent_during_truncations() {
    for mode in [ReadMode::Map, ReadMode::Copy] {
        among_readers(mode, |partition, random| {
            if random % 4 == 0 {
                let end = partition.log_end_offset();
                let to = end - (random / 4 % 40).min(end);
                partition.truncate_to(to).unwrap();
                assert_eq!(partition.log_end_offset(), to);
            }
        });
    }
}

#[test]
fn readers_stay_consistent_during_deletions_truncations_and_flushes() {
    for mode in [ReadMode::Map, ReadMode::Copy] {
        among_readers(mode, |partition, random| {
            let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
            match random % 16 {
                0 => partition
                    .truncate_to(end - (random / 16 % 30).min(end - start))
                    .unwrap(),
                1 => assert!(
                    partition
                        .delete_records_before(start + random / 16 % (end - start + 1))
                        .is_ok()
                ),
                2 => partition.flush().unwrap(),
                _ => {}
            }
        });
    }
}

#[test]
fn every_synced_append_of_many_threads_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, partition) = open(&dir, ReadMode::Map);
    let synced = partition.with_durability(Durability::Synced);
    thread::scope(|scope| {
        for writer in 0..6 {
            let (synced, partition) = (&synced, &partition);
            scope.spawn(move || {
                for number in 0..15 {
                    let offset = synced.append(format!("{writer} {number}")).unwrap().offset;
                    let mut reader = partition.read(offset..).unwrap();
                    assert_eq!(
                        reader.next_record().unwrap().unwrap().text(),
                        format!("{writer} {number}")
                    );
                }
            });
        }
    });
    assert_eq!(partition.log_end_offset(), 90);
}

#[test]
fn followers_of_a_synced_topic_get_every_acknowledged_record() {
    let dir = scratch();
    let log = Log::open(dir.path()).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(1_000)
        .durability(Durability::Synced);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    thread::scope(|scope| {
        let mut follower = partition.follow(..300).unwrap();
        let seen = scope.spawn(move || {
            let mut next = 0;
            while let Some(record) = follower.next_record().unwrap() {
                assert_eq!(record.offset(), next);
                next += 1;
            }
            next
        });
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0..100 {
                    let offset = partition.append(number.to_string()).unwrap().offset;
                    assert!(
                        partition.high_watermark() > offset,
                        "an acknowledged record is visible"
                    );
                }
            });
        }
        assert_eq!(seen.join().unwrap(), 300);
    });
}

/// Appends until the log is closed. Returns the last offset that was acknowledged.
fn append_until_closed(partition: &Partition) -> Option<u64> {
    let mut last = None;
    loop {
        match partition.append("x") {
            Ok(written) => last = Some(written.offset),
            Err(Error::Closed) => return last,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn close_during_appends_and_reads_loses_no_acknowledged_record() {
    let dir = scratch();
    for round in 0..10 {
        let log = Log::open(dir.path()).unwrap();
        assert!(log.recovery().clean, "round {round}");
        let config = TopicConfig::new().segment_bytes(2_000).retention(None);
        let partition = Arc::new(
            log.open_topic("t", 1, config)
                .unwrap()
                .partition(0)
                .unwrap(),
        );
        let before = partition.log_end_offset();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let partition = Arc::clone(&partition);
                thread::spawn(move || append_until_closed(&partition))
            })
            .collect();
        let mut follower = partition.follow(before..).unwrap();
        let follower = thread::spawn(move || follower.find(Result::is_err));
        thread::sleep(Duration::from_millis(10));
        log.close().unwrap();
        let acknowledged = writers
            .into_iter()
            .filter_map(|writer| writer.join().unwrap())
            .max();
        let ended = follower.join().unwrap();
        assert!(matches!(ended, Some(Err(Error::Closed))), "{ended:?}");
        drop(partition);
        let log = Log::open(dir.path()).unwrap();
        let end = log
            .topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .log_end_offset();
        assert_eq!(
            end,
            acknowledged.map_or(before, |offset| offset + 1),
            "round {round}"
        );
        log.close().unwrap();
    }
}
