//! A partition on a disk that fails at one call, for every call. The failed operation has no
//! effect, no acknowledged record is lost, and the next opening finds a log without a hole.

mod copying;
mod debugging;
mod following;
mod handles;
mod open;
mod read;
mod read_only;
mod remove;
mod write;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::state::leader_epoch::LeaderEpochs;
use super::state::producers::ProducerStates;
use super::state::waiting::Signal;
use super::*;
use crate::clock::{Deadline, Timestamp};
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::record::Record;
use crate::segment::Segment;
use crate::storage::faulty::{Fault, FaultyDisk};
use crate::storage::{Access, Storage};

pub(super) const DIR: &str = "/data/t-0";
/// The first segment of a log that begins at 0.
const LOG: &str = "/data/t-0/00000000000000000000.log";

pub(super) fn context(disk: &(impl Storage + Clone)) -> Arc<PartitionContext> {
    Arc::new(PartitionContext::for_tests(disk.clone()))
}

pub(super) fn spec(log_start: u64, recovery_point: u64, flush_messages: i64) -> PartitionSpec {
    let settings = TopicSettings {
        segment_bytes: 400,
        index_interval_bytes: 80,
        flush_messages,
        ..TopicSettings::unconfigured()
    };
    PartitionSpec {
        log_start,
        recovery_point,
        ..PartitionSpec::for_tests(0, settings)
    }
}

/// Creates a partition that is flushed only on request.
pub(super) fn created(disk: &(impl Storage + Clone)) -> Arc<PartitionCore> {
    PartitionCore::create(&context(disk), &spec(0, 0, i64::MAX)).unwrap()
}

/// Creates a partition of `count` batches of one record each, all of the same size. The first one
/// has the offset `start`.
pub(super) fn written(
    disk: &(impl Storage + Clone),
    start: u64,
    count: usize,
) -> Arc<PartitionCore> {
    let core = PartitionCore::create(&context(disk), &spec(start, 0, i64::MAX)).unwrap();
    for _ in 0..count {
        write::appending::append(&core, 1).unwrap();
    }
    core
}

/// Sets the content of a file.
pub(super) fn put(disk: &impl Storage, path: impl AsRef<Path>, bytes: &[u8]) {
    let file = disk.open(path.as_ref(), Access::OpenOrCreate).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// The records that the log must hold, and those that it may also hold.
#[derive(Debug, Default)]
struct Expected {
    /// The record of each offset from 0 on.
    values: Vec<String>,
    start: u64,
    recovery_point: u64,
    /// The smallest possible end of the log, which is below the end of `values` after a failed cut.
    least: usize,
    /// The largest possible log start, which is above `start` after a failed deletion.
    latest_start: u64,
}

fn read(core: &Arc<PartitionCore>) -> Result<Vec<(u64, String)>> {
    let mut reader = Reader::new(
        core,
        KeepOpen::nothing(),
        &(..),
        ReadOptions::new().unsynced(true),
    )?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push((record.offset(), record.text().into_owned()));
    }
    Ok(records)
}

impl Expected {
    fn append(
        &mut self,
        core: &PartitionCore,
        durability: Durability,
        count: usize,
        poisoned: bool,
    ) {
        let values: Vec<String> = (0..count)
            .map(|n| format!("value {} {n}", self.values.len()))
            .collect();
        let base = self.values.len() as u64;
        match core.append(
            durability,
            values.iter().map(|value| Record::new(value.as_str())),
        ) {
            Ok(appended) => {
                assert!(!poisoned, "a poisoned partition accepted a write");
                assert_eq!(appended.offsets, base..base + count as u64);
                self.values.extend(values);
                self.least = self.values.len();
            }
            Err(Error::SyncFailed { .. }) => {
                // The record may or may not be in the log.
                self.least = self.values.len();
                self.values.extend(values);
            }
            Err(error) => assert!(
                matches!(
                    error,
                    Error::DiskFull { .. } | Error::Io { .. } | Error::Poisoned { .. }
                ),
                "{error}"
            ),
        }
    }

    fn delete(&mut self, core: &PartitionCore, before: u64) {
        match core.delete_records_before(before) {
            Ok(start) => (self.start, self.latest_start) = (start, start),
            Err(_) => self.latest_start = before,
        }
    }

    fn truncate(&mut self, core: &PartitionCore, end: u64) {
        self.recovery_point = self.recovery_point.min(end);
        let end = usize::try_from(end).unwrap();
        match core.truncation(end as u64).make() {
            Ok(()) => {
                self.values.truncate(end);
                self.least = self.values.len();
            }
            Err(_) => self.least = self.least.min(end),
        }
    }

    fn flush(&mut self, core: &PartitionCore) {
        if core.flush().is_ok() {
            self.recovery_point = core.recovery_point();
        }
    }

    fn check(&self, records: &[(u64, String)], case: &str) {
        let first = records
            .first()
            .map_or(self.latest_start.max(self.start), |(offset, _)| *offset);
        assert!(
            self.start <= first && first <= self.latest_start.max(self.start),
            "{case}: starts at {first}, {self:?}"
        );
        for (expected, (offset, text)) in (first..).zip(records) {
            assert_eq!(*offset, expected, "{case}");
            assert_eq!(
                Some(text),
                self.values.get(usize::try_from(*offset).unwrap()),
                "{case}"
            );
        }
        let end = usize::try_from(first).unwrap() + records.len();
        assert!(
            self.least <= end && end <= self.values.len(),
            "{case}: ends at {end}, {self:?}"
        );
    }
}

fn is_poisoned(core: &PartitionCore) -> bool {
    core.health.check_not_poisoned().is_err()
}

type Step = fn(&mut Expected, &PartitionCore);

/// Runs all steps with call `fails_at` failing. Returns whether that call was reached.
fn run(fault: Fault, fails_at: usize, flush_messages: i64) -> bool {
    let disk = FaultyDisk::failing_at(fails_at);
    let case = format!("{fault:?} at call {fails_at}, flush.messages {flush_messages}");
    let core = PartitionCore::create(&context(&disk), &spec(0, 0, flush_messages)).unwrap();
    disk.set_fault(Some(fault));
    let mut expected = Expected::default();
    let steps: [Step; 14] = [
        |e, core| (0..7).for_each(|_| e.append(core, Durability::Os, 1, is_poisoned(core))),
        |e, core| e.append(core, Durability::Synced, 3, is_poisoned(core)),
        |e, core| e.flush(core),
        |e, core| (0..5).for_each(|_| e.append(core, Durability::Os, 2, is_poisoned(core))),
        |e, core| e.delete(core, 6),
        |e, core| e.truncate(core, e.values.len() as u64 - 1),
        |e, core| (0..4).for_each(|_| e.append(core, Durability::Os, 2, is_poisoned(core))),
        |e, core| e.flush(core),
        |e, core| e.append(core, Durability::Os, 1, is_poisoned(core)),
        // Removes some segments and a part of a batch.
        |e, core| e.truncate(core, e.values.len() as u64 - 8),
        |e, core| e.append(core, Durability::Os, 3, is_poisoned(core)),
        |e, core| e.flush(core),
        |e, core| e.delete(core, e.values.len() as u64 - 1),
        |e, core| e.append(core, Durability::Os, 1, is_poisoned(core)),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        if expected.values.len() < 12 && matches!(number, 4 | 5 | 9 | 12)
            || is_poisoned(&core) && number == 12
        {
            continue;
        }
        step(&mut expected, &core);
        let records = read(&core).unwrap_or_else(|error| panic!("{case}, step {number}: {error}"));
        expected.check(&records, &format!("{case}, step {number}"));
    }
    if !disk.has_failed() {
        return false;
    }
    let was_poisoned = is_poisoned(&core);
    disk.set_fault(None);
    expected.append(&core, Durability::Os, 1, was_poisoned);
    expected.check(&read(&core).unwrap(), &case);
    // Half of the runs close the partition, if that is possible; the others kill the process.
    if fails_at.is_multiple_of(2) && core.close(true).is_ok() {
        assert!(!was_poisoned, "{case}: a poisoned partition is not clean");
        expected.recovery_point = core.recovery_point();
    }
    drop(core);
    let (core, recovery) = PartitionCore::open(
        &context(&disk),
        &spec(expected.start, expected.recovery_point, i64::MAX),
    )
    .unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(
        recovery.damage.is_none(),
        "{case}: {recovery:?}, {expected:?}"
    );
    let records = read(&core).unwrap_or_else(|error| panic!("{case}, after opening: {error}"));
    expected.check(&records, &format!("{case}, after opening"));
    true
}

#[test]
fn failed_call_loses_no_acknowledged_record() {
    for fault in [
        Fault::Full,
        Fault::FullForGood,
        Fault::Any,
        Fault::AnyForGood,
    ] {
        for flush_messages in [i64::MAX, 2] {
            let runs = (0..10_000)
                .take_while(|fails_at| run(fault, *fails_at, flush_messages))
                .count();
            assert!(runs > 20, "{fault:?}: {runs} runs");
        }
    }
}
