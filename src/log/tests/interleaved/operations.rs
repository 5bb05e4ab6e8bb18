//! The operations of a program on a log, and the results that each may return while another thread
//! works.

use std::time::Duration;

use super::world::{self, Answer, DIR, Found, Step, Steps, World, config, partition_0};
use crate::clock::{ManualClock, Timestamp};
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::group::{Consumer, Seek};
use crate::log::Log;
use crate::partition::Partition;
use crate::topic::Topic;

/// An operation of a program.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Creates the handles that the operation needs, and returns its steps. `side` names the thread
    /// that runs it.
    pub(super) prepare: fn(&World, &'static str) -> Steps,
    pub(super) steps_count: usize,
    /// Whether the operation compacts, or needs a compacted topic.
    pub(super) compacts: bool,
    /// Whether the operation uses a read-only log.
    pub(super) is_read_only: bool,
}

const fn operation(name: &'static str, prepare: fn(&World, &'static str) -> Steps) -> Operation {
    Operation {
        name,
        prepare,
        steps_count: 1,
        compacts: false,
        is_read_only: false,
    }
}

pub(super) const OPERATIONS: [Operation; 23] = [
    operation("append", |world, side| append(world, side, Durability::Os)),
    operation("append synced", |world, side| {
        append(world, side, Durability::Synced)
    }),
    operation("append raw", |world, side| {
        let (partition, batches) = (partition(world), world::batches(side));
        one(move || Answer::of(partition.append_raw(&batches)))
    }),
    operation("read", |world, _| {
        let partition = partition(world);
        one(move || world::read(Ok(partition)))
    }),
    operation("follow", follow),
    operation("poll", |world, side| {
        let mut consumer = consumer(world, side);
        one(move || poll(&mut consumer))
    }),
    operation("commit", |world, side| {
        let mut consumer = consumer(world, side);
        while poll(&mut consumer)
            .found
            .is_some_and(|found| !found.is_empty())
        {}
        one(move || Answer::of(consumer.commit()))
    }),
    operation("seek", |world, side| {
        let mut consumer = consumer(world, side);
        let to = Seek::Timestamp(Timestamp::from_millis(1_700_000_000_000));
        one(move || Answer::of(consumer.seek(&partition_0(), to)))
    }),
    operation("flush", |world, _| {
        let log = world.log.clone();
        one(move || Answer::of(log.flush()))
    }),
    Operation {
        compacts: true,
        ..operation("maintain", |world, _| {
            let log = world.log.clone();
            one(move || Answer::of(log.maintain().map(drop)))
        })
    },
    Operation {
        compacts: true,
        ..operation("compact", |world, _| {
            let partition = partition(world);
            one(move || Answer::of(partition.compact().map(drop)))
        })
    },
    operation("keep", |world, _| {
        let log = world.log.clone();
        one(move || Answer::of(log.maintain().map(drop)))
    }),
    operation("truncate", |world, _| {
        let partition = partition(world);
        one(move || Answer::of(partition.truncate_to(7)))
    }),
    operation("restart", |world, _| {
        let partition = partition(world);
        one(move || Answer::of(partition.restart_at(7)))
    }),
    operation("delete records", |world, _| {
        let partition = partition(world);
        one(move || Answer::of(partition.delete_records_before(5)))
    }),
    operation("delete topic", |world, _| {
        let log = world.log.clone();
        one(move || Answer::of(log.delete_topic("t")))
    }),
    operation("create topic", |world, _| {
        let (log, config) = (world.log.clone(), config(world.is_compacted));
        one(move || Answer::of(log.create_topic("t", 1, config).map(drop)))
    }),
    Operation {
        steps_count: 3,
        ..operation("create it again", create_again)
    },
    operation("add partitions", |world, _| {
        let topic = topic(world);
        one(move || Answer::of(topic.increase_partitions_to(2)))
    }),
    operation("reopen", |world, _| {
        let partition = partition(world);
        one(move || Answer::of(partition.reopen().map(drop)))
    }),
    operation("close", |world, _| {
        let log = world.log.clone();
        one(move || Answer::of(log.close()))
    }),
    Operation {
        is_read_only: true,
        ..operation("open read-only", |world, _| {
            let disk = world.reader_disk.clone();
            one(move || {
                let log = Log::builder(DIR)
                    .storage(disk)
                    .clock(ManualClock::at(Timestamp::from_millis(0)))
                    .open_read_only();
                world::read(log.and_then(|log| log.topic("t")?.partition(0)))
            })
        })
    },
    Operation {
        is_read_only: true,
        ..operation("read-only read", |world, _| {
            let clock = ManualClock::at(Timestamp::from_millis(0));
            let log = Log::builder(DIR)
                .storage(world.reader_disk.clone())
                .clock(clock)
                .open_read_only()
                .unwrap();
            one(move || world::read(log.topic("t").and_then(|topic| topic.partition(0))))
        })
    },
];

/// The answer of a follower that waited for more records and was woken.
const WOKEN: &str = "woken";

/// Returns whether an operation with several steps may return `answer` while `other` runs, even if
/// it never does in a sequence.
pub(super) fn may_also_answer(name: &str, other: &str, answer: &Answer) -> bool {
    let deletes = ["delete topic", "create it again"].contains(&other);
    let removes = ["delete records", "truncate", "restart", "keep", "maintain"].contains(&other);
    match (name, &*answer.text) {
        // It had read some of the records.
        ("read" | "follow" | "open read-only" | "read-only read", "OffsetOutOfRange") => removes,
        ("open read-only" | "read-only read", text) if deletes || other == "create topic" => {
            ["UnknownTopic", "UnknownPartition"].contains(&text)
        }
        ("follow", WOKEN) => ["truncate", "restart"].contains(&other),
        // The topic is missing between two of its steps.
        ("create it again", "UnknownTopic") => deletes,
        ("maintain" | "keep" | "compact", "Closed") => other == "close",
        _ => false,
    }
}

fn one(step: impl FnOnce() -> Answer + Send + 'static) -> Steps {
    vec![Box::new(step) as Step]
}

fn topic(world: &World) -> Topic {
    world.log.topic("t").unwrap()
}

fn partition(world: &World) -> Partition {
    topic(world).partition(0).unwrap()
}

fn append(world: &World, side: &'static str, durability: Durability) -> Steps {
    let partition = partition(world).with_durability(durability);
    one(move || {
        Answer::of(
            partition
                .append(Record::new("appended").key(side))
                .map(|written| written.offset),
        )
    })
}

/// Reads up to the end at the time of the call. After a cut, the log may never reach this end: then
/// the follower waits until it is woken.
fn follow(world: &World, _: &'static str) -> Steps {
    let partition = partition(world);
    let reader = partition.follow(..);
    if let Ok(reader) = &reader {
        world.wakers.lock().push(reader.waker());
    }
    one(move || {
        let mut found = Found::new();
        let followed = reader.and_then(|mut reader| {
            let end = partition.high_watermark();
            // After a restart there may be no record to wait for.
            while reader.next_offset().max(partition.log_start_offset()) < end {
                let Some(record) = reader.next_record()? else {
                    return Ok(false);
                };
                found.push((
                    record.offset(),
                    format!(
                        "{}={}",
                        String::from_utf8_lossy(record.key().unwrap_or_default()),
                        record.text()
                    ),
                ));
            }
            Ok(true)
        });
        match followed {
            Ok(false) => Answer {
                text: WOKEN.to_owned(),
                found: Some(found),
            },
            followed => Answer::of_reading(found, followed.map(drop)),
        }
    })
}

fn consumer(world: &World, side: &'static str) -> Consumer {
    world.log.consumer_group(side).unwrap().join("t").unwrap()
}

fn poll(consumer: &mut Consumer) -> Answer {
    let mut found = Found::new();
    let polled = consumer.poll(Duration::ZERO).and_then(|records| {
        for record in &records {
            let record = record?;
            found.push((
                record.offset(),
                format!(
                    "{}={}",
                    String::from_utf8_lossy(record.key().unwrap_or_default()),
                    record.text()
                ),
            ));
        }
        Ok(())
    });
    Answer::of_reading(found, polled)
}

fn create_again(world: &World, side: &'static str) -> Steps {
    let (log, config) = (world.log.clone(), config(world.is_compacted));
    let (other, another) = (log.clone(), log.clone());
    let append = move || -> Result<u64> {
        let partition = another.topic("t")?.partition(0)?;
        Ok(partition
            .append(Record::new("of the new topic").key(side))?
            .offset)
    };
    vec![
        Box::new(move || {
            Answer::of(match log.delete_topic("t") {
                Err(Error::UnknownTopic(_)) => Ok(()),
                deleted => deleted,
            })
        }),
        Box::new(move || Answer::of(other.open_topic("t", 1, config).map(drop))),
        Box::new(move || Answer::of(append())),
    ]
}
