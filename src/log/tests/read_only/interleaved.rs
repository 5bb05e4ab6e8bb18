//! The writer changes the log between any two storage calls of a reader. The reader reports no
//! damage, returns no wrong record, and sees all records at the next look.

use std::sync::Arc;

use crate::clock::{ManualClock, Timestamp};
use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::{Partition, Reader};
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, SimulatedDisk, Storage};
use crate::sync::Mutex;

/// Enough records for zeros to be written ahead, and for some segments.
const RECORDS: u64 = 20;
const DIR: &str = "log";

type Found = Vec<(u64, String)>;

/// The effect of a change on the records before it.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    Stay,
    /// Some records are removed, and others may take their offsets.
    Remove,
    /// All records belong to a deleted topic.
    RemoveTopic,
}

/// An operation of the writer.
struct Change {
    name: &'static str,
    effect: Effect,
    run: fn(&Log),
}

const CHANGES: &[Change] = &[
    Change {
        name: "appends",
        effect: Effect::Stay,
        run: |log| append(log, "more", 3),
    },
    Change {
        name: "rolls",
        effect: Effect::Stay,
        run: |log| append(log, "more", 10),
    },
    Change {
        name: "rolls twice",
        effect: Effect::Stay,
        run: |log| append(log, "more", 20),
    },
    Change {
        name: "flushes",
        effect: Effect::Stay,
        run: |log| log.flush().unwrap(),
    },
    Change {
        name: "closes",
        effect: Effect::Stay,
        run: |log| log.clone().close().unwrap(),
    },
    Change {
        name: "deletes segments",
        effect: Effect::Remove,
        run: |log| delete_before(log, 12),
    },
    Change {
        name: "deletes all",
        effect: Effect::Remove,
        run: |log| delete_before(log, RECORDS),
    },
    Change {
        name: "deletes and rolls",
        effect: Effect::Remove,
        run: |log| {
            append(log, "more", 10);
            delete_before(log, RECORDS + 4);
        },
    },
    Change {
        name: "cuts the last record",
        effect: Effect::Remove,
        run: |log| cut(log, RECORDS - 1),
    },
    Change {
        name: "replaces the last records",
        effect: Effect::Remove,
        run: |log| {
            cut(log, RECORDS - 2);
            append(log, "other", 2);
        },
    },
    Change {
        name: "replaces segments",
        effect: Effect::Remove,
        run: |log| {
            cut(log, 5);
            append(log, "other", 16);
        },
    },
    Change {
        name: "cuts all",
        effect: Effect::Remove,
        run: |log| {
            cut(log, 0);
            append(log, "other", 2);
        },
    },
    Change {
        name: "deletes the topic",
        effect: Effect::RemoveTopic,
        run: |log| log.delete_topic("t").unwrap(),
    },
    Change {
        name: "creates the topic again",
        effect: Effect::RemoveTopic,
        run: |log| {
            log.delete_topic("t").unwrap();
            log.create_topic("t", 1, config()).unwrap();
            append(log, "again", 5);
        },
    },
    Change {
        name: "creates and changes topics",
        effect: Effect::Stay,
        run: |log| {
            log.create_topic("u", 2, config()).unwrap();
            let topic = log.topic("t").unwrap();
            topic.increase_partitions_to(2).unwrap();
            topic
                .update_config(TopicConfig::new().segment_bytes(20_000))
                .unwrap();
        },
    },
];

fn config() -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(30_000)
        .durability(Durability::Synced)
        .retention(None)
}

fn partition(log: &Log) -> Result<Partition> {
    log.topic("t")?.partition(0)
}

fn append(log: &Log, text: &str, count: usize) {
    let partition = partition(log).unwrap();
    for number in 0..count {
        partition
            .append(Record::new(vec![b'.'; 4_000]).key(format!("{text} {number}")))
            .unwrap();
    }
}

fn delete_before(log: &Log, offset: u64) {
    partition(log)
        .unwrap()
        .delete_records_before(offset)
        .unwrap();
}

fn cut(log: &Log, end: u64) {
    partition(log).unwrap().truncate_to(end).unwrap();
}

/// Reads all records of a reader, up to an error.
fn drain(reader: &mut Reader, found: &mut Found) -> Result<()> {
    while let Some(record) = reader.next_record()? {
        found.push((
            record.offset(),
            String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned(),
        ));
    }
    Ok(())
}

fn read(log: &Log) -> (Found, Result<()>) {
    let mut found = Found::new();
    let result = partition(log).and_then(|partition| drain(&mut partition.read(..)?, &mut found));
    (found, result)
}

/// Returns a writer whose active segment has zeros ahead, and its disk.
fn writer() -> (RecordingDisk, Log) {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let log = Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock())
        .open()
        .unwrap();
    log.create_topic("t", 1, config()).unwrap();
    append(&log, "value", usize::try_from(RECORDS).unwrap());
    let active = partition(&log).unwrap().segments().pop().unwrap();
    assert!(
        disk.metadata(&active.path).unwrap().bytes > active.bytes,
        "zeros are written ahead"
    );
    (disk, log)
}

fn open_read_only(disk: &RecordingDisk) -> Log {
    let log = Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock())
        .open_read_only()
        .unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    log
}

/// Returns a clock that is set by hand, so that no background thread runs.
fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

/// Checks that every record existed before or after the change, and that none is skipped. If the
/// change removes no records, all of them are there.
fn check(
    case: &str,
    change: &Change,
    got: &(Found, Result<()>),
    before: &Found,
    after: &(Found, Result<()>),
) {
    let (found, result) = got;
    let stays = change.effect == Effect::Stay;
    for pair in found.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "{case}: a gap");
    }
    for record in found {
        // Records that the change itself has added and removed count too.
        let is_added = record
            .0
            .checked_sub(RECORDS)
            .is_some_and(|number| record.1 == format!("more {number}"));
        assert!(
            is_added || before.contains(record) || after.0.contains(record),
            "{case}: {record:?} was never there"
        );
    }
    match result {
        Ok(()) if stays => assert!(
            found.starts_with(before),
            "{case}: only {} records",
            found.len()
        ),
        Ok(()) => {}
        // A range without a start begins at the log start, so an error before its first record
        // would be wrong.
        Err(Error::OffsetOutOfRange { .. }) if !stays && !found.is_empty() => {}
        Err(Error::UnknownTopic(_)) if !stays => {}
        // The new topic does not have the partition yet.
        Err(Error::UnknownPartition(_)) if change.effect == Effect::RemoveTopic => {}
        Err(error) => panic!("{case}: {error}"),
    }
}

fn before() -> Found {
    (0..RECORDS)
        .map(|number| (number, format!("value {number}")))
        .collect()
}

/// The result of a look, and of another look after the change, if there was one.
type Looks = ((Found, Result<()>), Option<Found>);

/// Runs `look` with each change, which happens before storage call 0, 1, 2 and so on of the look.
fn at_each_call<T>(
    prepare: impl Fn(&RecordingDisk) -> T,
    look: impl Fn(&RecordingDisk, T, &Change, &Log) -> Looks,
) {
    for change in CHANGES {
        for call in 0.. {
            let (memory, writer) = writer();
            let disk = memory.beside();
            let prepared = prepare(&disk);
            disk.take();
            let other = writer.clone();
            disk.before_call(call, move || (change.run)(&other));
            let (got, again) = look(&disk, prepared, change, &writer);
            if disk.is_pending() {
                assert!(call > 1, "{}: the look makes calls", change.name);
                break;
            }
            let what = format!("{} at call {call}", change.name);
            let fresh = open_read_only(&disk);
            let after = read(&fresh);
            check(&what, change, &got, &before(), &after);
            assert!(
                again.is_none_or(|again| again == after.0),
                "{what}: the next look sees all records"
            );
            if let Ok(partition) = partition(&writer) {
                let mut written = Found::new();
                drain(&mut partition.read(..).unwrap(), &mut written).unwrap();
                assert!(
                    written == after.0,
                    "{what}: a fresh look finds {:?}",
                    after.1
                );
            }
        }
    }
}

fn read_twice(disk: &RecordingDisk, log: &Log) -> Looks {
    let first = read(log);
    let again = (!disk.is_pending()).then(|| read(log).0);
    (first, again)
}

#[test]
fn opening_and_reading_return_no_wrong_record_during_a_change() {
    at_each_call(
        |_| (),
        |disk, (), _, _| read_twice(disk, &open_read_only(disk)),
    );
}

#[test]
fn an_open_log_returns_no_wrong_record_during_a_change() {
    at_each_call(open_read_only, |disk, log, _, _| read_twice(disk, &log));
}

#[test]
fn a_follower_returns_no_wrong_record_during_a_change() {
    let prepare = |disk: &RecordingDisk| {
        let log = open_read_only(disk);
        let mut reader = partition(&log).unwrap().read(..).unwrap();
        let mut found = Found::new();
        drain(&mut reader, &mut found).unwrap();
        (log, reader, found)
    };
    at_each_call(
        prepare,
        |disk, (_log, mut reader, mut found), change, writer| {
            let mut result = drain(&mut reader, &mut found);
            if result.is_ok() && !disk.is_pending() {
                // Append until the partition ends above the follower's position.
                let grown = partition(writer).and_then(|written| {
                    while written.log_end_offset() <= reader.next_offset() {
                        written.append("last")?;
                    }
                    Ok(written.log_end_offset())
                });
                result = drain(&mut reader, &mut found);
                let is_short = result.is_ok() && grown.is_ok_and(|end| end != reader.next_offset());
                assert!(
                    !is_short,
                    "{}: the follower stops at {}",
                    change.name,
                    reader.next_offset()
                );
            }
            let is_reported = matches!(result, Err(Error::UnknownTopic(_)));
            assert!(
                is_reported || disk.is_pending() || change.effect != Effect::RemoveTopic,
                "{}: {result:?}",
                change.name
            );
            ((found, result), None)
        },
    );
}

/// A reader looks before each storage call of the writer: between the steps of a change, or after
/// the writer has died there.
#[test]
fn a_reader_returns_no_wrong_record_between_the_steps_of_a_change() {
    for change in CHANGES {
        for call in 0.. {
            let (steps, writer) = writer();
            let disk = steps.beside();
            let (open, reading) = (open_read_only(&disk), disk.clone());
            let looks = Arc::new(Mutex::new(Vec::new()));
            let looked = Arc::clone(&looks);
            steps.take();
            steps.before_call(call, move || {
                let fresh = open_read_only(&reading);
                looked.lock().extend([
                    ("fresh", read(&fresh)),
                    ("open", read(&open)),
                    ("again", read(&open)),
                ]);
            });
            (change.run)(&writer);
            if steps.is_pending() {
                assert!(call > 0, "{}: the change makes calls", change.name);
                break;
            }
            let after = read(&open_read_only(&disk));
            for (look, got) in looks.lock().iter() {
                check(
                    &format!("{} before its call {call}, {look}", change.name),
                    change,
                    got,
                    &before(),
                    &after,
                );
            }
        }
    }
}

/// A writer was killed, and its records are damaged in the middle of a segment. The next writer
/// cuts there, and sets the later segments aside.
#[test]
fn a_reader_returns_no_wrong_record_between_the_steps_of_a_recovery() {
    let simulated = SimulatedDisk::new(1);
    let log = Log::builder(DIR)
        .storage(simulated.clone())
        .clock(clock())
        .open()
        .unwrap();
    log.create_topic("t", 1, config()).unwrap();
    append(&log, "value", usize::try_from(RECORDS).unwrap());
    let segments = partition(&log).unwrap().segments();
    let damaged = &segments[1];
    let end = damaged.base_offset + 2;
    let killed = simulated.process_killed();
    for call in 0.. {
        let disk = killed.fork();
        let steps = RecordingDisk::over(disk.clone());
        let reading = steps.beside();
        let open = open_read_only(&reading);
        let mut follower = partition(&open).unwrap().read(..).unwrap();
        let mut found = Found::new();
        drain(&mut follower, &mut found).unwrap();
        assert_eq!(found, before());
        let position = damaged.bytes / (damaged.next_offset - damaged.base_offset) * 2 + 100;
        let file = disk.open(&damaged.path, Access::Write).unwrap();
        file.write_all_at(b"damage", position).unwrap();
        let looks = Arc::new(Mutex::new(Vec::new()));
        let looked = Arc::clone(&looks);
        steps.before_call(call, move || {
            looked
                .lock()
                .extend([read(&open_read_only(&reading)), read(&open), read(&open)]);
        });
        let recovered = Log::builder(DIR)
            .storage(steps.clone())
            .clock(clock())
            .open()
            .unwrap();
        if steps.is_pending() {
            assert!(call > 10, "recovery makes calls");
            break;
        }
        for (look, (got, result)) in looks.lock().iter().enumerate() {
            // An open log may know of records that were damaged since. It reports the damage when
            // it is asked for one of them.
            let is_reported = matches!(result, Err(Error::Corrupt(_))) && look > 0;
            assert!(
                result.is_ok() || is_reported,
                "call {call}, look {look}: {result:?}"
            );
            assert_eq!(got.len() as u64, end, "call {call}, look {look}");
            assert!(
                before().starts_with(got),
                "call {call}, look {look}: {got:?}"
            );
        }
        append(&recovered, "other", 30);
        drain(&mut follower, &mut found).unwrap();
        let expected =
            (RECORDS..end + 30).map(|offset| (offset, format!("other {}", offset - end)));
        assert!(
            found[20..].iter().cloned().eq(expected),
            "call {call}: {:?}",
            &found[20..]
        );
    }
}
