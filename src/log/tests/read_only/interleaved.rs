//! Whatever the writer does between any two calls that a reader makes to the disk: no damage is
//! told, no record is wrong, and the next look sees all there is.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::{ManualClock, Timestamp};
use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::{Partition, Reader};
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, SimulatedDisk, Storage};

/// As many as zeros ahead wait for, and some segments.
const RECORDS: u64 = 20;
const DIR: &str = "log";

type Found = Vec<(u64, String)>;

/// What becomes of the records that were there.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    Stay,
    /// Some go, and others may come in their place.
    Go,
    /// They were those of another topic.
    TopicGoes,
}

/// What the writer does.
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
        effect: Effect::Go,
        run: |log| delete_before(log, 12),
    },
    Change {
        name: "deletes all",
        effect: Effect::Go,
        run: |log| delete_before(log, RECORDS),
    },
    Change {
        name: "deletes and rolls",
        effect: Effect::Go,
        run: |log| {
            append(log, "more", 10);
            delete_before(log, RECORDS + 4);
        },
    },
    Change {
        name: "cuts the last record",
        effect: Effect::Go,
        run: |log| cut(log, RECORDS - 1),
    },
    Change {
        name: "puts others in the place of the last ones",
        effect: Effect::Go,
        run: |log| {
            cut(log, RECORDS - 2);
            append(log, "other", 2);
        },
    },
    Change {
        name: "puts others in the place of segments",
        effect: Effect::Go,
        run: |log| {
            cut(log, 5);
            append(log, "other", 16);
        },
    },
    Change {
        name: "cuts all",
        effect: Effect::Go,
        run: |log| {
            cut(log, 0);
            append(log, "other", 2);
        },
    },
    Change {
        name: "deletes the topic",
        effect: Effect::TopicGoes,
        run: |log| log.delete_topic("t").unwrap(),
    },
    Change {
        name: "makes the topic anew",
        effect: Effect::TopicGoes,
        run: |log| {
            log.delete_topic("t").unwrap();
            log.create_topic("t", 1, config()).unwrap();
            append(log, "anew", 5);
        },
    },
    Change {
        name: "makes and changes topics",
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

/// All that a reader gives, up to an error.
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

/// A writer with zeros ahead, and its disk.
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
        "there are zeros ahead"
    );
    (disk, log)
}

fn beside(disk: &RecordingDisk) -> Log {
    let log = Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock())
        .open_read_only()
        .unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    log
}

/// It stands, so that no thread does anything by itself.
fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

/// Every record is one that was there before or after the change, and none is passed over; where
/// those stay, it has them all.
fn check(
    what: &str,
    change: &Change,
    got: &(Found, Result<()>),
    before: &Found,
    after: &(Found, Result<()>),
) {
    let (found, result) = got;
    let stays = change.effect == Effect::Stay;
    for pair in found.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "{what}: a gap");
    }
    for record in found {
        // Of those that came and went again all with the change, too.
        let came = record
            .0
            .checked_sub(RECORDS)
            .is_some_and(|number| record.1 == format!("more {number}"));
        assert!(
            came || before.contains(record) || after.0.contains(record),
            "{what}: {record:?} was never there"
        );
    }
    match result {
        Ok(()) if stays => assert!(
            found.starts_with(before),
            "{what}: only {} records",
            found.len()
        ),
        Ok(()) => {}
        // A range without a start begins wherever the log starts: it misses nothing before its
        // first record.
        Err(Error::OffsetOutOfRange { .. }) if !stays && !found.is_empty() => {}
        Err(Error::UnknownTopic(_)) if !stays => {}
        // Of the new topic there is none yet.
        Err(Error::UnknownPartition(_)) if change.effect == Effect::TopicGoes => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

fn before() -> Found {
    (0..RECORDS)
        .map(|number| (number, format!("value {number}")))
        .collect()
}

/// What a look gave, and what one behind the change gave, where that is another.
type Looks = ((Found, Result<()>), Option<Found>);

/// Runs `look` with each change before its call 0, 1, 2 and so on.
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
            let anew = beside(&disk);
            let after = read(&anew);
            check(&what, change, &got, &before(), &after);
            assert!(
                again.is_none_or(|again| again == after.0),
                "{what}: the next look sees all there is"
            );
            if let Ok(partition) = partition(&writer) {
                let mut written = Found::new();
                drain(&mut partition.read(..).unwrap(), &mut written).unwrap();
                assert!(
                    written == after.0,
                    "{what}: opened anew it is {:?}",
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
fn of_opening_and_reading() {
    at_each_call(|_| (), |disk, (), _, _| read_twice(disk, &beside(disk)));
}

#[test]
fn of_reading_what_is_open() {
    at_each_call(beside, |disk, log, _, _| read_twice(disk, &log));
}

#[test]
fn of_following() {
    let prepare = |disk: &RecordingDisk| {
        let log = beside(disk);
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
                // What comes behind all that it has had.
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
                    "{}: {} is all it got",
                    change.name,
                    reader.next_offset()
                );
            }
            let is_told = matches!(result, Err(Error::UnknownTopic(_)));
            assert!(
                is_told || disk.is_pending() || change.effect != Effect::TopicGoes,
                "{}: {result:?}",
                change.name
            );
            ((found, result), None)
        },
    );
}

/// What a reader gets before each call that the writer makes to the disk: between the steps of a
/// change, or if it dies there.
#[test]
fn between_the_steps_of_the_writer() {
    for change in CHANGES {
        for call in 0.. {
            let (steps, writer) = writer();
            let disk = steps.beside();
            let (open, reading) = (beside(&disk), disk.clone());
            let looks = Arc::new(Mutex::new(Vec::new()));
            let looked = Arc::clone(&looks);
            steps.take();
            steps.before_call(call, move || {
                let anew = beside(&reading);
                looked.lock().extend([
                    ("anew", read(&anew)),
                    ("open", read(&open)),
                    ("again", read(&open)),
                ]);
            });
            (change.run)(&writer);
            if steps.is_pending() {
                assert!(call > 0, "{}: the change makes calls", change.name);
                break;
            }
            let after = read(&beside(&disk));
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

/// A writer was killed, and what it had written is damaged in the midst of a segment: the next one
/// cuts there, and sets the segments behind aside.
#[test]
fn between_the_steps_of_a_recovery() {
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
        let open = beside(&reading);
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
                .extend([read(&beside(&reading)), read(&open), read(&open)])
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
            // Who has the log open may know of records that were damaged since, and says so where
            // he is asked for one of them.
            let is_told = matches!(result, Err(Error::Corrupt(_))) && look > 0;
            assert!(
                result.is_ok() || is_told,
                "call {call}, look {look}: {result:?}"
            );
            assert!(
                before().starts_with(got) && got.len() as u64 == end,
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
