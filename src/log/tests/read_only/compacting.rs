//! A read-only log that looks at each step of a compaction, and a compaction at each step of a
//! look. At each look the log returns the latest value of every key, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{ManualClock, Timestamp};
use crate::config::{CleanupPolicy, TopicConfig};
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::{OffsetSpec, Partition, Reader};
use crate::storage::recording::RecordingDisk;
use crate::storage::{SimulatedDisk, Storage};
use crate::sync::Mutex;

const DIR: &str = "log";
const KEYS: u64 = 3;
const ROUNDS: u64 = 6;
/// The records in the first segments. Each of their keys is overwritten later.
const DELETED: u64 = 5;

/// The offset and value of each key.
type Latest = BTreeMap<String, (u64, String)>;

/// An operation of the writer.
struct Change {
    name: &'static str,
    file_delete_delay: Duration,
    run: fn(&Log),
}

const CHANGES: &[Change] = &[
    Change {
        name: "compacts",
        file_delete_delay: Duration::ZERO,
        run: compact,
    },
    Change {
        name: "compacts twice, keeping files",
        file_delete_delay: Duration::from_secs(60),
        run: |log| {
            compact(log);
            append(log, ROUNDS..ROUNDS + 3);
            compact(log);
        },
    },
    Change {
        name: "deletes and compacts",
        file_delete_delay: Duration::ZERO,
        run: |log| {
            partition(log)
                .unwrap()
                .delete_records_before(DELETED)
                .unwrap();
            compact(log);
        },
    },
    Change {
        name: "compacts and deletes",
        file_delete_delay: Duration::ZERO,
        run: |log| {
            compact(log);
            partition(log)
                .unwrap()
                .delete_records_before(DELETED)
                .unwrap();
            log.flush().unwrap();
        },
    },
];

fn partition(log: &Log) -> Result<Partition> {
    log.topic("t")?.partition(0)
}

fn compact(log: &Log) {
    let done = partition(log).unwrap().compact().unwrap();
    assert!(done.segments_compacted > 1, "{done:?}");
    assert!(done.records_removed > 0, "{done:?}");
}

fn append(log: &Log, rounds: std::ops::Range<u64>) {
    let partition = partition(log).unwrap();
    for round in rounds {
        for key in 0..KEYS {
            // Not every key in every round, so that the latest value of some keys is in an early
            // segment.
            if round == 0 || round % (key + 1) == 0 {
                partition
                    .append(Record::new(format!("value {round}")).key(format!("key {key}")))
                    .unwrap();
            }
        }
    }
}

/// Returns the disk of a log with many small segments, and its latest records. A compaction merges
/// the segments in several groups.
fn written(file_delete_delay: Duration) -> (SimulatedDisk, Latest) {
    let disk = SimulatedDisk::new(1);
    let log = writer(disk.clone());
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::CompactAndDelete)
        .retention(None)
        .file_delete_delay(file_delete_delay)
        .segment_bytes(200);
    let topic = log.create_topic("t", 1, config).unwrap();
    append(&log, 0..ROUNDS);
    topic
        .update_config(TopicConfig::new().segment_bytes(550))
        .unwrap();
    assert!(
        partition(&log).unwrap().segments().len() > 4,
        "{:?}",
        partition(&log).unwrap().segments()
    );
    let latest = latest_of(&log);
    log.close().unwrap();
    (disk, latest)
}

fn writer(disk: impl Storage) -> Log {
    Log::builder(DIR)
        .storage(disk)
        .clock(clock())
        .open()
        .unwrap()
}

/// Returns a clock that is set by hand, so that no background thread runs.
fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

fn open_read_only(disk: impl Storage, case: &str) -> Log {
    let log = Log::builder(DIR)
        .storage(disk)
        .clock(clock())
        .open_read_only();
    let log = log.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(!log.recovery().has_losses(), "{case}: {:?}", log.recovery());
    log
}

/// Returns all records of a reader, which must be in the order of their offsets. If a deletion
/// overtakes the reader, continues at the log start.
fn drain(partition: &Partition, mut reader: Reader, what: &str) -> Latest {
    let (mut latest, mut next) = (Latest::new(), 0);
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                assert!(
                    record.offset() >= next,
                    "{what}: {} comes after {next}",
                    record.offset()
                );
                next = record.offset() + 1;
                let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
                latest.insert(key, (record.offset(), record.text().into_owned()));
            }
            Ok(None) => return latest,
            Err(Error::OffsetOutOfRange {
                requested,
                log_start,
                ..
            }) if requested < log_start && log_start <= DELETED => {
                reader = partition
                    .read(..)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Makes all calls on a partition of a read-only log, checks their results, and returns the
/// records.
fn look(log: &Log, what: &str) -> Latest {
    let fail = |error: Error| -> ! { panic!("{what}: {error}") };
    let partition = partition(log).unwrap_or_else(|error| fail(error));
    let segments = partition.segments();
    // Read after the segments, because segments may be deleted in between.
    let start = partition.log_start_offset();
    assert!(start <= DELETED, "{what}: starts at {start}");
    assert!(
        segments
            .first()
            .is_some_and(|first| first.base_offset <= start),
        "{what}: {segments:?}"
    );
    for pair in segments.windows(2) {
        assert_eq!(pair[0].next_offset, pair[1].base_offset, "{what}");
    }
    let found = |spec| {
        partition
            .offset_for(spec)
            .unwrap_or_else(|error| fail(error))
            .map(|found| found.offset)
    };
    assert!(found(OffsetSpec::Earliest) >= Some(start), "{what}");
    assert!(
        found(OffsetSpec::Timestamp(Timestamp::from_millis(0))) >= Some(start),
        "{what}"
    );
    let by_consumer = {
        let mut consumer = log
            .assign([("t", 0).into()])
            .unwrap_or_else(|error| fail(error));
        let mut latest = Latest::new();
        loop {
            let records = consumer
                .poll(Duration::ZERO)
                .unwrap_or_else(|error| fail(error));
            if records.is_empty() {
                break latest;
            }
            for record in &records {
                let record = record.unwrap_or_else(|error| fail(error));
                let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
                latest.insert(key, (record.offset(), record.text().into_owned()));
            }
        }
    };
    let read = drain(
        &partition,
        partition.read(..).unwrap_or_else(|error| fail(error)),
        what,
    );
    assert_at_least(&read, &by_consumer, &format!("{what}, after the consumer"));
    read
}

/// Asserts that a look has every earlier key, at its latest offset or a later one.
fn assert_at_least(got: &Latest, before: &Latest, what: &str) {
    for (key, latest) in before {
        assert!(
            got.get(key).is_some_and(|found| found >= latest),
            "{what}: {key} is {:?}, not {latest:?}",
            got.get(key)
        );
    }
}

fn latest_of(log: &Log) -> Latest {
    let partition = partition(log).unwrap();
    drain(&partition, partition.read(..).unwrap(), "the writer")
}

/// The looks happen before each storage call of the writer: between the steps of a compaction, or
/// after the writer has died there.
#[test]
fn a_read_only_log_sees_every_key_between_the_steps_of_a_compaction() {
    for change in CHANGES {
        let (written, before) = written(change.file_delete_delay);
        for call in 0.. {
            let steps = RecordingDisk::over(written.fork());
            let writer = writer(steps.clone());
            let disk = steps.beside();
            let what = format!("{} before its call {call}", change.name);
            let open = open_read_only(disk.clone(), &what);
            let mut half_read = partition(&open).unwrap().read(..).unwrap();
            for _ in 0..3 {
                half_read.next_record().unwrap().unwrap();
            }
            assert_at_least(&look(&open, &what), &before, &what);
            steps.take();
            let (known, text) = (before.clone(), what.clone());
            let (looks, looked) = (
                Mutex::new(Some((half_read, open))),
                Arc::new(Mutex::new(None)),
            );
            let opened = Arc::clone(&looked);
            steps.before_call(call, move || {
                let Some((half_read, open)) = looks.lock().take() else {
                    return;
                };
                let fresh = open_read_only(disk, &text);
                for (log, look_of) in [(&fresh, "opened now"), (&open, "open"), (&open, "again")] {
                    let what = format!("{text}, {look_of}");
                    assert_at_least(&look(log, &what), &known, &what);
                }
                let what = format!("{text}, half read");
                let read_on = drain(&partition(&open).unwrap(), half_read, &what);
                assert_at_least(&read_on, &from_offset(&known, 3), &what);
                *opened.lock() = Some(open);
            });
            (change.run)(&writer);
            if steps.is_pending() {
                assert!(call > 20, "{what}: the change makes calls");
                break;
            }
            let Some(open) = looked.lock().take() else {
                panic!("{what}: a look failed")
            };
            assert_eq!(
                look(&open, &what),
                latest_of(&writer),
                "{what}: the next look sees all records"
            );
        }
    }
}

/// Returns the latest values that are at `offset` or above it.
fn from_offset(latest: &Latest, offset: u64) -> Latest {
    latest
        .iter()
        .filter(|(_, (at, _))| *at >= offset)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A complete compaction happens before each storage call of the reader.
#[test]
fn a_look_sees_every_key_if_a_compaction_happens_during_it() {
    for change in CHANGES
        .iter()
        .filter(|change| change.file_delete_delay.is_zero())
    {
        let (written, before) = written(change.file_delete_delay);
        for kind in ["opens", "looks", "reads on"] {
            for call in 0.. {
                let disk = RecordingDisk::over(written.fork());
                let writer = writer(disk.beside());
                let what = format!("{kind}, {} at call {call}", change.name);
                let other = writer.clone();
                let change_at_call = || {
                    disk.take();
                    disk.before_call(call, move || (change.run)(&other));
                };
                let log = if kind == "opens" {
                    change_at_call();
                    let log = open_read_only(disk.clone(), &what);
                    assert_at_least(&look(&log, &what), &before, &what);
                    log
                } else {
                    let log = open_read_only(disk.clone(), &what);
                    let mut half_read = partition(&log).unwrap().read(..).unwrap();
                    half_read.next_record().unwrap().unwrap();
                    change_at_call();
                    if kind == "looks" {
                        assert_at_least(&look(&log, &what), &before, &what);
                    } else {
                        assert_at_least(
                            &drain(&partition(&log).unwrap(), half_read, &what),
                            &from_offset(&before, 1),
                            &what,
                        );
                    }
                    log
                };
                if disk.is_pending() {
                    assert!(call > 3, "{what}: the look makes calls");
                    break;
                }
                assert_eq!(
                    look(&log, &what),
                    latest_of(&writer),
                    "{what}: the next look sees all records"
                );
            }
        }
    }
}

/// The writer dies at each step of a compaction, and the next writer at each step of its recovery.
#[test]
fn a_read_only_log_sees_every_key_between_the_steps_of_a_recovery() {
    let (written, before) = written(Duration::ZERO);
    // Every fourth call is enough to reach each kind of call.
    for call in (0..).step_by(4) {
        let simulated = written.fork();
        let steps = RecordingDisk::over(simulated.clone());
        let writer = writer(steps.clone());
        let killed = Arc::new(Mutex::new(None));
        let kills = Arc::clone(&killed);
        steps.take();
        steps.before_call(call, move || {
            *kills.lock() = Some(simulated.fork().process_killed());
        });
        compact(&writer);
        let Some(killed) = killed.lock().take() else {
            assert!(call > 20, "a compaction makes calls");
            return;
        };
        for step in 0.. {
            let what = format!("killed at call {call}, before call {step} of the recovery");
            let steps = RecordingDisk::over(killed.fork());
            let disk = steps.beside();
            let open = open_read_only(disk.clone(), &what);
            assert_at_least(&look(&open, &what), &before, &what);
            let looked = Arc::new(Mutex::new(Some(open)));
            let (looks, known, text) = (Arc::clone(&looked), before.clone(), what.clone());
            steps.before_call(step, move || {
                let Some(open) = looks.lock().take() else {
                    return;
                };
                for log in [&open_read_only(disk, &text), &open, &open] {
                    assert_at_least(&look(log, &text), &known, &text);
                }
                *looks.lock() = Some(open);
            });
            let recovered = Log::builder(DIR)
                .storage(steps.clone())
                .clock(clock())
                .open()
                .unwrap();
            let is_over = steps.is_pending();
            let Some(open) = looked.lock().take() else {
                panic!("{what}: a look failed")
            };
            assert_eq!(
                look(&open, &what),
                latest_of(&recovered),
                "{what}: the next look sees all records"
            );
            if is_over {
                break;
            }
        }
    }
}
